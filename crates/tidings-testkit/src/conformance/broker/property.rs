//! The list of properties, by the letters under which the matrix shows them.

use super::ground::Ground;
use super::report::Verdict;
use super::{
    aborting, batch, chaos, classic, closing, deciding, durability, failure, fidelity, flow,
    groups, killed_worker, order, outage, parking, sharing, time, trouble,
};
use std::sync::Arc;
use tidings_core::BoxFuture;

/// Something that every broker must show, or declare why not.
pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Whether it disturbs others, or is disturbed by them.
    pub(super) serial: bool,
    pub(super) check: fn(Arc<Ground>) -> BoxFuture<'static, Verdict>,
}

/// A row of the table: name, claim, check.
macro_rules! property {
    ($name:literal, $title:literal, $check:path) => {
        Property {
            name: $name,
            title: $title,
            serial: false,
            check: |ground| Box::pin($check(ground)),
        }
    };
    ($name:literal, $title:literal, $check:path, serial) => {
        Property {
            name: $name,
            title: $title,
            serial: true,
            check: |ground| Box::pin($check(ground)),
        }
    };
}

pub(super) const PROPERTIES: &[Property] = &[
    property!(
        "A1",
        "what is published arrives once and unchanged",
        classic::arrives
    ),
    property!(
        "A2",
        "competing consumers share the events",
        sharing::competing
    ),
    property!("A3", "places beside each other stay apart", classic::places),
    property!("A4", "what is released comes again", classic::released),
    property!(
        "A5",
        "an event waits for the one before it of its key",
        classic::waits
    ),
    property!(
        "A6",
        "closing in mid-stream loses nothing",
        closing::mid_stream
    ),
    property!(
        "A7",
        "a storm of joining and leaving harms nothing",
        closing::storm,
        serial
    ),
    property!(
        "A8",
        "what is released again and again stays",
        classic::stays
    ),
    property!(
        "A9",
        "handlers of a key begin in order, one at a time",
        order::kept
    ),
    property!(
        "A10",
        "closing a publisher in mid-flight loses nothing acknowledged",
        closing::publisher
    ),
    property!(
        "A11",
        "an event reaches those who want its type",
        classic::routed
    ),
    property!(
        "A12",
        "a handling is told when it is over",
        closing::cancelled
    ),
    property!(
        "A13",
        "what a dropped subscription held goes to another",
        closing::dropped
    ),
    property!(
        "A14",
        "a late group sees what was published before",
        groups::late
    ),
    property!(
        "A15",
        "publishers and consumers outlive a restart of the server",
        chaos::reconnects,
        serial
    ),
    property!("A16", "groups do not touch each other", groups::apart),
    property!(
        "B1",
        "every attribute of an envelope survives",
        fidelity::envelopes
    ),
    property!(
        "B2",
        "attributes of every script, empty, many and large",
        fidelity::attributes
    ),
    property!(
        "B3",
        "payloads up to the limit, and a clear refusal above",
        fidelity::payloads
    ),
    property!(
        "B4",
        "binary and structured CloudEvents are the same event",
        fidelity::modes
    ),
    property!(
        "C1",
        "all lanes work, each key in one at a time",
        order::lanes
    ),
    property!("C2", "a slow key does not delay others", order::slow_key),
    property!(
        "C3",
        "order is kept after failures and retries",
        order::after_failures
    ),
    property!(
        "C4",
        "order is kept while instances come and go",
        sharing::changing
    ),
    property!(
        "D1",
        "what was acknowledged survives kill -9",
        durability::survives,
        serial
    ),
    property!(
        "D3",
        "a consumer killed in mid-handling loses nothing",
        durability::killed_consumer,
        serial
    ),
    property!("D4", "nothing is committed past a hole", durability::hole),
    property!(
        "D5",
        "of what is published together a crash leaves what was acknowledged, and a beginning of each key",
        durability::together,
        serial
    ),
    property!(
        "D6",
        "nothing is confirmed before the server has answered",
        chaos::confirmed,
        serial
    ),
    property!(
        "E1",
        "a worker killed in a handler, before its store knows of a failure or after that loses nothing, order and attempts included",
        killed_worker::at_each_point
    ),
    property!(
        "E2",
        "what is put off comes back ahead of its key, and not early",
        parking::put_off
    ),
    property!(
        "E3",
        "what is given up is a dead letter that holds its key",
        parking::given_up
    ),
    property!(
        "E4",
        "garbage becomes a dead letter with its raw bytes",
        failure::garbage
    ),
    property!(
        "E5",
        "a redriven event goes to its group alone, its key follows in order",
        parking::redriven
    ),
    property!(
        "E6",
        "a redrive that is issued several times takes effect once",
        deciding::redriven_once
    ),
    property!(
        "E7",
        "what dies each time is not redriven for ever",
        deciding::redriven_in_vain
    ),
    property!(
        "E8",
        "a stale acknowledgement is refused and acknowledges nothing",
        failure::stale
    ),
    property!(
        "E9",
        "each event of a batch has an outcome of its own",
        batch::outcomes
    ),
    property!(
        "E10",
        "a discarded event lets its key go on",
        deciding::discarded
    ),
    property!(
        "E11",
        "a connection that is cut while events are parked loses nothing",
        trouble::cut
    ),
    property!(
        "E12",
        "a key that moves to another instance while parked keeps its order",
        trouble::moving
    ),
    property!(
        "E13",
        "an event that ends its process is given up, and costs no other anything",
        aborting::given_up
    ),
    property!("F1", "no more is in flight than allowed", flow::in_flight),
    property!(
        "F2",
        "memory stays bounded while a consumer is slow",
        flow::memory,
        serial
    ),
    property!(
        "F3",
        "a paused consumer handles nothing and loses nothing",
        flow::paused
    ),
    property!(
        "F4",
        "draining ends in time and loses nothing",
        flow::drained
    ),
    property!(
        "G1",
        "a scheduled event is published once, and not early",
        time::scheduled
    ),
    property!(
        "G2",
        "a cancelled event is not published, a moved one when it is due",
        time::cancelled
    ),
    property!(
        "G3",
        "several schedulers publish an event once",
        time::several
    ),
    property!(
        "H1",
        "groups are independent, also when they join later",
        groups::independent
    ),
    property!(
        "H2",
        "a group is moved to the beginning, the end and a time, and to a position where events have one",
        groups::moved
    ),
    property!(
        "H3",
        "overlapping patterns deliver an event once",
        groups::overlapping
    ),
    property!(
        "I1",
        "a bad network loses nothing",
        chaos::bad_network,
        serial
    ),
    property!(
        "I2",
        "three kills of the server under load lose nothing",
        chaos::killed_thrice,
        serial
    ),
    property!(
        "I5",
        "ten thousand events published while the server goes and comes back arrive, each key in order",
        outage::published_through,
        serial
    ),
    property!("J1", "the lag that is told is the truth", groups::lag),
    property!(
        "J3",
        "a broker that is gone is noticed, and that it is back",
        chaos::health,
        serial
    ),
];

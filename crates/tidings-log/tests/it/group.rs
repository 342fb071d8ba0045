//! Two ways in which a group could meet what it must not: the room ahead of the log, and its own effects after a farewell with gaps.

use crate::driver::{block_on, event, events, on_disk, publish, receive};
use std::ops::Range;
use tidings_core::broker::{Broker, SettleAction, StartAt, SubscribeRequest};
use tidings_log::LogBroker;

fn request(start: StartAt) -> SubscribeRequest {
    SubscribeRequest {
        group: "group".parse().unwrap(),
        patterns: vec!["order.*".parse().unwrap()],
        start,
        single_instance: false,
    }
}

/// A follower that began in the middle of the segment being written once read the reserved room ahead of the log, and then took the next event for damage.
#[test]
fn a_group_that_begins_at_the_end_gets_every_event_published_then() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LogBroker::open(on_disk(folder.path())).unwrap();
    for number in 0..200 {
        publish(&broker, &events(number * 10..number * 10 + 10)).unwrap();
    }
    let mut group = block_on(broker.subscribe(&request(StartAt::Latest))).unwrap();

    for number in 2_000..2_050 {
        publish(&broker, &[event(number)]).unwrap();
        let got = receive(&mut group, 10);
        assert_eq!(
            got.iter()
                .map(|delivery| delivery.position.unwrap().0)
                .collect::<Vec<_>>(),
            [number]
        );
    }
}

/// A farewell with gaps once forgot that events behind the gap had been handled, so that their effects were published again.
#[test]
fn a_group_that_leaves_with_gaps_still_knows_what_was_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LogBroker::open(on_disk(folder.path())).unwrap();
    publish(&broker, &events(0..5)).unwrap();
    let come_and_go = |settled: Range<usize>| {
        let mut group = block_on(broker.subscribe(&request(StartAt::Earliest))).unwrap();
        let resumed = group.resumed.unwrap();
        let got = if resumed.from.0 < 5 {
            receive(&mut group, 10)
        } else {
            Vec::new()
        };
        let outcomes: Vec<_> = got[settled]
            .iter()
            .map(|delivery| (delivery.token, SettleAction::Ack))
            .collect();
        block_on(group.settle.settle(&outcomes));
        block_on(group.settle.leave()).unwrap();
        (resumed.from.0, resumed.handed_out_before.0)
    };

    assert_eq!(come_and_go(3..5), (0, 0));
    let (from, handed_out_before) = come_and_go(0..5);
    assert_eq!(from, 0);
    assert!(handed_out_before >= 5, "{handed_out_before}");
    assert_eq!(
        come_and_go(0..0),
        (5, 5),
        "without a gap there are no suspects"
    );
}

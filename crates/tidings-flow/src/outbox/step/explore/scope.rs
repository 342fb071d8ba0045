//! How much may happen in a scope that is explored, and the bounds of its relays: small ones, so that all of them are met.

use super::super::{Backoff, Bounds, KeyPolicy};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const LEASE: Duration = Duration::from_secs(3);

/// How much may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) relays: usize,
    /// The keys of the rows, in the order of their ids.
    pub(super) keys: &'static [&'static str],
    /// Their destinations; none named means one for all.
    pub(super) destinations: &'static [&'static str],
    /// Rows that are read, and sent, at once.
    pub(super) batch_rows: usize,
    /// Batches that may be on their way to one destination.
    pub(super) batches_of_destination: usize,
    /// Rows that become visible later, those of one key in order.
    pub(super) hidden: &'static [usize],
    pub(super) crashes: usize,
    /// Leases that the database ends before their time.
    pub(super) jumps: usize,
    /// Seconds that may pass while calls are on their way.
    pub(super) waits: usize,
    pub(super) drains: usize,
    pub(super) publish_faults: usize,
    pub(super) store_faults: usize,
    /// The database tells which transactions are open: each hidden row is one of them.
    pub(super) horizon: bool,
    /// What becomes of a key of which an event was given up.
    pub(super) policy: KeyPolicy,
    /// Relays end by themselves; such a scope asks none to drain.
    pub(super) until_empty: bool,
    /// Relays that end by themselves and begin anew while nothing asks for it.
    pub(super) restarts: usize,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            relays: 1,
            keys: &[],
            destinations: &[],
            batch_rows: 2,
            batches_of_destination: 2,
            hidden: &[],
            crashes: 0,
            jumps: 0,
            waits: 0,
            drains: 0,
            publish_faults: 0,
            store_faults: 0,
            horizon: false,
            policy: KeyPolicy::Block,
            until_empty: false,
            restarts: 0,
        }
    }
}

impl Scope {
    /// Where a row goes.
    pub(super) fn destination(&self, row: usize) -> &'static str {
        self.destinations.get(row).copied().unwrap_or_default()
    }

    /// Every destination that there is.
    pub(super) fn all_destinations(&self) -> BTreeSet<&'static str> {
        (0..self.keys.len())
            .map(|row| self.destination(row))
            .collect()
    }

    /// What order is kept within.
    pub(super) fn lane(&self, row: usize) -> (&'static str, &'static str) {
        (self.destination(row), self.keys[row])
    }

    pub(super) fn bounds(&self) -> Bounds {
        let backoff = Backoff {
            first: SECOND,
            max: SECOND,
        };
        Bounds {
            time_to_live: LEASE,
            margin: SECOND,
            lease_poll: SECOND,
            poll_busy: SECOND,
            poll_idle: SECOND,
            read_gap: Duration::ZERO,
            sweep_interval: 2 * SECOND,
            floor_interval: Duration::ZERO,
            backoff,
            store_backoff: backoff,
            attempts_max: 2,
            batch_rows: self.batch_rows,
            batch_bytes: 1_000_000,
            batches: 2,
            batches_of_destination: self.batches_of_destination,
            probe_rows: 1,
            settle_rows: 10,
            unfinished_rows: 10,
            failing_rows: 10,
            recent_keys: 0,
            policy: self.policy,
            until_empty: self.until_empty,
        }
    }
}

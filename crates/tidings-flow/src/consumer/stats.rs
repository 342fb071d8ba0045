//! What a consumer has done since it started.

use super::breaker::CircuitStats;
use super::pipeline::Pipeline;
use std::time::Duration;

/// Counters of a consumer since it started, and where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Events handled with success.
    pub handled: u64,
    /// Events whose effect the inbox knew: they were delivered again, and not handled again.
    pub deduplicated: u64,
    /// Attempts that failed and were or will be followed by another.
    pub retried: u64,
    /// Failures after which an event and those behind it of its key were parked until later.
    pub put_off: u64,
    /// Attempts that failed and do not count, because the circuit was open or opened with them.
    pub excused: u64,
    /// Events that became dead letters.
    pub dead_lettered: u64,
    /// Events that its handlers emitted: published, or in the outbox of their transaction.
    pub emitted: u64,
    /// Events that the broker delivered and that no handler wants, that an earlier run had given up, or that a person discarded.
    pub skipped: u64,
    /// Damaged stretches of the log that were skipped.
    pub damaged: u64,
    /// Events received and not settled.
    pub in_flight: usize,
    /// Events that are being handled.
    pub running: usize,
    /// Events parked in the store, as far as this process knows.
    pub parked: u64,
    /// Keys with parked events, and parked events without a key.
    pub parked_keys: usize,
    /// Keys that are held by a dead letter, as far as this process knows.
    pub held_keys: usize,
    /// How long ago the oldest parked event was parked, as far as this process knows; it may count one that has left its key within the last half minute.
    pub oldest_parked: Option<Duration>,
    /// How the circuit stands, unless it is closed.
    pub circuit: Option<CircuitStats>,
    /// How often the circuit has opened.
    pub circuit_openings: u64,
    /// Whether the user has paused it.
    pub paused: bool,
    /// Why a person paused the group in its store.
    pub paused_by: Option<String>,
    /// Why the group waits, while the broker refuses what it has to publish or a database what it has to write.
    pub trouble: Option<String>,
}

impl Pipeline {
    /// What it has done so far, and where it stands.
    pub(super) fn stats(&self) -> ConsumerStats {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        state.parked.set_now(now);
        ConsumerStats {
            in_flight: state.table.held()
                + state.outcomes.len()
                + state.settling
                + state.keep.tokens(),
            running: state.table.running(),
            parked: state.parked.rows(),
            parked_keys: state.parked.len(),
            held_keys: state.parked.held(),
            oldest_parked: state.parked.oldest(),
            circuit: state.circuit.stats(),
            circuit_openings: state.circuit.openings(),
            paused: state.paused_by_user,
            paused_by: state.paused_by.clone(),
            ..state.counts.clone()
        }
    }
}

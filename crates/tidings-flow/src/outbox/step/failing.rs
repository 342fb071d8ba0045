//! What waits for a later attempt: single keys, and whole destinations.

use super::{Effect, publish::Taken};
use super::{Lane, RetryClass, RowId, Step, Told, Verdict};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::store::{Burial, Failure};

/// The first row of a lane, which failed; the lane stands still until its time has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Failing {
    pub(super) lane: Lane,
    pub(super) until: Duration,
    /// Failures in a row, for the wait.
    tries: u32,
    /// Failures that count against the limit.
    attempts: u32,
    /// The destination has accepted other events since: then this one is at fault.
    pub(super) others_accepted: bool,
}

/// A destination that is in trouble itself. It is there only while it is down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Breaker {
    pub(super) open_until: Duration,
    failures: u32,
}

impl Breaker {
    pub(super) fn is_down(&self) -> bool {
        self.failures > 0
    }
}

impl Step {
    /// The destination accepted something: others that fail there are at fault themselves.
    pub(super) fn destination_accepts(
        &mut self,
        destination: &Arc<str>,
        effects: &mut Vec<Effect>,
    ) {
        self.destination_is_up(destination, effects);
        for failing in self.failing.values_mut() {
            failing.others_accepted |= failing.lane.destination == *destination;
        }
    }

    /// The destination spoke of an event: it is in no trouble itself.
    pub(super) fn destination_is_up(&mut self, destination: &Arc<str>, effects: &mut Vec<Effect>) {
        if self.breakers.remove(destination).is_some() {
            effects.push(Effect::Tell(Told::DestinationUp {
                destination: Arc::clone(destination),
            }));
        }
    }

    /// Nothing is published there before a wait is over; no attempt is counted.
    pub(super) fn destination_is_down(
        &mut self,
        now: Duration,
        random: u64,
        destination: &Arc<str>,
        reason: String,
        effects: &mut Vec<Effect>,
    ) {
        let failures = self
            .breakers
            .get(destination)
            .map_or(0, |breaker| breaker.failures)
            .saturating_add(1);
        let delay = self.bounds.backoff.delay(failures, random);
        let breaker = Breaker {
            open_until: now.saturating_add(delay),
            failures,
        };
        self.breakers.insert(Arc::clone(destination), breaker);
        effects.push(Effect::Tell(Told::Retry(RetryClass::Down)));
        effects.push(Effect::Tell(Told::DestinationDown {
            destination: Arc::clone(destination),
            reason,
            delay,
        }));
    }

    /// The first row of a lane in its batch was not accepted.
    pub(super) fn row_failed(
        &mut self,
        now: Duration,
        random: u64,
        row: Taken,
        verdict: Verdict,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.failing.remove(&row.id);
        let blamed = known.as_ref().is_some_and(|known| known.others_accepted);
        let (class, counts, reason) = match verdict {
            Verdict::Accepted | Verdict::NotAttempted => return,
            Verdict::Rejected(reason) => {
                self.give_up(&row, row.attempts.saturating_add(1), reason);
                return;
            }
            Verdict::Failed(reason) => (RetryClass::Event, true, reason),
            Verdict::Unclear(reason) => (RetryClass::Unclear, blamed, reason),
            Verdict::Down(reason) => (RetryClass::Down, false, reason),
        };
        let (tries, attempts) = known.map_or((0, 0), |known| (known.tries, known.attempts));
        let tries = tries.saturating_add(1);
        let attempts = attempts.max(row.attempts).saturating_add(u32::from(counts));
        if counts && attempts >= self.bounds.attempts_max {
            self.give_up(&row, attempts, reason);
            return;
        }
        effects.push(Effect::Tell(Told::Retry(class)));
        if counts {
            let failure = Failure {
                row: row.id,
                attempts,
                reason,
            };
            self.notes.insert(row.id, failure);
        }
        if self.failing.len() >= self.bounds.failing_rows {
            // Those whose time has come are remembered for their count only, which is noted in the database as well.
            self.failing.retain(|_, failing| failing.until > now);
        }
        let failing = Failing {
            lane: row.lane,
            until: now.saturating_add(self.bounds.backoff.delay(tries, random)),
            tries,
            attempts,
            others_accepted: false,
        };
        self.failing.insert(row.id, failing);
    }

    pub(super) fn give_up(&mut self, row: &Taken, attempts: u32, reason: String) {
        self.notes.remove(&row.id);
        self.failing.remove(&row.id);
        self.unclear.remove(&row.id);
        let burial = Burial {
            row: row.id,
            attempts,
            reason,
        };
        self.burials.insert(row.id, (row.lane.clone(), burial));
    }

    /// The next time at which a lane or a destination may be tried again.
    pub(super) fn retry_due(&self, now: Duration) -> Option<Duration> {
        let rows = self.failing.values().map(|failing| failing.until);
        let destinations = self.breakers.values().map(|breaker| breaker.open_until);
        rows.chain(destinations).filter(|until| *until > now).min()
    }

    /// Failed rows that the answer to a read should have shown and did not are gone: sent by another relay, or removed.
    pub(super) fn forget_failing(&mut self, admitted: &[RowId], found: &[super::Row]) {
        for id in admitted {
            if !found.iter().any(|row| row.id == *id) {
                self.failing.remove(id);
            }
        }
    }
}

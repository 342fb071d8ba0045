//! Calls to the store: one of each kind at a time, and a wait after a failure that doubles.

use super::{Effect, Told};
use std::time::Duration;

/// Waits that double from `first` up to `max`, each drawn between nothing and the whole, so that those who failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::outbox) struct Backoff {
    pub(in crate::outbox) first: Duration,
    pub(in crate::outbox) max: Duration,
}

impl Backoff {
    /// The wait after so many failures, from 1; `random` are random bits.
    pub(in crate::outbox) fn delay(self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.max);
        let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
        // The upper half of the product scales the random bits down to 0..nanos.
        let off = (u128::from(nanos) * u128::from(random)) >> 64;
        Duration::from_nanos(nanos - u64::try_from(off).unwrap_or(nanos))
    }
}

/// What a store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum StoreCall {
    Lease,
    Release,
    Read,
    Settle,
    Note,
    Bury,
}

impl StoreCall {
    fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "taking the lease",
            Self::Release => "releasing the lease",
            Self::Read => "reading unsent events",
            Self::Settle => "settling sent events",
            Self::Note => "noting failed attempts",
            Self::Bury => "giving events up",
        }
    }
}

/// One kind of call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Call {
    kind: StoreCall,
    pub(super) busy: bool,
    failures: u32,
    pub(super) not_before: Duration,
}

impl Call {
    fn new(kind: StoreCall, now: Duration) -> Self {
        Self {
            kind,
            busy: false,
            failures: 0,
            not_before: now,
        }
    }

    pub(super) fn may_start(&self, now: Duration) -> bool {
        !self.busy && now >= self.not_before
    }

    /// Takes the answer apart; a failure is told and delays the next call.
    pub(super) fn answered<T>(
        &mut self,
        now: Duration,
        wait: Duration,
        answer: Result<T, String>,
        effects: &mut Vec<Effect>,
    ) -> Option<T> {
        self.busy = false;
        match answer {
            Ok(value) => {
                if self.failures > 0 {
                    effects.push(Effect::Tell(Told::StoreHealed {
                        doing: self.kind.as_str(),
                    }));
                }
                self.failures = 0;
                Some(value)
            }
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                self.not_before = now.saturating_add(wait);
                effects.push(Effect::Tell(Told::StoreFailed {
                    doing: self.kind.as_str(),
                    reason,
                    delay: wait,
                }));
                None
            }
        }
    }

    /// The wait if the call that is on its way fails.
    pub(super) fn wait(&self, backoff: Backoff, random: u64) -> Duration {
        // Not all of a wait is left to chance: a database that is down is not asked without any pause.
        backoff
            .delay(self.failures.saturating_add(1), random)
            .max(backoff.first / 2)
    }
}

/// All kinds of calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Calls {
    pub(super) lease: Call,
    pub(super) release: Call,
    pub(super) read: Call,
    pub(super) settle: Call,
    pub(super) note: Call,
    pub(super) bury: Call,
}

impl Calls {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            lease: Call::new(StoreCall::Lease, now),
            release: Call::new(StoreCall::Release, now),
            read: Call::new(StoreCall::Read, now),
            settle: Call::new(StoreCall::Settle, now),
            note: Call::new(StoreCall::Note, now),
            bury: Call::new(StoreCall::Bury, now),
        }
    }
}

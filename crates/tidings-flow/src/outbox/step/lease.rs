//! The right to relay a shard: taken, kept, counted from when it was asked for, and believed lost before the database gives it to another.

use super::{Done, Effect, Leased, Step, Told};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) epoch: u64,
    /// No publish is started from here on, unless it is renewed.
    pub(super) publish_until: Duration,
}

/// What is known of the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub(super) held: Option<Held>,
    /// When to ask next.
    pub(super) ask_at: Duration,
    /// Of the request that is on its way: until when publishes may start if it is granted, and when to ask again.
    pub(super) asked: (Duration, Duration),
    /// The owner told last, so that a wait is told once.
    pub(super) other: Option<String>,
}

impl Lease {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            held: None,
            ask_at: now,
            asked: (now, now),
            other: None,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn epoch(&self) -> Option<u64> {
        self.held.as_ref().map(|held| held.epoch)
    }

    pub(super) fn publish_until(&self) -> Option<Duration> {
        self.held.as_ref().map(|held| held.publish_until)
    }

    /// Whether a publish may be started.
    pub(super) fn allows(&self, now: Duration) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| now < held.publish_until)
    }
}

impl Step {
    /// While draining the lease is kept as long as something is on its way, so that nobody publishes the same.
    pub(super) fn wants_lease(&self) -> bool {
        !self.draining || (self.lease.is_held() && !self.batches.is_empty())
    }

    pub(super) fn plan_lease(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if now < self.lease.ask_at || !self.calls.lease.may_start(now) || !self.wants_lease() {
            return;
        }
        let bounds = &self.bounds;
        // The time to live counts from before the request was sent: the database counts from later, so it ends later there.
        let until = now + bounds.time_to_live.saturating_sub(bounds.margin);
        self.lease.asked = (until, now + bounds.time_to_live / 3);
        self.calls.lease.busy = true;
        effects.push(Effect::Lease);
    }

    pub(super) fn leased(
        &mut self,
        now: Duration,
        random: u64,
        answer: Done<Leased>,
        effects: &mut Vec<Effect>,
    ) {
        let wait = self.calls.lease.wait(self.bounds.store_backoff, random);
        let Some(answer) = self.calls.lease.answered(now, wait, answer, effects) else {
            return;
        };
        match answer {
            Leased::Held { epoch } => {
                let (publish_until, ask_at) = self.lease.asked;
                self.lease.ask_at = ask_at;
                if now >= publish_until {
                    // The answer came too late to be believed.
                    self.lose_lease(now, effects);
                    self.lease.ask_at = now;
                    return;
                }
                let before = self.lease.epoch();
                if before.is_some_and(|before| before != epoch) {
                    self.lose_lease(now, effects);
                }
                if self.lease.epoch().is_none() {
                    self.lease.other = None;
                    self.read_at = now;
                    self.idle_reads = 0;
                    effects.push(Effect::Tell(Told::Acquired { epoch }));
                }
                self.lease.held = Some(Held {
                    epoch,
                    publish_until,
                });
            }
            Leased::Other { owner, expires_in } => {
                self.lose_lease(now, effects);
                let poll = self.bounds.lease_poll;
                self.lease.ask_at = now + expires_in.clamp(poll / 16, poll);
                if self.lease.other.as_ref() != Some(&owner) {
                    self.lease.other = Some(owner.clone());
                    effects.push(Effect::Tell(Told::HeldByOther { owner }));
                }
            }
        }
    }

    pub(super) fn notice_lost_lease(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.lease.is_held() && !self.lease.allows(now) {
            self.lose_lease(now, effects);
        }
    }

    /// What was learned as the owner is forgotten: another may have changed it. What is on its way is waited for, and what was accepted is settled.
    fn lose_lease(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.lease.held.take().is_none() {
            return;
        }
        effects.push(Effect::Tell(Told::LeaseLost));
        self.floor = super::Floor::new(now);
        self.failing.clear();
        self.unclear.clear();
        self.notes.clear();
        self.burials.clear();
        self.recent = super::read::Recent::default();
        if let Some(reading) = &mut self.reading {
            reading.stale = true;
        }
    }

    pub(super) fn may_release(&self) -> bool {
        self.draining
            && self.batches.is_empty()
            && self.acked.is_empty()
            && self.settling.is_empty()
            && self.notes.is_empty()
            && self.noting.is_empty()
            && self.burials.is_empty()
            && self.burying.is_empty()
            && !self.calls.lease.busy
            && !self.calls.read.busy
    }

    pub(super) fn plan_end(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if !self.may_release() || self.calls.release.busy {
            return;
        }
        if self.lease.is_held() {
            if self.calls.release.may_start(now) {
                self.calls.release.busy = true;
                effects.push(Effect::Release);
            }
        } else {
            self.ended = true;
            effects.push(Effect::End);
        }
    }

    pub(super) fn released(
        &mut self,
        now: Duration,
        random: u64,
        answer: Done<()>,
        effects: &mut Vec<Effect>,
    ) {
        let wait = self.calls.release.wait(self.bounds.store_backoff, random);
        let answered = self.calls.release.answered(now, wait, answer, effects);
        if answered.is_some() {
            self.lease.held = None;
        }
    }
}

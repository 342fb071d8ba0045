//! Deliveries with which an earlier run may have died: each attempt at one is noted before it is risked, so that an event that ends the process is counted, and ends in the dead letters.
//!
//! After an unclean stop everything that was in flight is suspected. What is suspected for the first time is risked together; if the process dies again, these are the ones that were noted,
//! and they are risked one at a time. So one restart finds the few among the many, and those that follow find the one. Rows of the store are settled with the broker, which tells nothing of
//! them: an attempt at one is always noted before.

use super::handling::Handling;
use super::keeping::{NO_HANDLER, Then};
use super::lane::Running;
use super::pipeline::{Completion, Pipeline, Work};
use super::policy::{Decision, Trial};
use super::work::{slot_for, unreadable};
use futures_util::future::Either;
use std::time::Duration;
use tidings_core::DedupeKey;
use tidings_core::extract::{Emit, HandlerError, HandlerErrorKind};
use tidings_core::limits::{CRASHES_LATER_MAX, CRASHES_MAX};
use tidings_core::store::{DeathCause, FailureChange};
use tokio::sync::oneshot;

impl Pipeline {
    /// Whether an attempt at a delivery is to be noted before it is risked.
    pub(super) fn is_risky(&self, running: &Running<Work>) -> bool {
        (running.item.suspect || running.item.kept.is_some()) && self.failures.is_some()
    }

    /// Takes a suspected delivery to where it goes on.
    pub(super) async fn handle_suspect(&self, mut running: Running<Work>) -> Completion {
        if self.may_be_elsewhere(&running.item) {
            return self.leave_row(&running);
        }
        if running.item.kept.as_ref().is_some_and(|kept| kept.unwanted) {
            return self.bury_unwanted(running);
        }
        let noted = running.attempt.saturating_sub(1);
        let died = deaths_of(&running.item, noted);
        if died > 0 && self.is_worn_out(&running.item, noted, died) {
            running.attempt = noted;
            let failure = HandlerError::transient_message(format!(
                "the process ended during attempt {noted}, and what became of it is unknown"
            ));
            let now = self.clock.now();
            running.item.history.note(noted, now, failure.chain());
            let random = self.chance.next_u64();
            let trial = trial_of(&running.item, noted);
            return match self
                .policies
                .otherwise
                .decide(trial, HandlerErrorKind::Transient, random)
            {
                Decision::Later(delay) => self.put_off(running, &failure, delay),
                _ => self.bury(running, &failure, DeathCause::Crash),
            };
        }
        // Held until the outcome is known.
        let _turn = if died > 0 {
            Either::Left(self.suspects.write().await)
        } else {
            Either::Right(self.suspects.read().await)
        };
        self.note_risk(&running).await;
        if self.may_be_elsewhere(&running.item) {
            // The store took so long that somebody else may be at it by now.
            return self.leave_row(&running);
        }
        let began = match self.observer {
            Some(_) => self.clock.elapsed(),
            None => Duration::ZERO,
        };
        let delivery = self.handlers.get(running.item.handler);
        let mut handling = Handling {
            emit: Emit::default(),
            work: delivery
                .map(|handler| slot_for(handler.delivery()))
                .unwrap_or_default(),
            began,
            running,
        };
        let result = match unreadable(&handling.running) {
            None => self.run_alone(&mut handling).await,
            Some(error) => Err(error),
        };
        self.conclude(handling, result).await
    }

    /// Gives a row up that no handler wants, without an attempt: nothing handled it, so that persons must find it among the dead letters.
    fn bury_unwanted(&self, mut running: Running<Work>) -> Completion {
        running.attempt = running.attempt.saturating_sub(1);
        running.item.handler = NO_HANDLER;
        let event_type = running.item.envelope.event_type();
        let reason = format!("no handler of the group wants {event_type}");
        let failure = HandlerError::permanent_message(reason);
        self.bury(running, &failure, DeathCause::Unwanted)
    }

    /// Whether another instance may have taken a row over: the lease under which it was fetched is over.
    fn may_be_elsewhere(&self, work: &Work) -> bool {
        let is_shared = self.failures.as_ref().is_some_and(|it| it.is_shared());
        let Some(kept) = work.kept.as_ref().filter(|_| is_shared) else {
            return false;
        };
        let now = self.clock.elapsed();
        let state = self.lock();
        let lead = state.lead.as_ref();
        lead.is_none_or(|lead| lead.until <= now || lead.epoch != kept.row.lead)
    }

    /// Leaves a row and what was fetched behind it to whoever picks up what is due by now.
    fn leave_row(&self, running: &Running<Work>) -> Completion {
        let mut state = self.lock();
        if let Some(kept) = &running.item.kept {
            state.parked.drop_fetched(kept.lane);
        }
        let behind = state
            .table
            .take_behind(running.lane, |work| work.kept.is_some());
        drop(behind);
        state.table.finished(running.lane);
        self.wake_after(state);
        Completion::Elsewhere
    }

    /// Whether a delivery with which the process died has no attempt in place left.
    fn is_worn_out(&self, work: &Work, noted: u32, died: u32) -> bool {
        let was_put_off = work.kept.as_ref().is_some_and(|kept| kept.rounds > 0);
        if was_put_off {
            died >= CRASHES_LATER_MAX
        } else {
            noted >= self.config.attempts.max(CRASHES_MAX)
        }
    }

    /// Returns once the attempt that follows is noted.
    async fn note_risk(&self, running: &Running<Work>) {
        let attempts = running.attempt;
        let change = match &running.item.kept {
            Some(kept) => FailureChange::Postpone {
                row: kept.row,
                attempts,
                rounds: kept.rounds,
                history: running.item.history.attempts().to_vec(),
                due_in: Duration::ZERO,
            },
            None => FailureChange::Attempted {
                event: DedupeKey::of(&running.item.envelope),
                attempts,
            },
        };
        let (sender, told) = oneshot::channel();
        {
            let mut state = self.lock();
            state.keep.push(change, Then::Tell(sender));
            self.wake_after(state);
        }
        // The keeper lives as long as anything is handled; without it the attempt would be lost with the process, too.
        let _told = told.await;
    }
}

/// With how many of the attempts that were noted the process may have died. Of a row of the store the failures are known, of another delivery their number alone.
fn deaths_of(work: &Work, noted: u32) -> u32 {
    match &work.kept {
        Some(_) => {
            let attempts = work.history.attempts();
            let failed = attempts.last().map_or(0, |last| last.attempt);
            noted.saturating_sub(failed)
        }
        None => noted,
    }
}

/// The trial of a delivery that has no attempt in place left.
fn trial_of(work: &Work, noted: u32) -> Trial {
    Trial {
        attempt: noted.max(u32::MAX / 2),
        rounds: work.kept.as_ref().map_or(0, |kept| kept.rounds),
        age: Duration::ZERO,
    }
}

//! The way of a failure past the circuit breaker, and what follows when the circuit opens, tries and closes.
//!
//! A failure that opens the circuit, and any that ends while it is open, is no attempt: the event goes back to the head of its lane as it was. So do the attempts that were counted just before, of
//! events that still wait in memory: they failed for the same reason, and a group that is started again and again meanwhile must not use up its attempts.

use super::breaker::{Failed, Judgement, OnOpen};
use super::keeping::Then;
use super::lane::{Forgiven, LaneKey, Running};
use super::observer::Notice;
use super::pipeline::{Completion, Exchange, Pipeline, State, Work};
use super::policy::Policy;
use std::time::Duration;
use tidings_core::extract::{HandlerError, HandlerErrorKind};
use tidings_core::limits::RETRY_AFTER_MAX;
use tidings_core::store::FailureChange;
use tidings_core::{DedupeKey, codes};

impl Pipeline {
    /// Lets the circuit breaker judge a failure: an event whose attempt does not count is put back where it was.
    pub(super) fn judge(
        &self,
        running: Running<Work>,
        failure: &HandlerError,
        policy: &Policy,
    ) -> Result<Running<Work>, Completion> {
        let is_its_own =
            running.item.problem.is_some() || failure.kind() == HandlerErrorKind::Permanent;
        if is_its_own || (policy.permanent && !policy.pause_group) {
            return Ok(running);
        }
        let reason = failure.chain().join(": ");
        let asked = match failure.kind() {
            HandlerErrorKind::RetryAfter(delay) => Some(delay.min(RETRY_AFTER_MAX)),
            _ => None,
        };
        let now = self.clock.elapsed();
        let mut state = self.lock();
        let judgement = state.circuit.failed(Failed {
            lane: running.lane,
            reason: &reason,
            pauses_group: policy.pause_group,
            asked,
            now,
            at: self.clock.now(),
            random: self.chance.next_u64(),
        });
        match judgement {
            Judgement::Counts => return Ok(running),
            Judgement::Opens { again, .. } => {
                if !again {
                    self.forgive_all(&mut state);
                }
                if state.circuit.on_open() == OnOpen::Stop {
                    state.halt();
                }
                state.stopping |= state.draining;
                let paused = state.is_paused();
                state.table.set_paused(paused);
            }
            Judgement::Excused => {}
        }
        state.counts.excused += 1;
        let until = now.saturating_add(asked.unwrap_or_default());
        self.put_back(&mut state, running, until);
        self.wake_after(state);
        self.timer.notify_one();
        if let Judgement::Opens { probe_in, again } = judgement {
            self.tell_opened(&reason, probe_in, again);
        }
        Err(Completion::Elsewhere)
    }

    fn tell_opened(&self, reason: &str, probe_in: Duration, again: bool) {
        let (stops, draining) = {
            let state = self.lock();
            (state.circuit.on_open() == OnOpen::Stop, state.draining)
        };
        self.progress
            .send_modify(|progress| progress.circuit_open = true);
        self.notice(Notice::CircuitOpened {
            reason,
            probe_in: (!stops).then_some(probe_in),
            again,
        });
        if stops {
            let reason = format!(
                "nearly everything that it handled last failed, and it is to stop then; its events wait for its next start; the last failure: {reason}"
            );
            self.stop(&reason, codes::CIRCUIT_OPEN);
        }
        if draining {
            self.wake_workers();
        }
        self.parker.notify_one();
    }

    /// An event whose attempt does not count goes back to the head of its lane.
    fn put_back(&self, state: &mut State, mut running: Running<Work>, until: Duration) {
        let noted = running.attempt.saturating_sub(1);
        let excused = state.circuit.forgiven(running.lane);
        let failures = noted.saturating_sub(excused);
        let is_told = self.failures.is_some() && (self.is_risky(&running) || failures < noted);
        let lane = running.lane;
        running.attempt = failures;
        running.item.history.forget_after(failures);
        if is_told {
            let changes = unattempted(&running.item, failures);
            state.table.wait(running, until, false);
            state.tell_all(changes, Then::Noted { lane, failures });
        } else {
            state.table.wait(running, until, true);
        }
    }

    /// Takes the attempts back that were counted just before the circuit opened.
    fn forgive_all(&self, state: &mut State) {
        for (lane, counted) in state.circuit.to_forgive() {
            // Who runs is put back when it ends, if it fails.
            let Some(forgiven) = state.table.forgive(lane, counted) else {
                continue;
            };
            let Forgiven {
                item,
                failures,
                noting,
            } = forgiven;
            item.history.forget_after(failures);
            let changes = self
                .failures
                .as_ref()
                .map_or_else(Vec::new, |_| unattempted(item, failures));
            let then = match noting {
                true => Then::Noted { lane, failures },
                false => Then::Nothing,
            };
            state.circuit.forgiven(lane);
            state.counts.excused += u64::from(counted);
            state.tell_all(changes, then);
        }
    }

    /// An event of a lane was handled. Nothing is asked of the clock unless something failed before.
    pub(super) fn succeeds(&self, state: &mut State, lane: LaneKey) -> Option<Duration> {
        if state.circuit.is_untroubled() {
            return None;
        }
        state.close_circuit(lane, self.clock.elapsed())
    }

    /// Starts the one event that is tried while the circuit is half open.
    pub(super) fn start_probe(&self, state: &mut State, exchange: &mut Exchange) {
        if let Some(ration) = &mut state.ration
            && ration.allows(self.clock.elapsed()) == 0
        {
            state.table.set_rationed(true);
            self.timer.notify_one();
            return;
        }
        let circuit = &state.circuit;
        let rather_not = |lane| circuit.is_failing(lane);
        let Some(lane) = state.table.start_one(rather_not, &mut exchange.calls) else {
            return;
        };
        if let Some(ration) = &mut state.ration {
            ration.used(1);
        }
        state.circuit.probe(lane);
        let paused = state.is_paused();
        state.table.set_paused(paused);
    }

    /// Lets the circuit be half open once its time has come.
    pub(super) fn advance_circuit(&self, state: &mut State, now: Duration) {
        if !state.circuit.advance_to(now) {
            return;
        }
        let paused = state.is_paused();
        state.table.set_paused(paused);
        // What is parked may be all that there is to try.
        self.parker.notify_one();
    }

    /// Tells that the circuit has closed, and lets what waited go on.
    pub(super) fn tell_closed(&self, open_for: Duration) {
        self.progress
            .send_modify(|progress| progress.circuit_open = false);
        self.notice(Notice::CircuitClosed { open_for });
        self.parker.notify_one();
    }

    /// Nobody works for the group any more, so that nobody waits for its circuit.
    pub(super) async fn forget_circuit(&self) {
        let is_closed = self.lock().circuit.is_closed();
        if let Some(store) = self.failures.as_ref().filter(|_| !is_closed)
            && let Err(error) = store.tell_circuit(self.group.as_str(), None).await
        {
            // The next start tells it again.
            tracing::debug!(%error, "how the circuit stands could not be told");
        }
    }
}

impl State {
    /// Whether nothing may start.
    pub(super) fn is_paused(&self) -> bool {
        self.paused_by_user
            || self.paused_by.is_some()
            || self.troubles > 0
            || self.halted
            || self.stopping
            || self.circuit.holds()
    }

    /// An event of a lane was handled: how long the circuit was open, if that closes it.
    pub(super) fn close_circuit(&mut self, lane: LaneKey, now: Duration) -> Option<Duration> {
        let open_for = self.circuit.succeeded(lane, now)?;
        let paused = self.is_paused();
        self.table.set_paused(paused);
        Some(open_for)
    }

    /// Lets another event be tried if the one that was tried has ended and said nothing.
    pub(super) fn look_after_probe(&mut self) {
        if let Some(lane) = self.circuit.probing()
            && !self.table.is_running(lane)
        {
            self.circuit.probe_told_nothing();
            let paused = self.is_paused();
            self.table.set_paused(paused);
        }
    }

    /// Tells the store changes of which the last one has a consequence.
    fn tell_all(&mut self, mut changes: Vec<FailureChange>, then: Then) {
        let Some(last) = changes.pop() else {
            return;
        };
        for change in changes {
            self.keep.push(change, Then::Nothing);
        }
        self.keep.push(last, then);
    }
}

/// What the store is told of an event of which fewer attempts count than it knows.
fn unattempted(work: &Work, failures: u32) -> Vec<FailureChange> {
    if let Some(kept) = &work.kept {
        return vec![FailureChange::Postpone {
            row: kept.row,
            attempts: failures,
            rounds: kept.rounds,
            history: work.history.attempts().to_vec(),
            due_in: Duration::ZERO,
        }];
    }
    let event = DedupeKey::of(&work.envelope);
    // A store keeps the larger number, unless it has forgotten the event before.
    let mut changes = vec![FailureChange::Succeeded { event }];
    if failures > 0 {
        changes.push(FailureChange::Attempted {
            event,
            attempts: failures,
        });
    }
    changes
}

//! The way of a failure: another attempt in place, a parked lane, or a dead letter; and the way of a success that a store is to know of.
//!
//! With a store nothing here waits for it: what is to be told is put into the queue of the keeper, under the lock under which the lanes change, and what follows from it happens once it
//! is durable.

use super::keeping::{Burial, Buried, Change, GIVEN_UP, Keeping, Kept, PutOff, Then, parked_of};
use super::lane::{LaneKey, Running};
use super::observer::Notice;
use super::pipeline::{Arrival, Completion, Pipeline, Trouble, Work};
use super::policy::{Decision, OnFailure, Trial};
use super::routes::Route;
use crate::dead_letter;
use std::time::Duration;
use tidings_core::broker::SettleAction;
use tidings_core::extract::HandlerError;
use tidings_core::limits::PAUSE_RETRY_INTERVAL;
use tidings_core::store::{self, DeathCause, FailureChange, LaneId};
use tidings_core::{DedupeKey, Envelope, codes};

impl Pipeline {
    /// Takes a failed handling to where it goes on.
    pub(super) async fn failed(
        &self,
        running: Running<Work>,
        failure: &HandlerError,
    ) -> Completion {
        let policy = self.policies.of(failure);
        let mut running = match self.judge(running, failure, policy) {
            Ok(running) => running,
            Err(put_back) => return put_back,
        };
        let now = self.clock.now();
        let history = &mut running.item.history;
        history.note(running.attempt, now, failure.chain());
        let first = history.attempts().first().map_or(now, |first| first.at);
        let age = now.as_micros().saturating_sub(first.as_micros());
        let trial = Trial {
            attempt: running.attempt,
            rounds: running.item.kept.as_ref().map_or(0, |kept| kept.rounds),
            age: Duration::from_micros(u64::try_from(age).unwrap_or(0)),
        };
        let random = self.chance.next_u64();
        match policy.decide(trial, failure.kind(), random) {
            Decision::InPlace(delay) => self.try_in_place(running, failure, delay),
            Decision::Later(delay) if self.failures.is_some() => {
                self.put_off(running, failure, delay)
            }
            // Without a store no group has a schedule.
            Decision::Later(_) => self.give_up(running, failure, DeathCause::Attempts).await,
            Decision::Dead(cause) => self.give_up(running, failure, cause).await,
        }
    }

    fn try_in_place(
        &self,
        running: Running<Work>,
        failure: &HandlerError,
        delay: Duration,
    ) -> Completion {
        let attempt = running.attempt;
        let lane = running.lane;
        let handler = self.handler_name(running.item.handler);
        let envelope = running.item.envelope.clone();
        let change = self.failures.as_ref().map(|_| match &running.item.kept {
            Some(kept) => FailureChange::Postpone {
                row: kept.row,
                attempts: attempt,
                rounds: kept.rounds,
                history: running.item.history.attempts().to_vec(),
                due_in: delay,
            },
            None => FailureChange::Attempted {
                event: DedupeKey::of(&envelope),
                attempts: attempt,
            },
        });
        let mut state = self.lock();
        state.circuit.counted(lane);
        let until = self.clock.elapsed().saturating_add(delay);
        state.table.wait(running, until, change.is_none());
        state.counts.retried += 1;
        if let Some(change) = change {
            let failures = attempt;
            state.keep.push(change, Then::Noted { lane, failures });
        }
        self.wake_after(state);
        self.timer.notify_one();
        self.notice(Notice::RetryScheduled {
            envelope: &envelope,
            handler,
            attempt,
            reason: reason_of(failure),
            delay,
        });
        Completion::Elsewhere
    }

    /// Parks the lane of a failed delivery: it comes first, and everything behind it follows.
    pub(super) fn put_off(
        &self,
        running: Running<Work>,
        failure: &HandlerError,
        delay: Duration,
    ) -> Completion {
        let Running {
            lane: key,
            attempt,
            item: mut work,
            ..
        } = running;
        let head = work.envelope.clone();
        let told = PutOff {
            envelope: head.clone(),
            handler: work.handler,
            attempt,
            reason: reason_of(failure).to_owned(),
            delay,
        };
        let lane = lane_of(&work);
        let mut state = self.lock();
        state.circuit.left(key);
        match work.kept.take() {
            Some(kept) => {
                let change = FailureChange::Postpone {
                    row: kept.row,
                    attempts: attempt,
                    rounds: kept.rounds.saturating_add(1),
                    history: work.history.into(),
                    due_in: delay,
                };
                state.parked.put_back(lane);
                let put_off = Some(told);
                let left = false;
                state.keep.push(
                    change,
                    Then::Changed {
                        lane,
                        left,
                        put_off,
                    },
                );
            }
            None => {
                let origin = work.origin();
                let mut delivery = parked_of(work, lane, attempt);
                delivery.rounds = 1;
                state.parked.drop_fetched(lane);
                state.parked.park(lane, 1);
                state.keep.push(
                    FailureChange::Park {
                        deliveries: vec![delivery],
                        due_in: Some(delay),
                    },
                    Then::Parked {
                        lane,
                        deliveries: vec![origin],
                        put_off: Some(told),
                    },
                );
            }
        }
        state.park_rest(key, lane, &head);
        state.table.finished(key);
        state.waits_for_time = true;
        self.check_caps(&mut state, lane);
        self.wake_after(state);
        Completion::Elsewhere
    }

    async fn give_up(
        &self,
        running: Running<Work>,
        failure: &HandlerError,
        cause: DeathCause,
    ) -> Completion {
        if self.failures.is_some() {
            return self.bury(running, failure, cause);
        }
        self.lock().circuit.left(running.lane);
        let fact = self.record_dead_letter(&running, failure).await;
        self.notice(Notice::DeadLettered {
            envelope: &running.item.envelope,
            handler: self.handler_name(running.item.handler),
            attempts: running.attempt,
            reason: reason_of(failure),
            fact: &fact,
            holds: false,
        });
        Completion::DeadLettered {
            lane: running.lane,
            token: running.item.token,
        }
    }

    /// Hands a death to the keeper. A lane that it holds is parked; else it goes on once the dead letter is recorded.
    pub(super) fn bury(
        &self,
        running: Running<Work>,
        failure: &HandlerError,
        cause: DeathCause,
    ) -> Completion {
        let Running {
            lane: key,
            attempt,
            item: work,
            ..
        } = running;
        let head = work.envelope.clone();
        let lane = lane_of(&work);
        let holds = self.on_failure == OnFailure::Hold && head.key().is_some();
        let cause = match work.problem {
            Some(_) => DeathCause::Unreadable,
            None => cause,
        };
        let is_row = work.kept.is_some();
        let handler = work.handler;
        let buried = buried_of(&work, key, holds);
        let burial = Burial {
            delivery: parked_of(work, lane, attempt),
            handler,
            reasons: dead_letter::cut_chain(failure.chain()),
            cause,
            holds,
        };
        let mut state = self.lock();
        state.circuit.left(key);
        state.keep.push_keeping(Keeping {
            change: Change::Bury(Box::new(burial)),
            then: Then::Buried(buried),
        });
        match (is_row, holds) {
            (true, true) => state.parked.put_back(lane),
            (true, false) => state.row_leaves(lane, &head, self.clock.elapsed()),
            (false, true) => {
                state.parked.drop_fetched(lane);
                state.parked.park(lane, 1);
            }
            (false, false) => {
                // Delivered again after the end of this process, it is not handled again.
                let event = DedupeKey::of(&head);
                state.keep.give_up(event, self.clock.elapsed());
            }
        }
        if holds {
            state.park_rest(key, lane, &head);
        }
        if is_row || holds {
            state.table.finished(key);
            self.check_caps(&mut state, lane);
        }
        self.wake_after(state);
        Completion::Elsewhere
    }

    /// Whether a store is to know what became of a delivery.
    pub(super) fn is_noted(&self, running: &Running<Work>) -> bool {
        self.failures.is_some()
            && (running.attempt > 1 || running.item.suspect || running.item.kept.is_some())
    }

    /// Takes note of a success that the store is to know of; the lane goes on at once.
    pub(super) fn handled_with_note(&self, running: Running<Work>, emitted: u64) -> Completion {
        self.succeeded(running, true, |counts| {
            counts.handled += 1;
            counts.emitted += emitted;
        })
    }

    /// Takes note that a delivery was handled before.
    pub(super) fn deduplicated_with_note(&self, running: Running<Work>) -> Completion {
        self.succeeded(running, false, |counts| counts.deduplicated += 1)
    }

    fn succeeded(
        &self,
        running: Running<Work>,
        is_new: bool,
        count: impl FnOnce(&mut super::stats::ConsumerStats),
    ) -> Completion {
        let work = running.item;
        let mut state = self.lock();
        count(&mut state.counts);
        let closed = match is_new {
            true => self.succeeds(&mut state, running.lane),
            false => None,
        };
        match work.kept {
            Some(kept) => state.finish_row(&kept, &work.envelope, self.clock.elapsed()),
            None => {
                let event = DedupeKey::of(&work.envelope);
                let change = FailureChange::Succeeded { event };
                state.keep.push(change, Then::Ack(work.token));
            }
        }
        state.table.finished(running.lane);
        self.wake_after(state);
        if let Some(open_for) = closed {
            self.tell_closed(open_for);
        }
        Completion::Elsewhere
    }

    /// Parks an arrival behind its lane if that is parked, or leaves it to the broker where too much is parked already; else hands it on.
    pub(super) fn park_arrival(
        &self,
        state: &mut super::pipeline::State,
        work: Work,
        (key, lane): (LaneKey, Option<LaneId>),
        failures: u32,
    ) -> Option<Work> {
        let lane = lane.unwrap_or_else(|| LaneId::of(&work.envelope));
        if state.parked.has(lane) && self.check_caps(state, lane) {
            // An earlier run went beyond it already.
            state.release_one(&work);
            return None;
        }
        let work = state.park_behind(work, (key, lane), failures);
        if work.is_none() {
            self.check_caps(state, lane);
        }
        work
    }

    /// Stops the group if too much is parked: loudly, and nothing is lost. Whether it does.
    pub(super) fn check_caps(&self, state: &mut super::pipeline::State, lane: LaneId) -> bool {
        let rows = state.parked.rows();
        let of_key = state.parked.rows_of(lane);
        let reason = if rows > self.config.parked_max {
            format!(
                "{rows} of its events are parked, more than the {} that may be; see: tidings dlq, tidings retry ls; then raise parked_max (--parked-max) or bring its handlers to work again",
                self.config.parked_max
            )
        } else if of_key > self.config.parked_of_key_max {
            format!(
                "{of_key} events of one key are parked, more than the {} that may be; see: tidings dlq, tidings retry ls; then raise parked_of_key_max (--parked-of-key-max) or decide about its dead letter",
                self.config.parked_of_key_max
            )
        } else {
            return false;
        };
        state.halt();
        self.stop(&reason, codes::PARKED_FULL);
        true
    }

    /// Publishes the dead letter; it does not return before the broker has it.
    async fn record_dead_letter(
        &self,
        running: &Running<Work>,
        failure: &HandlerError,
    ) -> Envelope {
        let work = &running.item;
        let death = dead_letter::Death {
            envelope: &work.envelope,
            position: work.position,
            group: self.group.as_str(),
            handler: self.handler_name(work.handler),
            reasons: failure.chain(),
            attempts: running.attempt,
            history: work.history.attempts(),
            number: 0,
        };
        let whole = death.fact(self.clock.now());
        let Err(error) = self.record(work, &whole).await else {
            return whole;
        };
        // The broker has no room for the whole envelope: its position must do.
        let thin = death.thin_fact(self.clock.now());
        if self.record(work, &thin).await.is_ok() {
            return thin;
        }
        let _paused = Trouble::begin(self, &error.to_string());
        loop {
            self.clock.sleep(PAUSE_RETRY_INTERVAL).await;
            if self.record(work, &thin).await.is_ok() {
                return thin;
            }
        }
    }

    async fn record(
        &self,
        work: &Work,
        fact: &Envelope,
    ) -> Result<(), tidings_core::broker::PublishError> {
        let known = self.known.get();
        if work.suspect && known.is_some_and(|known| known.has(fact)) {
            return Ok(());
        }
        self.publish_until_accepted(work.position, std::slice::from_ref(fact))
            .await
    }
}

impl super::pipeline::State {
    /// A row in the lane table is done with: the store is told.
    pub(super) fn finish_row(&mut self, kept: &Kept, envelope: &Envelope, now: Duration) {
        let lane = kept.lane;
        self.keep.push(
            FailureChange::Finish { row: kept.row },
            Then::Changed {
                lane,
                left: true,
                put_off: None,
            },
        );
        self.row_leaves(lane, envelope, now);
    }

    /// Nothing more is fetched or started.
    pub(super) fn halt(&mut self) {
        self.halted = true;
        self.table.set_paused(true);
    }

    /// A delivery as persons and earlier runs left it, with how often it failed before; nothing if it is settled without being handled. Where an edited copy stands for the event, and maybe another one for
    /// that, the last of them is handled by whoever wants it; what was noted is noted of the copy.
    pub(super) fn as_decided(
        &mut self,
        mut arrival: Arrival,
        route: impl Fn(&Envelope) -> Option<Route>,
        decided: &mut Vec<Decided>,
    ) -> Option<(Arrival, u32)> {
        if self.attempts.is_empty() && self.decisions.is_empty() && self.finished.is_empty() {
            return Some((arrival, 0));
        }
        let mut event = DedupeKey::of(&arrival.work.envelope);
        let mut copy: Option<Envelope> = None;
        // A copy has a new id: none stands for itself.
        for _ in 0..=self.decisions.len() {
            let is_finished = self.finished.has(event);
            let failures = self.attempts.remove(&event).unwrap_or(0);
            if is_finished || failures == GIVEN_UP {
                self.pass_by(&arrival.work);
                if failures == GIVEN_UP {
                    self.keep.mark_again(event);
                }
                return None;
            }
            match self.decisions.get(&event) {
                None => {
                    if let Some(copy) = copy {
                        self.put_in_place(&mut arrival, copy, route, decided)?;
                    }
                    return Some((arrival, failures));
                }
                Some(store::Decision::Discarded) => break,
                Some(store::Decision::Edited(edited)) => {
                    event = DedupeKey::of(edited);
                    copy = Some(Envelope::clone(edited));
                }
            }
        }
        self.pass_by(&arrival.work);
        decided.push(Decided(arrival.work.envelope, None));
        None
    }

    /// Settles a delivery that is not handled.
    fn pass_by(&mut self, work: &Work) {
        self.counts.skipped += 1;
        self.ack(work.token);
    }

    /// Puts an edited copy in the place of its original; nothing, and the original is settled, if no handler wants the copy.
    fn put_in_place(
        &mut self,
        arrival: &mut Arrival,
        copy: Envelope,
        route: impl Fn(&Envelope) -> Option<Route>,
        decided: &mut Vec<Decided>,
    ) -> Option<()> {
        let work = &mut arrival.work;
        let Some(route) = route(&copy) else {
            self.pass_by(work);
            decided.push(Decided(work.envelope.clone(), None));
            return None;
        };
        arrival.class = route.class;
        work.handler = route.handler;
        work.problem = None;
        let original = std::mem::replace(&mut work.envelope, copy.clone());
        decided.push(Decided(original, Some(copy)));
        Some(())
    }

    /// Takes out of the lanes what a person discarded while it waited there; what runs is not interrupted, and a row of the store is out of it already.
    pub(super) fn pass_over(&mut self) -> Vec<Decided> {
        if self.decisions.is_empty() {
            return Vec::new();
        }
        let decisions = &self.decisions;
        let discarded = self.table.withdraw(|work| {
            let event = DedupeKey::of(&work.envelope);
            work.kept.is_none() && decisions.get(&event) == Some(&store::Decision::Discarded)
        });
        let mut decided = Vec::with_capacity(discarded.len());
        for work in discarded {
            self.counts.skipped += 1;
            // Attempts that failed before are forgotten with it.
            let event = DedupeKey::of(&work.envelope);
            let change = FailureChange::Succeeded { event };
            self.keep.push(change, Then::Ack(work.token));
            decided.push(Decided(work.envelope, None));
        }
        decided
    }

    /// Gives a delivery back to the broker.
    pub(super) fn release_one(&mut self, work: &Work) {
        if work.kept.is_none() {
            self.outcomes.push((work.token, SettleAction::Release));
        }
    }
}

/// An event about which a person decided, with what stands for it.
pub(super) struct Decided(Envelope, Option<Envelope>);

impl Decided {
    pub(super) fn notice(&self) -> Notice<'_> {
        let Self(envelope, copy) = self;
        match copy {
            Some(copy) => Notice::Replaced { envelope, copy },
            None => Notice::PassedOver { envelope },
        }
    }
}

/// The lane of a delivery in the store.
fn lane_of(work: &Work) -> LaneId {
    match &work.kept {
        Some(kept) => kept.lane,
        None => LaneId::of(&work.envelope),
    }
}

/// What becomes of a delivery once its death is recorded.
fn buried_of(work: &Work, key: LaneKey, holds: bool) -> Buried {
    let (lane, origin) = (lane_of(work), work.origin());
    match (work.kept.is_some(), holds) {
        (true, _) => Buried::Row { lane, holds },
        (false, true) => Buried::Holds { lane, origin },
        (false, false) => Buried::GoesOn {
            lane: key,
            token: origin.token,
        },
    }
}

fn reason_of(failure: &HandlerError) -> &str {
    failure.chain().first().map_or("", String::as_str)
}

//! The keeper: the one task that tells the store what happened, all that waits in one call, and lets follow what follows from it.

use super::effect::is_about_the_event;
use super::keeping::{Burial, Buried, Change, Keeping, PutOff, Then, tokens_of};
use super::observer::Notice;
use super::pipeline::{Pipeline, State, TaskWatch, Trouble};
use crate::dead_letter::{self, Death};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::Position;
use tidings_core::limits::PAUSE_RETRY_INTERVAL;
use tidings_core::store::{DeathRecord, FailureChange, FailureStore, LaneId, ParkedId, StoreError};
use tidings_core::{DedupeKey, Envelope};

/// Tells the store until the consumer is closing and nothing is left.
pub(super) async fn keep(pipeline: Arc<Pipeline>, store: Arc<dyn FailureStore>) {
    let _watch = TaskWatch {
        pipeline: Arc::clone(&pipeline),
        task: "keeper",
    };
    let mut keeper = Keeper {
        pipeline,
        store,
        has_told_attempts: false,
    };
    while keeper.turn().await {}
}

/// Takes the marks of events away that were given up, after the broker has their settlements.
pub(super) async fn forget_marks(pipeline: &Pipeline) {
    let Some(store) = &pipeline.failures else {
        return;
    };
    let left = {
        let mut state = pipeline.lock();
        state.keep.forget_marks(None);
        state.keep.take()
    };
    let changes: Vec<FailureChange> = left
        .into_iter()
        .filter_map(|keeping| match keeping.change {
            Change::Ready(change @ FailureChange::Succeeded { .. }) => Some(change),
            Change::Ready(_) | Change::Bury(_) => None,
        })
        .collect();
    if changes.is_empty() {
        return;
    }
    if let Err(error) = store.apply(pipeline.group.as_str(), &changes).await {
        // They are passed over once more at the next start, where there is nothing to pass over.
        tracing::debug!(%error, "marks of events that were given up are left behind");
    }
}

struct Keeper {
    pipeline: Arc<Pipeline>,
    store: Arc<dyn FailureStore>,
    /// Whether the store knows how often the group tries an event.
    has_told_attempts: bool,
}

/// A change that was made, and what follows.
struct Made {
    then: Then,
    told: Option<Told>,
    /// Whether it came to nothing: the row is not what it was, or somebody else's by now.
    is_nothing: bool,
}

/// A recorded death, to be told.
struct Told {
    fact: Envelope,
    burial: Box<Burial>,
}

impl Keeper {
    /// Makes all changes that wait; without any it waits. `false` when all is done.
    async fn turn(&mut self) -> bool {
        let (keepings, closing) = {
            let mut state = self.pipeline.lock();
            let now = self.pipeline.clock.elapsed();
            state.keep.forget_marks(Some(now));
            state.finished.forget(now);
            let keepings = state.keep.take();
            state.keep.keeper_awake = !keepings.is_empty();
            (keepings, state.closing)
        };
        if keepings.is_empty() {
            if closing {
                return false;
            }
            self.pipeline.keeper.notified().await;
            return true;
        }
        let tokens = tokens_of(&keepings);
        // First, so that whoever sees an attempt sees of how many.
        self.tell_attempts().await;
        let made = self.make(keepings, closing).await;
        self.finish(made, tokens);
        true
    }

    /// Tells the store how often the group tries an event: once something has failed, so that a group without failures needs no store.
    async fn tell_attempts(&mut self) {
        if self.has_told_attempts {
            return;
        }
        let group = self.pipeline.group.as_str();
        // What an earlier version of the program told may be wrong by now, so that not knowing is told as well.
        let attempts = self.pipeline.policies.attempts_max().unwrap_or(0);
        match self.store.tell_attempts_max(group, attempts).await {
            Ok(()) => self.has_told_attempts = true,
            Err(error) => {
                // What passes is tried again with the next failure; tables of an older version have no place for it.
                self.has_told_attempts = !error.class().is_transient();
                tracing::debug!(%error, "how often an event is tried could not be told");
            }
        }
    }

    /// Makes changes; what the store does not take while the consumer is closing is left: those events are delivered again.
    async fn make(&self, keepings: Vec<Keeping>, closing: bool) -> Vec<Made> {
        let mut changes = Vec::with_capacity(keepings.len());
        let mut thens = Vec::with_capacity(keepings.len());
        for keeping in keepings {
            changes.push(keeping.change);
            thens.push(keeping.then);
        }
        let mut paused = None;
        let mut may_be_made = false;
        loop {
            let error = match self.try_make(&mut changes).await {
                Ok((told, nothing)) => {
                    let made = thens.into_iter().zip(told).enumerate();
                    let made = made.map(|(index, (then, told))| Made {
                        then,
                        told,
                        // What was made when its answer was lost comes to nothing the second time.
                        is_nothing: !may_be_made && nothing.contains(&index),
                    });
                    return made.collect();
                }
                Err(error) if closing => {
                    tracing::warn!(%error, "what failed could not be noted; it is handled again");
                    return Vec::new();
                }
                Err(error) if is_about_the_event(&error) => {
                    let reason = format!("its store refuses what failed: {error}");
                    self.pipeline.lock().halt();
                    self.pipeline.stop(&reason, error.code());
                    return Vec::new();
                }
                Err(error) => error,
            };
            may_be_made |= error.may_have_happened();
            if paused.is_none() {
                paused = Some(Trouble::begin(&self.pipeline, &error.to_string()));
            }
            self.pipeline.clock.sleep(PAUSE_RETRY_INTERVAL).await;
            if self.pipeline.lock().closing {
                return Vec::new();
            }
        }
    }

    /// Makes changes in one call, and answers the deaths among them, and which came to nothing.
    async fn try_make(
        &self,
        changes: &mut Vec<Change>,
    ) -> Result<(Vec<Option<Told>>, Vec<usize>), StoreError> {
        let group = self.pipeline.group.as_str();
        let numbers = self.deaths(changes).await?;
        let mut numbers = numbers.into_iter();
        let mut facts = Vec::with_capacity(changes.len());
        let mut ready = Vec::with_capacity(changes.len());
        for change in changes.iter() {
            match change {
                Change::Ready(change) => {
                    ready.push(change.clone());
                    facts.push(None);
                }
                Change::Bury(burial) => {
                    let record = self.record_of(burial, numbers.next().unwrap_or(0));
                    facts.push(Some(record.fact.clone()));
                    ready.push(FailureChange::Bury(Box::new(record)));
                }
            }
        }
        let nothing = self.store.apply(group, &ready).await?;
        let told = changes.drain(..).zip(facts);
        let told = told.map(|(change, fact)| match (change, fact) {
            (Change::Bury(burial), Some(fact)) => Some(Told { fact, burial }),
            _ => None,
        });
        Ok((told.collect(), nothing))
    }

    /// How often the events to be buried died before. Rows of the store know it of themselves.
    async fn deaths(&self, changes: &[Change]) -> Result<Vec<u32>, StoreError> {
        let mut numbers = Vec::new();
        let mut unknown = Vec::new();
        for change in changes {
            if let Change::Bury(burial) = change {
                if burial.delivery.id == ParkedId(0) {
                    unknown.push((numbers.len(), DedupeKey::of(&burial.delivery.envelope)));
                }
                numbers.push(burial.delivery.deaths);
            }
        }
        if unknown.is_empty() {
            return Ok(numbers);
        }
        let events: Vec<DedupeKey> = unknown.iter().map(|(_, event)| *event).collect();
        let group = self.pipeline.group.as_str();
        let deaths = self.store.deaths(group, &events).await?;
        for ((index, _), deaths) in unknown.into_iter().zip(deaths) {
            if let Some(number) = numbers.get_mut(index) {
                *number = deaths;
            }
        }
        Ok(numbers)
    }

    fn record_of(&self, burial: &Burial, number: u32) -> DeathRecord {
        let pipeline = &self.pipeline;
        let group = pipeline.group.as_str();
        let delivery = &burial.delivery;
        let handler = pipeline.handler_name(burial.handler);
        let death = Death {
            envelope: &delivery.envelope,
            position: delivery.position.map(Position),
            group,
            handler,
            reasons: &burial.reasons,
            attempts: delivery.attempts,
            history: &delivery.history,
            number,
        };
        let mut delivery = delivery.clone();
        delivery.deaths = number;
        DeathRecord {
            id: dead_letter::fact_id(&delivery.envelope, group, 0),
            handler: handler.to_owned(),
            reasons: burial.reasons.clone(),
            fingerprint: dead_letter::fingerprint(handler, &burial.reasons),
            cause: burial.cause,
            holds: burial.holds,
            code_version: pipeline.config.code_version.clone(),
            fact: death.thin_fact(pipeline.clock.now()),
            delivery,
        }
    }

    /// Lets follow what follows from changes that are made.
    fn finish(&self, made: Vec<Made>, tokens: usize) {
        let pipeline = &self.pipeline;
        let mut notices = Vec::new();
        let mut follows = Follows {
            now: pipeline.clock.elapsed(),
            ..Follows::default()
        };
        let mut state = pipeline.lock();
        state.keep.done(tokens);
        for Made {
            mut then,
            told,
            is_nothing,
        } in made
        {
            if is_nothing {
                follows.nothing(&mut state, &mut then);
            }
            follows.of(&mut state, then, &mut notices);
            if let Some(told) = told.filter(|_| !is_nothing) {
                state.counts.dead_lettered += 1;
                notices.push(ToTell::Death(told));
            }
        }
        if state.draining {
            // A worker that waits for nothing else looks whether all is done.
            follows.workers = true;
        }
        pipeline.wake_idle_waiter(&state);
        pipeline.wake_after(state);
        if follows.timer {
            pipeline.timer.notify_one();
        }
        if follows.parker {
            pipeline.parker.notify_one();
        }
        if follows.workers {
            pipeline.wake_workers();
        }
        for notice in notices {
            self.tell(notice);
        }
    }

    fn tell(&self, notice: ToTell) {
        let pipeline = &self.pipeline;
        match notice {
            ToTell::PutOff(told) => pipeline.notice(Notice::RetryLater {
                envelope: &told.envelope,
                handler: pipeline.handler_name(told.handler),
                attempt: told.attempt,
                reason: &told.reason,
                delay: told.delay,
            }),
            ToTell::Death(told) => pipeline.notice(Notice::DeadLettered {
                envelope: &told.burial.delivery.envelope,
                handler: pipeline.handler_name(told.burial.handler),
                attempts: told.burial.delivery.attempts,
                reason: told.burial.reasons.first().map_or("", String::as_str),
                fact: &told.fact,
                holds: told.burial.holds,
            }),
        }
    }
}

enum ToTell {
    PutOff(PutOff),
    Death(Told),
}

/// What time it is, and who is to be woken.
#[derive(Default)]
struct Follows {
    now: Duration,
    timer: bool,
    parker: bool,
    workers: bool,
}

impl Follows {
    fn of(&mut self, state: &mut State, then: Then, notices: &mut Vec<ToTell>) {
        match then {
            Then::Nothing => {}
            Then::Tell(sender) => {
                // Whoever waited may be gone.
                let _gone = sender.send(());
            }
            Then::Noted { lane, failures } => {
                state.table.noted(lane, failures);
                self.timer = true;
            }
            Then::Ack(token) => state.ack(token),
            Then::Parked {
                lane,
                deliveries,
                put_off,
            } => {
                state.parked.arrived(lane, deliveries.len() as u64);
                for origin in deliveries {
                    state.ack(origin.token);
                }
                self.put_off(state, put_off, notices);
            }
            Then::Changed {
                lane,
                left,
                put_off,
            } => {
                self.changed(state, lane, left);
                self.put_off(state, put_off, notices);
            }
            Then::Buried(Buried::GoesOn { lane, token }) => {
                state.table.finished(lane);
                state.ack(token);
            }
            Then::Buried(Buried::Holds { lane, origin }) => {
                state.parked.arrived(lane, 1);
                state.parked.set_held(lane, true);
                state.ack(origin.token);
            }
            Then::Buried(Buried::Row { lane, holds }) => {
                self.changed(state, lane, !holds);
                state.parked.set_held(lane, holds);
            }
        }
    }

    /// A change of a row came to nothing: what the store has of its lane is to be found out, and nothing is told of it.
    fn nothing(&mut self, state: &mut State, then: &mut Then) {
        match then {
            Then::Changed { lane, put_off, .. } => {
                state.parked.doubt(*lane);
                *put_off = None;
            }
            Then::Buried(Buried::Row { lane, holds }) => {
                state.parked.doubt(*lane);
                *holds = false;
            }
            _ => {}
        }
    }

    fn changed(&mut self, state: &mut State, lane: LaneId, left: bool) {
        if state.parked.changed(lane, left) {
            state.doubtful.push(lane);
            self.parker = true;
        }
    }

    fn put_off(&mut self, state: &mut State, told: Option<PutOff>, notices: &mut Vec<ToTell>) {
        if let Some(told) = told {
            state.counts.put_off += 1;
            self.parker |= state.due_no_later_than(self.now + told.delay);
            notices.push(ToTell::PutOff(told));
        }
    }
}

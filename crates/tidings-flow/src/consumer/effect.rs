//! The end of a run of a handler: its transaction is committed with what it emitted, or what it emitted is published. What is not the event's fault leads to another run.
//!
//! Crashes may come between any two steps. Before the commit nothing has happened; after it the inbox row is there, and the event, delivered again, is answered as handled before.

use super::handling::Handling;
use super::pipeline::{Handler, Pipeline, Trouble, Work};
use super::retry::Backoff;
use super::work::{context_of, slot_for};
use crate::handler::HandlerResult;
use futures_util::future::{Either, select};
use std::error::Error;
use std::pin::pin;
use tidings_core::extract::{Draft, Emit, HandlerError, HandlerErrorKind};
use tidings_core::limits::{
    BATCH_EVENTS_MAX, PAUSE_RETRY_INTERVAL, STORE_CONFLICT_BACKOFF_FIRST,
    STORE_CONFLICT_BACKOFF_MAX, STORE_CONFLICT_RETRIES_MAX, STORE_FINISH_TIMEOUT,
};
use tidings_core::store::{FinishedWork, StoreError, UnitOfWork};
use tidings_core::{Envelope, ErrorClass};

/// What one run of a handler came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its effect is there, and this was emitted.
    Done(Vec<Envelope>),
    /// Its effect was there before.
    HandledBefore,
    /// The event or its handler is at fault.
    Failed(HandlerError),
    /// Neither is: the handler runs again.
    Again(Hindrance),
}

/// Why a handling has to run again.
#[derive(Debug)]
pub(super) struct Hindrance {
    pub(super) error: StoreError,
    /// What was emitted, if the commit may have happened all the same.
    pub(super) maybe_committed: Option<Vec<Envelope>>,
}

impl From<StoreError> for Hindrance {
    fn from(error: StoreError) -> Self {
        Self {
            error,
            maybe_committed: None,
        }
    }
}

/// How often a handling has run again, and the pause of the group while that is more than a collision.
pub(super) struct Reruns<'a> {
    pipeline: &'a Pipeline,
    conflicts: u32,
    paused: Option<Trouble<'a>>,
}

impl<'a> Reruns<'a> {
    pub(super) fn new(pipeline: &'a Pipeline) -> Self {
        Self {
            pipeline,
            conflicts: 0,
            paused: None,
        }
    }

    /// Whether so many transactions were in the way one after the other that it is no accident.
    pub(super) fn is_stuck(&self) -> bool {
        self.conflicts >= STORE_CONFLICT_RETRIES_MAX
    }

    /// Waits before the next run: shortly after a collision; else, or after many of them, the group waits as well.
    pub(super) async fn wait(&mut self, error: &StoreError) {
        let clock = &self.pipeline.clock;
        if matches!(error, StoreError::Conflict { .. }) && !self.is_stuck() {
            self.conflicts += 1;
            let backoff = Backoff {
                first: STORE_CONFLICT_BACKOFF_FIRST,
                max: STORE_CONFLICT_BACKOFF_MAX,
                ..Backoff::default()
            };
            let random = self.pipeline.chance.next_u64();
            clock.sleep(backoff.delay(self.conflicts, random)).await;
            return;
        }
        if self.paused.is_none() {
            self.paused = Some(Trouble::begin(self.pipeline, &error.to_string()));
        }
        clock.sleep(PAUSE_RETRY_INTERVAL).await;
    }
}

impl Pipeline {
    /// Finishes one run of a handler.
    pub(super) async fn finish(&self, handling: &Handling, result: HandlerResult) -> Outcome {
        let item = &handling.running.item;
        let finished = handling.work.finish();
        match result {
            Ok(()) => {
                let drafts = handling.emit.take();
                match finished {
                    FinishedWork::Open(unit) => self.commit_one(item, unit, drafts).await,
                    FinishedWork::None if handling.work.is_closed() => {
                        match self.publish_emitted(item, drafts).await {
                            Ok(emitted) => Outcome::Done(emitted),
                            Err(failure) => Outcome::Failed(failure),
                        }
                    }
                    FinishedWork::None => Outcome::Failed(left_none()),
                    FinishedWork::Kept => Outcome::Failed(kept()),
                }
            }
            Err(failure) => match self.undo(finished, &[&failure]).await {
                Some(error) => Outcome::Again(error.into()),
                None if failure.kind() == HandlerErrorKind::HandledBefore => Outcome::HandledBefore,
                None => Outcome::Failed(failure),
            },
        }
    }

    async fn commit_one(
        &self,
        item: &Work,
        unit: Box<dyn UnitOfWork>,
        drafts: Vec<Draft>,
    ) -> Outcome {
        let envelopes = match self.envelopes_of(item, drafts) {
            Ok(envelopes) => envelopes,
            Err(failure) => {
                self.roll_back(unit).await;
                return Outcome::Failed(failure);
            }
        };
        match self.commit(unit, &envelopes).await {
            Ok(()) => Outcome::Done(envelopes),
            Err(error) if is_about_the_event(&error) => Outcome::Failed(failure_of(error)),
            Err(error) => Outcome::Again(Hindrance {
                maybe_committed: error.may_have_happened().then_some(envelopes),
                error,
            }),
        }
    }

    /// Puts what was emitted into the outbox and commits.
    ///
    /// **Errors**: ambiguous if the commit was on its way and its answer did not come.
    ///
    /// **Cancel**: it is committed or rolled back; the inbox tells.
    pub(super) async fn commit(
        &self,
        mut unit: Box<dyn UnitOfWork>,
        envelopes: &[Envelope],
    ) -> Result<(), StoreError> {
        let finishing = async move {
            for part in envelopes.chunks(BATCH_EVENTS_MAX) {
                if let Err(error) = unit.emit(part).await {
                    self.roll_back(unit).await;
                    return Err(error);
                }
            }
            unit.commit().await
        };
        match select(pin!(finishing), self.clock.sleep(STORE_FINISH_TIMEOUT)).await {
            Either::Left((committed, _)) => committed,
            Either::Right(((), _)) => Err(StoreError::Ambiguous {
                database: "of the transaction".to_owned(),
                reason: format!("no answer to the commit within {STORE_FINISH_TIMEOUT:?}"),
            }),
        }
    }

    /// Undoes a run that failed, and answers what in the store made it fail if that is not the fault of its events.
    pub(super) async fn undo(
        &self,
        finished: FinishedWork,
        failures: &[&HandlerError],
    ) -> Option<StoreError> {
        let open = match finished {
            FinishedWork::Open(unit) => Some(unit),
            FinishedWork::None | FinishedWork::Kept => None,
        };
        let told = trouble_among(failures, open.as_deref());
        let gone = match open {
            Some(unit) => self.roll_back(unit).await,
            None => None,
        };
        told.or(gone.filter(|_| failures.iter().any(|failure| is_undecided(failure))))
    }

    /// Rolls back, and answers why if the connection is gone.
    async fn roll_back(&self, unit: Box<dyn UnitOfWork>) -> Option<StoreError> {
        let limit = self.clock.sleep(STORE_FINISH_TIMEOUT);
        match select(unit.roll_back(), limit).await {
            Either::Left((rolled_back, _)) => {
                rolled_back.err().filter(|error| !is_about_the_event(error))
            }
            // Dropped, it is rolled back all the same, by us or by the database once it notices.
            Either::Right(((), _)) => None,
        }
    }

    /// Runs a handler again, alone, until the outcome is no fault of the store. No attempt is counted.
    pub(super) async fn run_until_decided(
        &self,
        handling: &mut Handling,
        mut hindrance: Hindrance,
    ) -> Outcome {
        let mut reruns = Reruns::new(self);
        let mut maybe_committed = None;
        loop {
            if hindrance.maybe_committed.is_some() {
                maybe_committed = hindrance.maybe_committed;
            }
            reruns.wait(&hindrance.error).await;
            let result = self.run_alone(handling).await;
            match self.finish(handling, result).await {
                Outcome::Again(next) => hindrance = next,
                // It was handled before by this very handling, whose commit gave no answer.
                Outcome::HandledBefore if maybe_committed.is_some() => {
                    return Outcome::Done(maybe_committed.unwrap_or_default());
                }
                decided => return decided,
            }
        }
    }

    /// Runs a handler once more for one event.
    pub(super) async fn run_alone(&self, handling: &mut Handling) -> HandlerResult {
        let Some(handler) = self.handlers.get(handling.running.item.handler) else {
            unreachable!("a handling has a handler");
        };
        handling.emit = Emit::default();
        handling.work = slot_for(handler.delivery());
        let context = context_of(handling, &self.handler_shared());
        let future = match handler {
            Handler::Single(handler) => handler.handle(context),
            Handler::Batch(handler) => {
                let answers = handler.handle(vec![context]);
                Box::pin(async move {
                    answers.await.pop().unwrap_or_else(|| {
                        Err(HandlerError::transient_message(
                            "the batch handler answered for 0 of 1 events",
                        ))
                    })
                })
            }
        };
        self.watched(handling, future).await
    }
}

/// Whether the handler leaves open what its failure means. What it calls permanent, or gives a time for, is its own word.
fn is_undecided(failure: &HandlerError) -> bool {
    failure.kind() == HandlerErrorKind::Transient
}

/// What in the store made handlings fail, if that is not the fault of their events: a store's error among the causes, or a driver's error that the transaction can read.
fn trouble_among(failures: &[&HandlerError], open: Option<&dyn UnitOfWork>) -> Option<StoreError> {
    let mut undecided = failures.iter().filter(|failure| is_undecided(failure));
    undecided.find_map(|failure| trouble_in(failure.source()?, open))
}

fn trouble_in(source: &(dyn Error + 'static), open: Option<&dyn UnitOfWork>) -> Option<StoreError> {
    let mut next = Some(source);
    while let Some(error) = next {
        let told = match error.downcast_ref::<StoreError>() {
            Some(error) => Some(error.clone()),
            None => open.and_then(|unit| unit.diagnose(error)),
        };
        if let Some(error) = told {
            return (!is_about_the_event(&error)).then_some(error);
        }
        next = error.source();
    }
    None
}

/// Whether the event or the statements of its handler must change; everything else heals or is healed by a person.
pub(super) fn is_about_the_event(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Refused { .. } | StoreError::Database { .. }
    )
}

/// A store's error that counts as the handler's.
pub(super) fn failure_of(error: StoreError) -> HandlerError {
    // What no rule covers may be a constraint that is checked at the commit, and heal.
    let heals =
        error.class() == ErrorClass::Transient || matches!(error, StoreError::Database { .. });
    let kind = if heals {
        HandlerErrorKind::Transient
    } else {
        HandlerErrorKind::Permanent
    };
    HandlerError::from(error).with_kind(kind)
}

/// The failure of a handler that succeeded without giving its transaction back.
pub(super) fn kept() -> HandlerError {
    HandlerError::permanent_message(
        "the handler has returned and its transaction is still held somewhere, so it cannot be committed; drop the Tx before returning, and do not move it into a task or a static",
    )
}

fn left_none() -> HandlerError {
    HandlerError::permanent_message(
        "the handler claims effect once and left no transaction to commit; take the Tx from the arguments, or let delivery() answer AtLeastOnce",
    )
}

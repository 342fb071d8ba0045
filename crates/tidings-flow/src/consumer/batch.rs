//! The way of one call of a batch handler. Without a transaction each event has its own outcome; with one, the batch counts as a whole or is taken apart.
//!
//! If one event of a batch with a transaction fails, everything is rolled back and each event is handled alone, in a transaction of its own: one failed statement may have spoiled the transaction
//! for the events behind it, so that only the runs alone tell who is at fault, and only they count as attempts.

use super::effect::{Outcome, Reruns, failure_of, is_about_the_event, kept};
use super::handling::{Handling, caught};
use super::pipeline::{Completion, Handler, Pipeline};
use super::timeout::limited;
use super::work::{context_of, slot_for};
use crate::handler::HandlerResult;
use futures_util::future::join_all;
use std::sync::Arc;
use tidings_core::extract::{Emit, HandlerError, HandlerErrorKind};
use tidings_core::store::{FinishedWork, StoreError, UnitOfWork};
use tidings_core::{BoxFuture, Envelope};

/// What was emitted for an event of a batch; `None` for one that was handled before.
type Emitted = Option<Vec<Envelope>>;

/// What a call with a transaction came to.
enum BatchOutcome {
    /// This, event by event.
    Each(Vec<Outcome>),
    /// It was rolled back, and each event is to be handled alone.
    Apart,
    /// It was no fault of the events: the call runs again.
    Again {
        error: StoreError,
        /// What was emitted for each event, if the commit may have happened all the same.
        maybe_committed: Option<Vec<Emitted>>,
    },
}

/// Takes a call of a batch handler to its end.
pub(super) async fn conclude_batch(
    pipeline: Arc<Pipeline>,
    handlings: Vec<Handling>,
    future: BoxFuture<'static, Vec<HandlerResult>>,
) -> Vec<Completion> {
    let answers = pipeline.answers_of(handlings.len(), future).await;
    let transactional = handlings
        .first()
        .is_some_and(|first| !first.work.is_closed());
    if transactional {
        return Box::pin(pipeline.conclude_together(handlings, answers)).await;
    }
    let concluding = handlings
        .into_iter()
        .zip(answers)
        .map(|(handling, answer)| pipeline.conclude(handling, answer));
    join_all(concluding).await
}

impl Pipeline {
    /// Waits for the answers of a batch handler: one for each event, whatever happens.
    async fn answers_of(
        &self,
        expected: usize,
        future: BoxFuture<'static, Vec<HandlerResult>>,
    ) -> Vec<HandlerResult> {
        let limit = Some(self.config.time_limit);
        let answered = caught(limited(&*self.clock, limit, future))
            .await
            .and_then(|in_time| in_time);
        let mut answers = match answered {
            Ok(answers) => answers,
            Err(failure) => {
                let words = failure.chain().join(": ");
                let same = || Err(HandlerError::transient_message(words.clone()));
                return std::iter::repeat_with(same).take(expected).collect();
            }
        };
        let answered = answers.len();
        answers.resize_with(expected, || {
            Err(HandlerError::transient_message(format!(
                "the batch handler answered for {answered} of {expected} events"
            )))
        });
        answers
    }

    /// Takes a call with a transaction to its end.
    async fn conclude_together(
        &self,
        mut handlings: Vec<Handling>,
        answers: Vec<HandlerResult>,
    ) -> Vec<Completion> {
        let mut outcome = self.finish_together(&handlings, answers).await;
        let mut reruns = Reruns::new(self);
        let mut committed = None;
        let each = loop {
            let (error, maybe_committed) = match outcome {
                BatchOutcome::Each(each) => break Some(each),
                BatchOutcome::Apart => break None,
                BatchOutcome::Again {
                    error,
                    maybe_committed,
                } => (error, maybe_committed),
            };
            committed = maybe_committed.or(committed);
            if reruns.is_stuck() {
                break None;
            }
            reruns.wait(&error).await;
            let answers = self.run_together(&mut handlings).await;
            outcome = self.finish_together(&handlings, answers).await;
        };
        drop(reruns);
        let mut completions = Vec::with_capacity(handlings.len());
        let mut each = each.map(Vec::into_iter);
        let mut committed = committed.map(Vec::into_iter);
        for mut handling in handlings {
            let outcome = match &mut each {
                Some(each) => each.next(),
                None => None,
            };
            let outcome = match outcome {
                Some(outcome) => outcome,
                None => self.decide_alone(&mut handling).await,
            };
            let mine = committed.as_mut().and_then(Iterator::next).flatten();
            let outcome = match (outcome, mine) {
                // It was handled before by this very call, whose commit gave no answer.
                (Outcome::HandledBefore, Some(emitted)) => Outcome::Done(emitted),
                (outcome, _) => outcome,
            };
            completions.push(self.complete(handling, outcome).await);
        }
        completions
    }

    async fn decide_alone(&self, handling: &mut Handling) -> Outcome {
        let result = self.run_alone(handling).await;
        match self.finish(handling, result).await {
            Outcome::Again(hindrance) => self.run_until_decided(handling, hindrance).await,
            decided => decided,
        }
    }

    async fn run_together(&self, handlings: &mut [Handling]) -> Vec<HandlerResult> {
        let first = handlings.first().map(|first| first.running.item.handler);
        let Some(Handler::Batch(handler)) = first.and_then(|index| self.handlers.get(index)) else {
            unreachable!("a batch has an item, and it belongs to a batch handler");
        };
        let work = slot_for(handler.delivery());
        let shared = self.handler_shared();
        let mut contexts = Vec::with_capacity(handlings.len());
        for handling in handlings.iter_mut() {
            handling.emit = Emit::default();
            handling.work = work.clone();
            contexts.push(context_of(handling, &shared));
        }
        let handler = Arc::clone(handler);
        let future = Box::pin(async move { handler.handle(contexts).await });
        self.answers_of(handlings.len(), future).await
    }

    async fn finish_together(
        &self,
        handlings: &[Handling],
        answers: Vec<HandlerResult>,
    ) -> BatchOutcome {
        let finished = handlings
            .first()
            .map_or(FinishedWork::None, |first| first.work.finish());
        let failures: Vec<&HandlerError> = answers
            .iter()
            .filter_map(|answer| answer.as_ref().err())
            .filter(|failure| failure.kind() != HandlerErrorKind::HandledBefore)
            .collect();
        if !failures.is_empty() {
            let trouble = self.undo(finished, &failures).await;
            return match trouble {
                Some(error) => BatchOutcome::Again {
                    error,
                    maybe_committed: None,
                },
                None if answers.len() == 1 => {
                    let failed = answers.into_iter().filter_map(Result::err);
                    BatchOutcome::Each(failed.map(Outcome::Failed).collect())
                }
                None => BatchOutcome::Apart,
            };
        }
        let is_new: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        match finished {
            FinishedWork::Open(unit) => self.commit_together(handlings, &is_new, unit).await,
            FinishedWork::None if is_new.contains(&true) => BatchOutcome::Apart,
            FinishedWork::None | FinishedWork::Kept => {
                let outcome = |is_new| match is_new {
                    true => Outcome::Failed(kept()),
                    false => Outcome::HandledBefore,
                };
                BatchOutcome::Each(is_new.into_iter().map(outcome).collect())
            }
        }
    }

    async fn commit_together(
        &self,
        handlings: &[Handling],
        is_new: &[bool],
        unit: Box<dyn UnitOfWork>,
    ) -> BatchOutcome {
        let mut emitted: Vec<Emitted> = Vec::with_capacity(handlings.len());
        for (handling, is_new) in handlings.iter().zip(is_new) {
            let drafts = handling.emit.take();
            if !is_new {
                emitted.push(None);
                continue;
            }
            match self.envelopes_of(&handling.running.item, drafts) {
                Ok(envelopes) => emitted.push(Some(envelopes)),
                Err(failure) => {
                    self.undo(FinishedWork::Open(unit), &[]).await;
                    return alone_or_apart(handlings, failure);
                }
            }
        }
        let envelopes: Vec<Envelope> = emitted.iter().flatten().flatten().cloned().collect();
        match self.commit(unit, &envelopes).await {
            Ok(()) => {
                let outcome = |emitted: Emitted| match emitted {
                    Some(emitted) => Outcome::Done(emitted),
                    None => Outcome::HandledBefore,
                };
                BatchOutcome::Each(emitted.into_iter().map(outcome).collect())
            }
            Err(error) if is_about_the_event(&error) => {
                alone_or_apart(handlings, failure_of(error))
            }
            Err(error) => BatchOutcome::Again {
                maybe_committed: error.may_have_happened().then_some(emitted),
                error,
            },
        }
    }
}

/// A failure of the only event of a batch is its own; of several it is unknown whose.
fn alone_or_apart(handlings: &[Handling], failure: HandlerError) -> BatchOutcome {
    if handlings.len() == 1 {
        BatchOutcome::Each(vec![Outcome::Failed(failure)])
    } else {
        BatchOutcome::Apart
    }
}

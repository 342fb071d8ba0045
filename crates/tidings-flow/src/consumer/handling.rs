//! The way of one handling that does not end at once: wait for it, publish what it emitted, or retry, or give up.

use super::lane::{Running, Verdict};
use super::observer::Notice;
use super::pipeline::{Completion, Handler, Pipeline, Trouble, Work};
use super::timeout::limited;
use crate::dead_letter;
use crate::handler::HandlerResult;
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::extract::{Emit, HandlerError};
use tidings_core::limits::PAUSE_RETRY_INTERVAL;
use tidings_core::{BoxFuture, Envelope};

/// How far a handler is after it was polled for the first time.
pub(super) enum Begun {
    /// It waits for something.
    Waiting(BoxFuture<'static, HandlerResult>),
    /// It has ended.
    Ended(HandlerResult),
}

/// A handling with what belongs to it.
pub(super) struct Handling {
    pub(super) running: Running<Work>,
    pub(super) emit: Emit,
    /// When it began; zero if nobody wants to know.
    pub(super) began: Duration,
}

/// Takes one handling to its end.
pub(super) async fn conclude_one(
    pipeline: Arc<Pipeline>,
    handling: Handling,
    begun: Begun,
) -> Completion {
    let result = match begun {
        Begun::Ended(result) => result,
        Begun::Waiting(future) => {
            let limit = pipeline.time_limit(handling.running.item.handler);
            caught(limited(&*pipeline.clock, limit, future))
                .await
                .and_then(|in_time| in_time)
                .and_then(|result| result)
        }
    };
    pipeline.conclude(handling, result).await
}

/// Takes a call of a batch handler to its end.
pub(super) async fn conclude_batch(
    pipeline: Arc<Pipeline>,
    handlings: Vec<Handling>,
    future: BoxFuture<'static, Vec<HandlerResult>>,
) -> Vec<Completion> {
    let limit = Some(pipeline.config.time_limit);
    let answers = caught(limited(&*pipeline.clock, limit, future))
        .await
        .and_then(|in_time| in_time);
    let expected = handlings.len();
    let concluding = match answers {
        Ok(results) => {
            let answered = results.len();
            let missing = || {
                Err(HandlerError::transient_message(format!(
                    "the batch handler answered for {answered} of {expected} events"
                )))
            };
            let results = results
                .into_iter()
                .map(Some)
                .chain(std::iter::repeat_with(|| None));
            handlings
                .into_iter()
                .zip(results)
                .map(|(handling, result)| {
                    pipeline.conclude(handling, result.unwrap_or_else(missing))
                })
                .collect::<Vec<_>>()
        }
        Err(failure) => handlings
            .into_iter()
            .map(|handling| {
                let same = HandlerError::transient_message(failure.chain().join(": "));
                pipeline.conclude(handling, Err(same))
            })
            .collect(),
    };
    join_all(concluding).await
}

impl Pipeline {
    /// The limit that the runtime sets; none for a handler that enforces its own.
    fn time_limit(&self, handler: usize) -> Option<Duration> {
        match self.handlers.get(handler) {
            Some(Handler::Single(handler)) if handler.own_time_limit().is_some() => None,
            _ => Some(self.config.time_limit),
        }
    }

    /// Publishes what a success emitted; retries a failure or gives it up.
    async fn conclude(&self, handling: Handling, result: HandlerResult) -> Completion {
        let Handling {
            running,
            emit,
            began,
        } = handling;
        let published = match result {
            Ok(()) => self.publish_emitted(&running.item, emit.take()).await,
            Err(failure) => Err(failure),
        };
        match published {
            Ok(emitted) => {
                self.tell_handled(&running, &emitted, began);
                Completion::Handled {
                    lane: running.lane,
                    token: running.item.token,
                    emitted: emitted.len() as u64,
                }
            }
            // Boxed, so that the common way does not carry the room for the rare one.
            Err(failure) => Box::pin(self.failed(running, &failure)).await,
        }
    }

    /// Tells the observer of a success.
    pub(super) fn tell_handled(
        &self,
        running: &Running<Work>,
        emitted: &[Envelope],
        began: Duration,
    ) {
        if let Some(observer) = &self.observer {
            observer.notice(Notice::Handled {
                envelope: &running.item.envelope,
                handler: self.handler_name(running.item.handler),
                attempt: running.attempt,
                emitted,
                took: self.clock.elapsed().saturating_sub(began),
            });
        }
    }

    async fn failed(&self, mut running: Running<Work>, failure: &HandlerError) -> Completion {
        let attempt = running.attempt;
        let handler = self.handler_name(running.item.handler);
        let reason = failure.chain().first().map_or("", String::as_str);
        let envelope = running.item.envelope.clone();
        let history = &mut running.item.history;
        history.note(attempt, self.clock.now(), failure.chain());
        let random = self.chance.next_u64();
        let verdict = {
            let mut state = self.lock();
            let now = self.clock.elapsed();
            let verdict = state.table.failed(running, failure.kind(), now, random);
            if matches!(verdict, Verdict::Retry { .. }) {
                state.counts.retried += 1;
            }
            verdict
        };
        match verdict {
            Verdict::Retry { delay } => {
                self.timer.notify_one();
                self.notice(Notice::RetryScheduled {
                    envelope: &envelope,
                    handler,
                    attempt,
                    reason,
                    delay,
                });
                Completion::Retrying
            }
            Verdict::GiveUp(running) => {
                let fact = self.record_dead_letter(&running, failure).await;
                self.notice(Notice::DeadLettered {
                    envelope: &envelope,
                    handler,
                    attempts: attempt,
                    reason,
                    fact: &fact,
                });
                Completion::DeadLettered {
                    lane: running.lane,
                    token: running.item.token,
                }
            }
        }
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
            history: &work.history,
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

/// Turns a panic into a failure that may heal.
async fn caught<F: Future>(future: F) -> Result<F::Output, HandlerError> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|panic| panic_failure(&*panic))
}

/// The failure of a handler that panicked.
pub(super) fn panic_failure(panic: &(dyn Any + Send)) -> HandlerError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is not text");
    HandlerError::transient_message(format!("the handler panicked: {text}"))
}

//! The way of one handling that does not end at once: wait for it, make its effect count, or retry, or give up.

use super::effect::Outcome;
use super::lane::Running;
use super::observer::Notice;
use super::pipeline::{Completion, Handler, Pipeline, Work};
use super::timeout::limited;
use crate::handler::HandlerResult;
use futures_util::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::extract::{Emit, HandlerError};
use tidings_core::store::WorkSlot;
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
    /// Where its transaction comes back; one for all handlings of a batch.
    pub(super) work: WorkSlot,
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
        Begun::Waiting(future) => pipeline.watched(&handling, future).await,
    };
    pipeline.conclude(handling, result).await
}

impl Pipeline {
    /// Runs a handler's future under its time limit; a panic is a failure.
    pub(super) async fn watched(
        &self,
        handling: &Handling,
        future: BoxFuture<'static, HandlerResult>,
    ) -> HandlerResult {
        let limit = self.time_limit(handling.running.item.handler);
        caught(limited(&*self.clock, limit, future))
            .await
            .and_then(|in_time| in_time)
            .and_then(|result| result)
    }

    /// The limit that the runtime sets; none for a handler that enforces its own.
    fn time_limit(&self, handler: usize) -> Option<Duration> {
        match self.handlers.get(handler) {
            Some(Handler::Single(handler)) if handler.own_time_limit().is_some() => None,
            _ => Some(self.config.time_limit),
        }
    }

    /// Finishes a run of a handler: makes the effect of a success count, retries a failure or gives it up, and runs the handler again for what is not the event's fault.
    pub(super) async fn conclude(
        &self,
        mut handling: Handling,
        result: HandlerResult,
    ) -> Completion {
        let outcome = match self.finish(&handling, result).await {
            // Boxed, so that the common way does not carry the room for the rare one.
            Outcome::Again(hindrance) => {
                Box::pin(self.run_until_decided(&mut handling, hindrance)).await
            }
            decided => decided,
        };
        self.complete(handling, outcome).await
    }

    /// Tells of an outcome; a failure is retried or given up.
    pub(super) async fn complete(&self, handling: Handling, outcome: Outcome) -> Completion {
        let running = handling.running;
        let failure = match outcome {
            Outcome::Done(emitted) => {
                self.tell_handled(&running, &emitted, handling.began);
                if self.is_noted(&running) {
                    return self.handled_with_note(running, emitted.len() as u64);
                }
                return Completion::Handled {
                    lane: running.lane,
                    token: running.item.token,
                    emitted: emitted.len() as u64,
                };
            }
            Outcome::HandledBefore => {
                self.notice(Notice::Deduplicated {
                    envelope: &running.item.envelope,
                    handler: self.handler_name(running.item.handler),
                });
                if self.is_noted(&running) {
                    return self.deduplicated_with_note(running);
                }
                return Completion::Deduplicated {
                    lane: running.lane,
                    token: running.item.token,
                };
            }
            Outcome::Failed(failure) => failure,
            Outcome::Again(hindrance) => hindrance.error.into(),
        };
        // Boxed, so that the common way does not carry the room for the rare one.
        Box::pin(self.failed(running, &failure)).await
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
}

/// Turns a panic into a failure that may heal.
pub(super) async fn caught<F: Future>(future: F) -> Result<F::Output, HandlerError> {
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

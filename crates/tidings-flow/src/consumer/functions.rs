//! Plain async functions as handlers of a consumer that is being built.

use super::ConsumerBuilder;
use crate::handler::{
    BatchArguments, EnvelopeArguments, EventArguments, Handler, HandlerFuture, HandlerResult,
    RawHandler, TypedBatchHandler, TypedHandler,
};
use std::future::Future;
use std::sync::Arc;
use tidings_core::Pattern;

impl ConsumerBuilder {
    /// Adds an `async fn` whose first argument is the event it handles, and whose others, at most six, are extractors.
    #[must_use]
    pub fn on<F, Arguments>(self, handler: F) -> Self
    where
        F: Handler<Arguments>,
        F::Future: HandlerFuture,
        Arguments: EventArguments,
    {
        self.handler(Arc::new(TypedHandler::new(handler)))
    }

    /// Adds an `async fn` whose first argument is the envelope, for all events that match a pattern.
    #[must_use]
    pub fn on_raw<F, Arguments>(self, pattern: Pattern, handler: F) -> Self
    where
        F: Handler<Arguments>,
        F::Future: HandlerFuture,
        Arguments: EnvelopeArguments,
    {
        self.handler(Arc::new(RawHandler::new(pattern, handler)))
    }

    /// Adds an `async fn` of several events of one type, each of another key, that answers for each.
    #[must_use]
    pub fn on_batch<F, Arguments>(self, handler: F) -> Self
    where
        F: Handler<Arguments>,
        F::Future: Future<Output = Vec<HandlerResult>> + Send + 'static,
        Arguments: BatchArguments,
    {
        self.batch_handler(Arc::new(TypedBatchHandler::new(handler)))
    }
}

//! Plain async functions as handlers of a consumer that is being built.

use super::ConsumerBuilder;
use crate::handler::{
    BatchFunction, Handler, RawFunction, RawHandler, TypedBatchHandler, TypedHandler,
};
use std::sync::Arc;
use tidings_core::Pattern;

impl ConsumerBuilder {
    /// Adds an `async fn` whose first argument is the event it handles; see [`Handler`].
    #[must_use]
    pub fn on<H: Handler<Marker>, Marker: 'static>(self, handler: H) -> Self {
        self.handler(Arc::new(TypedHandler::new(handler)))
    }

    /// Adds an `async fn` of envelopes, for all events that match a pattern; see [`RawFunction`].
    #[must_use]
    pub fn on_raw<F: RawFunction<Marker>, Marker: 'static>(
        self,
        pattern: Pattern,
        function: F,
    ) -> Self {
        self.handler(Arc::new(RawHandler::new(pattern, function)))
    }

    /// Adds an `async fn` of several events of one type, each of another key, that answers for each; see [`BatchFunction`].
    #[must_use]
    pub fn on_batch<F: BatchFunction<Marker>, Marker: 'static>(self, function: F) -> Self {
        self.batch_handler(Arc::new(TypedBatchHandler::new(function)))
    }
}

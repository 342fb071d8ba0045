//! Handlers that take the envelope as it is, for events without a Rust type.

use super::{DeliveryHandler, HandlerResult, IntoHandlerResult};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use tidings_core::extract::{FromDelivery, HandlerContext, States};
use tidings_core::{BoxFuture, Envelope, Pattern};

/// An `async fn` whose first argument is the [`Envelope`] and whose others, at most six, are extractors.
///
/// It is implemented for every such function; nobody writes an implementation.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of envelopes",
    label = "not a handler of envelopes",
    note = "a raw handler is an `async fn` whose first argument is an Envelope, whose other arguments, at most six, are extractors \
            (State<T>, Metadata, Emit, Shutdown), and which returns nothing or Result<(), E> for an error E, such as HandlerError",
    note = "its future must be Send: hold no Rc and no lock guard across an .await"
)]
pub trait RawFunction<Marker>: Send + Sync + 'static {
    /// Checks when a consumer starts that what the extractors need is there.
    fn check(&self, states: &States) -> Result<(), String>;

    /// Calls the function.
    ///
    /// **Cancel**: the function stops at its next await.
    fn call(&self, context: HandlerContext) -> impl Future<Output = HandlerResult> + Send;
}

/// Writes `RawFunction` for functions of one number of extractors; the marker is the tuple of the arguments.
macro_rules! raw_function_of {
    ($($extractor:ident $value:ident),*) => {
        impl<F, Fut, $($extractor,)*> RawFunction<(Envelope, $($extractor,)*)> for F
        where
            F: Fn(Envelope, $($extractor),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send,
            Fut::Output: IntoHandlerResult,
            $($extractor: FromDelivery,)*
        {
            fn check(&self, _states: &States) -> Result<(), String> {
                $($extractor::check(_states)?;)*
                Ok(())
            }

            async fn call(&self, context: HandlerContext) -> HandlerResult {
                $(let $value = $extractor::from_delivery(&context).await?;)*
                (self)(context.envelope, $($value),*).await.into_handler_result()
            }
        }
    };
}

raw_function_of!();
raw_function_of!(A1 a1);
raw_function_of!(A1 a1, A2 a2);
raw_function_of!(A1 a1, A2 a2, A3 a3);
raw_function_of!(A1 a1, A2 a2, A3 a3, A4 a4);
raw_function_of!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5);
raw_function_of!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5, A6 a6);

/// A function of envelopes as the runtime calls it.
pub struct RawHandler<F, Marker> {
    name: String,
    patterns: Vec<Pattern>,
    function: Arc<F>,
    marker: PhantomData<fn() -> Marker>,
}

impl<F: RawFunction<Marker>, Marker> RawHandler<F, Marker> {
    /// Makes a function callable by the runtime. Its name, from which the ids of emitted events are made, is the text of the pattern.
    pub fn new(pattern: Pattern, function: F) -> Self {
        Self {
            name: pattern.as_str().to_owned(),
            patterns: vec![pattern],
            function: Arc::new(function),
            marker: PhantomData,
        }
    }
}

impl<F, Marker> fmt::Debug for RawHandler<F, Marker> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawHandler")
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

impl<F: RawFunction<Marker>, Marker: 'static> DeliveryHandler for RawHandler<F, Marker> {
    fn name(&self) -> &str {
        &self.name
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn check(&self, states: &States) -> Result<(), String> {
        self.function.check(states)
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        let function = Arc::clone(&self.function);
        Box::pin(async move { function.call(context).await })
    }
}

//! Handlers that take the envelope as it is, for events without a Rust type.

use super::{DeliveryHandler, Handler, HandlerFuture, HandlerResult, IntoHandlerResult as _};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use tidings_core::extract::{
    DeliveryGuarantee, FromDelivery, HandlerContext, HandlerError, States,
};
use tidings_core::{BoxFuture, Envelope, Pattern};

/// The arguments of a raw handler: the [`Envelope`], then up to six extractors.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not the arguments of a raw handler",
    label = "the first argument is not an Envelope",
    note = "the first argument is an Envelope, the others, at most six, are extractors such as State<T>, Metadata, Emit, Shutdown or Tx<Db>"
)]
pub trait EnvelopeArguments: Sized + Send + 'static {
    /// What a function with these arguments claims.
    const DELIVERY: DeliveryGuarantee;

    /// Checks when a consumer starts that what the extractors need is there.
    fn check(states: &States) -> Result<(), String>;

    /// Takes envelope and values from a delivery.
    ///
    /// **Errors**: those of the extractors; they count as a failure of the handler.
    fn extract(context: HandlerContext) -> impl Future<Output = Result<Self, HandlerError>> + Send;
}

/// Writes `EnvelopeArguments` for one number of extractors.
macro_rules! envelope_arguments_of {
    ($($extractor:ident $value:ident),*) => {
        impl<$($extractor: FromDelivery + 'static,)*> EnvelopeArguments for (Envelope, $($extractor,)*) {
            const DELIVERY: DeliveryGuarantee = super::strongest(&[$($extractor::DELIVERY),*]);

            fn check(_states: &States) -> Result<(), String> {
                $($extractor::check(_states)?;)*
                Ok(())
            }

            async fn extract(context: HandlerContext) -> Result<Self, HandlerError> {
                $(let $value = $extractor::from_delivery(&context).await?;)*
                Ok((context.envelope, $($value,)*))
            }
        }
    };
}

super::each_count!(envelope_arguments_of);

/// A function of envelopes as the runtime calls it.
pub struct RawHandler<F, Arguments> {
    pattern: Pattern,
    function: Arc<F>,
    arguments: PhantomData<fn() -> Arguments>,
}

impl<F, Arguments> RawHandler<F, Arguments>
where
    F: Handler<Arguments>,
    F::Future: HandlerFuture,
    Arguments: EnvelopeArguments,
{
    /// Makes a function callable by the runtime, for events that match a pattern.
    pub fn new(pattern: Pattern, function: F) -> Self {
        Self {
            pattern,
            function: Arc::new(function),
            arguments: PhantomData,
        }
    }
}

impl<F, Arguments> fmt::Debug for RawHandler<F, Arguments> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawHandler")
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

impl<F, Arguments> DeliveryHandler for RawHandler<F, Arguments>
where
    F: Handler<Arguments>,
    F::Future: HandlerFuture,
    Arguments: EnvelopeArguments,
{
    fn name(&self) -> &str {
        self.function.name().unwrap_or(self.pattern.as_str())
    }

    fn patterns(&self) -> &[Pattern] {
        std::slice::from_ref(&self.pattern)
    }

    fn check(&self, states: &States) -> Result<(), String> {
        Arguments::check(states)
    }

    fn delivery(&self) -> DeliveryGuarantee {
        Arguments::DELIVERY
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        let function = Arc::clone(&self.function);
        Box::pin(async move {
            let arguments = Arguments::extract(context).await?;
            function.call(arguments).await.into_handler_result()
        })
    }
}

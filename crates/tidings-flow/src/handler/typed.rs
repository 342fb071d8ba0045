//! Handlers of typed events: the first argument of the function is the event, the others are extractors.

use super::{DeliveryHandler, Handler, HandlerFuture, HandlerResult, IntoHandlerResult as _};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use tidings_core::extract::{
    DeliveryGuarantee, FromDelivery, HandlerContext, HandlerError, States,
};
use tidings_core::payload::Carriage;
use tidings_core::{BoxFuture, Envelope, Event, EventType, Pattern};

/// The arguments of a handler of a typed event: the event, then up to six extractors.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not the arguments of a handler",
    label = "not the arguments of a handler",
    note = "the first argument is an event (a type with #[derive(Event)]), the others, at most six, are extractors such as State<T>, Metadata, Emit, Shutdown or Tx<Db>"
)]
pub trait EventArguments: Sized + Send + 'static {
    /// The event that is handled.
    type Event: Event;

    /// What a function with these arguments claims.
    const DELIVERY: DeliveryGuarantee;

    /// Checks when a consumer starts that what the extractors need is there.
    fn check(states: &States) -> Result<(), String>;

    /// Takes the extractors' values from a delivery.
    ///
    /// **Errors**: those of the extractors; they count as a failure of the handler.
    fn extract(
        event: Self::Event,
        context: HandlerContext,
    ) -> impl Future<Output = Result<Self, HandlerError>> + Send;
}

/// Writes `EventArguments` for one number of extractors.
macro_rules! event_arguments_of {
    ($($extractor:ident $value:ident),*) => {
        impl<E: Event, $($extractor: FromDelivery + 'static,)*> EventArguments for (E, $($extractor,)*) {
            type Event = E;

            const DELIVERY: DeliveryGuarantee = super::strongest(&[$($extractor::DELIVERY),*]);

            fn check(_states: &States) -> Result<(), String> {
                $($extractor::check(_states)?;)*
                Ok(())
            }

            async fn extract(event: E, _context: HandlerContext) -> Result<Self, HandlerError> {
                $(let $value = $extractor::from_delivery(&_context).await?;)*
                Ok((event, $($value,)*))
            }
        }
    };
}

super::each_count!(event_arguments_of);

/// A function as the runtime calls it: subscribes to exactly its event type and decodes the payload.
///
/// Every version of the type is handed over: a newer one is tried, since additions must not stop old consumers, and fails only if it does not decode.
///
/// **Errors**: a payload that does not decode is a permanent failure; its message names the type, the version and the place.
///
/// **Example**
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidings_core::Event;
/// use tidings_core::extract::{Emit, HandlerError, State};
/// use tidings_flow::handler::{DeliveryHandler as _, TypedHandler};
///
/// #[derive(Serialize, Deserialize)]
/// struct OrderPlaced {
///     order_id: String,
/// }
/// impl Event for OrderPlaced {
///     const TYPE: &'static str = "order.placed";
/// }
///
/// async fn reserve(order: OrderPlaced, State(shelf): State<String>, emit: Emit) -> Result<(), HandlerError> {
///     println!("{} from shelf {shelf}", order.order_id);
///     Ok(())
/// }
///
/// let handler = TypedHandler::new(reserve);
/// assert_eq!(handler.name(), "order.placed");
/// ```
pub struct TypedHandler<F, Arguments> {
    function: Arc<F>,
    patterns: [Pattern; 1],
    arguments: PhantomData<fn() -> Arguments>,
}

impl<F, Arguments> TypedHandler<F, Arguments>
where
    F: Handler<Arguments>,
    F::Future: HandlerFuture,
    Arguments: EventArguments,
{
    /// Makes a function callable by the runtime.
    pub fn new(function: F) -> Self {
        Self {
            function: Arc::new(function),
            patterns: [pattern_of::<Arguments::Event>()],
            arguments: PhantomData,
        }
    }
}

impl<F, Arguments> fmt::Debug for TypedHandler<F, Arguments> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedHandler")
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

impl<F, Arguments> DeliveryHandler for TypedHandler<F, Arguments>
where
    F: Handler<Arguments>,
    F::Future: HandlerFuture,
    Arguments: EventArguments,
{
    fn name(&self) -> &str {
        self.function.name().unwrap_or(Arguments::Event::TYPE)
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
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
            let event = decode(&context.envelope)?;
            let arguments = Arguments::extract(event, context).await?;
            function.call(arguments).await.into_handler_result()
        })
    }
}

/// The pattern that matches every version of a typed event.
pub(super) fn pattern_of<E: Event>() -> Pattern {
    Pattern::exact(&EventType::trusted(E::TYPE.to_owned()))
}

/// The typed event inside an envelope.
///
/// **Errors**: permanent; the message names type, version and the place in the payload.
pub(super) fn decode<E: Event>(envelope: &Envelope) -> Result<E, HandlerError> {
    let refused = |reason: String| {
        HandlerError::permanent_message(format!(
            "{} in version {} does not decode as version {} of this handler: {reason}",
            envelope.event_type().name(),
            envelope.version(),
            E::VERSION,
        ))
    };
    match envelope.payload_carriage() {
        None => Err(refused("it has no payload".to_owned())),
        Some(Carriage::Binary) if !is_json(envelope) => Err(refused(format!(
            "its payload is {}, a typed handler reads JSON; take the envelope with on_raw",
            envelope.content_type()
        ))),
        Some(_) => match envelope.payload_text() {
            Some(text) => serde_json::from_str(text),
            None => serde_json::from_slice(envelope.payload_bytes()),
        }
        .map_err(|error| refused(error.to_string())),
    }
}

/// Whether the content type says JSON, also by a suffix as in `application/problem+json; charset=utf-8`.
fn is_json(envelope: &Envelope) -> bool {
    let media = envelope
        .content_type()
        .split(';')
        .next()
        .unwrap_or("")
        .trim();
    media.eq_ignore_ascii_case("application/json")
        || media.eq_ignore_ascii_case("text/json")
        || media.to_ascii_lowercase().ends_with("+json")
}

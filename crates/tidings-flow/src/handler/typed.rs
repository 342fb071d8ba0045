//! Plain async functions as handlers: the first argument is the event, the others are extractors.

use super::{DeliveryHandler, HandlerResult, IntoHandlerResult};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use tidings_core::extract::{FromDelivery, HandlerContext, HandlerError, States};
use tidings_core::payload::Carriage;
use tidings_core::{BoxFuture, Envelope, Event, EventType, Pattern};

/// An `async fn` whose first argument is an event and whose others, at most six, are extractors.
///
/// It is implemented for every such function; nobody writes an implementation. The event type is read off the signature, and every version of it is handed over: a newer one is
/// tried, since additions must not stop old consumers, and fails only if it does not decode.
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of an event",
    label = "not a handler",
    note = "a handler is an `async fn` whose first argument is an event (a type with #[derive(Event)]), whose other arguments, at most six, are extractors \
            (State<T>, Metadata, Emit, Shutdown), and which returns nothing or Result<(), E> for an error E, such as HandlerError",
    note = "its future must be Send: hold no Rc and no lock guard across an .await"
)]
pub trait Handler<Marker>: Send + Sync + 'static {
    /// The event it handles.
    type Event: Event;

    /// Its name within the group: the ids of what it emits are made from it.
    ///
    /// The event type, unless [`named`](Self::named) says otherwise, so that it stays when code moves.
    fn name(&self) -> &str {
        Self::Event::TYPE
    }

    /// Checks when a consumer starts that what the extractors need is there.
    fn check(&self, states: &States) -> Result<(), String>;

    /// Calls the function.
    ///
    /// **Cancel**: the function stops at its next await.
    fn call(
        &self,
        event: Self::Event,
        context: HandlerContext,
    ) -> impl Future<Output = HandlerResult> + Send;

    /// The same function under another name, for a handler that takes the place of one that had this name: what it emits while handling an event again keeps its ids.
    fn named(self, name: impl Into<String>) -> Named<Self>
    where
        Self: Sized,
    {
        Named {
            name: name.into(),
            handler: self,
        }
    }
}

/// A handler with a name of its own; made by [`Handler::named`].
#[derive(Clone)]
pub struct Named<H> {
    name: String,
    handler: H,
}

impl<H> fmt::Debug for Named<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[diagnostic::do_not_recommend]
impl<H: Handler<Marker>, Marker> Handler<Marker> for Named<H> {
    type Event = H::Event;

    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, states: &States) -> Result<(), String> {
        self.handler.check(states)
    }

    fn call(
        &self,
        event: Self::Event,
        context: HandlerContext,
    ) -> impl Future<Output = HandlerResult> + Send {
        self.handler.call(event, context)
    }
}

/// Writes `Handler` for functions of one number of extractors; the marker is the tuple of the arguments.
macro_rules! handler_of {
    ($($extractor:ident $value:ident),*) => {
        impl<F, E, Fut, $($extractor,)*> Handler<(E, $($extractor,)*)> for F
        where
            F: Fn(E, $($extractor),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send,
            Fut::Output: IntoHandlerResult,
            E: Event,
            $($extractor: FromDelivery,)*
        {
            type Event = E;

            fn check(&self, _states: &States) -> Result<(), String> {
                $($extractor::check(_states)?;)*
                Ok(())
            }

            async fn call(&self, event: E, _context: HandlerContext) -> HandlerResult {
                $(let $value = $extractor::from_delivery(&_context).await?;)*
                (self)(event, $($value),*).await.into_handler_result()
            }
        }
    };
}

handler_of!();
handler_of!(A1 a1);
handler_of!(A1 a1, A2 a2);
handler_of!(A1 a1, A2 a2, A3 a3);
handler_of!(A1 a1, A2 a2, A3 a3, A4 a4);
handler_of!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5);
handler_of!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5, A6 a6);

/// A function as the runtime calls it: subscribes to exactly its event type and decodes the payload.
pub struct TypedHandler<H, Marker> {
    handler: std::sync::Arc<H>,
    patterns: [Pattern; 1],
    marker: PhantomData<fn() -> Marker>,
}

impl<H: Handler<Marker>, Marker> TypedHandler<H, Marker> {
    /// Makes a function callable by the runtime.
    pub fn new(handler: H) -> Self {
        Self {
            handler: std::sync::Arc::new(handler),
            patterns: [pattern_of::<H::Event>()],
            marker: PhantomData,
        }
    }
}

impl<H, Marker> fmt::Debug for TypedHandler<H, Marker> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedHandler")
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

impl<H: Handler<Marker>, Marker: 'static> DeliveryHandler for TypedHandler<H, Marker> {
    fn name(&self) -> &str {
        self.handler.name()
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn check(&self, states: &States) -> Result<(), String> {
        self.handler.check(states)
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        let handler = std::sync::Arc::clone(&self.handler);
        Box::pin(async move {
            let event = decode::<H::Event>(&context.envelope)?;
            handler.call(event, context).await
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
    match envelope.payload() {
        None => Err(refused("it has no payload".to_owned())),
        Some(payload) if payload.carriage() == Carriage::Binary && !is_json(envelope) => {
            Err(refused(format!(
                "its payload is {}, a typed handler reads JSON; take the envelope with on_raw",
                envelope.content_type()
            )))
        }
        Some(payload) => {
            serde_json::from_slice(payload.bytes()).map_err(|error| refused(error.to_string()))
        }
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

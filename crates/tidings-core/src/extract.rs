//! Extractors: what a handler can ask for beside the event, and the error it can answer with.

use crate::broker::{GroupName, Position};
use crate::correlation::Inherited;
use crate::envelope::EnvelopeError;
use crate::store::WorkSlot;
use crate::{Envelope, Event, EventType, Payload, Timestamp};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod batch;
mod error;

pub use batch::FromBatch;
pub use error::{HandlerError, HandlerErrorKind, HandlerResultExt};

/// What a handler is given: the delivery and what surrounds it.
#[derive(Debug, Clone)]
pub struct HandlerContext {
    /// The event being handled.
    pub envelope: Envelope,
    /// Where it stands, on a broker with a total order.
    pub position: Option<Position>,
    /// When the broker appended it, where it says.
    pub append_time: Option<Timestamp>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Takes what the handler emits.
    pub emit: Emit,
    /// Where an extractor leaves the transaction that it opens for the handler; one for all events of a batch.
    pub work: WorkSlot,
    /// What all deliveries of the consumer share.
    pub shared: Arc<HandlerShared>,
}

/// What all deliveries of one consumer share.
#[derive(Debug)]
pub struct HandlerShared {
    /// The group.
    pub group: GroupName,
    /// What the application shared with its handlers.
    pub states: States,
    /// Tells that the application is stopping.
    pub shutdown: Shutdown,
    /// How long one handling may take. What its process leaves open longer than that, others may give up.
    pub time_limit: Duration,
}

/// What may be said of a handler's effect when an event is delivered more than once, as happens after every crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeliveryGuarantee {
    /// The handler runs for every delivery: its effect is made at least once, and twice if a crash comes at the wrong moment.
    AtLeastOnce,
    /// The handler takes the transaction from its arguments: effect, inbox row and emitted events become true together, so the effect is made once however often the event is delivered,
    /// as long as the inbox remembers it.
    EffectOnce,
}

impl fmt::Display for DeliveryGuarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtLeastOnce => "at least once",
            Self::EffectOnce => "effect once",
        })
    }
}

/// Something that a handler can ask for in its arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "not an extractor",
    note = "after the event a handler may take: State<T>, Metadata, Emit, Shutdown, Tx<Db>, or a type that implements FromDelivery"
)]
pub trait FromDelivery: Sized + Send {
    /// What a handler can claim that takes this: [`EffectOnce`](DeliveryGuarantee::EffectOnce) for the transaction that holds the inbox row, and for nothing else.
    const DELIVERY: DeliveryGuarantee = DeliveryGuarantee::AtLeastOnce;

    /// Takes the value from a delivery.
    ///
    /// **Errors**: count as a failure of the handler.
    fn from_delivery(
        context: &HandlerContext,
    ) -> impl Future<Output = Result<Self, HandlerError>> + Send;

    /// Checks when a consumer starts that the value will be there; the message names what is missing and the way out.
    fn check(_states: &States) -> Result<(), String> {
        Ok(())
    }
}

/// Values that an application shares with its handlers, one of each type.
#[derive(Clone, Default)]
pub struct States {
    values: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl States {
    /// Adds a value; it replaces an earlier one of the same type.
    pub fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// A copy of the value of a type.
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.values
            .get(&TypeId::of::<T>())?
            .downcast_ref::<T>()
            .cloned()
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States")
            .field("count", &self.values.len())
            .finish()
    }
}

/// Extractor: a copy of the value that was given to the consumer with `.state(value)`.
#[derive(Debug, Clone)]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromDelivery for State<T> {
    async fn from_delivery(context: &HandlerContext) -> Result<Self, HandlerError> {
        context
            .shared
            .states
            .get::<T>()
            .map(Self)
            .ok_or_else(|| HandlerError::permanent_message(missing_state::<T>()))
    }

    fn check(states: &States) -> Result<(), String> {
        states.get::<T>().map(|_| ()).ok_or_else(missing_state::<T>)
    }
}

fn missing_state<T>() -> String {
    let name = std::any::type_name::<T>();
    format!(
        "a handler takes State<{name}>, but no such value was given; add .state(value) to the consumer"
    )
}

/// Extractor: the delivery's attributes.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// The envelope, raw payload included.
    pub envelope: Envelope,
    /// Where it stands, on a broker with a total order.
    pub position: Option<Position>,
    /// When the broker appended it, where it says.
    pub append_time: Option<Timestamp>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The group that handles it.
    pub group: GroupName,
}

impl FromDelivery for Metadata {
    async fn from_delivery(context: &HandlerContext) -> Result<Self, HandlerError> {
        Ok(Self {
            envelope: context.envelope.clone(),
            position: context.position,
            append_time: context.append_time,
            attempt: context.attempt,
            group: context.shared.group.clone(),
        })
    }
}

/// Extractor: tells a long handler that the application is stopping.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: Arc<AtomicBool>,
}

impl Shutdown {
    /// Whether the application is stopping.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Tells every holder that the application is stopping.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Release);
    }
}

impl FromDelivery for Shutdown {
    async fn from_delivery(context: &HandlerContext) -> Result<Self, HandlerError> {
        Ok(context.shared.shutdown.clone())
    }
}

/// An event that a handler wants to state, before it has an id.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The type.
    pub event_type: EventType,
    /// Version of the payload's schema.
    pub version: Option<u32>,
    /// What the fact is about.
    pub aggregate_id: Option<String>,
    /// Who states it; the consumer's group where absent.
    pub source: Option<String>,
    /// When it happened; the time of publishing where absent.
    pub timestamp: Option<crate::timestamp::GivenTimestamp>,
    /// What the payload's bytes are; absent means JSON.
    pub content_type: Option<String>,
    /// Further attributes: name and JSON text.
    pub extensions: Vec<(String, String)>,
    /// The payload.
    pub payload: Option<Payload>,
}

impl Draft {
    /// A typed event as a draft.
    ///
    /// **Errors**: the payload cannot be written as JSON; permanent.
    pub fn of<E: Event>(event: &E) -> Result<Self, serde_json::Error> {
        Ok(Self {
            event_type: EventType::trusted(E::TYPE.to_owned()),
            version: Some(E::VERSION),
            aggregate_id: event.key().map(std::borrow::Cow::into_owned),
            source: E::SOURCE.map(str::to_owned),
            timestamp: None,
            content_type: None,
            extensions: Vec::new(),
            payload: Some(Payload::trusted(
                serde_json::to_vec(event)?.into(),
                crate::payload::Carriage::Json,
            )),
        })
    }

    /// The envelope of this draft under an id.
    ///
    /// **Errors**: a value over its limit.
    pub fn into_envelope(
        self,
        event_id: String,
        now: Timestamp,
        inherited: Option<Inherited>,
    ) -> Result<Envelope, EnvelopeError> {
        let mut extensions = self.extensions;
        let mut correlation_id = Some(event_id.clone());
        let mut causation_id = None;
        if let Some(inherited) = inherited {
            correlation_id = Some(inherited.correlation_id);
            causation_id = inherited.causation_id;
            for (name, value) in inherited.trace {
                if !extensions.iter().any(|(given, _)| *given == name) {
                    extensions.push((name, value));
                }
            }
        }
        Envelope::new(crate::EnvelopeParts {
            event_id,
            event_type: self.event_type,
            aggregate_id: self.aggregate_id,
            timestamp: Some(self.timestamp.unwrap_or_else(|| now.into())),
            version: self.version,
            source: self.source,
            correlation_id,
            causation_id,
            content_type: self.content_type,
            extensions,
            payload: self.payload,
        })
    }
}

/// Extractor: takes the events that a handler emits. They are published, in order, once the handler has succeeded; a handler that fails emits nothing.
#[derive(Debug, Clone, Default)]
pub struct Emit {
    /// Guards the drafts of one handling; held for a push only.
    drafts: Arc<Mutex<Vec<Draft>>>,
}

impl Emit {
    /// Emits a typed event. It inherits the correlation of the event being handled and names it as its cause.
    ///
    /// **Errors**: the payload cannot be written as JSON; permanent.
    pub fn event<E: Event>(&self, event: &E) -> Result<(), HandlerError> {
        let draft = Draft::of(event).permanent()?;
        self.draft(draft)
    }

    /// Emits an event that has no Rust type.
    ///
    /// **Errors**: more than [`EMITTED_EVENTS_MAX`](crate::limits::EMITTED_EVENTS_MAX) events of one handling; permanent.
    pub fn draft(&self, draft: Draft) -> Result<(), HandlerError> {
        let mut drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        if drafts.len() >= crate::limits::EMITTED_EVENTS_MAX {
            let message = format!(
                "a handling may emit {} events at most; split the work",
                crate::limits::EMITTED_EVENTS_MAX
            );
            return Err(HandlerError::permanent_message(message));
        }
        drafts.push(draft);
        Ok(())
    }

    /// Whether nothing was emitted so far.
    pub fn is_empty(&self) -> bool {
        self.drafts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Whether nobody else can emit into it any more and nothing was emitted, so that the next handling may have it.
    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.drafts) == 1 && self.is_empty()
    }

    /// Takes what was emitted so far.
    pub fn take(&self) -> Vec<Draft> {
        std::mem::take(&mut *self.drafts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl FromDelivery for Emit {
    async fn from_delivery(context: &HandlerContext) -> Result<Self, HandlerError> {
        Ok(context.emit.clone())
    }
}

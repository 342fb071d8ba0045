//! Handlers that take several events in one call, each of another key, and answer for each.

use super::typed::{decode, pattern_of};
use super::{BatchHandler, Handler, HandlerResult};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use tidings_core::extract::{
    Emit, FromDelivery, HandlerContext, HandlerError, HandlerShared, Metadata, Shutdown, State,
    States,
};
use tidings_core::limits::HANDLER_BATCH_EVENTS_MAX;
use tidings_core::{BoxFuture, Event, Pattern};

/// One event of a batch.
#[derive(Debug)]
pub struct BatchItem<E> {
    /// The event.
    pub event: E,
    /// Its attributes.
    pub metadata: Metadata,
    /// Takes what is emitted on behalf of this event; published if the answer for it is success.
    pub emit: Emit,
}

/// Something that a batch handler can ask for beside the events: what belongs to the consumer, not to one delivery.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a batch handler",
    label = "does not belong to the batch as a whole",
    note = "after the events a batch handler may take State<T> and Shutdown; metadata and emit belong to one event and are fields of its BatchItem"
)]
pub trait FromShared: Sized + Send {
    /// Takes the value from what all deliveries share.
    ///
    /// **Errors**: count as a failure of every event of the batch.
    fn from_shared(shared: &HandlerShared) -> Result<Self, HandlerError>;

    /// Checks when a consumer starts that the value will be there.
    fn check(_states: &States) -> Result<(), String> {
        Ok(())
    }
}

impl<T: Clone + Send + Sync + 'static> FromShared for State<T> {
    fn from_shared(shared: &HandlerShared) -> Result<Self, HandlerError> {
        <Self as FromShared>::check(&shared.states).map_err(HandlerError::permanent_message)?;
        shared
            .states
            .get::<T>()
            .map(Self)
            .ok_or_else(|| HandlerError::permanent_message("the state is gone"))
    }

    fn check(states: &States) -> Result<(), String> {
        <Self as FromDelivery>::check(states)
    }
}

impl FromShared for Shutdown {
    fn from_shared(shared: &HandlerShared) -> Result<Self, HandlerError> {
        Ok(shared.shutdown.clone())
    }
}

/// The arguments of a batch handler: a `Vec` of [`BatchItem`]s, then up to six values that belong to the batch as a whole.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not the arguments of a batch handler",
    label = "the first argument is not a Vec<BatchItem<E>>",
    note = "the first argument is a Vec<BatchItem<E>> of an event E (a type with #[derive(Event)]), the others, at most six, are State<T> or Shutdown"
)]
pub trait BatchArguments: Sized + Send + 'static {
    /// The event that is handled.
    type Event: Event;

    /// Checks when a consumer starts that what the function asks for is there.
    fn check(states: &States) -> Result<(), String>;

    /// Puts the items and what the consumer shares together.
    ///
    /// **Errors**: count as a failure of every event of the batch.
    fn extract(
        items: Vec<BatchItem<Self::Event>>,
        shared: &HandlerShared,
    ) -> Result<Self, HandlerError>;
}

/// Writes `BatchArguments` for one number of further arguments.
macro_rules! batch_arguments_of {
    ($($argument:ident $value:ident),*) => {
        impl<E: Event, $($argument: FromShared + 'static,)*> BatchArguments for (Vec<BatchItem<E>>, $($argument,)*) {
            type Event = E;

            fn check(_states: &States) -> Result<(), String> {
                $($argument::check(_states)?;)*
                Ok(())
            }

            fn extract(items: Vec<BatchItem<E>>, _shared: &HandlerShared) -> Result<Self, HandlerError> {
                $(let $value = $argument::from_shared(_shared)?;)*
                Ok((items, $($value,)*))
            }
        }
    };
}

super::each_count!(batch_arguments_of);

/// A function of batches as the runtime calls it: subscribes to exactly its event type and decodes the payloads.
///
/// It is an `async fn` from the arguments to one result for each item, in their order.
///
/// **Errors**: an event that does not decode is answered for with a permanent failure and is not among the items. An answer with another number of results is a permanent failure
/// of the whole batch.
pub struct TypedBatchHandler<F, Arguments> {
    function: Arc<F>,
    patterns: [Pattern; 1],
    events_max: usize,
    arguments: PhantomData<fn() -> Arguments>,
}

impl<F, Arguments> TypedBatchHandler<F, Arguments>
where
    F: Handler<Arguments>,
    F::Future: Future<Output = Vec<HandlerResult>> + Send + 'static,
    Arguments: BatchArguments,
{
    /// Makes a function callable by the runtime, with up to [`HANDLER_BATCH_EVENTS_MAX`] events a call.
    pub fn new(function: F) -> Self {
        Self {
            function: Arc::new(function),
            patterns: [pattern_of::<Arguments::Event>()],
            events_max: HANDLER_BATCH_EVENTS_MAX,
            arguments: PhantomData,
        }
    }

    /// Events of one call at most; from 1 to [`HANDLER_BATCH_EVENTS_MAX`], a value outside is brought to the nearer end.
    pub fn of_at_most(self, events_max: usize) -> Self {
        Self {
            events_max: events_max.clamp(1, HANDLER_BATCH_EVENTS_MAX),
            ..self
        }
    }
}

impl<F, Arguments> fmt::Debug for TypedBatchHandler<F, Arguments> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedBatchHandler")
            .field("patterns", &self.patterns)
            .field("events_max", &self.events_max)
            .finish_non_exhaustive()
    }
}

impl<F, Arguments> BatchHandler for TypedBatchHandler<F, Arguments>
where
    F: Handler<Arguments>,
    F::Future: Future<Output = Vec<HandlerResult>> + Send + 'static,
    Arguments: BatchArguments,
{
    fn name(&self) -> &str {
        self.function.name().unwrap_or(Arguments::Event::TYPE)
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn events_max(&self) -> usize {
        self.events_max
    }

    fn check(&self, states: &States) -> Result<(), String> {
        Arguments::check(states)
    }

    fn handle(&self, contexts: Vec<HandlerContext>) -> BoxFuture<'static, Vec<HandlerResult>> {
        let function = Arc::clone(&self.function);
        Box::pin(async move {
            let (items, mut answers) = decode_all::<Arguments::Event>(&contexts).await;
            let expected = items.len();
            let given = match contexts.first() {
                Some(context) if expected > 0 => match Arguments::extract(items, &context.shared) {
                    Ok(arguments) => Ok(function.call(arguments).await),
                    Err(error) => Err(error),
                },
                _ => Ok(Vec::new()),
            };
            merge(&mut answers, given, expected);
            answers
        })
    }
}

/// The events that decode, and an answer for each delivery: a failure where it does not decode, success to be overwritten where it does.
async fn decode_all<E: Event>(
    contexts: &[HandlerContext],
) -> (Vec<BatchItem<E>>, Vec<HandlerResult>) {
    let mut items = Vec::with_capacity(contexts.len());
    let mut answers = Vec::with_capacity(contexts.len());
    for context in contexts {
        match item(context).await {
            Ok(item) => {
                items.push(item);
                answers.push(Ok(()));
            }
            Err(error) => answers.push(Err(error)),
        }
    }
    (items, answers)
}

async fn item<E: Event>(context: &HandlerContext) -> Result<BatchItem<E>, HandlerError> {
    Ok(BatchItem {
        event: decode(&context.envelope)?,
        metadata: Metadata::from_delivery(context).await?,
        emit: context.emit.clone(),
    })
}

/// Puts the function's results in the places of the events that it was given.
fn merge(
    answers: &mut [HandlerResult],
    given: Result<Vec<HandlerResult>, HandlerError>,
    expected: usize,
) {
    let failure = match given {
        Ok(results) if results.len() == expected => {
            let places = answers.iter_mut().filter(|answer| answer.is_ok());
            for (place, result) in places.zip(results) {
                *place = result;
            }
            return;
        }
        // Which result belongs to which event is unknown, so none can be believed.
        Ok(results) => HandlerError::permanent_message(format!(
            "the batch handler answered with {} results for {expected} events; it must answer for each, in order",
            results.len()
        )),
        Err(error) => error,
    };
    for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
        let copy = HandlerError::permanent_message(failure.chain().join(": "));
        *answer = Err(copy.with_kind(failure.kind()));
    }
}

//! Handlers that take several events in one call, each of another key, and answer for each.

use super::typed::{decode, pattern_of};
use super::{BatchHandler, Handler, HandlerResult};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use tidings_core::extract::{
    DeliveryGuarantee, Emit, FromBatch, FromDelivery as _, HandlerContext, HandlerError, Metadata,
    States,
};
use tidings_core::limits::HANDLER_BATCH_EVENTS_MAX;
use tidings_core::store::Admission;
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

/// The arguments of a batch handler: a `Vec` of [`BatchItem`]s, then up to six values that belong to the batch as a whole.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not the arguments of a batch handler",
    label = "the first argument is not a Vec<BatchItem<E>>",
    note = "the first argument is a Vec<BatchItem<E>> of an event E (a type with #[derive(Event)]), the others, at most six, are State<T>, Shutdown or Tx<Db>"
)]
pub trait BatchArguments: Sized + Send + 'static {
    /// The event that is handled.
    type Event: Event;

    /// What a function with these arguments claims.
    const DELIVERY: DeliveryGuarantee;

    /// Checks when a consumer starts that what the function asks for is there.
    fn check(states: &States) -> Result<(), String>;

    /// Puts the items that are new and what belongs to the batch together.
    ///
    /// **Errors**: count as a failure of every event of the batch.
    fn extract(
        items: Vec<BatchItem<Self::Event>>,
        deliveries: Vec<HandlerContext>,
    ) -> impl Future<Output = Result<Self, HandlerError>> + Send;
}

/// Writes `BatchArguments` for one number of further arguments.
macro_rules! batch_arguments_of {
    ($($argument:ident $value:ident),*) => {
        impl<E: Event, $($argument: FromBatch + 'static,)*> BatchArguments for (Vec<BatchItem<E>>, $($argument,)*) {
            type Event = E;

            const DELIVERY: DeliveryGuarantee = super::strongest(&[$($argument::DELIVERY),*]);

            fn check(_states: &States) -> Result<(), String> {
                $($argument::check(_states)?;)*
                Ok(())
            }

            async fn extract(items: Vec<BatchItem<E>>, _deliveries: Vec<HandlerContext>) -> Result<Self, HandlerError> {
                $(let $value = $argument::from_batch(&_deliveries).await?;)*
                Ok((admitted(items, &_deliveries), $($value,)*))
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

    fn delivery(&self) -> DeliveryGuarantee {
        Arguments::DELIVERY
    }

    fn handle(&self, contexts: Vec<HandlerContext>) -> BoxFuture<'static, Vec<HandlerResult>> {
        let function = Arc::clone(&self.function);
        Box::pin(async move {
            let decoded = decode_all::<Arguments::Event>(contexts).await;
            let mut answers = decoded.answers;
            let Some(first) = decoded.deliveries.first() else {
                return answers;
            };
            let work = first.work.clone();
            let extracted = Arguments::extract(decoded.items, decoded.deliveries).await;
            let given = match extracted {
                Ok(arguments) => {
                    answer_for_known(&mut answers, &work.admissions());
                    let expected = answers.iter().filter(|answer| answer.is_ok()).count();
                    expect(function.call(arguments).await, expected)
                }
                Err(error) => Err(error),
            };
            merge(&mut answers, given);
            answers
        })
    }
}

/// The deliveries of a call, taken apart.
struct Decoded<E> {
    /// The events that decode.
    items: Vec<BatchItem<E>>,
    /// Their deliveries.
    deliveries: Vec<HandlerContext>,
    /// An answer for each delivery of the call: a failure where it does not decode, success to be overwritten where it does.
    answers: Vec<HandlerResult>,
}

async fn decode_all<E: Event>(contexts: Vec<HandlerContext>) -> Decoded<E> {
    let mut decoded = Decoded {
        items: Vec::with_capacity(contexts.len()),
        deliveries: Vec::with_capacity(contexts.len()),
        answers: Vec::with_capacity(contexts.len()),
    };
    for context in contexts {
        match item(&context).await {
            Ok(item) => {
                decoded.items.push(item);
                decoded.deliveries.push(context);
                decoded.answers.push(Ok(()));
            }
            Err(error) => decoded.answers.push(Err(error)),
        }
    }
    decoded
}

/// The items that an inbox, if one was asked, calls new.
fn admitted<E>(items: Vec<BatchItem<E>>, deliveries: &[HandlerContext]) -> Vec<BatchItem<E>> {
    let admissions = deliveries
        .first()
        .map(|delivery| delivery.work.admissions())
        .unwrap_or_default();
    let mut admissions = admissions.into_iter();
    items
        .into_iter()
        .filter(|_| admissions.next() != Some(Admission::HandledBefore))
        .collect()
}

/// Answers for the events that an inbox knows and the function is not given.
fn answer_for_known(answers: &mut [HandlerResult], admissions: &[Admission]) {
    let places = answers.iter_mut().filter(|answer| answer.is_ok());
    for (place, admission) in places.zip(admissions) {
        if *admission == Admission::HandledBefore {
            *place = Err(HandlerError::handled_before());
        }
    }
}

async fn item<E: Event>(context: &HandlerContext) -> Result<BatchItem<E>, HandlerError> {
    Ok(BatchItem {
        event: decode(&context.envelope)?,
        metadata: Metadata::from_delivery(context).await?,
        emit: context.emit.clone(),
    })
}

/// The function's results, if there is one for each event that it was given; else it is unknown which belongs to which, so none can be believed.
fn expect(
    results: Vec<HandlerResult>,
    expected: usize,
) -> Result<Vec<HandlerResult>, HandlerError> {
    if results.len() == expected {
        return Ok(results);
    }
    Err(HandlerError::permanent_message(format!(
        "the batch handler answered with {} results for {expected} events; it must answer for each, in order",
        results.len()
    )))
}

/// Puts the function's results in the places of the events that it was given, or one failure in all of them.
fn merge(answers: &mut [HandlerResult], given: Result<Vec<HandlerResult>, HandlerError>) {
    let mut places = answers.iter_mut().filter(|answer| answer.is_ok());
    match given {
        Ok(results) => {
            for (place, result) in places.zip(results) {
                *place = result;
            }
        }
        Err(failure) => {
            // The first keeps the error itself, from which the runtime reads whether it is the events' fault; the others need its words.
            let words = failure.chain().join(": ");
            let kind = failure.kind();
            if let Some(place) = places.next() {
                *place = Err(failure);
            }
            for place in places {
                *place = Err(HandlerError::permanent_message(words.clone()).with_kind(kind));
            }
        }
    }
}

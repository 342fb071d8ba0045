//! Publishing: an idempotent producer with every event in flight at once and an outcome for each.
//!
//! What keeps the order of a key through trouble: a message that is refused stops the producer, one that gets no answer in time gives up everything in flight
//! with it, and in both cases another producer takes its place. So of each key a first part is written and nothing behind it.

use super::client::create;
use super::config::KafkaConfig;
use super::mapping::{NAME, Outgoing, outgoing, publish_error};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidings_core::broker::{BrokerError, PublishError, PublishOutcome, Receipt};
use tidings_core::{Envelope, ErrorClass, codes};
use tokio::sync::Notify;
use tokio::time::timeout;

/// What was given up is heard of within this time.
const GIVE_UP: Duration = Duration::from_secs(2);
/// A full queue is looked at again after so long at the latest.
const ROOM_WAIT: Duration = Duration::from_millis(20);
/// Others get a turn after so many events.
const EVENTS_PER_TURN: usize = 1_024;

/// Publishes to one topic.
pub(super) struct Producer {
    config: Arc<KafkaConfig>,
    message_bytes_max: u32,
    /// Guards which producer is in use; none once closed. Held to look or to swap.
    live: Mutex<Option<Arc<Live>>>,
}

/// A producer of the library and its thread.
struct Live {
    /// Gone only while being dropped.
    inner: Option<ThreadedProducer<Deliveries>>,
}

impl Live {
    fn new(config: &KafkaConfig, message_bytes_max: u32) -> Result<Self, BrokerError> {
        let settings = config.producer(message_bytes_max);
        let inner = create(config, &settings, Deliveries::default())?;
        Ok(Self { inner: Some(inner) })
    }

    fn inner(&self) -> &ThreadedProducer<Deliveries> {
        self.inner.as_ref().expect("it is taken in drop alone")
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let inner = self.inner.take();
        // Its end waits for its thread and its connections, which no task should.
        let ended = std::thread::Builder::new()
            .name("tidings-kafka-end".to_owned())
            .spawn(move || drop(inner));
        if let Err(error) = ended {
            tracing::warn!("a producer of Kafka was ended on the spot: {error}");
        }
    }
}

/// Hears of deliveries.
#[derive(Default)]
struct Deliveries {
    /// Something left the queue.
    room: Notify,
    /// The library wants no more messages.
    is_stopped: AtomicBool,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        tracing::debug!(target: "tidings_brokers::kafka", ?level, facility = fac, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "tidings_brokers::kafka", "{error}: {reason}");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.is_stopped.store(true, Ordering::Release);
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let outcome = match result {
            Ok(_) => Ok(Receipt { position: None }),
            Err((error, _)) => {
                let code = error.rdkafka_error_code();
                if code == Some(RDKafkaErrorCode::GaplessGuarantee)
                    || code == Some(RDKafkaErrorCode::Fatal)
                {
                    self.is_stopped.store(true, Ordering::Release);
                }
                Err(publish_error(error))
            }
        };
        ticket.batch.tell(ticket.index, outcome);
        self.room.notify_waiters();
    }
}

/// Which event of which batch a delivery is about.
struct Ticket {
    batch: Arc<Outcomes>,
    index: usize,
}

/// The outcomes of a batch as they come in.
struct Outcomes {
    /// Guards the outcomes and the count of those to come; held for one change.
    inner: Mutex<Told>,
    all_told: Notify,
    /// How many events, from the first on, were looked at: none behind them is in the library's queue.
    reached: AtomicUsize,
}

struct Told {
    outcomes: Vec<Option<PublishOutcome>>,
    open: usize,
}

impl Outcomes {
    fn new(events: usize) -> Self {
        let mut outcomes = Vec::new();
        outcomes.resize_with(events, || None);
        Self {
            inner: Mutex::new(Told {
                outcomes,
                open: events,
            }),
            all_told: Notify::new(),
            reached: AtomicUsize::new(0),
        }
    }

    /// Tells of the events that were not looked at.
    fn tell_rest_not_attempted(&self, events: usize) {
        for index in self.reached.load(Ordering::Acquire)..events {
            self.tell(index, Err(PublishError::NotAttempted));
        }
    }

    fn tell(&self, index: usize, outcome: PublishOutcome) {
        let mut told = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = told.outcomes.get_mut(index) else {
            return;
        };
        if place.replace(outcome).is_none() {
            told.open -= 1;
            if told.open == 0 {
                self.all_told.notify_one();
            }
        }
    }

    async fn wait(&self) {
        loop {
            let told = self.all_told.notified();
            if self
                .inner
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .open
                == 0
            {
                return;
            }
            told.await;
        }
    }

    fn take(&self) -> Vec<Option<PublishOutcome>> {
        let mut told = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut told.outcomes)
    }
}

impl Producer {
    pub(super) fn new(
        config: &Arc<KafkaConfig>,
        message_bytes_max: u32,
    ) -> Result<Self, BrokerError> {
        let live = Live::new(config, message_bytes_max)?;
        Ok(Self {
            config: Arc::clone(config),
            message_bytes_max,
            live: Mutex::new(Some(Arc::new(live))),
        })
    }

    /// Hands over a batch; an outcome for each event within the time limit.
    pub(super) async fn publish(&self, batch: &[Envelope]) -> Vec<PublishOutcome> {
        if batch.is_empty() {
            return Vec::new();
        }
        let live = match self.live() {
            Ok(live) => live,
            Err(error) => return refused(batch, &error),
        };
        let outcomes = Arc::new(Outcomes::new(batch.len()));
        let limit = self.config.publish_timeout;
        let sent = timeout(limit, async {
            self.send_all(&live, batch, &outcomes).await;
            outcomes.wait().await;
        })
        .await;
        if sent.is_err() {
            outcomes.tell_rest_not_attempted(batch.len());
            self.replace(&live);
            // Whatever the library still has is told at once.
            let _ = timeout(GIVE_UP, outcomes.wait()).await;
        } else if live.inner().context().is_stopped.load(Ordering::Acquire) {
            self.replace(&live);
        }
        finish(batch, outcomes.take(), limit)
    }

    async fn send_all(&self, live: &Live, batch: &[Envelope], outcomes: &Arc<Outcomes>) {
        let mut failed_keys = HashSet::new();
        for (index, envelope) in batch.iter().enumerate() {
            let event = outgoing(envelope);
            if let Some(key) = &event.key
                && failed_keys.contains(key.as_ref())
            {
                outcomes.tell(index, Err(PublishError::NotAttempted));
                outcomes.reached.store(index + 1, Ordering::Release);
                continue;
            }
            let key = event.key.clone();
            let ticket = Box::new(Ticket {
                batch: Arc::clone(outcomes),
                index,
            });
            if let Err(error) = self.send(live, event, ticket).await {
                failed_keys.extend(key.map(|key| key.into_owned()));
                outcomes.tell(index, Err(error));
            }
            outcomes.reached.store(index + 1, Ordering::Release);
            if index % EVENTS_PER_TURN == EVENTS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Puts one event into the queue, as soon as there is room.
    async fn send(
        &self,
        live: &Live,
        event: Outgoing<'_>,
        ticket: Box<Ticket>,
    ) -> Result<(), PublishError> {
        let bytes_max = usize::try_from(self.message_bytes_max).unwrap_or(usize::MAX);
        if event.bytes > bytes_max {
            return Err(PublishError::Refused {
                reason: format!(
                    "the message has about {} bytes, the topic {} takes {bytes_max}; send a reference to the data, or raise max.message.bytes of the topic",
                    event.bytes, self.config.topic
                ),
                class: ErrorClass::Permanent,
                code: codes::LIMIT_EXCEEDED,
            });
        }
        let mut record = BaseRecord::with_opaque_to(&self.config.topic, ticket)
            .payload(event.body.as_ref())
            .headers(event.headers);
        if let Some(key) = &event.key {
            record = record.key(key.as_bytes());
        }
        loop {
            let context = live.inner().context();
            let room = context.room.notified();
            match live.inner().send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    // Nothing may leave the queue for a while, or may have left just now.
                    let _ = timeout(ROOM_WAIT, room).await;
                }
                Err((error, _)) => {
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                        context.is_stopped.store(true, Ordering::Release);
                        return Err(PublishError::Refused {
                            reason: "the producer was stopped by an earlier failure".to_owned(),
                            class: ErrorClass::Transient,
                            code: codes::BROKER_FAILED,
                        });
                    }
                    return Err(publish_error(&error));
                }
            }
        }
    }

    fn live(&self) -> Result<Arc<Live>, BrokerError> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.clone().ok_or(BrokerError::Closed)
    }

    /// Gives up what a producer has and puts another in its place.
    fn replace(&self, old: &Arc<Live>) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, old))
        {
            match Live::new(&self.config, self.message_bytes_max) {
                Ok(new) => *live = Some(Arc::new(new)),
                Err(error) => tracing::warn!("a producer of Kafka could not be replaced: {error}"),
            }
        }
        drop(live);
        old.inner().purge(PurgeConfig::default().queue().inflight());
    }

    /// Waits for what is in flight and lets go.
    pub(super) async fn close(&self) -> Result<(), BrokerError> {
        let live = self
            .live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(live) = live else {
            return Ok(());
        };
        let limit = self.config.publish_timeout;
        let address = self.config.address.clone();
        let flushed = tokio::task::spawn_blocking(move || live.inner().flush(limit)).await;
        match flushed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(super::mapping::broker_error(
                &address,
                "send what was in flight",
                &error,
            )),
            Err(_) => Err(BrokerError::Bug {
                what: "the end of a producer of Kafka",
            }),
        }
    }
}

/// The same refusal for all events.
pub(super) fn refused(batch: &[Envelope], error: &BrokerError) -> Vec<PublishOutcome> {
    batch
        .iter()
        .map(|_| Err(PublishError::refused(error)))
        .collect()
}

/// Fills in what was not told, and tells nothing good of an event behind a failed one of its key.
fn finish(
    batch: &[Envelope],
    outcomes: Vec<Option<PublishOutcome>>,
    limit: Duration,
) -> Vec<PublishOutcome> {
    let mut told: Vec<PublishOutcome> = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or(Err(PublishError::Timeout { limit })))
        .collect();
    if told.iter().all(Result::is_ok) {
        return told;
    }
    let mut failed_keys = HashSet::new();
    for (outcome, envelope) in told.iter_mut().zip(batch) {
        let Some(key) = envelope.key() else {
            continue;
        };
        if outcome.is_err() {
            failed_keys.insert(key.into_owned());
        } else if failed_keys.contains(key.as_ref()) {
            *outcome = Err(PublishError::Ambiguous {
                reason: format!("{NAME} took it, but not an earlier event of its key"),
            });
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, key: &str) -> Envelope {
        let json = format!(
            r#"{{"event_id":"{id}","event_type":"order.placed","aggregate_id":"{key}","payload":1}}"#
        );
        Envelope::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn nothing_behind_a_failed_event_of_its_key_counts_as_written() {
        let batch = [event("1", "a"), event("2", "b"), event("3", "a")];
        let written = || Some(Ok(Receipt { position: None }));

        let told = finish(&batch, vec![None, written(), written()], Duration::ZERO);

        assert!(matches!(&told[0], Err(PublishError::Timeout { .. })));
        assert!(told[1].is_ok());
        assert!(matches!(&told[2], Err(PublishError::Ambiguous { .. })));
    }
}

//! The producer: stamps events, checks them against the limits and hands them to the broker.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{Broker, PublishError, PublishOutcome, Receipt};
use tidings_core::correlation::Inherited;
use tidings_core::extract::Draft;
use tidings_core::limits::{BATCH_EVENTS_MAX, PUBLISH_QUEUE_EVENTS_MAX, PUBLISH_TIMEOUT_DEFAULT};
use tidings_core::seam::{Chance, Clock};
use tidings_core::{Envelope, ErrorClass, Event, codes, event_id};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How a producer publishes.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Who states the events that do not say so themselves.
    pub source: Option<String>,
    /// How long one call waits for room in the queue and for the outcome, together.
    pub timeout: Duration,
    /// Events of this producer and its clones that may be on their way; further calls wait.
    pub queue_events_max: usize,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            source: None,
            timeout: PUBLISH_TIMEOUT_DEFAULT,
            queue_events_max: PUBLISH_QUEUE_EVENTS_MAX,
        }
    }
}

/// An event that the broker has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The id that it was given.
    pub event_id: String,
    /// The broker's proof.
    pub receipt: Receipt,
}

/// What a publisher knows of an event beside its content; what is absent is stamped.
#[derive(Debug, Clone, Default)]
pub struct Stamp {
    /// The id; a fresh UUIDv7 where absent. Give the id of an earlier try to repeat it.
    pub event_id: Option<String>,
    /// The flow that it belongs to; the cause's, else its own id where absent.
    pub correlation_id: Option<String>,
    /// The event that caused it; the cause's id where absent.
    pub causation_id: Option<String>,
    /// What it inherits correlation, causation and trace from.
    pub inherited: Option<Inherited>,
}

/// Publishes events. Clones share the queue.
///
/// **Guarantee**: an event whose `publish` succeeded was accepted by the broker with the durability that the broker declares. Events published one after
/// the other by one caller keep their order; of one call, events keep theirs.
///
/// **Source**: seed concept *producer*.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    config: ProducerConfig,
    /// One permit for each event on its way.
    queue: Semaphore,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl Producer {
    /// A producer for a broker. A queue of no events is taken as one of a single event.
    pub fn new(
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        mut config: ProducerConfig,
    ) -> Self {
        config.queue_events_max = config.queue_events_max.clamp(1, Semaphore::MAX_PERMITS);
        let queue = Semaphore::new(config.queue_events_max);
        Self {
            inner: Arc::new(Inner {
                broker,
                clock,
                chance,
                config,
                queue,
            }),
        }
    }

    /// Who states the events that do not say so themselves, if that was configured.
    pub fn source(&self) -> Option<&str> {
        self.inner.config.source.as_deref()
    }

    /// Publishes one event under a fresh id.
    ///
    /// **Errors**: [`PublishError`]; ask [`PublishError::may_have_happened`] before publishing again.
    ///
    /// **Cancel**: before the event has left the queue nothing happens; after that it may or may not be published.
    pub async fn publish<E: Event>(&self, event: &E) -> Result<Published, PublishError> {
        self.publish_draft(draft_of(event)?).await
    }

    /// Publishes one event as a consequence of another: it inherits correlation and trace, and names the other as its cause.
    ///
    /// A handler emits instead: what it emits is published only if it succeeds, under an id that repeats.
    ///
    /// **Errors**, **Cancel**: as [`publish`](Self::publish).
    pub async fn publish_caused_by<E: Event>(
        &self,
        cause: &Envelope,
        event: &E,
    ) -> Result<Published, PublishError> {
        let stamp = Stamp {
            inherited: Some(Inherited::from(cause)),
            ..Stamp::default()
        };
        self.publish_stamped(draft_of(event)?, stamp).await
    }

    /// Publishes an event that has no Rust type.
    ///
    /// **Errors**, **Cancel**: as [`publish`](Self::publish).
    pub async fn publish_draft(&self, draft: Draft) -> Result<Published, PublishError> {
        self.publish_stamped(draft, Stamp::default()).await
    }

    /// Publishes an event whose id, flow or cause the caller knows.
    ///
    /// **Errors**, **Cancel**: as [`publish`](Self::publish).
    pub async fn publish_stamped(
        &self,
        draft: Draft,
        stamp: Stamp,
    ) -> Result<Published, PublishError> {
        let envelope = self.stamp(draft, stamp)?;
        let outcome = self.hand_over(std::slice::from_ref(&envelope)).await.pop();
        let receipt = outcome.unwrap_or_else(|| Err(unanswered()))?;
        Ok(Published {
            event_id: envelope.event_id().to_owned(),
            receipt,
        })
    }

    /// Publishes events in their order; one outcome for each.
    ///
    /// **Guarantee**: after a failure of one key nothing later of that key is sent.
    ///
    /// **Errors**, **Cancel**: as [`publish`](Self::publish), for each event.
    pub async fn publish_all<E: Event>(
        &self,
        events: &[E],
    ) -> Vec<Result<Published, PublishError>> {
        let drafts = events
            .iter()
            .map(|event| draft_of(event).map_err(|error| (owned(event.key()), error)));
        self.publish_each(drafts).await
    }

    /// Publishes events that have no Rust type, in their order; one outcome for each.
    ///
    /// **Guarantee**, **Errors**, **Cancel**: as [`publish_all`](Self::publish_all).
    pub async fn publish_drafts(&self, drafts: Vec<Draft>) -> Vec<Result<Published, PublishError>> {
        self.publish_each(drafts.into_iter().map(Ok)).await
    }

    /// Publishes envelopes exactly as they are, in their order: nothing is stamped. For imports and bridges.
    ///
    /// **Guarantee**, **Errors**, **Cancel**: as [`publish_all`](Self::publish_all).
    pub async fn publish_envelopes(&self, envelopes: &[Envelope]) -> Vec<PublishOutcome> {
        let mut outcomes = Vec::with_capacity(envelopes.len());
        let mut failed_keys = HashSet::new();
        for chunk in envelopes.chunks(self.chunk_events_max()) {
            if failed_keys.is_empty() {
                outcomes.append(&mut self.hand_over(chunk).await);
            } else {
                outcomes.append(&mut self.hand_over_but(chunk, &failed_keys).await);
            }
            let answered = outcomes.len() - chunk.len();
            for (envelope, outcome) in chunk.iter().zip(outcomes.iter().skip(answered)) {
                if outcome.is_err()
                    && let Some(key) = envelope.key()
                {
                    failed_keys.insert(key.into_owned());
                }
            }
        }
        outcomes
    }

    fn chunk_events_max(&self) -> usize {
        BATCH_EVENTS_MAX.min(self.inner.config.queue_events_max)
    }

    /// The envelope that [`publish_stamped`](Self::publish_stamped) publishes, for callers that show or keep it; publish it with
    /// [`publish_envelopes`](Self::publish_envelopes).
    ///
    /// **Errors**: a value over its limit.
    pub fn stamp(&self, mut draft: Draft, stamp: Stamp) -> Result<Envelope, PublishError> {
        let inner = &*self.inner;
        if draft.source.is_none() {
            draft.source.clone_from(&inner.config.source);
        }
        let event_id = stamp
            .event_id
            .unwrap_or_else(|| event_id::fresh(&*inner.clock, &*inner.chance));
        let envelope = draft.into_envelope(event_id, inner.clock.now(), stamp.inherited)?;
        if stamp.correlation_id.is_none() && stamp.causation_id.is_none() {
            return Ok(envelope);
        }
        let mut parts = envelope.into_parts();
        parts.correlation_id = stamp.correlation_id.or(parts.correlation_id);
        parts.causation_id = stamp.causation_id.or(parts.causation_id);
        Ok(Envelope::new(parts)?)
    }

    /// Stamps and publishes; an event that cannot be stamped holds back what follows of its key.
    async fn publish_each(
        &self,
        drafts: impl Iterator<Item = Result<Draft, (Option<String>, PublishError)>>,
    ) -> Vec<Result<Published, PublishError>> {
        let mut good = Vec::new();
        let mut failed_keys: HashSet<String> = HashSet::new();
        let mut refusals = Vec::new();
        for draft in drafts {
            let stamped = draft.and_then(|draft| {
                let key = draft.aggregate_id.clone();
                self.stamp(draft, Stamp::default())
                    .map_err(|error| (key, error))
            });
            refusals.push(match stamped {
                Ok(envelope) if is_of(&envelope, &failed_keys) => Some(PublishError::NotAttempted),
                Ok(envelope) => {
                    good.push(envelope);
                    None
                }
                Err((key, error)) => {
                    failed_keys.extend(key);
                    Some(error)
                }
            });
        }
        let outcomes = self.publish_envelopes(&good).await;
        let mut answered = good.iter().zip(outcomes);
        let answer = |refusal: Option<PublishError>| {
            if let Some(error) = refusal {
                return Err(error);
            }
            let (envelope, outcome) = answered.next().ok_or_else(unanswered)?;
            outcome.map(|receipt| Published {
                event_id: envelope.event_id().to_owned(),
                receipt,
            })
        };
        refusals.into_iter().map(answer).collect()
    }

    /// Hands over a chunk without the events of keys that failed before.
    async fn hand_over_but(
        &self,
        chunk: &[Envelope],
        failed_keys: &HashSet<String>,
    ) -> Vec<PublishOutcome> {
        let held_back: Vec<bool> = chunk
            .iter()
            .map(|envelope| is_of(envelope, failed_keys))
            .collect();
        let sent: Vec<Envelope> = chunk
            .iter()
            .zip(&held_back)
            .filter(|(_, held_back)| !**held_back)
            .map(|(envelope, _)| envelope.clone())
            .collect();
        let mut outcomes = self.hand_over(&sent).await.into_iter();
        held_back
            .into_iter()
            .map(|held_back| match held_back {
                true => Err(PublishError::NotAttempted),
                false => outcomes.next().unwrap_or_else(|| Err(unanswered())),
            })
            .collect()
    }

    /// Waits for room and for the broker's outcomes, both within one time limit.
    async fn hand_over(&self, batch: &[Envelope]) -> Vec<PublishOutcome> {
        if batch.is_empty() {
            return Vec::new();
        }
        let inner = &*self.inner;
        let limit = inner.config.timeout;
        let mut over = inner.clock.sleep(limit);
        // The time is looked at first: what gets its room too late is not handed over any more, and so is known not to be written.
        let room = tokio::select! {
            biased;
            () = &mut over => return batch.iter().map(|_| Err(queue_full(limit))).collect(),
            room = self.room(batch.len()) => room,
        };
        let mut outcomes = tokio::select! {
            biased;
            outcomes = inner.broker.publish(batch) => outcomes,
            () = &mut over => batch.iter().map(|_| Err(PublishError::Timeout { limit })).collect(),
        };
        drop(room);
        outcomes.resize_with(batch.len(), || Err(unanswered()));
        outcomes
    }

    async fn room(&self, events: usize) -> Option<SemaphorePermit<'_>> {
        let permits = u32::try_from(events).unwrap_or(u32::MAX);
        // The semaphore is never closed, so that there is always a permit in the end.
        self.inner.queue.acquire_many(permits).await.ok()
    }
}

fn is_of(envelope: &Envelope, keys: &HashSet<String>) -> bool {
    !keys.is_empty()
        && envelope
            .key()
            .is_some_and(|key| keys.contains(key.as_ref()))
}

fn owned(key: Option<Cow<'_, str>>) -> Option<String> {
    key.map(Cow::into_owned)
}

fn draft_of<E: Event>(event: &E) -> Result<Draft, PublishError> {
    Draft::of(event).map_err(|error| PublishError::Payload {
        event_type: E::TYPE.to_owned(),
        reason: error.to_string(),
    })
}

/// Nothing was handed to the broker, so that the event is known not to be written.
fn queue_full(limit: Duration) -> PublishError {
    PublishError::Refused {
        reason: format!("the queue of the producer was full for {limit:?}; publish it again"),
        class: ErrorClass::Transient,
        code: codes::PUBLISH_TIMEOUT,
    }
}

/// The broker answered for fewer events than it was given.
pub(crate) fn unanswered() -> PublishError {
    PublishError::Ambiguous {
        reason: "the broker gave no outcome for the event".to_owned(),
    }
}

#[cfg(test)]
mod tests;

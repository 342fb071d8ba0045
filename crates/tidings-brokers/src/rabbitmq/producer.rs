//! Publishing to RabbitMQ: everything over one channel, in order, each event confirmed.
//!
//! What is sent over one channel arrives in order or not at all, so events need not wait for each other. When the server refuses one event of a key by itself, what
//! was sent behind it may be there: it is reported as unknown, so that all of it is published again, in order.

use super::NAME;
use super::admin::exchange_missing;
use super::connection::{Line, Link, is_missing, refused_bytes};
use super::mapping;
use lapin::options::BasicPublishOptions;
use lapin::{Confirmation, PublisherConfirm};
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidings_core::broker::{BrokerError, PublishError, PublishOutcome, Receipt};
use tidings_core::limits::{REMOTE_PUBLISH_IN_FLIGHT, REMOTE_PUBLISH_TIMEOUT};
use tidings_core::{Envelope, ErrorClass, codes};

/// The client tells of one event after the other that its channel is gone, which may take a moment on a busy machine.
const LOST_WAIT: Duration = Duration::from_secs(1);

/// Hands over a batch under the rules of the port.
pub(super) async fn publish(link: &Link, batch: &[Envelope]) -> Vec<PublishOutcome> {
    let ready = async {
        let line = link.line().await?;
        link.wait_unblocked(&line).await?;
        Ok::<_, BrokerError>(line)
    };
    match ready.await {
        Ok(line) => {
            let mut sending = Sending {
                link,
                line: &line,
                outcomes: batch
                    .iter()
                    .map(|_| Err(PublishError::NotAttempted))
                    .collect(),
                waiting: VecDeque::new(),
                way: Way::Open,
            };
            sending.send(batch).await;
            let mut outcomes = sending.outcomes;
            hold_keys(batch, &mut outcomes);
            outcomes
        }
        Err(error) => {
            let refused = PublishError::refused(&error);
            batch.iter().map(|_| Err(refused.clone())).collect()
        }
    }
}

struct Sending<'a> {
    link: &'a Link,
    line: &'a Line,
    outcomes: Vec<PublishOutcome>,
    /// Sent and not confirmed yet, in order.
    waiting: VecDeque<(Sent, PublisherConfirm)>,
    way: Way,
}

/// How it goes with what is on its way; nothing further is sent unless it is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Channel or connection are gone: the client tells so of each event.
    Lost,
    /// One waited out the limit, and the others did as well.
    GivenUp,
}

impl Way {
    /// How long an answer is waited for.
    fn patience(self) -> Duration {
        match self {
            Self::Open => REMOTE_PUBLISH_TIMEOUT,
            Self::Lost => LOST_WAIT,
            Self::GivenUp => Duration::ZERO,
        }
    }
}

/// An event that was sent.
#[derive(Clone, Copy)]
struct Sent {
    /// Its place in the batch.
    place: usize,
    /// What its body has.
    bytes: usize,
}

impl Sending<'_> {
    async fn send(&mut self, batch: &[Envelope]) {
        let mut held: HashSet<String> = HashSet::new();
        for (place, envelope) in batch.iter().enumerate() {
            if self.waiting.len() >= REMOTE_PUBLISH_IN_FLIGHT {
                self.confirm_next().await;
            }
            if self.way != Way::Open {
                break;
            }
            let key = envelope.key();
            if key.as_deref().is_some_and(|key| held.contains(key)) {
                continue;
            }
            let (properties, body) = mapping::write(envelope);
            if body.len() > self.link.config.message_bytes_max {
                self.set(place, Err(too_large(body.len(), self.link)));
                held.extend(key.map(|key| key.into_owned()));
                continue;
            }
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let sending = self.line.channel.basic_publish(
                self.link.config.exchange.as_str().into(),
                mapping::routing_key(envelope.event_type().as_str()),
                options,
                &body,
                properties,
            );
            let bytes = body.len();
            let sent = Sent { place, bytes };
            match tokio::time::timeout(REMOTE_PUBLISH_TIMEOUT, sending).await {
                Ok(Ok(confirm)) => self.waiting.push_back((sent, confirm)),
                Ok(Err(error)) => self.fail(sent, &error),
                Err(_) => self.give_up(sent),
            }
        }
        while !self.waiting.is_empty() {
            self.confirm_next().await;
        }
    }

    fn set(&mut self, place: usize, outcome: PublishOutcome) {
        if let Some(slot) = self.outcomes.get_mut(place) {
            *slot = outcome;
        }
    }

    /// Waits for the oldest event that is on its way.
    async fn confirm_next(&mut self) {
        let Some((sent, confirm)) = self.waiting.pop_front() else {
            return;
        };
        match tokio::time::timeout(self.way.patience(), confirm).await {
            Ok(Ok(confirmation)) => self.take(sent, confirmation),
            Ok(Err(error)) => self.fail(sent, &error),
            Err(_) => self.give_up(sent),
        }
    }

    fn take(&mut self, sent: Sent, confirmation: Confirmation) {
        let outcome = match confirmation {
            Confirmation::Ack(returned) => {
                if returned.is_some() {
                    self.link.unrouted.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Receipt { position: None })
            }
            Confirmation::Nack(_) => Err(PublishError::refused(&BrokerError::Remote {
                broker: NAME,
                action: "take an event",
                reason: "a queue refused it".to_owned(),
                class: ErrorClass::Transient,
            })),
            Confirmation::NotRequested => Err(PublishError::Ambiguous {
                reason: "the channel does not confirm".to_owned(),
            }),
        };
        self.set(sent.place, outcome);
    }

    fn fail(&mut self, sent: Sent, error: &lapin::Error) {
        if self.way == Way::Open {
            self.way = Way::Lost;
        }
        let outcome = match self.link.meaning("take an event", error) {
            // The exchange is gone: the server closes the channel and took nothing.
            BrokerError::Remote { .. } if is_missing(error) => {
                PublishError::refused(&exchange_missing(self.link))
            }
            // The server closes the channel over one message and takes nothing of it; its size tells which one.
            BrokerError::Remote { reason, .. } if refused_bytes(error) == Some(sent.bytes) => {
                refused_as_too_large(&reason)
            }
            refused @ BrokerError::Unauthorised { .. } => PublishError::refused(&refused),
            other => PublishError::Ambiguous {
                reason: other.to_string(),
            },
        };
        self.set(sent.place, Err(outcome));
    }

    fn give_up(&mut self, sent: Sent) {
        self.way = Way::GivenUp;
        let limit = REMOTE_PUBLISH_TIMEOUT;
        self.set(sent.place, Err(PublishError::Timeout { limit }));
    }
}

/// Behind the first failure of a key nothing of it counts as accepted.
fn hold_keys(batch: &[Envelope], outcomes: &mut [PublishOutcome]) {
    if outcomes.iter().all(Result::is_ok) {
        return;
    }
    let mut failed = HashSet::new();
    for (envelope, outcome) in batch.iter().zip(outcomes) {
        let Some(key) = envelope.key() else {
            continue;
        };
        if outcome.is_ok() && failed.contains(&key) {
            *outcome = Err(PublishError::Ambiguous {
                reason: "an earlier event of its key was not taken".to_owned(),
            });
        } else if outcome.is_err() {
            failed.insert(key);
        }
    }
}

fn too_large(bytes: usize, link: &Link) -> PublishError {
    PublishError::Refused {
        reason: format!(
            "the message has {bytes} bytes, RabbitMQ takes {}; make the payload smaller, or raise max_message_size of the server and message_bytes_max of the URL",
            link.config.message_bytes_max
        ),
        class: ErrorClass::Permanent,
        code: codes::LIMIT_EXCEEDED,
    }
}

fn refused_as_too_large(reason: &str) -> PublishError {
    PublishError::Refused {
        reason: format!(
            "RabbitMQ closed the channel: {reason}; make the payload smaller, or raise max_message_size of the server"
        ),
        class: ErrorClass::Permanent,
        code: codes::LIMIT_EXCEEDED,
    }
}

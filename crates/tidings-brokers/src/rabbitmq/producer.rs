//! Publishing to RabbitMQ: everything over one channel, in order, each event confirmed.
//!
//! What is sent over one channel arrives in order or not at all, so events need not wait for each other. When the server refuses one event of a key by itself, what
//! was sent behind it may be there: it is reported as unknown, so that all of it is published again, in order.

use super::NAME;
use super::admin::exchange_missing;
use super::connection::{Line, Link, is_missing};
use super::mapping;
use lapin::options::BasicPublishOptions;
use lapin::{Confirmation, PublisherConfirm};
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use tidings_core::broker::{BrokerError, PublishError, PublishOutcome, Receipt};
use tidings_core::limits::{REMOTE_PUBLISH_IN_FLIGHT, REMOTE_PUBLISH_TIMEOUT};
use tidings_core::{Envelope, ErrorClass, codes};

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
                broken: false,
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
    waiting: VecDeque<(usize, PublisherConfirm)>,
    /// Nothing further is sent.
    broken: bool,
}

impl Sending<'_> {
    async fn send(&mut self, batch: &[Envelope]) {
        let mut held: HashSet<String> = HashSet::new();
        for (place, envelope) in batch.iter().enumerate() {
            if self.waiting.len() >= REMOTE_PUBLISH_IN_FLIGHT {
                self.confirm_next().await;
            }
            if self.broken {
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
            match tokio::time::timeout(REMOTE_PUBLISH_TIMEOUT, sending).await {
                Ok(Ok(confirm)) => self.waiting.push_back((place, confirm)),
                Ok(Err(error)) => self.fail(place, &error),
                Err(_) => self.give_up(place),
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
        let Some((place, confirm)) = self.waiting.pop_front() else {
            return;
        };
        if self.broken {
            // One waited out the limit, or the connection is gone; the others did as well.
            let confirmed = futures_util::FutureExt::now_or_never(confirm);
            match confirmed {
                Some(Ok(confirmation)) => self.take(place, confirmation),
                Some(Err(error)) => self.fail(place, &error),
                None => self.give_up(place),
            }
            return;
        }
        match tokio::time::timeout(REMOTE_PUBLISH_TIMEOUT, confirm).await {
            Ok(Ok(confirmation)) => self.take(place, confirmation),
            Ok(Err(error)) => self.fail(place, &error),
            Err(_) => self.give_up(place),
        }
    }

    fn take(&mut self, place: usize, confirmation: Confirmation) {
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
        self.set(place, outcome);
    }

    fn fail(&mut self, place: usize, error: &lapin::Error) {
        self.broken = true;
        let outcome = match self.link.meaning("take an event", error) {
            // The exchange is gone: the server closes the channel and took nothing.
            BrokerError::Remote { .. } if is_missing(error) => {
                PublishError::refused(&exchange_missing(self.link))
            }
            refused @ BrokerError::Unauthorised { .. } => PublishError::refused(&refused),
            other => PublishError::Ambiguous {
                reason: other.to_string(),
            },
        };
        self.set(place, Err(outcome));
    }

    fn give_up(&mut self, place: usize) {
        self.broken = true;
        let limit = REMOTE_PUBLISH_TIMEOUT;
        self.set(place, Err(PublishError::Timeout { limit }));
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

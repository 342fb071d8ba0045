//! Publishing to JetStream: all keys at the same time, the events of one key one after another.
//!
//! A connection that breaks may lose what is on its way and still deliver what was sent behind it. So the next event of a key is sent only when the one before
//! it is acknowledged; events of other keys, and events without one, do not wait.

use super::connection::Link;
use super::mapping;
use async_nats::jetstream::context::{PublishError as NatsError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::error::Error as _;
use tidings_core::broker::{BrokerError, Position, PublishError, PublishOutcome, Receipt};
use tidings_core::limits::{REMOTE_PUBLISH_IN_FLIGHT, REMOTE_PUBLISH_TIMEOUT};
use tidings_core::{Envelope, ErrorClass, codes};

/// Hands over a batch under the rules of the port.
pub(super) async fn publish(link: &Link, batch: &[Envelope]) -> Vec<PublishOutcome> {
    if let Err(lost) = link.wait_connected(REMOTE_PUBLISH_TIMEOUT).await {
        let refused = PublishError::refused(&lost);
        return batch.iter().map(|_| Err(refused.clone())).collect();
    }
    let mut outcomes: Vec<PublishOutcome> = batch
        .iter()
        .map(|_| Err(PublishError::NotAttempted))
        .collect();
    let sending = chains(batch)
        .into_iter()
        .map(|chain| send_chain(link, batch, chain));
    let mut sent = futures_util::stream::iter(sending).buffer_unordered(REMOTE_PUBLISH_IN_FLIGHT);
    while let Some(answers) = sent.next().await {
        for (place, outcome) in answers {
            if let Some(slot) = outcomes.get_mut(place) {
                *slot = outcome;
            }
        }
    }
    outcomes
}

/// The places of the events of each key, in order; an event without a key is on its own.
fn chains(batch: &[Envelope]) -> Vec<Vec<usize>> {
    let mut chains: Vec<Vec<usize>> = Vec::with_capacity(batch.len());
    let mut of_key = HashMap::new();
    for (place, envelope) in batch.iter().enumerate() {
        let known = envelope.key().map(|key| {
            let next = chains.len();
            *of_key.entry(key).or_insert(next)
        });
        match known.and_then(|index| chains.get_mut(index)) {
            Some(chain) => chain.push(place),
            None => chains.push(vec![place]),
        }
    }
    chains
}

/// Sends the events of one key; behind a failure nothing is attempted.
async fn send_chain(
    link: &Link,
    batch: &[Envelope],
    chain: Vec<usize>,
) -> Vec<(usize, PublishOutcome)> {
    let mut outcomes = Vec::with_capacity(chain.len());
    for place in chain {
        let Some(envelope) = batch.get(place) else {
            break;
        };
        let outcome = send(link, envelope).await;
        let failed = outcome.is_err();
        outcomes.push((place, outcome));
        if failed {
            break;
        }
    }
    outcomes
}

async fn send(link: &Link, envelope: &Envelope) -> PublishOutcome {
    let payload_bytes = envelope.payload_bytes().len();
    // Facts of our own hold whole envelopes, and have all the room that the server gives.
    if payload_bytes > link.payload_bytes_max() && !envelope.event_type().is_internal() {
        return Err(too_large(&format!(
            "the payload has {payload_bytes} bytes, the largest has {}",
            link.payload_bytes_max()
        )));
    }
    let subject = mapping::subject(&link.config.prefix, envelope.event_type().as_str());
    let (headers, payload) = mapping::write(envelope);
    let message = PublishMessage::build().headers(headers).payload(payload);
    let sent = link.jetstream.send_publish(subject, message).await;
    let acked = match sent {
        Ok(ack) => ack.await,
        Err(error) => Err(error),
    };
    match acked {
        // A duplicate has the position of the first one.
        Ok(ack) => Ok(Receipt {
            position: Some(Position(ack.sequence)),
        }),
        Err(error) => Err(meaning(link, &error).await),
    }
}

async fn meaning(link: &Link, error: &NatsError) -> PublishError {
    let reason = error.to_string();
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => too_large(&reason),
        PublishErrorKind::StreamNotFound => {
            // Nobody took it: the stream is missing, or not there yet after a restart.
            let cause = match link.find_stream().await {
                Ok(None) => link.stream_missing(),
                Ok(Some(_)) => link.failed("take an event", &reason),
                Err(error) => error,
            };
            PublishError::refused(&cause)
        }
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
            match link.failed("take an event", &reason) {
                // The server says so itself, and did not take it.
                refused @ BrokerError::Unauthorised { .. } => PublishError::refused(&refused),
                other => PublishError::Ambiguous {
                    reason: other.to_string(),
                },
            }
        }
        PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::Other => answered(link, error, reason),
    }
}

/// What the server answered; it did not take the event.
fn answered(link: &Link, error: &NatsError, reason: String) -> PublishError {
    let cause = error.source();
    let code = cause
        .and_then(|cause| cause.downcast_ref::<jetstream::Error>())
        .map(jetstream::Error::error_code);
    match code {
        Some(
            ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
        ) => too_large(&reason),
        Some(_) => PublishError::refused(&BrokerError::Remote {
            broker: super::NAME,
            action: "take an event",
            reason,
            class: ErrorClass::Transient,
        }),
        // No answer of the server that could be read: it may have taken it.
        None => PublishError::Ambiguous {
            reason: link.failed("take an event", &reason).to_string(),
        },
    }
}

fn too_large(reason: &str) -> PublishError {
    PublishError::Refused {
        reason: format!("{reason}; make the payload smaller, or raise max_payload of the server"),
        class: ErrorClass::Permanent,
        code: codes::LIMIT_EXCEEDED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::EnvelopeParts;

    #[test]
    fn each_key_is_a_chain_and_events_without_one_stand_alone() {
        let batch: Vec<Envelope> = [Some("a"), None, Some("b"), Some("a"), None]
            .into_iter()
            .map(|key| {
                let mut parts = EnvelopeParts::new("1", "x.y");
                parts.aggregate_id = key.map(Into::into);
                Envelope::new(parts).unwrap()
            })
            .collect();
        assert_eq!(chains(&batch), [vec![0, 3], vec![1], vec![2], vec![4]]);
    }
}

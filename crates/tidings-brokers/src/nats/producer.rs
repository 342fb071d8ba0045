//! Publishing to JetStream: in batches that the server takes whole or not at all, and where it does not, all keys at the same time and the events of one key one
//! after another.
//!
//! A connection that breaks may lose what is on its way and still deliver what was sent behind it. The server refuses a batch with a gap, so that order is kept
//! in it although everything is on its way at once. Without batches the next event of a key is sent only when the one before it is acknowledged; events of other
//! keys, and events without one, do not wait.

use super::connection::Link;
use super::mapping;
use async_nats::jetstream::context::{PublishError as NatsError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderMap, header};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::error::Error as _;
use tidings_core::broker::{BrokerError, Position, PublishError, PublishOutcome, Receipt};
use tidings_core::limits::{
    NATS_BATCH_BYTES_MAX, NATS_BATCH_EVENTS_MAX, REMOTE_PUBLISH_IN_FLIGHT, REMOTE_PUBLISH_TIMEOUT,
};
use tidings_core::{Envelope, ErrorClass, codes};

/// Hands over a batch under the rules of the port.
pub(super) async fn publish(link: &Link, batch: &[Envelope]) -> Vec<PublishOutcome> {
    if let Err(lost) = link.wait_connected(REMOTE_PUBLISH_TIMEOUT).await {
        let refused = PublishError::refused(&lost);
        return batch.iter().map(|_| Err(refused.clone())).collect();
    }
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut rest = batch;
    while link.takes_batches() && rest.len() > 1 {
        let (first, later) = rest.split_at(batch_len(rest));
        match send_batch(link, first).await {
            Batch::Taken(last) => {
                outcomes.extend(receipts(last, first.len()));
                rest = later;
            }
            Batch::Refused => break,
            Batch::Unknown(error) => {
                outcomes.extend(first.iter().map(|_| Err(error.clone())));
                outcomes.extend(later.iter().map(|_| Err(PublishError::NotAttempted)));
                return outcomes;
            }
        }
    }
    outcomes.extend(publish_in_chains(link, rest).await);
    outcomes
}

/// What became of a batch that the server takes whole or not at all.
enum Batch {
    /// The place of its last event, behind the others.
    Taken(u64),
    /// Nothing of it is in the stream: the server has an event of it already, or a limit, or lost a part on the way. One by one each event gets its own answer.
    Refused,
    /// All of it may be in the stream, or nothing.
    Unknown(PublishError),
}

/// How many events go into the next batch.
fn batch_len(events: &[Envelope]) -> usize {
    let mut bytes = 0;
    let fits = events
        .iter()
        .take(NATS_BATCH_EVENTS_MAX)
        .take_while(|event| {
            bytes += event.payload_bytes().len();
            bytes <= NATS_BATCH_BYTES_MAX
        });
    fits.count().max(1)
}

async fn send_batch(link: &Link, events: &[Envelope]) -> Batch {
    let [before @ .., last] = events else {
        return Batch::Refused;
    };
    if events.iter().any(|event| is_too_large(link, event)) {
        return Batch::Refused;
    }
    // Its random end is as good for a batch.
    let id = link.client.new_inbox();
    let connects = link.connects();
    for (place, event) in before.iter().enumerate() {
        let (subject, headers, payload) = message_of(link, event, &id, place + 1);
        let sent = link.client.publish_with_headers(subject, headers, payload);
        if sent.await.is_err() {
            return Batch::Refused;
        }
    }
    let (subject, mut headers, payload) = message_of(link, last, &id, events.len());
    headers.insert(header::NATS_BATCH_COMMIT, "1");
    let message = PublishMessage::build().headers(headers).payload(payload);
    let error = match answer(link, connects, subject, message).await {
        Ok(ack) if ack.batch_size == Some(events.len() as u64) => {
            return Batch::Taken(ack.sequence);
        }
        Ok(ack) => {
            link.note_batches(false);
            return Batch::Unknown(PublishError::Ambiguous {
                reason: format!(
                    "NATS JetStream took a batch of {} events as {:?}: it does not know batches, although the stream allows them",
                    events.len(),
                    ack.batch_size
                ),
            });
        }
        Err(Some(error)) => error,
        Err(None) => return Batch::Unknown(lost(link)),
    };
    if code_of(&error) == Some(ErrorCode::ATOMIC_PUBLISH_DISABLED) {
        link.note_batches(false);
    }
    match meaning(link, &error).await {
        unknown @ PublishError::Ambiguous { .. } => Batch::Unknown(unknown),
        _ => Batch::Refused,
    }
}

/// An event as a message of a batch.
fn message_of(link: &Link, event: &Envelope, id: &str, place: usize) -> (String, HeaderMap, Bytes) {
    let subject = mapping::subject(&link.config.prefix, event.event_type().as_str());
    let (mut headers, payload) = mapping::write(event);
    headers.insert(header::NATS_BATCH_ID, id);
    headers.insert(header::NATS_BATCH_SEQUENCE, place.to_string());
    (subject, headers, payload)
}

/// A batch lies in the stream without a gap.
fn receipts(last: u64, events: usize) -> impl Iterator<Item = PublishOutcome> {
    let first = (last + 1).saturating_sub(events as u64);
    (first..=last).map(|place| {
        Ok(Receipt {
            position: Some(Position(place)),
        })
    })
}

async fn publish_in_chains(link: &Link, batch: &[Envelope]) -> Vec<PublishOutcome> {
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

/// Facts of our own hold whole envelopes, and have all the room that the server gives.
fn is_too_large(link: &Link, event: &Envelope) -> bool {
    event.payload_bytes().len() > link.payload_bytes_max() && !event.event_type().is_internal()
}

async fn send(link: &Link, envelope: &Envelope) -> PublishOutcome {
    if is_too_large(link, envelope) {
        return Err(too_large(&format!(
            "the payload has {} bytes, the largest has {}",
            envelope.payload_bytes().len(),
            link.payload_bytes_max()
        )));
    }
    let subject = mapping::subject(&link.config.prefix, envelope.event_type().as_str());
    let (headers, payload) = mapping::write(envelope);
    let message = PublishMessage::build().headers(headers).payload(payload);
    match answer(link, link.connects(), subject, message).await {
        // A duplicate has the position of the first one.
        Ok(ack) => Ok(Receipt {
            position: Some(Position(ack.sequence)),
        }),
        Err(Some(error)) => Err(meaning(link, &error).await),
        Err(None) => Err(lost(link)),
    }
}

/// Sends a message and waits for the server's answer, which goes to the connection that the message came by: once there is another one, after `connects` of them,
/// nothing is waited for.
async fn answer(
    link: &Link,
    connects: u64,
    subject: String,
    message: PublishMessage,
) -> Result<PublishAck, Option<NatsError>> {
    let acked = async {
        let sent = link.jetstream.send_publish(subject, message).await?;
        sent.await
    };
    tokio::select! {
        biased;
        acked = acked => acked.map_err(Some),
        () = link.connected_anew(connects) => Err(None),
    }
}

fn lost(link: &Link) -> PublishError {
    let reason = "the connection was lost before the answer came";
    PublishError::Ambiguous {
        reason: link.failed("take an event", &reason).to_string(),
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

/// What the server answered, if it did.
fn code_of(error: &NatsError) -> Option<ErrorCode> {
    let cause = error.source()?.downcast_ref::<jetstream::Error>();
    cause.map(jetstream::Error::error_code)
}

/// What the server answered; it did not take the event.
fn answered(link: &Link, error: &NatsError, reason: String) -> PublishError {
    match code_of(error) {
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
    use tidings_core::limits::PAYLOAD_BYTES_MAX;
    use tidings_core::{EnvelopeParts, Payload};

    #[test]
    fn a_batch_ends_at_a_limit_and_has_at_least_one_event() {
        let event = |bytes: usize| {
            let mut parts = EnvelopeParts::new("1", "x.y");
            parts.payload = Some(Payload::binary(vec![b'x'; bytes]));
            Envelope::new(parts).unwrap()
        };
        let of_bytes = NATS_BATCH_BYTES_MAX / PAYLOAD_BYTES_MAX;

        assert_eq!(
            batch_len(&vec![event(1); NATS_BATCH_EVENTS_MAX + 5]),
            NATS_BATCH_EVENTS_MAX
        );
        let large = vec![event(PAYLOAD_BYTES_MAX); of_bytes + 2];
        assert_eq!(batch_len(&large), of_bytes);
        assert_eq!(batch_len(&[event(1), event(1)]), 2);
    }

    #[test]
    fn the_events_of_a_batch_have_the_places_before_its_last() {
        let places = receipts(9, 3).map(|outcome| outcome.unwrap().position.unwrap().0);
        assert_eq!(places.collect::<Vec<_>>(), [7, 8, 9]);
    }

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

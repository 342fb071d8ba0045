//! Envelopes as records of Kafka and back; errors of its client as ours.

use bytes::Bytes;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{
    BorrowedHeaders, BorrowedMessage, Header, Headers, Message as _, OwnedHeaders,
};
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tidings_core::broker::{BrokerError, PublishError};
use tidings_core::cloudevents::binding::{Binding, Body, Carried, Incoming, Message, Origin};
use tidings_core::{Envelope, ErrorClass, Pattern, Timestamp, codes};

/// The broker's name in messages.
pub(super) const NAME: &str = "kafka";
const CONTENT_TYPE: &str = "content-type";
/// What a record costs on the wire besides key, value and headers, at most.
const RECORD_BYTES: usize = 128;

/// An event as a record.
pub(super) struct Outgoing<'a> {
    pub(super) key: Option<Cow<'a, str>>,
    pub(super) headers: OwnedHeaders,
    pub(super) body: Bytes,
    /// About how much of the broker's limit it takes.
    pub(super) bytes: usize,
}

/// Writes an event as a record.
pub(super) fn outgoing(envelope: &Envelope) -> Outgoing<'_> {
    let Message {
        content_type,
        headers: given,
        body,
    } = Binding::KAFKA.write(envelope);
    let key = envelope.key();
    let mut bytes = RECORD_BYTES + body.len() + key.as_ref().map_or(0, |key| key.len());
    let mut headers = OwnedHeaders::new_with_capacity(given.len() + 1);
    let content_type = content_type.iter().map(|value| (CONTENT_TYPE, value));
    for (key, value) in given
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .chain(content_type)
    {
        bytes += key.len() + value.len() + 10;
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    Outgoing {
        key,
        headers,
        body,
        bytes,
    }
}

/// A record that was read.
pub(super) struct Incomer {
    pub(super) partition: i32,
    pub(super) offset: u64,
    pub(super) append_time: Option<Timestamp>,
    pub(super) bytes: usize,
    pub(super) carried: Carried,
}

/// Reads records of one topic.
pub(super) struct RecordReader {
    topic: Arc<str>,
}

impl RecordReader {
    pub(super) fn new(topic: &Arc<str>) -> Self {
        Self {
            topic: Arc::clone(topic),
        }
    }

    /// Reads whatever a record holds.
    pub(super) fn read(&self, message: &BorrowedMessage<'_>) -> Incomer {
        let partition = message.partition();
        let offset = u64::try_from(message.offset()).unwrap_or(0);
        let append_time = append_time(message);
        let body = message.payload();
        let mut content_type = None;
        let mut headers = Vec::new();
        if let Some(given) = message.headers() {
            headers.reserve(given.count());
            for header in (0..given.count()).filter_map(|index| header(given, index)) {
                let value = header.value.unwrap_or_default();
                if header.key.eq_ignore_ascii_case(CONTENT_TYPE) {
                    content_type = std::str::from_utf8(value).ok();
                } else {
                    headers.push((header.key, value));
                }
            }
        }
        let carried = Binding::KAFKA.read(Incoming {
            content_type,
            headers: &headers,
            body: body.map(Body::Borrowed),
            origin: Origin {
                place: &format_args!("{}/{partition}/{offset}", self.topic),
                source: &format_args!("kafka://{}", self.topic),
                key: message.key().and_then(|key| std::str::from_utf8(key).ok()),
                event_type: None,
                timestamp: append_time,
            },
        });
        Incomer {
            partition,
            offset,
            append_time,
            bytes: body.map_or(0, <[u8]>::len) + RECORD_BYTES,
            carried,
        }
    }
}

/// A header, if its name is text. Another one is no attribute of any event, and the client library panics when it is asked for it.
fn header(headers: &BorrowedHeaders, index: usize) -> Option<Header<'_, &[u8]>> {
    // Nothing is changed by looking, so nothing is left half done by a panic.
    std::panic::catch_unwind(AssertUnwindSafe(|| headers.try_get(index)))
        .ok()
        .flatten()
}

fn append_time(message: &BorrowedMessage<'_>) -> Option<Timestamp> {
    let millis = message.timestamp().to_millis()?;
    Some(Timestamp::from_micros(millis.saturating_mul(1_000)))
}

/// Whether somebody with these patterns wants it; what is no event is everybody's.
pub(super) fn is_wanted(patterns: &[Pattern], carried: &Carried) -> bool {
    if carried.problem.is_some() {
        return true;
    }
    let event_type = carried.envelope.event_type();
    if patterns.is_empty() {
        return !event_type.is_internal();
    }
    patterns.iter().any(|pattern| pattern.matches(event_type))
}

/// What became of an event whose delivery failed.
pub(super) fn publish_error(error: &KafkaError) -> PublishError {
    use RDKafkaErrorCode as E;
    let refused = |class, code| PublishError::Refused {
        reason: error.to_string(),
        class,
        code,
    };
    match error.rdkafka_error_code() {
        Some(E::MessageSizeTooLarge) => refused(ErrorClass::Permanent, codes::LIMIT_EXCEEDED),
        Some(E::InvalidMessage | E::InvalidRecord | E::PolicyViolation) => {
            refused(ErrorClass::Permanent, codes::PUBLISH_REFUSED)
        }
        Some(
            E::TopicAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::TransactionalIdAuthorizationFailed
            | E::Authentication
            | E::SaslAuthenticationFailed,
        ) => refused(ErrorClass::Permanent, codes::BROKER_UNAUTHORISED),
        Some(E::UnknownTopic | E::UnknownTopicOrPartition | E::UnknownPartition) => {
            refused(ErrorClass::Permanent, codes::TOPOLOGY_MISSING)
        }
        Some(E::NotEnoughReplicas | E::QueueFull) => {
            refused(ErrorClass::Transient, codes::BROKER_FAILED)
        }
        _ => PublishError::Ambiguous {
            reason: error.to_string(),
        },
    }
}

/// Whether an error says that we may not.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::Authentication
            | E::SaslAuthenticationFailed
            | E::UnsupportedSASLMechanism
            | E::IllegalSASLState
            | E::SSL
            | E::TopicAuthorizationFailed
            | E::GroupAuthorizationFailed
            | E::ClusterAuthorizationFailed
    )
}

/// Whether an error says that what the topic holds cannot be read, however often it is fetched: the partition stands still before it.
pub(super) fn is_unreadable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::BadMessage | E::BadCompression | E::NotImplemented | E::UnsupportedCompressionType
    )
}

/// An error of the client as ours.
pub(super) fn broker_error(address: &str, action: &'static str, error: &KafkaError) -> BrokerError {
    use RDKafkaErrorCode as E;
    let reason = error.to_string();
    let address = || address.to_owned();
    match error.rdkafka_error_code() {
        Some(code) if is_refusal(code) => BrokerError::Unauthorised {
            broker: NAME,
            address: address(),
            reason,
        },
        Some(
            E::BrokerTransportFailure
            | E::AllBrokersDown
            | E::Resolve
            | E::BrokerNotAvailable
            | E::OperationTimedOut
            | E::RequestTimedOut,
        ) => BrokerError::Unreachable {
            broker: NAME,
            address: address(),
            reason,
        },
        Some(code) if is_unreadable(code) => BrokerError::Remote {
            broker: NAME,
            action,
            reason: format!(
                "a batch of the topic cannot be read ({reason}): it is damaged, or compressed otherwise than by gzip, snappy, lz4 or zstd; its partition stands still until retention removes it or the group is moved behind it"
            ),
            class: ErrorClass::Permanent,
        },
        _ => BrokerError::Remote {
            broker: NAME,
            action,
            reason,
            class: ErrorClass::Transient,
        },
    }
}

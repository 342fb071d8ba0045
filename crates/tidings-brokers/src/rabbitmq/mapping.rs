//! Envelopes as messages of RabbitMQ, event types as routing keys and patterns as binding keys.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use std::borrow::Cow;
use std::fmt;
use tidings_core::cloudevents::binding::{self, Binding, Body, Carried, Incoming, Message, Origin};
use tidings_core::limits::RABBITMQ_HEADER_BYTES_MAX;
use tidings_core::{DedupeKey, Envelope, Pattern, Timestamp};

/// The longest short string of AMQP in bytes: keys, names, properties.
const SHORT_BYTES_MAX: usize = 255;
/// Kept on the disk of the server.
const PERSISTENT: u8 = 2;

/// The routing key of an event type: the type, cut to what a key holds. The whole type is in the headers.
pub(super) fn routing_key(event_type: &str) -> ShortString {
    ShortString::from(cut(event_type))
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(SHORT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The keys that bind a queue to at least what the patterns match. Patterns are matched against the type without its version, so each literal end also takes one
/// word more.
pub(super) fn binding_keys(patterns: &[Pattern]) -> Vec<ShortString> {
    let mut keys: Vec<String> = Vec::new();
    for pattern in patterns {
        let text = pattern.as_str();
        match text.strip_suffix("**") {
            // A # stands for no word as well, which is more than is wanted.
            Some(before) => keys.push(format!("{before}#")),
            None => keys.extend([text.to_owned(), format!("{text}.*")]),
        }
    }
    if keys
        .iter()
        .any(|key| key == "#" || key.len() > SHORT_BYTES_MAX)
    {
        keys = vec!["#".to_owned()];
    }
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(ShortString::from).collect()
}

/// Properties and body of an envelope.
pub(super) fn write(envelope: &Envelope) -> (BasicProperties, Bytes) {
    let mut message = Binding::RABBITMQ.write(envelope);
    let header_bytes = |(name, value): &(String, String)| name.len() + value.len() + 8;
    if message.headers.iter().map(header_bytes).sum::<usize>() > RABBITMQ_HEADER_BYTES_MAX {
        // All headers of a message must fit into one frame; a body need not.
        message = binding::structured(envelope);
    }
    let Message {
        content_type,
        headers,
        body,
    } = message;
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_headers(table);
    if let Some(content_type) = content_type.and_then(|text| short(&text)) {
        properties = properties.with_content_type(content_type);
    }
    // Copies of what the headers say, for eyes and tools that know AMQP alone.
    if let Some(id) = short(envelope.event_id()) {
        properties = properties.with_message_id(id);
    }
    if let Some(event_type) = short(envelope.event_type().as_str()) {
        properties = properties.with_type(event_type);
    }
    if let Some(id) = envelope.correlation_id_given().and_then(short) {
        properties = properties.with_correlation_id(id);
    }
    if let Some(source) = envelope.source().and_then(short) {
        properties = properties.with_app_id(source);
    }
    let seconds = envelope
        .timestamp()
        .and_then(|given| u64::try_from(given.instant().as_micros() / 1_000_000).ok());
    if let Some(seconds) = seconds {
        properties = properties.with_timestamp(seconds);
    }
    (properties, body)
}

fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

/// A message as it was delivered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
    pub(super) properties: &'a BasicProperties,
    pub(super) body: &'a Bytes,
}

/// The event that a message carries, or its bytes with the reason why it carries none.
pub(super) fn read(found: Found<'_>) -> Carried {
    let properties = found.properties;
    let table = properties.headers().as_ref().map(FieldTable::inner);
    let texts: Vec<(&str, Cow<'_, [u8]>)> = table
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.as_str(), bytes_of(value)?)))
        .collect();
    let headers: Vec<(&str, &[u8])> = texts
        .iter()
        .map(|(name, value)| (*name, value.as_ref()))
        .collect();
    let timestamp = properties
        .timestamp()
        .and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1_000_000))
        .map(Timestamp::from_micros);
    Binding::RABBITMQ.read(Incoming {
        content_type: properties.content_type().as_ref().map(ShortString::as_str),
        headers: &headers,
        body: Some(Body::Shared(found.body)),
        origin: Origin {
            place: &Place(found),
            source: &format_args!("amqp://{}", found.exchange),
            key: None,
            event_type: Some(&found.routing_key as &dyn fmt::Display)
                .filter(|_| !found.routing_key.is_empty()),
            timestamp,
        },
    })
}

/// What stands for the place of a message, which a queue does not number: its id if it has one, else what it says. Two foreign messages without an id that say the
/// same are taken for one.
struct Place<'a>(Found<'a>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found {
            exchange,
            routing_key,
            properties,
            body,
        } = self.0;
        if let Some(id) = properties.message_id() {
            return write!(f, "{exchange}/{id}");
        }
        let said = String::from_utf8_lossy(body);
        let seconds = properties.timestamp().unwrap_or_default();
        let key = DedupeKey::from_id(&said, Some(&format!("{routing_key} {seconds}")));
        write!(f, "{exchange}/")?;
        let mut digits = key.as_bytes().iter();
        digits.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A header that is one value, as text.
fn bytes_of(value: &AMQPValue) -> Option<Cow<'_, [u8]>> {
    let text = match value {
        AMQPValue::LongString(text) => return Some(Cow::Borrowed(text.as_bytes())),
        AMQPValue::ByteArray(bytes) => return Some(Cow::Borrowed(bytes.as_slice())),
        AMQPValue::ShortString(text) => text.as_str().to_owned(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::Timestamp(value) => {
            let micros = i64::try_from(*value).ok()?.checked_mul(1_000_000)?;
            Timestamp::from_micros(micros).to_string()
        }
        AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::Void => return None,
    };
    Some(Cow::Owned(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_keys_that_match_every_version() {
        let keys = |patterns: &[&str]| -> Vec<String> {
            let patterns: Vec<Pattern> =
                patterns.iter().map(|text| text.parse().unwrap()).collect();
            let keys = binding_keys(&patterns);
            keys.iter().map(ToString::to_string).collect()
        };
        assert_eq!(keys(&["order.placed"]), ["order.placed", "order.placed.*"]);
        assert_eq!(
            keys(&["order.**", "stock.*"]),
            ["order.#", "stock.*", "stock.*.*"]
        );
        assert_eq!(keys(&["order.*", "**"]), ["#"]);
        assert_eq!(keys(&[&"x".repeat(255)]), ["#"]);
    }

    #[test]
    fn a_type_that_is_longer_than_a_key_is_cut() {
        let long = format!("a.{}", "ä".repeat(127));
        assert_eq!(long.len(), 256);
        assert_eq!(routing_key(&long).as_str().len(), 254);
        assert_eq!(routing_key("order.placed.v2").as_str(), "order.placed.v2");
    }

    #[test]
    fn headers_that_fill_a_frame_travel_in_the_body() {
        let text = format!(
            r#"{{"event_id":"1","event_type":"a.b","source":"s","payload":{{}},"big":"{}","more":"{}"}}"#,
            "x".repeat(60_000),
            "y".repeat(60_000)
        );
        let envelope = Envelope::from_json(text.as_bytes()).unwrap();
        let (properties, body) = write(&envelope);
        assert!(body.len() > 120_000);
        let found = Found {
            exchange: "e",
            routing_key: "a.b",
            properties: &properties,
            body: &body,
        };
        assert_eq!(read(found).envelope, envelope);
    }
}

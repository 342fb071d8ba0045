//! The envelope: an event with its attributes, exactly as it was given.

mod borrowed;
mod packed;

pub(crate) use borrowed::BorrowedParts;
pub use packed::{Packer, StoredEnvelope};

use crate::correlation::TRACEPARENT;
use crate::event_type::{EventTypeError, EventTypeRef, INTERNAL_PREFIX, has_control};
use crate::limits::{
    ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, CONTENT_TYPE_BYTES_MAX,
    CORRELATION_ID_BYTES_MAX, EVENT_ID_BYTES_MAX, INTERNAL_PAYLOAD_BYTES_MAX, KEY_BYTES_MAX,
    PAYLOAD_BYTES_MAX, SOURCE_BYTES_MAX, TIMESTAMP_BYTES_MAX,
};
use crate::payload::{Carriage, one_line};
use crate::timestamp::{GivenTimestamp, GivenTimestampRef};
use crate::{Code, ErrorClass, EventType, Payload, TraceContext, codes};
use packed::{Packed, Text};
use std::borrow::Cow;
use std::fmt;

/// An event on its way: the eight fields of the seed's document, causation, content type and any further attributes.
///
/// Absent is not the same as default: what was not given is not printed, whatever an accessor answers in its place.
///
/// Cloning one is cheap: clones share their texts. All of an event's texts, a short JSON payload among them, lie in one block of memory of their own, so
/// that keeping an event keeps nothing else. Only a payload of more than [`ENVELOPE_PAYLOAD_INLINE_BYTES_MAX`](crate::limits::ENVELOPE_PAYLOAD_INLINE_BYTES_MAX)
/// bytes may stay a part of what it was read with, and only if that is at most
/// [`PAYLOAD_SHARED_RATIO_MAX`](crate::limits::PAYLOAD_SHARED_RATIO_MAX) times as long.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    packed: Packed,
}

/// The attributes of an envelope, each on its own: to build one, or to change one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeParts {
    /// Unique within its source.
    pub event_id: String,
    /// The type as given.
    pub event_type: EventType,
    /// What the fact is about; also the key, unless the extension `partitionkey` names another.
    pub aggregate_id: Option<String>,
    /// When it happened.
    pub timestamp: Option<GivenTimestamp>,
    /// Version of the payload's schema.
    pub version: Option<u32>,
    /// Who states it.
    pub source: Option<String>,
    /// What ties it to the other events of one business flow.
    pub correlation_id: Option<String>,
    /// The event whose handling emitted it.
    pub causation_id: Option<String>,
    /// What the payload's bytes are; absent means JSON.
    pub content_type: Option<String>,
    /// Further attributes in the order given: name and JSON text of the value.
    pub extensions: Vec<(String, String)>,
    /// The payload.
    pub payload: Option<Payload>,
}

impl EnvelopeParts {
    /// Parts with an id and a type that was checked elsewhere, and nothing else.
    pub fn new(event_id: impl Into<String>, event_type: impl Into<String>) -> Self {
        Self {
            event_id: event_id.into(),
            event_type: EventType::trusted(event_type.into()),
            aggregate_id: None,
            timestamp: None,
            version: None,
            source: None,
            correlation_id: None,
            causation_id: None,
            content_type: None,
            extensions: Vec::new(),
            payload: None,
        }
    }
}

impl Envelope {
    /// Checks every attribute against its limit.
    ///
    /// **Errors**: permanent; the message names the attribute, the value's size and the limit.
    pub fn new(parts: EnvelopeParts) -> Result<Self, EnvelopeError> {
        check(&parts)?;
        Ok(Self::trusted(parts))
    }

    /// An envelope from a store that checked it when it was written: nothing is checked again.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "who builds an envelope is done with its parts, however they are kept"
    )]
    pub fn trusted(parts: EnvelopeParts) -> Self {
        Self {
            packed: Packed::of_parts(&parts),
        }
    }

    /// Takes the envelope apart, for example to change an attribute. Each text is copied.
    pub fn into_parts(self) -> EnvelopeParts {
        self.parts()
    }

    /// A copy of the attributes as given, each on its own; an accessor is cheaper where one attribute is asked for.
    pub fn parts(&self) -> EnvelopeParts {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        EnvelopeParts {
            event_id: self.event_id().to_owned(),
            event_type: self.event_type().to_owned(),
            aggregate_id: owned(self.aggregate_id()),
            timestamp: self.timestamp().map(GivenTimestampRef::to_owned),
            version: self.version_given(),
            source: owned(self.source()),
            correlation_id: owned(self.correlation_id_given()),
            causation_id: owned(self.causation_id()),
            content_type: owned(self.content_type_given()),
            extensions: self
                .extensions()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            payload: self.payload(),
        }
    }

    /// The attributes as a store takes them, borrowed.
    pub fn stored(&self) -> StoredEnvelope<'_> {
        self.packed.stored()
    }

    /// The id, unique within its source.
    pub fn event_id(&self) -> &str {
        self.packed.text(Text::EventId)
    }

    /// The type.
    pub fn event_type(&self) -> EventTypeRef<'_> {
        EventTypeRef::of(self.packed.text(Text::EventType))
    }

    /// What the fact is about.
    pub fn aggregate_id(&self) -> Option<&str> {
        self.packed.optional(Text::AggregateId)
    }

    /// What order is kept by: the extension `partitionkey` where given, else the aggregate id; without either the event is unordered.
    pub fn key(&self) -> Option<Cow<'_, str>> {
        if let Some(text) = self.extension_text(PARTITION_KEY) {
            return Some(Cow::Owned(text));
        }
        self.aggregate_id().map(Cow::Borrowed)
    }

    /// When it happened, as given.
    pub fn timestamp(&self) -> Option<GivenTimestampRef<'_>> {
        self.packed.timestamp()
    }

    /// Version of the payload's schema: as given, else as the type's suffix says, else 1.
    pub fn version(&self) -> u32 {
        self.version_given()
            .or_else(|| self.event_type().version())
            .unwrap_or(1)
    }

    /// Version of the payload's schema, if the envelope itself gives it.
    pub fn version_given(&self) -> Option<u32> {
        self.packed.version()
    }

    /// Who states the fact.
    pub fn source(&self) -> Option<&str> {
        self.packed.optional(Text::Source)
    }

    /// The correlation id: as given, else the event's own id, because an event without one begins a flow.
    pub fn correlation_id(&self) -> &str {
        self.correlation_id_given()
            .unwrap_or_else(|| self.event_id())
    }

    /// The correlation id, if the envelope gives one.
    pub fn correlation_id_given(&self) -> Option<&str> {
        self.packed.optional(Text::CorrelationId)
    }

    /// The id of the event whose handling emitted this one.
    pub fn causation_id(&self) -> Option<&str> {
        self.packed.optional(Text::CausationId)
    }

    /// What the payload's bytes are; JSON where nothing else is given.
    pub fn content_type(&self) -> &str {
        self.content_type_given().unwrap_or(CONTENT_TYPE_JSON)
    }

    /// What the payload's bytes are, if the envelope says so.
    pub fn content_type_given(&self) -> Option<&str> {
        self.packed.optional(Text::ContentType)
    }

    /// The extension attributes in the order given: name and JSON text of the value.
    pub fn extensions(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.packed.extensions()
    }

    /// The JSON text of an extension attribute.
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.extensions()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value)
    }

    /// The text of an extension attribute that is a JSON string.
    pub fn extension_text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.extension(name)?).ok()
    }

    /// The W3C trace context, if the event carries a valid one.
    pub fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::parse(&self.extension_text(TRACEPARENT)?)
    }

    /// The payload on its own; a short one is copied.
    pub fn payload(&self) -> Option<Payload> {
        self.packed.payload()
    }

    /// The text of a JSON payload, if it can stand in one line as it is.
    pub fn payload_line(&self) -> Option<&str> {
        if self.payload_carriage() != Some(Carriage::Json) {
            return None;
        }
        one_line(self.payload_bytes())
    }

    /// How a JSON envelope carries the payload, if there is one.
    pub fn payload_carriage(&self) -> Option<Carriage> {
        self.packed.payload_carriage()
    }

    /// The payload as text, where that is known without looking at its bytes: a JSON payload that is not long. To parse it saves a look for UTF-8.
    pub fn payload_text(&self) -> Option<&str> {
        self.packed.payload_text()
    }

    /// The payload's bytes; none where there is no payload.
    pub fn payload_bytes(&self) -> &[u8] {
        self.packed.payload_bytes()
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Envelope").field(&self.parts()).finish()
    }
}

/// The content type of an envelope that gives none.
pub const CONTENT_TYPE_JSON: &str = "application/json";
/// The extension attribute that names another key than the aggregate id.
pub const PARTITION_KEY: &str = "partitionkey";

/// What is checked of an envelope, wherever its parts lie.
struct Checked<'a, N, V> {
    event_id: &'a str,
    event_type: &'a str,
    aggregate_id: Option<&'a str>,
    timestamp: Option<&'a GivenTimestamp>,
    version: Option<u32>,
    source: Option<&'a str>,
    correlation_id: Option<&'a str>,
    causation_id: Option<&'a str>,
    content_type: Option<&'a str>,
    extensions: &'a [(N, V)],
    payload_bytes: Option<usize>,
}

impl<N: AsRef<str>, V: AsRef<str>> Checked<'_, N, V> {
    fn check(&self) -> Result<(), EnvelopeError> {
        // Checked again here, since the type may have been built unchecked.
        EventType::check(self.event_type).map_err(|source| EnvelopeError::EventType { source })?;
        text("event_id", self.event_id, EVENT_ID_BYTES_MAX)?;
        if self.event_id.is_empty() {
            return Err(EnvelopeError::Empty {
                attribute: "event_id",
            });
        }
        let timestamp = self.timestamp.and_then(GivenTimestamp::text);
        for (attribute, value, limit) in [
            ("aggregate_id", self.aggregate_id, KEY_BYTES_MAX),
            ("source", self.source, SOURCE_BYTES_MAX),
            (
                "correlation_id",
                self.correlation_id,
                CORRELATION_ID_BYTES_MAX,
            ),
            ("causation_id", self.causation_id, CORRELATION_ID_BYTES_MAX),
            ("content_type", self.content_type, CONTENT_TYPE_BYTES_MAX),
            ("timestamp", timestamp, TIMESTAMP_BYTES_MAX),
        ] {
            value.map_or(Ok(()), |value| text(attribute, value, limit))?;
        }
        self.check_extensions()?;
        let limit = if self.event_type.starts_with(INTERNAL_PREFIX) {
            INTERNAL_PAYLOAD_BYTES_MAX
        } else {
            PAYLOAD_BYTES_MAX
        };
        let bytes = self.payload_bytes.unwrap_or(0);
        if bytes > limit {
            return Err(EnvelopeError::TooLong {
                attribute: "payload".into(),
                bytes,
                limit,
            });
        }
        Ok(())
    }

    fn check_extensions(&self) -> Result<(), EnvelopeError> {
        if self.extensions.len() > ATTRIBUTES_MAX {
            return Err(EnvelopeError::TooManyAttributes {
                count: self.extensions.len(),
            });
        }
        for (index, (name, value)) in self.extensions.iter().enumerate() {
            let (name, value) = (name.as_ref(), value.as_ref());
            extension(name, value)?;
            if self.is_reserved(name, value) {
                return Err(EnvelopeError::ReservedAttribute {
                    name: name.to_owned(),
                });
            }
            let mut before = self.extensions.iter().take(index);
            if before.any(|(other, _)| other.as_ref() == name) {
                return Err(EnvelopeError::DuplicateAttribute {
                    name: name.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Whether an extension would stand where an attribute of every event stands. Only a null in place of one that is absent is carried; a null payload is a payload.
    fn is_reserved(&self, name: &str, value: &str) -> bool {
        let is_given = match name {
            "event_id" | "event_type" | "payload" => true,
            "aggregate_id" => self.aggregate_id.is_some(),
            "timestamp" => self.timestamp.is_some(),
            "version" => self.version.is_some(),
            "source" => self.source.is_some(),
            "correlation_id" => self.correlation_id.is_some(),
            "causation_id" => self.causation_id.is_some(),
            "content_type" => self.content_type.is_some(),
            "payload_base64" => self.payload_bytes.is_some(),
            _ => return false,
        };
        is_given || value != "null"
    }
}

fn check(parts: &EnvelopeParts) -> Result<(), EnvelopeError> {
    let checked = Checked {
        event_id: &parts.event_id,
        event_type: parts.event_type.as_str(),
        aggregate_id: parts.aggregate_id.as_deref(),
        timestamp: parts.timestamp.as_ref(),
        version: parts.version,
        source: parts.source.as_deref(),
        correlation_id: parts.correlation_id.as_deref(),
        causation_id: parts.causation_id.as_deref(),
        content_type: parts.content_type.as_deref(),
        extensions: &parts.extensions,
        payload_bytes: parts.payload.as_ref().map(|payload| payload.bytes().len()),
    };
    checked.check()
}

fn text(attribute: &'static str, value: &str, limit: usize) -> Result<(), EnvelopeError> {
    if value.len() > limit {
        return Err(EnvelopeError::TooLong {
            attribute: attribute.into(),
            bytes: value.len(),
            limit,
        });
    }
    if has_control(value) {
        return Err(EnvelopeError::ControlCharacter {
            attribute: attribute.into(),
            value: value.to_owned(),
        });
    }
    Ok(())
}

fn extension(name: &str, value: &str) -> Result<(), EnvelopeError> {
    if name.is_empty() {
        return Err(EnvelopeError::Empty {
            attribute: "attribute name",
        });
    }
    text("attribute name", name, ATTRIBUTE_NAME_BYTES_MAX)?;
    if value.len() > ATTRIBUTE_VALUE_BYTES_MAX {
        return Err(EnvelopeError::TooLong {
            attribute: name.to_owned(),
            bytes: value.len(),
            limit: ATTRIBUTE_VALUE_BYTES_MAX,
        });
    }
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
    if !is_json || value.contains(['\n', '\r']) {
        return Err(EnvelopeError::NotJson {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Why parts make no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The event type is no event type.
    #[error("{source}")]
    EventType {
        /// Why.
        source: EventTypeError,
    },
    /// An attribute that must have a value has none.
    #[error("{attribute} is empty; give it a value")]
    Empty {
        /// Which.
        attribute: &'static str,
    },
    /// A value is over its limit.
    #[error(
        "{attribute} has {bytes} bytes, at most {limit} are allowed; shorten it, or send a reference instead of the content"
    )]
    TooLong {
        /// Which attribute.
        attribute: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A value holds a control character.
    #[error("{attribute} {value:?} contains a control character; remove it")]
    ControlCharacter {
        /// Which attribute.
        attribute: String,
        /// Its value.
        value: String,
    },
    /// There are more extension attributes than allowed.
    #[error(
        "the event has {count} extension attributes, at most {ATTRIBUTES_MAX} are allowed; move them into the payload"
    )]
    TooManyAttributes {
        /// How many.
        count: usize,
    },
    /// An extension attribute has the name of an attribute that every event may have.
    #[error("{name:?} is no extension attribute; set the attribute of that name")]
    ReservedAttribute {
        /// The name.
        name: String,
    },
    /// The value of an extension attribute is not JSON on one line.
    #[error("the value of the attribute {name:?} is not JSON on one line; a text needs its quotes")]
    NotJson {
        /// The name.
        name: String,
    },
    /// Two attributes have one name.
    #[error("the attribute {name:?} is given twice; keep one")]
    DuplicateAttribute {
        /// The name.
        name: String,
    },
}

impl EnvelopeError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::EventType { source } => source.code(),
            Self::TooLong { .. } | Self::TooManyAttributes { .. } => codes::LIMIT_EXCEEDED,
            Self::Empty { .. }
            | Self::ControlCharacter { .. }
            | Self::ReservedAttribute { .. }
            | Self::NotJson { .. }
            | Self::DuplicateAttribute { .. } => codes::ENVELOPE_INVALID,
        }
    }

    /// Always permanent: the event itself must change.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Permanent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> EnvelopeParts {
        EnvelopeParts::new("evt-a7f8b4c2", "order.placed")
    }

    #[test]
    fn what_is_absent_has_a_meaning_but_is_not_given() {
        let envelope = Envelope::new(parts()).unwrap();

        assert_eq!(envelope.correlation_id(), "evt-a7f8b4c2");
        assert_eq!(envelope.version(), 1);
        assert_eq!(envelope.content_type(), "application/json");
        assert_eq!(envelope.correlation_id_given(), None);
        assert_eq!(envelope.version_given(), None);
    }

    #[test]
    fn the_key_is_the_aggregate_unless_the_event_says_otherwise() {
        let mut parts = parts();
        parts.aggregate_id = Some("order-123".into());
        assert_eq!(
            Envelope::new(parts.clone()).unwrap().key().unwrap(),
            "order-123"
        );

        parts
            .extensions
            .push(("partitionkey".into(), "\"user-456\"".into()));
        assert_eq!(Envelope::new(parts).unwrap().key().unwrap(), "user-456");
    }

    type Change = Box<dyn Fn(&mut EnvelopeParts)>;

    #[test]
    fn every_attribute_over_its_limit_is_refused_by_name() {
        let long = |bytes: usize| "x".repeat(bytes);
        let cases: Vec<(&str, Change)> = vec![
            ("event_id", Box::new(move |p| p.event_id = long(257))),
            (
                "event type",
                Box::new(move |p| p.event_type = EventType::trusted(long(257))),
            ),
            (
                "aggregate_id",
                Box::new(move |p| p.aggregate_id = Some(long(1_025))),
            ),
            ("source", Box::new(move |p| p.source = Some(long(1_025)))),
            (
                "correlation_id",
                Box::new(move |p| p.correlation_id = Some(long(257))),
            ),
            (
                "causation_id",
                Box::new(move |p| p.causation_id = Some(long(257))),
            ),
            (
                "content_type",
                Box::new(move |p| p.content_type = Some(long(257))),
            ),
            (
                "attribute name",
                Box::new(move |p| p.extensions = vec![(long(129), "1".into())]),
            ),
            (
                "big",
                Box::new(move |p| p.extensions = vec![("big".into(), long(65_537))]),
            ),
            (
                "payload",
                Box::new(move |p| p.payload = Some(Payload::binary(vec![0; 1_048_577]))),
            ),
        ];
        for (name, change) in cases {
            let mut parts = parts();
            change(&mut parts);
            let error = Envelope::new(parts).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(error.code(), codes::LIMIT_EXCEEDED, "{error}");
        }
    }

    #[test]
    fn a_null_is_carried_only_in_place_of_an_attribute_that_is_absent() {
        // A fuzzer made a CloudEvent whose overflow held a null payload beside its data: the envelope could be written, never read again.
        for (name, is_carried) in [
            ("event_id", false),
            ("payload", false),
            ("payload_base64", false),
            ("source", false),
            ("timestamp", true),
        ] {
            let mut parts = parts();
            parts.source = Some("shop".into());
            parts.payload = Some(Payload::json("1").unwrap());
            parts.extensions = vec![(name.into(), "null".into())];

            let envelope = Envelope::new(parts);

            assert_eq!(envelope.is_ok(), is_carried, "{name}: {envelope:?}");
            if let Ok(envelope) = envelope {
                assert_eq!(Envelope::from_json(envelope.to_json()), Ok(envelope));
            }
        }
    }

    #[test]
    fn an_internal_fact_has_room_for_a_whole_envelope() {
        let mut parts = EnvelopeParts::new("x", "tidings.dead_letter.recorded");
        parts.payload = Some(Payload::binary(vec![0; 3_000_000]));

        assert!(Envelope::new(parts).is_ok());
    }

    #[test]
    fn control_characters_emptiness_and_duplicates_are_refused() {
        let mut newline = parts();
        newline.aggregate_id = Some("a\nb".into());
        assert!(
            Envelope::new(newline)
                .unwrap_err()
                .to_string()
                .contains("control character")
        );

        assert!(
            Envelope::new(EnvelopeParts::new("", "order.placed"))
                .unwrap_err()
                .to_string()
                .contains("event_id is empty")
        );

        let mut twice = parts();
        twice.extensions = vec![("a".into(), "1".into()), ("a".into(), "2".into())];
        assert!(
            Envelope::new(twice)
                .unwrap_err()
                .to_string()
                .contains("\"a\" is given twice")
        );

        let mut many = parts();
        many.extensions = (0..65).map(|n| (format!("a{n}"), "1".into())).collect();
        assert!(Envelope::new(many).unwrap_err().to_string().contains("65"));
    }
}

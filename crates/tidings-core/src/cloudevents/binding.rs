//! Envelopes as messages of a transport, in both directions: CloudEvents in binary mode (attributes as headers, the payload as body) or in structured mode (one JSON
//! document as body), and whatever foreign producers send instead.
//!
//! Binary mode is used where it carries an envelope exactly; the rest (a payload that would read back as another kind, an extension that is no text, no payload at all)
//! travels in structured mode, so that nothing changes on the way.

mod attributes;

use self::attributes::{Attributes, is_cloud_event};
use super::{
    CAUSATION_ID, CORRELATION_ID, DATA_VERSION, OVERFLOW, SOURCE_ABSENT, apply_overflow,
    extension_name,
};
use crate::envelope::CONTENT_TYPE_JSON;
use crate::envelope_json;
use crate::json_object::{self as object, Members};
use crate::payload::Carriage;
use crate::{Envelope, EnvelopeParts, EventType, Payload, Timestamp};
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The content type of one event in structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// How content types of structured events begin, whatever their format.
const STRUCTURED_PREFIX: &str = "application/cloudevents";
/// How the content type of a batch begins; only HTTP has batches.
const BATCH_PREFIX: &str = "application/cloudevents-batch";
/// The type of a message that says nothing about its type.
pub const FOREIGN_TYPE: &str = "foreign.received";

/// What HTTP and NATS cannot have in a header value, besides what is not ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b'\x7f');

/// How one transport carries CloudEvents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// What the header of an attribute begins with.
    pub prefix: &'static str,
    /// Header values are percent-encoded.
    pub percent_encoded: bool,
    /// In binary mode the payload's content type is an attribute like the others, not the content type of the message.
    pub content_type_is_attribute: bool,
}

impl Binding {
    /// Kafka: headers `ce_…`, content type in the header `content-type`.
    pub const KAFKA: Self = Self {
        prefix: "ce_",
        percent_encoded: false,
        content_type_is_attribute: false,
    };
    /// RabbitMQ: headers `cloudEvents_…`, so that consumers by AMQP 1.0 see a conformant event.
    pub const RABBITMQ: Self = Self {
        prefix: "cloudEvents_",
        percent_encoded: false,
        content_type_is_attribute: false,
    };
    /// NATS: headers `ce-…`, percent-encoded, with `ce-datacontenttype`.
    pub const NATS: Self = Self {
        prefix: "ce-",
        percent_encoded: true,
        content_type_is_attribute: true,
    };
    /// HTTP: headers `ce-…`, percent-encoded; the payload's content type is the message's.
    pub const HTTP: Self = Self {
        prefix: "ce-",
        percent_encoded: true,
        content_type_is_attribute: false,
    };
}

/// An envelope as a transport takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The content type of the message, if it has one.
    pub content_type: Option<String>,
    /// The other headers, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// The body of a message as it was delivered.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Bytes that an envelope may keep a part of.
    Shared(&'a Bytes),
    /// Bytes that end with the message: what an envelope keeps of them is copied.
    Borrowed(&'a [u8]),
}

impl<'a> Body<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Borrowed(bytes) => bytes,
        }
    }

    fn shared(self) -> Option<&'a Bytes> {
        match self {
            Self::Shared(bytes) => Some(bytes),
            Self::Borrowed(_) => None,
        }
    }

    fn owned(self) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes.clone(),
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
        }
    }
}

/// A message as a transport delivered it.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The content type of the message, if it has one.
    pub content_type: Option<&'a str>,
    /// The other headers, as bytes, since foreign ones may be anything.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body; `None` where the transport tells an absent body from an empty one.
    pub body: Option<Body<'a>>,
    /// What to say of it where it does not say so itself.
    pub origin: Origin<'a>,
}

/// Where a message was found: what stands in for attributes that a foreign message lacks. What has to be put together first is printed only for one of those.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// Its place, the same at every delivery, for example `events/3/1042`: the id of an event without one.
    pub place: &'a dyn fmt::Display,
    /// The source of an event that has none, for example `kafka://events`.
    pub source: &'a dyn fmt::Display,
    /// The transport's own key: the aggregate id of an event that has none.
    pub key: Option<&'a str>,
    /// What the transport says of the type: a subject or a routing key.
    pub event_type: Option<&'a dyn fmt::Display>,
    /// When the broker took it, if it says so.
    pub timestamp: Option<Timestamp>,
}

impl fmt::Debug for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Origin");
        shown
            .field("place", &self.place.to_string())
            .field("source", &self.source.to_string())
            .field("key", &self.key)
            .field("event_type", &self.event_type.map(ToString::to_string))
            .field("timestamp", &self.timestamp)
            .finish()
    }
}

/// A message that was read: an event, or the carrier of bytes that are none.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    /// The event; with a problem, an envelope around the raw bytes.
    pub envelope: Envelope,
    /// Why the message is no event. A consumer gives it up to the dead letters.
    pub problem: Option<Arc<str>>,
}

impl Binding {
    /// Writes an envelope in binary mode where that carries it exactly, in structured mode elsewhere.
    ///
    /// **Guarantee**: [`read`](Self::read) of it is equal to the envelope, except that overflowing attributes may come back in another order.
    ///
    /// ```
    /// use tidings_core::cloudevents::binding::Binding;
    /// use tidings_core::Envelope;
    /// let envelope = Envelope::from_json(br#"{"event_id":"evt-1","event_type":"order.placed","source":"shop","payload":1.0}"#)?;
    /// let message = Binding::KAFKA.write(&envelope);
    /// assert!(message.headers.contains(&("ce_type".to_owned(), "order.placed".to_owned())));
    /// assert_eq!(message.body.as_ref(), b"1.0");
    /// # Ok::<(), tidings_core::envelope_json::EnvelopeJsonError>(())
    /// ```
    pub fn write(&self, envelope: &Envelope) -> Message {
        let Some(payload) = envelope.payload().filter(|_| is_exact(envelope)) else {
            return structured(envelope);
        };
        let mut headers = Vec::with_capacity(12);
        self.write_attributes(envelope, &mut headers);
        let content_type = envelope.content_type_given().map(str::to_owned);
        Message {
            content_type: content_type.filter(|_| !self.content_type_is_attribute),
            headers,
            body: payload.bytes().clone(),
        }
    }

    fn write_attributes(&self, envelope: &Envelope, headers: &mut Vec<(String, String)>) {
        let mut overflow = vec![b'{'];
        self.push(headers, "specversion", "1.0");
        self.push(headers, "id", envelope.event_id());
        match envelope.source() {
            Some(source) if !source.is_empty() && source != SOURCE_ABSENT => {
                self.push(headers, "source", source)
            }
            source => {
                self.push(headers, "source", SOURCE_ABSENT);
                if let Some(source) = source {
                    object::write_text(&mut overflow, "source", source);
                }
            }
        }
        self.push(headers, "type", envelope.event_type().as_str());
        let timestamp = envelope.timestamp().map(|timestamp| timestamp.to_string());
        let version = envelope.version_given().map(|version| version.to_string());
        let content_type = envelope
            .content_type_given()
            .filter(|_| self.content_type_is_attribute);
        for (name, own_name, value) in [
            ("datacontenttype", "content_type", content_type),
            ("subject", "aggregate_id", envelope.aggregate_id()),
            ("time", "timestamp", timestamp.as_deref()),
            (DATA_VERSION, "version", version.as_deref()),
            (
                CORRELATION_ID,
                "correlation_id",
                envelope.correlation_id_given(),
            ),
            (CAUSATION_ID, "causation_id", envelope.causation_id()),
        ] {
            match value {
                Some("") => object::write_text(&mut overflow, own_name, ""),
                Some(value) => self.push(headers, name, value),
                None => {}
            }
        }
        for (name, value) in envelope.extensions() {
            match text_extension(name, value) {
                Some((legal, text)) => self.push(headers, legal, &text),
                None => object::write_raw(&mut overflow, name, value),
            }
        }
        if overflow.len() > 1 {
            overflow.push(b'}');
            let overflow = String::from_utf8(overflow).expect("every part is UTF-8");
            self.push(headers, OVERFLOW, &overflow);
        }
    }

    fn push(&self, headers: &mut Vec<(String, String)>, name: &str, value: &str) {
        let value = if self.percent_encoded {
            utf8_percent_encode(value, ESCAPED).to_string()
        } else {
            value.to_owned()
        };
        headers.push(([self.prefix, name].concat(), value));
    }

    /// Reads a message: ours, of another CloudEvents SDK in either mode, the seed's JSON document, any other JSON, or bytes that are no event at all.
    ///
    /// **Guarantee**: it never fails; what cannot be read comes back as its raw bytes with the reason.
    pub fn read(&self, incoming: Incoming<'_>) -> Carried {
        let result = if incoming.content_type.is_some_and(is_batch) {
            Err(
                "a batch of CloudEvents is taken over HTTP only; send its events one by one"
                    .to_owned(),
            )
        } else if incoming.content_type.is_some_and(is_structured) {
            super::from_json(bytes_of(incoming)).map_err(|error| error.to_string())
        } else {
            match self.read_binary(incoming) {
                Some(result) => result,
                None => read_foreign(incoming),
            }
        };
        match result {
            Ok(envelope) => Carried {
                envelope,
                problem: None,
            },
            Err(problem) => raw(incoming, problem),
        }
    }

    /// The event of the headers; none if they are not those of a CloudEvent.
    fn read_binary(&self, incoming: Incoming<'_>) -> Option<Result<Envelope, String>> {
        let mut read = Attributes::default();
        let walked = read.walk(self, incoming.headers);
        // What stands behind a header that cannot be read was not looked at yet.
        let is_cloud_event =
            read.is_cloud_event || (walked.is_err() && is_cloud_event(incoming.headers));
        if !is_cloud_event {
            return None;
        }
        Some(walked.and_then(|()| self.finish(read, incoming)))
    }

    fn finish(&self, read: Attributes<'_>, incoming: Incoming<'_>) -> Result<Envelope, String> {
        read.check()?;
        let Attributes {
            mut parts,
            overflow,
            ..
        } = read;
        if !self.content_type_is_attribute || parts.content_type.is_none() {
            parts.content_type = incoming.content_type.map(Cow::Borrowed);
        }
        let shared = incoming.body.and_then(Body::shared);
        if let Some(overflow) = overflow {
            // It may say more of the content type, so that the payload comes last.
            let mut parts = parts
                .into_parts(shared)
                .map_err(|error| error.to_string())?;
            apply_overflow(&mut parts, &overflow).map_err(|error| error.to_string())?;
            let content_type = parts.content_type.as_deref();
            let payload = payload(content_type, incoming.body.map(Body::bytes))?;
            parts.payload = payload.map(|(carriage, bytes)| {
                let bytes = shared.map_or_else(
                    || Bytes::copy_from_slice(bytes),
                    |shared| shared.slice_ref(bytes),
                );
                Payload::trusted(bytes, carriage)
            });
            return Envelope::new(parts).map_err(|error| error.to_string());
        }
        let content_type = parts.content_type.as_deref();
        let body = incoming.body.map(Body::bytes);
        parts.payload = payload(content_type, body)?;
        parts.envelope(shared).map_err(|error| error.to_string())
    }

    fn text<'a>(&self, name: &str, value: &'a [u8]) -> Result<Cow<'a, str>, String> {
        let invalid = || format!("the header of the attribute {name} is not UTF-8");
        let text = std::str::from_utf8(value).map_err(|_| invalid())?;
        if !self.percent_encoded {
            return Ok(Cow::Borrowed(text));
        }
        // A quoted text is what an older binding wrote.
        let text = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .unwrap_or(text);
        if !text.contains('%') {
            return Ok(Cow::Borrowed(text));
        }
        percent_decode_str(text)
            .decode_utf8()
            .map_err(|_| invalid())
    }
}

/// Whether the order of the headers says something, for transports that do not keep it: it does where there are extensions, or a header twice.
pub fn order_matters(headers: &[(&str, &[u8])]) -> bool {
    attributes::order_matters(headers)
}

/// Writes an envelope in structured mode: one JSON document, any transport.
pub fn structured(envelope: &Envelope) -> Message {
    Message {
        content_type: Some(format!("{STRUCTURED}; charset=utf-8")),
        headers: Vec::new(),
        body: Bytes::from(super::to_json(envelope)),
    }
}

/// Whether binary mode gives the envelope back as it is.
fn is_exact(envelope: &Envelope) -> bool {
    let content_type = envelope.content_type_given();
    let body = envelope.payload_bytes();
    let says_json = is_json(content_type);
    let payload_is_exact = match envelope.payload_carriage() {
        None => false,
        Some(Carriage::Json) => says_json && !body.is_empty(),
        Some(Carriage::Binary) => !says_json,
    };
    payload_is_exact
        && content_type.is_none_or(|text| !text.is_empty() && !is_structured(text) && plain(text))
        && envelope
            .version_given()
            .is_none_or(|version| i32::try_from(version).is_ok())
        && envelope.extensions().all(|(name, value)| {
            extension_name(name, value).is_none() || text_extension(name, value).is_some()
        })
}

/// Content types go into headers as they are.
fn plain(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && text.trim() == text
}

/// The legal name and the text of an extension whose value is a text that is not empty.
fn text_extension<'a>(name: &'a str, value: &str) -> Option<(&'a str, String)> {
    let legal = extension_name(name, value)?;
    let text: String = serde_json::from_str(value).ok()?;
    // Only what is spelled in the usual way comes back to the letter.
    let usual = serde_json::to_string(&text).ok()? == value;
    (usual && !text.is_empty()).then_some((legal, text))
}

fn is_batch(content_type: &str) -> bool {
    begins_with(content_type, BATCH_PREFIX)
}

fn is_structured(content_type: &str) -> bool {
    begins_with(content_type, STRUCTURED_PREFIX)
}

fn begins_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// Whether a payload of this content type is the text of one JSON value; one that is not named is.
fn is_json(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else {
        return true;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(CONTENT_TYPE_JSON)
        || essence.eq_ignore_ascii_case("text/json")
        || essence
            .rsplit_once('+')
            .is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"))
}

/// What the payload is, by its content type.
fn payload<'a>(
    content_type: Option<&str>,
    body: Option<&'a [u8]>,
) -> Result<Option<(Carriage, &'a [u8])>, String> {
    let Some(body) = body else {
        return Ok(None);
    };
    if !is_json(content_type) {
        return Ok(Some((Carriage::Binary, body)));
    }
    if body.is_empty() {
        return Ok(None);
    }
    match Payload::check_json(body) {
        Ok(()) => Ok(Some((Carriage::Json, body))),
        // Without a content type the bytes may be anything.
        Err(_) if content_type.is_none() => Ok(Some((Carriage::Binary, body))),
        Err(error) => Err(format!(
            "the payload is not JSON, which its content type promises: {error}"
        )),
    }
}

fn bytes_of(incoming: Incoming<'_>) -> &[u8] {
    incoming.body.map_or(&b""[..], Body::bytes)
}

/// A message that is no CloudEvent: the seed's document, or JSON that becomes the payload.
fn read_foreign(incoming: Incoming<'_>) -> Result<Envelope, String> {
    let body = bytes_of(incoming);
    if let Ok(members) = Members::parse(body) {
        if members.has("event_id") && members.has("event_type") {
            return envelope_json::from_json(body).map_err(|error| error.to_string());
        }
        if members.has("specversion") && members.has("id") {
            return super::from_json(body).map_err(|error| error.to_string());
        }
    }
    if incoming
        .content_type
        .is_some_and(|given| !is_json(Some(given)))
    {
        return Err(format!(
            "the content type {:?} of a message without CloudEvents attributes is unknown; send JSON, or the attributes as headers",
            incoming.content_type.unwrap_or_default()
        ));
    }
    let payload = Payload::json(incoming.body.map(Body::owned).unwrap_or_default())
        .map_err(|error| format!("the body is neither a CloudEvent nor JSON: {error}"))?;
    let mut parts = stand_in(incoming.origin);
    parts.payload = Some(payload);
    Envelope::new(parts).map_err(|error| error.to_string())
}

/// The attributes that a foreign message does not have.
fn stand_in(origin: Origin<'_>) -> EnvelopeParts {
    let event_type = origin.event_type.map(ToString::to_string);
    let event_type = event_type.filter(|text| EventType::check(text).is_ok());
    let event_type = event_type.unwrap_or_else(|| FOREIGN_TYPE.to_owned());
    let mut parts = EnvelopeParts::new(origin.place.to_string(), event_type);
    parts.source = Some(origin.source.to_string());
    parts.aggregate_id = origin.key.map(str::to_owned);
    parts.timestamp = origin.timestamp.map(Into::into);
    parts
}

/// The raw bytes of a message that is no event.
fn raw(incoming: Incoming<'_>, problem: String) -> Carried {
    let mut parts = stand_in(incoming.origin);
    parts.content_type = Some("application/octet-stream".to_owned());
    parts.payload = incoming.body.map(|body| Payload::binary(body.owned()));
    Carried {
        // Unchecked: bytes that are too many are kept, too.
        envelope: Envelope::trusted(parts),
        problem: Some(problem.into()),
    }
}

#[cfg(test)]
mod tests;

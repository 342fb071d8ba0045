//! The envelope as the seed's JSON document, one line, in both directions.

use crate::cloudevents;
use crate::extract::Draft;
use crate::json_object::{self as object, Members, write_base64, write_raw, write_text};
use crate::payload::Carriage;
use crate::{Envelope, EnvelopeParts, EventType, Payload};
use bytes::Bytes;
use std::borrow::Cow;

pub use crate::json_object::EnvelopeJsonError;

/// The names of the seed's document and of what tidings adds to it; any other attribute is an extension.
pub(crate) const NAMES: &[&str] = &[
    "event_id",
    "event_type",
    "aggregate_id",
    "timestamp",
    "version",
    "source",
    "correlation_id",
    "causation_id",
    "content_type",
    "payload",
    "payload_base64",
];

impl Envelope {
    /// Reads an envelope from the seed's JSON document; see [`from_json`].
    ///
    /// **Errors**: permanent; the message names the attribute and the rule.
    pub fn from_json(text: impl AsRef<[u8]>) -> Result<Self, EnvelopeJsonError> {
        from_json(text.as_ref())
    }

    /// Writes the envelope as one line of JSON; see [`to_json`].
    pub fn to_json(&self) -> String {
        to_json(self)
    }
}

/// Writes an envelope as one line of JSON: the seed's attributes in the seed's order, extensions before the payload.
///
/// **Guarantee**: [`from_json`] of it is equal to the envelope, and the payload's text stands there as it was given. One exception: a JSON payload with raw line
/// breaks, which a line cannot hold, stands there as `payload_base64`; its bytes come back as they were, as a payload of [`Carriage::Binary`].
///
/// ```
/// use tidings_core::envelope_json;
/// let line = br#"{"event_id":"evt-1","event_type":"order.placed","payload":{"total": 59.980}}"#;
/// assert_eq!(envelope_json::to_json(&envelope_json::from_json(line)?).as_bytes(), line);
/// # Ok::<(), tidings_core::envelope_json::EnvelopeJsonError>(())
/// ```
pub fn to_json(envelope: &Envelope) -> String {
    let mut out = Vec::with_capacity(256 + envelope.payload_bytes().len());
    write_json(envelope, &mut out);
    String::from_utf8(out).expect("every part is UTF-8")
}

/// Appends what [`to_json`] writes to a buffer, without a line break.
pub fn write_json(envelope: &Envelope, out: &mut Vec<u8>) {
    out.push(b'{');
    write_text(out, "event_id", envelope.event_id());
    write_text(out, "event_type", envelope.event_type().as_str());
    write_optional(out, "aggregate_id", envelope.aggregate_id());
    if let Some(timestamp) = envelope.timestamp() {
        write_text(out, "timestamp", &timestamp.to_string());
    }
    if let Some(version) = envelope.version_given() {
        write_raw(out, "version", &version.to_string());
    }
    write_optional(out, "source", envelope.source());
    write_optional(out, "correlation_id", envelope.correlation_id_given());
    write_optional(out, "causation_id", envelope.causation_id());
    write_optional(out, "content_type", envelope.content_type_given());
    for (name, value) in envelope.extensions() {
        write_raw(out, name, value);
    }
    if envelope.payload_carriage().is_some() {
        match envelope.payload_line() {
            Some(text) => write_raw(out, "payload", text),
            None => write_base64(out, "payload_base64", envelope.payload_bytes()),
        }
    }
    out.push(b'}');
}

fn write_optional(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        write_text(out, name, value);
    }
}

/// Reads an envelope from the seed's JSON document.
///
/// Only `event_id` and `event_type` must be there. Attributes that are not the seed's are kept as extensions, and so is one of the seed's that is null.
///
/// **Errors**: all permanent; the message names the attribute, the value and the rule.
pub fn from_json(text: &[u8]) -> Result<Envelope, EnvelopeJsonError> {
    from_members(Members::parse(text)?)
}

pub(crate) fn from_members(members: Members<'_>) -> Result<Envelope, EnvelopeJsonError> {
    let Given {
        parts,
        has_id,
        has_type,
    } = read(members, EnvelopeParts::new("", ""))?;
    if !has_id {
        return Err(EnvelopeJsonError::Missing {
            attribute: "event_id",
        });
    }
    if !has_type {
        return Err(EnvelopeJsonError::Missing {
            attribute: "event_type",
        });
    }
    Ok(Envelope::new(parts)?)
}

/// Reads one JSON object of either form: a `specversion` makes it a CloudEvent.
///
/// **Errors**: as [`from_json`] and [`cloudevents::from_json`].
pub fn from_either(text: &[u8]) -> Result<Envelope, EnvelopeJsonError> {
    let members = Members::parse(text)?;
    if members.has("specversion") && !members.has("event_id") {
        cloudevents::from_members(members)
    } else {
        from_members(members)
    }
}

/// The elements of a JSON array on one line, each as its text, for [`from_either`].
///
/// **Errors**: the text as a whole is no JSON array.
pub fn split_batch(text: &[u8]) -> Result<Vec<String>, EnvelopeJsonError> {
    let elements = object::elements(text)?;
    Ok(elements
        .into_iter()
        .map(|element| object::on_one_line(element.get()))
        .collect())
}

/// Reads a JSON array of objects of either form; each element has its own outcome.
///
/// **Errors**: the text as a whole is no JSON array.
pub fn from_batch(
    text: &[u8],
) -> Result<Vec<Result<Envelope, EnvelopeJsonError>>, EnvelopeJsonError> {
    let elements = split_batch(text)?;
    Ok(elements
        .iter()
        .map(|element| from_either(element.as_bytes()))
        .collect())
}

/// Reads an event that has no id yet, in the seed's shape: `{"event_type":…,"aggregate_id":…,"payload":…}`.
///
/// **Errors**: all permanent. An `event_id`, `correlation_id` or `causation_id` is refused: whoever publishes the event gives them.
pub fn draft_from_json(text: &[u8]) -> Result<Draft, EnvelopeJsonError> {
    let Given {
        parts,
        has_id,
        has_type,
    } = read(Members::parse(text)?, EnvelopeParts::new("", ""))?;
    let given_by_publisher = "left out: the one who publishes the event sets it";
    for (attribute, value) in [
        ("event_id", has_id.then_some(&parts.event_id)),
        ("correlation_id", parts.correlation_id.as_ref()),
        ("causation_id", parts.causation_id.as_ref()),
    ] {
        if let Some(value) = value {
            return Err(EnvelopeJsonError::WrongType {
                attribute,
                expected: given_by_publisher,
                value: format!("{value:?}"),
            });
        }
    }
    if !has_type {
        return Err(EnvelopeJsonError::Missing {
            attribute: "event_type",
        });
    }
    let parts = Envelope::new(EnvelopeParts {
        event_id: "draft".to_owned(),
        ..parts
    })?
    .into_parts();
    Ok(Draft {
        event_type: parts.event_type,
        version: parts.version,
        aggregate_id: parts.aggregate_id,
        source: parts.source,
        timestamp: parts.timestamp,
        content_type: parts.content_type,
        extensions: parts.extensions,
        payload: parts.payload,
    })
}

/// Reads further attributes of an event whose id and type are known already, from a JSON object in the seed's shape, on one line or several.
///
/// **Errors**: all permanent. Id and type must not be there again. Whether the attributes keep to their limits is for [`Envelope::new`] to say.
pub fn further_from_json(
    known: EnvelopeParts,
    text: &str,
) -> Result<EnvelopeParts, EnvelopeJsonError> {
    let members = Members::parse(text.as_bytes())?;
    if let Some(name) = ["event_id", "event_type"]
        .into_iter()
        .find(|name| members.has(name))
    {
        let name = name.to_owned();
        return Err(EnvelopeJsonError::DuplicateAttribute { name });
    }
    Ok(read(members, known)?.parts)
}

/// Attributes as read, and whether the two that must be there were.
struct Given {
    parts: EnvelopeParts,
    has_id: bool,
    has_type: bool,
}

fn read(members: Members<'_>, parts: EnvelopeParts) -> Result<Given, EnvelopeJsonError> {
    if members.has("payload") && members.has("payload_base64") {
        return Err(EnvelopeJsonError::TwoPayloads {
            first: "payload",
            second: "payload_base64",
        });
    }
    let mut given = Given {
        parts,
        has_id: false,
        has_type: false,
    };
    for (name, value) in members.into_iter() {
        set(&mut given, name, value)?;
    }
    Ok(given)
}

fn set(given: &mut Given, name: Cow<'_, str>, value: &str) -> Result<(), EnvelopeJsonError> {
    let parts = &mut given.parts;
    match name.as_ref() {
        "payload" => {
            parts.payload = Some(Payload::trusted(
                Bytes::copy_from_slice(value.as_bytes()),
                Carriage::Json,
            ));
        }
        _ if value == "null" || !NAMES.contains(&name.as_ref()) => {
            let value = object::on_one_line(value);
            parts.extensions.push((name.into_owned(), value));
        }
        "event_id" => {
            parts.event_id = object::string("event_id", value)?;
            given.has_id = true;
        }
        "event_type" => {
            parts.event_type = EventType::carried(object::string("event_type", value)?)?;
            given.has_type = true;
        }
        "payload_base64" => {
            parts.payload = Some(Payload::binary(object::base64("payload_base64", value)?))
        }
        _ => set_optional(parts, &name, value)?,
    }
    Ok(())
}

/// Sets one of the seed's attributes that need not be there.
pub(crate) fn set_optional(
    parts: &mut EnvelopeParts,
    name: &str,
    value: &str,
) -> Result<(), EnvelopeJsonError> {
    match name {
        "aggregate_id" => parts.aggregate_id = Some(object::string("aggregate_id", value)?),
        "timestamp" => {
            let text = object::string("timestamp", value)?;
            let parsed = text
                .parse()
                .map_err(|source| EnvelopeJsonError::Timestamp {
                    attribute: "timestamp",
                    source,
                })?;
            parts.timestamp = Some(parsed);
        }
        "version" => parts.version = Some(object::version("version", value)?),
        "source" => parts.source = Some(object::string("source", value)?),
        "correlation_id" => parts.correlation_id = Some(object::string("correlation_id", value)?),
        "causation_id" => parts.causation_id = Some(object::string("causation_id", value)?),
        "content_type" => parts.content_type = Some(object::string("content_type", value)?),
        _ => parts
            .extensions
            .push((name.to_owned(), object::on_one_line(value))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = r#"{"event_id":"evt-a7f8b4c2","event_type":"order.placed","aggregate_id":"order-123","timestamp":"2024-01-15T10:30:00Z","version":1,"source":"order-service","correlation_id":"req-7d9f4e12","payload":{"order_id":"order-123","user_id":"user-456","items":[{"sku":"PROD-001","qty":2,"price":29.99}],"total":59.98}}"#;

    fn round_trip(line: &str) -> String {
        to_json(&from_json(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}")))
    }

    #[test]
    fn the_seeds_document_comes_back_to_the_letter() {
        let envelope = from_json(SEED.as_bytes()).unwrap();

        assert_eq!(envelope.event_id(), "evt-a7f8b4c2");
        assert_eq!(envelope.correlation_id(), "req-7d9f4e12");
        assert_eq!(envelope.key().unwrap(), "order-123");
        assert_eq!(to_json(&envelope), SEED);
    }

    #[test]
    fn a_json_payload_with_line_breaks_comes_back_as_the_same_bytes_and_as_binary() {
        let mut parts = EnvelopeParts::new("a", "order.placed");
        parts.payload = Some(Payload::json("{\n}").unwrap());
        let envelope = Envelope::new(parts).unwrap();

        let line = to_json(&envelope);
        let again = from_json(line.as_bytes()).unwrap();

        assert!(line.contains("payload_base64") && !line.contains('\n'));
        assert_eq!(again.payload_bytes(), b"{\n}");
        assert_eq!(again.payload_carriage(), Some(Carriage::Binary));
        assert_eq!(to_json(&again), line);
    }

    #[test]
    fn payload_text_unknown_attributes_and_absence_survive() {
        for line in [
            r#"{"event_id":"a","event_type":"t"}"#,
            r#"{"event_id":"a","event_type":"ORDER_PLACED","payload":null}"#,
            r#"{"event_id":"a","event_type":"order.placed.v2","payload":{"n":1.0e+2,"n":10000000000000000000000.50, "z":1,"a":[ ]}}"#,
            r#"{"event_id":"a","event_type":"t","timestamp":"2011-10-01T00:38:44.5460+02:00","X-Tenant":{"b":[1.10,null],"a":"\u00e9"},"extra":null,"payload":"\ud800"}"#,
            r#"{"event_id":"a","event_type":"t","correlation_id":null,"payload":1}"#,
            r#"{"event_id":"a","event_type":"t","content_type":"text/plain","payload":"caf\u00e9"}"#,
            r#"{"event_id":"a","event_type":"t","content_type":"image/png","payload_base64":"iVBORw0KGgo="}"#,
            r#"{"event_id":"a \" \\ é","event_type":"Ereignis gemeldet ✓","aggregate_id":"","source":""}"#,
        ] {
            assert_eq!(round_trip(line), line);
        }
    }

    #[test]
    fn a_payload_with_raw_line_breaks_leaves_as_base64_and_comes_back_the_same() {
        let mut parts = EnvelopeParts::new("a", "order.placed");
        parts.payload = Some(Payload::json("{\n  \"total\": 1.50\n}").unwrap());
        let line = to_json(&Envelope::new(parts).unwrap());
        assert!(
            line.contains("payload_base64") && !line.contains('\n'),
            "{line}"
        );

        let back = from_json(line.as_bytes()).unwrap();

        assert_eq!(back.payload_bytes(), b"{\n  \"total\": 1.50\n}");
        assert_eq!(to_json(&back), line);
    }

    #[test]
    fn attributes_in_another_order_and_with_blanks_are_the_same_event() {
        let line = " { \"payload\" : {\"a\" :1} , \"event_type\":\"t\", \"x\" : [1,\n2] ,\"event_id\":\"a\" } ";

        assert_eq!(
            round_trip(line),
            r#"{"event_id":"a","event_type":"t","x":[1, 2],"payload":{"a" :1}}"#
        );
    }

    #[test]
    fn a_wrong_line_names_attribute_value_and_rule() {
        for (line, words) in [
            (r#"{"event_type":"t"}"#, vec!["event_id is missing"]),
            (
                r#"{"event_id":null,"event_type":"t"}"#,
                vec!["event_id is missing"],
            ),
            (r#"{"event_id":"a"}"#, vec!["event_type is missing"]),
            (
                r#"{"event_id":1,"event_type":"t"}"#,
                vec!["event_id must be a string", "1"],
            ),
            (
                r#"{"event_id":"a","event_type":"t","version":"1"}"#,
                vec!["version must be an integer", "\"1\""],
            ),
            (
                r#"{"event_id":"a","event_type":"t","version":-1}"#,
                vec!["version", "-1"],
            ),
            (
                r#"{"event_id":"a","event_type":"t","timestamp":"yesterday"}"#,
                vec!["timestamp", "yesterday", "RFC 3339"],
            ),
            (
                r#"{"event_id":"a","event_type":"t","payload":1,"payload_base64":"AA=="}"#,
                vec!["both given"],
            ),
            (
                r#"{"event_id":"a","event_type":"t","payload_base64":"A"}"#,
                vec!["payload_base64", "base64"],
            ),
            (
                r#"{"event_id":"a","event_type":"a\nb"}"#,
                vec!["control character"],
            ),
            (
                r#"{"event_id":"a","event_id":"b","event_type":"t"}"#,
                vec!["event_id", "twice"],
            ),
            (
                r#"{"event_id":"a","event_type":"t","aggregate_id":"\ud800"}"#,
                vec!["aggregate_id"],
            ),
        ] {
            let message = from_json(line.as_bytes()).unwrap_err().to_string();
            for word in words {
                assert!(message.contains(word), "{line}: {message}");
            }
        }
    }

    #[test]
    fn a_draft_has_no_ids_of_its_own() {
        let draft = draft_from_json(br#"{"event_type":"stock.reserved","aggregate_id":"order-1","payload":{"a":1.0},"tenant":"x"}"#).unwrap();
        assert_eq!(draft.event_type.as_str(), "stock.reserved");
        assert_eq!(draft.payload.unwrap().bytes().as_ref(), br#"{"a":1.0}"#);
        assert_eq!(
            draft.extensions,
            vec![("tenant".to_owned(), "\"x\"".to_owned())]
        );

        let message = draft_from_json(br#"{"event_id":"mine","event_type":"t"}"#)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("event_id") && message.contains("left out"),
            "{message}"
        );
        assert!(
            draft_from_json(br#"{"aggregate_id":"x"}"#)
                .unwrap_err()
                .to_string()
                .contains("event_type is missing")
        );
    }
}

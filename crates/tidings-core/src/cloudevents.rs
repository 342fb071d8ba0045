//! Envelope and CloudEvents 1.0 in JSON, structured and batch, in both directions.
//!
//! What CloudEvents cannot hold as an extension (upper case, underscore, nested or null values, an empty text where one must not be empty) travels
//! together in the extension `tdgattributes`, a JSON object as a string, so that nothing is lost.

pub mod binding;

use crate::correlation::{TRACEPARENT, TRACESTATE};
use crate::envelope_json::{self, EnvelopeJsonError};
use crate::json_object::{
    self as object, Members, write_base64, write_name, write_raw, write_string, write_text,
};
use crate::payload::Carriage;
use crate::{Envelope, EnvelopeParts, EventType, Payload};
use bytes::Bytes;
use std::borrow::Cow;

/// The extension that holds what is no legal extension.
pub const OVERFLOW: &str = "tdgattributes";
/// The source of an event that gives none; CloudEvents must have one. Read back, it is absent again.
pub const SOURCE_ABSENT: &str = "urn:tidings:source-absent";
/// The extension that holds the version of the payload's schema.
pub const DATA_VERSION: &str = "dataversion";
/// The official extension that holds the correlation id.
pub const CORRELATION_ID: &str = "correlationid";
/// The official extension that holds the id of the cause.
pub const CAUSATION_ID: &str = "causationid";

/// Names that an extension of an envelope cannot have in a CloudEvent, since they mean something else there.
const TAKEN: &[&str] = &[
    "id",
    "source",
    "specversion",
    "type",
    "datacontenttype",
    "subject",
    "time",
    "data",
    "data_base64",
    OVERFLOW,
    DATA_VERSION,
    CORRELATION_ID,
    CAUSATION_ID,
];

/// Legal extensions of CloudEvents whose names mean something else in an envelope; there they are carried with this prefix.
const SHADOWED: &[&str] = &["version", "timestamp", "payload"];
const SHADOW_PREFIX: &str = "ce_";

/// Writes an envelope as one line of CloudEvents JSON, structured mode.
///
/// **Guarantee**: [`from_json`] of it is equal to the envelope, except that the overflowing attributes may come back in another order.
///
/// ```
/// use tidings_core::{cloudevents, envelope_json};
/// let envelope = envelope_json::from_json(br#"{"event_id":"evt-1","event_type":"order.placed","source":"shop","payload":1.0}"#)?;
/// let line = r#"{"specversion":"1.0","id":"evt-1","source":"shop","type":"order.placed","data":1.0}"#;
/// assert_eq!(cloudevents::to_json(&envelope), line);
/// # Ok::<(), tidings_core::envelope_json::EnvelopeJsonError>(())
/// ```
pub fn to_json(envelope: &Envelope) -> String {
    let mut out = Vec::with_capacity(256 + envelope.payload_bytes().len());
    write_json(envelope, &mut out);
    String::from_utf8(out).expect("every part is UTF-8")
}

/// Writes envelopes as one JSON array, batch mode.
pub fn to_batch(envelopes: &[Envelope]) -> String {
    let mut out = vec![b'['];
    for (index, envelope) in envelopes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_json(envelope, &mut out);
    }
    out.push(b']');
    String::from_utf8(out).expect("every part is UTF-8")
}

/// Appends what [`to_json`] writes to a buffer, without a line break.
pub fn write_json(envelope: &Envelope, out: &mut Vec<u8>) {
    let mut overflow = vec![b'{'];
    out.push(b'{');
    write_text(out, "specversion", "1.0");
    write_text(out, "id", envelope.event_id());
    write_source(envelope.source(), out, &mut overflow);
    write_text(out, "type", envelope.event_type().as_str());
    write_unless_empty(
        out,
        &mut overflow,
        "datacontenttype",
        "content_type",
        envelope.content_type_given(),
    );
    write_unless_empty(
        out,
        &mut overflow,
        "subject",
        "aggregate_id",
        envelope.aggregate_id(),
    );
    if let Some(timestamp) = envelope.timestamp() {
        write_text(out, "time", &timestamp.to_string());
    }
    match envelope.version_given() {
        Some(version) if i32::try_from(version).is_ok() => {
            write_raw(out, DATA_VERSION, &version.to_string())
        }
        Some(version) => write_raw(&mut overflow, "version", &version.to_string()),
        None => {}
    }
    write_unless_empty(
        out,
        &mut overflow,
        CORRELATION_ID,
        "correlation_id",
        envelope.correlation_id_given(),
    );
    write_unless_empty(
        out,
        &mut overflow,
        CAUSATION_ID,
        "causation_id",
        envelope.causation_id(),
    );
    for (name, value) in envelope.extensions() {
        match extension_name(name, value) {
            Some(legal) => write_raw(out, legal, value),
            None => write_raw(&mut overflow, name, value),
        }
    }
    if overflow.len() > 1 {
        overflow.push(b'}');
        write_name(out, OVERFLOW);
        write_string(
            out,
            std::str::from_utf8(&overflow).expect("every part is UTF-8"),
        );
    }
    write_data(envelope, out);
    out.push(b'}');
}

fn write_source(source: Option<&str>, out: &mut Vec<u8>, overflow: &mut Vec<u8>) {
    match source {
        Some(source) if !source.is_empty() && source != SOURCE_ABSENT => {
            write_text(out, "source", source)
        }
        Some(source) => {
            write_text(out, "source", SOURCE_ABSENT);
            write_text(overflow, "source", source);
        }
        None => write_text(out, "source", SOURCE_ABSENT),
    }
}

fn write_unless_empty(
    out: &mut Vec<u8>,
    overflow: &mut Vec<u8>,
    name: &str,
    own_name: &str,
    value: Option<&str>,
) {
    match value {
        Some("") => write_text(overflow, own_name, ""),
        Some(value) => write_text(out, name, value),
        None => {}
    }
}

fn write_data(envelope: &Envelope, out: &mut Vec<u8>) {
    if envelope.payload_carriage().is_some() {
        match envelope.payload_line() {
            Some(text) => write_raw(out, "data", text),
            None => write_base64(out, "data_base64", envelope.payload_bytes()),
        }
    }
}

/// The name under which an attribute is a legal extension with a legal value, if it is.
fn extension_name<'a>(name: &'a str, value: &str) -> Option<&'a str> {
    let legal = match name.strip_prefix(SHADOW_PREFIX) {
        Some(shadowed) if SHADOWED.contains(&shadowed) => shadowed,
        _ => name,
    };
    let plain = !legal.is_empty()
        && legal
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let taken = TAKEN.contains(&legal) || (legal == name && SHADOWED.contains(&legal));
    (plain && !taken && is_legal_value(value)).then_some(legal)
}

/// A text, a truth value, or an integer of 32 bits in its usual spelling.
fn is_legal_value(value: &str) -> bool {
    value.starts_with('"')
        || value == "true"
        || value == "false"
        || value
            .parse::<i32>()
            .is_ok_and(|number| number.to_string() == value)
}

/// Reads a CloudEvent in structured mode.
///
/// **Errors**: all permanent; the message names the attribute, the value and the rule.
pub fn from_json(text: &[u8]) -> Result<Envelope, EnvelopeJsonError> {
    from_members(Members::parse(text)?)
}

pub(crate) fn from_members(members: Members<'_>) -> Result<Envelope, EnvelopeJsonError> {
    if members.has("data") && members.has("data_base64") {
        return Err(EnvelopeJsonError::TwoPayloads {
            first: "data",
            second: "data_base64",
        });
    }
    for attribute in ["specversion", "id", "source", "type"] {
        if !members.has(attribute) {
            return Err(EnvelopeJsonError::Missing { attribute });
        }
    }
    let mut parts = EnvelopeParts::new("", "");
    let mut overflow = None;
    for (name, value) in members.into_iter() {
        if name == OVERFLOW && value.starts_with('"') {
            overflow = Some(object::string(OVERFLOW, value)?);
        } else {
            set(&mut parts, name, value)?;
        }
    }
    if let Some(overflow) = overflow {
        apply_overflow(&mut parts, &overflow)?;
    }
    Ok(Envelope::new(parts)?)
}

/// Sets what travelled as no extension; it comes last, since it says what an absent or empty source really was.
fn apply_overflow(parts: &mut EnvelopeParts, overflow: &str) -> Result<(), EnvelopeJsonError> {
    for (name, value) in Members::parse(overflow.as_bytes())?.into_iter() {
        if value == "null" {
            parts.extensions.push((name.into_owned(), value.to_owned()));
        } else {
            envelope_json::set_optional(parts, &name, value)?;
        }
    }
    Ok(())
}

fn set(
    parts: &mut EnvelopeParts,
    name: Cow<'_, str>,
    value: &str,
) -> Result<(), EnvelopeJsonError> {
    let is_text = value.starts_with('"');
    match name.as_ref() {
        "specversion" if value != "\"1.0\"" => {
            return Err(EnvelopeJsonError::SpecVersion {
                value: value.chars().take(40).collect(),
            });
        }
        "specversion" => {}
        "id" => parts.event_id = object::string("id", value)?,
        "type" => parts.event_type = EventType::carried(object::string("type", value)?)?,
        "source" => {
            parts.source =
                Some(object::string("source", value)?).filter(|source| source != SOURCE_ABSENT)
        }
        "data" => {
            parts.payload = Some(Payload::trusted(
                Bytes::copy_from_slice(value.as_bytes()),
                Carriage::Json,
            ))
        }
        // CloudEvents says that null is the same as absent.
        "subject" | "time" | "datacontenttype" | "data_base64" | DATA_VERSION | CORRELATION_ID
        | CAUSATION_ID
            if value == "null" => {}
        "subject" => parts.aggregate_id = Some(object::string("subject", value)?),
        "time" => {
            let parsed = object::string("time", value)?.parse();
            parts.timestamp = Some(parsed.map_err(|source| EnvelopeJsonError::Timestamp {
                attribute: "time",
                source,
            })?);
        }
        "datacontenttype" => parts.content_type = Some(object::string("datacontenttype", value)?),
        "data_base64" => {
            parts.payload = Some(Payload::binary(object::base64("data_base64", value)?))
        }
        DATA_VERSION if !is_text => parts.version = Some(object::version(DATA_VERSION, value)?),
        CORRELATION_ID if is_text => {
            parts.correlation_id = Some(object::string(CORRELATION_ID, value)?)
        }
        CAUSATION_ID if is_text => parts.causation_id = Some(object::string(CAUSATION_ID, value)?),
        shadowed if SHADOWED.contains(&shadowed) => {
            parts.extensions.push((
                format!("{SHADOW_PREFIX}{shadowed}"),
                object::on_one_line(value),
            ));
        }
        _ => {
            let value = object::on_one_line(value);
            parts.extensions.push((name.into_owned(), value));
        }
    }
    Ok(())
}

/// Names of the CloudEvents extensions that tidings itself writes.
pub const EXTENSIONS: &[&str] = &[
    DATA_VERSION,
    CORRELATION_ID,
    CAUSATION_ID,
    TRACEPARENT,
    TRACESTATE,
    OVERFLOW,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Member for member, whatever the order.
    fn sorted(line: &str) -> Vec<(String, String)> {
        let members: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_str(line).unwrap();
        members
            .into_iter()
            .map(|(name, value)| (name, value.get().to_owned()))
            .collect()
    }

    #[test]
    fn a_cloud_event_comes_back_with_every_attribute() {
        for line in [
            r#"{"specversion":"1.0","id":"A234-1234-1234","source":"/mycontext","type":"com.example.someevent","subject":"larger-context","time":"2018-04-05T17:31:00.10Z","datacontenttype":"text/xml","data":"<much wow=\"xml\"/>","comexampleextension1":"value","comexampleothervalue":5}"#,
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"AAEC","dataschema":"urn:x","flag":true}"#,
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","version":"7","timestamp":"soon","payload":3,"partitionkey":"k"}"#,
            r#"{"specversion":"1.0","id":"1","source":"s","type":"order.placed.v2","dataversion":2,"correlationid":"c","causationid":"d","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","data":{"a":1.00}}"#,
        ] {
            let envelope =
                from_json(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(sorted(&to_json(&envelope)), sorted(line));

            let seed = envelope_json::to_json(&envelope);
            assert_eq!(
                envelope_json::from_json(seed.as_bytes()).unwrap(),
                envelope,
                "{seed}"
            );
        }
    }

    #[test]
    fn what_is_no_legal_extension_travels_in_the_overflow() {
        let seed = r#"{"event_id":"a","event_type":"t","aggregate_id":"","source":"","X_Tenant":{"a":[1.0]},"subject":"s","big":4294967296,"nothing":null,"dataversion":"x","ok":"yes","correlation_id":null,"payload":1}"#;
        let envelope = envelope_json::from_json(seed.as_bytes()).unwrap();

        let line = to_json(&envelope);

        assert!(
            line.contains(r#""ok":"yes""#)
                && line.contains(r#""source":"urn:tidings:source-absent""#),
            "{line}"
        );
        let back = from_json(line.as_bytes()).unwrap();
        assert_eq!(sorted(&envelope_json::to_json(&back)), sorted(seed));
    }

    #[test]
    fn a_batch_gives_each_element_its_own_outcome() {
        let envelope =
            from_json(br#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#).unwrap();
        let batch = to_batch(&[envelope.clone(), envelope.clone()]);
        let read = envelope_json::from_batch(batch.as_bytes()).unwrap();
        assert_eq!(read, vec![Ok(envelope.clone()), Ok(envelope)]);

        let mixed = envelope_json::from_batch(
            br#"[{"specversion":"1.0","id":"1","source":"s"},{"event_id":"a","event_type":"t"}]"#,
        )
        .unwrap();
        assert!(mixed[0].is_err() && mixed[1].is_ok());
        assert!(envelope_json::from_batch(b"{}").is_err());
    }

    #[test]
    fn a_wrong_cloud_event_names_attribute_value_and_rule() {
        for (line, word) in [
            (
                r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#,
                "specversion must be \"1.0\", not \"0.3\"",
            ),
            (
                r#"{"specversion":"1.0","source":"s","type":"t"}"#,
                "id is missing",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","time":"now"}"#,
                "time: \"now\"",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":"AA=="}"#,
                "both given",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","dataversion":1.5}"#,
                "dataversion must be an integer",
            ),
        ] {
            let message = envelope_json::from_either(line.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(message.contains(word), "{line}: {message}");
        }
    }

    fn text() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9 _.éß✓\"\\\\{}-]{0,12}"
    }

    prop_compose! {
        fn envelopes()(
            id in "[a-z0-9é-]{1,12}",
            event_type in "[a-zA-Z_.✓]{1,12}",
            [aggregate_id, source, correlation_id, causation_id, content_type] in prop::array::uniform5(prop::option::of(text())),
            version in prop::option::of(any::<u32>()),
            micros in prop::option::of(-2_000_000_000_000_000_i64..4_000_000_000_000_000),
            names in prop::collection::btree_set("[a-zA-Z_0-9]{1,10}", 0..5),
            payload in prop::option::of(prop_oneof![
                text().prop_map(|text| Payload::json(serde_json::to_vec(&text).unwrap()).unwrap()),
                prop::collection::vec(any::<u8>(), 0..20).prop_map(Payload::binary),
            ]),
        ) -> Envelope {
            let values = ["1", "-0", "1e3", "\"x\"", "null", "{\"a\":[1,2.50]}", "true"];
            let mut parts = EnvelopeParts::new(id, event_type);
            parts.extensions = names.into_iter().enumerate()
                .filter(|(_, name)| !envelope_json::NAMES.contains(&name.as_str()))
                .map(|(index, name)| (name, values[index % values.len()].to_owned()))
                .collect();
            parts.timestamp = micros.map(|micros| crate::Timestamp::from_micros(micros).into());
            (parts.aggregate_id, parts.source, parts.correlation_id) = (aggregate_id, source, correlation_id);
            (parts.causation_id, parts.content_type, parts.version, parts.payload) = (causation_id, content_type, version, payload);
            Envelope::new(parts).unwrap()
        }
    }

    proptest! {
        #[test]
        fn both_forms_give_every_envelope_back(envelope in envelopes()) {
            let seed = envelope_json::to_json(&envelope);
            prop_assert_eq!(&envelope_json::from_json(seed.as_bytes()).unwrap(), &envelope);

            let back = from_json(to_json(&envelope).as_bytes()).unwrap();
            prop_assert_eq!(sorted(&envelope_json::to_json(&back)), sorted(&seed));
        }
    }
}

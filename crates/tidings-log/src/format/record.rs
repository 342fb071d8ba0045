//! One event in the body of a batch frame: a length, presence bits, then every attribute that was given, as it was given.

use super::fields::{Fields, Malformed, put_signed_varint, put_text, put_varint, varint_bytes};
use bytes::Bytes;
use std::ops::Range;
use tidings_core::payload::Carriage;
use tidings_core::timestamp::GivenTimestamp;
use tidings_core::{Envelope, EnvelopeParts, EventType, Payload, Timestamp};

const AGGREGATE_ID: u16 = 1;
const TIMESTAMP: u16 = 1 << 1;
const TIMESTAMP_TEXT: u16 = 1 << 2;
const VERSION: u16 = 1 << 3;
const SOURCE: u16 = 1 << 4;
const CORRELATION_ID: u16 = 1 << 5;
const CAUSATION_ID: u16 = 1 << 6;
const CONTENT_TYPE: u16 = 1 << 7;
const EXTENSIONS: u16 = 1 << 8;
const PAYLOAD: u16 = 1 << 9;
const PAYLOAD_IS_BINARY: u16 = 1 << 10;
const KNOWN: u16 = (1 << 11) - 1;

/// Appends a record whose content has so many bytes, as [`content_bytes`] says.
pub(crate) fn encode(envelope: &Envelope, content_bytes: usize, out: &mut Vec<u8>) {
    let parts = envelope.parts();
    out.reserve(whole_bytes(content_bytes));
    put_varint(out, content_bytes as u64);
    out.extend_from_slice(&presence(parts).to_le_bytes());
    put_text(out, parts.event_type.as_str());
    put_text(out, &parts.event_id);
    if let Some(text) = &parts.aggregate_id {
        put_text(out, text);
    }
    if let Some(given) = &parts.timestamp {
        put_signed_varint(out, given.instant().as_micros());
        if let Some(text) = given.text() {
            put_text(out, text);
        }
    }
    if let Some(version) = parts.version {
        put_varint(out, u64::from(version));
    }
    for text in texts(parts).into_iter().flatten() {
        put_text(out, text);
    }
    if !parts.extensions.is_empty() {
        put_varint(out, parts.extensions.len() as u64);
        for (name, value) in &parts.extensions {
            put_text(out, name);
            put_text(out, value);
        }
    }
    if let Some(payload) = &parts.payload {
        out.extend_from_slice(payload.bytes());
    }
}

/// Bytes of a record, its length included.
pub(crate) fn whole_bytes(content_bytes: usize) -> usize {
    content_bytes + varint_bytes(content_bytes as u64)
}

/// Where the next record of a body lies, its length left out; `None` at the end of the body.
pub(crate) fn next(body: &[u8], offset: usize) -> Result<Option<Range<usize>>, Malformed> {
    let what = "the length of a record";
    let rest = body.get(offset..).ok_or(Malformed { what })?;
    if rest.is_empty() {
        return Ok(None);
    }
    let mut fields = Fields::new(rest);
    let bytes = usize::try_from(fields.varint(what)?).map_err(|_| Malformed { what })?;
    if bytes > fields.left() {
        return Err(Malformed { what });
    }
    let start = offset + rest.len() - fields.left();
    Ok(Some(start..start + bytes))
}

/// The event type of a record, without looking at the rest.
pub(crate) fn event_type(record: &[u8]) -> Result<&str, Malformed> {
    let mut fields = Fields::new(record);
    fields.u16("the presence bits")?;
    fields.text("the event type")
}

/// The envelope of a record. The payload is a slice of the body; nothing is copied for it.
pub(crate) fn decode(body: &Bytes, range: Range<usize>) -> Result<Envelope, Malformed> {
    let record = body
        .get(range.clone())
        .ok_or(Malformed { what: "a record" })?;
    let mut fields = Fields::new(record);
    let given = fields.u16("the presence bits")?;
    if given & !KNOWN != 0 {
        return Err(Malformed {
            what: "the presence bits",
        });
    }
    let has = |bit: u16| given & bit != 0;
    let event_type = EventType::trusted(fields.text("the event type")?.to_owned());
    let event_id = fields.text("the event id")?.to_owned();
    let optional = |bit: u16, what: &'static str, fields: &mut Fields<'_>| {
        has(bit)
            .then(|| fields.text(what).map(str::to_owned))
            .transpose()
    };
    let aggregate_id = optional(AGGREGATE_ID, "the aggregate id", &mut fields)?;
    let timestamp = if has(TIMESTAMP) {
        let instant = Timestamp::from_micros(fields.signed_varint("the timestamp")?);
        let text = has(TIMESTAMP_TEXT)
            .then(|| fields.text("the timestamp's text"))
            .transpose()?;
        Some(GivenTimestamp::trusted(instant, text))
    } else {
        None
    };
    let version = has(VERSION)
        .then(|| fields.varint("the version"))
        .transpose()?;
    let version = version
        .map(u32::try_from)
        .transpose()
        .map_err(|_| Malformed {
            what: "the version",
        })?;
    Ok(Envelope::trusted(EnvelopeParts {
        event_id,
        event_type,
        aggregate_id,
        timestamp,
        version,
        source: optional(SOURCE, "the source", &mut fields)?,
        correlation_id: optional(CORRELATION_ID, "the correlation id", &mut fields)?,
        causation_id: optional(CAUSATION_ID, "the causation id", &mut fields)?,
        content_type: optional(CONTENT_TYPE, "the content type", &mut fields)?,
        extensions: if has(EXTENSIONS) {
            extensions(&mut fields)?
        } else {
            Vec::new()
        },
        payload: payload(given, body, &range, fields.left())?,
    }))
}

fn extensions(fields: &mut Fields<'_>) -> Result<Vec<(String, String)>, Malformed> {
    let what = "an extension attribute";
    let count = fields.varint(what)?;
    // Each takes two bytes at least, which bounds what a forged count can reserve.
    if count > (fields.left() / 2) as u64 {
        return Err(Malformed { what });
    }
    (0..count)
        .map(|_| Ok((fields.text(what)?.to_owned(), fields.text(what)?.to_owned())))
        .collect()
}

fn payload(
    given: u16,
    body: &Bytes,
    range: &Range<usize>,
    left: usize,
) -> Result<Option<Payload>, Malformed> {
    if given & PAYLOAD == 0 {
        return if left == 0 {
            Ok(None)
        } else {
            Err(Malformed {
                what: "the end of a record",
            })
        };
    }
    let carriage = if given & PAYLOAD_IS_BINARY == 0 {
        Carriage::Json
    } else {
        Carriage::Binary
    };
    let bytes = body.slice(range.end - left..range.end);
    Ok(Some(Payload::trusted(bytes, carriage)))
}

/// The texts behind the version, in the order in which they stand.
fn texts(parts: &EnvelopeParts) -> [Option<&str>; 4] {
    [
        parts.source.as_deref(),
        parts.correlation_id.as_deref(),
        parts.causation_id.as_deref(),
        parts.content_type.as_deref(),
    ]
}

fn presence(parts: &EnvelopeParts) -> u16 {
    let bit = |given: bool, bit: u16| if given { bit } else { 0 };
    let text = parts.timestamp.as_ref().and_then(GivenTimestamp::text);
    let binary = parts
        .payload
        .as_ref()
        .is_some_and(|payload| payload.carriage() == Carriage::Binary);
    bit(parts.aggregate_id.is_some(), AGGREGATE_ID)
        | bit(parts.timestamp.is_some(), TIMESTAMP)
        | bit(text.is_some(), TIMESTAMP_TEXT)
        | bit(parts.version.is_some(), VERSION)
        | bit(parts.source.is_some(), SOURCE)
        | bit(parts.correlation_id.is_some(), CORRELATION_ID)
        | bit(parts.causation_id.is_some(), CAUSATION_ID)
        | bit(parts.content_type.is_some(), CONTENT_TYPE)
        | bit(!parts.extensions.is_empty(), EXTENSIONS)
        | bit(parts.payload.is_some(), PAYLOAD)
        | bit(binary, PAYLOAD_IS_BINARY)
}

/// Bytes of the record of an envelope, its length left out.
pub(crate) fn content_bytes(parts: &EnvelopeParts) -> usize {
    let text = |text: &str| varint_bytes(text.len() as u64) + text.len();
    let timestamp = parts.timestamp.as_ref().map_or(0, |given| {
        let micros = given.instant().as_micros();
        varint_bytes(((micros << 1) ^ (micros >> 63)) as u64) + given.text().map_or(0, text)
    });
    let extensions = if parts.extensions.is_empty() {
        0
    } else {
        let each = parts
            .extensions
            .iter()
            .map(|(name, value)| text(name) + text(value));
        varint_bytes(parts.extensions.len() as u64) + each.sum::<usize>()
    };
    2 + text(parts.event_type.as_str())
        + text(&parts.event_id)
        + parts.aggregate_id.as_deref().map_or(0, text)
        + timestamp
        + parts
            .version
            .map_or(0, |version| varint_bytes(u64::from(version)))
        + texts(parts).into_iter().flatten().map(text).sum::<usize>()
        + extensions
        + parts
            .payload
            .as_ref()
            .map_or(0, |payload| payload.bytes().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    fn timestamps() -> impl Strategy<Value = GivenTimestamp> {
        prop_oneof![
            any::<i64>().prop_map(|micros| Timestamp::from_micros(micros).into()),
            Just("2011-10-01T00:38:44.5460000+02:00".parse().unwrap()),
            Just("1948-05-01T00:00:00.000001Z".parse().unwrap()),
        ]
    }

    fn payloads() -> impl Strategy<Value = Payload> {
        (any::<Vec<u8>>(), any::<bool>()).prop_map(|(bytes, binary)| {
            let carriage = if binary {
                Carriage::Binary
            } else {
                Carriage::Json
            };
            Payload::trusted(bytes.into(), carriage)
        })
    }

    fn envelopes() -> impl Strategy<Value = Envelope> {
        let first = (
            any::<String>(),
            any::<String>(),
            option::of(any::<String>()),
            option::of(timestamps()),
            option::of(any::<u32>()),
        );
        let second = (
            option::of(any::<String>()),
            option::of(any::<String>()),
            option::of(any::<String>()),
            option::of(any::<String>()),
            proptest::collection::vec((any::<String>(), any::<String>()), 0..5),
            option::of(payloads()),
        );
        (first, second).prop_map(|(first, second)| {
            let mut parts = EnvelopeParts::new(first.0, first.1);
            parts.aggregate_id = first.2;
            parts.timestamp = first.3;
            parts.version = first.4;
            (
                parts.source,
                parts.correlation_id,
                parts.causation_id,
                parts.content_type,
                parts.extensions,
                parts.payload,
            ) = second;
            Envelope::trusted(parts)
        })
    }

    fn decoded(out: Vec<u8>) -> Result<Vec<Envelope>, Malformed> {
        let body = Bytes::from(out);
        let (mut offset, mut all) = (0, Vec::new());
        while let Some(range) = next(&body, offset)? {
            offset = range.end;
            event_type(&body[range.clone()])?;
            all.push(decode(&body, range)?);
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn every_attribute_comes_back_as_it_was_given(all in proptest::collection::vec(envelopes(), 0..4)) {
            let mut out = Vec::new();
            let mut bytes = 0;
            for envelope in &all {
                let content = content_bytes(envelope.parts());
                encode(envelope, content, &mut out);
                bytes += whole_bytes(content);
            }

            prop_assert_eq!(out.len(), bytes);
            prop_assert_eq!(decoded(out).unwrap(), all);
        }

        #[test]
        fn a_changed_record_is_malformed_or_another_envelope_and_never_a_panic(
            envelope in envelopes(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
        ) {
            let mut out = Vec::new();
            encode(&envelope, content_bytes(envelope.parts()), &mut out);
            let index = at.index(out.len());
            out[index] = byte;
            out.truncate(cut.index(out.len() + 1));
            // Any answer will do: the frame's checksum is what tells.
            drop(decoded(out));
        }
    }

    #[test]
    fn an_absent_attribute_is_not_an_empty_one() {
        let absent = Envelope::trusted(EnvelopeParts::new("a", "b"));
        let mut parts = EnvelopeParts::new("a", "b");
        parts.aggregate_id = Some(String::new());
        parts.source = Some(String::new());
        parts.payload = Some(Payload::binary(Bytes::new()));
        let empty = Envelope::trusted(parts);
        let mut out = Vec::new();
        encode(&absent, content_bytes(absent.parts()), &mut out);
        encode(&empty, content_bytes(empty.parts()), &mut out);

        assert_eq!(decoded(out).unwrap(), vec![absent, empty]);
    }

    #[test]
    fn the_payload_is_a_slice_of_the_body() {
        let mut parts = EnvelopeParts::new("a", "b");
        parts.payload = Some(Payload::json("{\"total\": 59.980}").unwrap());
        let mut out = Vec::new();
        let bytes = content_bytes(&parts);
        encode(&Envelope::trusted(parts), bytes, &mut out);
        let body = Bytes::from(out);
        let range = next(&body, 0).unwrap().unwrap();

        let envelope = decode(&body, range).unwrap();

        assert!(
            body.as_ptr_range()
                .contains(&envelope.payload_bytes().as_ptr())
        );
    }
}

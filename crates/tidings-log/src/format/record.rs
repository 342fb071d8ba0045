//! One event in the body of a batch frame: a length, presence bits, then every attribute that was given, as it was given.

use super::fields::{Fields, Malformed, put_counted, put_signed_varint, put_varint, varint_bytes};
use bytes::Bytes;
use std::ops::Range;
use tidings_core::envelope::{PARTITION_KEY, Packer, StoredEnvelope};
use tidings_core::payload::Carriage;
use tidings_core::{Envelope, Timestamp};

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
pub(crate) fn encode(stored: &StoredEnvelope<'_>, content_bytes: usize, out: &mut Vec<u8>) {
    out.reserve(whole_bytes(content_bytes));
    put_varint(out, content_bytes as u64);
    out.extend_from_slice(&presence(stored).to_le_bytes());
    put_counted(out, stored.event_type);
    put_counted(out, stored.event_id);
    if let Some(text) = stored.aggregate_id {
        put_counted(out, text);
    }
    if let Some((instant, text)) = stored.timestamp {
        put_signed_varint(out, instant.as_micros());
        if let Some(text) = text {
            put_counted(out, text);
        }
    }
    if let Some(version) = stored.version {
        put_varint(out, u64::from(version));
    }
    for text in texts(stored).into_iter().flatten() {
        put_counted(out, text);
    }
    if !stored.extensions.is_empty() {
        put_varint(out, stored.extensions.len() as u64);
        for (name, value) in &stored.extensions {
            put_counted(out, name);
            put_counted(out, value);
        }
    }
    if let Some((_, payload)) = stored.payload {
        out.extend_from_slice(payload);
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

/// By what a record is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Names<'a> {
    pub event_id: &'a str,
    pub aggregate_id: Option<&'a str>,
    /// The JSON text of the attribute that names another key.
    partition_key: Option<&'a str>,
}

impl Names<'_> {
    /// The key, where it is another than the aggregate id.
    pub(crate) fn other_key(&self) -> Option<String> {
        let key: String = serde_json::from_str(self.partition_key?).ok()?;
        (self.aggregate_id != Some(&key)).then_some(key)
    }
}

/// By what a record is looked up, without decoding the rest.
pub(crate) fn names(record: &[u8]) -> Result<Names<'_>, Malformed> {
    let mut fields = Fields::new(record);
    let given = fields.u16("the presence bits")?;
    let has = |bit: u16| given & bit != 0;
    fields.text("the event type")?;
    let mut names = Names {
        event_id: fields.text("the event id")?,
        aggregate_id: None,
        partition_key: None,
    };
    if has(AGGREGATE_ID) {
        names.aggregate_id = Some(fields.text("the aggregate id")?);
    }
    if !has(EXTENSIONS) {
        return Ok(names);
    }
    if has(TIMESTAMP) {
        fields.signed_varint("the timestamp")?;
        if has(TIMESTAMP_TEXT) {
            fields.text("the timestamp's text")?;
        }
    }
    if has(VERSION) {
        fields.varint("the version")?;
    }
    for bit in [SOURCE, CORRELATION_ID, CAUSATION_ID, CONTENT_TYPE] {
        if has(bit) {
            fields.text("an attribute")?;
        }
    }
    let what = "an extension attribute";
    for _ in 0..fields.varint(what)? {
        let (name, value) = (fields.text(what)?, fields.text(what)?);
        if name == PARTITION_KEY {
            names.partition_key = Some(value);
            break;
        }
    }
    Ok(names)
}

/// The envelope of a record. Its texts are copied into one block of their own; a long payload is a slice of the body.
pub(crate) fn decode(
    body: &Bytes,
    range: Range<usize>,
    packer: &mut Packer,
) -> Result<Envelope, Malformed> {
    let record = body.get(range).ok_or(Malformed { what: "a record" })?;
    let mut fields = Fields::new(record);
    let given = fields.u16("the presence bits")?;
    if given & !KNOWN != 0 {
        return Err(Malformed {
            what: "the presence bits",
        });
    }
    let has = |bit: u16| given & bit != 0;
    let stored = StoredEnvelope {
        event_type: fields.counted("the event type")?,
        event_id: fields.counted("the event id")?,
        aggregate_id: fields.counted_if(has(AGGREGATE_ID), "the aggregate id")?,
        timestamp: if has(TIMESTAMP) {
            let instant = Timestamp::from_micros(fields.signed_varint("the timestamp")?);
            let text = fields.counted_if(has(TIMESTAMP_TEXT), "the timestamp's text")?;
            Some((instant, text))
        } else {
            None
        },
        version: if has(VERSION) {
            let what = "the version";
            Some(u32::try_from(fields.varint(what)?).map_err(|_| Malformed { what })?)
        } else {
            None
        },
        source: fields.counted_if(has(SOURCE), "the source")?,
        correlation_id: fields.counted_if(has(CORRELATION_ID), "the correlation id")?,
        causation_id: fields.counted_if(has(CAUSATION_ID), "the causation id")?,
        content_type: fields.counted_if(has(CONTENT_TYPE), "the content type")?,
        extensions: if has(EXTENSIONS) {
            extensions(&mut fields)?
        } else {
            Vec::new()
        },
        payload: payload(given, &mut fields)?,
    };
    packer.pack(&stored, body).ok_or(Malformed {
        what: "a text of a record",
    })
}

type Pair<'a> = (&'a [u8], &'a [u8]);

fn extensions<'a>(fields: &mut Fields<'a>) -> Result<Vec<Pair<'a>>, Malformed> {
    let what = "an extension attribute";
    let count = fields.varint(what)?;
    // Each takes two bytes at least, which bounds what a forged count can reserve.
    if count > (fields.left() / 2) as u64 {
        return Err(Malformed { what });
    }
    (0..count)
        .map(|_| Ok((fields.counted(what)?, fields.counted(what)?)))
        .collect()
}

/// What is left of a record is its payload.
fn payload<'a>(
    given: u16,
    fields: &mut Fields<'a>,
) -> Result<Option<(Carriage, &'a [u8])>, Malformed> {
    let what = "the end of a record";
    let bytes = fields.bytes(fields.left(), what)?;
    if given & PAYLOAD == 0 {
        return if bytes.is_empty() {
            Ok(None)
        } else {
            Err(Malformed { what })
        };
    }
    let carriage = if given & PAYLOAD_IS_BINARY == 0 {
        Carriage::Json
    } else {
        Carriage::Binary
    };
    Ok(Some((carriage, bytes)))
}

/// The texts behind the version, in the order in which they stand.
fn texts<'a>(stored: &StoredEnvelope<'a>) -> [Option<&'a [u8]>; 4] {
    [
        stored.source,
        stored.correlation_id,
        stored.causation_id,
        stored.content_type,
    ]
}

fn presence(stored: &StoredEnvelope<'_>) -> u16 {
    let bit = |given: bool, bit: u16| if given { bit } else { 0 };
    let timestamp_text = stored.timestamp.and_then(|(_, text)| text);
    let carriage = stored.payload.map(|(carriage, _)| carriage);
    bit(stored.aggregate_id.is_some(), AGGREGATE_ID)
        | bit(stored.timestamp.is_some(), TIMESTAMP)
        | bit(timestamp_text.is_some(), TIMESTAMP_TEXT)
        | bit(stored.version.is_some(), VERSION)
        | bit(stored.source.is_some(), SOURCE)
        | bit(stored.correlation_id.is_some(), CORRELATION_ID)
        | bit(stored.causation_id.is_some(), CAUSATION_ID)
        | bit(stored.content_type.is_some(), CONTENT_TYPE)
        | bit(!stored.extensions.is_empty(), EXTENSIONS)
        | bit(carriage.is_some(), PAYLOAD)
        | bit(carriage == Some(Carriage::Binary), PAYLOAD_IS_BINARY)
}

/// Bytes of the record of an envelope, its length left out.
pub(crate) fn content_bytes(stored: &StoredEnvelope<'_>) -> usize {
    let counted = |text: &[u8]| varint_bytes(text.len() as u64) + text.len();
    let timestamp = stored.timestamp.map_or(0, |(instant, text)| {
        let micros = instant.as_micros();
        varint_bytes(((micros << 1) ^ (micros >> 63)) as u64) + text.map_or(0, counted)
    });
    let extensions = if stored.extensions.is_empty() {
        0
    } else {
        let each = stored
            .extensions
            .iter()
            .map(|(name, value)| counted(name) + counted(value));
        varint_bytes(stored.extensions.len() as u64) + each.sum::<usize>()
    };
    2 + counted(stored.event_type)
        + counted(stored.event_id)
        + stored.aggregate_id.map_or(0, counted)
        + timestamp
        + stored
            .version
            .map_or(0, |version| varint_bytes(u64::from(version)))
        + texts(stored)
            .into_iter()
            .flatten()
            .map(counted)
            .sum::<usize>()
        + extensions
        + stored.payload.map_or(0, |(_, bytes)| bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;
    use tidings_core::timestamp::GivenTimestamp;
    use tidings_core::{EnvelopeParts, Payload};

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

    fn extensions() -> impl Strategy<Value = (String, String)> {
        let names = prop_oneof![any::<String>(), Just(PARTITION_KEY.to_owned())];
        let values = prop_oneof![any::<String>(), Just(r#""ké""#.to_owned())];
        (names, values)
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
            proptest::collection::vec(extensions(), 0..5),
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

    fn put(envelope: &Envelope, out: &mut Vec<u8>) {
        let stored = envelope.stored();
        encode(&stored, content_bytes(&stored), out);
    }

    fn decoded(out: Vec<u8>) -> Result<Vec<Envelope>, Malformed> {
        let body = Bytes::from(out);
        let (mut offset, mut all) = (0, Vec::new());
        while let Some(range) = next(&body, offset)? {
            offset = range.end;
            event_type(&body[range.clone()])?;
            let envelope = decode(&body, range.clone(), &mut Packer::default())?;
            let names = names(&body[range])?;
            assert_eq!(names.event_id, envelope.event_id());
            assert_eq!(names.aggregate_id, envelope.aggregate_id());
            assert_eq!(
                names.other_key().as_deref().or(names.aggregate_id),
                envelope.key().as_deref()
            );
            all.push(envelope);
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn every_attribute_comes_back_as_it_was_given(all in proptest::collection::vec(envelopes(), 0..4)) {
            let mut out = Vec::new();
            let mut bytes = 0;
            for envelope in &all {
                let content = content_bytes(&envelope.stored());
                encode(&envelope.stored(), content, &mut out);
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
            put(&envelope, &mut out);
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
        put(&absent, &mut out);
        put(&empty, &mut out);

        assert_eq!(decoded(out).unwrap(), vec![absent, empty]);
    }

    #[test]
    fn a_long_payload_is_a_slice_of_the_body_and_a_short_one_keeps_no_body() {
        for (spaces, shared) in [(5_000, true), (10, false)] {
            let mut parts = EnvelopeParts::new("a", "b");
            let text = format!("{{\"total\":{:spaces$}59.980}}", "");
            parts.payload = Some(Payload::json(text).unwrap());
            let envelope = Envelope::trusted(parts);
            let mut out = Vec::new();
            put(&envelope, &mut out);
            let body = Bytes::from(out);
            let range = next(&body, 0).unwrap().unwrap();

            let decoded = decode(&body, range, &mut Packer::default()).unwrap();

            assert_eq!(decoded, envelope);
            let place = decoded.payload_bytes().as_ptr();
            assert_eq!(body.as_ptr_range().contains(&place), shared);
        }
    }
}

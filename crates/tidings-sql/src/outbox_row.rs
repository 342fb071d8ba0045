//! How an event becomes the columns of an outbox row, and a row an event again.

use tidings_core::envelope::CONTENT_TYPE_JSON;
use tidings_core::event_id::{self, RowOrigin};
use tidings_core::payload::Carriage;
use tidings_core::store::{RowFault, StoreError};
use tidings_core::{Envelope, EnvelopeParts, Payload, Timestamp, envelope_json};

/// An event as the columns of our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) event_id: String,
    pub(crate) event_type: String,
    /// What order is kept by.
    pub(crate) key: Option<String>,
    pub(crate) payload: Option<String>,
    pub(crate) payload_bytes: Option<Vec<u8>>,
    pub(crate) headers: String,
}

/// What a row says, in the columns that its table has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Read {
    pub(crate) row_id: String,
    pub(crate) event_id: Option<String>,
    pub(crate) event_type: String,
    pub(crate) key: Option<String>,
    pub(crate) payload: Option<String>,
    pub(crate) payload_bytes: Option<Vec<u8>>,
    pub(crate) headers: Option<String>,
    /// When it was written, where the row says.
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) causation_id: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) content_type: Option<String>,
}

/// How an attribute begins that says that there is no aggregate id, although the row has a key.
const NO_AGGREGATE: &str = "\"aggregate_id\":null";
/// How every line begins from which headers are cut.
const LINE_BEGIN: &str = r#"{"event_id":"-","event_type":"-""#;

/// Writes an event.
///
/// **Errors**: [`StoreError::Refused`] where the payload is not what its content type promises.
pub(crate) fn write(envelope: &Envelope) -> Result<Written, StoreError> {
    let mut parts = envelope.parts().clone();
    let payload = parts.payload.take();
    let (payload, payload_bytes) = match payload {
        None => (None, None),
        Some(payload) => columns_of(envelope, &payload)?,
    };
    let key = envelope.key().map(std::borrow::Cow::into_owned);
    let aggregate_id = parts.aggregate_id.take();
    let hides_aggregate = key.is_some() && aggregate_id.is_none();
    if aggregate_id != key {
        parts.aggregate_id = aggregate_id;
    }
    let event_id = std::mem::replace(&mut parts.event_id, "-".to_owned());
    let event_type = parts.event_type.as_str().to_owned();
    parts.event_type = tidings_core::EventType::trusted("-".to_owned());
    let line = Envelope::trusted(parts).to_json();
    let rest = line.strip_prefix(LINE_BEGIN).unwrap_or("}");
    let rest = rest.strip_prefix(',').unwrap_or(rest);
    let headers = match (hides_aggregate, rest) {
        (false, rest) => format!("{{{rest}"),
        (true, "}") => format!("{{{NO_AGGREGATE}}}"),
        (true, rest) => format!("{{{NO_AGGREGATE},{rest}"),
    };
    Ok(Written {
        event_id,
        event_type,
        key,
        payload,
        payload_bytes,
        headers,
    })
}

type PayloadColumns = (Option<String>, Option<Vec<u8>>);

fn columns_of(envelope: &Envelope, payload: &Payload) -> Result<PayloadColumns, StoreError> {
    let bytes = payload.bytes();
    if payload.carriage() == Carriage::Json || envelope.content_type() == CONTENT_TYPE_JSON {
        // Checked again although a payload of JSON was checked when it was made: one from a store may claim anything, and the database would
        // refuse it only after the caller's transaction is spoilt.
        if let Err(error) = Payload::json(bytes.clone()) {
            return Err(StoreError::Refused {
                reason: format!(
                    "the payload of {} is not JSON ({error}), and its content type {} promises that; mend it, or give it its content type",
                    envelope.event_type().as_str(),
                    envelope.content_type()
                ),
            });
        }
    }
    if payload.carriage() == Carriage::Json {
        let text = String::from_utf8(bytes.to_vec());
        return Ok((text.ok(), None));
    }
    Ok((None, Some(bytes.to_vec())))
}

/// Reads an event. `identity` is that of the outbox, for rows without an event id.
pub(crate) fn read(row: Read, identity: &str) -> Result<Envelope, RowFault> {
    let event_id = event_id_of(&row, identity);
    let mut parts = match row.headers.as_deref().map(str::trim) {
        None | Some("" | "{}" | "null") => EnvelopeParts::new(event_id, row.event_type.as_str()),
        Some(headers) => with_headers(&row, event_id, headers)?,
    };
    let hides_aggregate = parts
        .extensions
        .iter()
        .position(|(name, value)| name == "aggregate_id" && value == "null");
    match hides_aggregate {
        Some(at) => drop(parts.extensions.remove(at)),
        None => parts.aggregate_id = parts.aggregate_id.or(row.key),
    }
    parts.correlation_id = row.correlation_id.or(parts.correlation_id);
    parts.causation_id = row.causation_id.or(parts.causation_id);
    parts.source = parts.source.or(row.source);
    parts.content_type = parts.content_type.or(row.content_type);
    if let Some(version) = row.version {
        let version = version.trim().parse().map_err(|_| {
            fault(
                &row.row_id,
                &format!("its version {version:?} is none: it must be a whole number from 0 on"),
            )
        })?;
        parts.version = Some(version);
    }
    if parts.timestamp.is_none() {
        parts.timestamp = row.created_at.map(Into::into);
    }
    let is_json = parts
        .content_type
        .as_deref()
        .is_none_or(|given| given == CONTENT_TYPE_JSON);
    parts.payload = match (row.payload, row.payload_bytes) {
        (Some(text), _) if is_json => Some(json_payload(&row.row_id, text)?),
        (Some(text), _) => Some(text_payload(text)),
        (None, Some(bytes)) => {
            if parts.content_type.is_none() && Payload::json(bytes.clone()).is_err() {
                parts.content_type = Some("application/octet-stream".to_owned());
            }
            Some(Payload::binary(bytes))
        }
        (None, None) => None,
    };
    Envelope::new(parts).map_err(|error| fault(&row.row_id, &error.to_string()))
}

/// The id under which the event of a row is published: its own, or one that is made from the row.
pub(crate) fn event_id_of(row: &Read, identity: &str) -> String {
    if let Some(given) = row.event_id.as_ref().filter(|id| !id.is_empty()) {
        return given.clone();
    }
    let text = row.payload.as_deref().map(str::as_bytes);
    event_id::of_row(RowOrigin {
        outbox: identity,
        row_id: &row.row_id,
        // A time that changed with each reading would change the id.
        created_at: row.created_at.unwrap_or_default(),
        payload: text.or(row.payload_bytes.as_deref()).unwrap_or_default(),
    })
}

fn with_headers(row: &Read, event_id: String, headers: &str) -> Result<EnvelopeParts, RowFault> {
    if !headers.starts_with('{') {
        return Err(fault(&row.row_id, "its headers are no JSON object"));
    }
    let known = EnvelopeParts::new(event_id, row.event_type.as_str());
    envelope_json::further_from_json(known, headers)
        .map_err(|error| fault(&row.row_id, &format!("its headers make no event: {error}")))
}

fn json_payload(row_id: &str, text: String) -> Result<Payload, RowFault> {
    Payload::json(text).map_err(|error| {
        fault(
            row_id,
            &format!("its payload is not JSON ({error}); mend the row, or name its content type in the mapping"),
        )
    })
}

/// What other content types mean by a text, only their readers know: it stays JSON where it is, bytes where not.
fn text_payload(text: String) -> Payload {
    Payload::json(text.clone()).unwrap_or_else(|_| Payload::binary(text))
}

fn fault(row_id: &str, reason: &str) -> RowFault {
    RowFault {
        reason: format!("row {row_id}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(written: Written) -> Envelope {
        let row = Read {
            row_id: "1".into(),
            event_id: Some(written.event_id),
            event_type: written.event_type,
            key: written.key,
            payload: written.payload,
            payload_bytes: written.payload_bytes,
            headers: Some(written.headers),
            ..Read::default()
        };
        read(row, "identity").unwrap()
    }

    #[test]
    fn an_event_comes_back_from_its_row_as_it_was() {
        let lines = [
            r#"{"event_id":"evt-1","event_type":"order.placed","aggregate_id":"o-1","timestamp":"2024-01-15T10:30:00Z","version":2,"source":"shop","correlation_id":"c","causation_id":"x","content_type":"application/json","b":{"z": 1,"a":2.0},"a":[ ],"payload":{"total": 59.980, "a":1,"a":2}}"#,
            r#"{"event_id":"e","event_type":"order.placed.v3","timestamp":"2024-01-15T10:30:00Z","partitionkey":"user-1"}"#,
            r#"{"event_id":"e","event_type":"order.placed","aggregate_id":"o-1","timestamp":"2024-01-15T10:30:00+02:00","partitionkey":"user-1","payload":null}"#,
            r#"{"event_id":"e","event_type":"order.placed","timestamp":"2024-01-15T10:30:00Z","content_type":"image/png","payload_base64":"AAH/"}"#,
        ];
        for line in lines {
            let envelope = Envelope::from_json(line).unwrap();

            assert_eq!(read_back(write(&envelope).unwrap()).to_json(), line);
        }
    }

    #[test]
    fn a_payload_that_breaks_its_promise_is_refused_by_name() {
        let mut parts = EnvelopeParts::new("e", "order.placed");
        parts.payload = Some(Payload::binary(&b"<order/>"[..]));

        let error = write(&Envelope::new(parts).unwrap()).unwrap_err();

        assert_eq!(error.code().as_str(), "TD0078");
        assert!(error.to_string().contains("order.placed"), "{error}");
    }

    #[test]
    fn a_bare_row_gets_an_id_that_repeats_and_the_time_it_was_written() {
        let row = Read {
            row_id: "7".into(),
            event_type: "order.placed".into(),
            payload: Some("{}".into()),
            created_at: Some(Timestamp::from_micros(1_705_314_600_000_000)),
            ..Read::default()
        };

        let envelope = read(row.clone(), "identity").unwrap();

        assert_eq!(read(row.clone(), "identity").unwrap(), envelope);
        assert_ne!(read(row, "other").unwrap().event_id(), envelope.event_id());
        assert_eq!(
            envelope.timestamp().unwrap().to_string(),
            "2024-01-15T10:30:00Z"
        );
    }

    #[test]
    fn headers_may_stand_on_several_lines() {
        let row = Read {
            row_id: "7".into(),
            event_type: "order.placed".into(),
            payload: Some("{}".into()),
            headers: Some("\n{\n  \"source\": \"shop\",\r\n  \"trace\": [1,\n 2]\n}\n".into()),
            ..Read::default()
        };

        let envelope = read(row, "identity").unwrap();

        assert_eq!(envelope.source(), Some("shop"));
        let line = envelope.to_json();
        assert!(!line.contains(['\n', '\r']), "{line}");
        let again = Envelope::from_json(&line).unwrap();
        assert_eq!(again.extension("trace"), envelope.extension("trace"));
    }

    #[test]
    fn a_row_without_an_event_says_why() {
        let row = |event_type: &str, payload: &str, headers: &str| Read {
            row_id: "7".into(),
            event_type: event_type.into(),
            payload: Some(payload.into()),
            headers: Some(headers.into()),
            ..Read::default()
        };
        for (row, part) in [
            (row("order.placed", "total=5", "{}"), "payload is not JSON"),
            (row("", "{}", "{}"), "event type"),
            (row("order.placed", "{}", "[1]"), "no JSON object"),
            (row("order.placed", "{}", r#"{"event_id":"x"}"#), "event_id"),
            (
                row("order.placed", "{}", r#"{"event_type":"x.y"}"#),
                "event_type",
            ),
            (
                row("order.placed", "{}", r#"{"version":1"#),
                "make no event",
            ),
        ] {
            let fault = read(row, "identity").unwrap_err();
            assert!(fault.reason.starts_with("row 7: "), "{fault}");
            assert!(fault.reason.contains(part), "{fault}");
        }
    }
}

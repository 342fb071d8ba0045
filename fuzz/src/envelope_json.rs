//! The target `envelope_json`: any bytes as a line of JSON. What is read is written as one line, and that reads the same.

use tidings_core::{Envelope, envelope_json};

/// Runs the target on an input.
pub fn run(input: &[u8]) {
    if let Ok(envelope) = envelope_json::from_json(input) {
        comes_back(&envelope);
    }
    if let Ok(envelope) = envelope_json::from_either(input) {
        comes_back(&envelope);
    }
    if let Ok(elements) = envelope_json::from_batch(input) {
        let lines = envelope_json::split_batch(input).expect("it was read as a batch");
        assert_eq!(lines.len(), elements.len());
        for (line, element) in lines.iter().zip(&elements) {
            is_one_line(line);
            let alone = envelope_json::from_either(line.as_bytes());
            assert_eq!(alone.is_ok(), element.is_ok(), "{line}");
        }
        elements.iter().flatten().for_each(comes_back);
    }
    // It must not panic; a draft has nothing to be compared with.
    drop(envelope_json::draft_from_json(input));
}

/// Writes an envelope as a line, reads it back, and compares.
pub fn comes_back(envelope: &Envelope) {
    let line = envelope_json::to_json(envelope);
    is_one_line(&line);
    let again =
        envelope_json::from_json(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
    same(envelope, &again, &line);
    assert_eq!(envelope_json::to_json(&again), line, "written differently");
}

/// Compares attribute by attribute. A payload that no line can hold travels as bytes and stays bytes.
pub(crate) fn same(envelope: &Envelope, again: &Envelope, line: &str) {
    let (mut parts, mut other) = (envelope.parts(), again.parts());
    let (payload, back) = (parts.payload.take(), other.payload.take());
    assert_eq!(parts, other, "{line}");
    match (payload, back) {
        (Some(payload), Some(back)) => {
            assert_eq!(payload.bytes(), back.bytes(), "{line}");
            if payload.json_line().is_some() {
                assert_eq!(payload, back, "{line}");
            }
        }
        (payload, back) => assert_eq!(payload, back, "{line}"),
    }
}

/// A line of output holds no raw line break.
pub(crate) fn is_one_line(line: &str) {
    assert!(!line.contains(['\n', '\r']), "more than a line: {line:?}");
}

//! A JSON object whose values keep their text, with the checks that every reader of foreign JSON needs.

use crate::envelope::EnvelopeError;
use crate::event_type::EventTypeError;
use crate::limits::{JSON_DEPTH_MAX, LINE_BYTES_MAX};
use crate::timestamp::TimestampError;
use crate::{Code, ErrorClass, codes};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The members of a JSON object in the order given.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Members<'a> {
    /// Reads one object and nothing behind it.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, EnvelopeJsonError> {
        let text = checked(text)?;
        if !text.trim_start().starts_with('{') {
            return Err(EnvelopeJsonError::NotAnObject {
                start: start_of(text),
            });
        }
        let Unchecked(members) = serde_json::from_str(text).map_err(EnvelopeJsonError::syntax)?;
        for (index, (name, _)) in members.iter().enumerate() {
            if members.iter().take(index).any(|(other, _)| other == name) {
                return Err(EnvelopeJsonError::DuplicateAttribute {
                    name: name.clone().into_owned(),
                });
            }
        }
        Ok(Self { members })
    }

    /// Whether a member has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(given, _)| given == name)
    }

    /// The members, name and text of the value.
    pub(crate) fn into_iter(self) -> impl Iterator<Item = (Cow<'a, str>, &'a str)> {
        self.members
            .into_iter()
            .map(|(name, value)| (name, value.get()))
    }
}

struct Unchecked<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Unchecked<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Unchecked<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(10);
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Unchecked(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// The name of a member, borrowed from the text where that holds it as it is.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;

        impl<'de> Visitor<'de> for Borrow {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(Borrow)
    }
}

/// The elements of a JSON array, each as its text.
pub(crate) fn elements(text: &[u8]) -> Result<Vec<&RawValue>, EnvelopeJsonError> {
    serde_json::from_str(checked(text)?).map_err(EnvelopeJsonError::syntax)
}

/// The text of a JSON string; the error names the attribute and what stood there.
pub(crate) fn string(attribute: &'static str, value: &str) -> Result<String, EnvelopeJsonError> {
    // The value is JSON already: without an escape, a string is what stands between its quotes.
    let plain = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|text| !text.as_bytes().contains(&b'\\'));
    if let Some(text) = plain {
        return Ok(text.to_owned());
    }
    serde_json::from_str(value).map_err(|_| EnvelopeJsonError::WrongType {
        attribute,
        expected: "a string",
        value: start_of(value),
    })
}

/// A JSON integer that fits a version.
pub(crate) fn version(attribute: &'static str, value: &str) -> Result<u32, EnvelopeJsonError> {
    let expected = "an integer from 0 to 4294967295";
    serde_json::from_str(value).map_err(|_| EnvelopeJsonError::WrongType {
        attribute,
        expected,
        value: start_of(value),
    })
}

/// The bytes of a JSON string in base64.
pub(crate) fn base64(attribute: &'static str, value: &str) -> Result<Vec<u8>, EnvelopeJsonError> {
    use base64::Engine as _;
    let text = string(attribute, value)?;
    base64::engine::general_purpose::STANDARD
        .decode(&text)
        .map_err(|_| EnvelopeJsonError::WrongType {
            attribute,
            expected: "a string in base64 (standard alphabet, padded)",
            value: start_of(value),
        })
}

/// The text of a value on one line: a raw line break in JSON is white space between tokens, so a blank says the same.
pub(crate) fn on_one_line(value: &str) -> String {
    value.replace(['\n', '\r'], " ")
}

/// Appends `"name":` with a comma before it unless it is the first.
pub(crate) fn write_name(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_string(out, name);
    out.push(b':');
}

/// Appends a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    let plain = text
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    serde_json::to_writer(&mut *out, text).expect("a string is written to memory");
}

/// Appends a member that is a JSON string.
pub(crate) fn write_text(out: &mut Vec<u8>, name: &str, text: &str) {
    write_name(out, name);
    write_string(out, text);
}

/// Appends a member whose value is already JSON.
pub(crate) fn write_raw(out: &mut Vec<u8>, name: &str, value: &str) {
    write_name(out, name);
    out.extend_from_slice(value.as_bytes());
}

/// Appends a member that holds bytes in base64.
pub(crate) fn write_base64(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    use base64::Engine as _;
    write_text(
        out,
        name,
        &base64::engine::general_purpose::STANDARD.encode(bytes),
    );
}

fn checked(text: &[u8]) -> Result<&str, EnvelopeJsonError> {
    if text.len() > LINE_BYTES_MAX {
        return Err(EnvelopeJsonError::TooLong { bytes: text.len() });
    }
    let text = std::str::from_utf8(text).map_err(|error| EnvelopeJsonError::Utf8 {
        byte: error.valid_up_to() + 1,
    })?;
    // Brackets bound the depth, and most texts have few; counting them takes a fraction of the time.
    if brackets(text.as_bytes()) <= JSON_DEPTH_MAX {
        return Ok(text);
    }
    let depth = depth(text);
    if depth > JSON_DEPTH_MAX {
        Err(EnvelopeJsonError::TooDeep { depth })
    } else {
        Ok(text)
    }
}

/// How many opening brackets there are, inside strings too. In pieces whose count fits a byte, so that the processor counts many at once.
fn brackets(text: &[u8]) -> usize {
    let count = |piece: &[u8]| -> u8 {
        let opening = piece
            .iter()
            .map(|byte| u8::from(matches!(byte, b'{' | b'[')));
        opening.sum()
    };
    text.chunks(usize::from(u8::MAX))
        .map(|piece| usize::from(count(piece)))
        .sum()
}

/// Levels of nesting, counted without recursion so that hostile input cannot exhaust the stack.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The first characters of a text, for a message.
fn start_of(text: &str) -> String {
    let start: String = text.trim_start().chars().take(40).collect();
    if start.len() < text.trim_start().len() {
        format!("{start}…")
    } else {
        start
    }
}

/// Why a text is no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeJsonError {
    /// The text is over [`LINE_BYTES_MAX`].
    #[error(
        "the line has {bytes} bytes, at most {LINE_BYTES_MAX} are allowed; send a reference instead of the content"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The text is not UTF-8.
    #[error(
        "byte {byte} is not valid UTF-8; write the line in UTF-8, and binary content in payload_base64"
    )]
    Utf8 {
        /// The first wrong byte, from 1.
        byte: usize,
    },
    /// The text is nested too deeply.
    #[error(
        "the JSON is nested {depth} levels deep, at most {JSON_DEPTH_MAX} are allowed; flatten it"
    )]
    TooDeep {
        /// The deepest level.
        depth: usize,
    },
    /// The text is not JSON.
    #[error("not valid JSON: {reason}")]
    Syntax {
        /// Why, with line and column.
        reason: String,
    },
    /// The text is JSON of another kind.
    #[error("an event is a JSON object, this begins with {start:?}")]
    NotAnObject {
        /// The first characters.
        start: String,
    },
    /// An attribute stands there twice.
    #[error("the attribute {name:?} is given twice; keep one")]
    DuplicateAttribute {
        /// Which.
        name: String,
    },
    /// An attribute that must be there is not.
    #[error("{attribute} is missing; every event has one")]
    Missing {
        /// Which.
        attribute: &'static str,
    },
    /// An attribute has a value of another type.
    #[error("{attribute} must be {expected}, not {value}")]
    WrongType {
        /// Which.
        attribute: &'static str,
        /// What it must be.
        expected: &'static str,
        /// The first characters of what stands there.
        value: String,
    },
    /// The timestamp is no timestamp.
    #[error("{attribute}: {source}")]
    Timestamp {
        /// Which attribute.
        attribute: &'static str,
        /// Why.
        source: TimestampError,
    },
    /// There are two payloads.
    #[error("{first} and {second} are both given; keep one")]
    TwoPayloads {
        /// One attribute.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The CloudEvent has a version that is not read here.
    #[error("specversion must be \"1.0\", not {value}")]
    SpecVersion {
        /// What stands there.
        value: String,
    },
    /// The attributes break a rule of the envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

impl EnvelopeJsonError {
    fn syntax(error: serde_json::Error) -> Self {
        // The line is always the first; only the column helps.
        let reason = error
            .to_string()
            .replace(" at line 1 column ", " at character ");
        drop(error);
        Self::Syntax { reason }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::TooLong { .. } | Self::TooDeep { .. } => codes::LIMIT_EXCEEDED,
            Self::SpecVersion { .. } => codes::CLOUDEVENT_INVALID,
            Self::Envelope(source) => source.code(),
            Self::Utf8 { .. }
            | Self::Syntax { .. }
            | Self::NotAnObject { .. }
            | Self::DuplicateAttribute { .. }
            | Self::Missing { .. }
            | Self::WrongType { .. }
            | Self::Timestamp { .. }
            | Self::TwoPayloads { .. } => codes::ENVELOPE_INVALID,
        }
    }

    /// Always permanent: the text must change.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Permanent
    }
}

impl From<EventTypeError> for EnvelopeJsonError {
    fn from(source: EventTypeError) -> Self {
        Self::Envelope(EnvelopeError::EventType { source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(depth(r#"{"a":[{"b":"[[[{\"{"}]}"#), 3);
        assert_eq!(depth("1"), 0);
    }

    #[test]
    fn nesting_at_the_limit_is_read_and_beyond_it_refused() {
        let nested = |levels: usize| {
            format!(
                "{{\"a\":{}{}}}",
                "[".repeat(levels - 1),
                "]".repeat(levels - 1)
            )
        };

        assert!(Members::parse(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        let error = Members::parse(nested(JSON_DEPTH_MAX + 1).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("65 levels"), "{error}");
        assert!(matches!(
            Members::parse("[".repeat(1_000_000).as_bytes()),
            Err(EnvelopeJsonError::TooDeep { .. })
        ));
    }

    #[test]
    fn what_is_no_object_says_why() {
        for (text, word) in [
            (&b"\"text\""[..], "JSON object"),
            (b"", "JSON object"),
            (b"{\"a\":1", "not valid JSON"),
            (b"{\"a\":1} x", "not valid JSON"),
            (b"{\"a\":1,\"a\":2}", "twice"),
            (b"{\"a\":\"\xff\"}", "byte 7 is not valid UTF-8"),
        ] {
            let message = Members::parse(text).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}

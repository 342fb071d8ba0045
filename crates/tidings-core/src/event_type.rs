//! Event types: lenient for what arrives from elsewhere, strict for what is declared here.

pub mod naming;

use crate::Code;
use crate::codes;
use crate::limits::EVENT_TYPE_BYTES_MAX;
use std::fmt;

/// The type of an event as given, for example `order.placed` or `order.placed.v2`.
///
/// Any text without control characters within the limit is carried; [`EventType::declared`] is for types that we name ourselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventType {
    text: String,
    name_bytes: usize,
    version: Option<u32>,
}

impl EventType {
    /// A type that arrives from elsewhere.
    ///
    /// **Errors**: empty, too long, or with a control character; all permanent.
    pub fn carried(text: impl Into<String>) -> Result<Self, EventTypeError> {
        let text = text.into();
        Self::check(&text)?;
        Ok(Self::trusted(text))
    }

    /// Whether a text can be the type of an event that arrives from elsewhere.
    pub(crate) fn check(text: &str) -> Result<(), EventTypeError> {
        if text.is_empty() {
            return Err(EventTypeError::Empty);
        }
        if text.len() > EVENT_TYPE_BYTES_MAX {
            return Err(EventTypeError::TooLong { bytes: text.len() });
        }
        if has_control(text) {
            let text = text.to_owned();
            return Err(EventTypeError::ControlCharacter { text });
        }
        Ok(())
    }

    /// A type that is declared here: lower-case segments joined by dots, the last a verb in the past tense.
    ///
    /// **Errors**: all permanent; the message names the rule that is broken and an example that keeps it.
    ///
    /// ```
    /// use tidings_core::EventType;
    /// assert!(EventType::declared("order.placed").is_ok());
    /// assert!(EventType::declared("send.email").is_err());
    /// ```
    pub fn declared(text: &str) -> Result<Self, EventTypeError> {
        let parsed = Self::carried(text)?;
        if let Some(rule) = naming::broken_rule(parsed.name()) {
            return Err(EventTypeError::Style {
                text: text.to_owned(),
                rule,
            });
        }
        Ok(parsed)
    }

    /// A type that was checked when it was first carried: nothing is checked again.
    pub fn trusted(text: String) -> Self {
        let (name_bytes, version) = split_version(&text);
        Self {
            text,
            name_bytes,
            version,
        }
    }

    /// The text as given, version suffix included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The type without its version suffix; patterns and handlers go by it.
    pub fn name(&self) -> &str {
        self.text.get(..self.name_bytes).unwrap_or(&self.text)
    }

    /// The version that the suffix `.vN` names, if there is one.
    pub fn version(&self) -> Option<u32> {
        self.version
    }

    /// Whether this is a fact of tidings itself, hidden unless asked for.
    pub fn is_internal(&self) -> bool {
        self.text.starts_with(INTERNAL_PREFIX)
    }
}

/// Whether a text holds a control character. Nearly every text is printable ASCII, which needs no look at its characters.
pub(crate) fn has_control(text: &str) -> bool {
    // Without an early end, so that many bytes are looked at together.
    let strange = |seen: bool, byte: &u8| seen | !(b' '..=b'~').contains(byte);
    text.as_bytes().iter().fold(false, strange) && text.chars().any(char::is_control)
}

/// An event type as an envelope holds it: a part of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventTypeRef<'a> {
    text: &'a str,
}

impl<'a> EventTypeRef<'a> {
    /// The type with this text, which was checked when it was first carried.
    pub fn of(text: &'a str) -> Self {
        Self { text }
    }

    /// The text as given, version suffix included.
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// The type without its version suffix; patterns and handlers go by it.
    pub fn name(self) -> &'a str {
        let (name_bytes, _) = split_version(self.text);
        self.text.get(..name_bytes).unwrap_or(self.text)
    }

    /// The version that the suffix `.vN` names, if there is one.
    pub fn version(self) -> Option<u32> {
        split_version(self.text).1
    }

    /// Whether this is a fact of tidings itself, hidden unless asked for.
    pub fn is_internal(self) -> bool {
        self.text.starts_with(INTERNAL_PREFIX)
    }

    /// The type on its own.
    pub fn to_owned(self) -> EventType {
        EventType::trusted(self.text.to_owned())
    }
}

impl<'a> From<&'a EventType> for EventTypeRef<'a> {
    fn from(event_type: &'a EventType) -> Self {
        Self::of(event_type.as_str())
    }
}

impl fmt::Display for EventTypeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// What the names of tidings' own facts begin with.
pub const INTERNAL_PREFIX: &str = "tidings.";

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn split_version(text: &str) -> (usize, Option<u32>) {
    let Some((name, suffix)) = text.rsplit_once('.') else {
        return (text.len(), None);
    };
    let digits = suffix.strip_prefix('v').unwrap_or("");
    let plain = !digits.is_empty()
        && !digits.starts_with('0')
        && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(version) if plain && !name.is_empty() => (name.len(), Some(version)),
        _ => (text.len(), None),
    }
}

/// Why a text is no event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventTypeError {
    /// There is no text.
    #[error("the event type is empty; give it a name like order.placed")]
    Empty,
    /// The text is over [`EVENT_TYPE_BYTES_MAX`].
    #[error("the event type has {bytes} bytes, at most {EVENT_TYPE_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The text holds a control character.
    #[error("the event type {text:?} contains a control character; remove it")]
    ControlCharacter {
        /// The text.
        text: String,
    },
    /// A declared type breaks a naming rule.
    #[error("the event type {text:?} {rule}")]
    Style {
        /// The text.
        text: String,
        /// The rule and the way out.
        rule: &'static str,
    },
}

impl EventTypeError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::TooLong { .. } => codes::LIMIT_EXCEEDED,
            Self::Empty | Self::ControlCharacter { .. } | Self::Style { .. } => {
                codes::EVENT_TYPE_INVALID
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_carried_whatever_their_style() {
        for text in [
            "ORDER_PLACED",
            "com.github.pull_request.opened",
            "Bestellung aufgegeben",
            "a..b",
            ".",
            "order.placed.v0",
        ] {
            let event_type = EventType::carried(text).unwrap();
            assert_eq!(event_type.as_str(), text);
            assert_eq!(event_type.name(), text);
        }
    }

    #[test]
    fn a_version_suffix_is_split_off_and_the_text_is_kept() {
        let event_type = EventType::carried("order.placed.v12").unwrap();

        assert_eq!(event_type.name(), "order.placed");
        assert_eq!(event_type.version(), Some(12));
        assert_eq!(event_type.as_str(), "order.placed.v12");
    }

    #[test]
    fn what_is_no_version_stays_in_the_name() {
        for text in [
            "v2",
            ".v2",
            "order.v",
            "order.vx",
            "order.v02",
            "order.v99999999999",
            "order.V2",
        ] {
            assert_eq!(EventType::carried(text).unwrap().name(), text, "{text}");
        }
    }

    #[test]
    fn control_characters_emptiness_and_length_are_refused() {
        assert_eq!(EventType::carried(""), Err(EventTypeError::Empty));
        assert!(matches!(
            EventType::carried("a\nb"),
            Err(EventTypeError::ControlCharacter { .. })
        ));
        assert!(EventType::carried("x".repeat(256)).is_ok());
        let message = EventType::carried("x".repeat(257)).unwrap_err().to_string();
        assert!(
            message.contains("257") && message.contains("256"),
            "{message}"
        );
    }

    #[test]
    fn declared_types_are_facts_in_the_past_tense() {
        for good in [
            "order.placed",
            "payment.succeeded",
            "email.sent",
            "order.line.added",
            "order.partially_shipped",
            "order.placed.v2",
            "stock.ran-out.seen",
        ] {
            assert!(EventType::declared(good).is_ok(), "{good}");
        }
        for (bad, word) in [
            ("send.email", "command"),
            ("order.place", "command"),
            ("Order.Placed", "upper-case"),
            ("placed", "one segment"),
            ("order..placed", "empty segment"),
            ("order.plac ed", "may only hold"),
            ("order.need", "past tense"),
            ("1order.placed", "begin with a letter"),
        ] {
            let message = EventType::declared(bad).unwrap_err().to_string();
            assert!(message.contains(word) && message.contains(bad), "{message}");
        }
    }
}

//! Patterns of event types: the same on every broker.

use crate::event_type::{EventTypeRef, INTERNAL_PREFIX};
use crate::limits::EVENT_TYPE_BYTES_MAX;
use crate::{Code, EventType, codes};
use std::fmt;
use std::str::FromStr;

/// Which event types a group wants: segments joined by dots, `*` for exactly one segment, `**` at the end for one or more.
///
/// It is matched against the type without its version suffix. Facts of tidings itself are matched only by patterns that begin with `tidings.`.
///
/// ```
/// use tidings_core::{EventType, Pattern};
/// let pattern: Pattern = "order.*".parse()?;
/// assert!(pattern.matches(&EventType::carried("order.placed.v2")?));
/// assert!(!pattern.matches(&EventType::carried("order.line.added")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
    internal: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    One,
    Rest,
}

impl Pattern {
    /// The pattern that matches every event but tidings' own facts.
    pub fn everything() -> Self {
        Self {
            text: "**".to_owned(),
            segments: vec![Segment::Rest],
            internal: false,
        }
    }

    /// The pattern that matches tidings' own facts and nothing else.
    pub fn internal() -> Self {
        Self {
            text: "tidings.**".to_owned(),
            segments: vec![Segment::Literal("tidings".to_owned()), Segment::Rest],
            internal: true,
        }
    }

    /// The pattern that matches one type, in every version.
    pub fn exact(event_type: &EventType) -> Self {
        let name = event_type.name();
        let segments = name
            .split('.')
            .map(|segment| Segment::Literal(segment.to_owned()))
            .collect();
        Self {
            text: name.to_owned(),
            segments,
            internal: event_type.is_internal(),
        }
    }

    /// Whether the type matches.
    pub fn matches<'a>(&self, event_type: impl Into<EventTypeRef<'a>>) -> bool {
        let event_type = event_type.into();
        if event_type.is_internal() != self.internal {
            return false;
        }
        let mut names = event_type.name().split('.');
        for segment in &self.segments {
            let Some(name) = names.next() else {
                return false;
            };
            match segment {
                Segment::Rest => return true,
                Segment::One => {}
                Segment::Literal(text) if text == name => {}
                Segment::Literal(_) => return false,
            }
        }
        names.next().is_none()
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |rule| PatternError {
            text: text.to_owned(),
            rule,
        };
        if text.is_empty() {
            return Err(error("is empty; ** matches everything"));
        }
        if text.len() > EVENT_TYPE_BYTES_MAX {
            return Err(error("is longer than any event type"));
        }
        if text.chars().any(char::is_control) {
            return Err(error("contains a control character"));
        }
        let count = text.split('.').count();
        let mut segments = Vec::with_capacity(count);
        for (index, segment) in text.split('.').enumerate() {
            segments.push(match segment {
                "*" => Segment::One,
                "**" if index + 1 == count => Segment::Rest,
                "**" => {
                    return Err(error(
                        "has ** before its end; ** stands for the rest and comes last",
                    ));
                }
                other if other.contains('*') => {
                    return Err(error(
                        "mixes * with other characters; * stands for a whole segment",
                    ));
                }
                other => Segment::Literal(other.to_owned()),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            segments,
            internal: text.starts_with(INTERNAL_PREFIX),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no pattern; permanent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {text:?} {rule}")]
pub struct PatternError {
    text: String,
    rule: &'static str,
}

impl PatternError {
    /// The stable code.
    pub fn code(&self) -> Code {
        codes::PATTERN_INVALID
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, event_type: &str) -> bool {
        pattern
            .parse::<Pattern>()
            .unwrap()
            .matches(&EventType::carried(event_type).unwrap())
    }

    #[test]
    fn star_is_one_segment_and_two_stars_are_one_or_more() {
        assert!(matches("order.placed", "order.placed"));
        assert!(matches("order.placed", "order.placed.v3"));
        assert!(matches("order.*", "order.placed"));
        assert!(!matches("order.*", "order.line.added"));
        assert!(!matches("order.*", "order"));
        assert!(matches("order.**", "order.line.added"));
        assert!(!matches("order.**", "order"));
        assert!(matches("*.placed", "order.placed"));
        assert!(matches("**", "ORDER_PLACED"));
        assert!(matches("ORDER_PLACED", "ORDER_PLACED"));
        assert!(!matches("order", "order.placed"));
    }

    #[test]
    fn internal_facts_need_a_pattern_that_names_them() {
        assert!(!matches("**", "tidings.dead_letter.recorded"));
        assert!(!matches(
            "*.dead_letter.recorded",
            "tidings.dead_letter.recorded"
        ));
        assert!(matches("tidings.**", "tidings.dead_letter.recorded"));
        assert_eq!(Pattern::internal(), "tidings.**".parse().unwrap());
        assert!(matches(
            "tidings.dead_letter.*",
            "tidings.dead_letter.recorded"
        ));
    }

    #[test]
    fn a_wrong_pattern_says_why() {
        for (text, word) in [
            ("", "empty"),
            ("**.placed", "comes last"),
            ("ord*.placed", "whole segment"),
            ("a\tb", "control"),
        ] {
            let message = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}

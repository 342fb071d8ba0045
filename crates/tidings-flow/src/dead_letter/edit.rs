//! An edited copy of a dead letter: a new event with an id of its own, caused by the one that was given up. What tells whose it is cannot be edited.

use super::decision::{Decided, verdict};
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::{DeadLetterStore, Letter, LetterStatus, Operator, StoreError};
use tidings_core::{Code, Envelope, EnvelopeParts, EventType, Payload, codes, event_id};

/// The extension attribute of a copy that names the event from which it was made.
pub const EDITED_FROM: &str = "editedfrom";

/// What of a dead letter is changed; everything else stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// Another payload.
    pub payload: Option<Payload>,
    /// Another type.
    pub event_type: Option<EventType>,
    /// Another version of the payload's schema.
    pub version: Option<u32>,
}

/// Why a copy cannot stand for a dead letter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// It was decided on already.
    #[error("the dead letter {letter} is {status}; only an open one can be edited")]
    NotOpen {
        /// Which one.
        letter: String,
        /// Where it stands.
        status: LetterStatus,
    },
    /// The copy would be the same.
    #[error(
        "nothing of the event is changed; hand it back as it is with: tidings dlq redrive {letter}"
    )]
    Unchanged {
        /// Which one.
        letter: String,
    },
    /// The copy breaks a rule of events.
    #[error("the edited event cannot be: {reason}")]
    Invalid {
        /// The value and the rule.
        reason: String,
    },
    /// Somebody else decided meanwhile.
    #[error(
        "somebody else decided on the dead letter {letter} meanwhile; look again with: tidings dlq show {letter}"
    )]
    Overtaken {
        /// Which one.
        letter: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EditError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::NotOpen { .. } | Self::Overtaken { .. } => codes::LETTER_DECIDED,
            Self::Unchanged { .. } | Self::Invalid { .. } => codes::LETTER_EDIT_INVALID,
            Self::Store(error) => error.code(),
        }
    }
}

/// The copy of a letter with the changes: a new id, caused by the event that was given up, in the same flow and with the same key.
///
/// **Errors**: [`EditError::NotOpen`], [`EditError::Unchanged`], [`EditError::Invalid`].
pub fn copy(
    letter: &Letter,
    edit: Edit,
    clock: &dyn Clock,
    chance: &dyn Chance,
) -> Result<Envelope, EditError> {
    if letter.status != LetterStatus::Open {
        return Err(EditError::NotOpen {
            letter: letter.id.clone(),
            status: letter.status,
        });
    }
    let original = letter.envelope.parts();
    let mut parts = EnvelopeParts {
        payload: edit.payload.or_else(|| original.payload.clone()),
        event_type: edit
            .event_type
            .unwrap_or_else(|| original.event_type.clone()),
        version: edit.version.or(original.version),
        ..original.clone()
    };
    let is_same = parts.payload == original.payload
        && parts.event_type == original.event_type
        && parts.version == original.version;
    if is_same {
        return Err(EditError::Unchanged {
            letter: letter.id.clone(),
        });
    }
    parts.event_id = event_id::fresh(clock, chance);
    parts.correlation_id = Some(letter.envelope.correlation_id().to_owned());
    parts.causation_id = Some(original.event_id.clone());
    parts.extensions.retain(|(name, _)| name != EDITED_FROM);
    let from = serde_json::to_string(&original.event_id).unwrap_or_default();
    parts.extensions.push((EDITED_FROM.to_owned(), from));
    Envelope::new(parts).map_err(|error| EditError::Invalid {
        reason: error.to_string(),
    })
}

/// Hands a copy to the group in the place of the event.
///
/// **Errors**: [`EditError::Overtaken`], the store's.
///
/// **Cancel**: it happens or not.
pub async fn put(
    store: &dyn DeadLetterStore,
    letter: &Letter,
    copy: &Envelope,
    operator: &Operator,
    clock: &dyn Clock,
) -> Result<(), EditError> {
    let verdict = verdict(letter, Decided::Edited(copy), operator, clock.now());
    if store.edit(&verdict, copy, operator).await? {
        Ok(())
    } else {
        Err(EditError::Overtaken {
            letter: letter.id.clone(),
        })
    }
}

/// What differs between two events, line by line: `- ` for what was, `+ ` for what is. JSON payloads are laid out, so that one changed member is one changed line.
pub fn diff(original: &Envelope, copy: &Envelope) -> Vec<String> {
    let before = lines(original);
    let after = lines(copy);
    let mut told = Vec::new();
    // Equal lines at both ends are left out; what is between is what was edited.
    let front = before
        .iter()
        .zip(&after)
        .take_while(|(a, b)| a == b)
        .count();
    let (before, after) = (&before[front..], &after[front..]);
    let back = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    told.extend(
        before[..before.len() - back]
            .iter()
            .map(|line| format!("- {line}")),
    );
    told.extend(
        after[..after.len() - back]
            .iter()
            .map(|line| format!("+ {line}")),
    );
    told
}

/// Type, version and payload, each on lines of its own.
fn lines(envelope: &Envelope) -> Vec<String> {
    let mut lines = vec![
        format!("event_type: {}", envelope.event_type()),
        format!("version: {}", envelope.version()),
    ];
    let bytes = envelope.payload_bytes();
    let laid_out =
        serde_json::from_slice::<&serde_json::value::RawValue>(bytes).map(|raw| lay_out(raw.get()));
    match laid_out {
        Ok(payload) => lines.extend(payload),
        Err(_) => lines.extend(String::from_utf8_lossy(bytes).lines().map(str::to_owned)),
    }
    lines
}

/// JSON with one member a line; numbers and strings keep their text.
fn lay_out(json: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for letter in json.chars() {
        if in_string {
            line.push(letter);
            in_string = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            '"' => {
                in_string = true;
                line.push(letter);
            }
            '{' | '[' => {
                line.push(letter);
                lines.push(std::mem::take(&mut line));
                depth += 1;
                line = "  ".repeat(depth);
            }
            '}' | ']' => {
                lines.push(std::mem::take(&mut line));
                depth = depth.saturating_sub(1);
                line = "  ".repeat(depth);
                line.push(letter);
            }
            ',' => {
                lines.push(std::mem::take(&mut line));
                line = "  ".repeat(depth);
            }
            ':' => line.push_str(": "),
            letter if letter.is_whitespace() => {}
            letter => line.push(letter),
        }
    }
    lines.push(line);
    lines.retain(|line| !line.trim().is_empty());
    lines
}

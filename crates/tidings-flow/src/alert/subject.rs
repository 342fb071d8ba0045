//! What an alert is about, and what is known of it while it is not over.

use super::message::{Rule, Sample};
use serde::{Deserialize, Serialize};
use std::fmt;
use tidings_core::store::{Kept, KeptKind};
use tidings_core::{DedupeKey, Timestamp};

/// What the name of a kept alert is mixed with; it must never change.
const ALERTS: &str = "tidings.alert";

/// What an alert is about; there is at most one alert for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject {
    /// Dead letters of one failure in one group.
    DeadLetter { group: String, cluster: String },
    /// Dead letters of failures that had no message of their own.
    ManyDeadLetters,
    /// A group that does not move.
    Stalled { group: String },
    /// An outbox whose events wait.
    Outbox { outbox: String },
    /// A group whose events are parked.
    Parked { group: String },
}

impl Subject {
    pub(super) fn rule(&self) -> Rule {
        match self {
            Self::DeadLetter { .. } => Rule::DeadLetter,
            Self::ManyDeadLetters => Rule::ManyDeadLetters,
            Self::Stalled { .. } => Rule::Stalled,
            Self::Outbox { .. } => Rule::Outbox,
            Self::Parked { .. } => Rule::Parked,
        }
    }

    pub(super) fn group(&self) -> Option<&str> {
        match self {
            Self::DeadLetter { group, .. } | Self::Stalled { group } | Self::Parked { group } => {
                Some(group)
            }
            Self::ManyDeadLetters | Self::Outbox { .. } => None,
        }
    }

    pub(super) fn cluster(&self) -> Option<&str> {
        match self {
            Self::DeadLetter { cluster, .. } => Some(cluster),
            _ => None,
        }
    }

    pub(super) fn outbox(&self) -> Option<&str> {
        match self {
            Self::Outbox { outbox } => Some(outbox),
            _ => None,
        }
    }

    /// The name under which it is kept.
    pub(super) fn key(&self) -> String {
        hex(&self.to_string())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule().as_str())?;
        let parts = [self.group(), self.cluster(), self.outbox()];
        for part in parts.into_iter().flatten() {
            write!(f, " {part}")?;
        }
        Ok(())
    }
}

/// A short name made from a text.
pub(super) fn hex(text: &str) -> String {
    let key = DedupeKey::from_id(text, Some(ALERTS));
    hex_of(key)
}

/// A key as text.
pub(super) fn hex_of(key: DedupeKey) -> String {
    uuid_text(key.as_bytes())
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(32), |mut text, byte| {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Reads what [`hex_of`] has written.
pub(super) fn key_of(text: &str) -> Option<DedupeKey> {
    if text.len() != 32 {
        return None;
    }
    let mut bytes = [0_u8; 16];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(DedupeKey::from_bytes(bytes))
}

/// An alert that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Live {
    /// When it fired, in microseconds since 1970.
    pub(super) fired_us: i64,
    /// When it was last told.
    pub(super) sent_us: i64,
    /// When the newest of those came that it is about.
    pub(super) last_us: i64,
    /// Whether it was ever told.
    pub(super) is_told: bool,
    /// How many came since it was last told.
    pub(super) count: u64,
    /// How many came since it fired.
    pub(super) total: u64,
    /// The newest of them.
    pub(super) sample: Option<Sample>,
    /// Until when they were counted by a look at the store, where a look found them before their facts came.
    #[serde(default)]
    pub(super) seen_us: Option<i64>,
}

impl Live {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            fired_us: now.as_micros(),
            sent_us: now.as_micros(),
            last_us: now.as_micros(),
            is_told: false,
            count: 0,
            total: 0,
            sample: None,
            seen_us: None,
        }
    }

    /// How long ago it was told. A clock that was set back does not keep it silent for long: what lies ahead counts as long ago.
    pub(super) fn silent_for(&self, now: Timestamp) -> std::time::Duration {
        if self.sent_us > now.as_micros() {
            return std::time::Duration::MAX;
        }
        now.since(Timestamp::from_micros(self.sent_us))
    }
}

/// A live alert as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptAlert {
    subject: Subject,
    live: Live,
}

pub(super) fn kept(subject: &Subject, live: &Live) -> Kept {
    let body = KeptAlert {
        subject: subject.clone(),
        live: live.clone(),
    };
    Kept {
        kind: KeptKind::Alert,
        name: subject.key(),
        body: serde_json::to_string(&body).expect("texts and numbers are JSON"),
    }
}

pub(super) fn read(body: &str) -> Option<(Subject, Live)> {
    let kept: KeptAlert = serde_json::from_str(body).ok()?;
    Some((kept.subject, kept.live))
}

//! What an alert says, and the JSON in which channels get it. The event itself is never in it.

use serde::{Deserialize, Serialize};
use tidings_core::Timestamp;
use tidings_core::limits::ALERT_TEXT_CHARS_MAX;

/// Which rule an alert comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// A group gave events up for one and the same failure.
    DeadLetter,
    /// More failures than there may be messages.
    ManyDeadLetters,
    /// A group is behind and does not move.
    Stalled,
    /// The oldest event of an outbox waits too long.
    Outbox,
    /// Deliveries are parked, or keys held, for too long.
    Parked,
    /// Somebody tries the channels.
    Test,
}

impl Rule {
    /// The word for people and for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead_letter",
            Self::ManyDeadLetters => "many_dead_letters",
            Self::Stalled => "stalled",
            Self::Outbox => "outbox",
            Self::Parked => "parked",
            Self::Test => "test",
        }
    }
}

/// At which point of an alert a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The trouble is new.
    Fired,
    /// There is more of it, or it lasts.
    Repeated,
    /// It is over.
    Resolved,
    /// Somebody tries the channels.
    Test,
}

impl Stage {
    /// The word for people and for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Repeated => "repeated",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }
}

/// One of the dead letters that an alert is about: the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// What it is about.
    pub aggregate_id: Option<String>,
    /// Why it was given up: the outermost message.
    pub reason: String,
    /// How many attempts there were.
    pub attempts: u32,
}

/// What a channel is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The rule.
    pub rule: Rule,
    /// The point.
    pub stage: Stage,
    /// Names the trouble: it is the same from its beginning to its end.
    pub subject: String,
    /// The group, where it is one's trouble.
    pub consumer: Option<String>,
    /// The fingerprint of the failure, for dead letters.
    pub cluster: Option<String>,
    /// The outbox, where it is one's trouble.
    pub outbox: Option<String>,
    /// How many there are since the message before this one.
    pub count: u64,
    /// How many there are since it fired.
    pub total: u64,
    /// When it fired; RFC 3339.
    pub since: String,
    /// The newest of those that it is about.
    pub sample: Option<Sample>,
    /// What is the matter, in a sentence.
    pub text: String,
    /// The command to look with.
    pub next: String,
}

impl Alert {
    /// An alert that says that somebody tries the channels.
    pub fn test(now: Timestamp) -> Self {
        Self {
            rule: Rule::Test,
            stage: Stage::Test,
            subject: "test".to_owned(),
            consumer: None,
            cluster: None,
            outbox: None,
            count: 1,
            total: 1,
            since: now.to_string(),
            sample: None,
            text: "tidings tries this channel; nothing is wrong".to_owned(),
            next: "tidings alert run".to_owned(),
        }
    }

    /// The JSON for channels: `type` and `timestamp` beside `data`, as Standard Webhooks suggests.
    pub fn body(&self, now: Timestamp) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            timestamp: String,
            data: &'a Alert,
        }
        let body = Body {
            r#type: format!("tidings.alert.{}", self.stage.as_str()),
            timestamp: now.to_string(),
            data: self,
        };
        serde_json::to_string(&body).expect("texts and numbers are JSON")
    }

    /// The line for people.
    pub fn line(&self) -> String {
        format!(
            "alert {}  {}; see: {}",
            self.stage.as_str(),
            self.text,
            self.next
        )
    }
}

/// A text that fits into an alert and harms no terminal.
pub(super) fn short(text: &str) -> String {
    let mut letters = text.chars();
    let mut short: String = letters
        .by_ref()
        .take(ALERT_TEXT_CHARS_MAX)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if letters.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_type_time_and_data() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);

        let body: serde_json::Value = serde_json::from_str(&Alert::test(now).body(now)).unwrap();

        assert_eq!(body["type"], "tidings.alert.test");
        assert_eq!(body["timestamp"], "2023-11-14T22:13:20Z");
        assert_eq!(body["data"]["rule"], "test");
        assert_eq!(body["data"]["stage"], "test");
    }

    #[test]
    fn long_texts_are_cut_and_control_characters_are_gone() {
        let text = short(&format!("a\u{1b}[31m\n{}", "ä".repeat(1_000)));

        assert!(text.starts_with("a [31m ä"), "{text}");
        assert_eq!(text.chars().count(), ALERT_TEXT_CHARS_MAX + 1);
        assert!(text.ends_with('…'));
    }
}

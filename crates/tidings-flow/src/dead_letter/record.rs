//! The fact that records a dead letter: written by the consumer, read by alerts, by `dlq` and by redrive.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_core::broker::Position;
use tidings_core::correlation::Inherited;
use tidings_core::envelope::PARTITION_KEY;
use tidings_core::envelope_json::{self, EnvelopeJsonError};
use tidings_core::event_id::{self, Origin};
use tidings_core::limits::{
    HISTORY_ATTEMPTS_MAX, HISTORY_ERROR_BYTES_MAX, INTERNAL_PAYLOAD_BYTES_MAX, REASON_BYTES_MAX,
};
use tidings_core::payload::Carriage;
use tidings_core::store::FailedAttempt;
use tidings_core::{
    Code, Envelope, EnvelopeParts, ErrorClass, EventType, Payload, Timestamp, codes,
};

/// The type of the fact.
pub const EVENT_TYPE: &str = "tidings.dead_letter.recorded";
/// The status of a dead letter that waits for a person.
pub const STATUS_OPEN: &str = "open";
/// Stands for the handler in the id of the fact, so that the id differs from those of what handlers emit.
const HANDLER: &str = "tidings.dead_letter";
/// Messages of a chain of causes that are kept.
const REASONS_MAX: usize = 32;

/// The payload of the fact `tidings.dead_letter.recorded`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetterRecord {
    /// The event that was given up.
    pub event_id: String,
    /// Its type as given.
    pub event_type: String,
    /// What it is about.
    pub aggregate_id: Option<String>,
    /// The group that gave it up.
    pub consumer: String,
    /// The handler that failed.
    pub handler: String,
    /// Why the last attempt failed: the outermost message.
    pub reason: String,
    /// Why the last attempt failed: the message and those of its causes, outermost first.
    pub reasons: Vec<String>,
    /// How many attempts there were.
    pub attempts: u32,
    /// The first attempt and the newest ones.
    pub history: Vec<AttemptRecord>,
    /// When the first attempt failed; RFC 3339.
    pub first_failed_at: Option<String>,
    /// Where the event stands, on a broker with a total order.
    pub position: Option<u64>,
    /// How often this group had given up this event before.
    pub death: u32,
    /// Whether it waits for a person.
    pub status: String,
    /// The event itself, as the JSON of an envelope; absent if the broker had no room for it.
    pub envelope: Option<Box<RawValue>>,
}

/// One attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it failed; RFC 3339.
    pub at: String,
    /// Why: the messages of the error and its causes.
    pub error: String,
}

/// A dead letter read back from the log.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The id of the fact; it names the dead letter.
    pub id: String,
    /// When it was recorded.
    pub recorded_at: Option<Timestamp>,
    /// The flow that the event belongs to.
    pub correlation_id: String,
    /// What is known of it.
    pub record: DeadLetterRecord,
}

impl DeadLetter {
    /// Reads the fact.
    ///
    /// **Errors**: permanent if the event is another one, or its payload cannot be read.
    pub fn from_envelope(fact: &Envelope) -> Result<Self, DeadLetterError> {
        if fact.event_type().name() != EVENT_TYPE {
            return Err(DeadLetterError::OtherType {
                event_type: fact.event_type().to_string(),
            });
        }
        let record = serde_json::from_slice(fact.payload_bytes()).map_err(|source| {
            DeadLetterError::Unreadable {
                event_id: fact.event_id().to_owned(),
                source,
            }
        })?;
        Ok(Self {
            id: fact.event_id().to_owned(),
            recorded_at: fact.timestamp().map(|given| given.instant()),
            correlation_id: fact.correlation_id().to_owned(),
            record,
        })
    }

    /// The event that was given up, exactly as it was given; `None` if only its position was kept.
    pub fn original(&self) -> Option<Result<Envelope, EnvelopeJsonError>> {
        let json = self.record.envelope.as_ref()?;
        Some(envelope_json::from_json(json.get().as_bytes()))
    }
}

/// Why an event is no dead letter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// It has another type.
    #[error(
        "an event of the type {event_type} is no dead letter, those have the type {EVENT_TYPE}"
    )]
    OtherType {
        /// Its type.
        event_type: String,
    },
    /// Its payload cannot be read.
    #[error("the dead letter {event_id} cannot be read: {source}")]
    Unreadable {
        /// The id of the fact.
        event_id: String,
        /// The cause.
        source: serde_json::Error,
    },
}

impl DeadLetterError {
    /// The stable code.
    pub fn code(&self) -> Code {
        codes::PAYLOAD_INVALID
    }

    /// Always permanent.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Permanent
    }
}

/// The attempts at one event that failed so far: the first one, and the newest.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    attempts: Vec<FailedAttempt>,
}

impl History {
    /// Notes a failed attempt.
    pub(crate) fn note(&mut self, attempt: u32, at: Timestamp, chain: &[String]) {
        if self.attempts.len() >= HISTORY_ATTEMPTS_MAX {
            self.attempts.remove(1);
        }
        let mut error = chain.join(": ");
        cut(&mut error, HISTORY_ERROR_BYTES_MAX);
        self.attempts.push(FailedAttempt { attempt, at, error });
    }

    /// Forgets attempts that do not count: those after this one.
    pub(crate) fn forget_after(&mut self, attempt: u32) {
        self.attempts.retain(|failed| failed.attempt <= attempt);
    }

    /// The attempts that are kept.
    pub(crate) fn attempts(&self) -> &[FailedAttempt] {
        &self.attempts
    }
}

impl From<History> for Vec<FailedAttempt> {
    fn from(history: History) -> Self {
        history.attempts
    }
}

impl From<Vec<FailedAttempt>> for History {
    fn from(attempts: Vec<FailedAttempt>) -> Self {
        Self { attempts }
    }
}

fn told(failed: &FailedAttempt) -> AttemptRecord {
    AttemptRecord {
        attempt: failed.attempt,
        at: failed.at.to_string(),
        error: failed.error.clone(),
    }
}

/// An event that is being given up.
#[derive(Debug)]
pub(crate) struct Death<'a> {
    pub(crate) envelope: &'a Envelope,
    pub(crate) position: Option<Position>,
    pub(crate) group: &'a str,
    pub(crate) handler: &'a str,
    /// The chain of the last failure.
    pub(crate) reasons: &'a [String],
    pub(crate) attempts: u32,
    pub(crate) history: &'a [FailedAttempt],
    /// How often it had died in this group before.
    pub(crate) number: u32,
}

impl Death<'_> {
    /// The fact with the whole event in it, unless there is no room for that.
    pub(crate) fn fact(&self, now: Timestamp) -> Envelope {
        let json = envelope_json::to_json(self.envelope);
        // An envelope is written as one JSON object, so that it always is a raw value.
        let payload = self.payload(RawValue::from_string(json).ok());
        if payload.len() > INTERNAL_PAYLOAD_BYTES_MAX {
            return self.thin_fact(now);
        }
        self.envelope_of(payload, now)
    }

    /// The fact with the position of the event in place of the event.
    pub(crate) fn thin_fact(&self, now: Timestamp) -> Envelope {
        self.envelope_of(self.payload(None), now)
    }

    fn payload(&self, envelope: Option<Box<RawValue>>) -> Vec<u8> {
        let original = self.envelope;
        let reasons = cut_chain(self.reasons);
        let attempts = self.history;
        let record = DeadLetterRecord {
            event_id: original.event_id().to_owned(),
            event_type: original.event_type().to_string(),
            aggregate_id: original.aggregate_id().map(str::to_owned),
            consumer: self.group.to_owned(),
            handler: self.handler.to_owned(),
            reason: reasons.first().cloned().unwrap_or_default(),
            reasons,
            attempts: self.attempts,
            history: attempts.iter().map(told).collect(),
            first_failed_at: attempts.first().map(|first| first.at.to_string()),
            position: self.position.map(|position| position.0),
            death: self.number,
            status: STATUS_OPEN.to_owned(),
            envelope,
        };
        serde_json::to_vec(&record).expect("strings, numbers and a raw value are JSON")
    }

    fn envelope_of(&self, payload: Vec<u8>, now: Timestamp) -> Envelope {
        let original = self.envelope;
        let inherited = Inherited::from(original);
        let mut extensions = inherited.trace;
        // The fact stands behind its event wherever order is kept by key.
        if let Some(key) = original.extension(PARTITION_KEY) {
            extensions.push((PARTITION_KEY.to_owned(), key.to_owned()));
        }
        let parts = EnvelopeParts {
            event_id: fact_id(original, self.group, self.number),
            event_type: EventType::trusted(EVENT_TYPE.to_owned()),
            aggregate_id: original.aggregate_id().map(str::to_owned),
            timestamp: Some(now.into()),
            version: Some(1),
            source: Some(self.group.to_owned()),
            correlation_id: Some(inherited.correlation_id),
            causation_id: inherited.causation_id,
            content_type: None,
            extensions,
            payload: Some(Payload::trusted(payload.into(), Carriage::Json)),
        };
        // Every attribute comes from an envelope that was checked, and the payload's size was looked at.
        Envelope::trusted(parts)
    }
}

/// The id of the fact that a group gave up an event for the n-th time, from 0; it repeats.
pub(crate) fn fact_id(original: &Envelope, group: &str, death: u32) -> String {
    event_id::repeatable(Origin {
        cause: original,
        group,
        handler: HANDLER,
        ordinal: death as usize,
    })
}

/// The messages of a chain, within [`REASON_BYTES_MAX`] bytes in all.
pub(crate) fn cut_chain(chain: &[String]) -> Vec<String> {
    let mut room = REASON_BYTES_MAX;
    let mut reasons = Vec::new();
    for message in chain.iter().take(REASONS_MAX) {
        if room == 0 {
            break;
        }
        let mut message = message.clone();
        cut(&mut message, room);
        room -= message.len();
        reasons.push(message);
    }
    reasons
}

/// Cuts a text to so many bytes, between two characters, and shows that it was cut.
fn cut(text: &mut String, bytes_max: usize) {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return;
    }
    let mut end = bytes_max.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    if bytes_max >= MARK.len() {
        text.push_str(MARK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> Envelope {
        let line = br#"{"event_id":"evt-1","event_type":"order.placed.v2","aggregate_id":"order-1","timestamp":"2024-01-15T12:30:00+02:00","correlation_id":"flow-1","partitionkey":"user-1","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","payload":{"total": 59.980,"total":1}}"#;
        envelope_json::from_json(line).unwrap()
    }

    fn death<'a>(envelope: &'a Envelope, reasons: &'a [String], history: &'a History) -> Death<'a> {
        Death {
            envelope,
            position: Some(Position(17)),
            group: "payment",
            handler: "charge",
            reasons,
            attempts: 2,
            history: history.attempts(),
            number: 0,
        }
    }

    #[test]
    fn the_fact_tells_everything_and_holds_the_event_as_it_was_given() {
        let original = original();
        let reasons = ["card declined".to_owned(), "code 51".to_owned()];
        let mut history = History::default();
        history.note(1, Timestamp::from_micros(0), &["timeout".to_owned()]);
        history.note(2, Timestamp::from_micros(1_000_000), &reasons);

        let fact = death(&original, &reasons, &history).fact(Timestamp::from_micros(5));

        let checked = Envelope::new(fact.parts()).unwrap();
        assert_eq!(checked.correlation_id(), "flow-1");
        assert_eq!(checked.causation_id(), Some("evt-1"));
        assert_eq!(checked.source(), Some("payment"));
        assert_eq!(checked.key(), original.key());
        assert_eq!(checked.trace_context(), original.trace_context());
        let letter = DeadLetter::from_envelope(&fact).unwrap();
        assert_eq!(letter.original().unwrap().unwrap(), original);
        let record = letter.record;
        assert_eq!(record.event_type, "order.placed.v2");
        assert_eq!(record.aggregate_id.as_deref(), Some("order-1"));
        assert_eq!(record.reason, "card declined");
        assert_eq!(record.reasons, reasons);
        assert_eq!(record.attempts, 2);
        assert_eq!(record.history[1].error, "card declined: code 51");
        assert_eq!(
            record.first_failed_at.as_deref(),
            Some("1970-01-01T00:00:00Z")
        );
        assert_eq!(record.position, Some(17));
        assert_eq!((record.death, record.status.as_str()), (0, "open"));
    }

    #[test]
    fn the_id_of_the_fact_repeats_and_differs_by_group_and_death() {
        let original = original();

        assert_eq!(fact_id(&original, "a", 0), fact_id(&original, "a", 0));
        assert_ne!(fact_id(&original, "a", 0), fact_id(&original, "b", 0));
        assert_ne!(fact_id(&original, "a", 0), fact_id(&original, "a", 1));
    }

    #[test]
    fn long_reasons_are_cut_between_characters_and_say_so() {
        let original = original();
        let reasons = ["ä".repeat(REASON_BYTES_MAX), "second".to_owned()];
        let history = History::default();

        let fact = death(&original, &reasons, &history).fact(Timestamp::default());

        let record = DeadLetter::from_envelope(&fact).unwrap().record;
        assert!(record.reason.ends_with('…'), "{}", record.reason.len());
        let bytes: usize = record.reasons.iter().map(String::len).sum();
        assert!(bytes <= REASON_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn of_very_many_attempts_the_first_and_the_newest_are_told() {
        let mut history = History::default();
        for attempt in 1..=100 {
            history.note(attempt, Timestamp::default(), &["no".repeat(2_000)]);
        }

        let attempts: Vec<u32> = history.attempts.iter().map(|one| one.attempt).collect();
        assert_eq!(attempts.len(), HISTORY_ATTEMPTS_MAX);
        assert_eq!((attempts[0], attempts[1], attempts[31]), (1, 70, 100));
        assert!(
            history
                .attempts
                .iter()
                .all(|one| one.error.len() <= HISTORY_ERROR_BYTES_MAX)
        );
    }

    #[test]
    fn an_event_too_large_for_the_fact_leaves_its_position() {
        let mut parts = original().into_parts();
        parts.event_type = EventType::trusted("tidings.import.recorded".to_owned());
        parts.payload = Some(Payload::binary(vec![7; INTERNAL_PAYLOAD_BYTES_MAX]));
        let original = Envelope::new(parts).unwrap();
        let history = History::default();

        let fact = death(&original, &["no".to_owned()], &history).fact(Timestamp::default());

        let letter = DeadLetter::from_envelope(&fact).unwrap();
        assert!(letter.original().is_none());
        assert_eq!(letter.record.position, Some(17));
        assert!(Envelope::new(fact.parts()).is_ok());
    }

    #[test]
    fn another_event_is_no_dead_letter() {
        let message = DeadLetter::from_envelope(&original())
            .unwrap_err()
            .to_string();

        assert!(message.contains("order.placed.v2"), "{message}");
    }
}

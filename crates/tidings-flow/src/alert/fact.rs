//! What alerting reads of the fact that records a dead letter.

use super::message::{Sample, short};
use crate::dead_letter::{DeadLetter, DeadLetterError, fingerprint};
use serde::Deserialize;
use tidings_core::{DedupeKey, Envelope, Timestamp};

/// A dead letter as alerting sees it.
#[derive(Debug, Clone)]
pub struct DeathSeen {
    /// Tells the fact from others.
    pub fact: DedupeKey,
    /// When it was recorded, by the clock of whoever gave the event up.
    pub at: Option<Timestamp>,
    /// The group that gave the event up.
    pub group: String,
    /// The fingerprint of the failure.
    pub cluster: String,
    /// The event and why.
    pub sample: Sample,
}

/// The fingerprint as the fact tells it; facts of earlier versions tell none.
#[derive(Deserialize)]
struct Told {
    fingerprint: Option<String>,
}

impl DeathSeen {
    /// Reads the fact.
    ///
    /// **Errors**: permanent; the event is another one, or its payload cannot be read.
    pub fn read(fact: &Envelope) -> Result<Self, DeadLetterError> {
        let letter = DeadLetter::from_envelope(fact)?;
        let (at, record) = (letter.recorded_at, letter.record);
        let told = serde_json::from_slice::<Told>(fact.payload_bytes());
        let cluster = told
            .ok()
            .and_then(|told| told.fingerprint)
            .filter(|told| !told.is_empty())
            .unwrap_or_else(|| fingerprint(&record.handler, &record.reasons));
        Ok(Self {
            fact: DedupeKey::of(fact),
            at,
            group: short(&record.consumer),
            cluster: short(&cluster),
            sample: Sample {
                event_id: short(&record.event_id),
                event_type: short(&record.event_type),
                aggregate_id: record.aggregate_id.as_deref().map(short),
                reason: short(&record.reason),
                attempts: record.attempts,
            },
        })
    }
}

//! What a person decided about dead letters, stated as facts, so that alerts, audits and a replay know it.

use serde::{Deserialize, Serialize};
use tidings_core::correlation::Inherited;
use tidings_core::envelope::PARTITION_KEY;
use tidings_core::event_id::{self, Origin};
use tidings_core::payload::Carriage;
use tidings_core::store::{Letter, Operator, Verdict};
use tidings_core::{Envelope, EnvelopeParts, EventType, Payload, Timestamp};

/// A dead letter was handed back to its group.
pub const REDRIVEN: &str = "tidings.dead_letter.redriven";
/// An edited copy was handed to the group in the place of a dead letter.
pub const EDITED: &str = "tidings.dead_letter.edited";
/// A dead letter was given up for good.
pub const DISCARDED: &str = "tidings.dead_letter.discarded";

/// The payload of the facts [`REDRIVEN`], [`EDITED`] and [`DISCARDED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// The event that was given up.
    pub event_id: String,
    /// Its type as given.
    pub event_type: String,
    /// What it is about.
    pub aggregate_id: Option<String>,
    /// The group that gave it up.
    pub consumer: String,
    /// The dead letter.
    pub letter: String,
    /// Its error cluster.
    pub cluster: String,
    /// How often it has been handed back, this time included.
    pub redrives: u32,
    /// The id of the edited copy.
    pub copy: Option<String>,
    /// Who decided.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// What is decided.
#[derive(Debug, Clone, Copy)]
pub(super) enum Decided<'a> {
    Redriven,
    Edited(&'a Envelope),
    Discarded,
}

/// The verdict on a letter as it was found, with the fact that states it. The fact's id repeats, so that the same decision is never stated twice.
pub(super) fn verdict(
    letter: &Letter,
    decided: Decided<'_>,
    operator: &Operator,
    now: Timestamp,
) -> Verdict {
    let (event_type, redrives, copy) = match decided {
        Decided::Redriven => (REDRIVEN, letter.redrives.saturating_add(1), None),
        Decided::Edited(copy) => (EDITED, letter.redrives, Some(copy.event_id().to_owned())),
        Decided::Discarded => (DISCARDED, letter.redrives, None),
    };
    let original = &letter.envelope;
    let record = DecisionRecord {
        event_id: original.event_id().to_owned(),
        event_type: original.event_type().to_string(),
        aggregate_id: original.aggregate_id().map(str::to_owned),
        consumer: letter.group.clone(),
        letter: letter.id.clone(),
        cluster: letter.fingerprint.clone(),
        redrives,
        copy,
        actor: operator.actor.clone(),
        reason: operator.reason.clone(),
    };
    let payload = serde_json::to_vec(&record).expect("strings and numbers are JSON");
    let inherited = Inherited::from(original);
    let mut extensions = inherited.trace;
    if let Some(key) = original.extension(PARTITION_KEY) {
        extensions.push((PARTITION_KEY.to_owned(), key.to_owned()));
    }
    let parts = EnvelopeParts {
        event_id: event_id::repeatable(Origin {
            cause: original,
            group: &letter.group,
            handler: event_type,
            ordinal: redrives as usize,
        }),
        event_type: EventType::trusted(event_type.to_owned()),
        aggregate_id: original.aggregate_id().map(str::to_owned),
        timestamp: Some(now.into()),
        version: Some(1),
        source: Some(letter.group.clone()),
        correlation_id: Some(inherited.correlation_id),
        causation_id: inherited.causation_id,
        content_type: None,
        extensions,
        payload: Some(Payload::trusted(payload.into(), Carriage::Json)),
    };
    Verdict {
        letter: letter.id.clone(),
        status: letter.status,
        redrives: letter.redrives,
        // Every attribute comes from an envelope that was checked, and the payload is a few hundred bytes.
        fact: Envelope::trusted(parts),
    }
}

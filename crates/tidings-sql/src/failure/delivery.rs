//! A parked delivery as columns, and read back from them.

use super::hex;
use crate::driver::{Bind, Row};
use serde::{Deserialize, Serialize};
use tidings_core::store::{FailedAttempt, LaneId, ParkedDelivery, ParkedId, StoreError};
use tidings_core::{DedupeKey, Timestamp, envelope_json};

/// An attempt as the column `history` holds it.
#[derive(Serialize, Deserialize)]
struct Attempt {
    attempt: u32,
    at_us: i64,
    error: String,
}

/// Attempts as text.
pub(super) fn history_text(attempts: &[FailedAttempt]) -> String {
    let attempts: Vec<Attempt> = attempts
        .iter()
        .map(|failed| Attempt {
            attempt: failed.attempt,
            at_us: failed.at.as_micros(),
            error: failed.error.clone(),
        })
        .collect();
    serde_json::to_string(&attempts).unwrap_or_default()
}

/// Attempts as the column holds them.
pub(super) fn history_of(text: &str) -> Vec<FailedAttempt> {
    let attempts: Vec<Attempt> = serde_json::from_str(text).unwrap_or_default();
    attempts
        .into_iter()
        .map(|read| FailedAttempt {
            attempt: read.attempt,
            at: Timestamp::from_micros(read.at_us),
            error: read.error,
        })
        .collect()
}

/// What tells a delivery from others.
pub(super) fn columns(delivery: &ParkedDelivery) -> Vec<(&'static str, Bind)> {
    let envelope = &delivery.envelope;
    let key = envelope.key().map(std::borrow::Cow::into_owned);
    vec![
        ("lane", Bind::text(delivery.lane.to_string())),
        ("lane_key", Bind::Text(key)),
        ("event_key", Bind::text(hex(DedupeKey::of(envelope)))),
        ("event_id", Bind::text(envelope.event_id())),
        ("event_type", Bind::text(envelope.event_type().to_string())),
        ("envelope", Bind::text(envelope_json::to_json(envelope))),
        (
            "problem",
            Bind::Text(delivery.problem.as_deref().map(plain)),
        ),
        ("log_position", number(delivery.position)),
        ("attempts", Bind::Int(delivery.attempts.into())),
        ("rounds", Bind::Int(delivery.rounds.into())),
        ("deaths", Bind::Int(delivery.deaths.into())),
        ("history", Bind::text(history_text(&delivery.history))),
    ]
}

/// A number that may be none.
pub(super) fn number(given: Option<u64>) -> Bind {
    Bind::IntOrNull(given.map(|given| i64::try_from(given).unwrap_or(i64::MAX)))
}

/// A text without the character that PostgreSQL cannot keep.
pub(super) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A row as `rows.sql` answers it.
pub(super) fn read(lane: LaneId, mut row: Row) -> Result<ParkedDelivery, StoreError> {
    let id = ParkedId(row.int(0).unwrap_or(0));
    let json = row.text(1).unwrap_or_default();
    let envelope =
        envelope_json::from_json(json.as_bytes()).map_err(|error| StoreError::ShapeWrong {
            subject: format!("the row {} of tidings_parked", id.0),
            fault: format!("its envelope cannot be read: {error}"),
            remedy: "it was changed by somebody else; correct it or delete the row".to_owned(),
        })?;
    let small = |index: usize| u32::try_from(row.count(index)).unwrap_or(u32::MAX);
    Ok(ParkedDelivery {
        id,
        lane,
        envelope,
        position: row.int(3).and_then(|position| u64::try_from(position).ok()),
        attempts: small(4),
        rounds: small(5),
        deaths: small(6),
        due: row.int(8).map(Timestamp::from_micros),
        problem: row.text(2).map(Into::into),
        history: history_of(&row.text(7).unwrap_or_default()),
        letter: row.text(9),
    })
}

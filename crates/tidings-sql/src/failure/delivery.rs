//! A parked delivery as columns, and read back from them.

use super::hex;
use crate::driver::{Bind, Row};
use crate::many::Values;
use serde::{Deserialize, Serialize};
use tidings_core::limits::HISTORY_ATTEMPTS_MAX;
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

/// The attempts of all deaths of an event as text: those that are known, and those that have come since. The first one and the newest ones are kept.
pub(super) fn joined(known: &str, since: &str) -> String {
    let since = history_of(since);
    let mut all = history_of(known);
    // A death that is recorded again, because its answer was lost, brings nothing new.
    all.retain(|failed| !since.contains(failed));
    all.extend(since);
    let over = all.len().saturating_sub(HISTORY_ATTEMPTS_MAX);
    if over > 0 {
        all.drain(1..=over);
    }
    history_text(&all)
}

/// The event of columns whose attempts do not begin with the first one: it was made by a process that ended.
pub(super) fn begins_late(values: &mut Values) -> Option<(String, &mut Values)> {
    let text = |name: &str| {
        let mut columns = values.iter();
        columns.find_map(|(column, value)| match value {
            Bind::Text(Some(text)) if *column == name => Some(text),
            _ => None,
        })
    };
    let history = history_of(text("history")?);
    let event = text("event_key")?.clone();
    is_late(&history).then_some((event, values))
}

/// Whether attempts do not begin with the first one.
pub(super) fn is_late(history: &[FailedAttempt]) -> bool {
    history.first().is_some_and(|first| first.attempt > 1)
}

/// Puts the first attempt before the others.
pub(super) fn put_first(values: &mut Values, at: Timestamp) {
    let first = [FailedAttempt {
        attempt: 1,
        at,
        error: "not known: another process tried it".to_owned(),
    }];
    for (column, value) in values {
        match (*column, value) {
            ("history", Bind::Text(Some(history))) => {
                *history = joined(&history_text(&first), history);
            }
            ("first_failed_us", value) => *value = Bind::IntOrNull(Some(at.as_micros())),
            _ => {}
        }
    }
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
        lead: 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(attempts: std::ops::Range<u32>) -> String {
        let failed = |attempt: u32| FailedAttempt {
            attempt,
            at: Timestamp::from_micros(attempt.into()),
            error: "refused".to_owned(),
        };
        history_text(&attempts.map(failed).collect::<Vec<_>>())
    }

    fn attempts(text: &str) -> Vec<u32> {
        let history = history_of(text).into_iter();
        history.map(|failed| failed.attempt).collect()
    }

    #[test]
    fn attempts_of_several_deaths_stand_together_once_each() {
        assert_eq!(
            attempts(&joined(&failed(0..2), &failed(2..4))),
            [0, 1, 2, 3]
        );
        assert_eq!(
            attempts(&joined(&failed(0..4), &failed(2..4))),
            [0, 1, 2, 3]
        );
        assert_eq!(attempts(&joined("[]", "[]")), [] as [u32; 0]);
        assert_eq!(attempts(&joined("[]", &failed(0..1))), [0]);
    }

    #[test]
    fn of_many_attempts_the_first_and_the_newest_are_kept() {
        let max = u32::try_from(HISTORY_ATTEMPTS_MAX).unwrap();

        let kept = attempts(&joined(&failed(0..max), &failed(max..max + 2)));

        assert_eq!(kept.len(), HISTORY_ATTEMPTS_MAX);
        assert_eq!((kept[0], kept[1], kept[31]), (0, 3, max + 1));
    }
}

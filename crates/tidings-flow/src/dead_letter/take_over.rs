//! Dead letters that an earlier version put on the log as facts with the event in them: taken over into the store, each once, so that nothing disappears.

use super::fingerprint;
use super::record::{DeadLetter, EVENT_TYPE, fact_id};
use tidings_core::broker::{BrokerError, Position, ReadRequest, Reader};
use tidings_core::limits::BATCH_EVENTS_MAX;
use tidings_core::store::{
    DeadLetterStore, FailedAttempt, ForeignLetter, LaneId, Operator, ParkedDelivery, ParkedId,
    StoreError,
};
use tidings_core::{Envelope, EventType, Pattern, Timestamp};

/// What is known of the log under this name.
const SOURCE: &str = "log";

/// Why taking over broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeOverError {
    /// The log cannot be read.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes over what the log holds and the store does not know yet; answers how many were new. How far it came is kept in the store, so that nothing is read twice.
///
/// **Errors**: what reader and store tell; a damaged stretch is passed over with a warning. What was taken over before stays.
///
/// **Cancel**: as an error.
pub async fn take_over(
    reader: &dyn Reader,
    store: &dyn DeadLetterStore,
) -> Result<u64, TakeOverError> {
    let operator = Operator {
        actor: "tidings".to_owned(),
        reason: "the fact was on the log".to_owned(),
    };
    let pattern = [Pattern::exact(&EventType::trusted(EVENT_TYPE.to_owned()))];
    let known = store.taken_up_to(SOURCE).await?.map(Position);
    let earliest = reader.earliest().await?;
    let mut from = known.map_or(earliest, |known| known.max(earliest));
    let mut new = 0;
    loop {
        let request = ReadRequest {
            from,
            patterns: &pattern,
            events_max: BATCH_EVENTS_MAX,
        };
        let page = match reader.read(request).await {
            Ok(page) => page,
            Err(BrokerError::Damaged { to, .. }) => {
                tracing::warn!(position = to.0, "a damaged stretch is passed over");
                from = to.next().max(from.next());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let letters: Vec<ForeignLetter> = page
            .events
            .iter()
            .filter_map(|recorded| letter_of(&recorded.envelope, recorded.append_time))
            .collect();
        if !letters.is_empty() {
            new += store.take_over(&letters, &operator).await?;
        }
        let is_end = page.at_end || page.next == from;
        if Some(page.next) > known {
            store.note_taken(SOURCE, page.next.0).await?;
        }
        from = page.next;
        if is_end {
            return Ok(new);
        }
    }
}

/// The letter of a fact with its event; `None` for a fact without, whose letter is in a store already or lost its event.
fn letter_of(fact: &Envelope, recorded: Timestamp) -> Option<ForeignLetter> {
    let dead = match DeadLetter::from_envelope(fact) {
        Ok(dead) => dead,
        Err(error) => {
            tracing::warn!(%error, "a fact is passed over");
            return None;
        }
    };
    let envelope = dead.original()?.ok()?;
    let record = dead.record;
    let history = record.history.into_iter().map(|attempt| FailedAttempt {
        attempt: attempt.attempt,
        at: attempt.at.parse().unwrap_or(recorded),
        error: attempt.error,
    });
    Some(ForeignLetter {
        id: fact_id(&envelope, &record.consumer, 0),
        fingerprint: fingerprint(&record.handler, &record.reasons),
        delivery: ParkedDelivery {
            id: ParkedId(0),
            lead: 0,
            lane: LaneId::of(&envelope),
            envelope,
            problem: None,
            position: record.position,
            attempts: record.attempts,
            rounds: 0,
            deaths: record.death,
            history: history.collect(),
            due: None,
            letter: None,
        },
        group: record.consumer,
        handler: record.handler,
        reasons: record.reasons,
        cause: "attempts".to_owned(),
        died: dead.recorded_at.unwrap_or(recorded),
    })
}

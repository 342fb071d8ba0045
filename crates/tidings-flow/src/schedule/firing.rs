//! What a scheduled event becomes when it fires. Pure.

use super::recurrence::{ScheduleError, next_after};
use tidings_core::event_id::{self, Origin};
use tidings_core::store::ScheduledEvent;
use tidings_core::{Envelope, Timestamp};

/// The attribute that tells for when a published event was scheduled, as RFC 3339; its timestamp tells when it was published.
pub const SCHEDULED_TIME: &str = "scheduledtime";

/// Stands for the handler in the ids of recurring events.
const HANDLER: &str = "tidings.schedule";

/// What is published when a scheduled event fires, and when it fires again.
///
/// The ids repeat: whoever fires the same time of the same schedule publishes the same event. Times that were missed while nobody looked are made up for once.
///
/// **Errors**: a recurrence that cannot be read; permanent.
pub(super) fn fire(
    scheduled: &ScheduledEvent,
    now: Timestamp,
) -> Result<(Envelope, Option<Timestamp>), ScheduleError> {
    let next = match &scheduled.recurrence {
        None => None,
        Some(recurrence) => next_after(recurrence, scheduled.due.max(now))?,
    };
    let mut parts = scheduled.event.parts();
    let due = scheduled.due;
    // The JSON of a string: an instant as text has nothing that must be escaped.
    parts.extensions.retain(|(name, _)| name != SCHEDULED_TIME);
    parts
        .extensions
        .push((SCHEDULED_TIME.to_owned(), format!("\"{due}\"")));
    if scheduled.recurrence.is_some() {
        parts.timestamp = Some(scheduled.due.into());
        let at_due = Envelope::trusted(parts.clone());
        parts.event_id = event_id::repeatable(Origin {
            cause: &at_due,
            group: &scheduled.id,
            handler: HANDLER,
            ordinal: usize::try_from(scheduled.fired).unwrap_or(usize::MAX),
        });
    }
    parts.timestamp = Some(now.into());
    // Every attribute was checked when the event was scheduled; these three are ours.
    Ok((Envelope::trusted(parts), next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tidings_core::store::Recurrence;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn scheduled(recurrence: Option<&str>) -> ScheduledEvent {
        let line = r#"{"event_id":"evt-1","event_type":"report.due","aggregate_id":"r-1","correlation_id":"flow-1","payload":{"n":1}}"#;
        ScheduledEvent {
            id: "daily".to_owned(),
            due: at("2026-11-27T09:00:00Z"),
            recurrence: recurrence.map(|cron| Recurrence {
                cron: cron.to_owned(),
                time_zone: "UTC".to_owned(),
            }),
            event: Envelope::from_json(line).unwrap(),
            fired: 0,
            fired_last: None,
        }
    }

    #[test]
    fn an_event_that_fires_once_keeps_its_id_and_tells_both_times() {
        let now = at("2026-11-27T09:00:00.5Z");

        let (event, next) = fire(&scheduled(None), now).unwrap();

        assert_eq!(event.event_id(), "evt-1");
        assert_eq!(event.timestamp().unwrap().instant(), now);
        assert_eq!(
            event.extension_text(SCHEDULED_TIME).unwrap(),
            "2026-11-27T09:00:00Z"
        );
        assert_eq!(event.correlation_id(), "flow-1");
        assert_eq!(next, None);
    }

    #[test]
    fn each_time_of_a_recurring_event_has_an_id_that_repeats() {
        let now = at("2026-11-27T09:00:00.5Z");
        let mut schedule = scheduled(Some("0 * * * *"));
        let (first, next) = fire(&schedule, now).unwrap();
        let (again, _) = fire(&schedule, now.plus(Duration::from_secs(1))).unwrap();
        assert_eq!(first.event_id(), again.event_id());
        assert_eq!(next, Some(at("2026-11-27T10:00:00Z")));

        schedule.due = next.unwrap();
        schedule.fired = 1;
        let (second, _) = fire(&schedule, now.plus(Duration::from_secs(3_600))).unwrap();
        assert_ne!(first.event_id(), second.event_id());
    }

    #[test]
    fn missed_times_are_made_up_for_once() {
        let (_, next) = fire(&scheduled(Some("0 * * * *")), at("2026-11-29T12:34:56Z")).unwrap();

        assert_eq!(next, Some(at("2026-11-29T13:00:00Z")));
    }
}

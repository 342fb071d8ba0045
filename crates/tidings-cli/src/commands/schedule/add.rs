//! `tidings schedule add`: an event for later.

use super::{Row, open};
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{hint, json, object, talk};
use crate::schedule_arguments::ScheduleAdd;
use crate::when;
use tidings::core::event_id;
use tidings::core::store::{Recurrence, ScheduleStore as _, ScheduledEvent};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::flow::schedule::{check, first_due};
use tidings::{Envelope, Error};

pub(super) async fn run(global: &Global, arguments: ScheduleAdd) -> Result<(), Failure> {
    let event = event(global, &arguments)?;
    let now = when::now();
    let recurrence = arguments.every.clone().map(|cron| Recurrence {
        cron,
        time_zone: arguments.zone.clone(),
    });
    let due = match (&recurrence, arguments.at, arguments.after) {
        (Some(recurrence), _, _) => first_due(recurrence, now).map_err(Error::from)?,
        (None, Some(at), _) => at.0,
        (None, None, after) => now.plus(after.map(|length| length.0).unwrap_or_default()),
    };
    let name = arguments.name.clone();
    let scheduled = ScheduledEvent {
        id: name.unwrap_or_else(|| event.event_id().to_owned()),
        due,
        recurrence,
        event,
        fired: 0,
        fired_last: None,
    };
    check(&scheduled).map_err(Error::from)?;
    let schedules = open(&arguments.store, true).await?;
    let added = schedules.add(&scheduled).await?;
    if !added {
        talk(
            global.quiet,
            format_args!(
                "{} is scheduled already and stays as it is; tidings schedule move changes its time",
                scheduled.id
            ),
        );
    }
    let row = Row::new(&scheduled);
    object(global.format(), &json(&row), || {
        format!("{}  {}  {}", row.name, row.due, row.event_type)
    })?;
    let who = match arguments.store.shared.url {
        Some(_) => "tidings schedule run fires it",
        None => "the program that owns the data folder fires it",
    };
    hint(
        global.quiet,
        format_args!("{who}; tidings schedule ls shows what waits"),
    );
    Ok(())
}

/// The event with an id of its own, so that its name is known before it fires.
fn event(global: &Global, arguments: &ScheduleAdd) -> Result<Envelope, Failure> {
    let draft = arguments.event.draft(global.quiet)?;
    let (clock, stamp) = (SystemClock::new(), arguments.event.stamp());
    let id = event_id::fresh(&clock, &SystemChance);
    let refused = |error: tidings::core::envelope::EnvelopeError| {
        Failure::new(error.code(), error.to_string())
    };
    let envelope = draft
        .into_envelope(id, when::now(), None)
        .map_err(refused)?;
    let mut parts = envelope.into_parts();
    parts.correlation_id = stamp.correlation_id.or(parts.correlation_id);
    Envelope::new(parts).map_err(refused)
}

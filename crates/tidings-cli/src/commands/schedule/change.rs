//! `tidings schedule cancel` and `move`.

use super::open;
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::talk;
use crate::schedule_arguments::{ScheduleCancel, ScheduleMove};
use crate::when;
use tidings::core::codes;
use tidings::core::store::{ScheduleStore as _, StoreError};

pub(super) async fn cancel(global: &Global, arguments: ScheduleCancel) -> Result<(), Failure> {
    let name = &arguments.name;
    let schedules = open(&arguments.store, false).await?;
    let operator = arguments.signature.operator();
    let cancelled = match schedules.cancel_by(name, &operator).await {
        Err(error @ StoreError::TableMissing { .. }) => {
            not_recorded(&error);
            schedules.cancel(name).await?
        }
        cancelled => cancelled?,
    };
    known(cancelled, name)?;
    talk(global.quiet, format_args!("{name} is cancelled"));
    Ok(())
}

pub(super) async fn reschedule(global: &Global, arguments: ScheduleMove) -> Result<(), Failure> {
    let name = &arguments.name;
    let due = match (arguments.at, arguments.after) {
        (Some(at), _) => at.0,
        (None, after) => when::now().plus(after.map(|length| length.0).unwrap_or_default()),
    };
    let schedules = open(&arguments.store, false).await?;
    let operator = arguments.signature.operator();
    let moved = match schedules.reschedule_by(name, due, &operator).await {
        Err(error @ StoreError::TableMissing { .. }) => {
            not_recorded(&error);
            schedules.reschedule(name, due).await?
        }
        moved => moved?,
    };
    known(moved, name)?;
    talk(global.quiet, format_args!("{name} comes at {due}"));
    Ok(())
}

/// The table of schedules is there; that of what persons did is one of an older version's setup, or none.
fn not_recorded(error: &StoreError) {
    talk(
        false,
        format_args!("warning: who did it and why is not recorded: {error}"),
    );
}

fn known(found: bool, name: &str) -> Result<(), Failure> {
    if found {
        return Ok(());
    }
    Err(Failure::new(
        codes::SCHEDULE_UNKNOWN,
        format!(
            "no scheduled event {name:?} waits; it has fired or was never there: tidings schedule ls"
        ),
    ))
}

//! `tidings schedule cancel` and `move`.

use super::open;
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::talk;
use crate::schedule_arguments::{ScheduleCancel, ScheduleMove};
use crate::when;
use tidings::core::codes;
use tidings::core::store::ScheduleStore as _;

pub(super) async fn cancel(global: &Global, arguments: ScheduleCancel) -> Result<(), Failure> {
    let name = &arguments.name;
    let schedules = open(&arguments.store, false).await?;
    let cancelled = schedules.cancel(name).await?;
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
    let moved = schedules.reschedule(name, due).await?;
    known(moved, name)?;
    talk(global.quiet, format_args!("{name} comes at {due}"));
    Ok(())
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

//! `tidings schedule`: events that are published later.

mod add;
mod change;
mod ls;
mod run;
mod tables;

use crate::arguments::Global;
use crate::commands::outbox::source;
use crate::failure::Failure;
use crate::folder;
use crate::schedule_arguments::{self, ScheduleCommand};
use serde::Serialize;
use std::process::ExitCode;
use tidings::core::codes;
use tidings::core::store::ScheduledEvent;
use tidings::sql::Schedules;
use tidings::sql::schema::{self, Part};

pub(crate) async fn run(global: &Global, command: ScheduleCommand) -> Result<ExitCode, Failure> {
    let done = match command {
        ScheduleCommand::Ls(ls) => ls::run(global, ls).await,
        ScheduleCommand::Add(add) => add::run(global, add).await,
        ScheduleCommand::Cancel(cancel) => change::cancel(global, cancel).await,
        ScheduleCommand::Move(to) => change::reschedule(global, to).await,
        ScheduleCommand::Run(run) => return run::run(global, run).await,
        ScheduleCommand::Ddl(ddl) => tables::ddl(&ddl),
        ScheduleCommand::Migrate(migrate) => tables::migrate(global, migrate).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Opens the store that the arguments name; nothing fires by that. A data folder that does not exist is made only where `make` says so.
async fn open(store: &schedule_arguments::ScheduleStore, make: bool) -> Result<Schedules, Failure> {
    if let Some(url) = &store.shared.url {
        let database = source::database(url, false).await?;
        return Ok(Schedules::open(&database).await?);
    }
    let file = folder::state(&store.folder);
    if !file.exists() {
        if !make {
            return Err(Failure::new(
                codes::FOLDER_MISSING,
                format!(
                    "there is no database in {}; name a data folder that has one, or a database with --store",
                    store.folder.display()
                ),
            ));
        }
        let tidings = crate::folder::write(&store.folder).await?;
        tidings.shutdown().await?;
    }
    let database = source::file(&file, true).await?;
    // A folder of an older version has no such table yet.
    schema::migrate(&database, &[Part::Outbox, Part::Schedule, Part::Failure]).await?;
    Ok(Schedules::open(&database).await?)
}

/// A scheduled event as lists show it.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    due: String,
    event_type: String,
    aggregate_id: Option<&'a str>,
    cron: Option<&'a str>,
    time_zone: Option<&'a str>,
    fired: u64,
    fired_last: Option<String>,
}

impl<'a> Row<'a> {
    fn new(scheduled: &'a ScheduledEvent) -> Self {
        let recurrence = scheduled.recurrence.as_ref();
        Self {
            name: &scheduled.id,
            due: scheduled.due.to_string(),
            event_type: scheduled.event.event_type().to_string(),
            aggregate_id: scheduled.event.aggregate_id(),
            cron: recurrence.map(|recurrence| recurrence.cron.as_str()),
            time_zone: recurrence.map(|recurrence| recurrence.time_zone.as_str()),
            fired: scheduled.fired,
            fired_last: scheduled.fired_last.map(|time| time.to_string()),
        }
    }
}

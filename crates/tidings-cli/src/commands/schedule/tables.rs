//! `tidings schedule ddl` and `migrate`: the table of scheduled events.

use crate::arguments::Global;
use crate::commands::outbox::{ddl, source};
use crate::failure::Failure;
use crate::folder;
use crate::output::talk;
use crate::schedule_arguments::{ScheduleDdl, ScheduleMigrate};
use tidings::sql::schema::{self, Part};

pub(super) fn ddl(arguments: &ScheduleDdl) -> Result<(), Failure> {
    ddl::print(&ddl::of(arguments.dialect.known(), Part::Schedule)?)
}

pub(super) async fn migrate(global: &Global, arguments: ScheduleMigrate) -> Result<(), Failure> {
    let file = folder::state(&arguments.store.folder);
    let database = match &arguments.store.shared.url {
        Some(url) => source::database(url, true).await?,
        None => source::file(&file, true).await?,
    };
    // Who cancels or moves an event is recorded where decisions about dead letters are.
    schema::migrate(&database, &[Part::Schedule, Part::Outbox, Part::Failure]).await?;
    talk(
        global.quiet,
        format_args!("the table of scheduled events is in {}", database.name()),
    );
    Ok(())
}

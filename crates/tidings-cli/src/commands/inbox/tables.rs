//! `tidings inbox ddl` and `migrate`: the table of the inbox.

use super::database;
use crate::arguments::Global;
use crate::commands::outbox::ddl;
use crate::failure::Failure;
use crate::inbox_arguments::{InboxDdl, InboxMigrate};
use crate::output::talk;
use tidings::sql::schema::{self, Part};

pub(crate) fn ddl(arguments: &InboxDdl) -> Result<(), Failure> {
    ddl::print(&ddl::of(arguments.dialect.known(), Part::Inbox)?)
}

pub(crate) async fn migrate(global: &Global, arguments: InboxMigrate) -> Result<(), Failure> {
    let database = database(&arguments.inbox, true).await?;
    schema::migrate(&database, &[Part::Inbox]).await?;
    talk(
        global.quiet,
        format_args!("the inbox is in {}", database.name()),
    );
    Ok(())
}

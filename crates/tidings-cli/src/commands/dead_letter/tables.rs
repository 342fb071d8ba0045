//! `tidings dlq ddl` and `migrate`: the tables of a shared store.

use crate::arguments::Global;
use crate::commands::outbox::{ddl, source};
use crate::dlq_arguments::{DlqDdl, DlqMigrate};
use crate::failure::Failure;
use crate::output::talk;
use tidings::sql::schema::{self, Part};

/// The outbox is among them: facts about decisions leave through it.
const PARTS: [Part; 2] = [Part::Outbox, Part::Failure];

pub(crate) fn ddl(arguments: &DlqDdl) -> Result<(), Failure> {
    let kind = arguments.dialect.known();
    let parts = PARTS.map(|part| ddl::of(kind, part));
    ddl::print(&parts.into_iter().collect::<Result<String, _>>()?)
}

pub(crate) async fn migrate(global: &Global, arguments: DlqMigrate) -> Result<(), Failure> {
    let database = match &arguments.place.store.url {
        Some(url) => source::database(url, true).await?,
        None => super::database(&arguments.place).await?,
    };
    schema::migrate(&database, &PARTS).await?;
    talk(
        global.quiet,
        format_args!("dead letters are kept in {}", database.name()),
    );
    Ok(())
}

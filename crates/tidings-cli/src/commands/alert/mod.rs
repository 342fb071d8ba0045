//! `tidings alert`: a consumer that tells people.

mod channels;
mod rules;
pub(crate) mod run;
mod sight;
pub(crate) mod test;

pub(crate) use rules::print as rules;
pub(crate) use sight::outbox;

use crate::alert_arguments::Store;
use crate::arguments::Data;
use crate::commands::outbox::source;
use crate::failure::Failure;
use tidings::sql::Database;

/// Opens the database that alerting works with; the data folder's is made where it is missing.
pub(super) async fn store(store: &Store, data: &Data) -> Result<Database, Failure> {
    match &store.shared.url {
        Some(url) => source::database(url, true).await,
        None => in_folder(data).await,
    }
}

/// The database of a data folder.
#[cfg(feature = "sqlite")]
pub(crate) async fn in_folder(data: &Data) -> Result<Database, Failure> {
    Ok(tidings::state_database(&data.folder).await?)
}

/// The database of a data folder.
#[cfg(not(feature = "sqlite"))]
#[expect(
    clippy::unused_async,
    reason = "it opens something where SQLite is built in"
)]
pub(crate) async fn in_folder(_: &Data) -> Result<Database, Failure> {
    Err(Failure::usage(
        "this program was built without SQLite, so that a data folder has no database; name one with --store",
    ))
}

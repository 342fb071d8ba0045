//! Opening the database and the outbox that the arguments name.

use crate::config;
use crate::failure::Failure;
use crate::outbox_arguments::Source;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings::core::store::Settlement;
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::sql::{
    ColumnMapping, Database, DatabaseOptions, OutboxOptions, RelayTables, SqlOutbox,
};

/// What opening an outbox may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// What is done where the relay's tables are missing.
    pub(crate) relay_tables: RelayTables,
    /// Listen for hints of writers.
    pub(crate) listen: bool,
}

impl Access {
    /// For one look, also before any relay ran.
    pub(crate) const LOOK: Self = Self {
        relay_tables: RelayTables::Spare,
        listen: false,
    };
    /// For looking again and again, and for a person's decisions.
    pub(crate) const DECIDE: Self = Self {
        relay_tables: RelayTables::Need,
        listen: false,
    };
}

/// Opens a database; a SQLite file that does not exist is made only where `create` says so.
pub(crate) async fn database(url: &str, create: bool) -> Result<Database, Failure> {
    let options = DatabaseOptions {
        create,
        ..DatabaseOptions::default()
    };
    Ok(Database::open(url, &options).await?)
}

/// Opens a SQLite database by the path of its file; one that does not exist is made only where `create` says so.
#[cfg(feature = "sqlite")]
pub(crate) async fn file(file: &Path, create: bool) -> Result<Database, Failure> {
    let options = DatabaseOptions {
        create,
        ..DatabaseOptions::default()
    };
    Ok(Database::open_file(file, &options).await?)
}

/// Refuses a SQLite database by the name of the missing feature.
#[cfg(not(feature = "sqlite"))]
pub(crate) async fn file(file: &Path, create: bool) -> Result<Database, Failure> {
    database(&format!("sqlite://{}", file.display()), create).await
}

/// Opens the outbox.
pub(crate) async fn open(source: &Source, access: Access) -> Result<SqlOutbox, Failure> {
    let (database, options) = options(source, access).await?;
    let clock = Arc::new(SystemClock::new());
    Ok(SqlOutbox::open(database, options, clock, &SystemChance).await?)
}

/// The database, and how its outbox is opened.
pub(crate) async fn options(
    source: &Source,
    access: Access,
) -> Result<(Database, OutboxOptions), Failure> {
    let mapping = config::mapping(source.config.as_deref())?;
    let database = database(&source.from, false).await?;
    let state = match &source.state {
        // Nothing is noted yet; and nothing is, in the database of the rows, of an outbox whose state is elsewhere.
        Some(url) if access.relay_tables == RelayTables::Spare && file_to_make(url).is_some() => {
            Some(database.clone())
        }
        Some(url) => {
            let create = access.relay_tables == RelayTables::Make;
            Some(self::database(url, create).await?)
        }
        None => None,
    };
    let options = options_with(source, access, mapping, state);
    Ok((database, options))
}

/// The SQLite file of a URL, where a relay would have to make it.
pub(crate) fn file_to_make(url: &str) -> Option<PathBuf> {
    Database::file_of(url).filter(|file| !file.exists())
}

/// How the outbox is opened, with a mapping and a state that are read and open already.
pub(crate) fn options_with(
    source: &Source,
    access: Access,
    mapping: ColumnMapping,
    state: Option<Database>,
) -> OutboxOptions {
    OutboxOptions {
        table: source.table.clone(),
        shape: source.shape.map(|shape| shape.known()),
        mapping,
        settlement: source.mark.then_some(Settlement::Mark),
        unordered: source.unordered,
        state,
        relay_tables: access.relay_tables,
        listen: access.listen,
        facts_only: false,
    }
}

//! Stores in SQL for the suite of brokers; the adapters' tests use this file too, since the kit itself knows no database.

use std::sync::{Arc, OnceLock};
use tempfile::TempDir;
use tidings_flow::runtime::{SystemChance, SystemClock};
use tidings_sql::schema::{self, Part};
use tidings_sql::{Database, DatabaseOptions, Failures, OutboxOptions, Schedules, SqlOutbox};
use tidings_testkit::conformance::broker::Stores;

/// SQLite files of one run of the suite; they go with it.
#[derive(Default)]
pub(crate) struct Files {
    folder: OnceLock<TempDir>,
}

impl Files {
    /// The address of an empty store for a property.
    pub(crate) async fn fresh(&self, property: &str) -> String {
        let folder = self.folder.get_or_init(|| tempfile::tempdir().unwrap());
        let file = tempfile::Builder::new()
            .prefix(property)
            .suffix(".db")
            .tempfile_in(folder.path())
            .unwrap();
        let (_, path) = file.keep().unwrap();
        let url = format!("sqlite://{}", path.display());
        migrate(&url).await;
        url
    }
}

/// Makes the tables of a store in an empty database.
pub(crate) async fn migrate(url: &str) {
    let database = connect(url).await;
    schema::migrate(&database, &Part::ALL).await.unwrap();
}

async fn connect(url: &str) -> Database {
    let options = DatabaseOptions {
        create: true,
        ..DatabaseOptions::default()
    };
    Database::open(url, &options).await.unwrap()
}

/// Connections of their own to a store.
pub(crate) async fn open(url: &str) -> Stores {
    let database = connect(url).await;
    let failures = Failures::open(&database).await.unwrap();
    let schedules = Schedules::open(&database).await.unwrap();
    let outbox = SqlOutbox::open(
        database,
        OutboxOptions::default(),
        Arc::new(SystemClock::new()),
        &SystemChance,
    );
    Stores {
        failures: Arc::new(failures.clone()),
        letters: Arc::new(failures),
        schedules: Arc::new(schedules),
        outbox: Arc::new(outbox.await.unwrap()),
    }
}

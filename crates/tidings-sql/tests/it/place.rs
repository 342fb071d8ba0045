//! A fresh database of each kind, for tests that hold on all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::StoreError;
use tidings_flow::runtime::SystemClock;
use tidings_sql::{Database, DatabaseOptions, Kind, OutboxOptions, Pool, SqlOutbox};
use tidings_testkit::database::{Server, TestDatabase};

pub(crate) const KINDS: [Kind; 3] = [Kind::Sqlite, Kind::Postgres, Kind::MySql];

/// A database that one test owns; a SQLite file lives as long as this.
pub(crate) struct Place {
    pub(crate) database: Database,
    url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    /// A fresh database; `None` where the test run does without its server.
    pub(crate) async fn fresh(kind: Kind, test: &str) -> Option<Self> {
        let (url, folder) = match kind {
            Kind::Postgres => {
                let made = TestDatabase::fresh(Server::Postgres, test).await?;
                (made.url().to_owned(), None)
            }
            Kind::MySql => {
                let made = TestDatabase::fresh(Server::MariaDb, test).await?;
                (made.url().to_owned(), None)
            }
            _ => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}/state.db", folder.path().display());
                (url, Some(folder))
            }
        };
        let options = DatabaseOptions {
            create: true,
            ..DatabaseOptions::default()
        };
        let database = Database::open(&url, &options).await.unwrap();
        Some(Self {
            database,
            url,
            _folder: folder,
        })
    }

    /// Where it is, credentials included.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Host and port of its server.
    pub(crate) fn address(&self) -> &str {
        let host = self.url.rsplit_once('@').map_or("", |(_, host)| host);
        host.split_once('/').map_or(host, |(address, _)| address)
    }

    /// The same database, with connections of its own, as another process has it.
    pub(crate) async fn another(&self) -> Database {
        let options = DatabaseOptions::default();
        Database::open(&self.url, &options).await.unwrap()
    }

    /// Runs statements one after the other.
    pub(crate) async fn run(&self, sql: &str) {
        self.try_run(sql)
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Runs statements one after the other.
    pub(crate) async fn try_run(&self, sql: &str) -> Result<(), sqlx::Error> {
        let script = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        match self.database.pool() {
            Pool::Sqlite(pool) => script.execute(pool).await.map(drop),
            Pool::Postgres(pool) => script.execute(pool).await.map(drop),
            Pool::MySql(pool) => script.execute(pool).await.map(drop),
            _ => unreachable!("the tests know three databases"),
        }
    }

    /// The whole number that a statement answers.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        match self.database.pool() {
            Pool::Sqlite(pool) => {
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                    .fetch_one(pool)
                    .await
            }
            Pool::Postgres(pool) => {
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                    .fetch_one(pool)
                    .await
            }
            Pool::MySql(pool) => {
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                    .fetch_one(pool)
                    .await
            }
            _ => unreachable!("the tests know three databases"),
        }
        .unwrap_or_else(|error| panic!("{error}: {sql}"))
    }
}

/// Random bits that differ within a test.
pub(crate) struct Counting(AtomicU64);

impl Counting {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1)))
    }
}

impl Chance for Counting {
    fn next_u64(&self) -> u64 {
        let step = self.0.fetch_add(1, Ordering::Relaxed);
        step.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// Opens the outbox of a database for a relay.
pub(crate) async fn open(
    database: &Database,
    options: OutboxOptions,
) -> Result<SqlOutbox, StoreError> {
    SqlOutbox::open(database.clone(), options, clock(), &*Counting::new()).await
}

//! The three databases, each with what a program would write by hand on its driver: to connect, to insert, to read and delete.

use crate::measure::Outcome;
use crate::orders::{BATCH_ROWS, HandWritten, OrderPlaced};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _, Transaction};
use std::future::Future;
use std::path::PathBuf;
use std::str::FromStr as _;
use tidings_sql::schema::{self, Part};
use tidings_sql::{Database, DatabaseOptions, Kind, Outbox};
use tidings_testkit::database::{Server, TestDatabase};

/// A database of the benchmark, by its driver.
pub(crate) trait Engine: sqlx::Database + Sized {
    const KIND: Kind;
    /// What follows the name of a figure.
    const SUFFIX: &'static str;
    /// How a writing transaction begins.
    const BEGIN: &'static str;
    /// Makes rows `1..=$rows` of an outbox; `{rows}` is their number.
    const FILL: &'static str;
    /// Empties the outbox.
    const EMPTY: &'static [&'static str];
    /// Writers at the same time that suit the database.
    const WRITERS: usize;

    /// A connection as an application opens it.
    fn connect(url: &str) -> impl Future<Output = Outcome<Self::Connection>> + Send;

    /// Runs a statement.
    fn run(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = Outcome<()>> + Send;

    /// The change that an event states: one row.
    fn insert_order(
        tx: &mut Transaction<'_, Self>,
        number: i64,
    ) -> impl Future<Output = Outcome<()>> + Send;

    /// The statement of the outbox, with its values bound by hand.
    fn insert_by_hand(
        tx: &mut Transaction<'_, Self>,
        sql: &'static str,
        row: HandWritten,
    ) -> impl Future<Output = Outcome<()>> + Send;

    /// Publishes and answers the id.
    fn publish(
        outbox: &Outbox,
        tx: &mut Transaction<'_, Self>,
        order: &OrderPlaced,
    ) -> impl Future<Output = Outcome<String>> + Send;

    /// What a relay does to the table at the least: reads a batch, then deletes it by its ids. Answers how many rows there were.
    fn read_and_delete(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Outcome<usize>> + Send;
}

const READ: &str = "SELECT id, event_id, event_type, aggregate_id, destination, payload, payload_bytes, headers, created_at FROM outbox ORDER BY id LIMIT 500";
const ORDER: [&str; 2] = [
    "INSERT INTO bench_order (number, customer, total) VALUES ($1, 'customer-4711', 59.98)",
    "INSERT INTO bench_order (number, customer, total) VALUES (?, 'customer-4711', 59.98)",
];

impl Engine for sqlx::Postgres {
    const KIND: Kind = Kind::Postgres;
    const SUFFIX: &'static str = "";
    const BEGIN: &'static str = "BEGIN";
    const FILL: &'static str = "INSERT INTO outbox (event_id, event_type, aggregate_id, payload, headers) SELECT gen_random_uuid()::text, 'order.placed', 'order-' || n / 5, CAST('{payload}' AS json), CAST('{headers}' AS json) FROM generate_series(1, {rows}) AS n";
    // As far as autovacuum would bring it before long.
    const EMPTY: &'static [&'static str] = &["TRUNCATE outbox", "VACUUM (ANALYZE) outbox"];
    const WRITERS: usize = 8;

    async fn connect(url: &str) -> Outcome<Self::Connection> {
        Ok(sqlx::PgConnection::connect(url).await?)
    }

    async fn run(connection: &mut Self::Connection, sql: String) -> Outcome<()> {
        connection.execute(AssertSqlSafe(sql)).await?;
        Ok(())
    }

    async fn insert_order(tx: &mut Transaction<'_, Self>, number: i64) -> Outcome<()> {
        let query = sqlx::query(ORDER[0]).bind(number);
        query.execute(&mut **tx).await?;
        Ok(())
    }

    async fn insert_by_hand(
        tx: &mut Transaction<'_, Self>,
        sql: &'static str,
        row: HandWritten,
    ) -> Outcome<()> {
        let query = sqlx::query(sql)
            .bind(row.event_id)
            .bind(row.event_type)
            .bind(row.key)
            .bind("")
            .bind(row.payload)
            .bind(None::<Vec<u8>>)
            .bind(row.headers);
        query.execute(&mut **tx).await?;
        Ok(())
    }

    async fn publish(
        outbox: &Outbox,
        tx: &mut Transaction<'_, Self>,
        order: &OrderPlaced,
    ) -> Outcome<String> {
        Ok(outbox.publish(tx, order).await?)
    }

    async fn read_and_delete(connection: &mut Self::Connection) -> Outcome<usize> {
        let rows = sqlx::query(READ).fetch_all(&mut *connection).await?;
        let ids = rows.iter().map(|row| row.try_get::<i64, _>(0));
        let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
        let delete = sqlx::query("DELETE FROM outbox WHERE id = ANY ($1)").bind(&ids);
        delete.execute(&mut *connection).await?;
        Ok(ids.len())
    }
}

impl Engine for sqlx::MySql {
    const KIND: Kind = Kind::MySql;
    const SUFFIX: &'static str = ".mariadb";
    const BEGIN: &'static str = "BEGIN";
    const FILL: &'static str = "INSERT INTO outbox (event_id, event_type, aggregate_id, payload, headers) SELECT UUID(), 'order.placed', CONCAT('order-', seq DIV 5), '{payload}', '{headers}' FROM seq_1_to_{rows}";
    const EMPTY: &'static [&'static str] = &["TRUNCATE outbox"];
    const WRITERS: usize = 8;

    async fn connect(url: &str) -> Outcome<Self::Connection> {
        let mut connection = sqlx::MySqlConnection::connect(url).await?;
        connection
            .execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            .await?;
        Ok(connection)
    }

    async fn run(connection: &mut Self::Connection, sql: String) -> Outcome<()> {
        connection.execute(AssertSqlSafe(sql)).await?;
        Ok(())
    }

    async fn insert_order(tx: &mut Transaction<'_, Self>, number: i64) -> Outcome<()> {
        let query = sqlx::query(ORDER[1]).bind(number);
        query.execute(&mut **tx).await?;
        Ok(())
    }

    async fn insert_by_hand(
        tx: &mut Transaction<'_, Self>,
        sql: &'static str,
        row: HandWritten,
    ) -> Outcome<()> {
        let query = sqlx::query(sql)
            .bind(row.event_id)
            .bind(row.event_type)
            .bind(row.key)
            .bind("")
            .bind(row.payload)
            .bind(None::<Vec<u8>>)
            .bind(row.headers);
        query.execute(&mut **tx).await?;
        Ok(())
    }

    async fn publish(
        outbox: &Outbox,
        tx: &mut Transaction<'_, Self>,
        order: &OrderPlaced,
    ) -> Outcome<String> {
        Ok(outbox.publish(tx, order).await?)
    }

    async fn read_and_delete(connection: &mut Self::Connection) -> Outcome<usize> {
        let rows = sqlx::query(READ).fetch_all(&mut *connection).await?;
        let ids = rows.iter().map(|row| row.try_get::<u64, _>(0));
        let ids: Vec<u64> = ids.collect::<Result<_, _>>()?;
        if let Some(delete) = delete_of(&ids) {
            connection.execute(AssertSqlSafe(delete)).await?;
        }
        Ok(ids.len())
    }
}

impl Engine for sqlx::Sqlite {
    const KIND: Kind = Kind::Sqlite;
    const SUFFIX: &'static str = ".sqlite";
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const FILL: &'static str = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows}) INSERT INTO outbox (event_type, aggregate_id, payload, headers) SELECT 'order.placed', 'order-' || n / 5, '{payload}', '{headers}' FROM numbers";
    const EMPTY: &'static [&'static str] = &["DELETE FROM outbox"];
    // It lets one write at a time.
    const WRITERS: usize = 1;

    async fn connect(url: &str) -> Outcome<Self::Connection> {
        use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
        let options = SqliteConnectOptions::from_str(url)?
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(tidings_core::limits::SQL_BUSY_TIMEOUT);
        Ok(sqlx::SqliteConnection::connect_with(&options).await?)
    }

    async fn run(connection: &mut Self::Connection, sql: String) -> Outcome<()> {
        connection.execute(AssertSqlSafe(sql)).await?;
        Ok(())
    }

    async fn insert_order(tx: &mut Transaction<'_, Self>, number: i64) -> Outcome<()> {
        let query = sqlx::query(ORDER[1]).bind(number);
        query.execute(&mut **tx).await?;
        Ok(())
    }

    async fn insert_by_hand(
        tx: &mut Transaction<'_, Self>,
        sql: &'static str,
        row: HandWritten,
    ) -> Outcome<()> {
        let query = sqlx::query(sql)
            .bind(row.event_id)
            .bind(row.event_type)
            .bind(row.key)
            .bind("")
            .bind(row.payload)
            .bind(None::<Vec<u8>>)
            .bind(row.headers);
        query.execute(&mut **tx).await?;
        Ok(())
    }

    async fn publish(
        outbox: &Outbox,
        tx: &mut Transaction<'_, Self>,
        order: &OrderPlaced,
    ) -> Outcome<String> {
        Ok(outbox.publish(tx, order).await?)
    }

    async fn read_and_delete(connection: &mut Self::Connection) -> Outcome<usize> {
        let rows = sqlx::query(READ).fetch_all(&mut *connection).await?;
        let ids = rows.iter().map(|row| row.try_get::<i64, _>(0));
        let ids: Vec<u64> = ids
            .map(|id| id.map(i64::unsigned_abs))
            .collect::<Result<_, _>>()?;
        if let Some(delete) = delete_of(&ids) {
            connection.execute(AssertSqlSafe(delete)).await?;
        }
        Ok(ids.len())
    }
}

fn delete_of(ids: &[u64]) -> Option<String> {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    (!ids.is_empty()).then(|| format!("DELETE FROM outbox WHERE id IN ({})", ids.join(", ")))
}

/// A fresh database with every table of ours, and one of orders.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) database: Database,
    /// Of a SQLite file, removed at the end.
    folder: Option<PathBuf>,
}

impl Place {
    pub(crate) async fn fresh<E: Engine>(name: &str) -> Outcome<Self> {
        let name = format!("bench_{name}");
        let made = match E::KIND {
            Kind::Postgres => TestDatabase::fresh(Server::Postgres, &name).await,
            Kind::MySql => TestDatabase::fresh(Server::MariaDb, &name).await,
            _ => None,
        };
        // A temporary folder may be in memory, where a flush costs nothing.
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&name);
        let (url, folder) = match made {
            Some(made) => (made.url().to_owned(), None),
            None => {
                remove(&folder)?;
                std::fs::create_dir_all(&folder)?;
                let url = format!("sqlite://{}/state.db", folder.display());
                (url, Some(folder))
            }
        };
        let options = DatabaseOptions {
            create: true,
            ..DatabaseOptions::default()
        };
        let database = Database::open(&url, &options).await?;
        schema::migrate(&database, &Part::ALL).await?;
        let mut connection = E::connect(&url).await?;
        let orders = "CREATE TABLE bench_order (number BIGINT NOT NULL, customer VARCHAR(40) NOT NULL, total NUMERIC(12, 2) NOT NULL)";
        E::run(&mut connection, orders.to_owned()).await?;
        Ok(Self {
            url,
            database,
            folder,
        })
    }

    /// Puts so many events into an outbox that is empty otherwise.
    pub(crate) async fn fill<E: Engine>(&self, rows: usize) -> Outcome<()> {
        assert_eq!(rows % BATCH_ROWS, 0, "whole batches");
        let mut connection = E::connect(&self.url).await?;
        for sql in E::EMPTY {
            E::run(&mut connection, (*sql).to_owned()).await?;
        }
        if rows == 0 {
            return Ok(connection.close().await?);
        }
        let sql = E::FILL
            .replace("{payload}", &crate::orders::payload(7))
            .replace("{headers}", &crate::orders::headers("evt-of-the-cause"))
            .replace("{rows}", &rows.to_string());
        E::run(&mut connection, sql).await?;
        if E::KIND == Kind::Postgres {
            let analyze = "VACUUM (ANALYZE) outbox".to_owned();
            E::run(&mut connection, analyze).await?;
        }
        Ok(connection.close().await?)
    }

    pub(crate) async fn close(self) -> Outcome<()> {
        self.database.close().await;
        match self.folder {
            Some(folder) => remove(&folder),
            None => Ok(()),
        }
    }
}

fn remove(folder: &std::path::Path) -> Outcome<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

//! A database by its URL: connections, sessions as the statements need them, and the versions that are too old.

use crate::dialect::{Dialect, Kind};
use crate::driver::{Bind, Connection, Row};
use crate::error::{Access, Moment, store_error};
use crate::url;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use sqlx::Connection as _;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::limits::{SQL_ACQUIRE_TIMEOUT, SQL_BUSY_TIMEOUT, SQL_CONNECTIONS_DEFAULT};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use tidings_core::limits::{SQL_ANSWER_TIMEOUT, SQL_LOCK_TIMEOUT, SQL_PING_TIMEOUT};
use tidings_core::store::StoreError;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

/// A database: its connections, and what it is called.
///
/// Clones share the connections.
#[derive(Clone, Debug)]
pub struct Database {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: Pool,
    /// Without credentials.
    name: String,
    /// Who is asked to grant what is missing.
    user: String,
    /// SQLite has one writer at a time: waiting here is fair and ends at once, waiting for its lock is a sleep that grows.
    writer: Option<Arc<Semaphore>>,
    /// Set once its server is known to be new enough.
    verified: OnceCell<()>,
}

/// The connections of one of the databases.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Pool {
    /// SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
    /// PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
    /// MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    MySql(sqlx::MySqlPool),
}

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Connections at most.
    pub connections_max: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// Whether a SQLite file that does not exist is made.
    pub create: bool,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            connections_max: SQL_CONNECTIONS_DEFAULT,
            acquire_timeout: SQL_ACQUIRE_TIMEOUT,
            create: false,
        }
    }
}

impl Database {
    /// Opens a database: `sqlite:///FILE`, `postgres://USER@HOST/NAME`, `mysql://USER@HOST/NAME`.
    ///
    /// A SQLite database is put into WAL mode with every commit synced.
    ///
    /// **Errors**: [`StoreError::UrlInvalid`], [`StoreError::Unavailable`]; [`StoreError::ShapeWrong`] where the server is too old.
    ///
    /// **Cancel**: nothing is left behind.
    pub async fn open(given: &str, options: &DatabaseOptions) -> Result<Self, StoreError> {
        let target = url::parse(given)?;
        let pool = match target.kind {
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => Pool::Sqlite(open_sqlite(&target, options).await?),
            #[cfg(feature = "postgres")]
            Kind::Postgres => Pool::Postgres(open_postgres(&target, options).await?),
            #[cfg(feature = "mysql")]
            Kind::MySql => Pool::MySql(open_mysql(&target, options).await?),
            #[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mysql")))]
            other => return Err(url::not_built(&target.name, other)),
        };
        let database = Self::new(pool, target.name, target.user);
        database.verified().await?;
        Ok(database)
    }

    /// The database behind connections that the application opened itself, under a name for messages.
    ///
    /// A SQLite pool must use WAL mode; writing transactions begin with `BEGIN IMMEDIATE`. Whether its server is new enough is asked when something is opened in it.
    pub fn from_pool(pool: Pool, name: impl Into<String>) -> Self {
        let user = user_of(&pool);
        Self::new(pool, name.into(), user)
    }

    fn new(pool: Pool, name: String, user: String) -> Self {
        let writer = match &pool {
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(_) => Some(Arc::new(Semaphore::new(1))),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => None,
        };
        Self {
            inner: Arc::new(Inner {
                pool,
                name,
                user,
                writer,
                verified: OnceCell::new(),
            }),
        }
    }

    /// Makes sure that the server is not too old. It is asked until it has said so once, and by whatever is opened first: connections that the application opened
    /// itself nobody has looked at before.
    pub(crate) async fn verified(&self) -> Result<(), StoreError> {
        let asked = self
            .inner
            .verified
            .get_or_try_init(|| crate::verify::server(self));
        asked.await.map(drop)
    }

    /// The file that a URL names; `None` where it names a server, or no database.
    pub fn file_of(url: &str) -> Option<PathBuf> {
        let target = url::parse(url).ok()?;
        (target.kind == Kind::Sqlite).then(|| PathBuf::from(target.path))
    }

    /// What it is called: the URL without credentials and options.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The connections, for statements of your own.
    pub fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    /// Which of the databases it is.
    pub fn kind(&self) -> Kind {
        self.dialect().kind
    }

    /// Closes the connections once they are given back.
    pub async fn close(&self) {
        match &self.inner.pool {
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(pool) => pool.close().await,
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => pool.close().await,
            #[cfg(feature = "mysql")]
            Pool::MySql(pool) => pool.close().await,
        }
    }

    pub(crate) fn dialect(&self) -> &'static Dialect {
        match &self.inner.pool {
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(_) => &crate::dialect::SQLITE,
            #[cfg(feature = "postgres")]
            Pool::Postgres(_) => &crate::dialect::POSTGRES,
            #[cfg(feature = "mysql")]
            Pool::MySql(_) => &crate::dialect::MYSQL,
        }
    }

    pub(crate) fn user(&self) -> &str {
        &self.inner.user
    }

    /// Reads, on a connection of its own choice, without a transaction.
    pub(crate) async fn fetch(
        &self,
        sql: &str,
        binds: &[Bind],
        access: &Access<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        self.fetch_each(sql, binds, access, &mut |row| rows.push(row))
            .await?;
        Ok(rows)
    }

    /// As [`fetch`](Self::fetch), handing over each row as it comes.
    pub(crate) async fn fetch_each(
        &self,
        sql: &str,
        binds: &[Bind],
        access: &Access<'_>,
        take: &mut (dyn FnMut(Row) + Send),
    ) -> Result<(), StoreError> {
        let mut held = self.acquire().await?;
        let limit = self.answer_timeout();
        let answer = answered(limit, held.connection().each(sql, binds, take)).await;
        held.used(answer.as_ref().err());
        answer.map_err(|error| store_error(self, &error, Moment::Reading, access))
    }

    /// The same for any number of rows, however long they take.
    pub(crate) async fn each(
        &self,
        sql: &str,
        binds: &[Bind],
        access: &Access<'_>,
        take: &mut (dyn FnMut(Row) + Send),
    ) -> Result<(), StoreError> {
        let mut held = self.acquire().await?;
        held.connection()
            .each(sql, binds, take)
            .await
            .map_err(|error| store_error(self, &error, Moment::Reading, access))
    }

    /// Changes something with one statement that is a transaction of its own; answers the rows it met.
    pub(crate) async fn change(
        &self,
        sql: &str,
        binds: &[Bind],
        access: &Access<'_>,
    ) -> Result<u64, StoreError> {
        let _turn = self.turn_in_time().await;
        let mut held = self.acquire().await?;
        let limit = self.answer_timeout();
        let answer = answered(limit, held.connection().execute(sql, binds)).await;
        held.used(answer.as_ref().err());
        answer.map_err(|error| store_error(self, &error, Moment::Changing, access))
    }

    /// How long an answer is waited for; a file always answers.
    pub(crate) fn answer_timeout(&self) -> Option<Duration> {
        match &self.inner.pool {
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(_) => None,
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => Some(SQL_ANSWER_TIMEOUT),
        }
    }

    /// Waits for the turn to write, where the database has one writer.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let writer = Arc::clone(self.inner.writer.as_ref()?);
        // It is never closed.
        writer.acquire_owned().await.ok()
    }

    /// The same, as long as a writer waits for another process. Whoever still has no turn then asks the database itself: the turn may be held by somebody who waits for the caller.
    pub(crate) async fn turn_in_time(&self) -> Option<OwnedSemaphorePermit> {
        let waiting = tokio::time::timeout(SQL_BUSY_TIMEOUT, self.turn());
        waiting.await.ok().flatten()
    }

    /// Takes a connection.
    pub(crate) async fn acquire(&self) -> Result<Held, StoreError> {
        let held = match &self.inner.pool {
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(pool) => pool.acquire().await.map(Held::Sqlite),
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => pool.acquire().await.map(Held::Postgres),
            #[cfg(feature = "mysql")]
            Pool::MySql(pool) => pool.acquire().await.map(Held::MySql),
        };
        held.map_err(|error| store_error(self, &error, Moment::Connecting, &Access::NONE))
    }
}

/// A connection taken from the pool; it goes back when it is dropped.
pub(crate) enum Held {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::pool::PoolConnection<sqlx::Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::pool::PoolConnection<sqlx::Postgres>),
    #[cfg(feature = "mysql")]
    MySql(sqlx::pool::PoolConnection<sqlx::MySql>),
}

impl Held {
    pub(crate) fn connection(&mut self) -> Connection<'_> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => Connection::Sqlite(&mut *connection),
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => Connection::Postgres(&mut *connection),
            #[cfg(feature = "mysql")]
            Self::MySql(connection) => Connection::MySql(&mut *connection),
        }
    }
}

impl Held {
    /// Takes note of what an answer says about the connection: one that did not answer in time is closed, not given back, because the answer may still
    /// come.
    pub(crate) fn used(self, error: Option<&sqlx::Error>) {
        let is_late =
            matches!(error, Some(sqlx::Error::Io(error)) if error.kind() == ErrorKind::TimedOut);
        if is_late {
            self.throw_away();
        }
    }

    /// Closes the connection instead of giving it back; what it had not committed is rolled back.
    pub(crate) fn throw_away(self) {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => drop(connection.detach()),
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => drop(connection.detach()),
            #[cfg(feature = "mysql")]
            Self::MySql(connection) => drop(connection.detach()),
        }
    }
}

/// Waits for an answer as long as a server that works may take. One that is gone without a word, behind a firewall that forgot the connection or an address
/// that moved, would be waited for without an end.
pub(crate) async fn answered<T, E: From<sqlx::Error>>(
    limit: Option<Duration>,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(limit) = limit else {
        return asked.await;
    };
    let waiting = tokio::time::timeout(limit, asked).await;
    waiting.unwrap_or_else(|_| Err(no_answer(limit).into()))
}

/// Makes sure that a connection is alive, within the time in which a live one answers.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn alive(asked: impl Future<Output = Result<(), sqlx::Error>>) -> Result<bool, sqlx::Error> {
    let waiting = tokio::time::timeout(SQL_PING_TIMEOUT, asked);
    waiting
        .await
        .unwrap_or_else(|_| Err(no_answer(SQL_PING_TIMEOUT)))?;
    Ok(true)
}

pub(crate) fn no_answer(within: Duration) -> sqlx::Error {
    let reason = format!("the server did not answer within {within:?}");
    sqlx::Error::Io(std::io::Error::new(ErrorKind::TimedOut, reason))
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(
    target: &url::Target,
    options: &DatabaseOptions,
) -> Result<sqlx::SqlitePool, StoreError> {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
    let connect = SqliteConnectOptions::new()
        .filename(&target.path)
        .create_if_missing(options.create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(SQL_BUSY_TIMEOUT);
    // Before the first connection: a version with the defect must not touch the file.
    crate::verify::sqlite_version(&target.name)?;
    let connect = quiet(connect);
    let mut waited = Duration::ZERO;
    loop {
        let error = match pool_options(options).connect_with(connect.clone()).await {
            Ok(pool) => return Ok(pool),
            Err(error) => cannot_open(target, &error),
        };
        // Of several that switch a new file to WAL at once, SQLite refuses one without waiting for the others.
        let is_locked = matches!(error, StoreError::Conflict { .. });
        if !is_locked || waited >= tidings_core::limits::SQL_BUSY_TIMEOUT {
            return Err(error);
        }
        tokio::time::sleep(tidings_core::limits::SQL_BUSY_POLL_INTERVAL).await;
        waited += tidings_core::limits::SQL_BUSY_POLL_INTERVAL;
    }
}

/// Who is logged in by connections that the application opened itself.
fn user_of(pool: &Pool) -> String {
    match pool {
        #[cfg(feature = "sqlite")]
        Pool::Sqlite(_) => String::new(),
        #[cfg(feature = "postgres")]
        Pool::Postgres(pool) => pool.connect_options().get_username().to_owned(),
        #[cfg(feature = "mysql")]
        Pool::MySql(pool) => pool.connect_options().get_username().to_owned(),
    }
}

#[cfg(feature = "postgres")]
async fn open_postgres(
    target: &url::Target,
    options: &DatabaseOptions,
) -> Result<sqlx::PgPool, StoreError> {
    use sqlx::postgres::PgConnectOptions;
    let connect: PgConnectOptions = target
        .url
        .parse()
        .map_err(|error: sqlx::Error| refused(target, &error))?;
    let connect = if connect.get_application_name().is_none() {
        connect.application_name("tidings")
    } else {
        connect
    };
    pool_options(options)
        // Not at the login, where a pooler in between would refuse them. A ROLLBACK outside of a transaction warns; see the hook below.
        .after_connect(|connection, _| {
            Box::pin(async move {
                let waits = SQL_LOCK_TIMEOUT.as_millis();
                let begin = format!("SET client_min_messages = error; SET lock_timeout = {waits}");
                sqlx::raw_sql(sqlx::AssertSqlSafe(begin))
                    .execute(connection)
                    .await
                    .map(drop)
            })
        })
        // A `begin` that was cancelled half-way gives back a connection inside a transaction, and the driver does not know it; whoever
        // borrowed it next would write into a transaction that nobody commits.
        .after_release(|connection, _| {
            Box::pin(alive(async move {
                let rolled_back = sqlx::raw_sql("ROLLBACK").execute(connection).await;
                rolled_back.map(drop)
            }))
        })
        // In the place of the driver's own test, which waits without an end.
        .test_before_acquire(false)
        .before_acquire(|connection: &mut sqlx::PgConnection, _| Box::pin(alive(connection.ping())))
        .connect_with(quiet(connect))
        .await
        .map_err(|error| cannot_open(target, &error))
}

#[cfg(feature = "mysql")]
async fn open_mysql(
    target: &url::Target,
    options: &DatabaseOptions,
) -> Result<sqlx::MySqlPool, StoreError> {
    use sqlx::mysql::MySqlConnectOptions;
    let connect: MySqlConnectOptions = target
        .url
        .parse()
        .map_err(|error: sqlx::Error| refused(target, &error))?;
    // The server's own time zone, which is what `NOW()` of the other writers means too.
    let connect = connect.timezone(None).pipes_as_concat(false);
    pool_options(options)
        // Under the server's default, REPEATABLE READ, what a relay reads and deletes would lock gaps that producers insert into.
        .after_connect(|connection, _| {
            Box::pin(async move {
                let waits = SQL_LOCK_TIMEOUT.as_secs();
                let begin = format!("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION innodb_lock_wait_timeout = {waits}, SESSION lock_wait_timeout = {waits}");
                sqlx::raw_sql(sqlx::AssertSqlSafe(begin))
                    .execute(connection)
                    .await
                    .map(drop)
            })
        })
        // In the place of the driver's own test, which waits without an end; and before its test of what is given back, which does so too.
        .test_before_acquire(false)
        .before_acquire(|connection: &mut sqlx::MySqlConnection, _| {
            Box::pin(alive(connection.ping()))
        })
        .after_release(|connection: &mut sqlx::MySqlConnection, _| {
            Box::pin(alive(connection.ping()))
        })
        .connect_with(quiet(connect))
        .await
        .map_err(|error| cannot_open(target, &error))
}

/// What pools of all databases have in common.
fn pool_options<DB: sqlx::Database>(options: &DatabaseOptions) -> sqlx::pool::PoolOptions<DB> {
    sqlx::pool::PoolOptions::new()
        .max_connections(options.connections_max)
        .acquire_timeout(options.acquire_timeout)
}

/// The driver would log every statement, and slow ones as warnings.
fn quiet<O: sqlx::ConnectOptions>(options: O) -> O {
    options.disable_statement_logging()
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn refused(target: &url::Target, error: &sqlx::Error) -> StoreError {
    StoreError::UrlInvalid {
        url: target.name.clone(),
        reason: error.to_string(),
    }
}

fn cannot_open(target: &url::Target, error: &sqlx::Error) -> StoreError {
    // The driver does not say which file it is that it cannot read.
    for (parameter, file) in url::files(&target.url) {
        if let Err(cause) = std::fs::File::open(&file) {
            return StoreError::UrlInvalid {
                url: target.name.clone(),
                reason: format!("the file {file:?} of {parameter} cannot be read: {cause}"),
            };
        }
    }
    crate::error::nameless_error(&target.name, error, Moment::Connecting, &Access::NONE)
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_those_who_write_to_one_sqlite_file_one_has_the_turn() {
        let pool = sqlx::SqlitePool::connect_lazy("sqlite::memory:").unwrap();
        let database = Database::from_pool(Pool::Sqlite(pool), "test");
        let beside = database.clone();
        let held = database.turn_in_time().await;
        assert!(held.is_some());

        let mut waiting = Box::pin(beside.turn());
        let early = futures_util::poll!(&mut waiting);
        assert!(early.is_pending(), "somebody else has the turn");
        drop(held);

        assert!(waiting.await.is_some());
    }
}

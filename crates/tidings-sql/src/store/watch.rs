//! Hints that another process has committed something: they may be lost or come too often, and a relay polls beside them.

use crate::database::Database;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::database::Pool;
use std::fmt;
use std::sync::Arc;
use tidings_core::BoxFuture;
use tidings_core::limits::OUTBOX_NOTIFY_INTERVAL;
use tidings_core::seam::Clock;
use tidings_core::store::Wake;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use tokio::sync::Mutex;
use tokio::sync::Notify;

/// The channel of PostgreSQL.
#[cfg(feature = "postgres")]
const CHANNEL: &str = "tidings_outbox";

/// Looks for changes, each database in its own way.
pub(super) enum Watcher {
    /// The database gives no hint, or none was asked for.
    Nothing,
    /// Changes by other connections are counted by SQLite.
    #[cfg(feature = "sqlite")]
    Counter(sqlx::SqlitePool, Mutex<Option<Counter>>),
    /// Other processes notify a channel.
    #[cfg(feature = "postgres")]
    Channel(sqlx::PgPool, Mutex<Option<sqlx::postgres::PgListener>>),
}

/// A connection that only counts, and what it counted last.
#[cfg(feature = "sqlite")]
pub(super) struct Counter {
    connection: sqlx::SqliteConnection,
    seen: i64,
}

impl Watcher {
    pub(super) fn new(database: &Database, listen: bool) -> Self {
        // Only PostgreSQL has a channel.
        let _ = listen;
        match database.pool() {
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(pool) => Self::Counter(pool.clone(), Mutex::new(None)),
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) if listen => Self::Channel(pool.clone(), Mutex::new(None)),
            #[allow(unreachable_patterns)]
            _ => Self::Nothing,
        }
    }

    pub(super) fn changed<'a>(&'a self, clock: &'a Arc<dyn Clock>) -> Option<BoxFuture<'a, ()>> {
        // MySQL and MariaDB give no hint that could be waited for.
        let _ = clock;
        match self {
            Self::Nothing => None,
            #[cfg(feature = "sqlite")]
            Self::Counter(pool, counter) => Some(Box::pin(counted(pool, counter, &**clock))),
            #[cfg(feature = "postgres")]
            Self::Channel(pool, listener) => Some(Box::pin(heard(pool, listener, &**clock))),
        }
    }
}

/// `data_version` tells only a connection that changes nothing itself, so that this one is no connection of the pool.
#[cfg(feature = "sqlite")]
async fn counted(pool: &sqlx::SqlitePool, counter: &Mutex<Option<Counter>>, clock: &dyn Clock) {
    use sqlx::{ConnectOptions as _, Connection as _};
    use tidings_core::limits::SQLITE_WATCH_INTERVAL;
    let mut held = counter.lock().await;
    loop {
        if held.is_none()
            && let Ok(mut connection) = pool.connect_options().as_ref().clone().connect().await
        {
            match data_version(&mut connection).await {
                Ok(seen) => *held = Some(Counter { connection, seen }),
                Err(_) => drop(connection.close().await),
            }
        }
        clock.sleep(SQLITE_WATCH_INTERVAL).await;
        let Some(counter) = &mut *held else {
            continue;
        };
        match data_version(&mut counter.connection).await {
            Ok(now) if now != counter.seen => {
                counter.seen = now;
                return;
            }
            Ok(_) => {}
            // Opened anew in the next round.
            Err(_) => *held = None,
        }
    }
}

#[cfg(feature = "sqlite")]
async fn data_version(connection: &mut sqlx::SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA data_version")
        .fetch_one(connection)
        .await
}

/// Notifications are lost while nobody listens and when the connection breaks; then it is opened anew, and that counts as a hint.
#[cfg(feature = "postgres")]
async fn heard(
    pool: &sqlx::PgPool,
    listener: &Mutex<Option<sqlx::postgres::PgListener>>,
    clock: &dyn Clock,
) {
    let mut held = listener.lock().await;
    loop {
        if held.is_none() {
            match listen(pool).await {
                Ok(listener) => {
                    *held = Some(listener);
                    return;
                }
                Err(_) => clock.sleep(std::time::Duration::from_secs(1)).await,
            }
        }
        let Some(listener) = &mut *held else {
            continue;
        };
        match listener.try_recv().await {
            Ok(Some(_)) => {
                // What came together is one hint.
                while listener.next_buffered().is_some() {}
                return;
            }
            // The connection is lost.
            Ok(None) | Err(_) => *held = None,
        }
    }
}

#[cfg(feature = "postgres")]
async fn listen(pool: &sqlx::PgPool) -> Result<sqlx::postgres::PgListener, sqlx::Error> {
    let mut listener = sqlx::postgres::PgListener::connect_with(pool).await?;
    // It would open a lost connection anew before it tells of it; whoever gave up waiting meanwhile would never hear of the loss.
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Tells relays of other processes about commits, outside of every business transaction and at most once in a while. PostgreSQL only; elsewhere it does nothing.
///
/// A NOTIFY inside the transaction would make all commits of the server wait for each other.
#[derive(Clone)]
pub struct Notifier {
    database: Database,
    committed: Arc<Notify>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier")
            .field("database", &self.database.name())
            .finish_non_exhaustive()
    }
}

impl Notifier {
    /// A notifier for the relays of a database; it works while [`run`](Self::run) does.
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self {
            database,
            committed: Arc::new(Notify::new()),
            clock,
        }
    }

    /// What to call after a commit.
    pub fn wake(&self) -> Wake {
        let committed = Arc::clone(&self.committed);
        Wake::new(move || committed.notify_one())
    }

    /// Passes commits on until it is dropped; whoever owns the application's tasks runs it.
    ///
    /// **Cancel**: a hint may be lost, which polling makes good.
    pub async fn run(&self) {
        loop {
            self.committed.notified().await;
            #[cfg(feature = "postgres")]
            if let Pool::Postgres(pool) = self.database.pool()
                && let Err(error) = sqlx::query("SELECT pg_notify($1, '')")
                    .bind(CHANNEL)
                    .execute(pool)
                    .await
            {
                tracing::debug!(%error, "relays of other processes were not told of a commit; they poll");
            }
            self.clock.sleep(OUTBOX_NOTIFY_INTERVAL).await;
        }
    }
}

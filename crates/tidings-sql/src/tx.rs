//! The transaction as an argument of a handler: its inbox row is in it already, what the handler writes and emits joins it, and the runtime commits it once the handler has succeeded.

use crate::database::{Database, Pool};
use crate::driver::Connection;
use crate::error::{Moment, trouble_of};
use crate::inbox::{Inbox, InboxKey};
use crate::transaction::InTransaction;
use sqlx::AssertSqlSafe;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use tidings_core::correlation::Inherited;
use tidings_core::extract::{
    DeliveryGuarantee, Emit, FromBatch, FromDelivery, HandlerContext, HandlerError,
    HandlerResultExt as _, HandlerShared, States,
};
use tidings_core::limits::SQL_IDLE_GRACE;
use tidings_core::store::{Admission, StoreError, UnitOfWork, WorkSlot};
use tidings_core::{BoxFuture, Envelope, Event};
use tokio::sync::OwnedSemaphorePermit;

/// The longest that PostgreSQL takes, in milliseconds.
#[cfg(feature = "postgres")]
const IDLE_MS_MAX: u128 = i32::MAX as u128;

/// Extractor: a transaction of the consumer's database, whose first row says that the group has handled the event.
///
/// It is the connection of `sqlx` inside an open transaction: use `&mut *tx` where `sqlx` wants an executor. Return it by letting go of it; there is nothing to commit.
///
/// **Guarantee**: if the handler succeeds, what it wrote, what it emitted and the inbox row are committed together, and only then is the event settled. If it fails, takes too long or dies, nothing of
/// it is left. An event that the group has handled before does not reach the handler.
///
/// **Errors**: a database that is down makes the group wait and counts no attempt; a deadlock runs the handler again. Return the errors of your statements: a transaction may not survive them.
///
/// **Source**: seed concept *idempotent consumer*.
pub struct Tx<Db: TxDatabase> {
    open: Option<OpenTransaction<Db>>,
    slot: WorkSlot,
    emit: Emit,
    /// The event being handled; of a batch the first that is new.
    cause: Envelope,
}

/// A database whose transactions a handler can take: `sqlx::Sqlite`, `sqlx::Postgres`, `sqlx::MySql`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a database that a handler can take a transaction of",
    note = "it is one of sqlx::Sqlite, sqlx::Postgres and sqlx::MySql, each behind the feature of its name"
)]
pub trait TxDatabase: sqlx::Database + sealed::Sealed {
    /// What begins a transaction that will write. Where the server can, it gives the transaction up once nobody has used it for so long.
    #[doc(hidden)]
    fn begin(idle_max: Duration) -> Cow<'static, str>;

    /// Whether a commit may succeed although the transaction is lost.
    #[doc(hidden)]
    const CHECKED_BY: Check;

    #[doc(hidden)]
    fn pool(database: &Database) -> Option<&sqlx::Pool<Self>>;

    #[doc(hidden)]
    fn connection(connection: &mut Self::Connection) -> Connection<'_>;
}

/// What proves before a commit that the transaction is alive.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The commit itself.
    Commit,
    /// Any statement.
    Statement,
    /// Its inbox row.
    Row,
}

mod sealed {
    pub trait Sealed {}
}

/// Writes `TxDatabase` for one database.
macro_rules! tx_database {
    ($feature:literal, $database:ident, $begin:ident, $check:ident) => {
        #[cfg(feature = $feature)]
        impl sealed::Sealed for sqlx::$database {}

        #[cfg(feature = $feature)]
        impl TxDatabase for sqlx::$database {
            const CHECKED_BY: Check = Check::$check;

            fn begin(idle_max: Duration) -> Cow<'static, str> {
                $begin(idle_max)
            }

            #[allow(unreachable_patterns, reason = "with one database there is no other")]
            fn pool(database: &Database) -> Option<&sqlx::Pool<Self>> {
                match database.pool() {
                    Pool::$database(pool) => Some(pool),
                    _ => None,
                }
            }

            fn connection(connection: &mut Self::Connection) -> Connection<'_> {
                Connection::$database(connection)
            }
        }
    };
}

// A deferred transaction that turns into a writing one fails at once when another writes.
tx_database!("sqlite", Sqlite, begin_immediate, Commit);
tx_database!("postgres", Postgres, begin_fenced, Statement);
tx_database!("mysql", MySql, begin_plainly, Row);

#[cfg(feature = "sqlite")]
fn begin_immediate(_idle_max: Duration) -> Cow<'static, str> {
    "BEGIN IMMEDIATE".into()
}

#[cfg(feature = "mysql")]
fn begin_plainly(_idle_max: Duration) -> Cow<'static, str> {
    "BEGIN".into()
}

/// A process that is stopped, or whose machine is gone without a word, keeps the inbox rows of what it was handling locked; whoever takes over waits for them.
#[cfg(feature = "postgres")]
fn begin_fenced(idle_max: Duration) -> Cow<'static, str> {
    let idle_ms = idle_max.as_millis().min(IDLE_MS_MAX);
    format!("BEGIN; SET LOCAL idle_in_transaction_session_timeout = {idle_ms}").into()
}

/// An open transaction; dropped, it is rolled back.
struct OpenTransaction<Db: TxDatabase> {
    tx: sqlx::Transaction<'static, Db>,
    inbox: Inbox,
    group: String,
    /// One of the rows that this transaction has inserted.
    key: Option<InboxKey>,
    /// The turn to write, where the database has one writer.
    _turn: Option<OwnedSemaphorePermit>,
}

type Begin<Db> = BoxFuture<'static, Result<sqlx::Transaction<'static, Db>, sqlx::Error>>;

/// A transaction that is about to begin. If nobody waits for it any more it goes back to the runtime, which does: given up half-way, the driver would give back to the pool a connection that is inside a
/// transaction, and whoever borrowed it next would write into what nobody commits.
struct Beginning<'a, Db: TxDatabase> {
    future: Option<Begin<Db>>,
    slot: &'a WorkSlot,
    inbox: &'a Inbox,
}

impl<Db: TxDatabase> Drop for Beginning<'_, Db> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.slot.give_back(Box::new(Unbegun::<Db> {
                future: Some(future),
                inbox: self.inbox.clone(),
            }));
        }
    }
}

impl<Db: TxDatabase> OpenTransaction<Db> {
    /// Begins a transaction.
    async fn begin(
        inbox: &Inbox,
        shared: &HandlerShared,
        slot: &WorkSlot,
    ) -> Result<Self, StoreError> {
        let refused = || StoreError::Refused {
            reason: wrong_database::<Db>(inbox),
        };
        let pool = Db::pool(inbox.database()).ok_or_else(refused)?.clone();
        let turn = inbox.database().turn().await;
        let begin = Db::begin(shared.time_limit.saturating_add(SQL_IDLE_GRACE));
        let begin = AssertSqlSafe(begin.into_owned());
        let mut beginning = Beginning::<Db> {
            future: Some(Box::pin(async move { pool.begin_with(begin).await })),
            slot,
            inbox,
        };
        let begun = match &mut beginning.future {
            Some(future) => future.await,
            None => unreachable!("it is taken below, or when this is dropped"),
        };
        beginning.future = None;
        let tx = begun.map_err(|error| inbox.error(&error, Moment::Connecting))?;
        Ok(Self {
            tx,
            inbox: inbox.clone(),
            group: shared.group.as_str().to_owned(),
            key: None,
            _turn: turn,
        })
    }

    /// Inserts the inbox rows of some deliveries, and answers which of them are new.
    async fn admit(&mut self, deliveries: &[HandlerContext]) -> Result<Vec<Admission>, StoreError> {
        let mut keys: Vec<InboxKey> = deliveries.iter().map(InboxKey::of).collect();
        let mut connection = Db::connection(&mut self.tx);
        let admissions = match &keys[..] {
            [key] => {
                let admission = self.inbox.admit_one(&mut connection, &self.group, key);
                vec![admission.await?]
            }
            keys => {
                let many = self.inbox.admit_many(&mut connection, &self.group, keys);
                many.await?
            }
        };
        let new = admissions.iter().position(|known| *known == Admission::New);
        self.key = new.map(|index| keys.swap_remove(index));
        Ok(admissions)
    }

    async fn commit(mut self: Box<Self>, checked: bool) -> Result<(), StoreError> {
        let inbox = self.inbox.clone();
        let proven = match Db::CHECKED_BY {
            Check::Commit => true,
            Check::Statement => checked,
            Check::Row => false,
        };
        if let (false, Some(key)) = (proven, self.key.take()) {
            let mut connection = Db::connection(&mut self.tx);
            inbox
                .check_alive(&mut connection, &self.group, &key)
                .await?;
        }
        let committed = self.tx.commit().await;
        committed.map_err(|error| inbox.error(&error, Moment::Changing))
    }
}

/// Puts the slot back as it was, unless the transaction has got to the handler.
struct Lending<'a>(Option<&'a WorkSlot>);

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.withdraw();
        }
    }
}

impl<Db: TxDatabase> Tx<Db> {
    /// Emits a typed event: it goes into the outbox of this transaction once the handler has succeeded. It inherits the correlation of the event being handled and names it as its cause.
    ///
    /// **Errors**: the payload cannot be written as JSON; permanent.
    pub fn publish<E: Event>(&self, event: &E) -> Result<(), HandlerError> {
        self.emit.event(event)
    }

    /// Opens the transaction of some deliveries of one call; `None` if all of them were handled before.
    async fn open(
        deliveries: &[HandlerContext],
    ) -> Result<Option<(Self, Vec<Admission>)>, HandlerError> {
        let Some(first) = deliveries.first() else {
            return Ok(None);
        };
        let inbox =
            inbox_of::<Db>(&first.shared.states).map_err(HandlerError::permanent_message)?;
        first.work.lend().permanent()?;
        let mut lending = Lending(Some(&first.work));
        let mut open = OpenTransaction::<Db>::begin(&inbox, &first.shared, &first.work).await?;
        let admissions = open.admit(deliveries).await?;
        if !admissions.contains(&Admission::New) {
            return Ok(None);
        }
        lending.0 = None;
        let tx = Self {
            open: Some(open),
            slot: first.work.clone(),
            emit: first.emit.clone(),
            cause: first.envelope.clone(),
        };
        Ok(Some((tx, admissions)))
    }
}

impl<Db: TxDatabase> Drop for Tx<Db> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            self.slot.give_back(Box::new(SqlWork {
                open: Box::new(open),
                emitted: false,
            }));
        }
    }
}

impl<Db: TxDatabase> fmt::Debug for Tx<Db> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

impl<Db: TxDatabase> Deref for Tx<Db> {
    type Target = Db::Connection;

    fn deref(&self) -> &Db::Connection {
        match &self.open {
            Some(open) => &open.tx,
            None => unreachable!("a transaction leaves its Tx only when that is dropped"),
        }
    }
}

impl<Db: TxDatabase> DerefMut for Tx<Db> {
    fn deref_mut(&mut self) -> &mut Db::Connection {
        match &mut self.open {
            Some(open) => &mut open.tx,
            None => unreachable!("a transaction leaves its Tx only when that is dropped"),
        }
    }
}

impl<Db: TxDatabase> crate::transaction::sealed::Sealed for Tx<Db> {}

impl<Db: TxDatabase> InTransaction for Tx<Db> {
    fn connection(&mut self) -> Connection<'_> {
        Db::connection(self)
    }

    fn inherited(&self) -> Option<Inherited> {
        Some(Inherited::from(&self.cause))
    }
}

impl<Db: TxDatabase> FromDelivery for Tx<Db> {
    const DELIVERY: DeliveryGuarantee = DeliveryGuarantee::EffectOnce;

    async fn from_delivery(context: &HandlerContext) -> Result<Self, HandlerError> {
        match Self::open(std::slice::from_ref(context)).await? {
            Some((tx, _)) => Ok(tx),
            None => Err(HandlerError::handled_before()),
        }
    }

    fn check(states: &States) -> Result<(), String> {
        inbox_of::<Db>(states).map(drop)
    }
}

/// One transaction for the batch, with one statement for all inbox rows. [`publish`](Tx::publish) emits on behalf of the first event of the batch, and so does an outbox that publishes into it; a `BatchItem` has an `emit` of its own.
impl<Db: TxDatabase> FromBatch for Tx<Db> {
    const DELIVERY: DeliveryGuarantee = DeliveryGuarantee::EffectOnce;

    async fn from_batch(deliveries: &[HandlerContext]) -> Result<Self, HandlerError> {
        let Some((mut tx, admissions)) = Self::open(deliveries).await? else {
            return Err(HandlerError::handled_before());
        };
        let first_new = deliveries.iter().zip(&admissions);
        if let Some((new, _)) = first_new
            .into_iter()
            .find(|(_, known)| **known == Admission::New)
        {
            tx.emit = new.emit.clone();
            tx.cause = new.envelope.clone();
        }
        tx.slot.admit(admissions);
        Ok(tx)
    }

    fn check(states: &States) -> Result<(), String> {
        inbox_of::<Db>(states).map(drop)
    }
}

fn inbox_of<Db: TxDatabase>(states: &States) -> Result<Inbox, String> {
    let Some(inbox) = states.get::<Inbox>() else {
        return Err(format!(
            "a handler takes Tx<{}>, but the consumer has no inbox; add .inbox(Inbox::open(&database).await?)",
            short_name::<Db>()
        ));
    };
    match Db::pool(inbox.database()) {
        Some(_) => Ok(inbox),
        None => Err(wrong_database::<Db>(&inbox)),
    }
}

fn wrong_database<Db: TxDatabase>(inbox: &Inbox) -> String {
    format!(
        "a handler takes Tx<{}>, but the consumer's inbox is in {}, which is {}; take a transaction of that database",
        short_name::<Db>(),
        inbox.database().name(),
        inbox.database().kind().feature(),
    )
}

fn short_name<Db>() -> &'static str {
    let name = std::any::type_name::<Db>();
    name.rsplit("::").next().unwrap_or(name)
}

/// The transaction on its way back from the handler.
struct SqlWork<Db: TxDatabase> {
    open: Box<OpenTransaction<Db>>,
    /// Whether events went into the outbox, which is a statement that has succeeded since the handler ended.
    emitted: bool,
}

impl<Db: TxDatabase> UnitOfWork for SqlWork<Db> {
    fn emit<'a>(&'a mut self, events: &'a [Envelope]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            if events.is_empty() {
                return Ok(());
            }
            let inbox = self.open.inbox.clone();
            let mut connection = Db::connection(&mut self.open.tx);
            inbox.emit(&mut connection, events).await?;
            self.emitted = true;
            Ok(())
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            let inbox = self.open.inbox.clone();
            self.open.commit(self.emitted).await?;
            if self.emitted {
                inbox.wake();
            }
            Ok(())
        })
    }

    fn roll_back(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            let OpenTransaction { tx, inbox, .. } = *self.open;
            let rolled_back = tx.rollback().await;
            rolled_back.map_err(|error| inbox.error(&error, Moment::InTransaction))
        })
    }

    fn diagnose(&self, error: &(dyn Error + 'static)) -> Option<StoreError> {
        trouble_of(self.open.inbox.database(), error)
    }
}

/// A transaction that had not begun when its handler was given up.
struct Unbegun<Db: TxDatabase> {
    future: Option<Begin<Db>>,
    inbox: Inbox,
}

impl<Db: TxDatabase> UnitOfWork for Unbegun<Db> {
    fn emit<'a>(&'a mut self, _events: &'a [Envelope]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Err(never_begun()) })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Err(never_begun()) })
    }

    fn roll_back(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(future) = self.future else {
                return Ok(());
            };
            let rolled_back = match future.await {
                Ok(tx) => tx.rollback().await,
                Err(error) => Err(error),
            };
            rolled_back.map_err(|error| self.inbox.error(&error, Moment::InTransaction))
        })
    }

    fn diagnose(&self, error: &(dyn Error + 'static)) -> Option<StoreError> {
        trouble_of(self.inbox.database(), error)
    }
}

fn never_begun() -> StoreError {
    StoreError::Refused {
        reason: "the handler was given up before its transaction began".to_owned(),
    }
}

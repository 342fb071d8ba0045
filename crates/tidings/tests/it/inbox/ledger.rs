//! A ledger in each of the three databases, for tests that hold on all of them.

use tidings::prelude::*;
use tidings::sql::schema::{Part, migrate};
use tidings::sql::sqlx::{self, AssertSqlSafe};
use tidings::sql::{Database, DatabaseOptions, Inbox, Kind, Pool};
use tidings::{ConsumerBuilder, handler::HandlerResult};
use tidings_testkit::database::{Server, TestDatabase};

/// Every database that the tests know.
pub(crate) const KINDS: [Kind; 3] = [Kind::Sqlite, Kind::Postgres, Kind::MySql];

#[derive(Debug, Clone, Event, Serialize, Deserialize)]
#[event(type = "invoice.sent", version = 1, key = "order_id")]
pub(crate) struct InvoiceSent {
    pub(crate) order_id: String,
}

/// What the handlers of a test do besides writing their effect.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Behaviour {
    /// The first attempts fail after their effect.
    pub(crate) failing_attempts: u32,
    /// A statement fails, and the handler goes on as if it had not.
    pub(crate) ignores_an_error: bool,
}

/// A database with the tables of inbox and outbox and one for effects.
pub(crate) struct Ledger {
    pub(crate) database: Database,
    pub(crate) inbox: Inbox,
    _folder: tempfile::TempDir,
}

impl Ledger {
    /// A fresh one; `None` where the test run does without its server.
    pub(crate) async fn fresh(kind: Kind, test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let url = match kind {
            Kind::Postgres => TestDatabase::fresh(Server::Postgres, test)
                .await?
                .url()
                .to_owned(),
            Kind::MySql => TestDatabase::fresh(Server::MariaDb, test)
                .await?
                .url()
                .to_owned(),
            _ => format!("sqlite://{}/ledger.db", folder.path().display()),
        };
        let ledger = Self::at(&url, folder).await;
        ledger
            .run("CREATE TABLE effects (order_id VARCHAR(64) NOT NULL)")
            .await;
        Some(ledger)
    }

    /// The SQLite ledger in a folder that several processes open one after the other.
    pub(crate) async fn shared(folder: &std::path::Path) -> Self {
        let url = format!("sqlite://{}/ledger.db", folder.display());
        let ledger = Self::at(&url, tempfile::tempdir().unwrap()).await;
        ledger
            .run("CREATE TABLE IF NOT EXISTS effects (order_id VARCHAR(64) NOT NULL)")
            .await;
        ledger
    }

    async fn at(url: &str, folder: tempfile::TempDir) -> Self {
        let options = DatabaseOptions {
            create: true,
            ..DatabaseOptions::default()
        };
        let database = Database::open(url, &options).await.unwrap();
        migrate(&database, &[Part::Inbox, Part::Outbox])
            .await
            .unwrap();
        Self {
            inbox: Inbox::open(&database).await.unwrap(),
            database,
            _folder: folder,
        }
    }

    /// Runs a statement.
    pub(crate) async fn run(&self, sql: &str) {
        let script = sqlx::raw_sql(AssertSqlSafe(sql));
        match self.database.pool() {
            Pool::Sqlite(pool) => script.execute(pool).await.map(drop),
            Pool::Postgres(pool) => script.execute(pool).await.map(drop),
            Pool::MySql(pool) => script.execute(pool).await.map(drop),
            _ => unreachable!("the tests know three databases"),
        }
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    pub(super) async fn texts(&self, sql: &'static str) -> Vec<String> {
        match self.database.pool() {
            Pool::Sqlite(pool) => sqlx::query_scalar(sql).fetch_all(pool).await,
            Pool::Postgres(pool) => sqlx::query_scalar(sql).fetch_all(pool).await,
            Pool::MySql(pool) => sqlx::query_scalar(sql).fetch_all(pool).await,
            _ => unreachable!("the tests know three databases"),
        }
        .unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// The orders that had their effect, once for each time.
    pub(crate) async fn effects(&self) -> Vec<String> {
        self.texts("SELECT order_id FROM effects ORDER BY order_id")
            .await
    }

    /// The orders of the events in the outbox, once for each row.
    pub(crate) async fn outbox(&self) -> Vec<String> {
        self.texts("SELECT aggregate_id FROM outbox ORDER BY aggregate_id")
            .await
    }

    /// The ids that the inbox knows.
    pub(crate) async fn known(&self) -> Vec<String> {
        self.texts("SELECT event_id FROM inbox ORDER BY event_id")
            .await
    }

    /// A consumer of orders that writes the effect, one event at a time.
    pub(crate) fn bill(&self, consumer: ConsumerBuilder, behaviour: Behaviour) -> ConsumerBuilder {
        let consumer = consumer.inbox(self.inbox.clone()).state(behaviour);
        match self.database.kind() {
            Kind::Postgres => consumer.on(postgres::bill),
            Kind::MySql => consumer.on(mysql::bill),
            _ => consumer.on(sqlite::bill),
        }
    }

    /// The same in batches.
    pub(crate) fn bill_batches(&self, consumer: ConsumerBuilder) -> ConsumerBuilder {
        let consumer = consumer.inbox(self.inbox.clone());
        match self.database.kind() {
            Kind::Postgres => consumer.on_batch(postgres::bill_batch),
            Kind::MySql => consumer.on_batch(mysql::bill_batch),
            _ => consumer.on_batch(sqlite::bill_batch),
        }
    }
}

/// The handlers for one database.
macro_rules! handlers {
    ($module:ident, $database:ident, $insert:literal) => {
        mod $module {
            use super::*;
            use crate::shop::OrderPlaced;

            pub(super) async fn bill(
                order: OrderPlaced,
                mut tx: Tx<$database>,
                metadata: Metadata,
                emit: Emit,
                State(behaviour): State<Behaviour>,
            ) -> Result<(), HandlerError> {
                let insert = sqlx::query($insert).bind(&order.order_id);
                insert.execute(&mut *tx).await?;
                tx.publish(&InvoiceSent {
                    order_id: order.order_id.clone(),
                })?;
                if metadata.attempt <= behaviour.failing_attempts {
                    return Err(HandlerError::transient_message(
                        "the printer is out of paper",
                    ));
                }
                if behaviour.ignores_an_error {
                    let _taken = emit_nothing(&emit);
                    let broken = sqlx::query("SELECT * FROM no_such_table");
                    let _ignored = broken.execute(&mut *tx).await;
                }
                Ok(())
            }

            pub(super) async fn bill_batch(
                items: Vec<BatchItem<OrderPlaced>>,
                mut tx: Tx<$database>,
            ) -> Vec<HandlerResult> {
                let mut answers = Vec::new();
                for item in items {
                    let order_id = item.event.order_id;
                    let insert = sqlx::query($insert).bind(&order_id);
                    let written = insert.execute(&mut *tx).await;
                    answers.push(match written {
                        Err(error) => Err(error.into()),
                        Ok(_) if order_id == "o-bad" => Err(HandlerError::permanent_message("bad")),
                        Ok(_) => item.emit.event(&InvoiceSent { order_id }),
                    });
                }
                answers
            }
        }
    };
}

handlers!(sqlite, Sqlite, "INSERT INTO effects (order_id) VALUES (?)");
handlers!(
    postgres,
    Postgres,
    "INSERT INTO effects (order_id) VALUES ($1)"
);
handlers!(mysql, MySql, "INSERT INTO effects (order_id) VALUES (?)");

/// Takes back what was emitted, so that no statement follows the handler's own.
fn emit_nothing(emit: &Emit) -> usize {
    emit.take().len()
}

//! What is written into the books, in each of the three databases: transfers by producers, their effects by handlers.

use super::books::{Fate, Plan, TransferBooked, TransferMade, account};
use sqlx::{AssertSqlSafe, Executor as _, Row as _, raw_sql};
use std::error::Error;
use tidings::core::EnvelopeParts;
use tidings::handler::HandlerResult;
use tidings::prelude::*;
use tidings::sql::{Database, Outbox, Pool};
use tidings::{ConsumerBuilder, Payload};

/// Whatever a database or an outbox says.
pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// Where a producer goes on: behind what it committed, which after a fault it does not know.
pub(super) async fn next_of(database: &Database, producer: u64) -> Result<u64, Failure> {
    match database.pool() {
        #[cfg(feature = "sqlite")]
        Pool::Sqlite(pool) => sqlite::next_of(pool, producer).await,
        #[cfg(feature = "postgres")]
        Pool::Postgres(pool) => postgres::next_of(pool, producer).await,
        #[cfg(feature = "mysql")]
        Pool::MySql(pool) => mysql::next_of(pool, producer).await,
        _ => unreachable!("the tests know three databases"),
    }
}

/// Makes the transfers of a plan in one transaction. An error may have committed them.
pub(super) async fn make(database: &Database, outbox: &Outbox, plan: &Plan) -> Result<(), Failure> {
    match database.pool() {
        #[cfg(feature = "sqlite")]
        Pool::Sqlite(pool) => sqlite::make(pool, outbox, plan).await,
        #[cfg(feature = "postgres")]
        Pool::Postgres(pool) => postgres::make(pool, outbox, plan).await,
        #[cfg(feature = "mysql")]
        Pool::MySql(pool) => mysql::make(pool, outbox, plan).await,
        _ => unreachable!("the tests know three databases"),
    }
}

/// Publishes events that were committed before once more, under their ids: a producer that was not sure.
pub(super) async fn repeat(
    database: &Database,
    outbox: &Outbox,
    producer: u64,
) -> Result<(), Failure> {
    match database.pool() {
        #[cfg(feature = "sqlite")]
        Pool::Sqlite(pool) => sqlite::repeat(pool, outbox, producer).await,
        #[cfg(feature = "postgres")]
        Pool::Postgres(pool) => postgres::repeat(pool, outbox, producer).await,
        #[cfg(feature = "mysql")]
        Pool::MySql(pool) => mysql::repeat(pool, outbox, producer).await,
        _ => unreachable!("the tests know three databases"),
    }
}

/// Handles transfers one at a time, each with its effect on two accounts.
pub(super) fn book(database: &Database, consumer: ConsumerBuilder) -> ConsumerBuilder {
    match database.pool() {
        #[cfg(feature = "sqlite")]
        Pool::Sqlite(_) => consumer.on(sqlite::book),
        #[cfg(feature = "postgres")]
        Pool::Postgres(_) => consumer.on(postgres::book),
        #[cfg(feature = "mysql")]
        Pool::MySql(_) => consumer.on(mysql::book),
        _ => unreachable!("the tests know three databases"),
    }
}

/// The planted bug: an effect that no inbox row guards.
pub(super) fn book_badly(database: &Database, consumer: ConsumerBuilder) -> ConsumerBuilder {
    async fn book(
        event: TransferMade,
        metadata: Metadata,
        State(pool): State<sqlx::SqlitePool>,
    ) -> Result<(), HandlerError> {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        let effects = effects_of(&event, metadata.envelope.event_id());
        tx.execute(raw_sql(AssertSqlSafe(effects))).await?;
        tx.commit().await?;
        Ok(())
    }
    match database.pool() {
        Pool::Sqlite(pool) => consumer.state(pool.clone()).on(book),
        _ => unreachable!("it is planted on SQLite"),
    }
}

/// Handles what was booked in batches.
pub(super) fn audit(database: &Database, consumer: ConsumerBuilder) -> ConsumerBuilder {
    match database.pool() {
        #[cfg(feature = "sqlite")]
        Pool::Sqlite(_) => consumer.on_batch(sqlite::audit),
        #[cfg(feature = "postgres")]
        Pool::Postgres(_) => consumer.on_batch(postgres::audit),
        #[cfg(feature = "mysql")]
        Pool::MySql(_) => consumer.on_batch(mysql::audit),
        _ => unreachable!("the tests know three databases"),
    }
}

/// The events of a plan, numbered behind the transfers that each payer has made.
fn events_of(plan: &Plan, made: &mut [(String, u64)]) -> Vec<TransferMade> {
    let mut events = Vec::new();
    for (at, (payer, payee, amount)) in plan.transfers.iter().enumerate() {
        let payer = account(*payer);
        let seq = made.iter_mut().find(|(id, _)| *id == payer);
        let (_, seq) = seq.expect("every account is there");
        *seq += 1;
        events.push(TransferMade {
            transfer: format!("{}-{}", plan.producer, plan.first + at as u64),
            payer,
            payee: account(*payee),
            amount: *amount,
            seq: *seq,
        });
    }
    events
}

/// The rows of the books that a transaction changes, in one order for everybody.
fn lock_of(ids: impl IntoIterator<Item = String>, table: &str, lock: &str) -> String {
    let mut ids: Vec<String> = ids.into_iter().map(|id| format!("'{id}'")).collect();
    ids.sort();
    let ids = ids.join(", ");
    format!("SELECT id, seq FROM {table} WHERE id IN ({ids}) ORDER BY id {lock}")
}

fn accounts_of(plan: &Plan) -> Vec<String> {
    let both = |(payer, payee, _): &(u64, u64, u64)| [account(*payer), account(*payee)];
    plan.transfers.iter().flat_map(both).collect()
}

fn changes_of(events: &[TransferMade]) -> String {
    let change = |event: &TransferMade| {
        let TransferMade {
            payer,
            payee,
            amount,
            ..
        } = event;
        format!(
            "UPDATE account SET balance = balance - {amount}, seq = seq + 1 WHERE id = '{payer}'; UPDATE account SET balance = balance + {amount} WHERE id = '{payee}'"
        )
    };
    events.iter().map(change).collect::<Vec<_>>().join("; ")
}

fn rows_of(plan: &Plan, events: &[TransferMade], ids: &[String]) -> String {
    let rows = events.iter().zip(ids).enumerate().map(|(at, (event, id))| {
        let (producer, n) = (plan.producer, plan.first + at as u64);
        format!(
            "({producer}, {n}, '{}', {}, '{id}')",
            event.payer, event.seq
        )
    });
    let rows = rows.collect::<Vec<_>>().join(", ");
    format!("INSERT INTO transfer (producer, n, payer, seq, event_id) VALUES {rows}")
}

/// A handling that comes twice, or out of order, is found by the number of the one before it.
fn effects_of(event: &TransferMade, event_id: &str) -> String {
    let TransferMade {
        transfer,
        payer,
        payee,
        amount,
        seq,
    } = event;
    format!(
        "INSERT INTO violation (what) SELECT '{transfer} is not the next of {payer}: {seq}' FROM shadow WHERE id = '{payer}' AND seq <> {seq} - 1;
         UPDATE shadow SET seq = {seq}, balance = balance - {amount} WHERE id = '{payer}';
         UPDATE shadow SET balance = balance + {amount} WHERE id = '{payee}';
         INSERT INTO booked (event_id, transfer) VALUES ('{event_id}', '{transfer}')"
    )
}

fn audit_of(event: &TransferBooked) -> String {
    let TransferBooked {
        transfer,
        payer,
        seq,
    } = event;
    format!(
        "INSERT INTO violation (what) SELECT 'the audit of {transfer} is not the next of {payer}: {seq}' FROM audited WHERE id = '{payer}' AND seq <> {seq} - 1;
         UPDATE audited SET seq = {seq} WHERE id = '{payer}';
         INSERT INTO audit (transfer) VALUES ('{transfer}')"
    )
}

/// An event of no transfer.
pub(super) fn phantom() -> TransferMade {
    TransferMade {
        transfer: "phantom".to_owned(),
        payer: account(0),
        payee: account(1),
        amount: 1,
        seq: 0,
    }
}

/// The desk at one database.
macro_rules! desk {
    ($module:ident, $database:ident, $begin:literal, $lock:literal) => {
        mod $module {
            use super::*;

            type Rows = sqlx::Pool<$database>;

            pub(super) async fn next_of(pool: &Rows, producer: u64) -> Result<u64, Failure> {
                let sql = format!(
                    "SELECT COALESCE(MAX(n), -1) + 1 FROM transfer WHERE producer = {producer}"
                );
                let next: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?;
                Ok(next as u64)
            }

            pub(super) async fn make(
                pool: &Rows,
                outbox: &Outbox,
                plan: &Plan,
            ) -> Result<(), Failure> {
                let mut tx = pool.begin_with($begin).await?;
                let lock = lock_of(accounts_of(plan), "account", $lock);
                let rows = sqlx::query(AssertSqlSafe(lock)).fetch_all(&mut *tx).await?;
                let mut made = Vec::new();
                for row in rows {
                    made.push((row.try_get(0)?, row.try_get::<i64, _>(1)? as u64));
                }
                let events = events_of(plan, &mut made);
                tx.execute(raw_sql(AssertSqlSafe(changes_of(&events)))).await?;
                if plan.fate == Fate::PhantomInSavepoint {
                    tx.execute(raw_sql("SAVEPOINT before")).await?;
                    outbox.publish(&mut tx, &phantom()).await?;
                    tx.execute(raw_sql("ROLLBACK TO SAVEPOINT before")).await?;
                }
                let ids = outbox.publish_all(&mut tx, &events).await?;
                let rows = rows_of(plan, &events, &ids);
                tx.execute(raw_sql(AssertSqlSafe(rows))).await?;
                match plan.fate {
                    Fate::RollBack => tx.rollback().await?,
                    Fate::Commit | Fate::PhantomInSavepoint => outbox.commit(tx).await?,
                }
                Ok(())
            }

            pub(super) async fn repeat(
                pool: &Rows,
                outbox: &Outbox,
                producer: u64,
            ) -> Result<(), Failure> {
                let mut tx = pool.begin_with($begin).await?;
                let sql = format!("SELECT n, payer, seq, event_id FROM transfer WHERE producer = {producer} ORDER BY n DESC LIMIT 3");
                let mut again = Vec::new();
                for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *tx).await? {
                    let event = TransferMade {
                        transfer: format!("{producer}-{}", row.try_get::<i64, _>(0)?),
                        payer: row.try_get(1)?,
                        payee: account(0),
                        amount: 0,
                        seq: row.try_get::<i64, _>(2)? as u64,
                    };
                    let mut parts =
                        EnvelopeParts::new(row.try_get::<String, _>(3)?, "transfer.made");
                    parts.payload = Some(Payload::json(serde_json::to_string(&event)?)?);
                    parts.aggregate_id = Some(event.payer);
                    again.push(Envelope::new(parts)?);
                }
                outbox.publish_envelopes(&mut tx, &again).await?;
                outbox.commit(tx).await?;
                Ok(())
            }

            pub(super) async fn book(
                event: TransferMade,
                metadata: Metadata,
                mut tx: Tx<$database>,
            ) -> Result<(), HandlerError> {
                let lock = lock_of([event.payer.clone(), event.payee.clone()], "shadow", $lock);
                let effects = effects_of(&event, metadata.envelope.event_id());
                let sql = format!("{lock}; {effects}");
                (&mut *tx).execute(raw_sql(AssertSqlSafe(sql))).await?;
                tx.publish(&TransferBooked {
                    transfer: event.transfer,
                    payer: event.payer,
                    seq: event.seq,
                })
            }

            pub(super) async fn audit(
                items: Vec<BatchItem<TransferBooked>>,
                mut tx: Tx<$database>,
            ) -> Vec<HandlerResult> {
                let effects = items.iter().map(|item| audit_of(&item.event));
                let sql = effects.collect::<Vec<_>>().join("; ");
                match (&mut *tx).execute(raw_sql(AssertSqlSafe(sql))).await {
                    Ok(_) => items.iter().map(|_| Ok(())).collect(),
                    Err(error) => {
                        let mut answers: Vec<HandlerResult> =
                            items.iter().skip(1).map(|_| Ok(())).collect();
                        answers.push(Err(error.into()));
                        answers
                    }
                }
            }
        }
    };
}

#[cfg(feature = "sqlite")]
desk!(sqlite, Sqlite, "BEGIN IMMEDIATE", "");
#[cfg(feature = "postgres")]
desk!(postgres, Postgres, "BEGIN", "FOR UPDATE");
#[cfg(feature = "mysql")]
desk!(mysql, MySql, "BEGIN", "FOR UPDATE");

//! The order service: an order and the fact that it was placed are one transaction, so that neither is there without the other.

use super::events::OrderPlaced;
use crate::failure::Failure;
use std::collections::HashSet;
use tidings::Tidings;
use tidings::core::codes;
use tidings::sql::{Database, Outbox, Pool, sqlx};

/// The orders in the database, and the outbox beside them.
pub(super) struct Orders {
    pool: sqlx::SqlitePool,
    outbox: Outbox,
}

impl Orders {
    /// Opens the database of the data folder and makes the table.
    pub(super) async fn open(tidings: &Tidings) -> Result<Self, Failure> {
        let orders = Self {
            pool: pool(&tidings.database().await?)?,
            outbox: tidings.outbox()?,
        };
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS demo_order (order_id TEXT PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, total REAL NOT NULL)")
            .execute(&orders.pool)
            .await
            .map_err(failed)?;
        Ok(orders)
    }

    /// Which orders there are.
    pub(super) async fn placed(&self) -> Result<HashSet<String>, Failure> {
        let ids = sqlx::query_scalar("SELECT order_id FROM demo_order");
        let ids: Vec<String> = ids.fetch_all(&self.pool).await.map_err(failed)?;
        Ok(ids.into_iter().collect())
    }

    /// Writes an order and states that it was placed.
    pub(super) async fn place(&self, order: &OrderPlaced) -> Result<(), Failure> {
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        let mut tx = begun.map_err(failed)?;
        let event_id = self.outbox.publish(&mut tx, order).await?;
        sqlx::query("INSERT INTO demo_order (order_id, event_id, total) VALUES (?, ?, ?)")
            .bind(&order.order_id)
            .bind(event_id)
            .bind(order.total)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        self.outbox.commit(tx).await?;
        Ok(())
    }
}

/// The connections to the database of the data folder.
pub(super) fn pool(database: &Database) -> Result<sqlx::SqlitePool, Failure> {
    match database.pool() {
        Pool::Sqlite(pool) => Ok(pool.clone()),
        _ => Err(Failure::new(codes::BUG, "state.db is no SQLite database")),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands where an error is mapped"
)]
pub(super) fn failed(error: sqlx::Error) -> Failure {
    Failure::new(
        codes::STORE_DATABASE,
        format!("the tables of the demo: {error}"),
    )
}

//! What happened to the demo's own orders, kept in its database where the broker's history cannot be read like a log's: a consumer like any other, which nobody knows of.

use super::orders::{self, failed};
use super::services::Terms;
use crate::failure::Failure;
use crate::folder;
use std::path::Path;
use tidings::core::{codes, envelope_json};
use tidings::dead_letter;
use tidings::extract::HandlerError;
use tidings::prelude::{Sqlite, Tx};
use tidings::sql::{Database, DatabaseOptions, Inbox, sqlx};
use tidings::{Envelope, Tidings};

/// What is written down: the facts of the flow, and what was given up.
const WRITTEN_DOWN: [&str; 5] = [
    "order.placed",
    "payment.*",
    "stock.reserved",
    "shipment.created",
    dead_letter::EVENT_TYPE,
];

/// Makes the table and begins to write down.
pub(super) async fn start(tidings: &Tidings, terms: Terms) -> Result<(), Failure> {
    let pool = orders::pool(&tidings.database().await?)?;
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS demo_fact (number INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, envelope TEXT NOT NULL)")
        .execute(&pool)
        .await
        .map_err(failed)?;
    let inbox = Inbox::open(&tidings.database().await?).await?;
    let mut consumer = terms.consumer(tidings, "journal").inbox(inbox);
    for pattern in WRITTEN_DOWN {
        consumer = consumer.on_raw(pattern, note);
    }
    consumer.start().await?;
    Ok(())
}

/// Everything that is written down in the database of a folder, in the order in which it came.
pub(super) async fn read(folder: &Path) -> Result<Vec<Envelope>, Failure> {
    let database = Database::open_file(&folder::state(folder), &DatabaseOptions::default()).await?;
    let pool = orders::pool(&database)?;
    let envelopes = sqlx::query_scalar("SELECT envelope FROM demo_fact ORDER BY number");
    let envelopes: Vec<String> = envelopes.fetch_all(&pool).await.map_err(failed)?;
    database.close().await;
    let read = |text: &String| {
        envelope_json::from_json(text.as_bytes())
            .map_err(|error| Failure::new(codes::ENVELOPE_INVALID, error.to_string()))
    };
    envelopes.iter().map(read).collect()
}

/// Writes a fact down once, if it belongs to an order of this database: a broker may have those of others.
async fn note(envelope: Envelope, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    sqlx::query(
        "INSERT INTO demo_fact (event_id, envelope) SELECT ?, ? WHERE EXISTS (SELECT 1 FROM demo_order WHERE event_id = ?)",
    )
    .bind(envelope.event_id())
    .bind(envelope_json::to_json(&envelope))
    .bind(envelope.correlation_id())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

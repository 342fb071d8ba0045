//! The service: `POST /orders` writes an order and states that it was placed, in one transaction.

use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::routing::post;
use std::sync::Arc;
use tidings::core::event_id;
use tidings::core::store::{StoreError, Wake};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::prelude::{Deserialize, Event, Serialize};
use tidings::sql::sqlx;
use tidings::sql::{Database, Outbox, OutboxConfig, Pool, schema};

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
pub(crate) struct OrderPlaced {
    pub(crate) order_id: String,
    pub(crate) customer: String,
    pub(crate) cents: i64,
}

#[derive(Deserialize)]
struct NewOrder {
    customer: String,
    cents: i64,
}

pub(crate) struct Shop {
    database: Database,
    outbox: Outbox,
}

/// Both databases understand the numbered values.
const INSERT: &str = "INSERT INTO example_order (order_id, customer, cents) VALUES ($1, $2, $3)";
const COUNT: &str = "SELECT COUNT(*) FROM example_order";

/// The outbox, by tidings' own migration, and the service's table, empty.
pub(crate) async fn make_tables(database: &Database) -> Result<(), Box<dyn std::error::Error>> {
    schema::migrate(database, &[schema::Part::Outbox, schema::Part::Relay]).await?;
    let tables = "CREATE TABLE IF NOT EXISTS example_order (order_id TEXT PRIMARY KEY, customer TEXT NOT NULL, cents BIGINT NOT NULL);
        DELETE FROM example_order";
    match database.pool() {
        Pool::Sqlite(pool) => sqlx::raw_sql(tables).execute(pool).await.map(drop)?,
        Pool::Postgres(pool) => sqlx::raw_sql(tables).execute(pool).await.map(drop)?,
        _ => return Err("this example knows SQLite and PostgreSQL".into()),
    }
    Ok(())
}

pub(crate) fn router(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/orders", post(place_order))
        .with_state(shop)
}

async fn place_order(
    State(shop): State<Arc<Shop>>,
    Json(order): Json<NewOrder>,
) -> Result<(StatusCode, String), Refusal> {
    let placed = OrderPlaced {
        order_id: event_id::fresh(&SystemClock::new(), &SystemChance),
        customer: order.customer,
        cents: order.cents,
    };
    shop.place(&placed).await?;
    Ok((StatusCode::CREATED, placed.order_id))
}

impl Shop {
    /// `wake` tells the relay of each commit, so that it need not wait for its next look.
    pub(crate) fn new(database: Database, wake: Wake) -> Result<Self, StoreError> {
        let config = OutboxConfig {
            source: Some("order-service".to_owned()),
            wakes: vec![wake],
            ..OutboxConfig::default()
        };
        let outbox = Outbox::new(config, Arc::new(SystemClock::new()), Arc::new(SystemChance))?;
        Ok(Self { database, outbox })
    }

    /// One transaction: the order, and the fact. Whoever leaves early, with an error or by a crash, leaves neither.
    async fn place(&self, placed: &OrderPlaced) -> Result<(), Refusal> {
        match self.database.pool() {
            Pool::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                let row = sqlx::query(INSERT).bind(&placed.order_id);
                let row = row.bind(&placed.customer).bind(placed.cents);
                row.execute(&mut *tx).await?;
                self.outbox.publish(&mut tx, placed).await?;
                check(placed)?;
                self.outbox.commit(tx).await?;
            }
            Pool::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                let row = sqlx::query(INSERT).bind(&placed.order_id);
                let row = row.bind(&placed.customer).bind(placed.cents);
                row.execute(&mut *tx).await?;
                self.outbox.publish(&mut tx, placed).await?;
                check(placed)?;
                self.outbox.commit(tx).await?;
            }
            _ => unreachable!("make_tables refused it"),
        }
        Ok(())
    }

    pub(crate) async fn count(&self) -> Result<i64, sqlx::Error> {
        match self.database.pool() {
            Pool::Sqlite(pool) => sqlx::query_scalar(COUNT).fetch_one(pool).await,
            Pool::Postgres(pool) => sqlx::query_scalar(COUNT).fetch_one(pool).await,
            _ => unreachable!("make_tables refused it"),
        }
    }
}

/// A rule that is looked at late, when row and fact are written already.
fn check(placed: &OrderPlaced) -> Result<(), Refusal> {
    if placed.cents > 0 {
        return Ok(());
    }
    Err(Refusal(
        StatusCode::UNPROCESSABLE_ENTITY,
        "an order costs something".to_owned(),
    ))
}

struct Refusal(StatusCode, String);

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        (self.0, self.1).into_response()
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

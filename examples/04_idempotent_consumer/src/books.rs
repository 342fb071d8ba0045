//! The service: it books payments as they arrive, once each, and shows accounts at `GET /accounts/{name}`.

use axum::Router;
use axum::extract::{self, Path};
use axum::http::StatusCode;
use axum::routing::get;
use tidings::prelude::*;
use tidings::sql::{Database, Pool, schema, sqlx};

#[derive(Event, Serialize, Deserialize)]
#[event(
    type = "payment.received",
    version = 1,
    key = "account",
    source = "bank"
)]
pub(crate) struct PaymentReceived {
    pub(crate) account: String,
    pub(crate) cents: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "balance.changed", version = 1, key = "account")]
pub(crate) struct BalanceChanged {
    pub(crate) account: String,
    pub(crate) cents: i64,
}

/// Both databases understand the numbered values.
const BOOK: &str = "UPDATE example_account SET cents = cents + $1 WHERE name = $2 RETURNING cents";
const BALANCE: &str = "SELECT cents FROM example_account WHERE name = $1";

/// Takes the transaction from its arguments: the first row in it says that the event is handled, and the runtime commits it.
pub(crate) async fn book_in_sqlite(
    payment: PaymentReceived,
    mut tx: Tx<Sqlite>,
    metadata: Metadata,
) -> Result<(), HandlerError> {
    let row = sqlx::query_scalar(BOOK).bind(payment.cents);
    let cents: i64 = row.bind(&payment.account).fetch_one(&mut *tx).await?;
    fail_once(&payment, &metadata)?;
    tx.publish(&changed(payment, cents))
}

/// The same on PostgreSQL: only the type of the transaction differs.
pub(crate) async fn book_in_postgres(
    payment: PaymentReceived,
    mut tx: Tx<Postgres>,
    metadata: Metadata,
) -> Result<(), HandlerError> {
    let row = sqlx::query_scalar(BOOK).bind(payment.cents);
    let cents: i64 = row.bind(&payment.account).fetch_one(&mut *tx).await?;
    fail_once(&payment, &metadata)?;
    tx.publish(&changed(payment, cents))
}

/// Fails after the effect, which is then rolled back with the row of the inbox.
fn fail_once(payment: &PaymentReceived, metadata: &Metadata) -> Result<(), HandlerError> {
    if payment.account == "bob" && metadata.attempt == 1 {
        return Err(HandlerError::transient_message("the power is out"));
    }
    Ok(())
}

fn changed(payment: PaymentReceived, cents: i64) -> BalanceChanged {
    BalanceChanged {
        account: payment.account,
        cents,
    }
}

/// Inbox and outbox, by tidings' own migrations, and the service's accounts, empty.
pub(crate) async fn make_tables(database: &Database) -> Result<(), Box<dyn std::error::Error>> {
    schema::migrate(database, &schema::Part::ALL).await?;
    let tables =
        "CREATE TABLE IF NOT EXISTS example_account (name TEXT PRIMARY KEY, cents BIGINT NOT NULL);
        DELETE FROM example_account;
        INSERT INTO example_account VALUES ('ann', 0), ('bob', 0)";
    match database.pool() {
        Pool::Sqlite(pool) => sqlx::raw_sql(tables).execute(pool).await.map(drop)?,
        Pool::Postgres(pool) => sqlx::raw_sql(tables).execute(pool).await.map(drop)?,
        _ => return Err("this example knows SQLite and PostgreSQL".into()),
    }
    Ok(())
}

pub(crate) fn router(database: Database) -> Router {
    Router::new()
        .route("/accounts/{name}", get(account))
        .with_state(database)
}

async fn account(
    extract::State(database): extract::State<Database>,
    Path(name): Path<String>,
) -> Result<String, (StatusCode, String)> {
    let found: Result<Option<i64>, sqlx::Error> = match database.pool() {
        Pool::Sqlite(pool) => {
            let balance = sqlx::query_scalar(BALANCE).bind(&name);
            balance.fetch_optional(pool).await
        }
        Pool::Postgres(pool) => {
            let balance = sqlx::query_scalar(BALANCE).bind(&name);
            balance.fetch_optional(pool).await
        }
        _ => unreachable!("make_tables refused it"),
    };
    match found {
        Ok(Some(cents)) => Ok(format!("{name} has {cents} cents")),
        Ok(None) => Err((StatusCode::NOT_FOUND, format!("{name} has no account"))),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

//! An idempotent consumer: money is booked once, although each payment is delivered three times and the first attempt at one fails after its effect.
//!
//! ```sh
//! cargo run --manifest-path examples/04_idempotent_consumer/Cargo.toml
//! cargo run --manifest-path examples/04_idempotent_consumer/Cargo.toml -- postgres://USER@HOST/NAME
//! cargo run --manifest-path examples/04_idempotent_consumer/Cargo.toml -- sqlite:///tmp/example.db 127.0.0.1:3000
//! ```
//!
//! Without a database it makes a SQLite file of its own. It prints what `expected.txt` shows; with an address to listen on it goes on and serves the accounts.

mod books;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use books::{PaymentReceived, book_in_postgres, book_in_sqlite};
use std::sync::Arc;
use std::time::Duration;
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::outbox::{Relay, RelayOptions};
use tidings::prelude::*;
use tidings::sql::{Database, DatabaseOptions, Inbox, Kind, OutboxOptions, SqlOutbox};
use tower::ServiceExt as _;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let file = format!("sqlite://{}/books.db", folder.path().display());
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or(file);
    let create = DatabaseOptions {
        create: true,
        ..DatabaseOptions::default()
    };
    let database = Database::open(&url, &create).await?;
    books::make_tables(&database).await?;

    let tidings = Tidings::open(folder.path().join("events")).await?;
    let books = tidings
        .consumer("books")
        .inbox(Inbox::open(&database).await?)
        .backoff(Duration::ZERO, Duration::ZERO);
    let books = match database.kind() {
        Kind::Postgres => books.on(book_in_postgres),
        _ => books.on(book_in_sqlite),
    };
    let books = books.start().await?;
    println!("the consumer claims: {}", books.delivery());

    for (account, cents) in [("ann", 500), ("bob", 250), ("ann", 125)] {
        let account = account.to_owned();
        tidings.publish(PaymentReceived { account, cents }).await?;
    }
    send_twice_more(&tidings).await?;
    books.wait_idle().await?;
    let stats = books.stats();
    println!(
        "handled {}, tried again {}, deduplicated {}",
        stats.handled, stats.retried, stats.deduplicated
    );

    let router = books::router(database.clone());
    for name in ["ann", "bob", "cem"] {
        println!("GET /accounts/{name} -> {}", get(&router, name).await?);
    }
    for changed in changes(&database, &tidings).await? {
        println!("stated: {changed}");
    }
    if let Some(address) = arguments.next() {
        let listener = tokio::net::TcpListener::bind(address).await?;
        println!("GET /accounts/ann at http://{}", listener.local_addr()?);
        axum::serve(listener, router).await?;
    }
    tidings.drain().await?;
    Ok(())
}

/// Whoever sent the payments is not sure that they arrived, and sends them twice more, under the same ids.
async fn send_twice_more(tidings: &Tidings) -> Result<(), Failure> {
    let mut sent = Vec::new();
    let mut history = tidings.history("payment.received").await?;
    while let Some(recorded) = history.next().await? {
        sent.push(recorded.envelope);
    }
    for _ in 0..2 {
        for outcome in tidings.publish_envelopes(&sent).await {
            outcome?;
        }
    }
    Ok(())
}

/// What the handler emitted waits in the outbox of its transactions; carried into the log, it is there once for each payment.
async fn changes(database: &Database, tidings: &Tidings) -> Result<Vec<String>, Failure> {
    let (clock, chance) = (Arc::new(SystemClock::new()), Arc::new(SystemChance));
    let options = OutboxOptions::default();
    let outbox = SqlOutbox::open(database.clone(), options, clock.clone(), &SystemChance).await?;
    let options = RelayOptions {
        until_empty: true,
        ..RelayOptions::default()
    };
    let log = Arc::new(Arc::clone(tidings.broker()));
    let relay = Relay::new(Arc::new(outbox), log, clock, chance, options);
    relay.start().finished().await?;
    let mut changes = Vec::new();
    let mut history = tidings.history("balance.changed").await?;
    while let Some(recorded) = history.next().await? {
        let payload = String::from_utf8_lossy(recorded.envelope.payload_bytes()).into_owned();
        changes.push(format!("{} {payload}", recorded.envelope.event_type()));
    }
    // Two accounts are booked at the same time: only within one there is an order.
    changes.sort_by_key(|change| change.contains("bob"));
    Ok(changes)
}

/// Asks the service, without a network between.
async fn get(router: &Router, name: &str) -> Result<String, Failure> {
    let request = Request::get(format!("/accounts/{name}")).body(Body::empty())?;
    let response = router.clone().oneshot(request).await?;
    let status = response.status();
    let body = to_bytes(response.into_body(), 10_000).await?;
    Ok(format!("{status}: {}", String::from_utf8_lossy(&body)))
}

//! A transactional outbox: an order and the fact `order.placed` are rows of one transaction, and a relay carries the fact into the log. An order that is refused after its
//! fact was published leaves neither.
//!
//! ```sh
//! cargo run --manifest-path examples/03_outbox/Cargo.toml
//! cargo run --manifest-path examples/03_outbox/Cargo.toml -- postgres://USER@HOST/NAME
//! cargo run --manifest-path examples/03_outbox/Cargo.toml -- sqlite:///tmp/example.db 127.0.0.1:3000
//! ```
//!
//! Without a database it makes a SQLite file of its own. Without an address to listen on it sends three requests to itself and prints what `expected.txt` shows.

mod shop;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use shop::{OrderPlaced, Shop};
use std::sync::Arc;
use std::time::Duration;
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::outbox::{Relay, RelayOptions};
use tidings::prelude::*;
use tidings::sql::{Database, DatabaseOptions, OutboxOptions, SqlOutbox};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let file = format!("sqlite://{}/shop.db", folder.path().display());
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or(file);
    let create = DatabaseOptions {
        create: true,
        ..DatabaseOptions::default()
    };
    let database = Database::open(&url, &create).await?;
    shop::make_tables(&database).await?;
    let tidings = Tidings::open(folder.path().join("events")).await?;

    // The relay runs inside the service here; `tidings relay run` does the same from outside.
    let relay = relay(&database, &tidings).await?.start();
    let (mails, mut outgoing) = mpsc::unbounded_channel::<String>();
    let mailer = tidings
        .consumer("mailer")
        .state(mails)
        .on(write_mail)
        .start()
        .await?;

    let shop = Arc::new(Shop::new(database.clone(), relay.wake())?);
    let router = shop::router(Arc::clone(&shop));
    if let Some(address) = arguments.next() {
        let listener = TcpListener::bind(address).await?;
        println!("POST /orders at http://{}", listener.local_addr()?);
        let printing = async {
            while let Some(mail) = outgoing.recv().await {
                println!("{mail}");
            }
        };
        let serving = axum::serve(listener, router).into_future();
        return tokio::select! {
            served = serving => Ok(served?),
            () = printing => Ok(()),
        };
    }

    for order in [
        r#"{"customer": "ann", "cents": 5998}"#,
        r#"{"customer": "bob", "cents": 0}"#,
        r#"{"customer": "cem", "cents": 2000}"#,
    ] {
        println!("POST /orders {order} -> {}", post(&router, order).await?);
    }
    let kept = shop.count().await?;
    println!("{kept} orders are kept");
    let mut written = Vec::new();
    for _ in 0..kept {
        written.extend(outgoing.recv().await);
    }
    // Two orders are carried and handled at the same time: only within one there is an order.
    written.sort();
    for mail in written {
        println!("{mail}");
    }
    mailer.wait_idle().await?;
    let done = relay.drain(Duration::from_secs(10)).await?;
    println!("the relay carried {} events", done.relayed());
    tidings.drain().await?;
    Ok(())
}

/// A consumer, which knows nothing of databases and relays.
async fn write_mail(
    placed: OrderPlaced,
    State(mails): State<mpsc::UnboundedSender<String>>,
) -> Result<(), HandlerError> {
    let mail = format!(
        "mail to {}: {} cents, please",
        placed.customer, placed.cents
    );
    mails.send(mail).permanent()
}

/// Carries what is committed into the log.
async fn relay(database: &Database, tidings: &Tidings) -> Result<Relay, Failure> {
    let (clock, chance) = (Arc::new(SystemClock::new()), Arc::new(SystemChance));
    let options = OutboxOptions::default();
    let outbox = SqlOutbox::open(database.clone(), options, clock.clone(), &SystemChance).await?;
    let log = Arc::new(Arc::clone(tidings.broker()));
    let options = RelayOptions::default();
    Ok(Relay::new(Arc::new(outbox), log, clock, chance, options))
}

/// Sends a request to the service, without a network between.
async fn post(router: &Router, order: &'static str) -> Result<String, Failure> {
    let request = Request::post("/orders")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(order))?;
    let response = router.clone().oneshot(request).await?;
    let status = response.status();
    let body = to_bytes(response.into_body(), 10_000).await?;
    Ok(format!("{status}: {}", String::from_utf8_lossy(&body)))
}

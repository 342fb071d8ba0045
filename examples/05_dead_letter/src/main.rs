//! A dead letter: an event that cannot be handled is given up in the open, with its reasons, and nobody waits behind it.
//!
//! ```sh
//! cargo run --manifest-path examples/05_dead_letter/Cargo.toml
//! ```
//!
//! It prints what `expected.txt` shows.

use std::time::Duration;
use tidings::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(
    type = "order.placed",
    version = 1,
    key = "order_id",
    source = "order-service"
)]
struct OrderPlaced {
    order_id: String,
    country: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shipment.created", version = 1, key = "order_id")]
struct ShipmentCreated {
    order_id: String,
}

/// Fails in three ways: for good, for now, and for ever although it hopes otherwise.
async fn ship(order: OrderPlaced, event: Metadata, emit: Emit) -> Result<(), HandlerError> {
    match order.country.as_str() {
        "Atlantis" => Err(HandlerError::permanent_message(
            "no carrier goes to Atlantis",
        )),
        "Iceland" if event.attempt < 3 => {
            Err(HandlerError::transient_message("the harbour is frozen"))
        }
        "Antarctica" => Err(HandlerError::transient_message("the ship does not answer")),
        _ => emit.event(&ShipmentCreated {
            order_id: order.order_id,
        }),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shop");
    let tidings = Tidings::open(&path).await?;
    let brief = Duration::from_millis(5);
    tidings
        .consumer("shipping")
        .attempts(4)
        .backoff(brief, brief)
        .on(ship)
        .start()
        .await?;

    for (order_id, country) in [
        ("order-1", "Atlantis"),
        ("order-2", "Iceland"),
        ("order-3", "Antarctica"),
        ("order-4", "Norway"),
    ] {
        let (order_id, country) = (order_id.to_owned(), country.to_owned());
        tidings.publish(OrderPlaced { order_id, country }).await?;
    }
    tidings.drain().await?;

    let tidings = Tidings::open(&path).await?;
    let mut shipped = Vec::new();
    let mut history = tidings.history("shipment.created").await?;
    while let Some(event) = history.next().await? {
        shipped.extend(event.envelope.aggregate_id().map(str::to_owned));
    }
    shipped.sort();
    println!("shipped: {}", shipped.join(", "));

    // Orders are independent of each other, so their letters come in any order.
    let mut lines = Vec::new();
    let mut letters = tidings.dead_letters()?;
    while let Some(letter) = letters.next().await {
        let letter = letter?.record;
        lines.push(format!(
            "{} gave up {} after {} attempts: {}",
            letter.consumer,
            letter.aggregate_id.unwrap_or_default(),
            letter.attempts,
            letter.reason,
        ));
    }
    lines.sort();
    println!("{}", lines.join("\n"));
    tidings.drain().await?;
    Ok(())
}

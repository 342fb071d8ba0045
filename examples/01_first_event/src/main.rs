//! The first event: derive it, open a folder, publish.
//!
//! ```sh
//! cargo run --manifest-path examples/01_first_event/Cargo.toml
//! ```
//!
//! It prints what `expected.txt` shows, with an id and a time of its own.

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
    total_cents: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let tidings = Tidings::open(folder.path().join("shop")).await?;

    // The answer comes once the event is on the disk.
    let published = tidings
        .publish(OrderPlaced {
            order_id: "order-123".into(),
            total_cents: 5_998,
        })
        .await?;
    println!("published {}", published.event_id);

    // Nobody listens, and that is fine: the fact is kept for whoever comes.
    let mut history = tidings.history("order.*").await?;
    while let Some(event) = history.next().await? {
        println!(
            "at position {}: {}",
            event.position,
            event.envelope.to_json()
        );
    }

    tidings.drain().await?;
    Ok(())
}

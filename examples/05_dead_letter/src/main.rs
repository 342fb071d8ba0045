//! What happens to an event that cannot be handled: tried again at once, then later, then given up in the open; its key keeps its order through all of it.
//!
//! ```sh
//! cargo run --manifest-path examples/05_dead_letter/Cargo.toml
//! ```
//!
//! It prints what `expected.txt` shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidings::core::store::{DeadLetterStore as _, LetterFilter, Operator};
use tidings::dead_letter::{self, RedriveOptions};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::prelude::*;
use tidings::sql::Failures;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

#[derive(Event, Serialize, Deserialize)]
#[event(type = "parcel.packed", version = 1, key = "order_id")]
struct ParcelPacked {
    order_id: String,
    country: String,
}

/// Whether the defect is mended.
type Mended = Arc<AtomicBool>;
/// Where the handler says what it did.
type Lines = UnboundedSender<String>;

async fn ship(
    parcel: ParcelPacked,
    event: Metadata,
    State(mended): State<Mended>,
    State(lines): State<Lines>,
) -> Result<(), HandlerError> {
    let (order, country) = (parcel.order_id, parcel.country.as_str());
    let shipped = match country {
        "Iceland" if event.attempt < 3 => Err("the harbour is frozen"),
        "Greenland" if event.attempt < 4 => Err("the ship does not answer"),
        "Peru" if !mended.load(Ordering::SeqCst) => Err("our map has no Peru"),
        "Atlantis" => Err("no carrier goes there"),
        _ => Ok(()),
    };
    let (attempt, said) = (event.attempt, shipped.err().unwrap_or("shipped"));
    let _ = lines.send(format!("{order} to {country}, attempt {attempt}: {said}"));
    shipped.map_err(|reason| match country {
        "Peru" | "Atlantis" => HandlerError::permanent_message(reason),
        _ => HandlerError::transient_message(reason),
    })
}

async fn pack(tidings: &Tidings, order: &str, countries: &[&str]) -> Result<(), tidings::Error> {
    for country in countries {
        let (order_id, country) = (order.to_owned(), (*country).to_owned());
        tidings.publish(ParcelPacked { order_id, country }).await?;
    }
    Ok(())
}

/// Shows the next lines of the handler.
async fn show(came: &mut UnboundedReceiver<String>, count: usize) {
    for _ in 0..count {
        let line = came.recv().await.expect("the handler holds the sender");
        println!("  {line}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let tidings = Tidings::open(folder.path().join("shop")).await?;
    let (mended, (lines, mut came)) = (Mended::default(), unbounded_channel());
    let brief = Duration::from_millis(5);
    let shipping = tidings.consumer("shipping").attempts(3);
    let shipping = shipping.backoff(brief, brief).retry_later([20 * brief]);
    let shipping = shipping.state(mended.clone()).state(lines).on(ship);
    let shipping = shipping.start().await?;

    println!("Tried again in place:");
    pack(&tidings, "order-1", &["Iceland"]).await?;
    show(&mut came, 3).await;

    println!("Tried again later, and what is behind it waits:");
    pack(&tidings, "order-2", &["Greenland", "Norway"]).await?;
    show(&mut came, 5).await;

    println!("Given up, and its key is held; others go on:");
    pack(&tidings, "order-3", &["Peru", "Chile", "Norway"]).await?;
    show(&mut came, 1).await;
    pack(&tidings, "order-4", &["Chile"]).await?;
    show(&mut came, 1).await;
    shipping.wait_idle().await?;
    let (held, parked) = (shipping.stats().held_keys, shipping.stats().parked);
    println!("  held: {held} key, {parked} events");

    println!("Handed back once the map is mended, in order:");
    let failures = Failures::open(&tidings.database().await?).await?;
    let open = LetterFilter::default();
    for letter in failures.letters(&open, 0, 10).await? {
        println!("  {} gave up: {}", letter.group, letter.reasons.join(", "));
    }
    mended.store(true, Ordering::SeqCst);
    let ada = Operator {
        actor: "ada".to_owned(),
        reason: "on call".to_owned(),
    };
    let (clock, options) = (SystemClock::new(), RedriveOptions::default());
    let seams = (&clock as _, &SystemChance as _);
    dead_letter::redrive(&failures, &open, &options, &ada, seams, &mut |_| ()).await?;
    show(&mut came, 3).await;

    println!("Discarded, and what waited behind it goes on:");
    pack(&tidings, "order-5", &["Atlantis", "Norway"]).await?;
    show(&mut came, 1).await;
    shipping.wait_idle().await?;
    dead_letter::discard(&failures, &open, false, &ada, &clock).await?;
    show(&mut came, 1).await;
    tidings.drain().await?;
    Ok(())
}

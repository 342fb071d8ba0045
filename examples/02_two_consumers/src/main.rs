//! Two consumers of one fact: neither knows of the other, and the producer knows of none. A third joins later and reads the history.
//!
//! ```sh
//! cargo run --manifest-path examples/02_two_consumers/Cargo.toml
//! ```
//!
//! It prints what `expected.txt` shows.

use std::sync::{Arc, Mutex};
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
    quantity: u32,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "stock.reserved", version = 1, key = "order_id")]
struct StockReserved {
    order_id: String,
    left: u32,
}

/// What is on the shelf; handlers of the group share it.
type Shelf = Arc<Mutex<u32>>;

/// Lines of one service, printed at the end: services run at the same time.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, line: String) {
        self.0.lock().expect("no handler panics").push(line);
    }

    /// Orders are independent of each other, so their lines come in any order.
    fn print(&self, service: &str) {
        let mut lines = self.0.lock().expect("no handler panics").clone();
        lines.sort();
        println!("{service}");
        for line in lines {
            println!("  {line}");
        }
    }
}

async fn reserve(
    order: OrderPlaced,
    State(shelf): State<Shelf>,
    emit: Emit,
) -> Result<(), HandlerError> {
    let left = {
        let mut shelf = shelf.lock().expect("no handler panics");
        *shelf -= order.quantity;
        *shelf
    };
    emit.event(&StockReserved {
        order_id: order.order_id,
        left,
    })
}

async fn send_mail(order: OrderPlaced, State(diary): State<Diary>) {
    diary.note(format!(
        "thanks for {} x {}",
        order.quantity, order.order_id
    ));
}

async fn count(event: Envelope, State(diary): State<Diary>) {
    diary.note(format!(
        "saw {} of {}",
        event.event_type(),
        event.aggregate_id().unwrap_or("nobody")
    ));
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shop");
    let shelf = Shelf::new(Mutex::new(10));
    let mails = Diary::default();
    let audit = Diary::default();

    let tidings = Tidings::open(&path).await?;
    tidings
        .consumer("inventory")
        .state(Arc::clone(&shelf))
        .on(reserve)
        .start()
        .await?;
    tidings
        .consumer("notification")
        .state(mails.clone())
        .on(send_mail)
        .start()
        .await?;
    for (order_id, quantity) in [("order-1", 2), ("order-2", 3)] {
        let order_id = order_id.to_owned();
        tidings.publish(OrderPlaced { order_id, quantity }).await?;
    }
    tidings.drain().await?;
    println!(
        "{} left on the shelf",
        shelf.lock().expect("no handler panics")
    );
    mails.print("notification");

    // A day later somebody wants to know everything. The producer and the other consumers did not change.
    let tidings = Tidings::open(&path).await?;
    tidings
        .consumer("audit")
        .state(audit.clone())
        .on_raw("**", count)
        .start()
        .await?;
    tidings.drain().await?;
    audit.print("audit");
    Ok(())
}

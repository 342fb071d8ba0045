//! Testing a flow: given what happened, when something happens, then this follows. No disk, no sleeping, no waiting for retries.
//!
//! ```sh
//! cargo run --manifest-path examples/10_testing/Cargo.toml
//! ```
//!
//! In a project of your own this stands in a test; here it is a program, so that it can print what it found. It prints what `expected.txt` shows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tidings::prelude::*;
use tidings::testkit::Scenario;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "stock.counted", version = 1, key = "product")]
struct StockCounted {
    product: String,
    pieces: u32,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
struct OrderPlaced {
    order_id: String,
    product: String,
    pieces: u32,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "stock.reserved", version = 1, key = "order_id")]
struct StockReserved {
    order_id: String,
    left: u32,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.rejected", version = 1, key = "order_id")]
struct OrderRejected {
    order_id: String,
    reason: String,
}

type Shelves = Arc<Mutex<HashMap<String, u32>>>;

async fn count(counted: StockCounted, State(shelves): State<Shelves>) {
    shelves
        .lock()
        .expect("no handler panics")
        .insert(counted.product, counted.pieces);
}

async fn reserve(
    order: OrderPlaced,
    State(shelves): State<Shelves>,
    emit: Emit,
    event: Metadata,
) -> Result<(), HandlerError> {
    if order.product == "glass" && event.attempt < 3 {
        return Err(HandlerError::transient_message(
            "the glass shelf is being moved",
        ));
    }
    let mut shelves = shelves.lock().expect("no handler panics");
    let pieces = shelves.get_mut(&order.product).ok_or_else(|| {
        HandlerError::permanent_message(format!("there is no shelf for {}", order.product))
    })?;
    let Some(left) = pieces.checked_sub(order.pieces) else {
        let reason = format!("only {pieces} left");
        return emit.event(&OrderRejected {
            order_id: order.order_id,
            reason,
        });
    };
    *pieces = left;
    emit.event(&StockReserved {
        order_id: order.order_id,
        left,
    })
}

/// A shop with ten cups and ten glasses.
fn shop() -> Scenario {
    let counted = |product: &str| StockCounted {
        product: product.to_owned(),
        pieces: 10,
    };
    Scenario::new()
        .consumer("inventory", |consumer| {
            consumer.state(Shelves::default()).on(count).on(reserve)
        })
        .given(counted("cup"))
        .given(counted("glass"))
}

fn order(product: &str, pieces: u32) -> OrderPlaced {
    OrderPlaced {
        order_id: "order-1".into(),
        product: product.into(),
        pieces,
    }
}

#[tokio::main]
async fn main() {
    shop()
        .when(order("cup", 3))
        .await
        .then_emitted(|reserved: &StockReserved| assert_eq!(reserved.left, 7))
        .then_nothing_else();
    println!("an order takes what it needs from the shelf");

    shop()
        .when(order("cup", 11))
        .await
        .then_emitted(|rejected: &OrderRejected| assert_eq!(rejected.reason, "only 10 left"))
        .then_nothing_else();
    println!("an order over more than there is, is rejected");

    shop()
        .when(order("glass", 1))
        .await
        .then_emitted(|reserved: &StockReserved| assert_eq!(reserved.left, 9))
        .then_nothing_else();
    println!("a shelf that is being moved is waited for, in no time");

    shop()
        .when(order("elephant", 1))
        .await
        .then_dead_letter(|letter| assert!(letter.record.reason.contains("no shelf for elephant")))
        .then_nothing_else();
    println!("an order that nobody can fill is a dead letter");
}

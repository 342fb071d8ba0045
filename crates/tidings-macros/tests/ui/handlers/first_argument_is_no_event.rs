//! The first argument is an event.

#![allow(unused_variables)]

use tidings::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
struct OrderPlaced {
    order_id: String,
}

struct Order;

async fn reserve(order: Order, emit: Emit) -> Result<(), HandlerError> {
    Ok(())
}

fn build(tidings: &Tidings) {
    let _ = tidings.consumer("inventory").on(reserve);
}

fn main() {}

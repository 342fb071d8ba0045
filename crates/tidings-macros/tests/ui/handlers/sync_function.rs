//! A handler is async.

#![allow(unused_variables)]

use tidings::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
struct OrderPlaced {
    order_id: String,
}

fn reserve(order: OrderPlaced) -> Result<(), HandlerError> {
    Ok(())
}

fn build(tidings: &Tidings) {
    let _ = tidings.consumer("inventory").on(reserve);
}

fn main() {}

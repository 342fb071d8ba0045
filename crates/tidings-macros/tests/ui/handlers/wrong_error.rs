//! The error of a handler is an error.

#![allow(unused_variables)]

use tidings::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
struct OrderPlaced {
    order_id: String,
}

async fn reserve(order: OrderPlaced) -> Result<(), String> {
    Err(order.order_id)
}

fn build(tidings: &Tidings) {
    let _ = tidings.consumer("inventory").on(reserve);
}

fn main() {}

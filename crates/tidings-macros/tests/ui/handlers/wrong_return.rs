//! A handler returns nothing or a result.

#![allow(unused_variables)]

use tidings::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
struct OrderPlaced {
    order_id: String,
}

async fn reserve(order: OrderPlaced) -> usize {
    order.order_id.len()
}

fn build(tidings: &Tidings) {
    let _ = tidings.consumer("inventory").on(reserve);
}

fn main() {}

//! A raw handler takes the envelope.

#![allow(unused_variables)]

use tidings::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
struct OrderPlaced {
    order_id: String,
}

async fn audit(order: OrderPlaced) {}

fn build(tidings: &Tidings) {
    let _ = tidings.consumer("audit").on_raw("order.*", audit);
}

fn main() {}

//! Emit belongs to one event.

#![allow(unused_variables)]

use tidings::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
struct OrderPlaced {
    order_id: String,
}

async fn reserve(items: Vec<BatchItem<OrderPlaced>>, emit: Emit) -> Vec<Result<(), HandlerError>> {
    items.iter().map(|_| Ok(())).collect()
}

fn build(tidings: &Tidings) {
    let _ = tidings.consumer("inventory").on_batch(reserve);
}

fn main() {}

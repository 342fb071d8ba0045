//! A handler may be moved between threads while it waits.

#![allow(unused_variables)]

use tidings::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
struct OrderPlaced {
    order_id: String,
}

async fn reserve(order: OrderPlaced) {
    let local = std::rc::Rc::new(order.order_id);
    std::future::ready(()).await;
    drop(local);
}

fn build(tidings: &Tidings) {
    let _ = tidings.consumer("inventory").on(reserve);
}

fn main() {}

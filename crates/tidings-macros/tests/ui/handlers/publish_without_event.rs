//! What is published is an event.

use tidings::prelude::*;

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    order_id: String,
}

async fn state(tidings: &Tidings) {
    let _ = tidings.publish(OrderPlaced { order_id: "order-1".into() }).await;
}

fn main() {}

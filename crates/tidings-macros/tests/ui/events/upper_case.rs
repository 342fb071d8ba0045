//! Types are written in lower case.

use serde::{Deserialize, Serialize};
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "Order.Placed", crate = "tidings_core")]
struct OrderPlaced {
    order_id: String,
    total_cents: u64,
}

fn main() {}

//! A version is a number.

use serde::{Deserialize, Serialize};
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = "2", crate = "tidings_core")]
struct OrderPlaced {
    order_id: String,
    total_cents: u64,
}

fn main() {}

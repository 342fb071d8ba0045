//! Facts of tidings itself have names of their own.

use serde::{Deserialize, Serialize};
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "tidings.order.placed", crate = "tidings_core")]
struct OrderPlaced {
    order_id: String,
    total_cents: u64,
}

fn main() {}

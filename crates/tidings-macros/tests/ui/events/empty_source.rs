//! A source has a name.

use serde::{Deserialize, Serialize};
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", source = "", crate = "tidings_core")]
struct OrderPlaced {
    order_id: String,
    total_cents: u64,
}

fn main() {}

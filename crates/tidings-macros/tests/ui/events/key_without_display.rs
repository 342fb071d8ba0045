//! A key can be printed.

use serde::{Deserialize, Serialize};
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", key = "order_ids", crate = "tidings_core")]
struct OrderPlaced {
    order_ids: Vec<String>,
}

fn main() {}

//! The attribute is not optional.

use serde::{Deserialize, Serialize};
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: String,
}

fn main() {}

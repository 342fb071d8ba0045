//! An event type names one concrete type.

use serde::{Deserialize, Serialize};
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", crate = "tidings_core")]
struct OrderPlaced<T> {
    order: T,
}

fn main() {}

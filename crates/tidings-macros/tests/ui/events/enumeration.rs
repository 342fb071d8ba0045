//! Each fact has a struct of its own.

use serde::{Deserialize, Serialize};
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", crate = "tidings_core")]
enum OrderEvent {
    Placed,
}

fn main() {}

//! A payload is an object, also an empty one.

use serde::{Deserialize, Serialize};
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", crate = "tidings_core")]
struct OrderPlaced;

fn main() {}

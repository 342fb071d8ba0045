//! Keys: text, number, own type, optional.

use serde::{Deserialize, Serialize};
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", key = "id", crate = "tidings_core")]
struct Text {
    id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.line.added", key = "id", crate = "tidings_core")]
struct Number {
    id: u64,
}

#[derive(Serialize, Deserialize)]
struct OrderId(u64);

impl std::fmt::Display for OrderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "order-{}", self.0)
    }
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.paid", key = "id", crate = "tidings_core")]
struct Own {
    id: Option<OrderId>,
}

fn main() {}

//! The trait of a typed event; `#[derive(Event)]` writes it.

use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;

/// An immutable fact, as a Rust type.
///
/// Derive it: `#[derive(Event, Serialize, Deserialize)] #[event(type = "order.placed", version = 1, key = "order_id")]`.
///
/// **Source**: seed concept *event*: "a record of something that happened".
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "derive it: #[derive(Event, Serialize, Deserialize)] #[event(type = \"order.placed\", key = \"order_id\")]"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The type without version, for example `order.placed`.
    const TYPE: &'static str;

    /// The version of the payload's schema.
    const VERSION: u32 = 1;

    /// The service that states the fact, where the type fixes it.
    const SOURCE: Option<&'static str> = None;

    /// What the fact is about, and what its order is kept by; `None` means unordered.
    fn key(&self) -> Option<Cow<'_, str>> {
        None
    }
}

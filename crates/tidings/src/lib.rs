//! Event-driven architecture: services state what happened, and others react, over a durable broker that needs no server.
//!
//! ```no_run
//! use tidings::prelude::*;
//!
//! #[derive(Event, Serialize, Deserialize)]
//! #[event(type = "order.placed", version = 1, key = "order_id")]
//! struct OrderPlaced { order_id: String, total: f64 }
//!
//! async fn reserve(order: OrderPlaced) -> Result<(), HandlerError> {
//!     println!("inventory reserves {}", order.order_id);
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), tidings::Error> {
//!     let tidings = Tidings::open("shop-data").await?;
//!     tidings.consumer("inventory").on(reserve).start().await?;
//!     tidings.publish(OrderPlaced { order_id: "order-123".into(), total: 59.98 }).await?;
//!     tidings.drain().await
//! }
//! ```
//!
//! A program that derives needs `serde` beside `tidings` in its manifest: `cargo add tidings serde --features serde/derive`.
//!
//! # Where things are
//!
//! | to | look at |
//! |---|---|
//! | state facts | [`Event`], [`Tidings::publish`], [`producer`] |
//! | react to facts | [`Tidings::consumer`], [`ConsumerBuilder`], [`handler`], [`extract`] |
//! | see what happened | [`Tidings::history`], [`Envelope`] |
//! | see what was given up | [`Tidings::dead_letters`], [`dead_letter`] |
//! | test a flow | `testkit`, with the feature of that name |
//! | read the embedded log beside its owner | [`log`] |
//! | implement another broker | [`core`], alone |

mod concepts;
mod consumer;
mod drain;
mod error;
mod history;
mod open;
pub mod prelude;
mod tidings;

pub use consumer::{ConsumerBuilder, ConsumerHandle};
pub use error::Error;
pub use history::History;
pub use open::TidingsBuilder;
pub use tidings::Tidings;

pub use tidings_core as core;
pub use tidings_core::{
    Code, Envelope, ErrorClass, Event, EventType, Pattern, Payload, Timestamp, broker, event,
    extract, limits,
};
pub use tidings_flow as flow;
pub use tidings_flow::{dead_letter, handler, producer};
pub use tidings_log as log;
pub use tidings_log::{Codec, Durability};
pub use tidings_macros::Event;
#[cfg(feature = "testkit")]
pub use tidings_testkit as testkit;

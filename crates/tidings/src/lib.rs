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
//! | state facts later, or again and again | `Tidings::schedule`, `Schedule` |
//! | see what was given up | [`Tidings::dead_letters`], [`dead_letter`] |
//! | tell people of trouble | [`alert`] |
//! | keep events and state in a SQL database, in one transaction | `sql`, with the features `sqlite` (default), `postgres`, `mysql` |
//! | test a flow | `testkit`, with the feature of that name |
//! | read the embedded log beside its owner | [`log`] |
//! | implement another broker | [`core`], alone |

mod backup;
mod blocking;
mod concepts;
mod connect;
mod consumer;
mod drain;
mod error;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod facts;
mod history;
mod log_metrics;
mod open;
pub mod prelude;
#[cfg(feature = "sqlite")]
mod schedule;
#[cfg(feature = "sqlite")]
mod state;
mod tidings;

pub use backup::backup;
pub use connect::Location;
pub use consumer::{ConsumerBuilder, ConsumerHandle};
pub use error::Error;
pub use history::History;
pub use open::TidingsBuilder;
pub use tidings::Tidings;

#[cfg(feature = "sqlite")]
pub use schedule::Schedule;
#[cfg(feature = "sqlite")]
pub use state::{Waiting, state_database};
pub use tidings_core as core;
pub use tidings_core::{
    Code, Envelope, ErrorClass, Event, EventType, Pattern, Payload, Timestamp, broker, event,
    extract, limits,
};
pub use tidings_flow as flow;
pub use tidings_flow::consumer::{Breaker, OnFailure, OnOpen, Policy};
pub use tidings_flow::{alert, dead_letter, handler, inbox, metrics, outbox, producer};
pub use tidings_log as log;
pub use tidings_log::{Codec, Durability, HeldBy, Retention};
pub use tidings_macros::Event;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use tidings_sql as sql;
#[cfg(feature = "testkit")]
pub use tidings_testkit as testkit;

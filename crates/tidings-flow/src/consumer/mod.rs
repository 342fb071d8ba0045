//! The consumer runtime: fetch a batch, hand it to lanes, call the handler, publish what it emitted, settle.
//!
//! Lanes keep the order of each key and run different keys at the same time. A failure is retried in place with back-off, where only its key waits; an event
//! that is given up becomes a dead letter, a fact on the broker, before the group goes on. Trouble that is not the event's fault pauses the group.
//!
//! **Source**: seed concept *consumer*.

mod batch;
mod breaker;
mod builder;
mod circuit;
mod effect;
mod emit;
mod error;
mod failing;
mod fetch;
mod functions;
mod handle;
mod handling;
mod keeper;
mod keeping;
mod lane;
mod observer;
mod parker;
mod parking;
mod pipeline;
mod policy;
pub mod process;
mod rate;
mod resume;
mod retry;
mod routes;
mod running;
mod settling;
mod state;
mod stats;
mod suspect;
#[cfg(test)]
mod tests;
mod timeout;
mod work;

pub use breaker::{Breaker, CircuitState, CircuitStats, OnOpen};
pub use builder::{Consumer, ConsumerBuilder, ConsumerConfig};
pub use error::{ConsumerError, DrainError};
pub use handle::ConsumerHandle;
pub use observer::{Notice, Observer};
pub use policy::{OnFailure, Policies, Policy};
pub use retry::Backoff;
pub use running::RunningConsumer;
pub use stats::ConsumerStats;

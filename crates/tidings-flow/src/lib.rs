//! The behaviour of tidings, written against ports only: it never names an adapter.

pub mod alert;
pub mod bridge;
pub mod consumer;
pub mod dead_letter;
pub mod explain;
#[cfg(test)]
mod fakes;
pub mod handler;
pub mod inbox;
pub mod metrics;
pub mod outbox;
pub mod producer;
pub mod runtime;
pub mod schedule;

//! The behaviour of tidings, written against ports only: it never names an adapter.

pub mod consumer;
pub mod dead_letter;
#[cfg(test)]
mod fakes;
pub mod handler;
pub mod producer;
pub mod runtime;

//! The way of an event into the log: encoded by its publisher, queued, written by one thread together with everything that waits, flushed once, acknowledged.

pub(crate) mod outcome;
pub(crate) mod pending;
pub(crate) mod pieces;
pub(crate) mod queue;
pub(crate) mod spare;
pub(crate) mod writer;

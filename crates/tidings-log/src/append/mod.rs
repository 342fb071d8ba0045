//! The way of an event into the log: encoded by its publisher, queued, written by one thread together with everything that waits, flushed once, acknowledged.

pub(crate) mod commit;
pub(crate) mod pieces;
pub(crate) mod queue;
pub(crate) mod ticket;
pub(crate) mod writer;

//! The test kit: what a test of an event flow needs instead of the world.
//!
//! [`MemoryBroker`] carries events without a disk, with the same meaning as a real broker.

pub mod broker;
pub mod loan_data;

pub use broker::MemoryBroker;

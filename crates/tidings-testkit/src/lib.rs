//! The test kit: what a test of an event flow needs instead of the world.
//!
//! [`Scenario`] tests a flow: given what happened, when something happens, then this follows. [`MemoryBroker`] carries events without a disk, with the same
//! meaning as a real broker.

mod assert;
pub mod broker;
mod clock;
pub mod conformance;
#[cfg(feature = "databases")]
pub mod database;
pub mod disk;
pub mod loan_data;
#[cfg(feature = "proxy")]
pub mod proxy;
mod scenario;
mod stage;
mod virtual_time;

pub use assert::Outcome;
pub use broker::MemoryBroker;
pub use clock::ManualClock;
pub use disk::FaultyDisk;
pub use scenario::Scenario;

//! The test kit, used as a test of an application would use it.

mod memory_broker;
mod scenario;

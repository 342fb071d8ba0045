//! The test kit, used as a test of an application would use it.

// `cfg(test)` is always set here; it tells clippy that helpers are test code, too.
#[cfg(feature = "conformance")]
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod memory_broker;
#[cfg(feature = "conformance")]
#[cfg(test)]
mod planted;
mod planted_network;
#[cfg(feature = "conformance")]
#[cfg(test)]
mod planted_stores;
#[cfg(test)]
mod scenario;
#[cfg(feature = "conformance")]
#[cfg(test)]
mod sql_stores;

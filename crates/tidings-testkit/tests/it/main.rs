//! The test kit, used as a test of an application would use it.

// `cfg(test)` is always set here; it tells clippy that helpers are test code, too.
#[cfg(test)]
mod memory_broker;
#[cfg(test)]
mod scenario;

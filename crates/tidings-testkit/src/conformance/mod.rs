//! What every implementation of a port must show, for ours and for those of others.

#![expect(
    clippy::unwrap_used,
    reason = "a check is a test: it panics with what it found"
)]

#[cfg(feature = "conformance")]
pub mod broker;
pub mod store;

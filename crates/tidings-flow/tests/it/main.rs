//! Integration tests of the behaviour: one binary for all of them.

mod process;
#[cfg(feature = "webhook")]
mod webhook;

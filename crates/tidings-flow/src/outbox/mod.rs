//! The outbox relay: carries events that were committed in somebody's database to where they go, in the order of their keys, at least once.
//!
//! What it decides is in `step/`, a machine without clock and wires that is explored exhaustively; `driver.rs` does what the machine asks for.

mod driver;
mod error;
mod metrics;
mod notice;
mod options;
mod relay;
mod step;
#[cfg(test)]
mod tests;
mod verdict;
mod verify;

pub use error::RelayError;
pub use metrics::RelayMetrics;
pub use notice::{RelayNotice, RelayPhase, RetryClass};
pub use options::{KeyPolicy, RelayOptions};
pub use relay::{Relay, RelayHandle, RunningRelay};
pub use verify::{Blind, EventSeen, Finding, KeyFindings, RelayReport, RowSeen, RowState, verify};

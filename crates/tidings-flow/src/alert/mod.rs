//! Alerting as a consumer of facts: it tells people of dead letters, stalled groups, outboxes that do not empty and keys that wait too long, and tells when that is over.
//!
//! ```text
//!  fact of a dead letter ──► counted ─┐                        ┌─► webhook
//!                                     ├─► book ──► messages ───┼─► command
//!  look at groups, outboxes, stores ──┘   (kept in the store)  └─► any other channel
//! ```
//!
//! The book is a pure machine. What it concludes is kept in one transaction with the facts that were counted and the messages to send, before anything is sent: after the end
//! of the process, however it came, each message is sent again under the same id until its channel accepts it, and no fact is counted twice.
//!
//! **Source**: seed concept *dead letter topic and alert*.

mod book;
mod channel;
mod command;
mod fact;
mod handler;
mod look;
mod message;
mod options;
mod queue;
mod running;
mod stats;
mod subject;
#[cfg(test)]
mod tests;
mod watch;
mod watcher;
#[cfg(feature = "webhook")]
pub mod webhook;

pub use channel::{Channel, Handover, Outgoing};
pub use command::CommandChannel;
pub use fact::DeathSeen;
pub use look::{GroupSeen, OutboxSeen, Seen, Sight};
pub use message::{Alert, Rule, Sample, Stage};
pub use options::AlertOptions;
pub use running::RunningWatch;
pub use stats::{ChannelStats, WatchStats};
pub use watch::{Watch, WatchNotice};

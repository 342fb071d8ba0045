//! The embedded durable broker: one append-only log in a folder, with a group commit that ends in `fdatasync`, recovery that tells an unfinished end from rot, durable cursors of groups, and readers beside the owner.
//!
//! The stored format is in `FORMAT.md` beside this crate's manifest. What it is not: a cluster, a server, a store of anything but events and cursors.

#![warn(clippy::indexing_slicing)]

mod append;
mod aside;
mod backup;
mod broker;
mod damage;
mod disk_real;
mod files;
mod filter;
mod folder;
mod format;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod history;
mod log;
mod log_reader;
mod look_up;
mod options;
mod poison;
mod recover;
mod retention;
mod scan;
mod segment;
mod state_folder;
mod status;
mod verify;

pub use backup::{Backup, BackupReport};
pub use broker::LogBroker;
pub use disk_real::RealDisk;
pub use format::FORMAT_VERSION;
pub use log_reader::LogReader;
pub use options::{Codec, Durability, OpenOptions};
pub use poison::LogState;
pub use recover::RecoveryReport;
pub use retention::Removal;
pub use retention::rule::{HeldBy, Retention};
pub use state_folder::StateFolder;
pub use status::{LogSize, LogStatus};
pub use verify::{DamageRange, VerifyReport, verify};

//! What the log promises, shown through its public surface.

#![expect(
    clippy::unwrap_used,
    reason = "a panic of a test is its failure report"
)]

mod beside;
mod conformance;
mod crash;
mod crowd;
mod driver;
mod folder;
mod group;
mod look_ups;
mod old_folders;
mod planted;
mod retention;
mod rot;
#[path = "../../../tidings-testkit/tests/it/sql_stores.rs"]
mod sql_stores;
mod trouble;
mod way;

//! The SQL side of tidings: an outbox in the caller's own transaction, an inbox, and what a relay reads, on SQLite, PostgreSQL, MySQL and MariaDB.
//!
//! Not here: how a relay or a consumer behaves. They see the ports of `tidings-core`, which this package implements.

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")))]
compile_error!("tidings-sql needs a database: enable sqlite, postgres or mysql");

pub mod alert;
mod changing;
pub mod context;
pub mod database;
pub mod dialect;
pub mod driver;
mod error;
pub mod failure;
#[cfg(feature = "sqlite")]
mod file;
pub mod inbox;
mod insert;
mod many;
mod outbox_row;
pub mod publish;
pub mod schedule;
pub mod schema;
mod statement;
pub mod store;
pub mod transaction;
pub mod tx;
mod url;
mod verify;

pub use alert::Alerts;
pub use database::{Database, DatabaseOptions, Pool};
pub use dialect::Kind;
pub use driver::{Bind, Connection};
pub use failure::{ActionRecord, Failures};
pub use inbox::Inbox;
pub use insert::Insert;
pub use publish::{Outbox, OutboxConfig};
pub use schedule::Schedules;
/// The version of `sqlx` whose transactions and connections are spoken of here.
pub use sqlx;
pub use store::{
    ColumnMapping, Inspection, Notifier, OutboxOptions, RelayTables, Shape, SqlOutbox, inspect,
    inspect_relay_tables, shape_of,
};
pub use transaction::{AssumedTransaction, InTransaction, assume_in_transaction};
pub use tx::{Tx, TxDatabase};

//! What a program with events needs, in one line: `use tidings::prelude::*;`.
//!
//! `Serialize` and `Deserialize` are here as well; their derives need `serde` in your own manifest: `cargo add serde --features derive`.

pub use crate::Tidings;
pub use serde::{Deserialize, Serialize};
pub use tidings_core::Envelope;
pub use tidings_core::Event;
pub use tidings_core::broker::StartAt;
pub use tidings_core::extract::{Emit, HandlerError, HandlerResultExt, Metadata, Shutdown, State};
pub use tidings_flow::handler::{BatchItem, Handler};
pub use tidings_macros::Event;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use tidings_sql::Tx;
#[cfg(feature = "mysql")]
pub use tidings_sql::sqlx::MySql;
#[cfg(feature = "postgres")]
pub use tidings_sql::sqlx::Postgres;
#[cfg(feature = "sqlite")]
pub use tidings_sql::sqlx::Sqlite;

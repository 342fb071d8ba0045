//! Errors of a store, by what they mean for the caller.

use crate::{Code, ErrorClass, codes};

/// Why a store did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be reached, or the connection broke before anything was sent.
    #[error("the database {database} cannot be reached: {reason}; it is tried again")]
    Unavailable {
        /// The database, without credentials.
        database: String,
        /// What the driver says.
        reason: String,
    },
    /// The connection broke while a change was on its way: it may have been made.
    #[error(
        "the connection to {database} broke, it is unknown whether the change was made: {reason}"
    )]
    Ambiguous {
        /// The database, without credentials.
        database: String,
        /// What the driver says.
        reason: String,
    },
    /// Another transaction was in the way: deadlock, serialisation, lock timeout. Nothing was changed; the whole transaction may run again.
    #[error("another transaction was in the way: {reason}; run the whole transaction again")]
    Conflict {
        /// What the database says.
        reason: String,
    },
    /// A table is missing.
    #[error("the table {table} is missing in {database}; run: {remedy}")]
    TableMissing {
        /// The table.
        table: String,
        /// The database, without credentials.
        database: String,
        /// The command that makes it.
        remedy: String,
    },
    /// A table, a column, a sequence or a setting is not as it must be.
    #[error("{subject}: {fault}; {remedy}")]
    ShapeWrong {
        /// The table or column.
        subject: String,
        /// What is wrong with it.
        fault: String,
        /// The way out.
        remedy: String,
    },
    /// A newer version of the program made the tables.
    #[error(
        "the tables in {database} have version {found}, this program knows up to {supported}; use the newer program"
    )]
    SchemaNewer {
        /// The database, without credentials.
        database: String,
        /// Their version.
        found: i64,
        /// The newest version known here.
        supported: i64,
    },
    /// The database user may not do it.
    #[error("the database user lacks a privilege ({reason}); run: {grant}")]
    PrivilegeMissing {
        /// What the database says.
        reason: String,
        /// The statement that grants it.
        grant: String,
    },
    /// The URL of the database or of the table is not usable.
    #[error("the database URL {url} cannot be used: {reason}")]
    UrlInvalid {
        /// The URL, without credentials.
        url: String,
        /// The rule that it breaks and the way out.
        reason: String,
    },
    /// A value breaks a rule of the store.
    #[error("{reason}")]
    Refused {
        /// The value, the rule and the way out.
        reason: String,
    },
    /// The outbox would hold more unsent events than it may.
    #[error(
        "the outbox {table} holds {pending} unsent events, and {events} more would pass its limit of {limit}; start or mend its relay: tidings outbox status"
    )]
    OutboxFull {
        /// The table.
        table: String,
        /// Unsent events.
        pending: u64,
        /// Events that were to be published with one call.
        events: u64,
        /// The limit.
        limit: u64,
    },
    /// The database has no room or is read-only.
    #[error("the database {database} does not accept changes: {reason}")]
    NotWritable {
        /// The database, without credentials.
        database: String,
        /// What the database says.
        reason: String,
    },
    /// The database reports something that no rule here covers.
    #[error("the database {database} reports: {reason}")]
    Database {
        /// The database, without credentials.
        database: String,
        /// What it says.
        reason: String,
    },
}

impl StoreError {
    /// What the error means for the caller.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable { .. }
            | Self::Ambiguous { .. }
            | Self::Conflict { .. }
            | Self::OutboxFull { .. }
            | Self::NotWritable { .. } => ErrorClass::Transient,
            Self::TableMissing { .. }
            | Self::ShapeWrong { .. }
            | Self::SchemaNewer { .. }
            | Self::PrivilegeMissing { .. }
            | Self::UrlInvalid { .. }
            | Self::Refused { .. }
            | Self::Database { .. } => ErrorClass::Permanent,
        }
    }

    /// Whether the change may have been made.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Ambiguous { .. })
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Unavailable { .. } => codes::STORE_UNAVAILABLE,
            Self::Ambiguous { .. } => codes::STORE_AMBIGUOUS,
            Self::Conflict { .. } => codes::STORE_CONFLICT,
            Self::TableMissing { .. } => codes::STORE_TABLE_MISSING,
            Self::ShapeWrong { .. } => codes::STORE_SHAPE_WRONG,
            Self::SchemaNewer { .. } => codes::STORE_SCHEMA_NEWER,
            Self::PrivilegeMissing { .. } => codes::STORE_PRIVILEGE_MISSING,
            Self::UrlInvalid { .. } => codes::STORE_URL_INVALID,
            Self::Refused { .. } => codes::STORE_REFUSED,
            Self::OutboxFull { .. } => codes::OUTBOX_FULL,
            Self::NotWritable { .. } => codes::STORE_NOT_WRITABLE,
            Self::Database { .. } => codes::STORE_DATABASE,
        }
    }
}

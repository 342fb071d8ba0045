//! What a driver reports, as what it means for the caller.

use crate::database::Database;
use sqlx::error::DatabaseError;
use tidings_core::store::StoreError;

/// When something went wrong, which decides whether a change may have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// No connection yet.
    Connecting,
    /// A statement that changes nothing.
    Reading,
    /// A statement inside a transaction that is not committed yet.
    InTransaction,
    /// A statement that is a transaction of its own, or a commit.
    Changing,
}

/// What a statement touches, so that what is missing can be named with its remedy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    /// The table.
    pub(crate) table: &'a str,
    /// The privileges, as GRANT spells them.
    pub(crate) privileges: &'a str,
    /// The command that makes the table.
    pub(crate) remedy: &'a str,
}

impl Access<'_> {
    /// A statement that touches no table of ours.
    pub(crate) const NONE: Self = Access {
        table: "(unknown)",
        privileges: "SELECT",
        remedy: "tidings outbox migrate",
    };
}

/// What the database said, by meaning. SQLite has no users and no network, so that a build with it alone makes fewer of them.
#[cfg_attr(
    not(all(feature = "postgres", feature = "mysql")),
    allow(dead_code, reason = "each database has its own share of them")
)]
enum Meaning {
    Conflict,
    TableMissing,
    ColumnMissing,
    PrivilegeMissing,
    NotWritable,
    Unavailable,
    LoginRefused,
    Unusable,
    Unknown,
    Other,
}

/// The error of a statement.
pub(crate) fn store_error(
    database: &Database,
    error: &sqlx::Error,
    moment: Moment,
    access: &Access<'_>,
) -> StoreError {
    let name = database.name().to_owned();
    match error {
        sqlx::Error::Database(error) => reported(&**error, name, database.user(), moment, access),
        other => broken(other, name, moment),
    }
}

/// The error of a statement on a connection whose database has no name here, or none yet.
pub(crate) fn nameless_error(
    name: &str,
    error: &sqlx::Error,
    moment: Moment,
    access: &Access<'_>,
) -> StoreError {
    match error {
        sqlx::Error::Database(error) => reported(&**error, name.to_owned(), "", moment, access),
        other => broken(other, name.to_owned(), moment),
    }
}

/// What an error that a handler met in its own statements says about the database; `None` if the statement itself is at fault.
pub(crate) fn trouble_of(
    database: &Database,
    error: &(dyn std::error::Error + 'static),
) -> Option<StoreError> {
    let moment = Moment::InTransaction;
    let told = match error.downcast_ref::<sqlx::Error>() {
        Some(error) => store_error(database, error, moment, &Access::NONE),
        // A wrapper that is transparent shows the driver's error in place of sqlx's.
        None => {
            let name = database.name().to_owned();
            reported(driver_error(error)?, name, "", moment, &Access::NONE)
        }
    };
    match told {
        StoreError::Unavailable { .. }
        | StoreError::Conflict { .. }
        | StoreError::NotWritable { .. } => Some(told),
        _ => None,
    }
}

fn driver_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e dyn DatabaseError> {
    #[cfg(feature = "sqlite")]
    if let Some(error) = error.downcast_ref::<sqlx::sqlite::SqliteError>() {
        return Some(error);
    }
    #[cfg(feature = "postgres")]
    if let Some(error) = error.downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        return Some(error);
    }
    #[cfg(feature = "mysql")]
    if let Some(error) = error.downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return Some(error);
    }
    None
}

/// Whether a statement met a key that is there already.
pub(crate) fn is_duplicate(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_unique_violation())
}

fn broken(error: &sqlx::Error, database: String, moment: Moment) -> StoreError {
    let reason = reason_of(error);
    match error {
        sqlx::Error::Io(error) if is_untrusted(error) => StoreError::UrlInvalid {
            url: database,
            reason: format!("{reason}; {TRUST}"),
        },
        sqlx::Error::Tls(_) if moment == Moment::Connecting => StoreError::UrlInvalid {
            url: database,
            reason,
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        | sqlx::Error::PoolClosed
        | sqlx::Error::PoolTimedOut => match moment {
            Moment::Changing => StoreError::Ambiguous { database, reason },
            Moment::Connecting | Moment::Reading | Moment::InTransaction => {
                StoreError::Unavailable { database, reason }
            }
        },
        sqlx::Error::Configuration(_) => StoreError::UrlInvalid {
            url: database,
            reason,
        },
        _ => StoreError::Database { database, reason },
    }
}

/// How a URL names whom to trust.
const TRUST: &str = "give the certificate of the server's authority, ?sslmode=verify-full&sslrootcert=FILE (PostgreSQL) or ?ssl-mode=VERIFY_IDENTITY&ssl-ca=FILE (MySQL, MariaDB), and the host name that the server's certificate names";
/// What helps where the server knows the user by another password, or not at all.
const LOGIN: &str =
    "correct user and password in the URL, or let the server's access rules admit them";

/// Whether the server's certificate is not one to trust. TLS reports it as an error of the connection, in words.
fn is_untrusted(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
        && error.to_string().contains("invalid peer certificate")
}

fn reason_of(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::PoolTimedOut => {
            "no connection became free or could be opened in time".to_owned()
        }
        other => other.to_string(),
    }
}

fn reported(
    error: &dyn DatabaseError,
    database: String,
    user: &str,
    moment: Moment,
    access: &Access<'_>,
) -> StoreError {
    let reason = error.message().to_owned();
    match meaning(error) {
        Meaning::Conflict => StoreError::Conflict { reason },
        Meaning::TableMissing => StoreError::TableMissing {
            table: access.table.to_owned(),
            database,
            remedy: access.remedy.to_owned(),
        },
        Meaning::ColumnMissing => StoreError::ShapeWrong {
            subject: access.table.to_owned(),
            fault: reason,
            remedy: "name the column that is there instead in tidings.toml, or bring the table to its shape: tidings outbox ddl".to_owned(),
        },
        Meaning::PrivilegeMissing => {
            let grant = grant(error, user, access);
            StoreError::PrivilegeMissing { reason, grant }
        }
        Meaning::NotWritable => StoreError::NotWritable { database, reason },
        Meaning::Unavailable => match moment {
            Moment::Changing => StoreError::Ambiguous { database, reason },
            Moment::Connecting | Moment::Reading | Moment::InTransaction => {
                StoreError::Unavailable { database, reason }
            }
        },
        Meaning::LoginRefused => StoreError::UrlInvalid {
            url: database,
            reason: format!("{reason}; {LOGIN}"),
        },
        Meaning::Unusable => StoreError::UrlInvalid {
            url: database,
            reason,
        },
        Meaning::Unknown => StoreError::Ambiguous { database, reason },
        Meaning::Other => StoreError::Database { database, reason },
    }
}

fn meaning(error: &dyn DatabaseError) -> Meaning {
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return meaning_of_mysql(error.number());
    }
    let code = error.code().unwrap_or_default();
    #[cfg(feature = "postgres")]
    if error
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .is_some()
    {
        return meaning_of_sqlstate(&code);
    }
    meaning_of_sqlite(code.parse().unwrap_or(0), error.message())
}

#[cfg(feature = "postgres")]
fn meaning_of_sqlstate(code: &str) -> Meaning {
    match code {
        "40001" | "40P01" | "55P03" => Meaning::Conflict,
        "40003" => Meaning::Unknown,
        "42P01" => Meaning::TableMissing,
        "42703" => Meaning::ColumnMissing,
        "42501" => Meaning::PrivilegeMissing,
        "53100" | "25006" => Meaning::NotWritable,
        "28000" | "28P01" => Meaning::LoginRefused,
        "3D000" => Meaning::Unusable,
        // A statement that took longer than it may, a transaction that lay unused or was open for longer than it may: nothing of it is there.
        "57014" | "25P03" | "25P04" => Meaning::Unavailable,
        _ if code.starts_with("08") || code.starts_with("57P") || code.starts_with("53") => {
            Meaning::Unavailable
        }
        _ => Meaning::Other,
    }
}

#[cfg(feature = "mysql")]
fn meaning_of_mysql(number: u16) -> Meaning {
    match number {
        // Deadlock, lock wait timeout, NOWAIT; record changed since last read; certification on a cluster's COMMIT is a deadlock too.
        1213 | 1205 | 3572 | 1020 => Meaning::Conflict,
        1146 => Meaning::TableMissing,
        1054 => Meaning::ColumnMissing,
        1142 | 1143 | 1044 | 1227 | 1370 => Meaning::PrivilegeMissing,
        1114 | 1021 | 1290 | 1836 => Meaning::NotWritable,
        1045 | 1698 => Meaning::LoginRefused,
        1049 => Meaning::Unusable,
        // Also a statement that took longer than it may (1317, 1969, 3024).
        1040 | 1053 | 1077 | 1079 | 1203 | 1317 | 1927 | 1969 | 3024 | 4031 => Meaning::Unavailable,
        _ => Meaning::Other,
    }
}

fn meaning_of_sqlite(code: u32, message: &str) -> Meaning {
    // The low byte of an extended result code is the primary one.
    match code & 0xff {
        5 | 6 => Meaning::Conflict,
        8 | 10 | 13 => Meaning::NotWritable,
        14 | 26 => Meaning::Unusable,
        1 if message.contains("no such table") => Meaning::TableMissing,
        1 if message.contains("no such column") || message.contains("has no column") => {
            Meaning::ColumnMissing
        }
        _ => Meaning::Other,
    }
}

/// The statement that grants what is missing.
fn grant(error: &dyn DatabaseError, user: &str, access: &Access<'_>) -> String {
    mysql_grant(error.message()).unwrap_or_else(|| {
        let user = grantee(user);
        // PostgreSQL names the table that is missed, which need not be the one the statement is about.
        let table = error
            .message()
            .strip_prefix("permission denied for table ")
            .unwrap_or(access.table);
        let privileges = if table.starts_with("tidings_relay_") {
            "SELECT, INSERT, UPDATE, DELETE"
        } else {
            access.privileges
        };
        let denied = |what| error.message().strip_prefix(what);
        if let Some(schema) = denied("permission denied for schema ") {
            return format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {user};");
        }
        if let Some(sequence) = denied("permission denied for sequence ") {
            return format!("GRANT USAGE ON SEQUENCE {sequence} TO {user};");
        }
        format!("GRANT {privileges} ON {table} TO {user};")
    })
}

/// Whom a privilege is granted to. It is seldom the user who lacks it that runs the statement, so that `CURRENT_USER` would grant it to somebody else.
pub(crate) fn grantee(user: &str) -> &str {
    match user {
        "" => "<the application's user>",
        user => user,
    }
}

/// MySQL says everything that is needed: `SELECT command denied to user 'u'@'h' for table 'db'.'t'`.
fn mysql_grant(message: &str) -> Option<String> {
    let (privilege, rest) = message.split_once(" command denied to user ")?;
    let (user, table) = rest.split_once(" for table ")?;
    let table = table.replace(['\'', '`'], "");
    Some(format!("GRANT {privilege} ON {table} TO {user};"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grant_that_mysql_misses_is_read_from_its_message() {
        let message =
            "DELETE, UPDATE command denied to user 'relay'@'localhost' for table `shop`.`outbox`";

        assert_eq!(
            mysql_grant(message).unwrap(),
            "GRANT DELETE, UPDATE ON shop.outbox TO 'relay'@'localhost';"
        );
    }

    #[test]
    fn a_broken_connection_is_ambiguous_only_while_something_changes() {
        let io = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());

        let reading = broken(&io(), "db".into(), Moment::Reading);
        assert!(!reading.may_have_happened(), "{reading}");
        let before_commit = broken(&io(), "db".into(), Moment::InTransaction);
        assert!(!before_commit.may_have_happened(), "{before_commit}");
        let changing = broken(&io(), "db".into(), Moment::Changing);
        assert!(changing.may_have_happened(), "{changing}");
    }
}

//! What is looked at before a database is trusted: the versions of the servers, and settings under which order or rows would be lost.

use crate::database::Database;
use crate::dialect::Kind;
use crate::error::Access;
use tidings_core::store::StoreError;

/// The first SQLite without the defect that loses commits when a checkpoint meets a reset of the write-ahead log.
#[cfg(feature = "sqlite")]
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// Refuses a SQLite that loses commits.
#[cfg(feature = "sqlite")]
pub(crate) fn sqlite_version(database: &str) -> Result<(), StoreError> {
    sqlite_version_is_safe(database, libsqlite3_sys_version())
}

#[cfg(feature = "sqlite")]
fn libsqlite3_sys_version() -> i32 {
    // The version of the header; it is that of the library, because the library is built from the same source.
    libsqlite3_sys::SQLITE_VERSION_NUMBER
}

#[cfg(feature = "sqlite")]
fn sqlite_version_is_safe(database: &str, version: i32) -> Result<(), StoreError> {
    if version >= SQLITE_VERSION_MIN {
        return Ok(());
    }
    Err(StoreError::ShapeWrong {
        subject: database.to_owned(),
        fault: format!(
            "the SQLite of this program is {}, and versions before 3.51.3 can lose commits when several processes use one file",
            dotted(version)
        ),
        remedy: "build it with libsqlite3-sys 0.37 or newer, bundled".to_owned(),
    })
}

#[cfg(feature = "sqlite")]
fn dotted(version: i32) -> String {
    format!(
        "{}.{}.{}",
        version / 1_000_000,
        version / 1_000 % 1_000,
        version % 1_000
    )
}

/// Refuses a server that is too old.
pub(crate) async fn server(database: &Database) -> Result<(), StoreError> {
    let sql = match database.kind() {
        Kind::Sqlite => "SELECT sqlite_version()",
        Kind::Postgres => "SELECT current_setting('server_version')",
        Kind::MySql => "SELECT CAST(VERSION() AS CHAR)",
    };
    let mut rows = database.fetch(sql, &[], &Access::NONE).await?;
    let text = rows.first_mut().and_then(|row| row.text(0));
    server_is_new_enough(database.name(), database.kind(), &text.unwrap_or_default())
}

/// What a server says of its version decides. Pure.
fn server_is_new_enough(database: &str, kind: Kind, version: &str) -> Result<(), StoreError> {
    let (name, min) = match kind {
        Kind::Sqlite => ("SQLite", (3, 51, 3)),
        Kind::Postgres => ("PostgreSQL", (13, 0, 0)),
        Kind::MySql if version.contains("MariaDB") => ("MariaDB", (10, 6, 0)),
        // CHECK constraints and defaults that are expressions.
        Kind::MySql => ("MySQL", (8, 0, 16)),
    };
    if version_of(version) >= min {
        return Ok(());
    }
    Err(StoreError::ShapeWrong {
        subject: database.to_owned(),
        fault: format!("it is {name} {version}"),
        remedy: format!("use {name} {}.{}.{} or newer", min.0, min.1, min.2),
    })
}

/// The first three numbers of a version; `5.5.5-10.11.19-MariaDB` is how old clients were told 10.11.
fn version_of(text: &str) -> (u32, u32, u32) {
    let text = text.strip_prefix("5.5.5-").unwrap_or(text);
    let mut numbers = text
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version_of("15.18 (Debian 15.18-0+deb12u1)"), (15, 18, 0));
        assert_eq!(version_of("5.5.5-10.11.19-MariaDB"), (10, 11, 19));
        assert!(version_of("8.0.4") < (8, 0, 16));
    }

    #[test]
    fn a_server_that_is_too_old_is_refused_with_the_version_that_is_not() {
        for (kind, version, newer) in [
            (Kind::Sqlite, "3.51.2", "SQLite 3.51.3"),
            (
                Kind::Postgres,
                "12.22 (Debian 12.22-1)",
                "PostgreSQL 13.0.0",
            ),
            (Kind::MySql, "10.5.29-MariaDB", "MariaDB 10.6.0"),
            (Kind::MySql, "5.5.5-10.5.29-MariaDB-log", "MariaDB 10.6.0"),
            (Kind::MySql, "8.0.15", "MySQL 8.0.16"),
            (Kind::MySql, "5.7.44-log", "MySQL 8.0.16"),
            (Kind::Postgres, "", "PostgreSQL 13.0.0"),
        ] {
            let error = server_is_new_enough("the shop", kind, version).unwrap_err();

            assert_eq!(error.code().as_str(), "TD0074", "{error}");
            let text = error.to_string();
            for said in ["the shop", version, newer] {
                assert!(text.contains(said), "{said:?}: {text}");
            }
        }
        for (kind, version) in [
            (Kind::Sqlite, "3.51.3"),
            (Kind::Postgres, "13.0"),
            (Kind::Postgres, "18beta1"),
            (Kind::MySql, "10.6.0-MariaDB"),
            (Kind::MySql, "5.5.5-11.4.2-MariaDB-log"),
            (Kind::MySql, "8.0.16"),
            (Kind::MySql, "9.1.0-commercial"),
        ] {
            server_is_new_enough("the shop", kind, version).unwrap();
        }
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_sqlite_that_can_lose_commits_is_refused() {
        let error = sqlite_version_is_safe("sqlite:a.db", 3_051_002).unwrap_err();

        assert!(error.to_string().contains("3.51.2"), "{error}");
        sqlite_version_is_safe("sqlite:a.db", 3_051_003).unwrap();
    }
}

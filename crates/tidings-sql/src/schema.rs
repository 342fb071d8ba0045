//! The tables: as text for migrations of your own, and made here where an application wants that.

use crate::database::{Database, answered};
use crate::dialect::{Dialect, Kind, Migration};
use crate::driver::{Bind, Connection};
use crate::error::{Access, Moment, store_error};
use crate::statement::Statement;
use crate::store::Shape;
use tidings_core::limits::{SQL_CHANGE_IDLE_MAX, SQL_LOCK_TIMEOUT, SQL_MIGRATION_TIMEOUT};
use tidings_core::store::StoreError;

/// Which tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// The outbox that applications write into, and on PostgreSQL the function `tidings_publish`.
    Outbox,
    /// The inbox of consumers.
    Inbox,
    /// What a relay keeps beside an outbox.
    Relay,
    /// What groups could not handle yet: parked deliveries, attempts, dead letters, and what persons decided.
    Failure,
    /// Events that are published later.
    Schedule,
    /// What watchers of alerting keep.
    Alert,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 6] = [
        Self::Outbox,
        Self::Inbox,
        Self::Relay,
        Self::Failure,
        Self::Schedule,
        Self::Alert,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Inbox => "inbox",
            Self::Relay => "relay",
            Self::Failure => "failure",
            Self::Schedule => "schedule",
            Self::Alert => "alert",
        }
    }
}

const MAKE_VERSIONS: &str = include_str!("../sql/make_versions.sql");
const READ_VERSION: &str = "SELECT version FROM tidings_schema WHERE part = :part";
const INSERT_VERSION: &str = "INSERT INTO tidings_schema (part, version) VALUES (:part, :version)";
const UPDATE_VERSION: &str =
    "UPDATE tidings_schema SET version = :version WHERE part = :part AND version < :version";

/// The statements that make the tables of a part in a database, for migrations of your own: they may run again without harm.
///
/// `None` where this program was built without the database.
pub fn ddl(kind: Kind, part: Part) -> Option<String> {
    let dialect = dialect_of(kind)?;
    let scripts: Vec<&str> = steps(dialect, part).map(|step| step.script).collect();
    Some(scripts.join("\n"))
}

/// The statements that make a table in a shape that is not ours, for services that know it already: the seed's or Debezium's. Ours is [`ddl`].
///
/// The seed's has columns for key, correlation and source beside its own; a writer may leave them out. Debezium's has a number beside its UUID, which the relay
/// orders by: name it as `order` in the [mapping](crate::ColumnMapping).
pub fn foreign_ddl(kind: Kind, shape: Shape) -> &'static str {
    match (kind, shape) {
        (Kind::Sqlite, Shape::Debezium) => include_str!("../sql/sqlite/foreign_debezium.sql"),
        (Kind::Postgres, Shape::Debezium) => include_str!("../sql/postgres/foreign_debezium.sql"),
        (Kind::MySql, Shape::Debezium) => include_str!("../sql/mysql/foreign_debezium.sql"),
        (Kind::Sqlite, Shape::Seed | Shape::Tidings) => {
            include_str!("../sql/sqlite/foreign_seed.sql")
        }
        (Kind::Postgres, Shape::Seed | Shape::Tidings) => {
            include_str!("../sql/postgres/foreign_seed.sql")
        }
        (Kind::MySql, Shape::Seed | Shape::Tidings) => {
            include_str!("../sql/mysql/foreign_seed.sql")
        }
    }
}

fn dialect_of(kind: Kind) -> Option<&'static Dialect> {
    match kind {
        #[cfg(feature = "sqlite")]
        Kind::Sqlite => Some(&crate::dialect::SQLITE),
        #[cfg(feature = "postgres")]
        Kind::Postgres => Some(&crate::dialect::POSTGRES),
        #[cfg(feature = "mysql")]
        Kind::MySql => Some(&crate::dialect::MYSQL),
        #[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mysql")))]
        _ => None,
    }
}

fn steps(dialect: &Dialect, part: Part) -> impl Iterator<Item = &'static Migration> {
    dialect
        .schema
        .iter()
        .filter(move |step| step.part == part.name())
}

/// Makes the tables of the parts, or brings them to the newest version known here. What is there already stays.
///
/// **Guarantee**: two processes may migrate at the same time. On SQLite and PostgreSQL a step happens whole or not at all; on MySQL and MariaDB, which commit
/// each statement, a step that broke off is finished by running it again.
///
/// **Errors**: [`StoreError::SchemaNewer`] before anything is changed; [`StoreError::PrivilegeMissing`] with the GRANT.
pub async fn migrate(database: &Database, parts: &[Part]) -> Result<(), StoreError> {
    for part in parts {
        if supported(database, *part) == installed(database, *part).await? {
            continue;
        }
        migrate_part(database, *part).await?;
    }
    Ok(())
}

/// The version of the tables of a part that this program makes and knows.
pub(crate) fn supported(database: &Database, part: Part) -> i64 {
    steps(database.dialect(), part)
        .map(|step| step.version)
        .max()
        .unwrap_or(0)
}

/// The version of the tables of a part that is there; zero where [`migrate`] never made them.
///
/// Whatever is opened or made comes by here, so that the server is looked at too.
///
/// **Errors**: [`StoreError::SchemaNewer`]; [`StoreError::ShapeWrong`] where the server is too old.
pub(crate) async fn installed(database: &Database, part: Part) -> Result<i64, StoreError> {
    database.verified().await?;
    let read = Statement::new(database.dialect(), READ_VERSION, &[]);
    let binds = read.binds(&[("part", Bind::text(part.name()))]);
    let found = match database.fetch(read.sql(), &binds, &access()).await {
        Ok(rows) => rows.first().and_then(|row| row.int(0)).unwrap_or(0),
        // Nothing was ever made here; or it may not be read, and then it is not ours to judge.
        Err(StoreError::TableMissing { .. } | StoreError::PrivilegeMissing { .. }) => 0,
        Err(error) => return Err(error),
    };
    let supported = supported(database, part);
    if found > supported {
        return Err(StoreError::SchemaNewer {
            database: database.name().to_owned(),
            found,
            supported,
        });
    }
    Ok(found)
}

fn access() -> Access<'static> {
    Access {
        table: "tidings_schema",
        privileges: "SELECT, INSERT, UPDATE",
        remedy: "tidings outbox migrate",
    }
}

async fn migrate_part(database: &Database, part: Part) -> Result<(), StoreError> {
    let mut held = database.acquire().await?;
    let limit = database.answer_timeout().map(|_| SQL_MIGRATION_TIMEOUT);
    let done = answered(limit, run_steps(database, &mut held.connection(), part)).await;
    if done.is_err() {
        // The error is what counts; a connection that cannot even roll back is thrown away.
        let mut connection = held.connection();
        let rolled_back = connection.run_script("ROLLBACK");
        let rolled_back = answered(database.answer_timeout(), rolled_back).await;
        held.used(rolled_back.err().as_ref());
    }
    done.map_err(|error| store_error(database, &error, Moment::Changing, &access()))
}

/// Begins what is made as one where the database can; one process at a time makes tables, and those who come meanwhile wait for it.
async fn begin(kind: Kind, connection: &mut Connection<'_>) -> Result<(), sqlx::Error> {
    match kind {
        Kind::Sqlite => connection.run_script("BEGIN IMMEDIATE").await,
        Kind::Postgres => {
            let begin = format!(
                "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL lock_timeout = {}; SELECT pg_advisory_xact_lock(8424137301); SET LOCAL lock_timeout = {}",
                SQL_CHANGE_IDLE_MAX.as_millis(),
                SQL_MIGRATION_TIMEOUT.as_millis(),
                SQL_LOCK_TIMEOUT.as_millis()
            );
            connection.run_script(&begin).await
        }
        // It commits each change of a table by itself.
        Kind::MySql => Ok(()),
    }
}

async fn run_steps(
    database: &Database,
    connection: &mut Connection<'_>,
    part: Part,
) -> Result<(), sqlx::Error> {
    let dialect = database.dialect();
    begin(dialect.kind, connection).await?;
    connection.run_script(MAKE_VERSIONS).await?;
    let read = Statement::new(dialect, READ_VERSION, &[]);
    let binds = read.binds(&[("part", Bind::text(part.name()))]);
    let found = connection.fetch(read.sql(), &binds).await?;
    let found = found.first().and_then(|row| row.int(0));
    for step in steps(dialect, part).filter(|step| step.version > found.unwrap_or(0)) {
        connection.run_script(step.script).await?;
    }
    let write = if found.is_some() {
        UPDATE_VERSION
    } else {
        INSERT_VERSION
    };
    let write = Statement::new(dialect, write, &[]);
    let version = Bind::Int(supported(database, part));
    let binds = write.binds(&[("part", Bind::text(part.name())), ("version", version)]);
    match connection.execute(write.sql(), &binds).await {
        // MySQL has no transaction around this: another process has just done the same.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
        other => {
            other?;
        }
    }
    connection.run_script("COMMIT").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_has_the_same_parts_in_the_same_versions() {
        let versions = |dialect: &Dialect| {
            let steps = dialect.schema.iter();
            steps
                .map(|step| (step.part, step.version))
                .collect::<Vec<_>>()
        };

        let sqlite = versions(&crate::dialect::SQLITE);
        assert_eq!(sqlite, versions(&crate::dialect::POSTGRES));
        assert_eq!(sqlite, versions(&crate::dialect::MYSQL));
    }
}

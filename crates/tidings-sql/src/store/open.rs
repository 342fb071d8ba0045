//! Opening an outbox: what its table must be like, and what is refused before any damage.

use super::columns::{self, ColumnMapping, Columns, IdKind, Shape};
use super::statements::{Statements, Table, quoted, quoted_table};
use super::{SqlOutbox, watch, zone};
use crate::database::Database;
use crate::dialect::Kind;
use crate::driver::Bind;
use crate::error::Access;
use crate::schema::{self, Part};
use crate::statement::Statement;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tidings_core::event_id;
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::{Settlement, StoreError};

/// Which table an outbox is, and how it is relayed.
#[derive(Debug, Clone)]
pub struct OutboxOptions {
    /// The table, with its schema where it is not found without.
    pub table: String,
    /// Its shape; found out where absent.
    pub shape: Option<Shape>,
    /// Which column means what, where names differ.
    pub mapping: ColumnMapping,
    /// What becomes of sent rows: by default ours and Debezium's are deleted, the seed's are marked.
    pub settlement: Option<Settlement>,
    /// Order is not promised: needed for a table whose rows nothing puts in order.
    pub unordered: bool,
    /// Where leases and notes are, if not beside the rows. A SQLite file declares a single relay.
    pub state: Option<Database>,
    /// What is done where the tables of the relay are missing.
    pub relay_tables: RelayTables,
    /// Whether to listen for hints of other processes; PostgreSQL only.
    pub listen: bool,
    /// Only our own facts, whose types begin with `tidings.`, are relayed, under a lease of its own; a relay of all rows goes first, and this one waits while there is one.
    pub facts_only: bool,
}

/// What is done where the tables that a relay keeps are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayTables {
    /// They are made, if that is allowed.
    Make,
    /// Opening fails, with the command that makes them.
    Need,
    /// No relay has worked on the outbox yet, so that nothing is noted of any row: for one look at it, which does not see tables that are made later.
    Spare,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            table: "outbox".to_owned(),
            shape: None,
            mapping: ColumnMapping::default(),
            settlement: None,
            unordered: false,
            state: None,
            relay_tables: RelayTables::Make,
            listen: false,
            facts_only: false,
        }
    }
}

impl SqlOutbox {
    /// Opens an outbox for its relay.
    ///
    /// **Errors**: everything under which events would be lost, inverted or stuck is refused here, before a row is touched: a missing table or column, a
    /// missing privilege with its GRANT, ids that are handed out in blocks, ids that SQLite gives twice, an isolation level that would block producers, tables
    /// of a newer program, a server that is too old.
    pub async fn open(
        database: Database,
        options: OutboxOptions,
        clock: Arc<dyn Clock>,
        chance: &dyn Chance,
    ) -> Result<Self, StoreError> {
        check_name(&options.table)?;
        database.verified().await?;
        let (columns, id_kind) = columns_of(&database, &options).await?;
        if columns.shape == Shape::Tidings {
            schema::installed(&database, Part::Outbox).await?;
        }
        check_order(&database, &options, &columns, id_kind).await?;
        check_session(&database, &options).await?;
        let settlement = settlement_of(&options, &columns)?;
        check_privileges(&database, &options.table, &columns, settlement).await?;
        let is_state_beside = options.state.is_none();
        let state = options.state.clone().unwrap_or_else(|| database.clone());
        let is_relayed = check_relay_tables(&state, options.relay_tables).await?;
        let name = format!("{}#{}", database.name(), options.table);
        let key = match is_state_beside {
            true => options.table.clone(),
            false => name.clone(),
        };
        let lease_key = lease_key(&key, options.facts_only);
        let identity = match is_relayed {
            true => identity(&state, &key, &*clock, chance).await?,
            false => String::new(),
        };
        let ids_tell_order = id_kind == IdKind::Number && columns.order.is_none();
        let statements = Statements::new(&Table {
            dialect: database.dialect(),
            name: &options.table,
            columns: &columns,
            id_kind,
            ids_tell_order,
            settlement,
            joins_notes: is_relayed && is_state_beside,
            state: state.dialect(),
            facts_only: options.facts_only,
        });
        let watcher = watch::Watcher::new(&database, options.listen);
        Ok(Self {
            database,
            state,
            is_state_beside,
            is_relayed,
            name,
            key,
            lease_key,
            identity,
            table: options.table,
            shape: columns.shape,
            id_kind,
            ids_tell_order,
            is_ordered: !options.unordered,
            settlement,
            can_mark: columns.sent.is_some(),
            statements,
            default_source: options.mapping.default_source,
            default_content_type: options.mapping.default_content_type,
            // A relay before this one may have left some.
            has_failures: AtomicBool::new(true),
            clock,
            watcher,
        })
    }
}

/// What each column of the table means, and what its rows are known by.
async fn columns_of(
    database: &Database,
    options: &OutboxOptions,
) -> Result<(Columns, IdKind), StoreError> {
    let described = columns::columns_of(database, &options.table).await?;
    if described.is_empty() {
        return Err(StoreError::TableMissing {
            table: options.table.clone(),
            database: database.name().to_owned(),
            remedy: "tidings outbox migrate, or name the table".to_owned(),
        });
    }
    let (table, mapping) = (&options.table, &options.mapping);
    let (mut columns, id_kind) = columns::understand(table, &described, options.shape, mapping)?;
    columns.created_at_zone = zone::of_mapping(database, table, mapping, &columns).await?;
    Ok((columns, id_kind))
}

/// How the sidecar tables call the right to relay an outbox.
fn lease_key(key: &str, facts_only: bool) -> String {
    match facts_only {
        true => format!("{key} (facts)"),
        false => key.to_owned(),
    }
}

pub(super) fn settlement_of(
    options: &OutboxOptions,
    columns: &Columns,
) -> Result<Settlement, StoreError> {
    let usual = match columns.shape {
        Shape::Tidings | Shape::Debezium => Settlement::Delete,
        Shape::Seed => Settlement::Mark,
    };
    let settlement = options.settlement.unwrap_or(usual);
    if columns.shape == Shape::Seed && settlement == Settlement::Delete {
        return Err(StoreError::Refused {
            reason: format!(
                "rows of {} are not deleted, because somebody else made the table; mark them as sent",
                options.table
            ),
        });
    }
    if settlement == Settlement::Mark && columns.sent.is_none() && options.state.is_some() {
        // Notes in another database cannot be joined with rows: each read would have to be told of every row that was ever sent.
        return Err(StoreError::Refused {
            reason: format!(
                "rows of {} cannot be marked as sent: the table has no column for it, and the state of the relay is in another database; keep the state beside the rows, name a column as `sent` in the mapping of tidings.toml, or let sent rows be deleted",
                options.table
            ),
        });
    }
    Ok(settlement)
}

/// A name is put into statements in quotes; it may be anything that a person would call a table.
pub(crate) fn check_name(table: &str) -> Result<(), StoreError> {
    let is_word = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.chars().all(|letter| {
                letter.is_alphanumeric() || letter == '_' || letter == '$' || letter == '-'
            })
    };
    let mut parts = table.split('.');
    let is_name = parts.clone().count() <= 2 && parts.all(is_word);
    if is_name {
        return Ok(());
    }
    Err(StoreError::Refused {
        reason: format!(
            "{table:?} is no name of a table; write TABLE or SCHEMA.TABLE with letters, digits, _, $ and -"
        ),
    })
}

pub(super) async fn check_order(
    database: &Database,
    options: &OutboxOptions,
    columns: &Columns,
    id_kind: IdKind,
) -> Result<(), StoreError> {
    if id_kind != IdKind::Number && columns.order.is_none() && !options.unordered {
        return Err(StoreError::ShapeWrong {
            subject: format!("the table {}", options.table),
            fault: "its ids are UUIDs, which do not tell the order in which rows were written".to_owned(),
            remedy: "name a column that does as `order` in the mapping of tidings.toml, or say `unordered`".to_owned(),
        });
    }
    match database.kind() {
        Kind::Sqlite if id_kind == IdKind::Number => {
            check_autoincrement(database, &options.table, columns.shape).await
        }
        Kind::Postgres if !options.unordered => {
            let order = columns.order.as_ref().unwrap_or(&columns.id);
            check_sequence(database, &options.table, &order.name).await
        }
        Kind::Sqlite | Kind::Postgres | Kind::MySql => Ok(()),
    }
}

async fn check_autoincrement(
    database: &Database,
    table: &str,
    shape: Shape,
) -> Result<(), StoreError> {
    let sql = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?1";
    let bare = table.rsplit('.').next().unwrap_or(table);
    let mut rows = database
        .fetch(sql, &[Bind::text(bare)], &Access::NONE)
        .await?;
    let statement = rows.first_mut().and_then(|row| row.text(0));
    // SQLite keeps the statement with its comments, which may speak of it.
    let is_counted_up = statement.unwrap_or_default().lines().any(|line| {
        let code = line.split("--").next().unwrap_or_default();
        code.to_ascii_uppercase().contains("AUTOINCREMENT")
    });
    if is_counted_up {
        return Ok(());
    }
    if shape == Shape::Seed {
        // Its rows stay, so that an id comes back only if its owner deletes the newest row.
        tracing::warn!(
            table,
            "the ids of this table can come back after rows were deleted; make its id INTEGER PRIMARY KEY AUTOINCREMENT"
        );
        return Ok(());
    }
    Err(StoreError::ShapeWrong {
        subject: format!("the id of {table}"),
        fault: "SQLite gives the id of a deleted row to the next one".to_owned(),
        remedy: "make it INTEGER PRIMARY KEY AUTOINCREMENT: tidings outbox ddl".to_owned(),
    })
}

/// Looks at the sequence that fills the column by which rows are ordered, if one does.
async fn check_sequence(database: &Database, table: &str, column: &str) -> Result<(), StoreError> {
    let dialect = database.dialect();
    let template = include_str!("../../sql/postgres/sequence.sql");
    let ask = Statement::new(dialect, template, &[]);
    let binds = ask.binds(&[
        ("table", Bind::text(quoted_table(dialect, table))),
        ("column", Bind::text(column)),
    ]);
    let mut rows = database.fetch(ask.sql(), &binds, &Access::NONE).await?;
    let Some(row) = rows.first_mut() else {
        return Ok(());
    };
    let sequence = row.text(0).unwrap_or_default();
    let (cache, increment) = (row.count(1), row.int(2).unwrap_or(1));
    let (fault, remedy) = if cache > 1 {
        let fault = format!(
            "it hands out {cache} numbers at a time to each session, so that a later event of one key can have the smaller {column}"
        );
        (fault, format!("ALTER SEQUENCE {sequence} CACHE 1"))
    } else {
        let fault =
            format!("it counts by {increment}, so that a later event has the smaller {column}");
        (
            fault,
            format!("let {sequence} count up in a table of its own"),
        )
    };
    Err(StoreError::ShapeWrong {
        subject: format!("the sequence {sequence} of {table}"),
        fault,
        remedy: format!("{remedy}; or say `unordered`"),
    })
}

pub(super) async fn check_session(
    database: &Database,
    options: &OutboxOptions,
) -> Result<(), StoreError> {
    if database.kind() != Kind::MySql {
        return Ok(());
    }
    let sql = "SHOW VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation')";
    refuse_settings(database, sql, |_, value| {
        (value == "REPEATABLE-READ" || value == "SERIALIZABLE").then_some(
            "under it a relay would block the inserts of producers: SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED on its connections",
        )
    })
    .await?;
    check_multi_node(database, options).await
}

/// Whether several nodes hand out the ids of a table whose order is promised.
pub(super) async fn check_multi_node(
    database: &Database,
    options: &OutboxOptions,
) -> Result<(), StoreError> {
    if database.kind() != Kind::MySql || options.unordered {
        return Ok(());
    }
    let sql = "SHOW VARIABLES WHERE Variable_name IN ('auto_increment_increment', 'wsrep_on')";
    refuse_settings(database, sql, |name, value| {
        let is_wrong = match name {
            "wsrep_on" => value == "ON",
            _ => value != "1",
        };
        is_wrong.then_some(
            "ids of several nodes are not in the order of writing: let one node write this outbox and set auto_increment_increment to 1, or say `unordered`",
        )
    })
    .await
}

/// Refuses the first setting for which there is a way out to tell.
async fn refuse_settings(
    database: &Database,
    sql: &str,
    remedy: impl Fn(&str, &str) -> Option<&'static str>,
) -> Result<(), StoreError> {
    let mut rows = database.fetch(sql, &[], &Access::NONE).await?;
    for row in &mut rows {
        let name = row.text(0).unwrap_or_default();
        let value = row.text(1).unwrap_or_default();
        if let Some(remedy) = remedy(&name, &value) {
            return Err(StoreError::ShapeWrong {
                subject: format!("the session of {}", database.name()),
                fault: format!("{name} is {value}"),
                remedy: remedy.to_owned(),
            });
        }
    }
    Ok(())
}

/// Tries what the relay will do, on no row.
async fn check_privileges(
    database: &Database,
    table: &str,
    columns: &Columns,
    settlement: Settlement,
) -> Result<(), StoreError> {
    may_read(database, table).await?;
    may_settle(database, table, columns, settlement).await
}

/// Whether rows may be read.
pub(super) async fn may_read(database: &Database, table: &str) -> Result<(), StoreError> {
    let name = quoted_table(database.dialect(), table);
    let select = format!("SELECT COUNT(*) FROM {name} WHERE 1 = 0");
    let access = table_access(table, "SELECT");
    database.fetch(&select, &[], &access).await.map(drop)
}

/// Whether rows may be settled.
pub(super) async fn may_settle(
    database: &Database,
    table: &str,
    columns: &Columns,
    settlement: Settlement,
) -> Result<(), StoreError> {
    let dialect = database.dialect();
    let name = quoted_table(dialect, table);
    let (sql, privileges) = match (settlement, &columns.sent) {
        (Settlement::Delete, _) => {
            let delete = format!("DELETE FROM {name} WHERE 1 = 0");
            (delete, "SELECT, DELETE")
        }
        (Settlement::Mark, Some(sent)) => {
            let sent = quoted(dialect, &sent.name);
            let mark = format!("UPDATE {name} SET {sent} = {sent} WHERE 1 = 0");
            (mark, "SELECT, UPDATE")
        }
        (Settlement::Mark, None) => return Ok(()),
    };
    let access = table_access(table, privileges);
    database.change(&sql, &[], &access).await.map(drop)
}

fn table_access<'a>(table: &'a str, privileges: &'a str) -> Access<'a> {
    Access {
        table,
        privileges,
        remedy: "tidings outbox migrate",
    }
}

/// The tables that a relay keeps beside an outbox.
pub(super) const RELAY_TABLES: [&str; 3] = [
    "tidings_relay_outbox",
    "tidings_relay_lease",
    "tidings_relay_note",
];

pub(super) fn relay_access() -> Access<'static> {
    Access {
        table: "tidings_relay_lease",
        privileges: "SELECT, INSERT, UPDATE, DELETE",
        remedy: "tidings relay init",
    }
}

/// Answers whether they are there.
async fn check_relay_tables(state: &Database, tables: RelayTables) -> Result<bool, StoreError> {
    let access = relay_access();
    let newest = schema::supported(state, Part::Relay);
    let installed = schema::installed(state, Part::Relay).await?;
    if installed != newest && tables == RelayTables::Make {
        match schema::migrate(state, &[Part::Relay]).await {
            // Somebody else made them, and this user may use them alone.
            Err(StoreError::PrivilegeMissing { reason, grant }) => {
                let there = state
                    .fetch(
                        "SELECT COUNT(*) FROM tidings_relay_lease WHERE 1 = 0",
                        &[],
                        &access,
                    )
                    .await;
                if there.is_err() {
                    return Err(StoreError::PrivilegeMissing { reason, grant });
                }
            }
            other => other?,
        }
    }
    for table in RELAY_TABLES {
        let sql = format!("DELETE FROM {table} WHERE 1 = 0");
        match state.change(&sql, &[], &Access { table, ..access }).await {
            Err(StoreError::TableMissing { .. }) if tables == RelayTables::Spare => {
                return Ok(false);
            }
            tried => tried?,
        };
    }
    Ok(true)
}

/// The random identity of an outbox; the first who opens it draws it.
async fn identity(
    state: &Database,
    key: &str,
    clock: &dyn Clock,
    chance: &dyn Chance,
) -> Result<String, StoreError> {
    let access = Access {
        table: "tidings_relay_outbox",
        ..relay_access()
    };
    let read = Statement::new(
        state.dialect(),
        "SELECT identity FROM tidings_relay_outbox WHERE outbox = :outbox",
        &[],
    );
    let insert = Statement::new(
        state.dialect(),
        "INSERT INTO tidings_relay_outbox (outbox, identity) VALUES (:outbox, :identity)",
        &[],
    );
    for _ in 0..2 {
        let binds = read.binds(&[("outbox", Bind::text(key))]);
        let mut rows = state.fetch(read.sql(), &binds, &access).await?;
        if let Some(identity) = rows.first_mut().and_then(|row| row.text(0)) {
            return Ok(identity);
        }
        let drawn = event_id::fresh(clock, chance);
        let binds = insert.binds(&[("outbox", Bind::text(key)), ("identity", Bind::text(drawn))]);
        match state.change(insert.sql(), &binds, &access).await {
            // Another relay was first; its identity is read in the next round.
            Ok(_) | Err(StoreError::Database { .. } | StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Conflict {
        reason: "the identity of the outbox was removed while it was read".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_tables_come_into_statements() {
        for good in ["outbox", "shop.outbox", "Bestellungen_2$"] {
            check_name(good).unwrap();
        }
        for bad in [
            "",
            "a.b.c",
            "outbox; DROP TABLE orders",
            "\"outbox\"",
            "a b",
            ".",
        ] {
            let error = check_name(bad).unwrap_err();
            assert_eq!(error.code().as_str(), "TD0078", "{bad}");
        }
    }
}

//! A look at everything that a relay needs of a database, which changes nothing and does not stop at the first thing that is wrong.

use super::columns::{self, Columns, IdKind, Shape};
use super::open::{
    OutboxOptions, RELAY_TABLES, check_name, check_order, check_session, may_read, may_settle,
    relay_access, settlement_of,
};
use super::zone;
use crate::database::Database;
use crate::dialect::Kind;
use crate::error::{Access, grantee};
use crate::schema::{self, Part};
use tidings_core::store::{Settlement, StoreError};

/// One thing that a relay needs, and how it stands.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// What was looked at.
    pub subject: &'static str,
    /// How it stands, or what is wrong with it and the way out.
    pub result: Result<String, StoreError>,
}

/// The shape of a table; `None` where there is no table of that name.
///
/// **Errors**: [`StoreError::ShapeWrong`] where it is no outbox in any shape, which names the columns that are missing.
///
/// **Cancel**: no effect.
pub async fn shape_of(database: &Database, table: &str) -> Result<Option<Shape>, StoreError> {
    check_name(table)?;
    let described = columns::columns_of(database, table).await?;
    if described.is_empty() {
        return Ok(None);
    }
    let mapping = columns::ColumnMapping::default();
    let (columns, _) = columns::understand(table, &described, None, &mapping)?;
    Ok(Some(columns.shape))
}

/// Looks at the table, its columns, the order of its rows, the session and each privilege.
///
/// **Guarantee**: nothing is made and no row is touched.
///
/// **Cancel**: no effect.
pub async fn inspect(database: &Database, options: &OutboxOptions) -> Vec<Inspection> {
    let mut found = Vec::new();
    let table = table(database, options).await;
    let understood = table.as_ref().ok().cloned();
    note(
        &mut found,
        "table",
        table.map(|(columns, _)| shaped(database.kind(), options, &columns)),
    );
    let session = check_session(database, options).await;
    note(
        &mut found,
        "session",
        session.map(|()| "order is kept, nobody is blocked".to_owned()),
    );
    if let Some((columns, id_kind)) = understood {
        let order = check_order(database, options, &columns, id_kind).await;
        note(
            &mut found,
            "order",
            order.map(|()| order_of(options, &columns, id_kind)),
        );
        privileges(&mut found, database, options, &columns).await;
    }
    found
}

/// Looks at the tables that a relay keeps, which are made by the first relay, if it may; each that is there is tried.
///
/// **Guarantee**, **Cancel**: as [`inspect`].
pub async fn inspect_relay_tables(state: &Database) -> Vec<Inspection> {
    let mut found = Vec::new();
    if let Err(error) = schema::installed(state, Part::Relay).await {
        note(&mut found, "relay tables", Err(error));
        return found;
    }
    for table in RELAY_TABLES {
        let sql = format!("DELETE FROM {table} WHERE 1 = 0");
        let access = Access {
            table,
            ..relay_access()
        };
        let result = match state.change(&sql, &[], &access).await {
            Ok(_) => Ok("allowed".to_owned()),
            Err(StoreError::TableMissing { .. }) => match may_make(state).await {
                Ok(()) => Ok("not there yet; the relay makes it".to_owned()),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        note(&mut found, table, result);
    }
    found
}

fn note(found: &mut Vec<Inspection>, subject: &'static str, result: Result<String, StoreError>) {
    found.push(Inspection { subject, result });
}

async fn table(
    database: &Database,
    options: &OutboxOptions,
) -> Result<(Columns, IdKind), StoreError> {
    check_name(&options.table)?;
    let described = columns::columns_of(database, &options.table).await?;
    if described.is_empty() {
        return Err(StoreError::TableMissing {
            table: options.table.clone(),
            database: database.name().to_owned(),
            remedy: match database.kind() {
                // MySQL shows a table only to who has a privilege on it.
                Kind::MySql => "tidings outbox migrate, name the table, or grant SELECT on it",
                Kind::Postgres | Kind::Sqlite => "tidings outbox migrate, or name the table",
            }
            .to_owned(),
        });
    }
    let (columns, id_kind) =
        columns::understand(&options.table, &described, options.shape, &options.mapping)?;
    if columns.shape == Shape::Tidings {
        schema::installed(database, Part::Outbox).await?;
    }
    Ok((columns, id_kind))
}

fn shaped(kind: Kind, options: &OutboxOptions, columns: &Columns) -> String {
    let shape = match columns.shape {
        Shape::Tidings => "tidings",
        Shape::Seed => "seed",
        Shape::Debezium => "debezium",
    };
    let times = match (&columns.created_at, &options.mapping.created_at_zone) {
        (Some(column), Some(zone)) => format!(", {} is read in {zone}", column.name),
        (Some(column), None) if zone::is_local(kind, column) => {
            let zone = match kind {
                Kind::MySql => "the zone of the server",
                Kind::Postgres | Kind::Sqlite => "UTC",
            };
            format!(", {} is read in {zone}", column.name)
        }
        _ => String::new(),
    };
    format!("{}: shape {shape}{times}", options.table)
}

fn order_of(options: &OutboxOptions, columns: &Columns, id_kind: IdKind) -> String {
    match (&columns.order, id_kind) {
        (Some(column), _) => format!("by the column {}", column.name),
        (None, IdKind::Number) => format!("by the column {}", columns.id.name),
        (None, _) if options.unordered => "none, as was asked for".to_owned(),
        (None, _) => "none".to_owned(),
    }
}

async fn privileges(
    found: &mut Vec<Inspection>,
    database: &Database,
    options: &OutboxOptions,
    columns: &Columns,
) {
    let table = &options.table;
    let read = may_read(database, table).await;
    note(found, "read rows", read.map(|()| "allowed".to_owned()));
    let settlement = match settlement_of(options, columns) {
        Ok(settlement) => settlement,
        Err(error) => return note(found, "settle rows", Err(error)),
    };
    let settle = may_settle(database, table, columns, settlement).await;
    let how = match settlement {
        Settlement::Delete => "allowed: sent rows are deleted",
        Settlement::Mark => "allowed: sent rows are marked",
    };
    note(found, "settle rows", settle.map(|()| how.to_owned()));
}

/// Whether this user may make tables, as far as the database tells without making one.
async fn may_make(state: &Database) -> Result<(), StoreError> {
    let sql = match state.kind() {
        Kind::Sqlite => return Ok(()),
        Kind::Postgres => {
            "SELECT CAST(COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false) AS integer), current_schema()"
        }
        Kind::MySql => {
            "SELECT COUNT(*), DATABASE() FROM (SELECT 1 AS found FROM information_schema.schema_privileges WHERE privilege_type = 'CREATE' AND DATABASE() LIKE table_schema UNION ALL SELECT 1 FROM information_schema.user_privileges WHERE privilege_type = 'CREATE') AS granted"
        }
    };
    let mut rows = state.fetch(sql, &[], &Access::NONE).await?;
    let Some(row) = rows.first_mut().filter(|row| row.count(0) == 0) else {
        return Ok(());
    };
    let schema = row.text(1).unwrap_or_else(|| "public".to_owned());
    let user = grantee(state.user());
    Err(StoreError::PrivilegeMissing {
        reason: "the tables of the relay are not there, and it may not make them".to_owned(),
        grant: match state.kind() {
            Kind::Postgres => format!(
                "GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}; or, as a user who may: tidings relay init"
            ),
            Kind::MySql | Kind::Sqlite => format!(
                "GRANT CREATE ON {schema}.* TO {user}; or, as a user who may: tidings relay init"
            ),
        },
    })
}

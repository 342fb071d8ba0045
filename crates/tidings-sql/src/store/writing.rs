//! What is looked at before an application writes into an outbox: all that would fail, or lose order, at its first event.

use super::columns::{self, Shape};
use super::open::{OutboxOptions, check_multi_node, check_order, may_read};
use super::statements::quoted_table;
use crate::database::Database;
use crate::error::Access;
use crate::publish::OutboxConfig;
use crate::schema::{self, Part};
use tidings_core::store::StoreError;

/// Looks at the table of an outbox as its writer needs it; no row is written.
pub(crate) async fn check_writing(
    database: &Database,
    config: &OutboxConfig,
    access: &Access<'_>,
) -> Result<(), StoreError> {
    let table = &config.table;
    let options = OutboxOptions {
        table: table.clone(),
        unordered: config.unordered,
        ..OutboxOptions::default()
    };
    database.verified().await?;
    // Without a privilege MySQL does not show the columns: the insert tells better what is wrong.
    let inserts = try_insert(database, table, access).await;
    if let Err(StoreError::TableMissing { .. } | StoreError::PrivilegeMissing { .. }) = &inserts {
        return inserts;
    }
    let described = columns::columns_of(database, table).await?;
    let mapping = columns::ColumnMapping::default();
    let (columns, id_kind) = columns::understand(table, &described, None, &mapping)?;
    if columns.shape != Shape::Tidings {
        return Err(StoreError::ShapeWrong {
            subject: format!("the table {table}"),
            fault: "it is an outbox in the shape of somebody else, which lacks columns that are written here".to_owned(),
            remedy: "make ours under another name: tidings outbox ddl; or write into this one by SQL of your own".to_owned(),
        });
    }
    schema::installed(database, Part::Outbox).await?;
    inserts?;
    check_order(database, &options, &columns, id_kind).await?;
    check_multi_node(database, &options).await?;
    match config.unsent_max {
        Some(_) => may_read(database, table).await,
        None => Ok(()),
    }
}

/// An insert of no row asks for every privilege that a real one does.
async fn try_insert(
    database: &Database,
    table: &str,
    access: &Access<'_>,
) -> Result<(), StoreError> {
    let name = quoted_table(database.dialect(), table);
    let sql = format!(
        "INSERT INTO {name} (event_id, event_type, aggregate_id, destination, payload, payload_bytes, headers) SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM (SELECT 1 AS one) AS one_row WHERE 1 = 0"
    );
    database.change(&sql, &[], access).await.map(drop)
}

//! Statements and rows of MySQL and MariaDB.

use super::{Bind, Cell, Row};
use futures_util::TryStreamExt as _;
use sqlx::mysql::{MySqlArguments, MySqlRow};
use sqlx::query::Query;
use sqlx::{
    AssertSqlSafe, Column as _, MySql, MySqlConnection, Row as _, TypeInfo as _, ValueRef as _,
};

pub(super) async fn execute(
    connection: &mut MySqlConnection,
    sql: &str,
    binds: &[Bind],
) -> Result<u64, sqlx::Error> {
    let done = query(sql, binds).execute(connection).await?;
    Ok(done.rows_affected())
}

pub(super) async fn fetch(
    connection: &mut MySqlConnection,
    sql: &str,
    binds: &[Bind],
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = query(sql, binds).fetch_all(connection).await?;
    rows.iter().map(row).collect()
}

pub(super) async fn each(
    connection: &mut MySqlConnection,
    sql: &str,
    binds: &[Bind],
    take: &mut (dyn FnMut(Row) + Send),
) -> Result<(), sqlx::Error> {
    let mut rows = query(sql, binds).fetch(connection);
    while let Some(found) = rows.try_next().await? {
        take(row(&found)?);
    }
    Ok(())
}

fn query(sql: &str, binds: &[Bind]) -> Query<'static, MySql, MySqlArguments> {
    binds
        .iter()
        .fold(sqlx::query(AssertSqlSafe(sql)), |query, bind| match bind {
            Bind::Int(value) => query.bind(*value),
            Bind::IntOrNull(value) => query.bind(*value),
            Bind::Text(text) => query.bind(text.clone()),
            Bind::Bytes(bytes) => query.bind(bytes.clone()),
            // MySQL has no arrays; the statements for it hold none.
            Bind::TextList(_) | Bind::BytesList(_) => query.bind(None::<String>),
        })
}

fn row(row: &MySqlRow) -> Result<Row, sqlx::Error> {
    row.columns()
        .iter()
        .map(|column| {
            let index = column.ordinal();
            if row.try_get_raw(index)?.is_null() {
                return Ok(Cell::Null);
            }
            let type_name = column.type_info().name();
            Ok(if type_name.contains("UNSIGNED") {
                let value: u64 = row.try_get_unchecked(index)?;
                i64::try_from(value).map_or_else(|_| Cell::Text(value.to_string()), Cell::Int)
            } else if type_name.contains("INT") || type_name == "BOOLEAN" {
                Cell::Int(row.try_get_unchecked(index)?)
            } else if type_name.contains("BLOB") || type_name.contains("BINARY") {
                Cell::Bytes(row.try_get_unchecked(index)?)
            } else {
                // Statements cast everything else to text.
                Cell::Text(row.try_get_unchecked(index)?)
            })
        })
        .collect::<Result<Vec<Cell>, sqlx::Error>>()
        .map(Row)
}

//! Statements and rows of SQLite.

use super::{Bind, Cell, Row};
use futures_util::TryStreamExt as _;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    AssertSqlSafe, Column as _, Row as _, Sqlite, SqliteConnection, TypeInfo as _, ValueRef as _,
};

pub(super) async fn execute(
    connection: &mut SqliteConnection,
    sql: &str,
    binds: &[Bind],
) -> Result<u64, sqlx::Error> {
    let done = query(sql, binds).execute(connection).await?;
    Ok(done.rows_affected())
}

pub(super) async fn fetch(
    connection: &mut SqliteConnection,
    sql: &str,
    binds: &[Bind],
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = query(sql, binds).fetch_all(connection).await?;
    rows.iter().map(row).collect()
}

pub(super) async fn each(
    connection: &mut SqliteConnection,
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

fn query(sql: &str, binds: &[Bind]) -> Query<'static, Sqlite, SqliteArguments> {
    binds
        .iter()
        .fold(sqlx::query(AssertSqlSafe(sql)), |query, bind| match bind {
            Bind::Int(value) => query.bind(*value),
            Bind::IntOrNull(value) => query.bind(*value),
            Bind::Text(text) => query.bind(text.clone()),
            Bind::Bytes(bytes) => query.bind(bytes.clone()),
            // SQLite has no arrays; the statements for it hold none.
            Bind::TextList(_) | Bind::BytesList(_) => query.bind(None::<String>),
        })
}

fn row(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    row.columns()
        .iter()
        .map(|column| {
            let index = column.ordinal();
            let value = row.try_get_raw(index)?;
            if value.is_null() {
                return Ok(Cell::Null);
            }
            let type_name = value.type_info().name().to_owned();
            Ok(match type_name.as_str() {
                "INTEGER" | "BOOLEAN" | "INT" => Cell::Int(row.try_get_unchecked(index)?),
                "REAL" => Cell::Text(row.try_get_unchecked::<f64, _>(index)?.to_string()),
                "BLOB" => Cell::Bytes(row.try_get_unchecked(index)?),
                _ => Cell::Text(row.try_get_unchecked(index)?),
            })
        })
        .collect::<Result<Vec<Cell>, sqlx::Error>>()
        .map(Row)
}

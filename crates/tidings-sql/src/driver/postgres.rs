//! Statements and rows of PostgreSQL.

use super::{Bind, Cell, Row};
use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Column as _, PgConnection, Postgres, Row as _, TypeInfo as _};

pub(super) async fn execute(
    connection: &mut PgConnection,
    sql: &str,
    binds: &[Bind],
) -> Result<u64, sqlx::Error> {
    let done = query(sql, binds).execute(connection).await?;
    Ok(done.rows_affected())
}

pub(super) async fn fetch(
    connection: &mut PgConnection,
    sql: &str,
    binds: &[Bind],
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = query(sql, binds).fetch_all(connection).await?;
    let kinds = kinds_of(rows.first());
    rows.iter().map(|found| row(found, &kinds)).collect()
}

pub(super) async fn each(
    connection: &mut PgConnection,
    sql: &str,
    binds: &[Bind],
    take: &mut (dyn FnMut(Row) + Send),
) -> Result<(), sqlx::Error> {
    let mut rows = query(sql, binds).fetch(connection);
    let mut kinds = None;
    while let Some(found) = rows.try_next().await? {
        let kinds = kinds.get_or_insert_with(|| kinds_of(Some(&found)));
        take(row(&found, kinds)?);
    }
    Ok(())
}

fn query(sql: &str, binds: &[Bind]) -> Query<'static, Postgres, PgArguments> {
    binds
        .iter()
        .fold(sqlx::query(AssertSqlSafe(sql)), |query, bind| match bind {
            Bind::Int(value) => query.bind(*value),
            Bind::IntOrNull(value) => query.bind(*value),
            Bind::Text(text) => query.bind(text.clone()),
            Bind::Bytes(bytes) => query.bind(bytes.clone()),
            Bind::TextList(texts) => query.bind(texts.clone()),
            Bind::BytesList(list) => query.bind(list.clone()),
        })
}

/// What a column of an answer holds.
#[derive(Debug, Clone, Copy)]
enum CellKind {
    Int8,
    Int4,
    Int2,
    Bool,
    Bytes,
    Text,
}

/// The columns of an answer, which are the same in all of its rows.
fn kinds_of(row: Option<&PgRow>) -> Vec<CellKind> {
    let columns = row.map_or(&[][..], |row| row.columns());
    let kinds = columns
        .iter()
        .map(|column| match column.type_info().name() {
            "INT8" => CellKind::Int8,
            "INT4" => CellKind::Int4,
            "INT2" => CellKind::Int2,
            "BOOL" => CellKind::Bool,
            "BYTEA" => CellKind::Bytes,
            // Statements cast everything else to text.
            _ => CellKind::Text,
        });
    kinds.collect()
}

fn row(row: &PgRow, kinds: &[CellKind]) -> Result<Row, sqlx::Error> {
    let mut cells = Vec::with_capacity(kinds.len());
    for (index, kind) in kinds.iter().enumerate() {
        let cell = match kind {
            CellKind::Int8 => row
                .try_get_unchecked::<Option<i64>, _>(index)?
                .map(Cell::Int),
            CellKind::Int4 => row
                .try_get_unchecked::<Option<i32>, _>(index)?
                .map(|value| Cell::Int(value.into())),
            CellKind::Int2 => row
                .try_get_unchecked::<Option<i16>, _>(index)?
                .map(|value| Cell::Int(value.into())),
            CellKind::Bool => row
                .try_get_unchecked::<Option<bool>, _>(index)?
                .map(|value| Cell::Int(value.into())),
            CellKind::Bytes => row
                .try_get_unchecked::<Option<Vec<u8>>, _>(index)?
                .map(Cell::Bytes),
            CellKind::Text => row
                .try_get_unchecked::<Option<String>, _>(index)?
                .map(Cell::Text),
        };
        cells.push(cell.unwrap_or(Cell::Null));
    }
    Ok(Row(cells))
}

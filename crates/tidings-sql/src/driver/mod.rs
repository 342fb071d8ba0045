//! The one place that knows three drivers: a statement with its values goes in, rows of plain cells come out.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use crate::dialect::Dialect;
use tidings_core::Timestamp;

/// A value that goes into a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// A whole number.
    Int(i64),
    /// A whole number, or null. A null of another type would settle the type of the value for every later run of the same statement on PostgreSQL.
    IntOrNull(Option<i64>),
    /// A text, or null.
    Text(Option<String>),
    /// Bytes, or null.
    Bytes(Option<Vec<u8>>),
    /// An array of texts; PostgreSQL only.
    TextList(Vec<Option<String>>),
    /// An array of bytes; PostgreSQL only.
    BytesList(Vec<Option<Vec<u8>>>),
}

impl Bind {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Some(text.into()))
    }

    /// About as many bytes as it takes on its way.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Int(_) | Self::IntOrNull(_) => 8,
            Self::Text(text) => text.as_ref().map_or(0, String::len),
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
            Self::TextList(texts) => texts.iter().flatten().map(String::len).sum(),
            Self::BytesList(all) => all.iter().flatten().map(Vec::len).sum(),
        }
    }
}

/// An open connection of one of the databases, whoever holds it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Connection<'c> {
    /// SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(&'c mut sqlx::SqliteConnection),
    /// PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(&'c mut sqlx::PgConnection),
    /// MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    MySql(&'c mut sqlx::MySqlConnection),
}

impl Connection<'_> {
    pub(crate) fn dialect(&self) -> &'static Dialect {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => &crate::dialect::SQLITE,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => &crate::dialect::POSTGRES,
            #[cfg(feature = "mysql")]
            Self::MySql(_) => &crate::dialect::MYSQL,
        }
    }

    /// Runs a statement and answers how many rows it met.
    pub(crate) async fn execute(&mut self, sql: &str, binds: &[Bind]) -> Result<u64, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => sqlite::execute(connection, sql, binds).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => postgres::execute(connection, sql, binds).await,
            #[cfg(feature = "mysql")]
            Self::MySql(connection) => mysql::execute(connection, sql, binds).await,
        }
    }

    /// Runs a statement and answers its rows.
    pub(crate) async fn fetch(
        &mut self,
        sql: &str,
        binds: &[Bind],
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => sqlite::fetch(connection, sql, binds).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => postgres::fetch(connection, sql, binds).await,
            #[cfg(feature = "mysql")]
            Self::MySql(connection) => mysql::fetch(connection, sql, binds).await,
        }
    }

    /// Runs a statement and hands over its rows as they come, so that their number is no matter.
    pub(crate) async fn each(
        &mut self,
        sql: &str,
        binds: &[Bind],
        take: &mut (dyn FnMut(Row) + Send),
    ) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => sqlite::each(connection, sql, binds, take).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => postgres::each(connection, sql, binds, take).await,
            #[cfg(feature = "mysql")]
            Self::MySql(connection) => mysql::each(connection, sql, binds, take).await,
        }
    }

    /// Runs the statements of a script one after the other, without values.
    pub(crate) async fn run_script(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let script = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => script.execute(&mut **connection).await.map(drop),
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => script.execute(&mut **connection).await.map(drop),
            #[cfg(feature = "mysql")]
            Self::MySql(connection) => script.execute(&mut **connection).await.map(drop),
        }
    }
}

/// A value that came out of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// One row, its cells in the order of the statement.
#[derive(Debug)]
pub(crate) struct Row(pub(crate) Vec<Cell>);

impl Row {
    /// A whole number; `None` where the cell is null or none.
    pub(crate) fn int(&self, index: usize) -> Option<i64> {
        match self.0.get(index)? {
            Cell::Int(value) => Some(*value),
            Cell::Text(text) => text.parse().ok(),
            Cell::Null | Cell::Bytes(_) => None,
        }
    }

    /// A count or an amount; zero where the cell is null or negative.
    pub(crate) fn count(&self, index: usize) -> u64 {
        self.int(index)
            .map_or(0, |value| u64::try_from(value).unwrap_or(0))
    }

    /// Takes a text out of the row.
    pub(crate) fn text(&mut self, index: usize) -> Option<String> {
        match std::mem::replace(self.0.get_mut(index)?, Cell::Null) {
            Cell::Text(text) => Some(text),
            Cell::Int(value) => Some(value.to_string()),
            Cell::Bytes(bytes) => String::from_utf8(bytes).ok(),
            Cell::Null => None,
        }
    }

    /// Takes bytes out of the row.
    pub(crate) fn bytes(&mut self, index: usize) -> Option<Vec<u8>> {
        match std::mem::replace(self.0.get_mut(index)?, Cell::Null) {
            Cell::Text(text) => Some(text.into_bytes()),
            Cell::Bytes(bytes) => Some(bytes),
            Cell::Int(_) | Cell::Null => None,
        }
    }

    /// An instant that is given as a number since 1970. Tables of other people count seconds or milliseconds; ours and every expression of ours microseconds.
    pub(crate) fn instant(&self, index: usize) -> Option<Timestamp> {
        let given = self.int(index)?;
        let micros = match given.unsigned_abs() {
            // Until the year 5138.
            0..100_000_000_000 => given.saturating_mul(1_000_000),
            // From 1973 on.
            100_000_000_000..100_000_000_000_000 => given.saturating_mul(1_000),
            _ => given,
        };
        Some(Timestamp::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_may_count_seconds_milliseconds_or_microseconds() {
        let micros = |given| {
            let row = Row(vec![Cell::Int(given)]);
            row.instant(0).map(Timestamp::as_micros)
        };

        assert_eq!(micros(1_705_314_600), Some(1_705_314_600_000_000));
        assert_eq!(micros(1_705_314_600_123), Some(1_705_314_600_123_000));
        assert_eq!(micros(1_705_314_600_123_456), Some(1_705_314_600_123_456));
        assert_eq!(Row(vec![Cell::Null]).instant(0), None);
    }
}

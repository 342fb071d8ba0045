//! The time zone of times that do not say theirs: such a column holds what the clock of its writer's session showed.

use super::columns::{Column, ColumnMapping, Columns};
use crate::database::Database;
use crate::dialect::Kind;
use crate::error::Access;
use tidings_core::store::StoreError;

/// The largest offset of any place, to the east or to the west.
const OFFSET_HOURS_MAX: i64 = 14;

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Zone {
    /// Seconds east of UTC.
    Offset(i64),
    /// By the name that the database knows it by.
    Named(String),
}

impl Zone {
    fn parse(text: &str) -> Option<Self> {
        match text.as_bytes() {
            b"UTC" | b"Z" => Some(Self::Offset(0)),
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let number = |text: Option<&str>| text?.parse::<u8>().ok().map(i64::from);
                let (hours, minutes) = (number(text.get(1..3))?, number(text.get(4..6))?);
                let seconds = (hours * 60 + minutes) * 60;
                let is_offset = hours <= OFFSET_HOURS_MAX && minutes < 60;
                is_offset.then_some(Self::Offset(match sign {
                    b'-' => -seconds,
                    _ => seconds,
                }))
            }
            [first, rest @ ..] if first.is_ascii_alphabetic() => {
                let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"/_+-".contains(byte);
                rest.iter()
                    .all(is_of_name)
                    .then(|| Self::Named(text.to_owned()))
            }
            _ => None,
        }
    }
}

/// Whether a column of times does not say in which zone they are.
pub(super) fn is_local(kind: Kind, column: &Column) -> bool {
    let name = column.type_name.as_str();
    match kind {
        Kind::Postgres => matches!(name, "timestamp without time zone" | "date"),
        // A TIMESTAMP is kept in UTC there.
        Kind::MySql => matches!(name, "datetime" | "date"),
        Kind::Sqlite => !name.contains("int"),
    }
}

/// The zone that a mapping names for the times of a table, made sure of with the database.
///
/// **Errors**: [`StoreError::ShapeWrong`] where it is none, the database does not know it, or the times need none.
pub(super) async fn of_mapping(
    database: &Database,
    table: &str,
    mapping: &ColumnMapping,
    columns: &Columns,
) -> Result<Option<Zone>, StoreError> {
    let Some(text) = &mapping.created_at_zone else {
        return Ok(None);
    };
    let wrong = |fault: &str, remedy: &str| StoreError::ShapeWrong {
        subject: format!("created_at_zone = \"{text}\" in the mapping of {table}"),
        fault: fault.to_owned(),
        remedy: remedy.to_owned(),
    };
    let needs_one = columns
        .created_at
        .as_ref()
        .is_some_and(|column| is_local(database.kind(), column));
    if !needs_one {
        return Err(wrong(
            "the table has no column of times that leave their zone open",
            "leave it out",
        ));
    }
    let zone = Zone::parse(text).ok_or_else(|| {
        wrong(
            "it is no time zone",
            "write a name such as Europe/Berlin, or an offset such as +02:00",
        )
    })?;
    let Zone::Named(name) = &zone else {
        return Ok(Some(zone));
    };
    let known = match database.kind() {
        Kind::Sqlite => Err(wrong(
            "SQLite knows no zones by name",
            "write an offset such as +02:00",
        )),
        Kind::Postgres => {
            let ask = format!("SELECT CAST(now() AT TIME ZONE '{name}' AS text)");
            match database.fetch(&ask, &[], &Access::NONE).await {
                Err(StoreError::Database { .. }) => Ok(false),
                asked => asked.map(|_| true),
            }
        }
        Kind::MySql => {
            let ask =
                format!("SELECT CONVERT_TZ('2026-01-01 00:00:00', '{name}', '+00:00') IS NOT NULL");
            let asked = database.fetch(&ask, &[], &Access::NONE).await?;
            Ok(asked.first().and_then(|row| row.int(0)) == Some(1))
        }
    }?;
    match known {
        true => Ok(Some(zone)),
        false => Err(wrong(
            "the database does not know it",
            "correct the name, write an offset such as +02:00, or on MySQL and MariaDB load the zones (mysql_tzinfo_to_sql)",
        )),
    }
}

/// A column of times that leave their zone open, in microseconds since 1970.
pub(super) fn micros(kind: Kind, column: &str, zone: &Zone) -> String {
    match (zone, kind) {
        (Zone::Offset(seconds), _) => {
            let in_utc = micros_in_utc(kind, column);
            format!("({in_utc} - ({}))", seconds * 1_000_000)
        }
        (Zone::Named(name), Kind::Postgres) => {
            micros_in_utc(kind, &format!("{column} AT TIME ZONE '{name}'"))
        }
        (Zone::Named(name), Kind::MySql) => {
            micros_in_utc(kind, &format!("CONVERT_TZ({column}, '{name}', '+00:00')"))
        }
        // Refused where it is read.
        (Zone::Named(_), Kind::Sqlite) => micros_in_utc(kind, column),
    }
}

/// A time that is in UTC where it leaves its zone open, in microseconds since 1970.
pub(super) fn micros_in_utc(kind: Kind, time: &str) -> String {
    match kind {
        Kind::Sqlite => format!("CAST(unixepoch({time}, 'subsec') * 1000000 AS INTEGER)"),
        // As a floating number it is exact to the microsecond for two centuries, and costs half of the decimal one.
        Kind::Postgres => format!("CAST(date_part('epoch', {time}) * 1000000 AS bigint)"),
        Kind::MySql => format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', {time})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_name_or_an_offset_and_nothing_that_could_end_a_text() {
        assert_eq!(Zone::parse("+02:30"), Some(Zone::Offset(9_000)));
        assert_eq!(Zone::parse("-08:00"), Some(Zone::Offset(-28_800)));
        assert_eq!(Zone::parse("UTC"), Some(Zone::Offset(0)));
        let berlin = "Europe/Berlin";
        assert_eq!(Zone::parse(berlin), Some(Zone::Named(berlin.to_owned())));
        for wrong in ["", "+2", "+25:00", "+02:60", "2026", "x'y", "a b", "+é:00"] {
            assert_eq!(Zone::parse(wrong), None, "{wrong}");
        }
    }
}

//! The statement that puts events into an outbox: one for any number of them, in their order.

use crate::dialect::Kind;
use crate::driver::Bind;
use crate::outbox_row::Written;
use std::collections::BTreeSet;
use tidings_core::limits::{OUTBOX_INSERT_BYTES_MAX, OUTBOX_INSERT_EVENTS_MAX};

/// A statement with its values, for any driver.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Insert {
    /// The statement, with the placeholders of its database.
    pub sql: String,
    /// Its values, in the order of the placeholders.
    pub binds: Vec<Bind>,
}

/// Where events go.
pub(crate) struct Place<'a> {
    /// The table, quoted.
    pub(crate) table: &'a str,
    pub(crate) destination: &'a str,
}

/// Rows that fit into one statement each.
pub(crate) fn chunks(rows: &[Written]) -> impl Iterator<Item = &[Written]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest
            .iter()
            .take(OUTBOX_INSERT_EVENTS_MAX)
            .take_while(|row| {
                bytes += row.payload.as_ref().map_or(0, String::len)
                    + row.payload_bytes.as_ref().map_or(0, Vec::len)
                    + row.headers.len();
                bytes <= OUTBOX_INSERT_BYTES_MAX
            });
        // A single row that is larger goes alone.
        let events = fits.count().max(1).min(rest.len());
        let (chunk, after) = rest.split_at(events);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

pub(crate) fn insert(kind: Kind, place: &Place<'_>, rows: &[Written]) -> Insert {
    match (kind, rows) {
        (Kind::Postgres, [row]) => insert_one(place, row),
        (Kind::Postgres, _) => insert_lists(place, rows),
        (Kind::Sqlite | Kind::MySql, _) => insert_values(place, rows),
    }
}

fn insert_values(place: &Place<'_>, rows: &[Written]) -> Insert {
    let one = "(?, ?, ?, ?, ?, ?, ?)";
    let values = vec![one; rows.len()].join(", ");
    let binds = rows.iter().flat_map(|row| binds_of(place, row));
    Insert {
        sql: format!(
            "INSERT INTO {} (event_id, event_type, aggregate_id, destination, payload, payload_bytes, headers) VALUES {values}",
            place.table
        ),
        binds: binds.collect(),
    }
}

fn binds_of(place: &Place<'_>, row: &Written) -> [Bind; 7] {
    [
        Bind::text(row.event_id.clone()),
        Bind::text(row.event_type.clone()),
        Bind::Text(row.key.clone()),
        Bind::text(place.destination),
        Bind::Text(row.payload.clone()),
        Bind::Bytes(row.payload_bytes.clone()),
        Bind::text(row.headers.clone()),
    ]
}

/// Most transactions publish one event, and PostgreSQL runs lists through a function and a sort. The condition is that of [`insert_lists`].
fn insert_one(place: &Place<'_>, row: &Written) -> Insert {
    Insert {
        sql: include_str!("../sql/postgres/publish_one.sql").replace("{table}", place.table),
        binds: binds_of(place, row).into(),
    }
}

/// The condition draws the transaction's number before any id, so that a reader that knows the oldest open transaction knows of every id to come.
///
/// Arrays, so that the statement is the same for any number of events and is prepared once.
fn insert_lists(place: &Place<'_>, rows: &[Written]) -> Insert {
    let list = |of: fn(&Written) -> Option<String>| Bind::TextList(rows.iter().map(of).collect());
    let destinations = rows.iter().map(|_| Some(place.destination.to_owned()));
    let bytes = rows.iter().map(|row| row.payload_bytes.clone());
    Insert {
        sql: include_str!("../sql/postgres/publish.sql").replace("{table}", place.table),
        binds: vec![
            list(|row| Some(row.event_id.clone())),
            list(|row| Some(row.event_type.clone())),
            list(|row| row.key.clone()),
            Bind::TextList(destinations.collect()),
            list(|row| row.payload.clone()),
            Bind::BytesList(bytes.collect()),
            list(|row| Some(row.headers.clone())),
        ],
    }
}

/// Slots of keys on MySQL. More of them let more strangers pass each other; each is a row.
const SLOTS: u64 = 1_024;

/// The statement that makes writers of the same keys wait for each other until they commit; `None` where nothing is to be done.
///
/// Locks are taken in their order, so that two writers never wait for each other.
pub(crate) fn lock_keys(kind: Kind, rows: &[Written]) -> Option<Insert> {
    let keys: BTreeSet<&String> = rows.iter().filter_map(|row| row.key.as_ref()).collect();
    if keys.is_empty() {
        return None;
    }
    match kind {
        // There is one writer at a time.
        Kind::Sqlite => None,
        Kind::Postgres => Some(Insert {
            sql: "SELECT COUNT(pg_advisory_xact_lock(h)) FROM (SELECT DISTINCT hashtextextended(k, 7463) AS h FROM unnest(CAST($1 AS text[])) AS k ORDER BY h) AS keys".to_owned(),
            binds: vec![Bind::TextList(keys.into_iter().cloned().map(Some).collect())],
        }),
        Kind::MySql => {
            let slots: BTreeSet<i64> = keys.into_iter().map(|key| slot(key)).collect();
            let values = vec!["(?)"; slots.len()].join(", ");
            Some(Insert {
                sql: format!("INSERT INTO tidings_outbox_slot (slot) VALUES {values} ON DUPLICATE KEY UPDATE slot = slot"),
                binds: slots.into_iter().map(Bind::Int).collect(),
            })
        }
    }
}

/// FNV-1a: every process must find the same slot.
fn slot(key: &str) -> i64 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    i64::try_from(hash % SLOTS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(payload_bytes: usize) -> Written {
        Written {
            event_id: "e".into(),
            event_type: "order.placed".into(),
            key: None,
            payload: Some("x".repeat(payload_bytes)),
            payload_bytes: None,
            headers: "{}".into(),
        }
    }

    #[test]
    fn a_statement_has_a_bound_and_a_large_row_goes_alone() {
        let lengths = |rows: &[Written]| chunks(rows).map(<[_]>::len).collect::<Vec<_>>();

        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&vec![row(1); 2_500]), [1_000, 1_000, 500]);
        assert_eq!(lengths(&vec![row(3_000_000); 3]), [1, 1, 1]);
        assert_eq!(lengths(&[row(5_000_000), row(1)]), [1, 1]);
    }

    #[test]
    fn the_statement_of_postgres_is_the_same_for_any_number_but_one() {
        let place = Place {
            table: "\"outbox\"",
            destination: "",
        };

        let [one, two, three] =
            [1, 2, 3].map(|rows| insert(Kind::Postgres, &place, &vec![row(1); rows]));

        assert_eq!(two.sql, three.sql);
        for insert in [one, two] {
            let last = format!("${}", insert.binds.len());
            assert!(insert.sql.contains(&last), "{}", insert.sql);
            assert!(!insert.sql.contains([':', '{']), "{}", insert.sql);
        }
    }
}

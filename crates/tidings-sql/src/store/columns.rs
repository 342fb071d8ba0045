//! Which columns a table has, which of the known shapes that makes, and what each column means.

use super::zone::Zone;
use crate::database::Database;
use crate::dialect::Kind;
use crate::driver::Bind;
use crate::error::Access;
use crate::statement::Statement;
use serde::Deserialize;
use tidings_core::store::{RowId, StoreError};
use uuid::Uuid;

/// The shape of an outbox table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shape {
    /// Ours.
    Tidings,
    /// `id, event_type, payload, created_at, sent`, and whatever else is there.
    Seed,
    /// `id, aggregatetype, aggregateid, type, payload`, as Debezium's outbox router expects it.
    Debezium,
}

/// Which column means what, where a table's own names differ; what is not named is found by its usual name, or absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnMapping {
    /// The row's identity: a whole number or a UUID.
    pub id: Option<String>,
    /// The event type.
    pub event_type: Option<String>,
    /// The payload: JSON as text, or bytes.
    pub payload: Option<String>,
    /// When the row was written.
    pub created_at: Option<String>,
    /// In which time zone that is, where its column does not say: a name such as `Europe/Berlin` or an offset such as `+02:00`. Without it UTC, and on MySQL and MariaDB the zone of the server.
    pub created_at_zone: Option<String>,
    /// Whether the event was sent.
    pub sent: Option<String>,
    /// The event id; without it each row gets one that repeats.
    pub event_id: Option<String>,
    /// What order is kept by.
    pub aggregate_id: Option<String>,
    /// Topic or lane.
    pub destination: Option<String>,
    /// A JSON object of further attributes.
    pub headers: Option<String>,
    /// The correlation id.
    pub correlation_id: Option<String>,
    /// The causation id.
    pub causation_id: Option<String>,
    /// Who states the event.
    pub source: Option<String>,
    /// The version of the payload's schema.
    pub version: Option<String>,
    /// What the payload's bytes are.
    pub content_type: Option<String>,
    /// What rows are ordered by, where the id does not tell.
    pub order: Option<String>,
    /// Who states events whose row does not say so.
    pub default_source: Option<String>,
    /// What payloads are whose row does not say so; JSON where absent.
    pub default_content_type: Option<String>,
}

/// A column as the database describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// In lower case, without lengths.
    pub(super) type_name: String,
}

/// What each column of a table means.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) shape: Shape,
    pub(super) id: Column,
    pub(super) event_type: Column,
    pub(super) payload: Column,
    pub(super) payload_bytes: Option<Column>,
    pub(super) created_at: Option<Column>,
    /// Where the mapping names one.
    pub(super) created_at_zone: Option<Zone>,
    pub(super) sent: Option<Column>,
    pub(super) sent_at: Option<Column>,
    pub(super) event_id: Option<Column>,
    pub(super) aggregate_id: Option<Column>,
    pub(super) destination: Option<Column>,
    pub(super) headers: Option<Column>,
    pub(super) correlation_id: Option<Column>,
    pub(super) causation_id: Option<Column>,
    pub(super) source: Option<Column>,
    pub(super) version: Option<Column>,
    pub(super) content_type: Option<Column>,
    pub(super) order: Option<Column>,
}

/// What a row is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdKind {
    Number,
    /// A column of the type UUID.
    Uuid,
    /// A UUID in a text.
    Text,
}

impl IdKind {
    fn of(column: &Column) -> Option<Self> {
        let name = column.type_name.as_str();
        if name.contains("int") || name.contains("serial") {
            return Some(Self::Number);
        }
        if name == "uuid" {
            return Some(Self::Uuid);
        }
        (name.contains("char") || name.contains("text")).then_some(Self::Text)
    }

    /// Ids as a JSON array for the database. A UUID in a text may be in either case.
    pub(super) fn list(self, rows: &[RowId]) -> String {
        let mut list = String::from("[");
        for row in rows {
            if list.len() > 1 {
                list.push(',');
            }
            let text = row_text(self, *row);
            match self {
                Self::Number => list.push_str(&text),
                Self::Uuid => list.push_str(&format!("\"{text}\"")),
                Self::Text => list.push_str(&format!("\"{text}\",\"{}\"", text.to_uppercase())),
            }
        }
        list.push(']');
        list
    }

    /// Which fragment of the dialect turns such a list into rows.
    pub(super) fn fragment(self) -> &'static str {
        match self {
            Self::Number => "numbers",
            Self::Uuid => "uuids",
            Self::Text => "texts",
        }
    }
}

/// How a row is called in sidecar tables.
pub(super) fn row_text(kind: IdKind, row: RowId) -> String {
    match kind {
        IdKind::Number => row.0.to_string(),
        IdKind::Uuid | IdKind::Text => Uuid::from_u128(row.0).to_string(),
    }
}

/// Reads what [`row_text`] or a database writes.
pub(super) fn row_id(text: &str) -> Option<RowId> {
    let number = text.parse::<u64>().ok().map(u128::from);
    number
        .or_else(|| Uuid::try_parse(text).ok().map(|uuid| uuid.as_u128()))
        .map(RowId)
}

/// Asks the database for the columns of a table.
pub(super) async fn columns_of(
    database: &Database,
    table: &str,
) -> Result<Vec<Column>, StoreError> {
    let dialect = database.dialect();
    let statement = Statement::new(dialect, dialect.columns, &[]);
    let (schema, bare) = match table.split_once('.') {
        Some((schema, bare)) => (Some(schema.to_owned()), bare),
        None => (None, table),
    };
    // PostgreSQL resolves the whole name by the search path.
    let asked = match database.kind() {
        Kind::Postgres => table,
        Kind::Sqlite | Kind::MySql => bare,
    };
    let binds = statement.binds(&[("table", Bind::text(asked)), ("schema", Bind::Text(schema))]);
    let mut rows = database
        .fetch(statement.sql(), &binds, &Access::NONE)
        .await?;
    let columns = rows.iter_mut().filter_map(|row| {
        let name = row.text(0)?;
        let type_name = row.text(1)?.to_lowercase();
        let type_name = type_name
            .split('(')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        Some(Column { name, type_name })
    });
    Ok(columns.collect())
}

/// Finds out what each column means.
///
/// **Errors**: [`StoreError::ShapeWrong`], which names the columns that are missing.
pub(super) fn understand(
    table: &str,
    columns: &[Column],
    asked: Option<Shape>,
    mapping: &ColumnMapping,
) -> Result<(Columns, IdKind), StoreError> {
    let found = Found {
        table,
        columns,
        shape: asked.unwrap_or_else(|| shape_of(columns)),
    };
    found.refuse_absent(mapping)?;
    let id = found.needed(&mapping.id, "id", "id")?;
    let id_kind = IdKind::of(&id).ok_or_else(|| wrong_id(table, &id))?;
    let sent = found.role(&mapping.sent, "sent", "sent")?;
    let same = |given: &Option<String>, usual: &str| found.role(given, usual, usual);
    let understood = Columns {
        shape: found.shape,
        event_type: found.needed(&mapping.event_type, "event_type", "type")?,
        payload: found.needed(&mapping.payload, "payload", "payload")?,
        payload_bytes: found.ours("payload_bytes"),
        created_at: found.role(&mapping.created_at, "created_at", "timestamp")?,
        created_at_zone: None,
        sent,
        sent_at: found.ours("sent_at"),
        // The row's id is the event's, as Debezium publishes it.
        event_id: found.role(&mapping.event_id, "event_id", "id")?,
        aggregate_id: found.role(&mapping.aggregate_id, "aggregate_id", "aggregateid")?,
        destination: same(&mapping.destination, "destination")?,
        headers: same(&mapping.headers, "headers")?,
        correlation_id: same(&mapping.correlation_id, "correlation_id")?,
        causation_id: same(&mapping.causation_id, "causation_id")?,
        source: same(&mapping.source, "source")?,
        version: same(&mapping.version, "version")?,
        content_type: same(&mapping.content_type, "content_type")?,
        order: same(&mapping.order, "")?,
        id,
    };
    Ok((understood, id_kind))
}

fn shape_of(columns: &[Column]) -> Shape {
    let has = |names: &[&str]| names.iter().all(|name| find(columns, name).is_some());
    if has(&[
        "event_id",
        "event_type",
        "destination",
        "headers",
        "payload_bytes",
        "sent",
        "sent_at",
    ]) {
        Shape::Tidings
    } else if has(&["aggregatetype", "aggregateid", "type"]) {
        Shape::Debezium
    } else {
        Shape::Seed
    }
}

fn find<'a>(columns: &'a [Column], name: &str) -> Option<&'a Column> {
    let mut columns = columns.iter();
    columns.find(|column| column.name.eq_ignore_ascii_case(name))
}

/// The columns that a table has, and which shape they make.
struct Found<'a> {
    table: &'a str,
    columns: &'a [Column],
    shape: Shape,
}

impl Found<'_> {
    /// Tells all that is missing at once: what every outbox of the shape has, and what the mapping names.
    fn refuse_absent(&self, mapping: &ColumnMapping) -> Result<(), StoreError> {
        let sent = (self.shape != Shape::Debezium).then_some("sent");
        let needed = [
            (&mapping.id, Some("id")),
            (&mapping.event_type, Some(self.usual("event_type", "type"))),
            (&mapping.payload, Some("payload")),
            (&mapping.sent, sent),
            (&mapping.created_at, None),
            (&mapping.event_id, None),
            (&mapping.aggregate_id, None),
            (&mapping.destination, None),
            (&mapping.headers, None),
            (&mapping.correlation_id, None),
            (&mapping.causation_id, None),
            (&mapping.source, None),
            (&mapping.version, None),
            (&mapping.content_type, None),
            (&mapping.order, None),
        ];
        let names = needed
            .iter()
            .filter_map(|(given, usual)| given.as_deref().or(*usual));
        let absent: Vec<&str> = names
            .filter(|name| find(self.columns, name).is_none())
            .collect();
        match absent.is_empty() {
            true => Ok(()),
            false => Err(missing(self.table, &absent, self.columns)),
        }
    }

    /// The column that a mapping names, which must be there; else the one with the usual name, if it is.
    fn role(
        &self,
        given: &Option<String>,
        seed: &str,
        debezium: &str,
    ) -> Result<Option<Column>, StoreError> {
        match given {
            Some(name) => find(self.columns, name)
                .cloned()
                .map(Some)
                .ok_or_else(|| missing(self.table, &[name], self.columns)),
            None => Ok(find(self.columns, self.usual(seed, debezium)).cloned()),
        }
    }

    fn needed(
        &self,
        given: &Option<String>,
        seed: &str,
        debezium: &str,
    ) -> Result<Column, StoreError> {
        self.role(given, seed, debezium)?
            .ok_or_else(|| missing(self.table, &[self.usual(seed, debezium)], self.columns))
    }

    fn usual<'b>(&self, seed: &'b str, debezium: &'b str) -> &'b str {
        if self.shape == Shape::Debezium {
            debezium
        } else {
            seed
        }
    }

    /// A column that only our table has.
    fn ours(&self, name: &str) -> Option<Column> {
        let column = find(self.columns, name).cloned();
        column.filter(|_| self.shape == Shape::Tidings)
    }
}

fn missing(table: &str, names: &[&str], columns: &[Column]) -> StoreError {
    let there: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    StoreError::ShapeWrong {
        subject: format!("the table {table}"),
        fault: format!(
            "it has no column {}; it has {}",
            names.join(" and no column "),
            there.join(", ")
        ),
        remedy: "name the columns that mean it in the mapping of tidings.toml, or another table"
            .to_owned(),
    }
}

fn wrong_id(table: &str, id: &Column) -> StoreError {
    StoreError::ShapeWrong {
        subject: format!("the column {} of {table}", id.name),
        fault: format!("it has the type {}", id.type_name),
        remedy: "rows are known by a whole number or a UUID; name such a column in the mapping of tidings.toml".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[(&str, &str)]) -> Vec<Column> {
        let columns = names.iter().map(|(name, type_name)| Column {
            name: (*name).to_owned(),
            type_name: (*type_name).to_owned(),
        });
        columns.collect()
    }

    const SEED: [(&str, &str); 5] = [
        ("id", "bigint"),
        ("event_type", "text"),
        ("payload", "json"),
        ("created_at", "timestamp"),
        ("sent", "boolean"),
    ];

    #[test]
    fn the_shape_is_told_by_the_columns() {
        let mapping = ColumnMapping::default();
        let shape = |columns: &[(&str, &str)]| {
            understand("t", &table(columns), None, &mapping).map(|(columns, _)| columns.shape)
        };

        assert_eq!(shape(&SEED).unwrap(), Shape::Seed);
        let debezium = [
            ("id", "uuid"),
            ("aggregatetype", "text"),
            ("aggregateid", "text"),
            ("type", "text"),
            ("payload", "jsonb"),
        ];
        assert_eq!(shape(&debezium).unwrap(), Shape::Debezium);
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_are_there() {
        let error =
            understand("t", &table(&SEED[..4]), None, &ColumnMapping::default()).unwrap_err();

        let text = error.to_string();
        assert!(text.contains("no column sent"), "{text}");
        assert!(
            text.contains("id, event_type, payload, created_at"),
            "{text}"
        );

        let mapping = ColumnMapping {
            source: Some("service".into()),
            ..ColumnMapping::default()
        };
        let error = understand("t", &table(&SEED[..2]), None, &mapping).unwrap_err();
        let text = error.to_string();
        for name in ["payload", "sent", "service"] {
            assert!(text.contains(&format!("no column {name}")), "{text}");
        }
    }

    #[test]
    fn a_mapping_names_other_columns_and_must_be_right() {
        let mut columns = SEED;
        columns[1].0 = "kind";
        let mut mapping = ColumnMapping {
            event_type: Some("kind".into()),
            ..ColumnMapping::default()
        };
        assert!(understand("t", &table(&columns), None, &mapping).is_ok());

        mapping.aggregate_id = Some("order_no".into());
        let error = understand("t", &table(&columns), None, &mapping).unwrap_err();
        assert!(error.to_string().contains("no column order_no"), "{error}");
    }

    #[test]
    fn ids_survive_their_way_through_a_list() {
        let uuid = RowId(0x0187_0000_0000_7000_8000_0000_0000_00ab);

        assert_eq!(IdKind::Number.list(&[RowId(1), RowId(2)]), "[1,2]");
        assert_eq!(row_id(&row_text(IdKind::Uuid, uuid)), Some(uuid));
        assert_eq!(row_id("17"), Some(RowId(17)));
        assert_eq!(row_id("x"), None);
    }
}

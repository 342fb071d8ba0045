//! The statements of one outbox, made once when it is opened: templates of `sql/store/`, filled with what its columns mean.

use super::columns::{Column, Columns, IdKind, Shape};
use super::zone;
use crate::dialect::{Dialect, Kind};
use crate::statement::Statement;
use tidings_core::event_type::INTERNAL_PREFIX;
use tidings_core::store::Settlement;

/// Every statement of an outbox.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    pub(super) unsent: Statement,
    pub(super) unsent_above_floor: Option<Statement>,
    /// Rows by id: what a note says of them.
    pub(super) describe: Statement,
    /// Every row, and what became of it.
    pub(super) rows: Statement,
    pub(super) settle: Statement,
    pub(super) prune: Option<Statement>,
    pub(super) delete: Statement,
    pub(super) status: Statement,
    pub(super) retained: Option<Statement>,
    pub(super) notes: NoteStatements,
}

/// The statements of the sidecar tables, in the database where those are.
#[derive(Debug, Clone)]
pub(super) struct NoteStatements {
    pub(super) take_lease: Statement,
    pub(super) make_lease: Statement,
    pub(super) end_lease: Statement,
    pub(super) read_leases: Statement,
    pub(super) note: Statement,
    pub(super) note_sent: Statement,
    pub(super) counts: Statement,
    pub(super) dead: Statement,
    /// Rows that are not read, and the keys behind dead ones; for a state in another database.
    pub(super) withheld: Statement,
    pub(super) forget_failures: Statement,
    /// Forgets a failure for who holds the lease, and is about to give the row up.
    pub(super) make_room: Statement,
    pub(super) revive: Statement,
    pub(super) revive_all: Statement,
    pub(super) discard: Statement,
    pub(super) discarded: Statement,
    pub(super) forget_discarded: Statement,
}

/// Whether anything is noted at all: looked up once for a statement, before notes are looked up for each row.
const IS_NOTED: &str = "EXISTS (SELECT 1 FROM tidings_relay_note AS a WHERE a.outbox = :outbox)";
/// For who looks at every row.
const NOTES_JOINED: &str =
    "LEFT JOIN tidings_relay_note AS n ON n.outbox = :outbox AND n.row_id = {id_text}";
const ATTEMPTS: &str = "CASE WHEN {is_noted} THEN COALESCE((SELECT n.attempts FROM tidings_relay_note AS n WHERE n.outbox = :outbox AND n.row_id = {id_text}), 0) ELSE 0 END";
const IS_ALIVE: &str = "AND (NOT {is_noted} OR NOT EXISTS (SELECT 1 FROM tidings_relay_note AS n WHERE n.outbox = :outbox AND n.row_id = {id_text} AND n.state > 0))";
const BEHIND_DEAD: &str = "AND (:hold = 0 OR NOT {is_noted} OR {key} IS NULL OR ({lane}) NOT IN (SELECT {lane_of_note} FROM tidings_relay_note AS d WHERE d.outbox = :outbox AND d.state = 1 AND d.event_key IS NOT NULL))";

/// Whether a lease `l` is held by who says so.
const IS_HELD: &str = "l.outbox = :leased AND l.shard = :shard AND l.shards = :shards AND l.owner = :owner AND l.epoch = :epoch AND l.expires_at_us >= {now}";

/// What a table is, for its statements.
pub(super) struct Table<'a> {
    pub(super) dialect: &'static Dialect,
    pub(super) name: &'a str,
    pub(super) columns: &'a Columns,
    pub(super) id_kind: IdKind,
    pub(super) ids_tell_order: bool,
    pub(super) settlement: Settlement,
    /// Whether the notes are in tables of the same database.
    pub(super) joins_notes: bool,
    pub(super) state: &'static Dialect,
    /// Whether rows that are no facts of ours are as good as not there.
    pub(super) facts_only: bool,
}

impl Statements {
    pub(super) fn new(table: &Table<'_>) -> Self {
        let fragments = table.fragments();
        let borrowed: Vec<(&str, &str)> = fragments
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        let make = |template: &str| Statement::new(table.dialect, template, &borrowed);
        let unsent = include_str!("../../sql/store/unsent.sql");
        let settle = match table.settlement {
            Settlement::Delete => table.dialect.settle_delete,
            Settlement::Mark => table.dialect.settle_mark,
        };
        let sent = table.columns.sent.as_ref();
        // Also where rows are deleted now: those that were marked before are still there.
        let prunes = table.columns.shape == Shape::Tidings;
        Self {
            unsent: make(&unsent.replace("{above_floor}", "")),
            unsent_above_floor: (table.id_kind == IdKind::Number)
                .then(|| make(&unsent.replace("{above_floor}", "AND {id} > :floor"))),
            describe: make(
                "SELECT {id_text}, {event_id}, {event_type}, {key}, {destination} FROM {table} AS o WHERE {is_unsent} AND {id} IN ({ids})",
            ),
            rows: make(include_str!("../../sql/store/rows.sql")),
            settle: make(settle),
            prune: prunes.then(|| make(table.dialect.prune)),
            delete: make(table.dialect.settle_delete),
            status: make(include_str!("../../sql/store/status.sql")),
            retained: sent.map(|_| make("SELECT COUNT(*) FROM {table} AS o WHERE {is_sent}")),
            notes: NoteStatements::new(table.state),
        }
    }
}

impl NoteStatements {
    fn new(dialect: &Dialect) -> Self {
        let texts = [("list", ":list"), ("is_held", IS_HELD)];
        let make = |template: &str| Statement::new(dialect, template, &texts);
        Self {
            take_lease: make(include_str!("../../sql/store/take_lease.sql")),
            make_lease: make(
                "INSERT INTO tidings_relay_lease (outbox, shard, shards, owner, epoch, expires_at_us) VALUES (:outbox, :shard, :shards, '', 0, 0)",
            ),
            end_lease: make(
                "UPDATE tidings_relay_lease SET expires_at_us = 0 WHERE outbox = :outbox AND shard = :shard AND shards = :shards AND owner = :owner",
            ),
            read_leases: make(
                "SELECT shard, shards, owner, epoch, expires_at_us - {now} FROM tidings_relay_lease WHERE outbox = :outbox ORDER BY shards, shard",
            ),
            note: make(include_str!("../../sql/store/note.sql")),
            note_sent: make(include_str!("../../sql/store/note_sent.sql")),
            counts: make(
                "SELECT state, COUNT(*) FROM tidings_relay_note WHERE outbox = :outbox GROUP BY state",
            ),
            dead: make(
                "SELECT row_id, event_id, event_type, event_key, attempts, reason, noted_at_us FROM tidings_relay_note WHERE outbox = :outbox AND state = 1 ORDER BY noted_at_us, row_id LIMIT :limit",
            ),
            withheld: make(
                "SELECT row_id, state, attempts, destination, event_key FROM tidings_relay_note WHERE outbox = :outbox ORDER BY state DESC, noted_at_us LIMIT :limit",
            ),
            forget_failures: make(
                "DELETE FROM tidings_relay_note WHERE outbox = :outbox AND state = 0 AND row_id IN ({texts})",
            ),
            make_room: make(
                "DELETE FROM tidings_relay_note WHERE outbox = :outbox AND state = 0 AND row_id IN ({texts}) AND EXISTS (SELECT 1 FROM tidings_relay_lease AS l WHERE {is_held})",
            ),
            revive: make(
                "DELETE FROM tidings_relay_note WHERE outbox = :outbox AND state = 1 AND row_id IN ({texts})",
            ),
            revive_all: make("DELETE FROM tidings_relay_note WHERE outbox = :outbox AND state = 1"),
            discard: make(
                "UPDATE tidings_relay_note SET state = 2 WHERE outbox = :outbox AND state = 1 AND row_id IN ({texts})",
            ),
            discarded: make(
                "SELECT row_id FROM tidings_relay_note WHERE outbox = :outbox AND state = 2 AND row_id IN ({texts})",
            ),
            forget_discarded: make(
                "DELETE FROM tidings_relay_note WHERE outbox = :outbox AND state = 2 AND row_id IN ({texts})",
            ),
        }
    }
}

impl Table<'_> {
    fn fragments(&self) -> Vec<(&'static str, String)> {
        let columns = self.columns;
        let mut fragments = self.attributes();
        let ids = self.id_kind.fragment();
        let (notes, is_alive, attempts, state, behind_dead) = if self.joins_notes {
            (
                NOTES_JOINED,
                IS_ALIVE,
                ATTEMPTS,
                "COALESCE(n.state, 0)",
                BEHIND_DEAD,
            )
        } else {
            ("", "", "0", "0", "")
        };
        let order = columns.order.as_ref().unwrap_or(&columns.id);
        fragments.extend([
            ("table", quoted_table(self.dialect, self.name)),
            ("id_column", quoted(self.dialect, &columns.id.name)),
            ("id", self.column(&columns.id)),
            ("attempts", attempts.to_owned()),
            ("state", state.to_owned()),
            ("is_nameless", "COALESCE({event_id}, '') = ''".to_owned()),
            ("notes", notes.to_owned()),
            ("is_noted", IS_NOTED.to_owned()),
            ("is_alive", is_alive.to_owned()),
            ("behind_dead", behind_dead.to_owned()),
            ("order", self.column(order)),
            ("in_place", self.in_place().to_owned()),
            ("is_unsent", self.unsent()),
            ("is_sent", self.sent("<> {no}", "1 = 0")),
            ("mark", self.mark()),
            ("marked_at", self.marked_at()),
            ("ids", self.list(ids, ":list")),
            ("excluded", self.list(ids, ":excluded")),
            ("destinations", self.list("texts", ":destinations")),
            (
                "blocked",
                format!(
                    "SELECT {} FROM {}",
                    self.lane("listed.a", "listed.b"),
                    self.list("pairs", ":blocked")
                ),
            ),
            ("lane", self.lane("{destination}", "{key}")),
            ("lane_of_note", self.lane("d.destination", "d.event_key")),
            ("key_or_id", "COALESCE({key}, {id_text})".to_owned()),
        ]);
        fragments
    }

    /// What each attribute of an event is in this table; null where the table has no column for it.
    fn attributes(&self) -> Vec<(&'static str, String)> {
        let columns = self.columns;
        let null = || "NULL".to_owned();
        let text = |column: &Option<Column>| {
            let column = column.as_ref();
            column.map_or_else(null, |column| self.text(column))
        };
        // Notes call a UUID by its small letters, however the table writes it.
        let id_text = match self.id_kind {
            IdKind::Text => format!("LOWER({})", self.text(&columns.id)),
            IdKind::Number | IdKind::Uuid => self.text(&columns.id),
        };
        let destination = match &columns.destination {
            Some(column) => format!("COALESCE({}, '')", self.text(column)),
            None => "''".to_owned(),
        };
        let (payload, payload_bytes) = self.payload();
        vec![
            ("id_text", id_text),
            ("event_id", text(&columns.event_id)),
            ("event_type", self.text(&columns.event_type)),
            ("key", text(&columns.aggregate_id)),
            ("destination", destination),
            ("payload", payload),
            ("payload_bytes", payload_bytes),
            ("headers", text(&columns.headers)),
            ("created_us", self.created()),
            ("correlation_id", text(&columns.correlation_id)),
            ("causation_id", text(&columns.causation_id)),
            ("source", text(&columns.source)),
            // As text: a column of another type than a number may hold one as well, or something that is none, which its row is told for.
            ("version", text(&columns.version)),
            ("content_type", text(&columns.content_type)),
        ]
    }

    fn list(&self, fragment: &str, value: &str) -> String {
        let mut fragments = self.dialect.fragments.iter();
        let found = fragments.find(|(name, _)| *name == fragment);
        let (_, text) = found.expect("every dialect has every list: a test of dialect.rs");
        text.replace("{list}", value)
    }

    /// A destination and a key as what can be looked up in a list.
    fn lane(&self, destination: &str, key: &str) -> String {
        let lane = self.dialect.lane;
        lane.replace("{a}", destination).replace("{b}", key)
    }

    fn column(&self, column: &Column) -> String {
        format!("o.{}", quoted(self.dialect, &column.name))
    }

    /// A column as a text. MySQL would refuse to compare texts of two collations, and one that ignores case would merge keys.
    fn text(&self, column: &Column) -> String {
        let name = self.column(column);
        match self.dialect.kind {
            Kind::MySql => format!("CONVERT({name} USING utf8mb4) COLLATE utf8mb4_bin"),
            Kind::Postgres | Kind::Sqlite => format!("CAST({name} AS {{text_type}})"),
        }
    }

    fn payload(&self) -> (String, String) {
        let payload = &self.columns.payload;
        let name = self.column(payload);
        if let Some(bytes) = &self.columns.payload_bytes {
            return (self.text_kept(payload), self.column(bytes));
        }
        let is_bytes = payload.type_name.contains("blob")
            || payload.type_name.contains("binary")
            || payload.type_name == "bytea";
        match self.dialect.kind {
            // Any column may hold either.
            Kind::Sqlite => (
                format!(
                    "CASE WHEN typeof({name}) = 'blob' THEN NULL ELSE CAST({name} AS TEXT) END"
                ),
                format!("CASE WHEN typeof({name}) = 'blob' THEN {name} END"),
            ),
            _ if is_bytes => ("NULL".to_owned(), name),
            _ => (self.text_kept(payload), "NULL".to_owned()),
        }
    }

    /// A text whose bytes are kept.
    fn text_kept(&self, column: &Column) -> String {
        let name = self.column(column);
        match self.dialect.kind {
            Kind::MySql if column.type_name == "json" => format!("CAST({name} AS CHAR)"),
            Kind::MySql => format!("CONVERT({name} USING utf8mb4)"),
            Kind::Postgres | Kind::Sqlite => format!("CAST({name} AS {{text_type}})"),
        }
    }

    /// When a row was written, in microseconds since 1970.
    fn created(&self) -> String {
        match (&self.columns.created_at, &self.columns.created_at_zone) {
            (Some(column), Some(zone)) => {
                zone::micros(self.dialect.kind, &self.column(column), zone)
            }
            (column, _) => self.micros(column.as_ref()),
        }
    }

    /// A column of a time, in microseconds since 1970.
    fn micros(&self, column: Option<&Column>) -> String {
        let Some(column) = column else {
            return "NULL".to_owned();
        };
        let name = self.column(column);
        if column.type_name.contains("int") {
            return name;
        }
        match self.dialect.kind {
            // In the zone of the session, which is the server's own.
            Kind::MySql => format!("CAST(UNIX_TIMESTAMP({name}) * 1000000 AS SIGNED)"),
            kind => zone::micros_in_utc(kind, &name),
        }
    }

    /// A database that sorted what it found would hold back the first row until it has the last. Numbers are as well looked over by who reads them.
    fn in_place(&self) -> &'static str {
        match self.ids_tell_order {
            true => "",
            false => "ORDER BY u.place",
        }
    }

    fn is_boolean(&self) -> bool {
        let sent = self.columns.sent.as_ref();
        sent.is_some_and(|sent| sent.type_name == "boolean" && self.dialect.kind == Kind::Postgres)
    }

    fn sent(&self, comparison: &str, without: &str) -> String {
        let Some(sent) = &self.columns.sent else {
            return without.to_owned();
        };
        let no = if self.is_boolean() { "false" } else { "0" };
        format!("{} {}", self.column(sent), comparison.replace("{no}", no))
    }

    fn unsent(&self) -> String {
        let unsent = self.sent("= {no}", "1 = 1");
        match self.facts_only {
            true => format!("{unsent} AND {{event_type}} LIKE '{INTERNAL_PREFIX}%'"),
            false => unsent,
        }
    }

    fn mark(&self) -> String {
        let Some(sent) = &self.columns.sent else {
            return String::new();
        };
        let yes = if self.is_boolean() { "true" } else { "1" };
        // PostgreSQL and SQLite take no qualified name here, MySQL joins with another table.
        let sent_name = quoted(self.dialect, &sent.name);
        match &self.columns.sent_at {
            Some(sent_at) => format!(
                "{sent_name} = {yes}, {} = {{now_text}}",
                quoted(self.dialect, &sent_at.name)
            ),
            None => format!("{sent_name} = {yes}"),
        }
    }

    /// When a row was marked; rows that somebody marked by hand do not say, and count from when they were written.
    fn marked_at(&self) -> String {
        let created = self.created();
        let marked = self.micros(self.columns.sent_at.as_ref());
        format!("COALESCE({marked}, {created})")
    }
}

/// A name in the quotes of the database.
pub(super) fn quoted(dialect: &Dialect, name: &str) -> String {
    let quote = dialect.quote;
    format!(
        "{quote}{}{quote}",
        name.replace(quote, &format!("{quote}{quote}"))
    )
}

/// A table with its schema, each in quotes.
pub(crate) fn quoted_table(dialect: &Dialect, table: &str) -> String {
    let parts: Vec<String> = table.split('.').map(|part| quoted(dialect, part)).collect();
    parts.join(".")
}

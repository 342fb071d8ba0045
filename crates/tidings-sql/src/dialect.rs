//! What tells one database from another, as data: how values are counted, and the fragments of which statements are made.

/// A database that is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// SQLite, bundled.
    Sqlite,
    /// PostgreSQL from version 13 on.
    Postgres,
    /// MySQL from 8.0.16, MariaDB from 10.6 on.
    MySql,
}

impl Kind {
    /// The feature of the package that brings its driver.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
        }
    }
}

/// One database's way to say things. All differences between databases are in here and in the files of `sql/`.
#[derive(Debug)]
pub(crate) struct Dialect {
    pub(crate) kind: Kind,
    /// What stands before the number of a value; `None` where values are counted by their place.
    pub(crate) numbered_by: Option<char>,
    /// What a name is quoted with.
    pub(crate) quote: char,
    /// Fragments of statements, by name.
    pub(crate) fragments: &'static [(&'static str, &'static str)],
    /// The tables, in the order in which they are made.
    pub(crate) schema: &'static [Migration],
    /// Asks for the columns of a table: name, type, whether the database counts it up, whether it is the primary key.
    pub(crate) columns: &'static str,
    /// A destination `{a}` with a key `{b}`, as what a list of such is searched for.
    pub(crate) lane: &'static str,
    /// Removes rows by a list of ids.
    pub(crate) settle_delete: &'static str,
    /// Marks rows by a list of ids.
    pub(crate) settle_mark: &'static str,
    /// Removes some of the rows that are sent.
    pub(crate) prune: &'static str,
    /// Which of some events the inbox knows, asked before they are inserted; `None` where the insert itself answers which were new.
    pub(crate) inbox_known: Option<&'static str>,
    /// Changes parked rows, each in its own way.
    pub(crate) parked_change: &'static str,
    /// Puts several events into the inbox.
    pub(crate) inbox_insert_many: &'static str,
    /// Removes the oldest rows of a consumer.
    pub(crate) inbox_forget: &'static str,
}

/// A step that brings the tables of one part to a version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    /// Which tables: `outbox`, `inbox`, `relay`, `failure`, `schedule`, `alert`.
    pub(crate) part: &'static str,
    /// The version that it makes, from 1.
    pub(crate) version: i64,
    /// Statements that may run again without harm.
    pub(crate) script: &'static str,
}

/// SQLite.
#[cfg(any(feature = "sqlite", test))]
pub(crate) const SQLITE: Dialect = Dialect {
    kind: Kind::Sqlite,
    numbered_by: Some('?'),
    quote: '"',
    fragments: &[
        ("dedupe_key", "unhex(:key)"),
        (
            "unless_known",
            "ON CONFLICT (event_key, consumer) DO NOTHING",
        ),
        ("processed_us", "processed_at"),
        (
            "now",
            "CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)",
        ),
        (
            "clock",
            "SELECT {now} AS now_us, NULL AS oldest_open, NULL AS first_future",
        ),
        ("text_type", "TEXT"),
        ("integer", "INTEGER"),
        ("numbers", "SELECT value AS id FROM json_each({list})"),
        ("texts", "SELECT value AS id FROM json_each({list})"),
        ("uuids", "SELECT value AS id FROM json_each({list})"),
        (
            "pairs",
            "(SELECT json_extract(value, '$[0]') AS a, json_extract(value, '$[1]') AS b FROM json_each({list})) AS listed",
        ),
        ("greater", "MAX"),
        (
            "note_conflict",
            "ON CONFLICT (outbox, row_id) DO UPDATE SET state = {greater}(tidings_relay_note.state, excluded.state), attempts = excluded.attempts, reason = excluded.reason, noted_at_us = excluded.noted_at_us",
        ),
        (
            "attempt_conflict",
            "ON CONFLICT (consumer, event_key) DO UPDATE SET attempts = {greater}(tidings_attempt.attempts, excluded.attempts)",
        ),
        (
            "parked_known",
            "ON CONFLICT (consumer, event_key) DO NOTHING",
        ),
        ("schedule_known", "ON CONFLICT (id) DO NOTHING"),
        ("for_update", ""),
        (
            "group_conflict",
            "ON CONFLICT (consumer) DO UPDATE SET paused_why = excluded.paused_why, changed_us = excluded.changed_us",
        ),
        (
            "taken_conflict",
            "ON CONFLICT (source) DO UPDATE SET up_to = {greater}(tidings_taken_over.up_to, excluded.up_to)",
        ),
        (
            "letter_known",
            "ON CONFLICT (consumer, event_key) DO NOTHING",
        ),
        ("now_text", "strftime('%Y-%m-%d %H:%M:%f', 'now')"),
        // No function of SQLite hashes; the letters that differ most are enough to spread keys.
        (
            "hash",
            "(COALESCE(unicode({key_or_id}), 0) * 31 + COALESCE(unicode(substr({key_or_id}, -1)), 0) * 17 + COALESCE(unicode(substr({key_or_id}, -2)), 0) * 13 + COALESCE(unicode(substr({key_or_id}, -3)), 0) * 7 + length({key_or_id}))",
        ),
    ],
    schema: &[
        Migration {
            part: "outbox",
            version: 1,
            script: include_str!("../sql/sqlite/make_outbox.sql"),
        },
        Migration {
            part: "inbox",
            version: 1,
            script: include_str!("../sql/sqlite/make_inbox.sql"),
        },
        Migration {
            part: "relay",
            version: 1,
            script: include_str!("../sql/sqlite/make_relay.sql"),
        },
        Migration {
            part: "failure",
            version: 1,
            script: include_str!("../sql/sqlite/make_failure.sql"),
        },
        Migration {
            part: "failure",
            version: 2,
            script: include_str!("../sql/sqlite/make_circuit.sql"),
        },
        Migration {
            part: "failure",
            version: 3,
            script: include_str!("../sql/sqlite/make_policy.sql"),
        },
        Migration {
            part: "failure",
            version: 4,
            script: include_str!("../sql/sqlite/make_leader.sql"),
        },
        Migration {
            part: "schedule",
            version: 1,
            script: include_str!("../sql/sqlite/make_schedule.sql"),
        },
        Migration {
            part: "alert",
            version: 1,
            script: include_str!("../sql/sqlite/make_alert.sql"),
        },
    ],
    columns: include_str!("../sql/sqlite/columns.sql"),
    // Pairs that may hold nulls would be compared one by one with each row.
    lane: "length({a}) || ':' || {a} || {b}",
    settle_delete: "DELETE FROM {table} WHERE {id_column} IN ({ids})",
    settle_mark: "UPDATE {table} SET {mark} WHERE {id_column} IN ({ids})",
    prune: "DELETE FROM {table} WHERE {id_column} IN (SELECT {id_column} FROM {table} AS o WHERE {is_sent} AND {marked_at} < :before ORDER BY {id_column} LIMIT :limit)",
    inbox_known: None,
    parked_change: include_str!("../sql/sqlite/parked_change.sql"),
    inbox_insert_many: include_str!("../sql/sqlite/inbox_insert_many.sql"),
    inbox_forget: "DELETE FROM inbox WHERE (event_key, consumer) IN (SELECT event_key, consumer FROM inbox WHERE consumer = :consumer AND processed_at < :before ORDER BY processed_at LIMIT :limit)",
};

/// PostgreSQL.
#[cfg(any(feature = "postgres", test))]
pub(crate) const POSTGRES: Dialect = Dialect {
    kind: Kind::Postgres,
    numbered_by: Some('$'),
    quote: '"',
    fragments: &[
        ("dedupe_key", "CAST(:key AS uuid)"),
        (
            "unless_known",
            "ON CONFLICT (event_key, consumer) DO NOTHING",
        ),
        (
            "processed_us",
            "CAST(EXTRACT(EPOCH FROM processed_at) * 1000000 AS bigint)",
        ),
        (
            "now",
            "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS bigint)",
        ),
        (
            "clock",
            "SELECT {now} AS now_us, CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS oldest_open, CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) AS first_future",
        ),
        ("text_type", "text"),
        ("integer", "bigint"),
        (
            "numbers",
            "SELECT CAST(value AS bigint) AS id FROM json_array_elements_text(CAST({list} AS json))",
        ),
        (
            "texts",
            "SELECT value AS id FROM json_array_elements_text(CAST({list} AS json))",
        ),
        (
            "uuids",
            "SELECT CAST(value AS uuid) AS id FROM json_array_elements_text(CAST({list} AS json))",
        ),
        (
            "pairs",
            "(SELECT value->>0 AS a, value->>1 AS b FROM json_array_elements(CAST({list} AS json))) AS listed",
        ),
        ("greater", "GREATEST"),
        (
            "note_conflict",
            "ON CONFLICT (outbox, row_id) DO UPDATE SET state = {greater}(tidings_relay_note.state, excluded.state), attempts = excluded.attempts, reason = excluded.reason, noted_at_us = excluded.noted_at_us",
        ),
        (
            "attempt_conflict",
            "ON CONFLICT (consumer, event_key) DO UPDATE SET attempts = {greater}(tidings_attempt.attempts, excluded.attempts)",
        ),
        (
            "parked_known",
            "ON CONFLICT (consumer, event_key) DO NOTHING",
        ),
        ("schedule_known", "ON CONFLICT (id) DO NOTHING"),
        ("for_update", "FOR UPDATE"),
        (
            "group_conflict",
            "ON CONFLICT (consumer) DO UPDATE SET paused_why = excluded.paused_why, changed_us = excluded.changed_us",
        ),
        (
            "taken_conflict",
            "ON CONFLICT (source) DO UPDATE SET up_to = {greater}(tidings_taken_over.up_to, excluded.up_to)",
        ),
        (
            "letter_known",
            "ON CONFLICT (consumer, event_key) DO NOTHING",
        ),
        ("now_text", "clock_timestamp()"),
        ("hash", "abs(CAST(hashtext({key_or_id}) AS bigint))"),
    ],
    schema: &[
        Migration {
            part: "outbox",
            version: 1,
            script: include_str!("../sql/postgres/make_outbox.sql"),
        },
        Migration {
            part: "inbox",
            version: 1,
            script: include_str!("../sql/postgres/make_inbox.sql"),
        },
        Migration {
            part: "relay",
            version: 1,
            script: include_str!("../sql/postgres/make_relay.sql"),
        },
        Migration {
            part: "failure",
            version: 1,
            script: include_str!("../sql/postgres/make_failure.sql"),
        },
        Migration {
            part: "failure",
            version: 2,
            script: include_str!("../sql/postgres/make_circuit.sql"),
        },
        Migration {
            part: "failure",
            version: 3,
            script: include_str!("../sql/postgres/make_policy.sql"),
        },
        Migration {
            part: "failure",
            version: 4,
            script: include_str!("../sql/postgres/make_leader.sql"),
        },
        Migration {
            part: "schedule",
            version: 1,
            script: include_str!("../sql/postgres/make_schedule.sql"),
        },
        Migration {
            part: "alert",
            version: 1,
            script: include_str!("../sql/postgres/make_alert.sql"),
        },
    ],
    // The lock ends with the transaction, so that no pooler can leak it.
    columns: include_str!("../sql/postgres/columns.sql"),
    lane: "{a}, {b}",
    // An array keeps the plan on the primary key, whatever the planner believes of the list.
    settle_delete: "DELETE FROM {table} WHERE {id_column} = ANY (ARRAY({ids}))",
    settle_mark: "UPDATE {table} SET {mark} WHERE {id_column} = ANY (ARRAY({ids}))",
    prune: "DELETE FROM {table} WHERE {id_column} = ANY (ARRAY(SELECT {id_column} FROM {table} AS o WHERE {is_sent} AND {marked_at} < :before ORDER BY {id_column} LIMIT :limit))",
    inbox_known: None,
    parked_change: include_str!("../sql/postgres/parked_change.sql"),
    inbox_insert_many: include_str!("../sql/postgres/inbox_insert_many.sql"),
    inbox_forget: "DELETE FROM inbox WHERE (event_key, consumer) IN (SELECT event_key, consumer FROM inbox WHERE consumer = :consumer AND processed_at < to_timestamp(CAST(:before AS double precision) / 1000000) ORDER BY processed_at LIMIT :limit)",
};

/// MySQL and MariaDB.
#[cfg(any(feature = "mysql", test))]
pub(crate) const MYSQL: Dialect = Dialect {
    kind: Kind::MySql,
    numbered_by: None,
    quote: '`',
    fragments: &[
        ("dedupe_key", "UNHEX(:key)"),
        ("unless_known", ""),
        (
            "processed_us",
            "CAST(UNIX_TIMESTAMP(processed_at) * 1000000 AS SIGNED)",
        ),
        // By way of the local time an hour would come twice when summer time ends.
        (
            "now",
            "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))",
        ),
        (
            "clock",
            "SELECT {now} AS now_us, CAST(NULL AS SIGNED) AS oldest_open, CAST(NULL AS SIGNED) AS first_future",
        ),
        ("text_type", "CHAR"),
        ("integer", "SIGNED"),
        (
            "numbers",
            "SELECT listed.id FROM JSON_TABLE({list}, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) AS listed",
        ),
        (
            "texts",
            "SELECT listed.id FROM JSON_TABLE({list}, '$[*]' COLUMNS (id VARCHAR(1024) CHARACTER SET utf8mb4 PATH '$')) AS listed",
        ),
        (
            "uuids",
            "SELECT listed.id FROM JSON_TABLE({list}, '$[*]' COLUMNS (id VARCHAR(1024) CHARACTER SET utf8mb4 PATH '$')) AS listed",
        ),
        (
            "pairs",
            "JSON_TABLE({list}, '$[*]' COLUMNS (a VARCHAR(1024) CHARACTER SET utf8mb4 PATH '$[0]', b VARCHAR(1024) CHARACTER SET utf8mb4 PATH '$[1]')) AS listed",
        ),
        (
            "note_conflict",
            "ON DUPLICATE KEY UPDATE state = GREATEST(state, VALUES(state)), attempts = VALUES(attempts), reason = VALUES(reason), noted_at_us = VALUES(noted_at_us)",
        ),
        (
            "attempt_conflict",
            "ON DUPLICATE KEY UPDATE attempts = GREATEST(attempts, VALUES(attempts))",
        ),
        (
            "parked_known",
            "ON DUPLICATE KEY UPDATE parked_us = parked_us",
        ),
        ("schedule_known", ""),
        ("for_update", "FOR UPDATE"),
        (
            "group_conflict",
            "ON DUPLICATE KEY UPDATE paused_why = VALUES(paused_why), changed_us = VALUES(changed_us)",
        ),
        (
            "taken_conflict",
            "ON DUPLICATE KEY UPDATE up_to = GREATEST(up_to, VALUES(up_to))",
        ),
        (
            "letter_known",
            "ON DUPLICATE KEY UPDATE changed_us = tidings_dead_letter.changed_us",
        ),
        ("now_text", "CURRENT_TIMESTAMP(6)"),
        ("hash", "CRC32({key_or_id})"),
    ],
    schema: &[
        Migration {
            part: "outbox",
            version: 1,
            script: include_str!("../sql/mysql/make_outbox.sql"),
        },
        Migration {
            part: "inbox",
            version: 1,
            script: include_str!("../sql/mysql/make_inbox.sql"),
        },
        Migration {
            part: "relay",
            version: 1,
            script: include_str!("../sql/mysql/make_relay.sql"),
        },
        Migration {
            part: "failure",
            version: 1,
            script: include_str!("../sql/mysql/make_failure.sql"),
        },
        Migration {
            part: "failure",
            version: 2,
            script: include_str!("../sql/mysql/make_circuit.sql"),
        },
        Migration {
            part: "failure",
            version: 3,
            script: include_str!("../sql/mysql/make_policy.sql"),
        },
        Migration {
            part: "failure",
            version: 4,
            script: include_str!("../sql/mysql/make_leader.sql"),
        },
        Migration {
            part: "schedule",
            version: 1,
            script: include_str!("../sql/mysql/make_schedule.sql"),
        },
        Migration {
            part: "alert",
            version: 1,
            script: include_str!("../sql/mysql/make_alert.sql"),
        },
    ],
    columns: include_str!("../sql/mysql/columns.sql"),
    // Texts as long as these fit into no index of a list that was made once, and the list would be made anew for every row.
    lane: "SHA2(CONCAT(CHAR_LENGTH({a}), ':', {a}, {b}), 256)",
    // The list leads the join: an IN would read the whole table on servers that cannot turn it round.
    settle_delete: "DELETE o FROM ({ids}) AS settled STRAIGHT_JOIN {table} AS o ON o.{id_column} = settled.id",
    settle_mark: "UPDATE ({ids}) AS settled STRAIGHT_JOIN {table} AS o ON o.{id_column} = settled.id SET {mark}",
    prune: "DELETE o FROM {table} AS o JOIN (SELECT p.id FROM (SELECT {id} AS id FROM {table} AS o WHERE {is_sent} AND {marked_at} < :before ORDER BY {id} LIMIT :limit) AS p) AS pruned ON {id} = pruned.id",
    inbox_known: Some(include_str!("../sql/mysql/inbox_known.sql")),
    parked_change: include_str!("../sql/mysql/parked_change.sql"),
    inbox_insert_many: include_str!("../sql/mysql/inbox_insert_many.sql"),
    inbox_forget: "DELETE FROM inbox WHERE consumer = :consumer AND processed_at < FROM_UNIXTIME(:before / 1000000) ORDER BY processed_at LIMIT :limit",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_has_a_word_for_what_statements_need() {
        let needed = [
            "now",
            "clock",
            "numbers",
            "texts",
            "uuids",
            "pairs",
            "note_conflict",
            "now_text",
            "hash",
            "attempt_conflict",
            "parked_known",
            "schedule_known",
            "for_update",
            "group_conflict",
            "taken_conflict",
            "letter_known",
        ];
        for dialect in [&SQLITE, &POSTGRES, &MYSQL] {
            for name in needed {
                let fragments = dialect.fragments.iter();
                let found = fragments.filter(|(given, _)| *given == name).count();
                assert_eq!(found, 1, "{name} in {:?}", dialect.kind);
            }
        }
    }
}

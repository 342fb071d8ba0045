//! Columns that a table of somebody else may have: each becomes what the guide of the relay says, and so does its absence.

use crate::place::{KINDS, Place, open};
use tidings_core::store::{OutboxRow, OutboxStore};
use tidings_sql::{ColumnMapping, Kind, OutboxOptions};
use tidings_testkit::conformance::store::everything;

/// The seed's columns, and more.
async fn table(place: &Place, more: &str) {
    let id = match place.database.kind() {
        Kind::Postgres => "bigserial PRIMARY KEY",
        Kind::MySql => "BIGINT AUTO_INCREMENT PRIMARY KEY",
        _ => "INTEGER PRIMARY KEY AUTOINCREMENT",
    };
    place
        .run(&format!("DROP TABLE IF EXISTS outbox; CREATE TABLE outbox (id {id}, event_type VARCHAR(255) NOT NULL, payload TEXT NOT NULL, created_at TIMESTAMP NOT NULL, sent BOOLEAN NOT NULL{more})"))
        .await;
}

async fn insert(place: &Place, columns: &str, values: &str) {
    place
        .run(&format!("INSERT INTO outbox (event_type, payload, created_at, sent{columns}) VALUES ('order.placed', '{{\"n\": 1}}', CURRENT_TIMESTAMP, false{values})"))
        .await;
}

async fn rows(place: &Place, mapping: ColumnMapping) -> Vec<OutboxRow> {
    let options = OutboxOptions {
        mapping,
        ..OutboxOptions::default()
    };
    let store = open(&place.database, options).await.unwrap();
    store.unsent(&everything()).await.unwrap().rows
}

const COLUMNS: &str = ", correlation_id VARCHAR(99), causation_id VARCHAR(99), source VARCHAR(99), version INTEGER, content_type VARCHAR(99), headers TEXT";
const NAMES: &str = ", correlation_id, causation_id, source, version, content_type, headers";

#[tokio::test]
async fn each_column_becomes_its_attribute() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "columns").await else {
            continue;
        };
        table(&place, COLUMNS).await;
        insert(
            &place,
            NAMES,
            ", 'flow-1', 'cause-1', 'shop', 3, 'application/vnd.shop+json', '{\"traceparent\": \"t-1\", \"tenant\": 7}'",
        )
        .await;

        let rows = rows(&place, ColumnMapping::default()).await;

        let event = rows[0].content.as_ref().unwrap();
        assert_eq!(event.correlation_id(), "flow-1", "{kind:?}");
        assert_eq!(event.causation_id(), Some("cause-1"));
        assert_eq!(event.source(), Some("shop"));
        assert_eq!(event.version(), 3);
        assert_eq!(event.content_type(), "application/vnd.shop+json");
        assert_eq!(event.extension("traceparent"), Some("\"t-1\""));
        assert_eq!(event.extension("tenant"), Some("7"));
        assert_eq!(event.payload_bytes(), b"{\"n\": 1}");
    }
}

#[tokio::test]
async fn a_mapping_finds_them_under_other_names() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "columns_mapped").await else {
            continue;
        };
        table(
            &place,
            ", request_id VARCHAR(99), cause VARCHAR(99), service VARCHAR(99), revision VARCHAR(9), mime VARCHAR(99), more TEXT",
        )
        .await;
        insert(
            &place,
            ", request_id, cause, service, revision, mime, more",
            ", 'flow-1', 'cause-1', 'shop', '3', 'application/vnd.shop+json', '{\"tenant\": 7}'",
        )
        .await;
        let name = |name: &str| Some(name.to_owned());
        let mapping = ColumnMapping {
            correlation_id: name("request_id"),
            causation_id: name("cause"),
            source: name("service"),
            version: name("revision"),
            content_type: name("mime"),
            headers: name("more"),
            ..ColumnMapping::default()
        };

        let rows = rows(&place, mapping).await;

        let event = rows[0].content.as_ref().unwrap();
        assert_eq!(event.correlation_id(), "flow-1", "{kind:?}");
        assert_eq!(event.causation_id(), Some("cause-1"));
        assert_eq!(event.source(), Some("shop"));
        assert_eq!(event.version(), 3, "a number in a text is one");
        assert_eq!(event.content_type(), "application/vnd.shop+json");
        assert_eq!(event.extension("tenant"), Some("7"));
    }
}

#[tokio::test]
async fn without_a_column_and_without_a_value_the_same_defaults_hold() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "columns_absent").await else {
            continue;
        };
        for more in ["", COLUMNS] {
            table(&place, more).await;
            insert(&place, "", "").await;

            let bare = rows(&place, ColumnMapping::default()).await;
            let mapping = ColumnMapping {
                default_source: Some("legacy".to_owned()),
                default_content_type: Some("application/vnd.shop+json".to_owned()),
                ..ColumnMapping::default()
            };
            let told = rows(&place, mapping).await;

            let event = bare[0].content.as_ref().unwrap();
            assert_eq!(event.correlation_id(), event.event_id(), "{kind:?}");
            assert_eq!(event.correlation_id_given(), None);
            assert_eq!(event.causation_id(), None);
            assert_eq!(event.source(), None);
            assert_eq!(event.version(), 1);
            assert_eq!(event.content_type(), "application/json");
            assert_eq!(event.extensions().len(), 0);
            let event = told[0].content.as_ref().unwrap();
            assert_eq!(event.source(), Some("legacy"));
            assert_eq!(event.content_type(), "application/vnd.shop+json");
        }
    }
}

#[tokio::test]
async fn headers_give_what_columns_do_not_and_a_column_decides_but_for_source_and_content_type() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "columns_and_headers").await else {
            continue;
        };
        table(&place, COLUMNS).await;
        let headers = r#"{"correlation_id": "flow-h", "causation_id": "cause-h", "source": "header", "version": 5, "content_type": "text/plain"}"#;
        insert(&place, ", headers", &format!(", '{headers}'")).await;
        insert(
            &place,
            NAMES,
            &format!(", 'flow-c', 'cause-c', 'column', 6, 'image/png', '{headers}'"),
        )
        .await;

        let rows = rows(&place, ColumnMapping::default()).await;

        let event = rows[0].content.as_ref().unwrap();
        assert_eq!(event.correlation_id(), "flow-h", "{kind:?}");
        assert_eq!(event.causation_id(), Some("cause-h"));
        assert_eq!(event.source(), Some("header"));
        assert_eq!(event.version(), 5);
        assert_eq!(event.content_type(), "text/plain");
        let event = rows[1].content.as_ref().unwrap();
        assert_eq!(event.correlation_id(), "flow-c", "{kind:?}");
        assert_eq!(event.causation_id(), Some("cause-c"));
        assert_eq!(event.source(), Some("header"));
        assert_eq!(event.version(), 6);
        assert_eq!(event.content_type(), "text/plain");
    }
}

/// It was taken for a row without a version, and on PostgreSQL a column of decimals broke the reading of all rows.
#[tokio::test]
async fn a_value_that_is_none_is_told_of_its_row_and_stops_no_other() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "columns_wrong").await else {
            continue;
        };
        table(&place, ", version VARCHAR(20), headers TEXT").await;
        for (columns, values) in [
            (", version", ", 'two'"),
            (", version", ", '-1'"),
            (", version", ", '2.5'"),
            (", version", ", ''"),
            (", version", ", '99999999999'"),
            (", headers", ", '[1, 2]'"),
            (", headers", ", 'trace=1'"),
            (", headers", ", '{\"tenant\": '"),
            (", headers", ", '{\"version\": \"x\"}'"),
            (", version, headers", ", ' 2 ', '{}'"),
        ] {
            insert(&place, columns, values).await;
        }

        let rows = rows(&place, ColumnMapping::default()).await;

        let reasons: Vec<String> = rows
            .iter()
            .filter_map(|row| row.content.as_ref().err())
            .map(|fault| fault.reason.clone())
            .collect();
        assert_eq!(reasons.len(), 9, "{kind:?}: {reasons:?}");
        for (reason, part) in reasons.iter().zip([
            "its version \"two\" is none",
            "its version \"-1\" is none",
            "its version \"2.5\" is none",
            "its version \"\" is none",
            "its version \"99999999999\" is none",
            "its headers are no JSON object",
            "its headers are no JSON object",
            "its headers make no event",
            "its headers make no event",
        ]) {
            assert!(reason.contains(part), "{kind:?}: {reason}");
        }
        assert_eq!(rows[9].content.as_ref().unwrap().version(), 2, "{kind:?}");
    }
}

#[tokio::test]
async fn a_version_may_be_a_decimal_number() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "columns_decimal").await else {
            continue;
        };
        table(&place, ", version DECIMAL(5, 0)").await;
        insert(&place, ", version", ", 4").await;
        insert(&place, ", version", ", NULL").await;

        let rows = rows(&place, ColumnMapping::default()).await;

        let versions = rows
            .iter()
            .map(|row| row.content.as_ref().unwrap().version());
        assert_eq!(versions.collect::<Vec<_>>(), [4, 1], "{kind:?}");
    }
}

/// The hour that a clock on the wall shows says nothing without its zone.
#[tokio::test]
async fn times_that_do_not_say_their_zone_are_read_in_the_one_that_the_mapping_names() {
    const NOON: i64 = 1_782_907_200_000_000;
    const HOUR: i64 = 3_600_000_000;
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "columns_zone").await else {
            continue;
        };
        let (times, id) = match kind {
            Kind::Postgres => ("TIMESTAMP", "bigserial PRIMARY KEY"),
            Kind::MySql => ("DATETIME(6)", "BIGINT AUTO_INCREMENT PRIMARY KEY"),
            _ => ("TEXT", "INTEGER PRIMARY KEY AUTOINCREMENT"),
        };
        let table = format!(
            "CREATE TABLE outbox (id {id}, event_type VARCHAR(99), payload TEXT, created_at {times}, sent BOOLEAN)"
        );
        place.run(&table).await;
        // In Berlin; ten o'clock in UTC.
        let insert = "INSERT INTO outbox (event_type, payload, created_at, sent) VALUES ('order.placed', '{}', '2026-07-01 12:00:00', false)";
        place.run(insert).await;
        let zone = |text: &str| ColumnMapping {
            created_at_zone: Some(text.to_owned()),
            ..ColumnMapping::default()
        };

        for (text, expected) in [
            ("UTC", NOON),
            ("+02:00", NOON - 2 * HOUR),
            ("-05:30", NOON + HOUR * 11 / 2),
        ] {
            let rows = rows(&place, zone(text)).await;
            assert_eq!(rows[0].created_at.as_micros(), expected, "{kind:?} {text}");
        }
        let refused = |text: &'static str| {
            let options = OutboxOptions {
                mapping: zone(text),
                ..OutboxOptions::default()
            };
            let database = &place.database;
            async move { open(database, options).await.unwrap_err().to_string() }
        };
        if kind == Kind::Postgres {
            let rows = rows(&place, zone("Europe/Berlin")).await;
            assert_eq!(rows[0].created_at.as_micros(), NOON - 2 * HOUR);
        }
        for (text, words) in [
            ("x'y", "no time zone"),
            ("+99:00", "no time zone"),
            ("Mars/Base", "know"),
        ] {
            let error = refused(text).await;
            assert!(
                error.contains(text) && error.contains(words),
                "{kind:?}: {error}"
            );
        }
        let sql = "ALTER TABLE outbox DROP COLUMN created_at; ALTER TABLE outbox ADD COLUMN created_at BIGINT";
        place.run(sql).await;
        let error = refused("UTC").await;
        assert!(error.contains("leave it out"), "{kind:?}: {error}");
    }
}

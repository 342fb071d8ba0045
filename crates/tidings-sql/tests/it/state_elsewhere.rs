//! Leases and notes that are in another database than the rows, which nothing can join, or that are nowhere yet.

use crate::place::{KINDS, Place, open};
use tidings_core::limits::OUTBOX_DEAD_ROWS_MAX;
use tidings_core::store::{OutboxStore as _, Settlement};
use tidings_sql::{Kind, OutboxOptions, RelayTables, inspect};
use tidings_testkit::conformance::store::everything;

const DEBEZIUM: &str = "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, aggregatetype TEXT, aggregateid TEXT, type TEXT, payload TEXT";

/// Rows that were sent would have to be named in every read, and were read again beyond the first 10,000.
#[tokio::test]
async fn rows_without_a_mark_are_kept_only_beside_what_is_noted_of_them() {
    let place = Place::fresh(Kind::Sqlite, "no_mark").await.unwrap();
    let state = Place::fresh(Kind::Sqlite, "no_mark_state").await.unwrap();
    place.run(&format!("{DEBEZIUM})")).await;
    let marking = OutboxOptions {
        settlement: Some(Settlement::Mark),
        ..OutboxOptions::default()
    };
    let elsewhere = OutboxOptions {
        state: Some(state.database.clone()),
        ..marking.clone()
    };

    let refused = open(&place.database, elsewhere.clone()).await.unwrap_err();
    let inspected = inspect(&place.database, &elsewhere).await;

    assert_eq!(refused.code().as_str(), "TD0078", "{refused}");
    for way_out in ["beside the rows", "`sent`", "deleted"] {
        assert!(refused.to_string().contains(way_out), "{refused}");
    }
    let settling = inspected
        .iter()
        .find(|found| found.subject == "settle rows");
    let told = settling.unwrap().result.as_ref().unwrap_err();
    assert_eq!(told.to_string(), refused.to_string());
    open(&place.database, marking).await.unwrap();
    place
        .run("ALTER TABLE outbox ADD COLUMN sent INTEGER NOT NULL DEFAULT 0")
        .await;
    open(&place.database, elsewhere).await.unwrap();
}

#[tokio::test]
async fn more_rows_given_up_than_a_read_can_be_told_of_stop_the_relay_and_are_counted() {
    let place = Place::fresh(Kind::Sqlite, "many_dead").await.unwrap();
    let state = Place::fresh(Kind::Sqlite, "many_dead_state").await.unwrap();
    place.run(&format!("{DEBEZIUM})")).await;
    let dead = OUTBOX_DEAD_ROWS_MAX + 1;
    let numbers = |count: u32| {
        format!(
            "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {count})"
        )
    };
    place
        .run(&format!(
            "INSERT INTO outbox (type, payload) {} SELECT 'order.placed', '{{}}' FROM number",
            numbers(dead + 2)
        ))
        .await;
    let options = OutboxOptions {
        state: Some(state.database.clone()),
        ..OutboxOptions::default()
    };
    let store = open(&place.database, options).await.unwrap();
    state
        .run(&format!(
            "INSERT INTO tidings_relay_note {} SELECT '{}', n, 1, 5, 'refused', NULL, 'order.placed', '', NULL, n FROM number",
            numbers(dead),
            store.name()
        ))
        .await;

    let refused = store.unsent(&everything()).await.unwrap_err();
    let status = store.status().await.unwrap();

    assert_eq!(refused.code().as_str(), "TD0078", "{refused}");
    assert!(refused.to_string().contains("outbox retry"), "{refused}");
    assert_eq!((status.pending, status.dead), (2, u64::from(dead)));
    state
        .run("DELETE FROM tidings_relay_note WHERE row_id = '10001'")
        .await;
    let rows = store.unsent(&everything()).await.unwrap().rows;
    assert_eq!(rows.len(), 3);
}

#[tokio::test]
async fn what_waits_is_seen_before_any_relay_ran_and_nothing_is_made_for_it() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "look_first").await else {
            continue;
        };
        let id = match kind {
            Kind::Postgres => "bigserial PRIMARY KEY",
            Kind::MySql => "BIGINT AUTO_INCREMENT PRIMARY KEY",
            _ => "INTEGER PRIMARY KEY AUTOINCREMENT",
        };
        place
            .run(&format!("CREATE TABLE outbox (id {id}, event_type VARCHAR(99), payload TEXT, created_at TIMESTAMP, sent BOOLEAN)"))
            .await;
        let insert = "INSERT INTO outbox (event_type, payload, created_at, sent) VALUES ('order.placed', '{}', CURRENT_TIMESTAMP, false)";
        place.run(insert).await;
        place.run(insert).await;
        let looking = |relay_tables| OutboxOptions {
            relay_tables,
            ..OutboxOptions::default()
        };

        let needed = open(&place.database, looking(RelayTables::Need)).await;
        let store = open(&place.database, looking(RelayTables::Spare))
            .await
            .unwrap();
        let status = store.status().await.unwrap();
        let rows = store.unsent(&everything()).await.unwrap().rows;

        assert_eq!(needed.unwrap_err().code().as_str(), "TD0073", "{kind:?}");
        assert!(!store.is_relayed(), "{kind:?}");
        assert_eq!((status.pending, status.dead), (2, 0), "{kind:?}");
        assert!(status.owners.is_empty(), "{kind:?}");
        assert_eq!(rows.len(), 2, "{kind:?}");
        assert!(store.dead(10).await.unwrap().is_empty(), "{kind:?}");
        let made = place.try_run("SELECT 1 FROM tidings_relay_note").await;
        made.expect_err("a look makes no table");
        let relay = open(&place.database, looking(RelayTables::Make))
            .await
            .unwrap();
        assert!(relay.is_relayed(), "{kind:?}");
        let look = open(&place.database, looking(RelayTables::Spare)).await;
        assert!(look.unwrap().is_relayed(), "{kind:?}");
    }
}

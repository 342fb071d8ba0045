//! A relay whose leases and notes are in another database than the rows, which nothing can join.

use crate::place::{Place, open};
use tidings_core::limits::OUTBOX_DEAD_ROWS_MAX;
use tidings_core::store::{OutboxStore as _, Settlement};
use tidings_sql::{Kind, OutboxOptions, inspect};
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

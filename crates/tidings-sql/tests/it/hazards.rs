//! What has bitten other outboxes, on the real databases.

use crate::place::{KINDS, Place, open};
use sqlx::Row as _;
use tidings_core::store::{OutboxStore, UnsentQuery};
use tidings_sql::schema::{self, Part};
use tidings_sql::{Database, Kind, OutboxOptions, Pool, SqlOutbox};
use tidings_testkit::conformance::store::everything;

async fn made(kind: Kind, test: &str) -> Option<(Place, SqlOutbox)> {
    let place = Place::fresh(kind, test).await?;
    schema::migrate(&place.database, &Part::ALL).await.unwrap();
    let store = open(&place.database, OutboxOptions::default())
        .await
        .unwrap();
    Some((place, store))
}

fn insert(key: &str, payload: u32) -> String {
    format!(
        "INSERT INTO outbox (event_type, aggregate_id, payload) VALUES ('order.placed', '{key}', '{payload}')"
    )
}

async fn payloads(store: &SqlOutbox) -> Vec<String> {
    let rows = store.unsent(&everything()).await.unwrap().rows;
    let payloads = rows
        .iter()
        .map(|row| row.content.as_ref().unwrap().payload_bytes().to_vec());
    payloads
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .collect()
}

/// A cursor that had moved on to the second id would never read the first.
#[tokio::test]
async fn an_id_that_becomes_visible_late_is_not_lost() {
    let Some((place, store)) = made(Kind::Postgres, "late_id").await else {
        return;
    };
    let Pool::Postgres(pool) = place.database.pool() else {
        unreachable!("it was asked for");
    };
    let mut first = pool.begin().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(insert("a", 1)))
        .execute(&mut *first)
        .await
        .unwrap();
    place.run(&insert("b", 2)).await;

    let early = store.unsent(&everything()).await.unwrap();
    assert_eq!(early.rows.len(), 1);
    store.settle(&[early.rows[0].id]).await.unwrap();
    first.commit().await.unwrap();

    assert_eq!(payloads(&store).await, ["1"]);
    let horizon = early.horizon.unwrap();
    assert!(
        horizon.oldest_open < horizon.first_future,
        "the reading knew of the open writer: {horizon:?}"
    );
}

/// A cursor by transaction numbers would deliver the second version first, and nothing while the long writer runs.
#[tokio::test]
async fn versions_of_one_key_come_in_their_order_beside_a_long_writer() {
    let Some((place, store)) = made(Kind::Postgres, "versions").await else {
        return;
    };
    let Pool::Postgres(pool) = place.database.pool() else {
        unreachable!("it was asked for");
    };
    place.run("CREATE TABLE other (n int)").await;
    let run = async |tx: &mut sqlx::Transaction<'_, sqlx::Postgres>, sql: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut **tx)
            .await
            .unwrap();
    };
    let mut early = pool.begin().await.unwrap();
    run(&mut early, "INSERT INTO other VALUES (1)".to_owned()).await;
    let mut long = pool.begin().await.unwrap();
    run(&mut long, "INSERT INTO other VALUES (2)".to_owned()).await;
    place.run(&insert("a", 1)).await;
    run(&mut early, insert("a", 2)).await;
    early.commit().await.unwrap();

    assert_eq!(payloads(&store).await, ["1", "2"]);
    long.rollback().await.unwrap();
}

/// Transaction numbers begin anew in a restored cluster; the state of a row does not.
#[tokio::test]
async fn a_copy_of_the_tables_in_a_fresh_database_is_relayed_from_where_it_was() {
    for kind in KINDS {
        let Some((place, store)) = made(kind, "restored").await else {
            continue;
        };
        place.run(&insert("a", 1)).await;
        place.run(&insert("a", 2)).await;
        let rows = store.unsent(&everything()).await.unwrap().rows;
        store.settle(&[rows[0].id]).await.unwrap();
        let Some((copy, restored)) = made(kind, "restored_copy").await else {
            continue;
        };
        // What a dump holds: the rows with their ids.
        copy.run(&format!("INSERT INTO outbox (id, event_type, aggregate_id, payload) VALUES ({}, 'order.placed', 'a', '2')", rows[1].id)).await;

        assert_eq!(payloads(&restored).await, ["2"]);
    }
}

#[tokio::test]
async fn an_id_is_not_given_twice_after_its_row_was_deleted() {
    for kind in KINDS {
        let Some((place, store)) = made(kind, "id_twice").await else {
            continue;
        };
        place.run(&insert("a", 1)).await;
        let rows = store.unsent(&everything()).await.unwrap().rows;
        store.settle(&[rows[0].id]).await.unwrap();
        place.run(&insert("a", 2)).await;

        assert!(store.unsent(&everything()).await.unwrap().rows[0].id > rows[0].id);
    }
    let place = Place::fresh(Kind::Sqlite, "id_twice_bare").await.unwrap();
    let bare = schema::ddl(Kind::Sqlite, Part::Outbox)
        .unwrap()
        .replace("PRIMARY KEY AUTOINCREMENT", "PRIMARY KEY");
    place.run(&bare).await;
    let error = open(&place.database, OutboxOptions::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("AUTOINCREMENT"), "{error}");
}

/// Nothing may be cleaned up below the snapshot; a reading from the floor on steps over it.
#[tokio::test]
async fn a_reading_from_the_floor_does_not_visit_dead_rows_of_a_held_snapshot() {
    let Some((place, store)) = made(Kind::Postgres, "held_snapshot").await else {
        return;
    };
    let Pool::Postgres(pool) = place.database.pool() else {
        unreachable!("it was asked for");
    };
    place.run("INSERT INTO outbox (event_type, payload) SELECT 'order.placed', '1' FROM generate_series(1, 20000); ANALYZE outbox").await;
    let mut holder = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .unwrap();
    sqlx::raw_sql("SELECT COUNT(*) FROM outbox")
        .execute(&mut *holder)
        .await
        .unwrap();
    place.run("DELETE FROM outbox WHERE id <= 19990").await;
    place.run("VACUUM outbox").await;
    let visited = async |condition: &str| {
        let sql = format!(
            "EXPLAIN (ANALYZE, BUFFERS) SELECT id FROM outbox WHERE NOT sent {condition} ORDER BY id LIMIT 500"
        );
        let plan: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_all(pool)
            .await
            .unwrap();
        // The first line tells of the whole plan: `Buffers: shared hit=3 read=1`.
        let buffers = plan.iter().find(|line| line.contains("Buffers:")).unwrap();
        let numbers = buffers
            .split([' ', '='])
            .filter_map(|word| word.parse::<u64>().ok());
        numbers.sum::<u64>()
    };

    let (whole, floored) = (visited("").await, visited("AND id > 19990").await);

    assert!(
        floored * 10 < whole,
        "{floored} blocks from the floor on, {whole} without it"
    );
    let query = UnsentQuery {
        floor: Some(tidings_core::store::RowId(19_990)),
        ..everything()
    };
    assert_eq!(store.unsent(&query).await.unwrap().rows.len(), 10);
}

/// A planner that takes every list of what is left out for half of the rows would sort the whole table at each reading.
#[tokio::test]
async fn a_reading_of_a_long_backlog_walks_along_the_ids() {
    let Some((place, _)) = made(Kind::Postgres, "long_backlog").await else {
        return;
    };
    let Pool::Postgres(pool) = place.database.pool() else {
        unreachable!("it was asked for");
    };
    place.run("INSERT INTO outbox (event_type, aggregate_id, payload) SELECT 'order.placed', n, '1' FROM generate_series(1, 5000) AS n; ANALYZE outbox").await;
    // One connection, so that its prepared statements are those of the store.
    let options = (*pool.connect_options()).clone();
    let one = sqlx::postgres::PgPoolOptions::new().max_connections(1);
    let one = one.connect_with(options).await.unwrap();
    let database = Database::from_pool(Pool::Postgres(one.clone()), "one");
    let store = open(&database, OutboxOptions::default()).await.unwrap();
    assert!(!store.unsent(&everything()).await.unwrap().rows.is_empty());

    let sql = "SELECT CAST(name AS text), (SELECT string_agg(CASE WHEN CAST(t AS text) = 'text' THEN quote_literal('[\"1\"]') ELSE '100' END, ', ') FROM unnest(parameter_types) AS t) FROM pg_prepared_statements WHERE statement LIKE '%oldest_open%' AND statement NOT LIKE '%pg_prepared%'";
    let (name, values): (String, String) = sqlx::query_as(sql).fetch_one(&one).await.unwrap();
    let explain = format!("EXPLAIN EXECUTE {name} ({values})");
    let plan = sqlx::raw_sql(sqlx::AssertSqlSafe(explain))
        .fetch_all(&one)
        .await
        .unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();

    let plan = plan.join("\n");
    assert!(plan.contains("Index Scan using outbox_pkey"), "{plan}");
    assert!(!plan.contains("Seq Scan on outbox"), "{plan}");
}

/// Under REPEATABLE READ and with locks, each of these inserts would wait until it gives up.
#[tokio::test]
async fn a_relay_on_mariadb_blocks_no_insert() {
    let Some((place, store)) = made(Kind::MySql, "no_insert_blocked").await else {
        return;
    };
    for n in 0..20 {
        let query = everything();
        let rows = store.unsent(&query);
        let text = insert("a", n);
        let insert = place.try_run(&text);
        let (rows, inserted) = tokio::join!(rows, insert);
        inserted.unwrap();
        let rows = rows.unwrap().rows;
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let text = self::insert("b", n);
        let (settled, inserted) = tokio::join!(store.settle(&ids), place.try_run(&text));
        settled.unwrap();
        inserted.unwrap();
    }
}

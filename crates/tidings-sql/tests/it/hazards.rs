//! What has bitten other outboxes, on the real databases.

use crate::place::{KINDS, Place, open};
use sqlx::Row as _;
use tidings_core::store::{DeadTuples, OutboxStore, UnsentQuery};
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

/// A transaction of a producer that stays open.
enum Writer {
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    MySql(sqlx::Transaction<'static, sqlx::MySql>),
}

impl Writer {
    /// Begins with a statement.
    async fn begin(place: &Place, sql: &str) -> Self {
        let mut begun = match place.database.pool() {
            Pool::Postgres(pool) => Self::Postgres(pool.begin().await.unwrap()),
            Pool::MySql(pool) => Self::MySql(pool.begin().await.unwrap()),
            _ => unreachable!("SQLite has one writer at a time"),
        };
        let script = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        match &mut begun {
            Self::Postgres(tx) => script.execute(&mut **tx).await.map(drop),
            Self::MySql(tx) => script.execute(&mut **tx).await.map(drop),
        }
        .unwrap();
        begun
    }

    async fn commit(self) {
        match self {
            Self::Postgres(tx) => tx.commit().await,
            Self::MySql(tx) => tx.commit().await,
        }
        .unwrap();
    }
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
    for kind in [Kind::Postgres, Kind::MySql] {
        let Some((place, store)) = made(kind, "late_id").await else {
            continue;
        };
        let first = Writer::begin(&place, &insert("a", 1)).await;
        place.run(&insert("b", 2)).await;

        let early = store.unsent(&everything()).await.unwrap();
        assert_eq!(early.rows.len(), 1, "{kind:?}");
        store.settle(&[early.rows[0].id]).await.unwrap();
        first.commit().await;

        assert_eq!(payloads(&store).await, ["1"], "{kind:?}");
        let late = store.unsent(&everything()).await.unwrap().rows[0].id;
        assert!(
            late < early.rows[0].id,
            "{kind:?}: its id is the smaller one"
        );
        if kind == Kind::Postgres {
            let horizon = early.horizon.unwrap();
            assert!(
                horizon.oldest_open < horizon.first_future,
                "the reading knew of the open writer: {horizon:?}"
            );
        }
    }
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
    let Some((place, _)) = made(Kind::Postgres, "held_snapshot").await else {
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
    // One connection, so that its prepared statements are those of the store.
    let one = sqlx::postgres::PgPoolOptions::new().max_connections(1);
    let one = one
        .connect_with((*pool.connect_options()).clone())
        .await
        .unwrap();
    let database = Database::from_pool(Pool::Postgres(one.clone()), "one");
    let store = open(&database, OutboxOptions::default()).await.unwrap();
    let floored = UnsentQuery {
        floor: Some(tidings_core::store::RowId(19_990)),
        ..everything()
    };
    for query in [&everything(), &floored] {
        assert_eq!(store.unsent(query).await.unwrap().rows.len(), 10);
    }

    let sql = "SELECT CAST(name AS text), statement, CAST(parameter_types AS text[]) FROM pg_prepared_statements WHERE statement LIKE '%oldest_open%' AND statement NOT LIKE '%pg_prepared%' ORDER BY statement LIKE '%\"id\" > $%'";
    let prepared: Vec<(String, String, Vec<String>)> =
        sqlx::query_as(sql).fetch_all(&one).await.unwrap();
    let mut plans = Vec::new();
    for (name, statement, types) in &prepared {
        let values = values_of(statement, types);
        let sql = format!("EXPLAIN (ANALYZE, BUFFERS) EXECUTE {name} ({values})");
        let plan = sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .fetch_all(&one)
            .await
            .unwrap();
        plans.push(plan.iter().map(|row| row.get(0)).collect::<Vec<String>>());
    }
    let visited = |plan: &[String]| {
        // The first line tells of the whole plan: `Buffers: shared hit=3 read=1`.
        let buffers = plan.iter().find(|line| line.contains("Buffers:")).unwrap();
        let numbers = buffers
            .split([' ', '='])
            .filter_map(|word| word.parse::<u64>().ok());
        numbers.sum::<u64>()
    };

    let [whole, floored] = &plans[..] else {
        panic!("the store reads by two statements: {prepared:?}");
    };
    let text = floored.join("\n");
    assert!(text.contains("Index Scan using outbox_pkey"), "{text}");
    assert!(text.contains("Index Cond: (id > "), "{text}");
    let (whole, floored) = (visited(whole), visited(floored));
    assert!(
        floored * 10 < whole,
        "{floored} blocks from the floor on, {whole} without it: {text}"
    );
}

/// What a statement that reads up to 500 rows is executed with, the last dead row as its floor and nothing left out.
fn values_of(statement: &str, types: &[String]) -> String {
    // The number of the value that follows these words.
    let number = |words: &str| {
        let digits = statement.split(words).nth(1)?;
        let digits = digits.split(|letter: char| !letter.is_ascii_digit()).next();
        digits?.parse::<usize>().ok()
    };
    let (floor, limit) = (number("\"id\" > $"), number("LIMIT $"));
    let values = types.iter().zip(1..).map(|(kind, at)| match kind.as_str() {
        "text" => "'[]'",
        _ if Some(at) == floor => "19990",
        _ if Some(at) == limit => "500",
        _ => "1",
    });
    values.collect::<Vec<_>>().join(", ")
}

/// An operator sees how much is kept, and whose session keeps it.
#[tokio::test]
async fn the_status_on_postgres_tells_of_dead_rows_and_of_who_keeps_them() {
    let Some((place, store)) = made(Kind::Postgres, "dead_tuples").await else {
        return;
    };
    place.run("INSERT INTO outbox (event_type, payload) SELECT 'order.placed', '1' FROM generate_series(1, 500)").await;
    let Pool::Postgres(pool) = place.database.pool() else {
        unreachable!("it was asked for");
    };
    let mut holder = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid() FROM outbox LIMIT 1")
        .fetch_one(&mut *holder)
        .await
        .unwrap();
    place.run("DELETE FROM outbox").await;
    // Statistics come late.
    let cleaned = async |wanted: &dyn Fn(&DeadTuples) -> bool| {
        let looking = async {
            loop {
                place.run("VACUUM outbox").await;
                let dead = store.status().await.unwrap().dead_tuples.unwrap();
                if wanted(&dead) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let limit = std::time::Duration::from_secs(60);
        tokio::time::timeout(limit, looking).await
    };

    let held = |dead: &DeadTuples| {
        let by = dead.oldest_snapshot.as_ref().map(|holder| holder.pid);
        dead.count == 500 && by == Some(pid as u64)
    };
    cleaned(&held).await.expect("all are kept, by that session");
    holder.rollback().await.unwrap();
    let gone = |dead: &DeadTuples| {
        let by = dead.oldest_snapshot.as_ref().map(|holder| holder.pid);
        dead.count == 0 && by != Some(pid as u64)
    };
    cleaned(&gone).await.expect("nothing is kept any more");

    for kind in [Kind::Sqlite, Kind::MySql] {
        if let Some((_place, store)) = made(kind, "dead_tuples").await {
            assert_eq!(store.status().await.unwrap().dead_tuples, None, "{kind:?}");
        }
    }
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

/// Producers work under REPEATABLE READ, which is the default of the server. There the usual claim of a relay makes each of their inserts wait until it gives up.
#[tokio::test]
async fn a_relay_waits_for_no_producer_under_repeatable_read_and_none_waits_for_it() {
    let Some((place, store)) = made(Kind::MySql, "claim_and_inserts").await else {
        return;
    };
    let options = sqlx::mysql::MySqlPoolOptions::new();
    let producers = options.connect(place.url()).await.unwrap();
    let isolation: String = sqlx::query_scalar("SELECT @@tx_isolation")
        .fetch_one(&producers)
        .await
        .unwrap();
    assert_eq!(isolation, "REPEATABLE-READ");
    let impatient = async || {
        let mut tx = producers.begin().await.unwrap();
        sqlx::raw_sql("SET SESSION innodb_lock_wait_timeout = 1")
            .execute(&mut *tx)
            .await
            .unwrap();
        tx
    };
    let add = async |tx: &mut sqlx::Transaction<'_, sqlx::MySql>, n: u32| {
        let sql = sqlx::AssertSqlSafe(insert("a", n));
        sqlx::raw_sql(sql).execute(&mut **tx).await.map(drop)
    };
    let mut claim = producers.begin().await.unwrap();
    sqlx::raw_sql(
        "SELECT id FROM outbox WHERE sent = 0 ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED",
    )
    .execute(&mut *claim)
    .await
    .unwrap();
    let mut blocked = impatient().await;
    let error = add(&mut blocked, 0).await.unwrap_err();
    assert!(
        error.to_string().contains("1205"),
        "the hazard is there: {error}"
    );
    blocked.rollback().await.unwrap();
    claim.rollback().await.unwrap();

    // A producer has written and is not done.
    place.run(&insert("a", 1)).await;
    let mut open = impatient().await;
    add(&mut open, 2).await.unwrap();
    let request = tidings_core::store::LeaseRequest {
        shard: tidings_core::store::Shard::WHOLE,
        owner: "the relay".to_owned(),
        time_to_live: std::time::Duration::from_secs(5),
    };
    store.lease(&request).await.unwrap();
    let rows = store.unsent(&everything()).await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    store.settle(&[rows[0].id]).await.unwrap();
    let mut other = impatient().await;
    add(&mut other, 3).await.unwrap();
    add(&mut open, 4).await.unwrap();
    other.commit().await.unwrap();
    open.commit().await.unwrap();

    assert_eq!(payloads(&store).await, ["2", "3", "4"]);
}

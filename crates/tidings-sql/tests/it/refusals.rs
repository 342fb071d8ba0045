//! What is refused before any damage.

use crate::place::{KINDS, Place, open};
use tidings_core::store::{OutboxStore, StoreError};
use tidings_sql::schema::{self, Part};
use tidings_sql::{
    ColumnMapping, Database, DatabaseOptions, Failures, Inbox, Kind, OutboxOptions, Pool,
};
use tidings_testkit::database::{Server, TestDatabase};

#[tokio::test]
async fn a_table_with_other_columns_is_refused_with_their_names() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "other_columns").await else {
            continue;
        };
        place
            .run("CREATE TABLE outbox (id INTEGER PRIMARY KEY, kind VARCHAR(20), payload TEXT)")
            .await;

        let error = open(&place.database, OutboxOptions::default())
            .await
            .unwrap_err();

        assert_eq!(error.code().as_str(), "TD0074", "{error}");
        assert!(error.to_string().contains("id, kind, payload"), "{error}");
    }
}

#[tokio::test]
async fn tables_of_a_newer_program_are_not_relayed() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "newer_outbox").await else {
            continue;
        };
        schema::migrate(&place.database, &Part::ALL).await.unwrap();
        place.run("UPDATE tidings_schema SET version = 2").await;

        let error = open(&place.database, OutboxOptions::default())
            .await
            .unwrap_err();

        assert_eq!(error.code().as_str(), "TD0075", "{error}");
    }
}

#[tokio::test]
async fn an_inbox_and_failures_of_a_newer_program_are_not_opened() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "newer_inbox").await else {
            continue;
        };
        schema::migrate(&place.database, &Part::ALL).await.unwrap();
        let inbox = async || Inbox::open(&place.database).await;
        let failures = async || Failures::open(&place.database).await;
        inbox().await.unwrap();
        failures().await.unwrap();

        place
            .run("UPDATE tidings_schema SET version = 99 WHERE part = 'inbox'")
            .await;
        let newer = inbox().await.unwrap_err();
        failures().await.unwrap();
        place
            .run("UPDATE tidings_schema SET version = 99 WHERE part = 'failure'")
            .await;
        let newer_too = failures().await.unwrap_err();

        for error in [newer, newer_too] {
            let found = match &error {
                StoreError::SchemaNewer { found, .. } => *found,
                other => panic!("{kind:?}: {other}"),
            };
            assert_eq!(found, 99, "{kind:?}");
        }
    }
}

/// Programs that write by SQL of their own are held to what the relay can read, as far as the database is able to.
#[tokio::test]
async fn plain_sql_that_writes_no_json_is_refused_or_its_row_is_no_event_and_holds_nobody_up() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "no_json").await else {
            continue;
        };
        schema::migrate(&place.database, &Part::ALL).await.unwrap();
        let store = open(&place.database, OutboxOptions::default())
            .await
            .unwrap();
        let write = async |columns: &str, values: &str| {
            let sql = format!(
                "INSERT INTO outbox (event_type, {columns}) VALUES ('order.placed', {values})"
            );
            place.try_run(&sql).await
        };
        let bytes = match kind {
            Kind::Postgres => "'\\x7b7d'",
            _ => "x'7b7d'",
        };

        for payload in ["{broken", "total=5", "{\"a\": 1,}", "NaN", ""] {
            let refused = write("payload", &format!("'{payload}'")).await;
            assert!(refused.is_err(), "{kind:?}: {payload:?} is a payload");
        }
        let two = write("payload, payload_bytes", &format!("'{{}}', {bytes}")).await;
        assert!(two.is_err(), "{kind:?}: a row has two payloads");
        let of_no_type = place
            .try_run("INSERT INTO outbox (payload) VALUES ('{}')")
            .await;
        assert!(of_no_type.is_err(), "{kind:?}: an event has no type");
        // What the database lets pass, the row is told for.
        let mut faults = 0;
        for headers in ["[1]", "{broken", "{\"version\": \"two\"}"] {
            let written = write("payload, headers", &format!("'{{}}', '{headers}'")).await;
            let is_refused = kind == Kind::Postgres && headers == "{broken";
            assert_eq!(written.is_err(), is_refused, "{kind:?}: {headers:?}");
            faults += usize::from(!is_refused);
        }
        write("payload", "'{\"n\": 1}'").await.unwrap();
        write("payload_bytes", bytes).await.unwrap();

        let query = tidings_testkit::conformance::store::everything();
        let rows = store.unsent(&query).await.unwrap().rows;
        let (faulty, good) = rows.split_at(faults);
        for row in faulty {
            let fault = row.content.as_ref().unwrap_err();
            assert!(fault.reason.contains("its headers"), "{}", fault.reason);
        }
        let payloads = good
            .iter()
            .map(|row| row.content.as_ref().unwrap().payload_bytes());
        let payloads: Vec<&[u8]> = payloads.collect();
        assert_eq!(payloads, [b"{\"n\": 1}".as_slice(), b"{}"], "{kind:?}");
    }
}

#[tokio::test]
async fn ids_that_sessions_take_in_blocks_are_refused() {
    let Some(place) = Place::fresh(Kind::Postgres, "sequence_cache").await else {
        return;
    };
    schema::migrate(&place.database, &[Part::Outbox])
        .await
        .unwrap();
    place
        .run("ALTER TABLE outbox ALTER COLUMN id SET CACHE 20")
        .await;

    let error = open(&place.database, OutboxOptions::default())
        .await
        .unwrap_err();

    assert!(
        error.to_string().contains("20 numbers at a time"),
        "{error}"
    );
    let unordered = OutboxOptions {
        unordered: true,
        ..OutboxOptions::default()
    };
    open(&place.database, unordered).await.unwrap();
    let remedy = error.to_string();
    let remedy = remedy
        .split("; ")
        .find(|part| part.starts_with("ALTER"))
        .unwrap();
    place.run(remedy).await;
    open(&place.database, OutboxOptions::default())
        .await
        .unwrap();
}

/// The column that rows are ordered by counts, whoever fills it.
#[tokio::test]
async fn numbers_that_sessions_take_in_blocks_are_refused_wherever_order_comes_from() {
    let Some(place) = Place::fresh(Kind::Postgres, "order_cache").await else {
        return;
    };
    let ordered_by_seq = OutboxOptions {
        mapping: ColumnMapping {
            order: Some("seq".to_owned()),
            ..ColumnMapping::default()
        },
        ..OutboxOptions::default()
    };
    let refusal = async |id: &str, options: &OutboxOptions| {
        place
            .run(&format!("DROP TABLE IF EXISTS outbox; DROP SEQUENCE IF EXISTS \"Numbers\"; CREATE SEQUENCE \"Numbers\" CACHE 5; CREATE TABLE outbox (id {id}, aggregatetype text, aggregateid text, type text, payload json)"))
            .await;
        open(&place.database, options.clone()).await.err()
    };

    for (columns, options) in [
        (
            "bigint PRIMARY KEY DEFAULT nextval('\"Numbers\"')",
            OutboxOptions::default(),
        ),
        (
            "bigint PRIMARY KEY DEFAULT nextval('\"Numbers\"'::text)",
            OutboxOptions::default(),
        ),
        (
            "uuid PRIMARY KEY, seq bigint DEFAULT nextval('\"Numbers\"')",
            ordered_by_seq.clone(),
        ),
        (
            "uuid PRIMARY KEY, seq bigint GENERATED ALWAYS AS IDENTITY (CACHE 5)",
            ordered_by_seq.clone(),
        ),
    ] {
        let error = refusal(columns, &options).await.expect(columns);
        assert!(
            error.to_string().contains("5 numbers at a time"),
            "{columns}: {error}"
        );
    }
    let counting_down =
        "bigint GENERATED ALWAYS AS IDENTITY (INCREMENT BY -1 MAXVALUE 1000) PRIMARY KEY";
    let error = refusal(counting_down, &OutboxOptions::default())
        .await
        .unwrap();
    assert!(error.to_string().contains("counts by -1"), "{error}");
    for (columns, options) in [
        // Gaps reorder nothing, and an id by which nothing is ordered may be drawn anyhow.
        (
            "bigint GENERATED ALWAYS AS IDENTITY (INCREMENT BY 10) PRIMARY KEY",
            OutboxOptions::default(),
        ),
        (
            "bigint PRIMARY KEY DEFAULT nextval('\"Numbers\"'), seq bigserial",
            ordered_by_seq.clone(),
        ),
    ] {
        let error = refusal(columns, &options).await;
        assert!(error.is_none(), "{columns}: {error:?}");
    }
}

/// A relay takes a horizon for the promise that ids are in the order of rows, and would leave rows out below its floor.
#[tokio::test]
async fn a_horizon_is_told_only_where_ids_tell_the_order_of_rows() {
    let Some(place) = Place::fresh(Kind::Postgres, "horizon").await else {
        return;
    };
    let number = "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY";
    for (columns, order, tells) in [
        (number.to_owned(), None, true),
        (format!("{number}, seq bigserial"), Some("seq"), false),
        (
            "uuid PRIMARY KEY, seq bigserial".to_owned(),
            Some("seq"),
            false,
        ),
    ] {
        place
            .run(&format!("DROP TABLE IF EXISTS outbox; CREATE TABLE outbox (id {columns}, aggregatetype text, aggregateid text, type text, payload json)"))
            .await;
        let options = OutboxOptions {
            mapping: ColumnMapping {
                order: order.map(str::to_owned),
                ..ColumnMapping::default()
            },
            ..OutboxOptions::default()
        };
        let store = open(&place.database, options).await.unwrap();

        let found = store
            .unsent(&tidings_testkit::conformance::store::everything())
            .await
            .unwrap();

        assert_eq!(found.horizon.is_some(), tells, "{columns}");
        assert_eq!(store.ids_tell_order(), tells, "{columns}");
    }
}

/// The claim of a relay would block every insert of producers under it.
#[tokio::test]
async fn repeatable_read_is_refused_on_mariadb() {
    let Some(made) = TestDatabase::fresh(Server::MariaDb, "repeatable_read").await else {
        return;
    };
    let pool = sqlx::MySqlPool::connect(made.url()).await.unwrap();
    let database = Database::from_pool(Pool::MySql(pool), "mysql://test");
    schema::migrate(&database, &Part::ALL).await.unwrap();

    let error = open(&database, OutboxOptions::default()).await.unwrap_err();

    assert!(error.to_string().contains("REPEATABLE-READ"), "{error}");
    assert!(error.to_string().contains("READ COMMITTED"), "{error}");
}

#[tokio::test]
async fn uuids_without_an_order_are_refused_unless_nobody_needs_order() {
    let Some(place) = Place::fresh(Kind::Postgres, "uuids_without_order").await else {
        return;
    };
    place.run("CREATE TABLE outbox (id uuid PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload jsonb)").await;

    let error = open(&place.database, OutboxOptions::default())
        .await
        .unwrap_err();

    assert!(error.to_string().contains("unordered"), "{error}");
    let unordered = OutboxOptions {
        unordered: true,
        ..OutboxOptions::default()
    };
    open(&place.database, unordered).await.unwrap();
}

#[tokio::test]
async fn a_mapping_gives_other_names_their_meaning() {
    let place = Place::fresh(Kind::Sqlite, "mapping").await.unwrap();
    place.run("CREATE TABLE events (nr INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, body TEXT, at TEXT, done INTEGER DEFAULT 0, order_no TEXT)").await;
    place.run("INSERT INTO events (kind, body, at, order_no) VALUES ('order.placed', '{}', '2024-01-15T10:30:00Z', 'o-1')").await;
    let name = |name: &str| Some(name.to_owned());
    let mapping = ColumnMapping {
        id: name("nr"),
        event_type: name("kind"),
        payload: name("body"),
        created_at: name("at"),
        sent: name("done"),
        aggregate_id: name("order_no"),
        default_source: name("legacy"),
        ..ColumnMapping::default()
    };
    let options = OutboxOptions {
        table: "events".to_owned(),
        mapping,
        ..OutboxOptions::default()
    };
    let store = open(&place.database, options).await.unwrap();

    let rows = store
        .unsent(&tidings_testkit::conformance::store::everything())
        .await
        .unwrap()
        .rows;

    let envelope = rows[0].content.as_ref().unwrap();
    assert_eq!(envelope.aggregate_id(), Some("o-1"));
    assert_eq!(envelope.source(), Some("legacy"));
    assert_eq!(
        envelope.timestamp().unwrap().to_string(),
        "2024-01-15T10:30:00Z"
    );
    store.settle(&[rows[0].id]).await.unwrap();
    assert_eq!(
        place
            .number("SELECT COUNT(*) FROM events WHERE done = 1")
            .await,
        1
    );
}

/// The statement that the error names is the one that helps.
#[tokio::test]
async fn a_missing_privilege_is_named_with_its_grant_on_postgres() {
    let Some(made) = TestDatabase::fresh(Server::Postgres, "grants").await else {
        return;
    };
    let owner = Database::open(made.url(), &DatabaseOptions::default())
        .await
        .unwrap();
    schema::migrate(&owner, &Part::ALL).await.unwrap();
    let Pool::Postgres(pool) = owner.pool() else {
        unreachable!("it was asked for");
    };
    let run = async |sql: &str| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(pool)
            .await
            .unwrap();
    };
    run("DO $$ BEGIN CREATE ROLE t_relay LOGIN PASSWORD 'relay'; EXCEPTION WHEN duplicate_object THEN NULL; END $$").await;
    let limited = made.url_as("t_relay", "relay");
    let limited = Database::open(&limited, &DatabaseOptions::default())
        .await
        .unwrap();

    let mut grants = 0;
    while let Err(error) = open(&limited, OutboxOptions::default()).await {
        assert_eq!(error.code().as_str(), "TD0076", "{error}");
        let text = error.to_string();
        let grant = text.split("run: ").last().unwrap();
        assert!(
            grant.starts_with("GRANT ") && grant.contains(" TO t_relay;"),
            "{text}"
        );
        run(grant).await;
        grants += 1;
        assert!(grants < 10, "the grants do not help: {text}");
    }
    assert!(grants > 0);
}

#[tokio::test]
async fn a_missing_privilege_is_named_with_its_grant_on_mariadb() {
    let Some(made) = TestDatabase::fresh(Server::MariaDb, "grants").await else {
        return;
    };
    let owner = Database::open(made.url(), &DatabaseOptions::default())
        .await
        .unwrap();
    schema::migrate(&owner, &Part::ALL).await.unwrap();
    let Pool::MySql(pool) = owner.pool() else {
        unreachable!("it was asked for");
    };
    let run = async |sql: &str| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(pool)
            .await
            .unwrap();
    };
    run("DROP USER IF EXISTS t_relay").await;
    run("CREATE USER t_relay IDENTIFIED BY 'relay'").await;
    let name = made.url().split('?').next().unwrap();
    let name = name.rsplit('/').next().unwrap().to_owned();
    run(&format!("GRANT SELECT ON {name}.inbox TO t_relay")).await;
    run(&format!("GRANT SELECT ON {name}.outbox TO t_relay")).await;
    let limited = made.url_as("t_relay", "relay");
    let limited = Database::open(&limited, &DatabaseOptions::default())
        .await
        .unwrap();

    let mut grants = 0;
    while let Err(error) = open(&limited, OutboxOptions::default()).await {
        assert_eq!(error.code().as_str(), "TD0076", "{error}");
        let text = error.to_string();
        let grant = text.split("run: ").last().unwrap();
        assert!(
            grant.starts_with("GRANT ") && grant.contains("t_relay"),
            "{text}"
        );
        run(&grant
            .replace("@'localhost'", "")
            .replace("@'127.0.0.1'", ""))
        .await;
        grants += 1;
        assert!(grants < 20, "the grants do not help: {text}");
    }
    assert!(grants > 0);
    run("DROP USER t_relay").await;
}

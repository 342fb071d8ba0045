//! Events that come another way than in a plain transaction of sqlx: behind a savepoint, alone, into a database that may not be written, and through other drivers.

use crate::place::{Counting, KINDS, Place, clock, open};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidings_core::extract::Draft;
use tidings_core::store::{OutboxStore as _, Wake};
use tidings_core::{Envelope, EnvelopeParts, Event, Payload, envelope_json};
use tidings_sql::schema::{self, Part};
use tidings_sql::{
    Bind, Database, DatabaseOptions, Insert, Kind, Outbox, OutboxConfig, OutboxOptions, Pool,
};
use tidings_testkit::conformance::store::everything;
use tidings_testkit::database::{Server, TestDatabase};

#[derive(Serialize, Deserialize)]
pub(crate) struct StockCounted {
    pub(crate) shelf: String,
}

impl Event for StockCounted {
    const TYPE: &'static str = "stock.counted";

    fn key(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.shelf))
    }
}

pub(crate) fn outbox(config: OutboxConfig) -> Outbox {
    Outbox::new(config, clock(), Counting::new()).unwrap()
}

fn draft(key: &str) -> Draft {
    let line = format!(r#"{{"event_type":"order.placed","aggregate_id":"{key}","payload":{{}}}}"#);
    envelope_json::draft_from_json(line.as_bytes()).unwrap()
}

async fn made(kind: Kind, test: &str) -> Option<Place> {
    let place = Place::fresh(kind, test).await?;
    schema::migrate(&place.database, &Part::ALL).await.unwrap();
    Some(place)
}

async fn waiting(database: &Database) -> Vec<Envelope> {
    let store = open(database, OutboxOptions::default()).await.unwrap();
    let rows = store.unsent(&everything()).await.unwrap().rows;
    rows.into_iter().map(|row| row.content.unwrap()).collect()
}

fn keys(events: &[Envelope]) -> Vec<&str> {
    let keys = events.iter().map(|event| event.aggregate_id().unwrap());
    keys.collect()
}

/// Publishes before a savepoint, behind it, and after going back to it.
macro_rules! publish_around_a_savepoint {
    ($outbox:expr, $begun:expr) => {{
        let mut tx = $begun.await.unwrap();
        $outbox
            .publish_drafts(&mut tx, vec![draft("before")])
            .await
            .unwrap();
        let mut inner = sqlx::Acquire::begin(&mut *tx).await.unwrap();
        $outbox
            .publish_drafts(&mut inner, vec![draft("behind")])
            .await
            .unwrap();
        inner.rollback().await.unwrap();
        $outbox
            .publish_drafts(&mut tx, vec![draft("after")])
            .await
            .unwrap();
        $outbox.commit(tx).await.unwrap();
    }};
}

#[tokio::test]
async fn going_back_to_a_savepoint_takes_back_what_was_published_behind_it_alone() {
    for kind in KINDS {
        let Some(place) = made(kind, "savepoint").await else {
            continue;
        };
        let outbox = outbox(OutboxConfig::default());

        match place.database.pool() {
            Pool::Sqlite(pool) => {
                publish_around_a_savepoint!(outbox, pool.begin_with("BEGIN IMMEDIATE"));
            }
            Pool::Postgres(pool) => publish_around_a_savepoint!(outbox, pool.begin()),
            Pool::MySql(pool) => publish_around_a_savepoint!(outbox, pool.begin()),
            _ => unreachable!("the tests know three databases"),
        }

        let events = waiting(&place.database).await;
        assert_eq!(keys(&events), ["before", "after"], "{kind:?}");
    }
}

#[tokio::test]
async fn an_event_that_states_no_change_goes_alone_and_its_relay_is_told() {
    for kind in KINDS {
        let Some(place) = made(kind, "autocommit").await else {
            continue;
        };
        let told = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&told);
        let wake = Wake::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let outbox = outbox(OutboxConfig {
            wakes: vec![wake],
            unsent_max: Some(1),
            ..OutboxConfig::default()
        });
        let counted = |shelf: &str| StockCounted {
            shelf: shelf.to_owned(),
        };

        let id = outbox
            .publish_autocommit(&place.database, &counted("a-1"))
            .await
            .unwrap();
        let full = outbox
            .publish_autocommit(&place.database, &counted("a-2"))
            .await
            .unwrap_err();

        assert_eq!(full.code().as_str(), "TD0079", "{full}");
        let events = waiting(&place.database).await;
        assert_eq!(keys(&events), ["a-1"], "{kind:?}");
        assert_eq!(events[0].event_id(), id);
        assert_eq!(events[0].event_type().to_string(), "stock.counted");
        assert_eq!(
            told.load(Ordering::Relaxed),
            1,
            "{kind:?}: once for what was written"
        );
    }
}

#[tokio::test]
async fn a_database_that_may_only_be_read_is_told_before_anything_else() {
    let place = made(Kind::Sqlite, "read_only").await.unwrap();
    let Pool::Sqlite(pool) = place.database.pool() else {
        unreachable!("it was asked for");
    };
    let options = (*pool.connect_options()).clone().read_only(true);
    let read_only = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let database = Database::from_pool(Pool::Sqlite(read_only.clone()), "sqlite:shop.db");
    let outbox = outbox(OutboxConfig::default());

    let relay = open(&database, OutboxOptions::default()).await.unwrap_err();
    let counted = StockCounted {
        shelf: "a-1".to_owned(),
    };
    let alone = outbox
        .publish_autocommit(&database, &counted)
        .await
        .unwrap_err();
    let mut tx = read_only.begin().await.unwrap();
    let within = outbox
        .publish_drafts(&mut tx, vec![draft("a-1")])
        .await
        .unwrap_err();
    drop(tx);

    for error in [relay, alone, within] {
        assert_eq!(error.code().as_str(), "TD0080", "{error}");
        assert!(!error.may_have_happened(), "{error}");
        assert!(
            error.to_string().contains("does not accept changes"),
            "{error}"
        );
    }
    assert!(waiting(&place.database).await.is_empty());
}

/// Events with what has to survive quoting: quotes, line breaks, other alphabets, bytes that are no text.
fn events() -> Vec<Envelope> {
    let event = |number: usize, payload: Payload| {
        let mut parts = EnvelopeParts::new(format!("evt-{number}"), "order.placed");
        parts.aggregate_id = (number != 2).then(|| format!("o'{number}\\\" ü"));
        parts.source = Some("php's shop".to_owned());
        parts.content_type = (number == 3).then(|| "image/png".to_owned());
        parts.payload = Some(payload);
        Envelope::new(parts).unwrap()
    };
    let json = |text: &str| Payload::json(text.to_owned()).unwrap();
    vec![
        event(1, json(r#"{"note": "it's \"fine\"\n", "total": 59.980}"#)),
        event(2, json(r#"{"note":"ünïcode 丘"}"#)),
        event(3, Payload::binary(&[0_u8, 255, 39, 92][..])),
    ]
}

fn run(program: &mut Command, input: &str) {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program:?} cannot be started: {error}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{input}");
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The driver of Python's standard library; the first transaction is rolled back, the second committed.
const PYTHON: &str = r#"
import json, sqlite3, sys
given = json.load(sys.stdin)
binds = [bytes.fromhex(bind["bytes"]) if isinstance(bind, dict) else bind for bind in given["binds"]]
connection = sqlite3.connect(given["file"])
connection.execute(given["sql"], binds)
connection.rollback()
connection.execute(given["sql"], binds)
connection.commit()
"#;

fn through_python(file: &std::path::Path, insert: &Insert) {
    let bind = |bind: &Bind| match bind {
        Bind::Int(value) => serde_json::json!(value),
        Bind::Text(text) => serde_json::json!(text),
        Bind::Bytes(Some(bytes)) => serde_json::json!({ "bytes": hexadecimal(bytes) }),
        Bind::Bytes(None) => serde_json::Value::Null,
        Bind::IntOrNull(_) | Bind::TextList(_) | Bind::BytesList(_) => {
            unreachable!("no insert into SQLite has these")
        }
    };
    let binds: Vec<serde_json::Value> = insert.binds.iter().map(bind).collect();
    let given = serde_json::json!({ "file": file, "sql": insert.sql, "binds": binds });
    run(
        Command::new("python3").args(["-c", PYTHON]),
        &given.to_string(),
    );
}

fn through_psql(url: &str, insert: &Insert) {
    let list = |items: Vec<String>, of: &str| format!("ARRAY[{}]::{of}[]", items.join(", "));
    let text = |text: &Option<String>| match text {
        Some(text) => format!("$value${text}$value$"),
        None => "NULL".to_owned(),
    };
    let bytes = |bytes: &Option<Vec<u8>>| match bytes {
        Some(bytes) => format!("'\\x{}'::bytea", hexadecimal(bytes)),
        None => "NULL".to_owned(),
    };
    let bind = |bind: &Bind| match bind {
        Bind::TextList(texts) => list(texts.iter().map(text).collect(), "text"),
        Bind::BytesList(values) => list(values.iter().map(bytes).collect(), "bytea"),
        other => unreachable!("PostgreSQL takes lists, not {other:?}"),
    };
    let binds: Vec<String> = insert.binds.iter().map(bind).collect();
    let execute = format!("EXECUTE publish({});", binds.join(", "));
    let script = format!(
        "PREPARE publish AS {};\nBEGIN; {execute} ROLLBACK;\nBEGIN; {execute} COMMIT;\n",
        insert.sql
    );
    run(
        Command::new("psql").args([url, "-q", "-v", "ON_ERROR_STOP=1"]),
        &script,
    );
}

fn through_mariadb(url: &str, insert: &Insert) {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    let bind = |bind: &Bind| match bind {
        Bind::Text(Some(text)) => quoted(text),
        Bind::Bytes(Some(bytes)) => format!("x'{}'", hexadecimal(bytes)),
        Bind::Text(None) | Bind::Bytes(None) => "NULL".to_owned(),
        other => unreachable!("MySQL takes texts and bytes, not {other:?}"),
    };
    let mut script = format!("PREPARE publish FROM {};\n", quoted(&insert.sql));
    let mut names = Vec::new();
    for (number, value) in insert.binds.iter().map(bind).enumerate() {
        script.push_str(&format!("SET @v{number} = {value};\n"));
        names.push(format!("@v{number}"));
    }
    let execute = format!("EXECUTE publish USING {};", names.join(", "));
    script.push_str(&format!(
        "BEGIN; {execute} ROLLBACK;\nBEGIN; {execute} COMMIT;\n"
    ));
    let (credentials, rest) = url.trim_start_matches("mysql://").split_once('@').unwrap();
    let (user, password) = credentials.split_once(':').unwrap();
    let (address, database) = rest.split_once('/').unwrap();
    // What stands behind it is for our driver.
    let database = database.split('?').next().unwrap();
    let (host, port) = address.split_once(':').unwrap();
    let mut client = Command::new("mariadb");
    client.args([
        "--default-character-set=utf8mb4",
        "--protocol=tcp",
        "-h",
        host,
        "-P",
        port,
    ]);
    client
        .args(["-u", user])
        .env("MYSQL_PWD", password)
        .arg(database);
    run(&mut client, &script);
}

#[tokio::test]
async fn the_statement_for_other_drivers_does_what_ours_does() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.db");
        let url = match kind {
            Kind::Postgres => TestDatabase::fresh(Server::Postgres, "other_driver").await,
            Kind::MySql => TestDatabase::fresh(Server::MariaDb, "other_driver").await,
            _ => None,
        };
        let url = match (kind, url) {
            (Kind::Sqlite, _) => format!("sqlite://{}", file.display()),
            (_, Some(made)) => made.url().to_owned(),
            (_, None) => continue,
        };
        let options = DatabaseOptions {
            create: true,
            ..DatabaseOptions::default()
        };
        let database = Database::open(&url, &options).await.unwrap();
        schema::migrate(&database, &Part::ALL).await.unwrap();
        let events = events();
        let insert = outbox(OutboxConfig::default())
            .statement(kind, &events)
            .unwrap();

        match kind {
            Kind::Postgres => through_psql(&url, &insert),
            Kind::MySql => through_mariadb(&url, &insert),
            _ => through_python(&file, &insert),
        }

        let arrived = waiting(&database).await;
        assert_eq!(arrived.len(), events.len(), "{kind:?}");
        for (arrived, event) in arrived.into_iter().zip(events) {
            // The row has a time of its own, which an event without one takes.
            let mut parts = arrived.into_parts();
            assert!(parts.timestamp.take().is_some());
            assert_eq!(Envelope::new(parts).unwrap(), event, "{kind:?}");
        }
    }
}

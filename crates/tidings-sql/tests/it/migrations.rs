//! Our tables among an application's own migrations, run by its own means.

use crate::place::{Counting, KINDS, Place, clock, open};
use sqlx::migrate::Migrator;
use tidings_core::envelope_json;
use tidings_core::store::OutboxStore;
use tidings_sql::schema::{self, Part};
use tidings_sql::{Kind, Outbox, OutboxConfig, OutboxOptions, Pool};
use tidings_testkit::conformance::store::everything;

/// A folder of migrations: a table of the application, ours as the library prints them, one more of the application.
fn folder(kind: Kind) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ours: Vec<String> = Part::ALL
        .iter()
        .map(|part| schema::ddl(kind, *part).unwrap())
        .collect();
    for (name, sql) in [
        (
            "0001_orders.sql",
            "CREATE TABLE orders (id INTEGER PRIMARY KEY);",
        ),
        ("0002_tidings.sql", &ours.join("\n")),
        (
            "0003_order_total.sql",
            "ALTER TABLE orders ADD COLUMN total INTEGER;",
        ),
    ] {
        std::fs::write(folder.path().join(name), sql).unwrap();
    }
    folder
}

#[tokio::test]
async fn an_applications_migrator_makes_our_tables_and_may_run_again() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "migrator").await else {
            continue;
        };
        let folder = folder(kind);
        let migrator = Migrator::new(folder.path()).await.unwrap();
        for _ in 0..2 {
            match place.database.pool() {
                Pool::Sqlite(pool) => migrator.run(pool).await.unwrap(),
                Pool::Postgres(pool) => migrator.run(pool).await.unwrap(),
                Pool::MySql(pool) => migrator.run(pool).await.unwrap(),
                _ => unreachable!("the tests know three databases"),
            }
        }

        let outbox = Outbox::new(OutboxConfig::default(), clock(), Counting::new()).unwrap();
        outbox.verify(&place.database).await.unwrap();
        let line = br#"{"event_type":"order.placed","aggregate_id":"o-1","payload":{"n":1}}"#;
        let drafts = vec![envelope_json::draft_from_json(line).unwrap()];
        match place.database.pool() {
            Pool::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
                outbox.publish_drafts(&mut tx, drafts).await.unwrap();
                outbox.commit(tx).await.unwrap();
            }
            Pool::Postgres(pool) => {
                let mut tx = pool.begin().await.unwrap();
                outbox.publish_drafts(&mut tx, drafts).await.unwrap();
                outbox.commit(tx).await.unwrap();
            }
            Pool::MySql(pool) => {
                let mut tx = pool.begin().await.unwrap();
                outbox.publish_drafts(&mut tx, drafts).await.unwrap();
                outbox.commit(tx).await.unwrap();
            }
            _ => unreachable!("the tests know three databases"),
        }
        let store = open(&place.database, OutboxOptions::default())
            .await
            .unwrap();
        assert_eq!(store.unsent(&everything()).await.unwrap().rows.len(), 1);
        // What the library would make itself is there: it changes nothing of it.
        schema::migrate(&place.database, &Part::ALL).await.unwrap();
        assert_eq!(store.unsent(&everything()).await.unwrap().rows.len(), 1);
        assert_eq!(place.number("SELECT COUNT(*) FROM orders").await, 0);
    }
}

//! Copies of a data folder that are made while an application commits orders and the events that state them.

use crate::shop::{Shop, order};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tidings::prelude::*;
use tidings::sql::{Pool, sqlx};
use tokio::task::JoinSet;

const COPIES: u64 = 8;
/// Orders that are placed between two copies.
const BETWEEN: u64 = 10;

/// The application: it places orders, one after the other, and counts them.
async fn place_orders(tidings: Tidings, placed: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let pool = orders(&tidings).await;
    let outbox = tidings.outbox().unwrap();
    while !stop.load(Ordering::Acquire) {
        let id = format!("o-{:05}", placed.load(Ordering::Acquire));
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let insert = sqlx::query("INSERT INTO shop_order (id) VALUES (?)").bind(&id);
        insert.execute(&mut *tx).await.unwrap();
        outbox.publish(&mut tx, &order(&id)).await.unwrap();
        outbox.commit(tx).await.unwrap();
        placed.fetch_add(1, Ordering::AcqRel);
    }
}

/// The table of orders in the folder's database.
async fn orders(tidings: &Tidings) -> sqlx::SqlitePool {
    let database = tidings.database().await.unwrap();
    let Pool::Sqlite(pool) = database.pool().clone() else {
        unreachable!("state.db is a SQLite database");
    };
    let table = "CREATE TABLE IF NOT EXISTS shop_order (id TEXT PRIMARY KEY)";
    sqlx::raw_sql(table).execute(&pool).await.unwrap();
    pool
}

/// So much that copying the database takes as long as placing some orders.
async fn keep_pictures(tidings: &Tidings) {
    let pictures =
        "CREATE TABLE shop_picture (p BLOB); INSERT INTO shop_picture VALUES (zeroblob(8000000))";
    let pool = orders(tidings).await;
    sqlx::raw_sql(pictures).execute(&pool).await.unwrap();
}

async fn reach(placed: &AtomicU64, count: u64) {
    let waiting = async {
        while placed.load(Ordering::Acquire) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    waited.expect("orders are placed");
}

/// What the table says, and what the log says once the outbox is empty.
async fn placed_and_stated(copy: &Path) -> (Vec<String>, Vec<String>) {
    let tidings = Tidings::open(copy).await.unwrap();
    let pool = orders(&tidings).await;
    let rows = sqlx::query_scalar("SELECT id FROM shop_order ORDER BY id");
    let rows = rows.fetch_all(&pool).await.unwrap();
    tidings.drain().await.unwrap();

    let tidings = Tidings::open(copy).await.unwrap();
    let mut stated = crate::beside::ids(&tidings, "order.*").await;
    tidings.shutdown().await.unwrap();
    // What is carried out of the outbox keeps the order of each key, and each order is a key.
    stated.sort();
    (rows, stated)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_has_the_rows_and_the_events_of_one_moment() {
    let shop = Shop::new();
    let (placed, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let owner = shop.open().await;
    keep_pictures(&owner).await;
    let application = place_orders(owner.clone(), Arc::clone(&placed), Arc::clone(&stop));
    let mut applications = JoinSet::new();
    applications.spawn(application);

    let folder = tempfile::tempdir().unwrap();
    let copies: Vec<PathBuf> = (0..COPIES)
        .map(|n| folder.path().join(n.to_string()))
        .collect();
    for (copy, n) in copies.iter().zip(1..) {
        reach(&placed, n * BETWEEN).await;
        tidings::backup(shop.path(), copy).await.unwrap();
    }
    stop.store(true, Ordering::Release);
    while let Some(ended) = applications.join_next().await {
        ended.unwrap();
    }
    owner.drain().await.unwrap();

    for (copy, n) in copies.iter().zip(1..) {
        let (rows, stated) = placed_and_stated(copy).await;
        assert!(rows.len() as u64 >= n * BETWEEN, "{} rows", rows.len());
        assert_eq!(rows, stated, "copy {n}");
    }
}

//! A broker elsewhere, with a data folder for state: the outbox there goes to that broker, and nobody mistakes the folder for a log.

use crate::shop::{OrderPlaced, Seen, Shop, order, see};
use std::sync::Arc;
use tidings::broker::BrokerError;
use tidings::flow::runtime::SystemClock;
use tidings::prelude::*;
use tidings::sql::sqlx;
use tidings::sql::{Inbox, Pool};
use tidings::{Code, Error};
use tidings_testkit::MemoryBroker;

fn memory() -> Arc<MemoryBroker> {
    Arc::new(MemoryBroker::new(Arc::new(SystemClock::new())))
}

async fn with_data(broker: &Arc<MemoryBroker>, shop: &Shop) -> Result<Tidings, Error> {
    Tidings::builder()
        .from_broker_with_data(broker.clone(), shop.path())
        .await
}

fn code(opened: Result<Tidings, Error>) -> Code {
    opened.expect_err("it is refused").code()
}

async fn remember(order: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("INSERT INTO remembered (order_id) VALUES (?)")
        .bind(order.order_id)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

#[tokio::test]
async fn what_is_published_into_a_transaction_reaches_the_broker_and_its_consumers_once() {
    let (shop, broker, seen) = (Shop::new(), memory(), Seen::default());
    let tidings = with_data(&broker, &shop).await.unwrap();
    let database = tidings.database().await.unwrap();
    let Pool::Sqlite(pool) = database.pool().clone() else {
        panic!("state.db is a SQLite database");
    };
    sqlx::raw_sql("CREATE TABLE remembered (order_id TEXT PRIMARY KEY)")
        .execute(&pool)
        .await
        .unwrap();
    let inbox = Inbox::open(&database).await.unwrap();
    tidings
        .consumer("inventory")
        .inbox(inbox)
        .on(remember)
        .start()
        .await
        .unwrap();
    let notification = tidings.consumer("notification").state(seen.clone()).on(see);
    notification.start().await.unwrap();

    let outbox = tidings.outbox().unwrap();
    for id in ["o-1", "o-2"] {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        outbox.publish(&mut tx, &order(id)).await.unwrap();
        outbox.commit(tx).await.unwrap();
    }
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    outbox.publish(&mut tx, &order("undone")).await.unwrap();
    tx.rollback().await.unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(seen.sorted(), ["o-1", "o-2"]);
    let database = with_data(&broker, &shop).await.unwrap();
    let Pool::Sqlite(pool) = database.database().await.unwrap().pool().clone() else {
        panic!("state.db is a SQLite database");
    };
    let remembered = sqlx::query_scalar("SELECT order_id FROM remembered ORDER BY order_id");
    let remembered: Vec<String> = remembered.fetch_all(&pool).await.unwrap();
    assert_eq!(remembered, ["o-1", "o-2"]);
    database.shutdown().await.unwrap();
}

#[tokio::test]
async fn one_process_owns_the_folder_and_gives_it_back() {
    let (shop, broker) = (Shop::new(), memory());
    let tidings = with_data(&broker, &shop).await.unwrap();

    let second = with_data(&broker, &shop).await;
    assert_eq!(code(second), tidings::core::codes::FOLDER_OWNED);
    tidings.shutdown().await.unwrap();

    let next = with_data(&broker, &shop).await.unwrap();
    drop(next);
    let next = with_data(&broker, &shop).await.unwrap();
    next.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_folder_whose_events_are_elsewhere_opens_as_a_log_only_once_that_is_taken_back() {
    let (shop, broker) = (Shop::new(), memory());
    let elsewhere = tidings::core::codes::EVENTS_ELSEWHERE;
    let owner = with_data(&broker, &shop).await.unwrap();
    assert_eq!(code(Tidings::open(shop.path()).await), elsewhere);
    let beside = Tidings::builder().open_or_beside(shop.path()).await;
    assert_eq!(code(beside), elsewhere);
    owner.shutdown().await.unwrap();

    let error = Tidings::open(shop.path()).await.unwrap_err();
    assert_eq!(error.code(), elsewhere);
    assert!(error.to_string().contains("--url"), "{error}");

    std::fs::remove_file(shop.path().join("broker")).unwrap();
    let tidings = shop.open().await;
    tidings.publish(order("o-1")).await.unwrap();
    tidings.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_an_owner_left_is_carried_by_the_next_one() {
    let (shop, broker, seen) = (Shop::new(), memory(), Seen::default());
    let owner = with_data(&broker, &shop).await.unwrap();
    let (database, outbox) = (owner.database().await.unwrap(), owner.outbox().unwrap());
    // The broker is gone: what is committed now waits.
    use tidings::broker::Broker as _;
    broker.close().await.unwrap();
    outbox
        .publish_autocommit(&database, &order("o-1"))
        .await
        .unwrap();
    drop((database, owner));

    let broker = memory();
    let tidings = with_data(&broker, &shop).await.unwrap();
    let consumer = tidings.consumer("notification").state(seen.clone()).on(see);
    consumer.start().await.unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(seen.all(), ["o-1"]);
}

#[tokio::test]
async fn a_log_that_was_there_before_keeps_its_history() {
    let (shop, broker) = (Shop::new(), memory());
    let tidings = shop.open().await;
    tidings.publish(order("o-1")).await.unwrap();
    tidings.shutdown().await.unwrap();
    let owner = with_data(&broker, &shop).await.unwrap();
    owner.shutdown().await.unwrap();

    assert!(Tidings::open(shop.path()).await.is_err());
    std::fs::remove_file(shop.path().join("broker")).unwrap();
    let tidings = shop.open().await;
    let mut history = tidings.history("**").await.unwrap();
    let first = history.next().await.unwrap().unwrap();
    assert_eq!(first.envelope.aggregate_id(), Some("o-1"));
    tidings.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_url_of_a_folder_is_that_folder_and_no_second_one() {
    let shop = Shop::new();
    let url = format!("file://{}", shop.path().display());
    let tidings = Tidings::connect_with_data(&url, shop.path()).await.unwrap();
    tidings.publish(order("o-1")).await.unwrap();
    tidings.database().await.unwrap();
    tidings.shutdown().await.unwrap();

    let error = Tidings::connect_with_data(&url, shop.path().join("other"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("name one of them"), "{error}");
}

#[tokio::test]
async fn a_broker_without_a_folder_has_no_database_and_says_how_to_get_one() {
    let tidings = Tidings::builder().from_broker(memory());
    let error = tidings.database().await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Broker {
                source: BrokerError::Unsupported { .. }
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("connect with a data folder"),
        "{error}"
    );
}

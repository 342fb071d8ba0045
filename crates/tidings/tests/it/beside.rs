//! Several openers of one data folder: one owns it, the others publish and consume beside it.

use crate::shop::{OrderPlaced, Seen, Shop, StockReserved, order, see};
use tidings::prelude::*;
use tidings::{Envelope, Error};

async fn beside(shop: &Shop) -> Tidings {
    Tidings::builder()
        .open_or_beside(shop.path())
        .await
        .unwrap()
}

pub(crate) async fn ids(tidings: &Tidings, pattern: &str) -> Vec<String> {
    let mut history = tidings.history(pattern).await.unwrap();
    let mut keys = Vec::new();
    while let Some(recorded) = history.next().await.unwrap() {
        keys.push(recorded.envelope.aggregate_id().unwrap().to_owned());
    }
    keys
}

#[tokio::test]
async fn what_is_published_beside_the_owner_reaches_its_log_and_its_consumers_in_order() {
    let shop = Shop::new();
    let seen = Seen::default();
    let owner = shop.open().await;
    let consumer = owner.consumer("inventory").state(seen.clone()).on(see);
    consumer.start().await.unwrap();

    let other = beside(&shop).await;
    for id in ["o-1", "o-2", "o-3"] {
        let published = other.publish(order(id)).await.unwrap();
        assert_eq!(
            published.receipt.position, None,
            "durable, and not in the log yet"
        );
    }
    other.shutdown().await.unwrap();
    owner.drain().await.unwrap();

    // Each has a key of its own, so that the handlers may run in any order; the log keeps that of the publisher.
    assert_eq!(sorted(seen.all()), ["o-1", "o-2", "o-3"]);
    let owner = shop.open().await;
    assert_eq!(ids(&owner, "order.*").await, ["o-1", "o-2", "o-3"]);
    owner.shutdown().await.unwrap();
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

#[tokio::test]
async fn a_consumer_beside_the_owner_handles_and_emits_into_the_owners_log() {
    async fn reserve(order: OrderPlaced, emit: Emit) -> Result<(), HandlerError> {
        emit.event(&StockReserved {
            order_id: order.order_id,
        })
    }
    let shop = Shop::new();
    let owner = shop.open().await;
    for id in ["o-1", "o-2"] {
        owner.publish(order(id)).await.unwrap();
    }

    let other = beside(&shop).await;
    let consumer = other.consumer("inventory").on(reserve).until_end();
    consumer.start().await.unwrap();
    other.drain().await.unwrap();
    owner.drain().await.unwrap();

    let owner = shop.open().await;
    assert_eq!(sorted(ids(&owner, "stock.*").await), ["o-1", "o-2"]);
    for key in ["o-1", "o-2"] {
        let reserved = of(&owner, "stock.*", key).await;
        let placed = of(&owner, "order.*", key).await;
        assert_eq!(reserved.causation_id(), Some(placed.event_id()));
    }
    owner.shutdown().await.unwrap();
}

/// The first event of a key.
async fn of(tidings: &Tidings, pattern: &str, key: &str) -> Envelope {
    let mut history = tidings.history(pattern).await.unwrap().of_key(key);
    history.next().await.unwrap().unwrap().envelope
}

#[tokio::test]
async fn the_next_owner_carries_what_nobody_carried_before() {
    let shop = Shop::new();
    let owner = shop.open().await;
    let other = beside(&shop).await;
    other.publish(order("o-1")).await.unwrap();
    owner.drain().await.unwrap();
    for id in ["o-2", "o-3"] {
        other.publish(order(id)).await.unwrap();
    }
    other.shutdown().await.unwrap();

    let next = shop.open().await;
    next.drain().await.unwrap();

    let next = shop.open().await;
    assert_eq!(ids(&next, "order.*").await, ["o-1", "o-2", "o-3"]);
    next.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_an_owner_published_and_did_not_live_to_settle_is_not_published_again() {
    let shop = Shop::new();
    let owner = shop.open().await;
    let other = beside(&shop).await;
    for id in ["o-1", "o-2"] {
        owner.publish(order(id)).await.unwrap();
    }
    let known = [
        of(&owner, "order.*", "o-1").await,
        last(&owner, "order.*").await,
    ];
    owner.shutdown().await.unwrap();
    // As if that owner had carried these two from the outbox and ended before it could settle them.
    for outcome in other.publish_envelopes(&known).await {
        outcome.unwrap();
    }
    other.publish(order("o-3")).await.unwrap();
    other.shutdown().await.unwrap();

    shop.open().await.drain().await.unwrap();

    let next = shop.open().await;
    assert_eq!(ids(&next, "order.*").await, ["o-1", "o-2", "o-3"]);
    next.shutdown().await.unwrap();
}

async fn last(tidings: &Tidings, pattern: &str) -> Envelope {
    let mut history = tidings.history(pattern).await.unwrap();
    let mut last = None;
    while let Some(recorded) = history.next().await.unwrap() {
        last = Some(recorded.envelope);
    }
    last.unwrap()
}

#[tokio::test]
async fn whoever_comes_first_owns_the_folder() {
    let shop = Shop::new();
    let first = beside(&shop).await;
    let published = first.publish(order("o-1")).await.unwrap();
    assert!(published.receipt.position.is_some(), "there was no owner");

    let refused: Result<Tidings, Error> = Tidings::open(shop.path()).await;
    assert_eq!(refused.unwrap_err().code().as_str(), "TD0001");
    first.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_broken_database_does_not_keep_the_log_from_working() {
    let shop = Shop::new();
    let first = shop.open().await;
    // Opened to its end, so that closing it ends all that touches its files.
    first.database().await.unwrap();
    first.shutdown().await.unwrap();
    for file in ["state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(shop.path().join(file));
    }
    let garbage = "this is no database ".repeat(1_000);
    std::fs::write(shop.path().join("state.db"), garbage).unwrap();

    let owner = shop.open().await;
    owner.publish(order("o-1")).await.unwrap();
    assert_eq!(ids(&owner, "order.*").await, ["o-1"]);
    let refused = Tidings::builder().open_or_beside(shop.path()).await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("state.db"), "{message}");
    owner.shutdown().await.unwrap();
}

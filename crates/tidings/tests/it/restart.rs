//! What is kept over an end and a new start.

use crate::shop::{OrderPlaced, Seen, Shop, order, see};
use std::sync::Arc;
use tidings::broker::BrokerError;
use tidings::flow::runtime::SystemClock;
use tidings::prelude::*;
use tidings_testkit::MemoryBroker;
use tokio::sync::Notify;

#[tokio::test]
async fn a_group_goes_on_where_it_was() {
    let shop = Shop::new();
    let (before, after) = (Seen::default(), Seen::default());
    let tidings = shop.open().await;
    tidings
        .consumer("inventory")
        .state(before.clone())
        .on(see)
        .start()
        .await
        .unwrap();
    tidings.publish(order("o-1")).await.unwrap();
    tidings.drain().await.unwrap();

    let tidings = shop.open().await;
    tidings.publish(order("o-2")).await.unwrap();
    assert_eq!(tidings.lag("inventory").await.unwrap().events, 1);
    tidings
        .consumer("inventory")
        .state(after.clone())
        .on(see)
        .start()
        .await
        .unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(before.all(), ["o-1"]);
    assert_eq!(after.all(), ["o-2"]);
}

#[tokio::test]
async fn shutdown_lets_the_handler_in_flight_finish_and_leaves_the_rest() {
    async fn slow(
        order: OrderPlaced,
        State((seen, begun, go_on)): State<(Seen, Arc<Notify>, Arc<Notify>)>,
    ) {
        begun.notify_one();
        go_on.notified().await;
        seen.note(order.order_id);
    }
    let shop = Shop::new();
    let (first, rest) = (Seen::default(), Seen::default());
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let tidings = shop.open().await;
    let state = (first.clone(), Arc::clone(&begun), Arc::clone(&go_on));
    tidings
        .consumer("inventory")
        .parallel(1)
        .state(state)
        .on(slow)
        .start()
        .await
        .unwrap();
    for id in ["o-1", "o-2", "o-3"] {
        tidings.publish(order(id)).await.unwrap();
    }
    begun.notified().await;

    let (stopped, ()) = tokio::join!(tidings.shutdown(), async { go_on.notify_one() });
    stopped.unwrap();
    let tidings = shop.open().await;
    tidings
        .consumer("inventory")
        .state(rest.clone())
        .on(see)
        .start()
        .await
        .unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(first.all(), ["o-1"]);
    assert_eq!(rest.sorted(), ["o-2", "o-3"]);
}

#[tokio::test]
async fn a_folder_has_one_owner_until_it_is_drained() {
    let shop = Shop::new();
    let tidings = shop.open().await;

    let second = Tidings::open(shop.path()).await.unwrap_err();
    assert!(
        matches!(
            &second,
            tidings::Error::Broker {
                source: BrokerError::FolderOwned { .. }
            }
        ),
        "{second:?}"
    );
    assert!(second.class().is_transient());

    tidings.drain().await.unwrap();
    shop.open().await.drain().await.unwrap();
}

#[tokio::test]
async fn after_the_end_nothing_is_published() {
    let shop = Shop::new();
    let tidings = shop.open().await;
    tidings.drain().await.unwrap();

    let error = tidings.publish(order("o-1")).await.unwrap_err();

    assert_eq!(error.code().as_str(), "TD0023");
    assert!(!error.may_have_happened());
}

#[tokio::test]
async fn an_opened_folder_tells_what_was_found() {
    let shop = Shop::new();
    let tidings = shop.open().await;

    let recovery = tidings.recovery().unwrap();

    assert_eq!((recovery.cut_bytes, recovery.damaged.len()), (0, 0));
    tidings.drain().await.unwrap();
}

#[tokio::test]
async fn a_broker_of_another_kind_takes_the_place_of_the_folder() {
    let broker = MemoryBroker::new(Arc::new(SystemClock::new()));
    let seen = Seen::default();
    let tidings = Tidings::builder()
        .source("shop")
        .from_broker(Arc::new(broker.clone()));
    tidings
        .consumer("inventory")
        .state(seen.clone())
        .on(see)
        .start()
        .await
        .unwrap();

    tidings.publish(order("o-1")).await.unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(seen.all(), ["o-1"]);
    assert_eq!(broker.events().len(), 1);
    assert!(tidings.recovery().is_none());
}

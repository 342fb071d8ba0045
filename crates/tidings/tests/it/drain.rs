//! What `drain` waits for, and what it does when its time is over.

use crate::shop::{OrderPlaced, Seen, Shop, StockReserved, order, see};
use std::sync::Arc;
use std::time::Duration;
use tidings::Error;
use tidings::prelude::*;
use tokio::sync::Notify;

const BRIEF: Duration = Duration::from_millis(1);

#[tokio::test]
async fn drain_waits_for_retries_and_for_what_follows() {
    async fn reserve(order: OrderPlaced, event: Metadata, emit: Emit) -> Result<(), HandlerError> {
        if event.attempt < 4 {
            return Err(HandlerError::transient_message("not yet"));
        }
        emit.event(&StockReserved {
            order_id: order.order_id,
        })
    }
    async fn ship(reserved: StockReserved, State(seen): State<Seen>) {
        seen.note(reserved.order_id);
    }
    let shop = Shop::new();
    let seen = Seen::default();
    let tidings = shop.open().await;
    // Shipping is asked first whether it is done, before there is anything for it.
    tidings
        .consumer("shipping")
        .state(seen.clone())
        .on(ship)
        .start()
        .await
        .unwrap();
    tidings
        .consumer("inventory")
        .backoff(BRIEF, BRIEF)
        .on(reserve)
        .start()
        .await
        .unwrap();

    tidings.publish(order("o-1")).await.unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(seen.all(), ["o-1"]);
}

#[tokio::test]
async fn drain_without_consumers_or_events_ends_at_once_and_may_be_called_again() {
    let shop = Shop::new();
    shop.open().await.drain().await.unwrap();

    let tidings = shop.open().await;
    tidings
        .consumer("idle")
        .state(Seen::default())
        .on(see)
        .start()
        .await
        .unwrap();
    tidings.drain().await.unwrap();
}

#[tokio::test]
async fn when_its_time_is_over_drain_names_who_is_busy_and_stops_all_the_same() {
    async fn stuck(_: OrderPlaced, State(begun): State<Arc<Notify>>) {
        begun.notify_one();
        std::future::pending::<()>().await;
    }
    let shop = Shop::new();
    let seen = Seen::default();
    let tidings = shop.open().await;
    let begun = Arc::new(Notify::new());
    let consumer = tidings.consumer("stuck").state(Arc::clone(&begun));
    consumer.on(stuck).start().await.unwrap();
    tidings.publish(order("o-1")).await.unwrap();
    begun.notified().await;

    let error = tidings
        .drain_within(Duration::from_millis(20))
        .await
        .unwrap_err();

    assert!(
        matches!(&error, Error::DrainTimeout { busy, .. } if busy == &["stuck (1 events)"]),
        "{error:?}"
    );
    assert_eq!(error.code().as_str(), "TD0035");
    let tidings = shop.open().await;
    tidings
        .consumer("stuck")
        .state(seen.clone())
        .on(see)
        .start()
        .await
        .unwrap();
    tidings.drain().await.unwrap();
    assert_eq!(seen.all(), ["o-1"], "it is handled at the next start");
}

#[tokio::test]
async fn a_paused_consumer_is_not_waited_for() {
    let shop = Shop::new();
    let seen = Seen::default();
    let tidings = shop.open().await;
    let consumer = tidings
        .consumer("inventory")
        .state(seen.clone())
        .on(see)
        .start()
        .await
        .unwrap();
    consumer.pause();
    tidings.publish(order("o-1")).await.unwrap();

    tidings.drain().await.unwrap();

    assert_eq!(seen.all(), Vec::<String>::new());
    let tidings = shop.open().await;
    assert_eq!(tidings.lag("inventory").await.unwrap().events, 1);
    tidings.drain().await.unwrap();
}

#[tokio::test]
async fn a_single_consumer_can_be_stopped_and_started_again() {
    let shop = Shop::new();
    let seen = Seen::default();
    let tidings = shop.open().await;
    let first = tidings
        .consumer("inventory")
        .state(seen.clone())
        .on(see)
        .start()
        .await
        .unwrap();
    tidings.publish(order("o-1")).await.unwrap();
    first.wait_idle().await.unwrap();

    first.drain().await.unwrap();
    first.drain().await.unwrap();
    assert!(
        first.wait_idle().await.is_err(),
        "whoever waits is told that it ended"
    );
    tidings.publish(order("o-2")).await.unwrap();
    tidings
        .consumer("inventory")
        .state(seen.clone())
        .on(see)
        .start()
        .await
        .unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(seen.all(), ["o-1", "o-2"]);
}

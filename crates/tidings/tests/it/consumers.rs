//! Who gets which event, and what becomes of what handlers emit.

use crate::shop::{
    OrderCancelled, OrderPlaced, Seen, ShipmentCreated, Shop, StockReserved, cancelled, order, see,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tidings::prelude::*;

async fn reserve(order: OrderPlaced, emit: Emit) -> Result<(), HandlerError> {
    emit.event(&StockReserved {
        order_id: order.order_id,
    })
}

async fn ship(reserved: StockReserved, emit: Emit) -> Result<(), HandlerError> {
    emit.event(&ShipmentCreated {
        order_id: reserved.order_id,
    })
}

#[tokio::test]
async fn two_consumers_of_one_fact_know_nothing_of_each_other() {
    let shop = Shop::new();
    let (inventory, notification) = (Seen::default(), Seen::default());
    let tidings = shop.open().await;
    tidings
        .consumer("inventory")
        .state(inventory.clone())
        .on(see)
        .start()
        .await
        .unwrap();
    tidings
        .consumer("notification")
        .state(notification.clone())
        .on(see)
        .start()
        .await
        .unwrap();

    for id in ["o-1", "o-2", "o-3"] {
        tidings.publish(order(id)).await.unwrap();
    }
    tidings.drain().await.unwrap();

    assert_eq!(inventory.sorted(), ["o-1", "o-2", "o-3"]);
    assert_eq!(notification.sorted(), ["o-1", "o-2", "o-3"]);
}

#[tokio::test]
async fn a_consumer_that_comes_late_sees_what_happened_before() {
    let shop = Shop::new();
    let (late, newest) = (Seen::default(), Seen::default());
    let tidings = shop.open().await;
    tidings.publish(order("o-1")).await.unwrap();

    tidings
        .consumer("late")
        .state(late.clone())
        .on(see)
        .start()
        .await
        .unwrap();
    let latest = tidings.consumer("newest").start_at(StartAt::Latest);
    latest.state(newest.clone()).on(see).start().await.unwrap();
    tidings.publish(order("o-2")).await.unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(late.sorted(), ["o-1", "o-2"]);
    assert_eq!(newest.sorted(), ["o-2"]);
}

#[tokio::test]
async fn what_a_handler_emits_carries_its_flow_and_its_cause() {
    let shop = Shop::new();
    let tidings = shop.open().await;
    tidings
        .consumer("inventory")
        .on(reserve)
        .start()
        .await
        .unwrap();
    tidings.consumer("shipping").on(ship).start().await.unwrap();

    let placed = tidings.publish(order("o-1")).await.unwrap();
    tidings.drain().await.unwrap();

    let tidings = shop.open().await;
    let events = tidings
        .history("**")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let [first, second, third] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(first.envelope.event_id(), placed.event_id);
    assert_eq!(first.envelope.source(), Some("order-service"));
    for (cause, effect) in [(first, second), (second, third)] {
        assert_eq!(effect.envelope.correlation_id(), placed.event_id);
        assert_eq!(
            effect.envelope.causation_id(),
            Some(cause.envelope.event_id())
        );
        assert_eq!(effect.envelope.aggregate_id(), Some("o-1"));
    }
    assert_eq!(third.envelope.event_type().as_str(), "shipment.created");
    tidings.drain().await.unwrap();
}

#[tokio::test]
async fn a_handler_that_runs_twice_emits_the_same_ids() {
    // The first attempt fails after it has emitted: that is not published, and the second attempt gives it the id it would have had.
    async fn twice(
        order: OrderPlaced,
        event: Metadata,
        emit: Emit,
        State(ids): State<Seen>,
    ) -> Result<(), HandlerError> {
        emit.event(&StockReserved {
            order_id: order.order_id,
        })?;
        ids.note(event.attempt.to_string());
        if event.attempt < 2 {
            return Err(HandlerError::transient_message("again"));
        }
        Ok(())
    }
    async fn reserved_ids(shop: &Shop, group: &str) -> Vec<String> {
        let tidings = shop.open().await;
        tidings
            .consumer(group)
            .state(Seen::default())
            .on(twice)
            .start()
            .await
            .unwrap();
        tidings.drain().await.unwrap();
        let tidings = shop.open().await;
        let events = tidings
            .history("stock.reserved")
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        tidings.drain().await.unwrap();
        events
            .iter()
            .map(|event| event.envelope.event_id().to_owned())
            .collect()
    }
    let shop = Shop::new();
    let tidings = shop.open().await;
    tidings.publish(order("o-1")).await.unwrap();
    tidings.drain().await.unwrap();

    let first = reserved_ids(&shop, "inventory").await;
    assert_eq!(first.len(), 1);
    let tidings = shop.open().await;
    tidings
        .admin()
        .unwrap()
        .remove(&"inventory".parse().unwrap())
        .await
        .unwrap();
    tidings.drain().await.unwrap();
    let again = reserved_ids(&shop, "inventory").await;
    let other = reserved_ids(&shop, "other").await;

    assert_eq!(
        again,
        [first[0].clone(), first[0].clone()],
        "the same group repeats the id"
    );
    assert_ne!(other[2], first[0], "another group has ids of its own");
}

#[tokio::test]
async fn one_consumer_handles_several_types_in_the_order_of_the_key() {
    async fn forget(order: OrderCancelled, State(seen): State<Seen>) {
        seen.note(format!("-{}", order.order_id));
    }
    let shop = Shop::new();
    let seen = Seen::default();
    let tidings = shop.open().await;
    tidings
        .consumer("inventory")
        .state(seen.clone())
        .on(see)
        .on(forget)
        .start()
        .await
        .unwrap();

    tidings.publish(order("o-1")).await.unwrap();
    tidings.publish(cancelled("o-1")).await.unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(seen.all(), ["o-1", "-o-1"]);
}

#[tokio::test]
async fn a_raw_handler_takes_whatever_matches_its_pattern() {
    async fn audit(event: Envelope, State(seen): State<Seen>) {
        seen.note(event.to_json());
    }
    let line =
        r#"{"event_id":"evt-1","event_type":"order.PLACED_ELSEWHERE","payload":{"total": 59.980}}"#;
    let shop = Shop::new();
    let seen = Seen::default();
    let tidings = shop.open().await;
    tidings
        .consumer("audit")
        .state(seen.clone())
        .on_raw("order.*", audit)
        .start()
        .await
        .unwrap();

    let foreign = Envelope::from_json(line).unwrap();
    for outcome in tidings.publish_envelopes(&[foreign]).await {
        outcome.unwrap();
    }
    tidings
        .publish(StockReserved {
            order_id: "o-1".into(),
        })
        .await
        .unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(seen.all(), [line]);
}

#[tokio::test]
async fn a_batch_handler_answers_for_each_event() {
    async fn reserve(
        items: Vec<BatchItem<OrderPlaced>>,
        State(calls): State<Arc<AtomicU32>>,
    ) -> Vec<Result<(), HandlerError>> {
        calls.fetch_add(1, Ordering::SeqCst);
        let answer = |item: BatchItem<OrderPlaced>| match item.event.quantity {
            0 => Err(HandlerError::permanent_message("nothing ordered")),
            _ => item.emit.event(&StockReserved {
                order_id: item.event.order_id,
            }),
        };
        items.into_iter().map(answer).collect()
    }
    let shop = Shop::new();
    let calls = Arc::new(AtomicU32::new(0));
    let tidings = shop.open().await;
    let mut empty = order("o-2");
    empty.quantity = 0;
    for outcome in tidings
        .publish_all(&[order("o-1"), empty, order("o-3")])
        .await
    {
        outcome.unwrap();
    }

    tidings
        .consumer("inventory")
        .state(Arc::clone(&calls))
        .on_batch(reserve)
        .start()
        .await
        .unwrap();
    tidings.drain().await.unwrap();

    let tidings = shop.open().await;
    let reserved = tidings
        .history("stock.reserved")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(reserved.len(), 2);
    let letter = tidings
        .dead_letters()
        .unwrap()
        .next()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(letter.record.aggregate_id.as_deref(), Some("o-2"));
    assert!(calls.load(Ordering::SeqCst) >= 1);
    tidings.drain().await.unwrap();
}

#[tokio::test]
async fn a_consumer_until_the_end_finishes_by_itself() {
    let shop = Shop::new();
    let seen = Seen::default();
    let tidings = shop.open().await;
    tidings.publish(order("o-1")).await.unwrap();

    let consumer = tidings
        .consumer("inventory")
        .until_end()
        .state(seen.clone())
        .on(see)
        .start()
        .await
        .unwrap();
    consumer.finished().await.unwrap();

    assert_eq!(seen.all(), ["o-1"]);
    assert_eq!(consumer.stats().handled, 1);
    assert_eq!(consumer.lag().await.unwrap().events, 0);
    tidings.drain().await.unwrap();
}

//! The broker in memory keeps the promises of the ports.

use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{
    Admin as _, Broker as _, BrokerError, Delivery, GroupName, LookUpBy, LookUpRequest, Position,
    PublishError, ReadRequest, Reader as _, Received, SettleAction, SettleError, StartAt,
    SubscribeRequest, Subscription, TailRequest,
};
use tidings_core::{Envelope, EnvelopeParts, Pattern};
use tidings_flow::runtime::SystemClock;
use tidings_testkit::MemoryBroker;

fn broker() -> MemoryBroker {
    MemoryBroker::new(Arc::new(SystemClock::new()))
}

fn envelope(id: &str, event_type: &str) -> Envelope {
    Envelope::new(EnvelopeParts::new(id, event_type)).unwrap()
}

async fn publish(broker: &MemoryBroker, ids: &[&str]) {
    let batch: Vec<_> = ids.iter().map(|id| envelope(id, "order.placed")).collect();
    for outcome in broker.publish(&batch).await {
        outcome.unwrap();
    }
}

fn name() -> GroupName {
    "inventory".parse().unwrap()
}

fn request(start: StartAt) -> SubscribeRequest {
    SubscribeRequest {
        group: name(),
        patterns: vec!["order.*".parse().unwrap()],
        start,
        single_instance: false,
    }
}

async fn join(broker: &MemoryBroker) -> Subscription {
    broker.subscribe(&request(StartAt::Earliest)).await.unwrap()
}

/// The next events of a group, whatever else it is told before.
async fn next(subscription: &mut Subscription, events_max: usize) -> Vec<Delivery> {
    loop {
        if let Received::Deliveries { deliveries, .. } =
            subscription.receive.receive(events_max).await.unwrap()
        {
            return deliveries;
        }
    }
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries
        .iter()
        .map(|delivery| delivery.envelope.event_id())
        .collect()
}

#[tokio::test]
async fn a_late_group_sees_old_events_in_order_and_only_what_it_wants() {
    let broker = broker();
    publish(&broker, &["a", "b"]).await;
    broker
        .publish(&[
            envelope("x", "tidings.dead_letter.recorded"),
            envelope("y", "stock.counted"),
        ])
        .await;
    publish(&broker, &["c"]).await;

    let mut subscription = join(&broker).await;

    assert_eq!(ids(&next(&mut subscription, 10).await), ["a", "b", "c"]);
    assert!(subscription.receive.is_caught_up());
}

#[tokio::test]
async fn what_is_not_settled_comes_again_after_a_holder_that_died() {
    let broker = broker();
    publish(&broker, &["a", "b", "c"]).await;
    let mut first = join(&broker).await;
    let deliveries = next(&mut first, 10).await;
    first
        .settle
        .settle(&[(deliveries[1].token, SettleAction::Ack)])
        .await;
    drop(first);

    let mut second = join(&broker).await;

    let resumed = second.resumed.unwrap();
    assert_eq!(
        (resumed.from, resumed.handed_out_before),
        (Position(0), Position(3))
    );
    assert_eq!(ids(&next(&mut second, 10).await), ["a", "c"]);
}

#[tokio::test]
async fn a_group_that_left_in_peace_has_nothing_in_doubt() {
    let broker = broker();
    publish(&broker, &["a", "b"]).await;
    let mut first = join(&broker).await;
    let deliveries = next(&mut first, 1).await;
    first
        .settle
        .settle(&[(deliveries[0].token, SettleAction::Ack)])
        .await;
    first.settle.leave().await.unwrap();

    let second = join(&broker).await;

    let resumed = second.resumed.unwrap();
    assert_eq!(
        (resumed.from, resumed.handed_out_before),
        (Position(1), Position(1))
    );
    let late = first
        .settle
        .settle(&[(deliveries[0].token, SettleAction::Ack)])
        .await;
    assert!(matches!(late[0], Err(SettleError::Stale)));
}

#[tokio::test]
async fn a_released_event_comes_ahead_of_newer_ones_and_is_settled_once() {
    let broker = broker();
    publish(&broker, &["a", "b"]).await;
    let mut subscription = join(&broker).await;
    let a = next(&mut subscription, 1).await;

    subscription
        .settle
        .settle(&[(a[0].token, SettleAction::Release)])
        .await;

    assert_eq!(ids(&next(&mut subscription, 10).await), ["a", "b"]);
    let twice = [
        (a[0].token, SettleAction::Ack),
        (a[0].token, SettleAction::Ack),
    ];
    let answers = subscription.settle.settle(&twice).await;
    assert!(
        matches!(answers.as_slice(), [Ok(()), Err(SettleError::Unknown)]),
        "{answers:?}"
    );
}

#[tokio::test]
async fn one_holder_works_for_a_group_at_a_time() {
    let broker = broker();
    let held = join(&broker).await;

    let second = broker.subscribe(&request(StartAt::Earliest)).await;
    assert!(matches!(second, Err(BrokerError::GroupLeased { .. })));
    assert!(matches!(
        broker.remove(&name()).await,
        Err(BrokerError::GroupLeased { .. })
    ));

    drop(held);
    assert!(broker.remove(&name()).await.is_ok());
    assert!(matches!(
        broker.lag(&name()).await,
        Err(BrokerError::GroupUnknown { .. })
    ));
}

#[tokio::test]
async fn a_group_starts_where_it_is_told_and_can_be_moved() {
    let broker = broker();
    publish(&broker, &["a", "b", "c"]).await;

    let mut latest = broker.subscribe(&request(StartAt::Latest)).await.unwrap();
    publish(&broker, &["d"]).await;
    assert_eq!(ids(&next(&mut latest, 10).await), ["d"]);
    drop(latest);

    let to = StartAt::Position(Position(2));
    assert_eq!(broker.seek(&name(), to).await.unwrap(), Some(Position(2)));
    assert_eq!(broker.lag(&name()).await.unwrap().events, 2);
    assert_eq!(ids(&next(&mut join(&broker).await, 10).await), ["c", "d"]);
}

#[tokio::test]
async fn lag_counts_what_is_wanted_and_not_settled() {
    let broker = broker();
    publish(&broker, &["a", "b"]).await;
    broker.publish(&[envelope("y", "stock.counted")]).await;
    let mut subscription = join(&broker).await;
    assert_eq!(broker.lag(&name()).await.unwrap().events, 2);

    let deliveries = next(&mut subscription, 10).await;
    subscription
        .settle
        .settle(&[(deliveries[1].token, SettleAction::Ack)])
        .await;

    assert_eq!(broker.lag(&name()).await.unwrap().events, 1);
    let groups = broker.groups().await.unwrap();
    assert_eq!(groups[0].position, Some(Position(0)));
    assert!(groups[0].owner.is_some());
}

#[tokio::test]
async fn history_is_read_in_pages_without_internal_facts() {
    let broker = broker();
    publish(&broker, &["a"]).await;
    broker
        .publish(&[envelope("x", "tidings.dead_letter.recorded")])
        .await;
    publish(&broker, &["b"]).await;
    let read = |from, events_max| ReadRequest {
        from: Position(from),
        patterns: &[],
        events_max,
    };

    let first = broker.read(read(0, 1)).await.unwrap();
    let rest = broker.read(read(first.next.0, 10)).await.unwrap();

    assert_eq!((first.events.len(), first.at_end), (1, false));
    assert_eq!(rest.events[0].envelope.event_id(), "b");
    assert!(rest.at_end);
}

#[tokio::test]
async fn readers_and_receivers_wait_for_more() {
    let broker = broker();
    let mut subscription = join(&broker).await;

    let waiting = broker.wait_beyond(Position(0));
    let receiving = next(&mut subscription, 10);
    let (_, waited, received) = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::join!(publish(&broker, &["a"]), waiting, receiving)
    })
    .await
    .unwrap();

    waited.unwrap();
    assert_eq!(ids(&received), ["a"]);
}

#[tokio::test]
async fn a_full_broker_refuses_and_a_closed_one_too() {
    let broker = broker();
    broker.set_full(true);
    let refused = broker.publish(&[envelope("a", "order.placed")]).await;
    assert!(
        matches!(&refused[0], Err(error @ PublishError::Refused { .. }) if error.class().is_transient())
    );

    broker.set_full(false);
    publish(&broker, &["a"]).await;
    broker.close().await.unwrap();

    assert!(broker.publish(&[envelope("b", "order.placed")]).await[0].is_err());
    assert!(matches!(
        broker.subscribe(&request(StartAt::Earliest)).await,
        Err(BrokerError::Closed)
    ));
    assert_eq!(broker.events().len(), 1);
}

#[tokio::test]
async fn events_are_looked_up_by_id_and_by_dedupe_key() {
    let broker = broker();
    publish(&broker, &["a", "b", "a"]).await;
    let fact = envelope("fact", "tidings.note.taken");
    broker.publish(std::slice::from_ref(&fact)).await;

    let request = LookUpRequest {
        by: LookUpBy::EventId("a"),
        from: Position(0),
        patterns: &[],
        events_max: 10,
    };
    let page = broker.look_up(request).await.unwrap();
    let positions: Vec<u64> = page.events.iter().map(|event| event.position.0).collect();
    assert_eq!((positions, page.at_end), (vec![0, 2], true));
    let asked = [
        envelope("b", "x"),
        envelope("c", "x"),
        fact,
        envelope("a", "x"),
    ];
    let found = broker.recorded(&asked).await.unwrap();
    let positions: Vec<Option<u64>> = found
        .iter()
        .map(|found| found.as_ref().map(|event| event.position.0))
        .collect();
    assert_eq!(positions, [Some(1), None, Some(3), Some(0)]);
}

#[tokio::test]
async fn reading_along_tells_the_end_once_and_goes_on() {
    let broker = broker();
    publish(&broker, &["a", "b", "c", "d", "e"]).await;
    let request = TailRequest {
        patterns: vec![Pattern::everything()],
        start: StartAt::Position(Position(2)),
    };

    let mut tail = broker.tail(request).await.unwrap();
    let page = tail.next(2).await.unwrap();
    let places: Vec<&str> = page.events.iter().map(|event| &*event.place).collect();
    assert_eq!(places, ["2", "3"]);
    assert!(!page.at_end);
    assert_eq!(tail.next(2).await.unwrap().events.len(), 1);
    let end = tail.next(2).await.unwrap();
    assert!(end.at_end && end.events.is_empty());

    let (page, ()) = tokio::join!(tail.next(2), async {
        tokio::task::yield_now().await;
        publish(&broker, &["f"]).await;
    });
    assert_eq!(page.unwrap().events[0].position, Some(Position(5)));
}

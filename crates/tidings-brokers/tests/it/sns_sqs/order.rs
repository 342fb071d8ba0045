//! Ordered topics: the order of each key over several instances, and what is sent twice.

use super::*;

#[tokio::test]
async fn an_ordered_topic_keeps_the_order_of_each_key_over_instances_and_releases() {
    let Some(fixture) = Fixture::new("order", "&fifo=true").await else {
        return;
    };
    assert_eq!(
        fixture.broker.capabilities().key_order,
        KeyOrder::AcrossInstances
    );
    let request = group("order", &["order.*"]);
    let mut first = fixture.broker.subscribe(&request).await.expect("a group");
    let events: Vec<_> = (0..30)
        .map(|n| event("order.placed", if n % 2 == 0 { "a" } else { "b" }, n))
        .collect();
    publish(&fixture.broker, &events).await;

    let taken = receive(&mut first, 1).await;
    let again = fixture.again(&fixture.host, "").await;
    let mut second = again.subscribe(&request).await.expect("a group");
    settle(&first, &taken, SettleAction::Release).await;
    let mut seen = receive(&mut first, 1).await;
    assert_eq!(
        ids(&seen)[0],
        ids(&taken)[0],
        "what is released comes first"
    );
    settle(&first, &seen, SettleAction::Ack).await;
    // What this instance had received goes to the other one, behind nothing that is later.
    first.settle.leave().await.expect("left");
    while seen.len() < events.len() {
        let more = receive(&mut second, 1).await;
        settle(&second, &more, SettleAction::Ack).await;
        seen.extend(more);
    }

    for key in ["a", "b"] {
        let of_key = |all: Vec<String>| -> Vec<String> {
            all.into_iter().filter(|id| id.starts_with(key)).collect()
        };
        let sent = events.iter().map(|one| one.event_id().to_owned()).collect();
        assert_eq!(of_key(ids(&seen)), of_key(sent));
    }
    second.settle.leave().await.expect("left");
}

#[tokio::test]
async fn an_event_that_is_sent_twice_to_an_ordered_topic_comes_once() {
    let Some(fixture) = Fixture::new("twice", "&fifo=true").await else {
        return;
    };
    let mut subscription = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .expect("a group");
    let mut parts = EnvelopeParts::new("no key", "order.placed");
    parts.source = Some("s".to_owned());
    let without_key = Envelope::new(parts).expect("an event");

    publish(&fixture.broker, std::slice::from_ref(&without_key)).await;
    publish(
        &fixture.broker,
        &[without_key.clone(), event("order.placed", "a b", 1)],
    )
    .await;

    let came = receive(&mut subscription, 2).await;
    assert_eq!(ids(&came), ["no key", "a b-1"]);
    settle(&subscription, &came, SettleAction::Ack).await;
    expect_quiet(&mut subscription).await;
    subscription.settle.leave().await.expect("left");
}

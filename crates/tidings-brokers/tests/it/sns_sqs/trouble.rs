//! Trouble on the way: messages that could not be kept, services that are not there, queues that vanish, a broker that is closed.

use super::*;
use crate::aws::partial::each_event_has_its_own_outcome;

#[tokio::test]
async fn a_delivery_stays_ours_while_it_is_open_and_is_stale_once_it_could_not_be_kept() {
    let Some(fixture) = Fixture::new("stale", "&visibility=9").await else {
        return;
    };
    let proxy = FaultProxy::start(fixture.host.clone()).expect("a proxy");
    let slow = fixture.again(&proxy.address().to_string(), "").await;
    let request = group("g", &["**"]);
    let mut first = slow.subscribe(&request).await.expect("a group");
    publish(&fixture.broker, &[event("order.placed", "a", 1)]).await;
    let held = receive(&mut first, 1).await;
    let mut second = fixture.broker.subscribe(&request).await.expect("a group");

    let longer_than_its_time = Duration::from_secs(11);
    let early = tokio::time::timeout(longer_than_its_time, receive(&mut second, 1)).await;
    assert!(early.is_err(), "kept from others while it is open");
    proxy.down();
    let taken = receive(&mut second, 1).await;
    assert_eq!(ids(&taken), ["a-1"]);
    proxy.heal();
    let answers = first
        .settle
        .settle(&[(held[0].token, SettleAction::Ack)])
        .await;

    assert!(matches!(answers[0], Err(SettleError::Stale)), "{answers:?}");
    let lost = async {
        loop {
            if let Ok(Received::Lost(scope)) = first.receive.receive(1).await {
                break scope;
            }
        }
    };
    let lost = tokio::time::timeout(DEADLINE, lost).await.expect("told");
    assert_eq!(lost.generation, 1);
    settle(&second, &taken, SettleAction::Ack).await;
    first.settle.leave().await.expect("left");
    second.settle.leave().await.expect("left");
}

#[tokio::test]
async fn what_a_vanished_instance_holds_is_waited_for() {
    for more in ["&visibility=3", "&visibility=3&fifo=true"] {
        let Some(fixture) = Fixture::new("vanished", more).await else {
            return;
        };
        let proxy = FaultProxy::start(fixture.host.clone()).expect("a proxy");
        let lost = fixture.again(&proxy.address().to_string(), "").await;
        let request = group("g", &["**"]);
        let mut first = lost.subscribe(&request).await.expect("a group");
        publish(&fixture.broker, &[event("order.placed", "a", 1)]).await;
        receive(&mut first, 1).await;
        proxy.down();
        let mut second = fixture.broker.subscribe(&request).await.expect("a group");

        let told = async {
            loop {
                let received = second.receive.receive(1);
                match tokio::time::timeout(QUIET, received).await {
                    Ok(Ok(Received::Deliveries { deliveries, .. })) => break deliveries,
                    _ => assert!(!second.receive.is_caught_up(), "one event is elsewhere"),
                }
            }
        };
        let came = tokio::time::timeout(DEADLINE, told).await.expect("in time");

        assert_eq!(ids(&came), ["a-1"]);
        settle(&second, &came, SettleAction::Ack).await;
        until_caught_up(&second).await;
        second.settle.leave().await.expect("left");
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_told_within_a_bounded_time() {
    let Some(fixture) = Fixture::new("unreachable", "&fifo=true").await else {
        return;
    };
    let proxy = FaultProxy::start(fixture.host.clone()).expect("a proxy");
    let address = proxy.address().to_string();
    let broker = fixture.again(&address, "").await;
    let batch = [event("order.placed", "a", 1), event("order.placed", "a", 2)];

    proxy.half_open();
    let outcomes = tokio::time::timeout(DEADLINE, broker.publish(&batch)).await;
    let outcomes = outcomes.expect("bounded");
    let first = outcomes[0].as_ref().expect_err("not accepted");
    assert!(matches!(first, PublishError::Ambiguous { .. }), "{first}");
    assert!(matches!(outcomes[1], Err(PublishError::NotAttempted)));
    proxy.heal();
    publish(&broker, &batch).await;
    let refused = connect("127.0.0.1:9", "topic=x").await;

    let error = refused.expect_err("nobody is there");
    assert!(matches!(error, BrokerError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_known_not_to_have_been_written() {
    let Some(fixture) = Fixture::new("refused", "").await else {
        return;
    };
    let proxy = FaultProxy::start(fixture.host.clone()).expect("a proxy");
    let broker = fixture.again(&proxy.address().to_string(), "").await;
    let mut subscription = broker
        .subscribe(&group("g", &["**"]))
        .await
        .expect("a group");
    drop(proxy);

    let outcomes = broker.publish(&[event("order.placed", "a", 1)]).await;

    let error = outcomes[0].as_ref().expect_err("not accepted");
    assert!(
        !error.may_have_happened() && !error.is_about_the_event(),
        "{error}"
    );
    assert_eq!(error.code(), codes::BROKER_UNREACHABLE);
    let told = async {
        loop {
            if let Err(error) = subscription.receive.receive(1).await {
                break error;
            }
        }
    };
    let told = tokio::time::timeout(DEADLINE, told).await.expect("told");
    assert!(told.class().is_transient(), "{told}");
}

#[tokio::test]
async fn a_queue_that_vanished_is_made_again() {
    let Some(fixture) = Fixture::new("vanished", "").await else {
        return;
    };
    let request = group("g", &["**"]);
    let mut subscription = fixture.broker.subscribe(&request).await.expect("a group");
    let name = format!("{}-g", fixture.topic);
    let client = sqs(&fixture.host);
    let url = client.get_queue_url().queue_name(&name).send().await;
    let url = url.expect("the queue").queue_url.expect("its URL");
    client
        .delete_queue()
        .queue_url(url)
        .send()
        .await
        .expect("deleted");

    let back = async {
        loop {
            let told = subscription.receive.receive(1);
            if let Ok(Ok(Received::Deliveries { deliveries, .. })) =
                tokio::time::timeout(QUIET, told).await
                && !deliveries.is_empty()
            {
                break deliveries;
            }
            // To a queue that is not there moto fails in part.
            drop(
                fixture
                    .broker
                    .publish(&[event("order.placed", "a", 1)])
                    .await,
            );
        }
    };
    let came = tokio::time::timeout(DEADLINE, back).await.expect("in time");

    assert_eq!(ids(&came)[0], "a-1");
    subscription.settle.leave().await.expect("left");
}

#[tokio::test]
async fn a_subscription_ends_with_its_broker() {
    let Some(fixture) = Fixture::new("closing", "").await else {
        return;
    };
    let request = group("all", &["**"]);
    let mut subscription = fixture.broker.subscribe(&request).await.expect("a group");
    // The scope is told first.
    assert!(matches!(
        subscription.receive.receive(10).await,
        Ok(Received::Assigned(_))
    ));

    let (ended, closed) = tokio::join!(
        tokio::time::timeout(DEADLINE, subscription.receive.receive(10)),
        fixture.broker.close(),
    );

    closed.expect("closed");
    assert!(matches!(ended, Ok(Err(BrokerError::Closed))));
    let again = subscription.receive.receive(10).await;
    assert!(matches!(again, Err(BrokerError::Closed)));
}

#[tokio::test]
async fn each_event_of_a_batch_that_is_taken_in_part_has_its_own_outcome() {
    each_event_has_its_own_outcome(async |address| {
        connect(&address, "topic=topic").await.expect("a broker")
    })
    .await;
}

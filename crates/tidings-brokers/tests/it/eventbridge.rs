//! The adapter of EventBridge with SQS against moto.

use crate::aws::partial::each_event_has_its_own_outcome;
use crate::aws::{clock, host, queues};
use crate::events::{
    DEADLINE, event, every_kind, expect_quiet, group, ids, plain, publish, receive, settle,
};
use crate::server::fresh;
use tidings_brokers::EventBridgeBroker;
use tidings_core::broker::{
    Broker, BrokerError, GroupName, KeyOrder, PublishError, SettleAction, StartAt, TailRequest,
    TopologyRequest, TopologyState,
};
use tidings_core::{Envelope, EnvelopeParts, Payload, codes};

async fn connect(host: &str, parameters: &str) -> Result<EventBridgeBroker, BrokerError> {
    let url = format!("eventbridge://test:test@{host}?region=us-east-1&wait=0&{parameters}");
    EventBridgeBroker::connect(&url.parse().expect("a URL"), clock()).await
}

/// A broker with a bus of its own; its host, the name of the bus.
async fn fixture(test: &str) -> Option<(EventBridgeBroker, String, String)> {
    let host = host(test)?;
    let bus = fresh(test);
    let broker = connect(&host, &format!("bus={bus}"))
        .await
        .expect("a broker");
    Some((broker, host, bus))
}

#[tokio::test]
async fn programs_that_make_one_bus_at_the_same_time_all_have_it() {
    let Some(host) = host("eb-together") else {
        return;
    };
    let bus = format!("bus={}", fresh("eb-together"));

    let connecting = (0..8).map(|_| connect(&host, &bus));
    let connected = futures_util::future::join_all(connecting).await;

    for broker in connected {
        let broker = broker.expect("a broker");
        publish(&broker, &[event("a.happened", "k", 0)]).await;
    }
}

#[tokio::test]
async fn every_attribute_comes_back_to_those_whose_patterns_match() {
    let Some((broker, _, _)) = fixture("eb-attributes").await else {
        return;
    };
    assert_eq!(broker.capabilities().key_order, KeyOrder::None);
    let mut all = broker
        .subscribe(&group("all", &["**"]))
        .await
        .expect("a group");
    let mut some = broker
        .subscribe(&group("some", &["file.*"]))
        .await
        .expect("a group");
    let sent = every_kind();

    publish(&broker, &sent).await;

    let came = receive(&mut all, sent.len()).await;
    for envelope in &sent {
        let found = came
            .iter()
            .find(|one| one.envelope.event_id() == envelope.event_id());
        let found = found.unwrap_or_else(|| panic!("{} is missing", envelope.event_id()));
        assert_eq!(found.problem, None);
        assert_eq!(plain(&found.envelope), plain(envelope));
    }
    settle(&all, &came[..1], SettleAction::Release).await;
    settle(&all, &came[1..], SettleAction::Ack).await;
    let again = receive(&mut all, 1).await;
    assert_eq!(ids(&again), ids(&came[..1]));
    settle(&all, &again, SettleAction::Ack).await;
    expect_quiet(&mut all).await;
    let files = receive(&mut some, 3).await;
    assert!(
        files
            .iter()
            .all(|one| one.envelope.event_type().as_str() == "file.stored")
    );
    settle(&some, &files, SettleAction::Ack).await;
    expect_quiet(&mut some).await;
    all.settle.leave().await.expect("left");
    some.settle.leave().await.expect("left");
}

#[tokio::test]
async fn an_event_too_large_for_eventbridge_is_refused_and_holds_back_its_key_alone() {
    let Some((broker, _, _)) = fixture("eb-large").await else {
        return;
    };
    let mut parts = EnvelopeParts::new("too large", "file.stored");
    parts.aggregate_id = Some("a".to_owned());
    parts.payload = Some(Payload::binary(vec![7; 262_144]));
    let large = Envelope::new(parts).expect("an event");

    let batch = [
        large,
        event("order.placed", "a", 1),
        event("order.placed", "b", 1),
    ];
    let outcomes = broker.publish(&batch).await;

    let error = outcomes[0].as_ref().expect_err("refused");
    assert_eq!(error.code(), codes::LIMIT_EXCEEDED);
    assert!(matches!(outcomes[1], Err(PublishError::NotAttempted)));
    assert!(outcomes[2].is_ok());
}

#[tokio::test]
async fn what_is_missing_on_the_bus_is_named_with_its_command() {
    let Some(host) = host("eb-topology") else {
        return;
    };
    let bus = fresh("eb-topology");
    let bound = connect(&host, &format!("bus={bus}&ensure=false"))
        .await
        .expect("it looks");
    let groups = [group("stock", &["order.*"])];
    let look = |ensure| TopologyRequest {
        groups: &groups,
        ensure,
    };

    let missing = bound.topology(look(false)).await.expect("a look");
    for (item, word) in missing.iter().zip([
        "create-event-bus",
        "create-queue",
        "put-rule",
        "put-targets",
    ]) {
        match &item.state {
            TopologyState::Missing { command } => assert!(command.contains(word), "{command}"),
            other => panic!("{}: {other:?}", item.what),
        }
    }
    let outcomes = bound.publish(&[event("order.placed", "a", 1)]).await;
    let refused = outcomes[0].as_ref().expect_err("there is no bus");
    assert_eq!(refused.code(), codes::TOPOLOGY_MISSING);
    let made = bound.topology(look(true)).await.expect("made");
    assert!(
        made.iter().all(|item| item.state == TopologyState::Created),
        "{made:?}"
    );
    let there = bound.topology(look(false)).await.expect("a look");
    assert!(
        there
            .iter()
            .all(|item| item.state == TopologyState::Present),
        "{there:?}"
    );
}

#[tokio::test]
async fn groups_of_a_bus_are_listed_with_their_lag_and_removed_and_a_tail_leaves_nothing() {
    let Some((broker, host, bus)) = fixture("eb-admin").await else {
        return;
    };
    let admin = broker.admin().expect("administration");
    let name: GroupName = "stock".parse().expect("a name");
    let joined = broker
        .subscribe(&group("stock", &["order.placed"]))
        .await
        .expect("a group");
    joined.settle.leave().await.expect("left");
    let mut tail = broker
        .tail(TailRequest {
            patterns: vec!["**".parse().expect("a pattern")],
            start: StartAt::Latest,
        })
        .await
        .expect("a tail");
    assert!(tail.next(1).await.expect("a page").at_end);

    publish(&broker, &[event("order.placed", "a", 1)]).await;

    let page = tokio::time::timeout(DEADLINE, tail.next(9))
        .await
        .expect("in time");
    assert_eq!(page.expect("a page").events[0].envelope.event_id(), "a-1");
    let groups = admin.groups().await.expect("groups");
    assert_eq!((groups.len(), &groups[0].name), (1, &name));
    assert_eq!(
        groups[0].patterns,
        ["order.placed".parse().expect("a pattern")]
    );
    assert_eq!(admin.lag(&name).await.expect("a lag").events, 1);
    admin.remove(&name).await.expect("removed");
    drop(tail);
    broker.close().await.expect("closed");
    assert!(queues(&host, &bus).await.is_empty());
    let gone = connect("127.0.0.1:9", "bus=x")
        .await
        .expect_err("nobody is there");
    assert!(matches!(gone, BrokerError::Unreachable { .. }), "{gone}");
}

#[tokio::test]
async fn each_event_of_a_batch_that_is_taken_in_part_has_its_own_outcome() {
    each_event_has_its_own_outcome(async |address| {
        connect(&address, "bus=bus").await.expect("a broker")
    })
    .await;
}

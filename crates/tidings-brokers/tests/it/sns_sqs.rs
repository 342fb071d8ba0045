//! The adapter of SNS with SQS, standard and FIFO, against moto.

use crate::aws::{clock, host, queues, sns, sqs};
use crate::events::{
    DEADLINE, QUIET, event, every_kind, expect_quiet, group, ids, publish, receive, settle,
};
use crate::server::fresh;
use std::time::Duration;
use tidings_brokers::SnsSqsBroker;
use tidings_core::broker::{
    Broker, BrokerError, GroupName, KeyOrder, PublishError, Received, SettleAction, SettleError,
    StartAt, TailRequest, TopologyRequest, TopologyState,
};
use tidings_core::{Envelope, EnvelopeParts, Payload, codes};
use tidings_testkit::proxy::FaultProxy;

/// A broker with a topic of its own.
struct Fixture {
    broker: SnsSqsBroker,
    host: String,
    topic: String,
    parameters: String,
}

async fn connect(host: &str, parameters: &str) -> Result<SnsSqsBroker, BrokerError> {
    let url = format!("sns+sqs://test:test@{host}?region=us-east-1&{parameters}");
    SnsSqsBroker::connect(&url.parse().expect("a URL"), clock()).await
}

impl Fixture {
    async fn new(test: &str, more: &str) -> Option<Self> {
        let host = host(test)?;
        let topic = fresh(test);
        let parameters = format!("topic={topic}&wait=0{more}");
        let broker = connect(&host, &parameters).await.expect("a broker");
        Some(Self {
            broker,
            host,
            topic,
            parameters,
        })
    }

    /// The same topic over another way.
    async fn again(&self, host: &str, more: &str) -> SnsSqsBroker {
        let parameters = format!("{}{more}", self.parameters);
        connect(host, &parameters).await.expect("a broker")
    }

    /// Sends a body as others do.
    async fn send_raw(&self, body: &str) {
        let client = sns(&self.host);
        let topic = format!("arn:aws:sns:us-east-1:123456789012:{}", self.topic);
        let request = client.publish().topic_arn(topic).message(body);
        request.send().await.expect("sent");
    }
}

/// Attributes that are no legal extensions may come back in another order.
fn in_order(envelope: &Envelope) -> EnvelopeParts {
    let mut parts = envelope.parts();
    parts.extensions.sort();
    parts
}

#[tokio::test]
async fn every_attribute_comes_back_by_standard_and_by_ordered_topics() {
    for more in ["", "&fifo=true"] {
        let Some(fixture) = Fixture::new("attributes", more).await else {
            return;
        };
        let request = group("all", &["**"]);
        let mut subscription = fixture.broker.subscribe(&request).await.expect("a group");
        let sent = every_kind();

        publish(&fixture.broker, &sent).await;

        let deliveries = receive(&mut subscription, sent.len()).await;
        for envelope in &sent {
            let found = deliveries
                .iter()
                .find(|one| one.envelope.event_id() == envelope.event_id());
            let found = found.unwrap_or_else(|| panic!("{} is missing", envelope.event_id()));
            assert_eq!(found.problem, None);
            assert_eq!(in_order(&found.envelope), in_order(envelope));
            assert!(found.append_time.is_some());
        }
        settle(&subscription, &deliveries, SettleAction::Ack).await;
        expect_quiet(&mut subscription).await;
        assert!(subscription.receive.is_caught_up());
        subscription.settle.leave().await.expect("left");
    }
}

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

#[tokio::test]
async fn a_group_gets_what_its_patterns_ask_for_and_a_standard_topic_redelivers_what_is_released() {
    let Some(fixture) = Fixture::new("patterns", "").await else {
        return;
    };
    assert_eq!(fixture.broker.capabilities().key_order, KeyOrder::None);
    let narrow = group("narrow", &["order.placed", "stock.**"]);
    let mut narrow = fixture.broker.subscribe(&narrow).await.expect("a group");
    let mut wide = fixture
        .broker
        .subscribe(&group("wide.v2", &["**"]))
        .await
        .expect("a group");
    let types = [
        "order.placed",
        "order.placed.v2",
        "order.paid",
        "stock.line.moved",
        "x",
    ];
    let events: Vec<_> = types.iter().map(|name| event(name, name, 1)).collect();

    publish(&fixture.broker, &events).await;

    let came = receive(&mut narrow, 3).await;
    let mut found = ids(&came);
    found.sort();
    assert_eq!(
        found,
        ["order.placed-1", "order.placed.v2-1", "stock.line.moved-1"]
    );
    settle(&narrow, &came[..1], SettleAction::Release).await;
    settle(&narrow, &came[1..], SettleAction::Ack).await;
    let again = receive(&mut narrow, 1).await;
    assert_eq!(ids(&again), ids(&came[..1]));
    settle(&narrow, &again, SettleAction::Ack).await;
    let answers = narrow
        .settle
        .settle(&[(again[0].token, SettleAction::Ack)])
        .await;
    assert!(
        matches!(answers[0], Err(SettleError::Unknown)),
        "{answers:?}"
    );
    expect_quiet(&mut narrow).await;
    assert_eq!(receive(&mut wide, 5).await.len(), 5);
    narrow.settle.leave().await.expect("left");
    wide.settle.leave().await.expect("left");
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused_and_holds_back_its_key_alone() {
    let Some(fixture) = Fixture::new("large", "").await else {
        return;
    };
    let mut subscription = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .expect("a group");
    let large = |id: &str, bytes: usize| {
        let mut parts = EnvelopeParts::new(id, "file.stored");
        parts.aggregate_id = Some("a".to_owned());
        parts.payload = Some(Payload::binary(vec![7; bytes]));
        Envelope::new(parts).expect("an event")
    };
    let most = fixture.broker.capabilities().payload_bytes_max;
    let batch = [
        large("fits", most),
        large("too large", 262_144),
        event("order.placed", "a", 1),
        event("order.placed", "b", 1),
    ];

    let outcomes = fixture.broker.publish(&batch).await;

    assert!(outcomes[0].is_ok() && outcomes[3].is_ok(), "{outcomes:?}");
    let error = outcomes[1].as_ref().expect_err("refused");
    assert!(
        error.is_about_the_event() && !error.may_have_happened(),
        "{error}"
    );
    assert_eq!(error.code(), codes::LIMIT_EXCEEDED);
    assert!(matches!(outcomes[2], Err(PublishError::NotAttempted)));
    let mut came = ids(&receive(&mut subscription, 2).await);
    came.sort();
    assert_eq!(came, ["b-1", "fits"]);
    expect_quiet(&mut subscription).await;
    subscription.settle.leave().await.expect("left");
}

#[tokio::test]
async fn a_delivery_stays_ours_while_it_is_open_and_is_stale_once_it_could_not_be_kept() {
    let Some(fixture) = Fixture::new("stale", "&visibility=3").await else {
        return;
    };
    let proxy = FaultProxy::start(fixture.host.clone()).expect("a proxy");
    let slow = fixture.again(&proxy.address().to_string(), "").await;
    let request = group("g", &["**"]);
    let mut first = slow.subscribe(&request).await.expect("a group");
    publish(&fixture.broker, &[event("order.placed", "a", 1)]).await;
    let held = receive(&mut first, 1).await;
    let mut second = fixture.broker.subscribe(&request).await.expect("a group");

    let longer_than_its_time = Duration::from_secs(4);
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
async fn a_service_that_cannot_be_reached_is_told_within_a_bounded_time() {
    let Some(fixture) = Fixture::new("unreachable", "").await else {
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
async fn what_is_missing_is_named_with_its_command_where_it_must_not_be_made() {
    let Some(host) = host("topology") else {
        return;
    };
    let topic = fresh("topology");
    let bound = connect(&host, &format!("topic={topic}&ensure=false&fifo=true")).await;
    let bound = bound.expect("a broker that only looks");
    let groups = [group("stock", &["order.*"])];
    let look = |ensure| TopologyRequest {
        groups: &groups,
        ensure,
    };

    let items = bound.topology(look(false)).await.expect("a look");
    let commands: Vec<_> = items
        .iter()
        .map(|item| match &item.state {
            TopologyState::Missing { command } => command.as_str(),
            other => panic!("{}: {other:?}", item.what),
        })
        .collect();
    assert!(commands[0].contains(&format!("aws sns create-topic --name {topic}.fifo")));
    assert!(commands[1].contains(&format!(
        "aws sqs create-queue --queue-name {topic}-stock.fifo"
    )));
    assert!(
        commands[2].contains("aws sns subscribe") && commands[2].contains("RawMessageDelivery")
    );
    let outcomes = bound.publish(&[event("order.placed", "a", 1)]).await;
    let refused = outcomes[0].as_ref().expect_err("there is no topic");
    assert_eq!(refused.code(), codes::TOPOLOGY_MISSING);
    let refused = bound
        .subscribe(&groups[0])
        .await
        .expect_err("there is no topic");
    assert!(
        matches!(refused, BrokerError::TopologyMissing { .. }),
        "{refused}"
    );

    let states = |items: Vec<tidings_core::broker::TopologyItem>| -> Vec<TopologyState> {
        items.into_iter().map(|item| item.state).collect()
    };
    let made = bound.topology(look(true)).await.expect("made");
    assert_eq!(states(made), [const { TopologyState::Created }; 3]);
    let there = bound.topology(look(false)).await.expect("a look");
    assert_eq!(states(there), [const { TopologyState::Present }; 3]);
    let other = [group("stock", &["order.*", "stock.moved"])];
    let request = TopologyRequest {
        groups: &other,
        ensure: false,
    };
    let wrong = bound.topology(request).await.expect("a look");
    match &wrong[2].state {
        TopologyState::Wrong { way_out, .. } => {
            assert!(way_out.contains("stock.moved"), "{way_out}")
        }
        other => panic!("{other:?}"),
    }
    let mut subscription = bound.subscribe(&groups[0]).await.expect("a group");
    publish(&bound, &[event("order.placed", "a", 1)]).await;
    assert_eq!(receive(&mut subscription, 1).await.len(), 1);
    subscription.settle.leave().await.expect("left");
}

#[tokio::test]
async fn foreign_json_is_an_event_and_garbage_keeps_its_bytes() {
    let Some(fixture) = Fixture::new("foreign", "").await else {
        return;
    };
    let mut subscription = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .expect("a group");

    fixture
        .send_raw(r#"{"event_id":"s1","event_type":"order.placed","payload":{"a":1}}"#)
        .await;
    fixture.send_raw(r#"{"order": 7}"#).await;
    fixture.send_raw("{half").await;

    let came = receive(&mut subscription, 3).await;
    let of = |text: &[u8]| came.iter().find(|one| one.envelope.payload_bytes() == text);
    assert_eq!(
        of(br#"{"a":1}"#)
            .expect("the seed's form")
            .envelope
            .event_id(),
        "s1"
    );
    let foreign = of(br#"{"order": 7}"#).expect("a payload");
    assert!(foreign.problem.is_none() && foreign.envelope.event_id().starts_with("sqs:"));
    assert!(of(b"{half").expect("garbage").problem.is_some());
    settle(&subscription, &came, SettleAction::Ack).await;
    subscription.settle.leave().await.expect("left");
}

#[tokio::test]
async fn groups_are_listed_with_their_lag_and_removed() {
    let Some(fixture) = Fixture::new("admin", "&fifo=true").await else {
        return;
    };
    let admin = fixture.broker.admin().expect("administration");
    let name: GroupName = "stock.v2".parse().expect("a name");
    let request = group(name.as_str(), &["order.placed", "stock.*"]);
    let subscription = fixture.broker.subscribe(&request).await.expect("a group");
    subscription.settle.leave().await.expect("left");
    publish(
        &fixture.broker,
        &[event("order.placed", "a", 1), event("order.placed", "a", 2)],
    )
    .await;

    let groups = admin.groups().await.expect("groups");
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].name, name);
    let patterns: Vec<_> = groups[0].patterns.iter().map(|one| one.as_str()).collect();
    assert_eq!(patterns, ["order.placed", "stock.**"]);
    assert_eq!(admin.lag(&name).await.expect("a lag").events, 2);
    let refused = admin.seek(&name, StartAt::Earliest).await;
    assert!(matches!(refused, Err(BrokerError::Unsupported { .. })));
    admin.remove(&name).await.expect("removed");

    assert!(matches!(
        admin.lag(&name).await,
        Err(BrokerError::GroupUnknown { .. })
    ));
    assert!(queues(&fixture.host, &fixture.topic).await.is_empty());
}

#[tokio::test]
async fn a_tail_reads_along_from_now_on_and_leaves_nothing_behind() {
    let Some(fixture) = Fixture::new("tail", "&fifo=true").await else {
        return;
    };
    let request = |start| TailRequest {
        patterns: vec!["order.*".parse().expect("a pattern")],
        start,
    };
    let refused = fixture.broker.tail(request(StartAt::Earliest)).await.err();
    let refused = refused.expect("no history").to_string();
    assert!(refused.contains("keeps no history"), "{refused}");
    let mut tail = fixture
        .broker
        .tail(request(StartAt::Latest))
        .await
        .expect("a tail");
    assert!(tail.next(10).await.expect("a page").at_end);
    assert_eq!(
        queues(&fixture.host, &format!("{}-tail-", fixture.topic))
            .await
            .len(),
        1
    );

    publish(
        &fixture.broker,
        &[event("order.placed", "a", 1), event("stock.moved", "a", 2)],
    )
    .await;
    publish(&fixture.broker, &[event("order.placed", "a", 3)]).await;
    let mut read = Vec::new();
    while read.len() < 2 {
        let page = tokio::time::timeout(DEADLINE, tail.next(10))
            .await
            .expect("in time");
        let page = page.expect("a page");
        read.extend(
            page.events
                .iter()
                .map(|one| one.envelope.event_id().to_owned()),
        );
    }
    drop(tail);
    fixture.broker.close().await.expect("closed");

    assert_eq!(read, ["a-1", "a-3"]);
    assert!(queues(&fixture.host, &fixture.topic).await.is_empty());
    let outcomes = fixture
        .broker
        .publish(&[event("order.placed", "a", 4)])
        .await;
    assert_eq!(
        outcomes[0].as_ref().expect_err("closed").code(),
        codes::CLOSED
    );
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

//! Kafka: what is its own, besides what every broker must do.

mod compressed;
mod foreign;
mod instances;
pub(crate) mod wire;

use crate::events::{
    DEADLINE, event, every_kind, expect_quiet, group, ids, plain, publish, read_to_end, receive,
    settle,
};
use crate::server;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tidings_brokers::KafkaBroker;
use tidings_core::broker::{
    Broker, BrokerError, PublishError, Received, SettleAction, SettleError, StartAt, TailRequest,
    TopologyRequest, TopologyState,
};
use tidings_core::{Envelope, EnvelopeParts, Payload, codes};
use tidings_flow::runtime::SystemClock;

const VARIABLE: &str = "TIDINGS_TEST_KAFKA_URL";

async fn connect(url: &str) -> Result<KafkaBroker, BrokerError> {
    let clock = Arc::new(SystemClock::new());
    KafkaBroker::connect(&url.parse()?, clock).await
}

/// A broker with a topic of its own, and its URL; nothing where the tests do without Kafka.
async fn fresh(test: &str) -> Option<(KafkaBroker, String)> {
    let url = server::url("kafka", VARIABLE, test)?;
    let topic = server::fresh(test);
    // Groups belong to the cluster, not to the topic.
    let parameters = format!("topic={topic}&group_prefix={topic}.&session_timeout=6");
    let url = server::with(&url, &parameters);
    let broker = connect(&url).await.expect("a connection");
    Some((broker, url))
}

fn topic(url: &str) -> String {
    let (_, rest) = url.split_once("topic=").expect("a topic");
    rest.split('&').next().unwrap_or(rest).to_owned()
}

#[tokio::test]
async fn every_kind_of_event_comes_back_as_it_was() {
    let Some((broker, _)) = fresh("kinds").await else {
        return;
    };
    let sent = every_kind();

    publish(&broker, &sent).await;
    let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut subscription, sent.len()).await;

    for envelope in &sent {
        let same = received
            .iter()
            .find(|delivery| delivery.envelope.event_id() == envelope.event_id())
            .unwrap_or_else(|| panic!("{} did not come", envelope.event_id()));
        assert_eq!(plain(&same.envelope), plain(envelope));
        assert_eq!(same.problem, None);
        assert!(same.append_time.is_some());
    }
}

#[tokio::test]
async fn a_key_keeps_its_order_and_what_is_settled_does_not_come_again() {
    let Some((broker, _)) = fresh("order").await else {
        return;
    };
    let sent: Vec<_> = (0..600)
        .map(|n| event("order.placed", &format!("k{}", n % 7), n))
        .collect();
    publish(&broker, &sent).await;

    let mut first = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut first, 400).await;
    settle(&first, &received, SettleAction::Ack).await;
    first.settle.leave().await.unwrap();
    drop(first);
    let mut second = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let rest = receive(&mut second, 200).await;

    let mut by_key: HashMap<String, Vec<u32>> = HashMap::new();
    for delivery in received.iter().chain(&rest) {
        let id = delivery.envelope.event_id();
        let (key, number) = id.split_once('-').unwrap();
        let numbers = by_key.entry(key.to_owned()).or_default();
        numbers.push(number.parse().unwrap());
    }
    assert_eq!(by_key.values().map(Vec::len).sum::<usize>(), 600);
    for numbers in by_key.values() {
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
    expect_quiet(&mut second).await;
}

#[tokio::test]
async fn what_was_released_comes_again_ahead_of_what_is_new() {
    let Some((broker, _)) = fresh("release").await else {
        return;
    };
    let sent: Vec<_> = (0..6).map(|n| event("a.happened", "k", n)).collect();
    publish(&broker, &sent).await;
    let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let first = receive(&mut subscription, 3).await;

    settle(&subscription, &first[1..], SettleAction::Release).await;
    settle(&subscription, &first[..1], SettleAction::Ack).await;
    let again = receive(&mut subscription, 5).await;

    assert_eq!(ids(&again), ["k-1", "k-2", "k-3", "k-4", "k-5"]);
    settle(&subscription, &again, SettleAction::Ack).await;
    let twice = subscription
        .settle
        .settle(&[(again[0].token, SettleAction::Ack)])
        .await;
    assert!(matches!(twice[..], [Err(SettleError::Unknown)]));
}

#[tokio::test]
async fn unwanted_events_do_not_hold_the_group_back() {
    let Some((broker, _)) = fresh("patterns").await else {
        return;
    };
    let sent = [
        event("order.placed", "k", 0),
        event("invoice.sent", "k", 1),
        event("order.placed.v2", "k", 2),
        event("tidings.group.paused", "k", 3),
    ];
    publish(&broker, &sent).await;
    let mut subscription = broker.subscribe(&group("g", &["order.*"])).await.unwrap();

    let received = receive(&mut subscription, 2).await;
    assert_eq!(ids(&received), ["k-0", "k-2"]);
    settle(&subscription, &received, SettleAction::Ack).await;
    expect_quiet(&mut subscription).await;
    let caught_up = async {
        while !subscription.receive.is_caught_up() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, caught_up).await.unwrap();
    subscription.settle.leave().await.unwrap();

    let name = "g".parse().unwrap();
    let lag = broker.admin().unwrap().lag(&name).await.unwrap();
    assert_eq!(lag.events, 0);
}

#[tokio::test]
async fn a_group_that_begins_at_the_latest_stands_there_from_its_subscription_on() {
    let Some((broker, _)) = fresh("latest").await else {
        return;
    };
    publish(&broker, &[event("a.happened", "old", 0)]).await;
    let mut request = group("g", &["**"]);
    request.start = StartAt::Latest;

    let subscription = broker.subscribe(&request).await.unwrap();
    drop(subscription);
    publish(&broker, &[event("a.happened", "new", 1)]).await;
    let mut subscription = broker.subscribe(&request).await.unwrap();

    assert_eq!(ids(&receive(&mut subscription, 1).await), ["new-1"]);
}

#[tokio::test]
async fn a_group_can_begin_at_a_time() {
    let Some((broker, _)) = fresh("time").await else {
        return;
    };
    publish(&broker, &[event("a.happened", "k", 0)]).await;
    let mut first = broker.subscribe(&group("all", &["**"])).await.unwrap();
    let old = receive(&mut first, 1).await;
    let after = old[0].append_time.unwrap().plus(Duration::from_millis(1));
    // Later than that by the clock of the broker.
    while SystemClock::new_now() <= after.plus(Duration::from_millis(5)) {
        tokio::task::yield_now().await;
    }
    publish(&broker, &[event("a.happened", "k", 1)]).await;

    let mut request = group("g", &["**"]);
    request.start = StartAt::Time(after);
    let mut subscription = broker.subscribe(&request).await.unwrap();

    assert_eq!(ids(&receive(&mut subscription, 1).await), ["k-1"]);
}

/// What the wall clock says.
trait Now {
    fn new_now() -> tidings_core::Timestamp;
}

impl Now for SystemClock {
    fn new_now() -> tidings_core::Timestamp {
        use tidings_core::seam::Clock as _;
        Self::new().now()
    }
}

#[tokio::test]
async fn reading_along_needs_no_group_and_tells_the_end_once() {
    let Some((broker, url)) = fresh("tail").await else {
        return;
    };
    let sent: Vec<_> = (0..50)
        .map(|n| event("a.happened", &format!("k{}", n % 9), n))
        .collect();
    publish(&broker, &sent).await;
    let everything = |start| TailRequest {
        patterns: Vec::new(),
        start,
    };

    let mut tail = broker.tail(everything(StartAt::Earliest)).await.unwrap();
    let mut read = read_to_end(&mut *tail).await;
    let mut live = broker.tail(everything(StartAt::Latest)).await.unwrap();
    publish(&broker, &[event("a.happened", "late", 50)]).await;

    read.sort();
    let mut expected: Vec<_> = sent.iter().map(|e| e.event_id().to_owned()).collect();
    expected.sort();
    assert_eq!(read, expected);
    for tail in [&mut tail, &mut live] {
        let mut page = tail.next(10).await.unwrap();
        while page.events.is_empty() {
            page = tail.next(10).await.unwrap();
        }
        assert_eq!(page.events[0].envelope.event_id(), "late-50");
        let place = &page.events[0].place;
        assert!(place.starts_with(&format!("{}/", topic(&url))), "{place}");
    }
    let admin = broker.admin().unwrap();
    assert!(admin.groups().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused_and_nothing_of_its_key_follows() {
    let Some((_, url)) = fresh("large").await else {
        return;
    };
    let broker = connect(&url).await.unwrap();
    let mut parts = EnvelopeParts::new("big", "file.stored");
    parts.aggregate_id = Some("k".into());
    parts.content_type = Some("application/octet-stream".into());
    parts.payload = Some(Payload::binary(vec![7; 12_600_000]));
    let big = Envelope::trusted(parts);

    let batch = [
        event("a.happened", "k", 0),
        big,
        event("a.happened", "k", 1),
        event("a.happened", "other", 2),
    ];
    let outcomes = broker.publish(&batch).await;

    assert!(outcomes[0].is_ok(), "{:?}", outcomes[0]);
    let refused = outcomes[1].as_ref().unwrap_err();
    assert_eq!(refused.code(), codes::LIMIT_EXCEEDED);
    assert!(!refused.class().is_transient() && !refused.may_have_happened());
    assert!(matches!(outcomes[2], Err(PublishError::NotAttempted)));
    assert!(outcomes[3].is_ok(), "{:?}", outcomes[3]);
    let mut largest = EnvelopeParts::new("largest", "file.stored");
    largest.content_type = Some("application/octet-stream".into());
    let bytes = broker.capabilities().payload_bytes_max;
    largest.payload = Some(Payload::binary(vec![7; bytes]));
    publish(&broker, &[Envelope::new(largest).unwrap()]).await;
}

#[tokio::test]
async fn a_missing_topic_is_reported_with_the_command_and_made_when_allowed() {
    let Some((broker, url)) = fresh("topology").await else {
        return;
    };
    let strict = connect(&server::with(&url, "ensure=false&partitions=3"))
        .await
        .unwrap();
    let check = TopologyRequest {
        groups: &[],
        ensure: false,
    };

    let outcomes = strict.publish(&[event("a.happened", "k", 0)]).await;
    let refused = outcomes[0].as_ref().unwrap_err();
    assert_eq!(refused.code(), codes::TOPOLOGY_MISSING);
    assert!(refused.to_string().contains("kafka-topics.sh"), "{refused}");
    let subscribed = strict.subscribe(&group("g", &["**"])).await;
    assert!(matches!(
        subscribed,
        Err(BrokerError::TopologyMissing { .. })
    ));
    let items = broker.topology(check).await.unwrap();
    let TopologyState::Missing { command } = &items[0].state else {
        panic!("{items:?}");
    };
    assert!(command.contains("--create") && command.contains("--partitions 6"));

    let ensure = TopologyRequest {
        ensure: true,
        ..check
    };
    assert_eq!(
        broker.topology(ensure).await.unwrap()[0].state,
        TopologyState::Created
    );
    assert_eq!(
        broker.topology(check).await.unwrap()[0].state,
        TopologyState::Present
    );
    publish(&strict, &[event("a.happened", "k", 0)]).await;
    let wide = connect(&server::with(&url, "partitions=9")).await.unwrap();
    let outcomes = wide.publish(&[event("a.happened", "k", 1)]).await;
    let refused = outcomes[0].as_ref().unwrap_err();
    assert_eq!(refused.code(), codes::TOPOLOGY_WRONG);
    assert!(refused.to_string().contains("--alter"), "{refused}");
}

#[tokio::test]
async fn groups_are_listed_measured_moved_and_removed() {
    let Some((broker, _)) = fresh("admin").await else {
        return;
    };
    let sent: Vec<_> = (0..20)
        .map(|n| event("a.happened", &format!("k{n}"), n))
        .collect();
    publish(&broker, &sent).await;
    let (name, absent) = ("g".parse().unwrap(), "absent".parse().unwrap());
    let admin = broker.admin().unwrap();
    let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut subscription, 20).await;
    settle(&subscription, &received[..5], SettleAction::Ack).await;
    subscription.settle.flush().await.unwrap();

    let lag = admin.lag(&name).await.unwrap();
    let listed = admin.groups().await.unwrap();
    let leased = admin.seek(&name, StartAt::Latest).await;
    subscription.settle.leave().await.unwrap();
    drop(subscription);

    assert!((15..=20).contains(&lag.events), "{lag:?}");
    assert!(lag.age > Duration::ZERO, "{lag:?}");
    let status = listed.iter().find(|group| group.name == name).unwrap();
    assert!(status.owner.as_ref().unwrap().contains("tidings"));
    assert!(
        matches!(leased, Err(BrokerError::GroupLeased { .. })),
        "{leased:?}"
    );
    admin.seek(&name, StartAt::Latest).await.unwrap();
    assert_eq!(admin.lag(&name).await.unwrap().events, 0);
    admin.seek(&name, StartAt::Earliest).await.unwrap();
    assert_eq!(admin.lag(&name).await.unwrap().events, 20);
    let mut again = broker.subscribe(&group("g", &["**"])).await.unwrap();
    receive(&mut again, 20).await;
    again.settle.leave().await.unwrap();
    admin.remove(&name).await.unwrap();
    for unknown in [
        admin.lag(&absent).await.map(drop),
        admin.remove(&name).await,
    ] {
        assert!(
            matches!(unknown, Err(BrokerError::GroupUnknown { .. })),
            "{unknown:?}"
        );
    }
}

#[tokio::test]
async fn a_login_over_tls_works_and_what_is_wrong_is_said() {
    let variable = "TIDINGS_TEST_KAFKA_TLS_URL";
    let Some(plain) = server::url("kafka-tls", variable, "tls") else {
        return;
    };
    let authority = server::read("TIDINGS_TEST_KAFKA_TLS_CA").expect("its authority");
    let topic = server::fresh("tls");
    let untrusted = format!("tls&sasl=SCRAM-SHA-256&topic={topic}&group_prefix={topic}.");
    let parameters = format!("{untrusted}&ca={authority}");
    let url = server::with(&plain, &parameters);

    let broker = connect(&url).await.expect("a connection");
    publish(&broker, &[event("a.happened", "k", 0)]).await;
    let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
    assert_eq!(ids(&receive(&mut subscription, 1).await), ["k-0"]);

    let wrong = server::as_user(&url, "tidings", "wrong");
    let reader = server::as_user(&url, "reader", "reader");
    for (url, word) in [
        (wrong, "invalid credentials"),
        (server::with(&plain, &untrusted), "certificate"),
    ] {
        let refused = tokio::time::timeout(DEADLINE, connect(&url)).await;
        let error = refused.expect("in time").expect_err("a refusal");
        assert_eq!(error.code(), codes::BROKER_UNAUTHORISED, "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(!error.to_string().contains("wrong@"), "{error}");
    }
    let nobody = connect(&reader).await.expect("a login");
    let outcomes = nobody.publish(&[event("a.happened", "k", 1)]).await;
    let refused = outcomes[0].as_ref().unwrap_err();
    assert_eq!(refused.code(), codes::BROKER_UNAUTHORISED, "{refused}");
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_reported_in_time() {
    // Nobody listens on a port that was free a moment ago.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };

    let url = format!("kafka://127.0.0.1:{port}");
    let refused = tokio::time::timeout(DEADLINE, connect(&url));
    let error = refused.await.expect("in time").expect_err("nobody there");

    assert_eq!(error.code(), codes::BROKER_UNREACHABLE);
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_closed_broker_takes_nothing_and_tells_its_groups_so() {
    let Some((broker, url)) = fresh("closed").await else {
        return;
    };
    publish(&broker, &[event("a.happened", "k", 0)]).await;
    let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut subscription, 1).await;
    settle(&subscription, &received, SettleAction::Ack).await;

    broker.close().await.unwrap();
    broker.close().await.unwrap();

    let told = tokio::time::timeout(DEADLINE, subscription.receive.receive(1)).await;
    assert!(matches!(told, Ok(Err(BrokerError::Closed))), "{told:?}");
    let outcomes = broker.publish(&[event("a.happened", "k", 1)]).await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().code(), codes::CLOSED);
    drop(subscription);
    let again = connect(&url).await.unwrap();
    publish(&again, &[event("a.happened", "k", 2)]).await;
    let mut subscription = again.subscribe(&group("g", &["**"])).await.unwrap();
    assert_eq!(ids(&receive(&mut subscription, 1).await), ["k-2"]);
}

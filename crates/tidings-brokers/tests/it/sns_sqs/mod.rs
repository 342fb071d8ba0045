//! The adapter of SNS with SQS, standard and FIFO, against moto.

mod administration;
mod order;
mod tls;
mod trouble;

use crate::aws::{clock, host, queues, sns, sqs};
use crate::events::{
    DEADLINE, QUIET, event, every_kind, expect_quiet, group, ids, plain, publish, receive, settle,
    until_caught_up,
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
            assert_eq!(plain(&found.envelope), plain(envelope));
            assert!(found.append_time.is_some());
        }
        settle(&subscription, &deliveries, SettleAction::Ack).await;
        expect_quiet(&mut subscription).await;
        until_caught_up(&subscription).await;
        subscription.settle.leave().await.expect("left");
    }
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

//! Events for tests, and what a group makes of them.
#![allow(dead_code, reason = "each feature needs some of it")]

use std::time::Duration;
use tidings_core::broker::{
    Broker, Delivery, PublishOutcome, Received, SettleAction, StartAt, SubscribeRequest,
    Subscription, Tail,
};
use tidings_core::limits::FOLLOW_POLL_INTERVAL;
use tidings_core::{Envelope, EnvelopeParts};

/// More than any healthy server needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// So long nothing may come where nothing is to come.
pub(crate) const QUIET: Duration = Duration::from_millis(400);

/// An event of a key.
pub(crate) fn event(event_type: &str, key: &str, number: u32) -> Envelope {
    let text = format!(
        r#"{{"event_id":"{key}-{number}","event_type":"{event_type}","aggregate_id":"{key}","source":"test","payload":{{"n":{number}}}}}"#
    );
    Envelope::from_json(text.as_bytes()).expect("an event")
}

/// Envelopes that use every attribute, and texts and payloads that transports like to spoil.
pub(crate) fn every_kind() -> Vec<Envelope> {
    let mut all: Vec<Envelope> = [
        r#"{"event_id":"e1","event_type":"order.placed","aggregate_id":"o-1","timestamp":"2024-01-15T10:30:00.123456+02:00","version":3,"source":"order-service","correlation_id":"c-1","causation_id":"e0","payload":{"total":1.50,"text":"naïve ☃ \u0007"},"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tenant":"ä b%","Upper_Case":{"nested":[1,null]},"n":7}"#,
        r#"{"event_id":"2","event_type":"order.placed.v2","source":"s"}"#,
        r#"{"event_id":"3","event_type":"order.noted","source":"s","payload":null}"#,
        r#"{"event_id":"4","event_type":"order.noted","source":"s","payload":"text"}"#,
        r#"{"event_id":"5","event_type":"a b.*.>.%.ü..","source":"s://x y/%41","aggregate_id":"k \"q\" %","payload":[]}"#,
    ]
    .iter()
    .map(|text| Envelope::from_json(text.as_bytes()).expect("an event"))
    .collect();
    for (id, content_type, bytes) in [
        ("6", "application/octet-stream", &b"\x00\xff\r\n"[..]),
        ("7", "application/octet-stream", &b""[..]),
        ("8", "text/plain; charset=utf-8", &b"plain"[..]),
    ] {
        let mut parts = EnvelopeParts::new(id, "file.stored");
        parts.source = Some("s".into());
        parts.content_type = Some(content_type.to_owned());
        parts.payload = Some(tidings_core::Payload::binary(bytes.to_vec()));
        all.push(Envelope::new(parts).expect("an event"));
    }
    all
}

/// The attributes of an event; the order of its extensions is nobody's promise.
pub(crate) fn plain(envelope: &Envelope) -> EnvelopeParts {
    let mut parts = envelope.parts();
    parts.extensions.sort();
    parts
}

/// A request for a group from the beginning.
pub(crate) fn group(name: &str, patterns: &[&str]) -> SubscribeRequest {
    SubscribeRequest {
        group: name.parse().expect("a name"),
        patterns: patterns
            .iter()
            .map(|text| text.parse().expect("a pattern"))
            .collect(),
        start: StartAt::Earliest,
        single_instance: false,
    }
}

/// Publishes and expects success.
pub(crate) async fn publish(broker: &dyn Broker, batch: &[Envelope]) -> Vec<PublishOutcome> {
    let outcomes = broker.publish(batch).await;
    assert_eq!(outcomes.len(), batch.len());
    for (outcome, envelope) in outcomes.iter().zip(batch) {
        assert!(outcome.is_ok(), "{}: {outcome:?}", envelope.event_id());
    }
    outcomes
}

/// Receives until there are so many deliveries.
pub(crate) async fn receive(subscription: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let received =
            tokio::time::timeout(DEADLINE, subscription.receive.receive(count - all.len()));
        let received = received
            .await
            .unwrap_or_else(|_| panic!("only {} of {count} came: {:?}", all.len(), ids(&all)));
        match received {
            Ok(Received::Deliveries { deliveries, .. }) => all.extend(deliveries),
            Ok(_) => {}
            Err(error) if error.class().is_transient() => {}
            Err(error) => panic!("{error}"),
        }
    }
    all
}

/// Nothing comes for a while.
pub(crate) async fn expect_quiet(subscription: &mut Subscription) {
    let quiet = async {
        loop {
            match subscription.receive.receive(10).await {
                Ok(Received::Deliveries { deliveries, .. }) if !deliveries.is_empty() => {
                    break ids(&deliveries);
                }
                _ => {}
            }
        }
    };
    if let Ok(ids) = tokio::time::timeout(QUIET, quiet).await {
        panic!("came although nothing should: {ids:?}");
    }
}

/// Waits until the group knows that it has everything; it may have to ask the server.
pub(crate) async fn until_caught_up(subscription: &Subscription) {
    let asking = async {
        while !subscription.receive.is_caught_up() {
            tokio::time::sleep(FOLLOW_POLL_INTERVAL).await;
        }
    };
    let known = tokio::time::timeout(DEADLINE, asking).await;
    known.expect("everything was handed out");
}

/// Settles and expects success.
pub(crate) async fn settle(
    subscription: &Subscription,
    deliveries: &[Delivery],
    action: SettleAction,
) {
    let outcomes: Vec<_> = deliveries.iter().map(|one| (one.token, action)).collect();
    for answer in subscription.settle.settle(&outcomes).await {
        answer.expect("settled");
    }
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<String> {
    let ids = deliveries
        .iter()
        .map(|one| one.envelope.event_id().to_owned());
    ids.collect()
}

/// Reads along until the end is told; the ids.
pub(crate) async fn read_to_end(tail: &mut dyn Tail) -> Vec<String> {
    let mut read = Vec::new();
    loop {
        let page = tokio::time::timeout(DEADLINE, tail.next(100))
            .await
            .expect("in time");
        let page = page.expect("a page");
        read.extend(
            page.events
                .iter()
                .map(|one| one.envelope.event_id().to_owned()),
        );
        if page.at_end {
            return read;
        }
    }
}

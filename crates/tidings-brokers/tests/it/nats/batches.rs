//! Events that are published together, on a stream that takes batches and on one that does not.

use super::{Fixture, connect};
use crate::events::{event, publish};
use crate::server::{fresh, url, with};
use async_nats::jetstream::stream::Config;
use std::collections::BTreeSet;
use tidings_core::Envelope;
use tidings_core::broker::{Broker as _, PublishOutcome};
use tidings_core::limits::NATS_BATCH_EVENTS_MAX;

/// Events of one key.
fn of_key(key: &str, numbers: std::ops::Range<u32>) -> Vec<Envelope> {
    numbers
        .map(|number| event("order.placed", key, number))
        .collect()
}

fn positions(outcomes: &[PublishOutcome]) -> Vec<u64> {
    let places = outcomes.iter().map(|outcome| {
        let receipt = outcome.as_ref().expect("it is accepted");
        receipt.position.expect("a stream tells positions").0
    });
    places.collect()
}

/// What is in a stream, in its order: the id of each event, and the batch with which it came.
async fn recorded(fixture: &Fixture, count: u64) -> Vec<(String, Option<String>)> {
    let client = fixture.client().await;
    let stream = client.get_stream(&fixture.stream).await.expect("a stream");
    assert_eq!(stream.cached_info().state.messages, count);
    let mut found = Vec::new();
    for sequence in 1..=count {
        let message = stream.get_raw_message(sequence).await.expect("a message");
        let text = |name: &str| {
            let value = message.headers.get(name);
            value.map(|value| value.as_str().to_owned())
        };
        found.push((text("ce-id").expect("an id"), text("Nats-Batch-Id")));
    }
    found
}

#[tokio::test]
async fn what_is_published_together_is_one_batch_in_its_order() {
    let Some(fixture) = Fixture::new("batch").await else {
        return;
    };
    let sent = of_key("k", 0..40);

    let outcomes = publish(&fixture.broker, &sent).await;

    assert_eq!(positions(&outcomes), (1..=40).collect::<Vec<u64>>());
    let found = recorded(&fixture, 40).await;
    let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    let wanted: Vec<&str> = sent.iter().map(Envelope::event_id).collect();
    assert_eq!(ids, wanted);
    let batches: BTreeSet<_> = found.iter().map(|(_, batch)| batch).collect();
    assert_eq!(batches.len(), 1, "{batches:?}");
    assert!(found.iter().all(|(_, batch)| batch.is_some()));
}

#[tokio::test]
async fn a_batch_with_an_event_that_is_there_already_is_taken_one_by_one() {
    let Some(fixture) = Fixture::new("batch_again").await else {
        return;
    };
    publish(&fixture.broker, &of_key("k", 0..3)).await;

    let outcomes = publish(&fixture.broker, &of_key("k", 1..6)).await;

    assert_eq!(positions(&outcomes), [2, 3, 4, 5, 6]);
    let found = recorded(&fixture, 6).await;
    assert!(found[3..].iter().all(|(_, batch)| batch.is_none()));
}

#[tokio::test]
async fn more_than_a_batch_holds_goes_in_several() {
    let Some(fixture) = Fixture::new("batch_large").await else {
        return;
    };
    let count = NATS_BATCH_EVENTS_MAX as u32 + 10;

    let outcomes = publish(&fixture.broker, &of_key("k", 0..count)).await;

    let wanted: Vec<u64> = (1..=u64::from(count)).collect();
    assert_eq!(positions(&outcomes), wanted);
    let ends = [1, u64::from(count)];
    let client = fixture.client().await;
    let stream = client.get_stream(&fixture.stream).await.unwrap();
    let mut batches = BTreeSet::new();
    for sequence in ends {
        let message = stream.get_raw_message(sequence).await.unwrap();
        batches.insert(message.headers.get("Nats-Batch-Id").unwrap().to_string());
    }
    assert_eq!(batches.len(), 2);
}

#[tokio::test]
async fn a_stream_that_takes_no_batches_takes_events_in_order() {
    let Some(server) = url(
        "nats",
        super::VARIABLE,
        "a_stream_that_takes_no_batches_takes_events_in_order",
    ) else {
        return;
    };
    let stream = fresh("batch_none");
    let client = async_nats::connect(&server).await.unwrap();
    let made = Config {
        name: stream.clone(),
        subjects: vec![format!("{stream}.>")],
        duplicate_window: std::time::Duration::from_secs(120),
        ..Config::default()
    };
    async_nats::jetstream::new(client)
        .create_stream(made)
        .await
        .unwrap();
    let url = with(&server, &format!("stream={stream}&prefix={stream}"));
    let broker = connect(&url).await.unwrap();
    let fixture = Fixture {
        broker,
        url,
        stream,
    };
    let sent = of_key("k", 0..5);

    let outcomes = publish(&fixture.broker, &sent).await;

    assert_eq!(positions(&outcomes), [1, 2, 3, 4, 5]);
    let found = recorded(&fixture, 5).await;
    assert!(found.iter().all(|(_, batch)| batch.is_none()), "{found:?}");
}

#[tokio::test]
async fn a_stream_that_takes_no_batches_any_more_is_noticed() {
    let Some(fixture) = Fixture::new("batch_off").await else {
        return;
    };
    publish(&fixture.broker, &of_key("k", 0..2)).await;
    let client = fixture.client().await;
    let stream = client.get_stream(&fixture.stream).await.unwrap();
    let config = Config {
        allow_atomic_publish: false,
        ..stream.cached_info().config.clone()
    };
    client.update_stream(config).await.unwrap();

    let outcomes = publish(&fixture.broker, &of_key("k", 2..5)).await;

    assert_eq!(positions(&outcomes), [3, 4, 5]);
    fixture.broker.close().await.unwrap();
}

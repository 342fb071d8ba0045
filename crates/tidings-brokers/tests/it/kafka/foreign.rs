//! What other programs write to a topic: events, JSON, garbage.

use super::wire::{batch, produce};
use super::*;

#[tokio::test]
async fn foreign_messages_are_events_and_garbage_keeps_its_bytes() {
    let Some((broker, url)) = fresh("foreign").await else {
        return;
    };
    publish(&broker, &[event("a.happened", "k", 0)]).await;
    let (_, host) = url.split_once("://").unwrap();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", host.split('?').next().unwrap())
        .create()
        .unwrap();
    let topic = topic(&url);
    let foreign: [(&[u8], OwnedHeaders); 3] = [
        (br#"{"any":"json"}"#, OwnedHeaders::new()),
        (
            br#"{"specversion":"1.0","id":"x1","source":"/s","type":"b.happened","data":{"n":1}}"#,
            OwnedHeaders::new().insert(Header {
                key: "content-type",
                value: Some("application/cloudevents+json"),
            }),
        ),
        (b"\x00\xffgarbage", OwnedHeaders::new()),
    ];
    for (body, headers) in foreign {
        let record = FutureRecord::to(&topic)
            .key("f")
            .payload(body)
            .headers(headers);
        producer.send(record, DEADLINE).await.unwrap();
    }

    let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut subscription, 4).await;

    let with_id = |id: &str| received.iter().find(|one| one.envelope.event_id() == id);
    assert!(with_id("k-0").is_some());
    let structured = with_id("x1").expect("the structured event");
    assert_eq!(structured.envelope.event_type().as_str(), "b.happened");
    let garbage = received.iter().find(|one| one.problem.is_some());
    let garbage = garbage.expect("the garbage");
    assert_eq!(garbage.envelope.payload_bytes(), b"\x00\xffgarbage");
    let json = received
        .iter()
        .find(|one| one.envelope.payload_bytes() == br#"{"any":"json"}"#)
        .expect("the JSON");
    assert!(
        json.envelope.event_id().starts_with(&topic),
        "{:?}",
        json.envelope
    );
    assert_eq!(json.envelope.aggregate_id(), Some("f"));
}

#[tokio::test]
async fn a_header_whose_name_is_no_text_keeps_no_event_back() {
    let Some((broker, url)) = fresh("header-name").await else {
        return;
    };
    publish(&broker, &[event("a.happened", "k", 0)]).await;
    let (_, host) = url.split_once("://").unwrap();
    let host = host.split('?').next().unwrap();
    let odd: &[(&[u8], &[u8])] = &[
        (b"\xff\xfe", b"odd"),
        (b"ce_specversion", b"1.0"),
        (b"ce_id", b"x1"),
        (b"ce_source", b"/s"),
        (b"ce_type", b"b.happened"),
    ];
    produce(host, &topic(&url), &batch(br#"{"n":1}"#, odd)).unwrap();
    produce(host, &topic(&url), &batch(b"\x00garbage", &odd[..1])).unwrap();
    publish(&broker, &[event("a.happened", "k", 1)]).await;

    let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut subscription, 4).await;

    let odd = received
        .iter()
        .find(|one| one.envelope.event_id() == "x1")
        .expect("the event with the odd header");
    assert_eq!(odd.envelope.event_type().as_str(), "b.happened");
    assert_eq!(odd.envelope.payload_bytes(), br#"{"n":1}"#);
    let garbage = received.iter().find(|one| one.problem.is_some());
    let garbage = garbage.expect("the garbage");
    assert_eq!(garbage.envelope.payload_bytes(), b"\x00garbage");
    let ours = |id: &str| received.iter().any(|one| one.envelope.event_id() == id);
    assert!(ours("k-0") && ours("k-1"));
}

//! What cannot be handled is given up in the open, and nobody waits behind it.

use crate::shop::{OrderPlaced, Seen, Shop, order};
use std::time::Duration;
use tidings::prelude::*;

const BRIEF: Duration = Duration::from_millis(1);

async fn ship(order: OrderPlaced, State(seen): State<Seen>) -> Result<(), HandlerError> {
    seen.note(&*order.order_id);
    match order.order_id.as_str() {
        "bad" => Err(HandlerError::permanent_message("no carrier goes there")),
        "broken" => Err(std::io::Error::other("the scales are broken").into()),
        "panic" => panic!("the shelf fell over"),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn each_way_of_giving_up_leaves_its_reason() {
    let shop = Shop::new();
    let seen = Seen::default();
    let tidings = shop.open().await;
    let shipping = tidings
        .consumer("shipping")
        .attempts(3)
        .backoff(BRIEF, BRIEF);
    shipping.state(seen.clone()).on(ship).start().await.unwrap();
    for id in ["bad", "broken", "panic", "good"] {
        tidings.publish(order(id)).await.unwrap();
    }
    let unreadable = r#"{"event_id":"evt-1","event_type":"order.placed","aggregate_id":"unreadable","payload":{"id":7}}"#;
    let unreadable = [Envelope::from_json(unreadable).unwrap()];
    tidings
        .publish_envelopes(&unreadable)
        .await
        .remove(0)
        .unwrap();
    tidings.drain().await.unwrap();

    let tidings = shop.open().await;
    let mut letters = tidings.dead_letters().unwrap();
    let mut told = Vec::new();
    while let Some(letter) = letters.next().await {
        let record = letter.unwrap().record;
        assert_eq!(
            (record.consumer.as_str(), record.handler.as_str()),
            ("shipping", "order.placed")
        );
        told.push((record.aggregate_id.unwrap(), record.attempts, record.reason));
    }
    told.sort();
    let told: Vec<_> = told
        .iter()
        .map(|(id, attempts, reason)| (id.as_str(), *attempts, reason.as_str()))
        .collect();
    assert_eq!(told[0], ("bad", 1, "no carrier goes there"));
    assert_eq!(told[1], ("broken", 3, "the scales are broken"));
    assert_eq!((told[2].0, told[2].1), ("panic", 3));
    assert!(told[2].2.contains("the shelf fell over"), "{}", told[2].2);
    assert_eq!((told[3].0, told[3].1), ("unreadable", 1));
    assert!(
        told[3]
            .2
            .contains("missing field `order_id` at line 1 column 8"),
        "{}",
        told[3].2
    );
    assert_eq!(told.len(), 4);
    assert_eq!(seen.all().iter().filter(|id| *id == "good").count(), 1);
    tidings.drain().await.unwrap();
}

#[tokio::test]
async fn a_newer_version_is_tried_and_given_up_only_if_it_does_not_decode() {
    let shop = Shop::new();
    let seen = Seen::default();
    let tidings = shop.open().await;
    tidings
        .consumer("shipping")
        .state(seen.clone())
        .on(ship)
        .start()
        .await
        .unwrap();
    let lines = [
        r#"{"event_id":"a","event_type":"order.placed.v2","payload":{"order_id":"added","quantity":1,"colour":"red"}}"#,
        r#"{"event_id":"b","event_type":"order.placed","version":3,"payload":{"order":{"id":"changed"}}}"#,
    ];
    let envelopes = lines.map(|line| Envelope::from_json(line).unwrap());

    tidings.publish_envelopes(&envelopes).await;
    tidings.drain().await.unwrap();

    assert_eq!(seen.all(), ["added"]);
    let tidings = shop.open().await;
    let record = tidings
        .dead_letters()
        .unwrap()
        .next()
        .await
        .unwrap()
        .unwrap()
        .record;
    assert!(
        record
            .reason
            .starts_with("order.placed in version 3 does not decode as version 1"),
        "{}",
        record.reason
    );
    tidings.drain().await.unwrap();
}

#[tokio::test]
async fn an_alert_is_a_consumer_of_the_fact() {
    async fn alert(fact: Envelope, State(seen): State<Seen>) {
        seen.note(fact.event_type().as_str());
    }
    let shop = Shop::new();
    let (seen, alerts) = (Seen::default(), Seen::default());
    let tidings = shop.open().await;
    tidings
        .consumer("alert")
        .state(alerts.clone())
        .on_raw("tidings.dead_letter.*", alert)
        .start()
        .await
        .unwrap();
    tidings
        .consumer("shipping")
        .state(seen.clone())
        .on(ship)
        .start()
        .await
        .unwrap();

    tidings.publish(order("bad")).await.unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(alerts.all(), ["tidings.dead_letter.recorded"]);
}

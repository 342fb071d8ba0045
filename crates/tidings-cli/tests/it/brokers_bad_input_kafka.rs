//! The same on Kafka: a content type that nobody knows.

use crate::brokers;
use crate::command::tidings;
use crate::kafka_wire::{batch, produce};
use serde_json::Value;

#[test]
fn an_unknown_content_type_is_kept_with_an_event_and_given_up_with_its_bytes_without_one() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    tidings(["broker", "ensure", "--url", &broker.url]).ok();
    let (_, server) = broker.url.split_once("://").unwrap();
    let (host, parameters) = server.split_once('?').unwrap();
    let (_, topic) = parameters.split_once("topic=").unwrap();
    let headers: &[(&[u8], &[u8])] = &[
        (b"content-type", b"image/x-unheard-of"),
        (b"ce_specversion", b"1.0"),
        (b"ce_id", b"x1"),
        (b"ce_source", b"/shop"),
        (b"ce_type", b"shop.painted"),
    ];
    produce(host, topic, &batch(b"\x01\x02\x03", &headers[..1])).unwrap();
    produce(host, topic, &batch(b"\x04\x05\x06", headers)).unwrap();

    let exported: Vec<Value> = broker
        .export()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [garbage, event] = exported.as_slice() else {
        panic!("two records: {exported:?}");
    };
    assert_eq!(garbage["payload_base64"], "AQID", "{garbage}");
    let problem = garbage["problem"].as_str().unwrap();
    assert!(problem.contains("image/x-unheard-of"), "{problem}");
    assert_eq!(event["event_type"], "shop.painted", "{event}");
    assert_eq!(event["content_type"], "image/x-unheard-of", "{event}");
    assert_eq!(event["payload_base64"], "BAUG", "{event}");
    assert!(event.get("problem").is_none(), "{event}");

    let handled = tidings(["consumer", "run", "g", "--type", "shop.*", "--until-end"])
        .arguments(["--exec", "sh -c 'cat > /dev/null'", "-o", "json"])
        .arguments(["--url", &broker.url])
        .ok()
        .json();
    assert_eq!(handled["handled"], 1, "{handled}");
    assert_eq!(handled["dead_lettered"], 1, "{handled}");
    let facts = tidings(["tail", "tidings.**", "--from-start", "--until-end"])
        .arguments(["-o", "json", "--url", &broker.url])
        .ok();
    assert!(facts.stdout.contains("AQID"), "{}", facts.stdout);
}

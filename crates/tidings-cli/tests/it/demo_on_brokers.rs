//! The demo on real brokers: killed once on the way, started again with the same folder, it ends complete, and no fact has its effect twice.

use crate::brokers::{self, Broker};
use crate::command::{Place, Tidings, tidings};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

const ORDERS: u64 = 120;

/// The server that speaks like AWS takes a request at a time.
#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
const ORDERS_ON_AWS: u64 = 12;

impl Broker {
    fn demo(&self, place: &Place) -> Tidings {
        self.demo_of(ORDERS, place)
    }

    fn demo_of(&self, orders: u64, place: &Place) -> Tidings {
        tidings(["demo", "--orders", &orders.to_string()])
            .arguments(self.declare)
            .arguments(["--url", &self.url])
            .data(&place.data())
    }
}

/// The demo is killed once its first orders are through, and goes on.
fn killed_once(broker: &Broker) -> Value {
    killed_once_of(ORDERS, broker)
}

fn killed_once_of(orders: u64, broker: &Broker) -> Value {
    let place = Place::new();
    let mut running = broker.demo_of(orders, &place).start();
    loop {
        let line = running.line().expect("it tells of a parcel before it ends");
        if line.contains("shipment.created") {
            break;
        }
    }
    running.kill();

    let answer = broker.demo_of(orders, &place).arguments(["-o", "json"]);
    let report = answer.ok().json();
    is_complete(orders, &report);
    report
}

/// Every order went all its way, but for the one that nobody can pay.
fn is_complete(orders: u64, report: &Value) {
    let count = |event_type: &str| report["events"][event_type].as_u64().unwrap_or(0);
    assert_eq!(report["orders"], orders, "{report}");
    assert_eq!(report["dead_letters"], 1, "{report}");
    assert_eq!(count("order.placed"), orders);
    assert_eq!(
        count("payment.failed") + count("shipment.created") + 1,
        orders,
        "{report}"
    );
    for earlier in ["payment.succeeded", "stock.reserved"] {
        assert_eq!(count(earlier), count("shipment.created"), "{report}");
    }
}

/// What is on the broker: an event may be there twice under one id, but no two say the same of one order.
fn no_fact_is_there_under_two_ids(broker: &Broker, report: &Value) {
    let mut ids = HashSet::new();
    let mut said: BTreeMap<(String, String), u64> = BTreeMap::new();
    for line in broker.export() {
        let event: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        if ids.insert(text("event_id")) {
            let fact = (text("aggregate_id"), text("event_type"));
            *said.entry(fact).or_default() += 1;
        }
    }
    assert!(said.values().all(|count| *count == 1), "{said:?}");
    let counted: u64 = report["events"]
        .as_object()
        .unwrap()
        .values()
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(counted, ids.len() as u64);
}

#[test]
fn the_demo_ends_complete_on_nats_though_it_was_killed() {
    let Some(broker) = brokers::nats() else {
        return;
    };

    let report = killed_once(&broker);

    no_fact_is_there_under_two_ids(&broker, &report);
}

#[test]
fn the_demo_ends_complete_on_kafka_though_it_was_killed() {
    let Some(mut broker) = brokers::kafka() else {
        return;
    };
    // Groups belong to the whole cluster there; the partitions of who was killed are free after the session's timeout.
    let topic = broker.url.rsplit('=').next().unwrap_or_default().to_owned();
    broker
        .url
        .push_str(&format!("&group_prefix={topic}.&session_timeout=6"));

    let report = killed_once(&broker);

    no_fact_is_there_under_two_ids(&broker, &report);
}

#[test]
fn the_demo_ends_complete_on_rabbitmq_though_it_was_killed() {
    let Some(broker) = brokers::rabbitmq() else {
        return;
    };

    let report = killed_once(&broker);

    assert!(
        !report["url"].as_str().unwrap().contains(":tidings@"),
        "{report}"
    );
}

#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
#[test]
fn the_demo_ends_complete_on_an_ordered_topic_of_sns_though_it_was_killed() {
    if let Some(broker) = brokers::sns_sqs_fifo() {
        killed_once_of(ORDERS_ON_AWS, &broker);
    }
}

#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
#[test]
fn where_aws_keeps_no_order_the_demo_says_so_and_runs_once_that_is_declared() {
    for broker in [brokers::sns_sqs(), brokers::eventbridge()] {
        let Some(broker) = broker else { continue };
        let place = Place::new();

        let undeclared = Broker {
            url: broker.url.clone(),
            declare: &[],
        };
        let refused = undeclared.demo_of(ORDERS_ON_AWS, &place).run();
        crate::brokers_bad_input::refused(&refused, 1, "TD0032", "--unordered");

        let answer = broker.demo_of(ORDERS_ON_AWS, &place).ok();
        assert!(
            answer.stdout.contains("└─ shipment.created"),
            "{}",
            answer.stdout
        );
        // There is no history that could be exported.
        assert!(!answer.stdout.contains("event export"), "{}", answer.stdout);
        let report = broker.demo_of(ORDERS_ON_AWS, &place);
        is_complete(ORDERS_ON_AWS, &report.arguments(["-o", "json"]).ok().json());
    }
}

#[test]
fn the_demo_tells_where_its_events_are_and_refuses_two_folders() {
    let Some(broker) = brokers::nats() else {
        return;
    };
    let place = Place::new();

    let answer = broker.demo(&place).ok();
    for words in [
        "by cause",
        "└─ shipment.created",
        "nobody can pay",
        "accepted by the broker",
        "tidings consumer lag shipping --url",
    ] {
        assert!(answer.stdout.contains(words), "{words}: {}", answer.stdout);
    }

    let mistaken = tidings(["emit", "order.placed"]).data(&place.data()).run();
    assert_eq!(mistaken.code, Some(5), "{}", mistaken.stderr);
    assert!(mistaken.stderr.contains("TD0111"), "{}", mistaken.stderr);
    assert!(mistaken.stderr.contains("--url"), "{}", mistaken.stderr);

    let two = tidings(["demo", "--url", "file:///one"])
        .data(&place.data())
        .run();
    assert_eq!(two.code, Some(2), "{}", two.stderr);
}

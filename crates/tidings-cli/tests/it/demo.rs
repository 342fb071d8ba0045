//! The demo ends complete, whatever interrupts it.

use crate::command::{Place, is_quick, tidings};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

fn check(place: &Place, orders: u64, report: &Value) {
    assert_eq!(report["orders"], orders);
    assert_eq!(report["dead_letters"], 1);
    let answer = tidings(["event", "ls", "-o", "json"])
        .data(&place.data())
        .ok();
    let rows = answer.json();
    let mut ids = HashSet::new();
    let mut types: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for row in rows.as_array().unwrap() {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        assert!(ids.insert(text("event_id")), "a fact is there twice: {row}");
        *types
            .entry(text("aggregate_id"))
            .or_default()
            .entry(text("event_type"))
            .or_default() += 1;
        assert_eq!(
            row["correlation_id"],
            rows.as_array()
                .unwrap()
                .iter()
                .find(|other| other["event_type"] == "order.placed"
                    && other["aggregate_id"] == row["aggregate_id"])
                .unwrap()["event_id"]
        );
    }
    assert_eq!(types.len() as u64, orders);
    for (order, types) in &types {
        assert!(
            types.values().all(|count| *count == 1),
            "{order}: {types:?}"
        );
        let has = |event_type: &str| types.contains_key(event_type);
        assert!(has("order.placed"), "{order}");
        let outcomes = [
            has("payment.failed"),
            has("shipment.created"),
            order == "order-2",
        ];
        assert_eq!(
            outcomes.iter().filter(|outcome| **outcome).count(),
            1,
            "{order}: {types:?}"
        );
    }
    assert_eq!(
        report["events"]
            .as_object()
            .unwrap()
            .values()
            .map(|count| count.as_u64().unwrap())
            .sum::<u64>(),
        ids.len() as u64
    );
}

#[test]
fn the_demo_shows_flow_dead_letter_figures_and_what_to_try_next() {
    let place = Place::new();

    let answer = tidings(["demo", "--orders", "30"]).data(&place.data()).ok();

    for words in [
        "payment.succeeded",
        "by cause",
        "└─ shipment.created",
        "nobody can pay",
        "events/s",
        "p99",
        "tidings dlq ls --data",
        "the warehouse is busy",
    ] {
        assert!(answer.stdout.contains(words), "{words}: {}", answer.stdout);
    }
}

#[test]
fn the_demo_ends_complete_and_counts_the_folder() {
    let place = Place::new();

    let report = tidings(["demo", "--orders", "40", "-o", "json"])
        .data(&place.data())
        .ok()
        .json();

    check(&place, 40, &report);
    for figure in ["elapsed_seconds", "p50_ms", "p99_ms"] {
        assert!(
            report[figure].as_f64().is_some_and(|value| value > 0.0),
            "{figure}: {report}"
        );
    }
    assert_eq!(
        report["data"].as_str().unwrap(),
        place.data().to_str().unwrap()
    );

    let again = tidings(["demo", "--orders", "40", "-o", "json"])
        .data(&place.data())
        .ok()
        .json();
    assert_eq!(again["events"], report["events"]);
}

#[test]
fn a_demo_killed_in_the_middle_goes_on_and_no_fact_is_there_twice() {
    let place = Place::new();
    let orders = 400_u64;
    let kills = if is_quick() { 3 } else { 12 };

    for kill in 0..kills {
        let running = tidings([
            "demo".to_owned(),
            "--orders".to_owned(),
            orders.to_string(),
            "-o".to_owned(),
            "json".to_owned(),
        ])
        .data(&place.data())
        .start();
        std::thread::sleep(Duration::from_millis(15 + 17 * kill));
        running.kill();
    }
    let report = tidings([
        "demo".to_owned(),
        "--orders".to_owned(),
        orders.to_string(),
        "-o".to_owned(),
        "json".to_owned(),
    ])
    .data(&place.data())
    .ok()
    .json();

    check(&place, orders, &report);
}

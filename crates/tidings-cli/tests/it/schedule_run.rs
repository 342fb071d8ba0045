//! `tidings schedule run`: what is scheduled in a database of one's own is published once, whatever broker and whoever is killed.

use crate::brokers;
use crate::command::{Running, tidings, until};
use crate::table::{Kind, Table};
use serde_json::Value;
use std::collections::BTreeMap;

/// Events that fall due one after the other while instances are killed.
const EVENTS: usize = 12;

fn start(table: &Table, url: &str) -> Running {
    tidings(["schedule", "run", "--store", table.url(), "--to", url]).start()
}

fn waiting(table: &Table) -> i64 {
    table.number("SELECT COUNT(*) FROM tidings_schedule")
}

#[test]
fn what_is_due_in_a_database_is_on_the_broker_once_though_instances_are_killed() {
    let (Some(broker), Some(table)) = (
        brokers::nats(),
        Table::fresh(
            Kind::Postgres,
            "what_is_due_in_a_database_is_on_the_broker_once_though_instances_are_killed",
        ),
    ) else {
        return;
    };
    tidings(["schedule", "migrate", "--store", table.url()]).ok();
    for number in 0..EVENTS {
        let (key, wait) = (
            format!("order-{number}"),
            format!("{}ms", 2_000 + number * 150),
        );
        tidings(["schedule", "add", "payment.missed", "--name", &key])
            .arguments(["--key", &key, "--in", &wait, "--store", table.url()])
            .ok();
    }

    // Each is killed where it is when so many are left; a second one works beside the first.
    let beside = start(&table, &broker.url);
    for left in [EVENTS - 1, EVENTS / 2, 1] {
        let running = start(&table, &broker.url);
        until("some have fired", || {
            waiting(&table) <= i64::try_from(left).unwrap()
        });
        running.kill();
    }
    beside.kill();
    let last = start(&table, &broker.url);
    until("all have fired and are carried away", || {
        waiting(&table) == 0 && table.number("SELECT COUNT(*) FROM outbox") == 0
    });
    last.interrupt(rustix::process::Signal::TERM);

    let mut came: BTreeMap<String, usize> = BTreeMap::new();
    for line in broker.export() {
        let event: Value = serde_json::from_str(&line).unwrap();
        let (due, published) = (&event["scheduledtime"], &event["timestamp"]);
        assert!(published.as_str() >= due.as_str(), "early: {event}");
        let key = event["aggregate_id"].as_str().unwrap();
        *came.entry(key.to_owned()).or_default() += 1;
    }
    let expected = (0..EVENTS).map(|number| (format!("order-{number}"), 1));
    assert_eq!(came, expected.collect());
}

#[test]
fn a_database_without_the_table_is_refused_with_the_way_to_make_it() {
    let Some(table) = Table::fresh(
        Kind::Postgres,
        "a_database_without_the_table_is_refused_with_the_way_to_make_it",
    ) else {
        return;
    };

    let run = ["schedule", "run", "--to", "-", "--store", table.url()];
    let refused = tidings(run).run();
    assert!(
        refused.stderr.contains("tidings schedule migrate"),
        "{}",
        refused.stderr
    );
    let nameless = tidings(["schedule", "run", "--to", "-"]).run();
    assert_eq!(nameless.code, Some(2), "{}", nameless.stderr);
}

//! A database of one's own beside a real broker: what is stated there reaches the broker that the group reads, without anything else that runs.

use crate::brokers;
use crate::command::{Place, tidings, until};
use crate::table::{Kind, Table};
use serde_json::Value;

/// Emits an event that the handlers of these tests refuse.
fn place_order(url: &str, key: &str) {
    tidings(["emit", "order.placed", "--key", key, "--url", url]).ok();
}

/// The facts on the broker, by the pattern that asks for them.
fn facts(url: &str) -> Vec<Value> {
    let export = ["event", "export", "--type", "tidings.**", "--url", url];
    let answer = tidings(export).ok();
    let lines = answer.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn give_up(url: &str, store: &str, declare: &[&str]) -> crate::command::Tidings {
    let run = ["consumer", "run", "bad", "--type", "order.*"];
    tidings(run)
        .arguments(["--exec", "false", "--attempts", "1"])
        .arguments(["--url", url, "--store", store])
        .arguments(declare)
}

#[test]
fn the_fact_of_a_dead_letter_in_a_shared_store_reaches_the_broker_without_a_relay_of_its_own() {
    let (Some(broker), Some(table)) = (
        brokers::nats(),
        Table::fresh(
            Kind::Postgres,
            "the_fact_of_a_dead_letter_in_a_shared_store_reaches_the_broker_without_a_relay_of_its_own",
        ),
    ) else {
        return;
    };
    table.migrate();
    // An event of the application, whose relay carries it to wherever that is.
    table.run("INSERT INTO outbox (event_type, aggregate_id, payload) VALUES ('order.shipped', 'order-9', '{}')");
    place_order(&broker.url, "order-1");

    let running = give_up(&broker.url, table.url(), broker.declare).start();
    until("the fact is on the broker", || {
        facts(&broker.url).len() == 1
    });
    let fact = &facts(&broker.url)[0];
    assert_eq!(fact["event_type"], "tidings.dead_letter.recorded", "{fact}");
    assert_eq!(fact["payload"]["consumer"], "bad", "{fact}");

    // A person's decision is stated by another process, and carried by the same one.
    let discard = ["dlq", "discard", "--consumer", "bad", "--yes"];
    tidings(discard)
        .arguments(["--reason", "a test order", "--store", table.url()])
        .ok();
    until("the decision is on the broker", || {
        facts(&broker.url).len() == 2
    });
    // It is on the broker before its row is gone.
    until("the outbox lets go of it", || {
        table.number("SELECT COUNT(*) FROM outbox") == 1
    });
    running.kill();

    assert_eq!(
        table.texts("SELECT event_type FROM outbox"),
        ["order.shipped"],
        "only facts are its business"
    );
}

#[test]
fn a_run_until_the_end_has_carried_what_it_stated_last() {
    let (Some(broker), Some(table)) = (
        brokers::nats(),
        Table::fresh(
            Kind::Postgres,
            "a_run_until_the_end_has_carried_what_it_stated_last",
        ),
    ) else {
        return;
    };
    table.migrate();
    place_order(&broker.url, "order-1");

    give_up(&broker.url, table.url(), broker.declare)
        .argument("--until-end")
        .ok();

    assert_eq!(facts(&broker.url).len(), 1);
    let alert = ["alert", "run", "--from", "earliest", "--until-end"];
    let told = tidings(alert)
        .arguments(["--url", &broker.url, "--store", table.url()])
        .ok();
    assert!(told.stderr.contains("bad gave 1 event up"), "{told:?}");
}

#[test]
fn facts_wait_for_a_relay_of_the_whole_outbox_and_leave_it_the_rest() {
    let (Some(broker), Some(table)) = (
        brokers::nats(),
        Table::fresh(
            Kind::Postgres,
            "facts_wait_for_a_relay_of_the_whole_outbox_and_leave_it_the_rest",
        ),
    ) else {
        return;
    };
    table.migrate();
    let elsewhere = Place::new();
    let relay = table
        .command(["relay", "run"])
        .argument("--to")
        .argument(elsewhere.data())
        .start();
    relay.heard("relay ready");
    place_order(&broker.url, "order-1");

    let running = give_up(&broker.url, table.url(), broker.declare).start();
    let there = || {
        let ls = ["event", "ls", "--type", "tidings.**", "-o", "json"];
        let listed = tidings(ls).data(&elsewhere.data()).run();
        listed.code == Some(0) && listed.json().as_array().is_some_and(|all| all.len() == 1)
    };
    until("the relay of the application has carried the fact", there);
    assert_eq!(facts(&broker.url).len(), 0, "one of them carries it");
    // That relay ends, and nothing else carries facts any more.
    relay.interrupt(rustix::process::Signal::TERM);
    place_order(&broker.url, "order-2");
    until("the fact is on the broker of the group", || {
        facts(&broker.url).len() == 1
    });
    running.kill();
}

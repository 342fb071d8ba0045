//! `tidings relay run`, `outbox` and their databases: what plain SQL inserts arrives, whatever is killed.

use crate::command::{Answer, Place, Running, Tidings, tidings, until};
use crate::table::{Kind, Table, kinds};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// So long, by the clock of the database, events wait at most for a relay that was killed.
const LEASE_SECONDS_MAX: f64 = 5.0;

fn relay(table: &Table, to: &Place) -> Tidings {
    table
        .command(["relay", "run"])
        .argument("--to")
        .argument(to.data())
}

fn relay_until_empty(table: &Table, to: &Place) -> Answer {
    relay(table, to).argument("--until-empty").ok()
}

fn events(place: &Place) -> Vec<Value> {
    let listed = tidings(["event", "ls", "-o", "jsonl"])
        .data(&place.data())
        .ok();
    let lines = listed.lines().into_iter();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn status(table: &Table) -> Value {
    table
        .command(["outbox", "status", "-o", "json"])
        .ok()
        .json()
}

#[test]
fn the_seeds_insert_reaches_a_folder_and_is_marked_as_sent() {
    for kind in kinds() {
        let Some(table) = Table::seed(kind, "seed_to_folder") else {
            continue;
        };
        let place = Place::new();
        table.run(&format!(
            "INSERT INTO outbox (event_type, payload, created_at, sent) VALUES ('order.placed', '{{\"total\": 59.98}}', {}, false)",
            table.now()
        ));
        table.place_order("order-7", 1);

        relay_until_empty(&table, &place);

        let events = events(&place);
        assert_eq!(events.len(), 2, "{kind:?}: {events:?}");
        assert_eq!(events[0]["event_type"], "order.placed");
        assert_eq!(events[0]["payload"]["total"], 59.98);
        assert_eq!(events[1]["aggregate_id"], "order-7");
        assert_ne!(events[0]["event_id"], events[1]["event_id"]);
        assert_eq!(table.sent(), 2, "{kind:?}");

        let again = relay_until_empty(&table, &place);
        assert!(
            again.stderr.contains("0 events relayed"),
            "{}",
            again.stderr
        );
    }
}

#[test]
fn on_standard_output_there_is_one_event_a_line_and_nothing_else() {
    for kind in kinds() {
        let Some(table) = Table::seed(kind, "seed_to_stdout") else {
            continue;
        };
        table.place_orders(2, 20);

        let answer = table
            .command(["relay", "run", "--to", "-", "--until-empty", "-o", "json"])
            .ok();

        let lines = answer.lines();
        assert_eq!(lines.len(), 40, "{kind:?}");
        for line in lines {
            let event: Value = serde_json::from_str(line).unwrap();
            assert!(event["event_id"].is_string(), "{line}");
        }
        assert_eq!(table.sent(), 40);
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_relay_and_loses_nothing_that_was_not_written() {
    let table = Table::seed(Kind::Sqlite, "closed_pipe").unwrap();
    let running = table.command(["relay", "run", "--to", "-"]).start();
    running.heard("relay ready");
    table.place_order("order-1", 1);
    let mut running = running;
    assert!(running.line().unwrap().contains("order-1"));
    until("the row is marked", || table.sent() == 1);

    drop(running.take_stdout());
    let closing = std::thread::spawn(move || running.end());
    until("the relay ends", || {
        table.place_order("order-1", 2);
        std::thread::yield_now();
        closing.is_finished()
    });

    let answer = closing.join().unwrap();
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert!(answer.stderr.contains("is gone"), "{}", answer.stderr);
    assert_eq!(table.sent(), 1);
}

/// A relay that was idle for so long would look by itself only after as long again.
#[cfg(feature = "postgres")]
#[test]
fn a_relay_that_listens_sends_at_once_what_is_notified_however_seldom_it_looks() {
    use std::time::{Duration, Instant};
    const IDLE: Duration = Duration::from_millis(2_600);
    const AT_ONCE: Duration = Duration::from_millis(800);
    // A sweep may come in between, and a machine may stand still.
    const ROUNDS: u64 = 5;
    let Some(table) = Table::seed(Kind::Postgres, "listen_notify") else {
        return;
    };
    let place = Place::new();
    let listeners = || {
        table.number("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'")
    };
    let running = relay(&table, &place)
        .arguments(["--poll-max", "1h", "--listen-notify"])
        .start();
    running.heard("relay ready");
    until("it listens", || listeners() == 1);

    let mut at_once = 0;
    for n in 0..ROUNDS {
        std::thread::sleep(IDLE);
        table.place_order("order-1", n);
        table.run("NOTIFY tidings_outbox");
        let told = Instant::now();
        until("it is sent", || table.sent() == n as i64 + 1);
        at_once += u64::from(told.elapsed() < AT_ONCE);
        if at_once == 2 {
            break;
        }
    }

    assert_eq!(at_once, 2, "of {ROUNDS} that were notified");
    let answer = terminate(running);
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert_eq!(events(&place).len() as i64, table.sent());
}

#[test]
fn debeziums_table_made_by_our_statements_is_relayed_by_its_mapping() {
    for kind in kinds() {
        let Some(table) = Table::fresh(kind, "debezium") else {
            continue;
        };
        let place = Place::new();
        let ddl = tidings(["outbox", "ddl", "--style", "debezium", "--dialect"])
            .argument(table.dialect())
            .ok();
        table.run(&ddl.stdout);
        let mapping = place.write("tidings.toml", "[relay.mapping]\norder = \"sequence\"\n");
        for n in 0..3 {
            table.run(&format!(
                "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES ('0000000{}-0000-4000-8000-000000000000', 'order', 'order-1', 'order.placed', '{{\"n\": {n}}}')",
                9 - n
            ));
        }

        relay(&table, &place)
            .argument("--until-empty")
            .variable("TIDINGS_CONFIG", mapping)
            .ok();

        let events = events(&place);
        let order: Vec<i64> = events
            .iter()
            .map(|event| event["payload"]["n"].as_i64().unwrap())
            .collect();
        assert_eq!(order, [0, 1, 2], "{kind:?}");
        assert_eq!(
            events[0]["event_id"],
            "00000009-0000-4000-8000-000000000000"
        );
        assert_eq!(events[0]["aggregate_id"], "order-1");
        assert_eq!(table.number("SELECT COUNT(*) FROM outbox"), 0);
    }
}

/// What a relay that was killed may and may not do: everything arrives, first occurrences in order, doubles under their first id.
fn assert_arrived(events: &[Value], keys: u64, each: u64) {
    let mut ids: HashMap<(&str, u64), &str> = HashMap::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        let key = event["aggregate_id"].as_str().unwrap();
        let n = event["payload"]["n"].as_u64().unwrap();
        let id = event["event_id"].as_str().unwrap();
        if let Some(first) = ids.insert((key, n), id) {
            assert_eq!(first, id, "a double of {key} {n} has another id");
            continue;
        }
        let expected = last.get(key).map_or(0, |last| last + 1);
        assert_eq!(n, expected, "{key} is out of order");
        last.insert(key, n);
    }
    assert_eq!(ids.len() as u64, keys * each, "events are lost");
}

#[test]
fn a_relay_that_is_killed_loses_nothing_and_the_next_goes_on() {
    for kind in kinds() {
        let Some(table) = Table::seed(kind, "killed") else {
            continue;
        };
        let place = Place::new();
        let (keys, each) = (10, 100);
        table.place_orders(keys, each);

        let running = relay(&table, &place)
            .argument("--batch")
            .argument("5")
            .start();
        until("some rows are sent", || table.sent() > 0);
        running.kill();

        let relays = status(&table)["relays"].clone();
        assert_eq!(relays.as_array().unwrap().len(), 1, "{kind:?}: {relays}");
        let left = relays[0]["lease_seconds"].as_f64().unwrap();
        assert!(
            left <= LEASE_SECONDS_MAX,
            "{kind:?}: the table says that it would wait {left} s for the one that is dead"
        );
        let again = relay_until_empty(&table, &place);
        assert!(again.stderr.contains("relay ready"), "{}", again.stderr);
        assert_arrived(&events(&place), keys, each);
        assert_eq!(table.sent(), (keys * each) as i64, "{kind:?}");
    }
}

#[test]
fn of_two_relays_one_works_and_the_other_takes_over() {
    for kind in kinds() {
        let Some(table) = Table::seed(kind, "two_relays") else {
            continue;
        };
        let place = Place::new();
        let first = relay(&table, &place).start();
        first.heard("relay ready");
        let mut second = table.command(["relay", "run", "--to", "-"]).start();
        second.heard("relays this shard");
        table.place_order("order-1", 0);
        until("the first relays", || table.sent() == 1);

        first.kill();
        table.place_order("order-1", 1);

        let line = second.line().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["payload"]["n"], 1, "{kind:?}");
        second.heard("relay ready");
    }
}

fn terminate(running: Running) -> Answer {
    running.interrupt(Signal::TERM)
}

#[test]
fn sigterm_drains_and_the_next_relay_begins_at_once() {
    for kind in kinds() {
        let Some(table) = Table::seed(kind, "sigterm") else {
            continue;
        };
        let place = Place::new();
        let running = relay(&table, &place).start();
        running.heard("relay ready");
        table.place_orders(3, 30);
        until("some are sent", || table.sent() > 0);

        let answer = terminate(running);

        assert_eq!(answer.code, Some(0), "{}", answer.stderr);
        assert!(answer.stderr.contains("draining"), "{}", answer.stderr);
        let arrived = events(&place).len() as i64;
        assert_eq!(
            table.sent(),
            arrived,
            "{kind:?}: what was accepted is settled"
        );
        let status = status(&table);
        let relays = status["relays"].as_array().unwrap();
        assert!(
            relays
                .iter()
                .all(|relay| relay["lease_seconds"].as_f64() <= Some(0.0)),
            "the lease is given back: {status}"
        );
    }
}

#[test]
fn our_table_is_made_shown_relayed_and_emptied() {
    for kind in kinds() {
        let Some(table) = Table::fresh(kind, "ours") else {
            continue;
        };
        let place = Place::new();
        table.command(["outbox", "migrate"]).ok();
        table.command(["outbox", "migrate"]).ok();
        table.place_orders(2, 3);

        let before = status(&table);
        assert_eq!(before["shape"], "tidings", "{kind:?}");
        assert_eq!(before["unsent"], 6);
        assert_eq!(before["clean_up"], "delete");
        let over = table.command(["outbox", "status", "--max", "5"]).run();
        assert_eq!(over.code, Some(4), "{}", over.stderr);
        let listed = table.command(["outbox", "ls", "-o", "json"]).ok().json();
        assert_eq!(listed.as_array().unwrap().len(), 6);
        assert_eq!(listed[0]["aggregate_id"], "order-0");

        relay_until_empty(&table, &place);

        assert_arrived(&events(&place), 2, 3);
        assert_eq!(table.number("SELECT COUNT(*) FROM outbox"), 0);
        assert_eq!(status(&table)["unsent"], 0);
    }
}

#[test]
fn marked_rows_of_our_table_are_removed_by_prune() {
    for kind in kinds() {
        let Some(table) = Table::fresh(kind, "prune") else {
            continue;
        };
        let place = Place::new();
        table.command(["outbox", "migrate"]).ok();
        table.place_orders(1, 3);
        relay(&table, &place)
            .argument("--mark")
            .argument("--until-empty")
            .ok();
        assert_eq!(table.sent(), 3);

        let young = table.command(["outbox", "prune", "--older", "1h", "--yes", "-o", "json"]);
        assert_eq!(young.ok().json()["pruned"], 0);
        let unasked = table
            .command(["outbox", "prune", "--older", "latest"])
            .run();
        assert_eq!(unasked.code, Some(2), "{}", unasked.stderr);
        let all = table.command([
            "outbox", "prune", "--older", "latest", "--yes", "-o", "json",
        ]);
        assert_eq!(all.ok().json()["pruned"], 3, "{kind:?}");
        assert_eq!(table.number("SELECT COUNT(*) FROM outbox"), 0);
    }
}

#[test]
fn what_was_given_up_is_listed_retried_and_discarded() {
    let table = Table::seed(Kind::Sqlite, "given_up").unwrap();
    let place = Place::new();
    table.run("INSERT INTO outbox (event_type, payload, created_at, sent, aggregate_id) VALUES ('order.placed', '{broken', CURRENT_TIMESTAMP, false, 'order-1')");
    table.place_order("order-1", 0);
    table.place_order("order-2", 0);

    relay_until_empty(&table, &place);

    assert_eq!(events(&place).len(), 1, "the other key is not held up");
    let dead = table
        .command(["outbox", "ls", "--dead", "-o", "json"])
        .ok()
        .json();
    assert_eq!(dead.as_array().unwrap().len(), 1);
    assert_eq!(dead[0]["id"], "1");
    assert!(
        dead[0]["reason"].as_str().unwrap().contains("JSON"),
        "{dead}"
    );
    let unknown = table.command(["outbox", "retry", "99"]).run();
    assert_eq!(unknown.code, Some(3), "{}", unknown.stderr);

    table.run("UPDATE outbox SET payload = '{\"n\": 9}' WHERE id = 1");
    let retried = table.command(["outbox", "retry", "1", "-o", "json"]).ok();
    assert_eq!(retried.json()["retried"], 1);
    relay_until_empty(&table, &place);
    let ns: Vec<i64> = events(&place)
        .iter()
        .filter(|event| event["aggregate_id"] == "order-1")
        .map(|event| event["payload"]["n"].as_i64().unwrap())
        .collect();
    assert_eq!(ns, [9, 0], "what waited behind it comes after it");

    table.run("INSERT INTO outbox (event_type, payload, created_at, sent, aggregate_id) VALUES ('order.placed', '{broken', CURRENT_TIMESTAMP, false, 'order-1')");
    relay_until_empty(&table, &place);
    let unasked = table.command(["outbox", "discard", "4"]).run();
    assert_eq!(unasked.code, Some(2), "{}", unasked.stderr);
    let discarded = table
        .command(["outbox", "discard", "4", "--yes", "-o", "json"])
        .ok();
    assert_eq!(discarded.json()["discarded"], 1);
    assert_eq!(status(&table)["dead"], 0);
    assert_eq!(
        table.number("SELECT COUNT(*) FROM outbox"),
        4,
        "the row of others stays"
    );
}

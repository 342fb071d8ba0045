//! Flags of `tidings relay` and `tidings outbox`, each by what it changes.

use crate::command::{Answer, Place, tidings};
use crate::table::{Kind, Table, kinds};
use serde_json::Value;

/// A seed's table with two orders, which no relay has looked at.
fn unrelayed(kind: Kind, test: &str) -> Option<Table> {
    let table = Table::seed(kind, test)?;
    table.place_orders(2, 1);
    Some(table)
}

/// Keys of the events that a relay writes to standard output with these flags until nothing is left.
fn relayed(table: &Table, flags: &str) -> Vec<String> {
    let run = table.command("relay run --to - --until-empty".split(' '));
    let answer = run.arguments(words(flags)).ok();
    let events = answer.lines().into_iter().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["aggregate_id"].as_str().unwrap().to_owned()
    });
    events.collect()
}

fn words(flags: &str) -> impl Iterator<Item = &str> {
    flags.split(' ').filter(|word| !word.is_empty())
}

fn outbox(table: &Table, words: &str) -> Answer {
    table.command(words.split(' ')).run()
}

/// How many tables of a relay there are.
fn relay_tables(table: &Table) -> i64 {
    let names = match table.kind {
        Kind::Sqlite => {
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name LIKE 'tidings_relay_%'"
        }
        Kind::Postgres => {
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name LIKE 'tidings_relay_%'"
        }
        Kind::MariaDb => {
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE 'tidings_relay_%'"
        }
    };
    table.number(names)
}

#[test]
fn a_look_at_an_outbox_before_any_relay_tells_what_waits_and_makes_nothing() {
    for kind in kinds() {
        let Some(table) = unrelayed(kind, "flags_look") else {
            continue;
        };

        for (flags, code) in [
            ("outbox status -o json", 0),
            ("outbox status -o json --max 2", 0),
            ("outbox status -o json --max 1", 4),
            ("outbox status -o json --max-age 1h", 0),
            ("outbox status -o json --max-age 0s", 4),
            ("outbox status -o json --state sqlite:///nowhere/new.db", 0),
        ] {
            let answer = outbox(&table, flags);
            assert_eq!(
                answer.code,
                Some(code),
                "{kind:?} {flags}: {}",
                answer.stderr
            );
            assert_eq!(answer.json()["unsent"], 2, "{kind:?} {flags}");
        }
        let listed = outbox(&table, "outbox ls -o json").json();
        assert_eq!(listed[1]["aggregate_id"], "order-1", "{kind:?}: {listed}");
        assert!(
            listed[1]["event_id"].is_null(),
            "no relay has named it: {listed}"
        );
        let dead = outbox(&table, "outbox ls --dead -o json").json();
        assert_eq!(dead, Value::Array(Vec::new()), "{kind:?}");
        let decided = outbox(&table, "outbox retry --all");
        assert_eq!(decided.code, Some(3), "{}", decided.stderr);
        assert_eq!(relay_tables(&table), 0, "{kind:?}");

        outbox(&table, "relay init");
        assert_eq!(relay_tables(&table), 3, "{kind:?}");
        assert_eq!(outbox(&table, "outbox status -o json").json()["unsent"], 2);
    }
}

#[test]
fn a_state_elsewhere_is_checked_made_and_used_and_nothing_is_made_beside_the_rows() {
    for kind in kinds() {
        let Some(table) = unrelayed(kind, "flags_state") else {
            continue;
        };
        let place = Place::new();
        let state = format!("sqlite://{}", place.file("relay.db").display());
        let check = |state: &str| {
            outbox(
                &table,
                &format!("relay check --to - -o json --state {state}"),
            )
        };

        let before = check(&state);
        assert_eq!(before.code, Some(0), "{kind:?}: {}", before.stdout);
        assert!(before.stdout.contains("will be made"), "{}", before.stdout);
        assert!(before.stdout.contains("2 unsent"), "{}", before.stdout);
        assert!(!place.file("relay.db").exists(), "a check makes nothing");
        let nowhere = check("sqlite:///nowhere/new.db");
        assert_eq!(nowhere.code, Some(4), "{}", nowhere.stdout);

        let flags = format!("--state {state}");
        assert_eq!(relayed(&table, &flags).len(), 2, "{kind:?}");
        assert_eq!(relayed(&table, &flags).len(), 0, "{kind:?}");
        assert!(place.file("relay.db").exists());
        assert_eq!(check(&state).code, Some(0));
        assert_eq!((table.sent(), relay_tables(&table)), (2, 0), "{kind:?}");

        let made = format!("sqlite://{}", place.file("made.db").display());
        tidings(["relay", "init", "--from", table.url(), "--state", &made]).ok();
        assert_eq!(relay_tables(&Table::at(Kind::Sqlite, made)), 3);
    }
}

#[test]
fn a_table_of_another_name_and_in_a_shape_that_was_told_is_relayed() {
    for kind in kinds() {
        let Some(table) = Table::fresh(kind, "flags_shape") else {
            continue;
        };
        for (style, insert) in [
            (
                "seed",
                "INSERT INTO outbox (event_type, payload, aggregate_id) VALUES ('order.placed', '{}', 'k')",
            ),
            (
                "tidings",
                "INSERT INTO outbox (event_type, payload, aggregate_id) VALUES ('order.placed', '{}', 'k')",
            ),
        ] {
            let ddl = [
                "outbox",
                "ddl",
                "--dialect",
                table.dialect(),
                "--style",
                style,
            ];
            let ddl = tidings(ddl).ok().stdout;
            table.run(&ddl.replace("outbox", style));
            table.run(&insert.replace("outbox", style));

            let status = format!("outbox status -o json --table {style}");
            assert_eq!(outbox(&table, &status).json()["shape"], style, "{kind:?}");
            let told = format!("{status} --shape seed");
            assert_eq!(outbox(&table, &told).json()["shape"], "seed", "{kind:?}");
            let wrong = outbox(&table, &format!("{status} --shape debezium"));
            assert_eq!(wrong.code, Some(5), "{kind:?}: {}", wrong.stderr);
            assert!(wrong.stderr.contains("no column type"), "{}", wrong.stderr);

            let flags = format!("--table {style} --shape {style}");
            assert_eq!(relayed(&table, &flags), ["k"], "{kind:?} {style}");
        }
    }
}

#[test]
fn shards_share_the_keys_and_leave_none_out() {
    for kind in kinds() {
        let Some(table) = Table::seed(kind, "flags_shard") else {
            continue;
        };
        table.place_orders(20, 2);

        let first = relayed(&table, "--shard 0/2");
        let second = relayed(&table, "--shard 1/2");

        assert_eq!(first.len() + second.len(), 40, "{kind:?}");
        assert!(!first.is_empty() && !second.is_empty(), "{kind:?}");
        assert!(first.iter().all(|key| !second.contains(key)), "{kind:?}");
    }
}

#[test]
fn later_events_of_a_key_go_on_where_a_policy_skips_what_was_given_up_and_all_of_it_is_retried() {
    for (policy, at_first) in [("block", 0), ("skip", 1)] {
        let table = Table::seed(Kind::Sqlite, "flags_policy").unwrap();
        table.run("INSERT INTO outbox (event_type, payload, created_at, sent, aggregate_id) VALUES ('order.placed', '{broken', CURRENT_TIMESTAMP, false, 'order-1')");
        table.place_order("order-1", 0);

        assert_eq!(
            relayed(&table, &format!("--policy {policy}")).len(),
            at_first,
            "{policy}"
        );

        table.run("UPDATE outbox SET payload = '{}' WHERE id = 1");
        let retried = outbox(&table, "outbox retry --all -o json");
        assert_eq!(retried.json()["retried"], 1, "{policy}");
        assert_eq!(relayed(&table, "").len(), 2 - at_first, "{policy}");
    }
}

//! What keeps a relay from working is told before it touches a row, with the way out and its exit code.

use crate::command::{Answer, Place, tidings, until};
use crate::table::{Kind, Table, kinds, url_as};

fn refused(answer: &Answer, code: &str, exit: i32, words: &str) {
    assert_eq!(answer.code, Some(exit), "{}", answer.stderr);
    assert!(answer.stderr.contains(code), "{}", answer.stderr);
    assert!(answer.stderr.contains(words), "{}", answer.stderr);
}

#[test]
fn a_table_that_is_not_there_is_named_with_the_command_that_makes_it() {
    for kind in kinds() {
        let Some(table) = Table::fresh(kind, "no_table") else {
            continue;
        };
        let answer = table
            .command(["relay", "run", "--to", "-", "--until-empty"])
            .run();
        refused(&answer, "TD0073", 3, "tidings outbox migrate");
    }
}

#[test]
fn a_column_that_is_not_there_is_named_with_those_that_are() {
    for kind in kinds() {
        let Some(table) = Table::seed(kind, "no_column") else {
            continue;
        };
        let place = Place::new();
        let config = place.write("t.toml", "[relay.mapping]\naggregate_id = \"order_no\"\n");
        table.place_order("order-1", 0);

        let answer = table
            .command(["relay", "run", "--to", "-", "--until-empty", "--config"])
            .argument(config)
            .run();

        refused(&answer, "TD0074", 5, "no column order_no");
        assert_eq!(table.sent(), 0);
    }
}

#[test]
fn a_configuration_with_an_unknown_name_is_refused() {
    let table = Table::seed(Kind::Sqlite, "config").unwrap();
    let place = Place::new();
    let config = place.write("t.toml", "[relay.mapping]\naggregate = \"order_no\"\n");

    let answer = table
        .command(["relay", "run", "--to", "-", "--config"])
        .argument(config)
        .run();
    refused(&answer, "TD0090", 2, "aggregate_id");

    let answer = table
        .command(["relay", "run", "--to", "-", "--config", "no-such.toml"])
        .run();
    refused(&answer, "TD0061", 1, "no-such.toml");
}

#[test]
fn what_cannot_be_understood_is_a_usage_error_without_credentials() {
    let run = |from: &str, to: &str| {
        tidings(["relay", "run", "--from", from, "--to", to, "--until-empty"]).run()
    };
    refused(&run("shop", "-"), "TD0077", 2, "sqlite:///FILE");
    let unknown = run("oracle://app:secret@db/shop", "-");
    refused(&unknown, "TD0077", 2, "none of sqlite, postgres, mysql");
    assert!(!unknown.stderr.contains("secret"), "{}", unknown.stderr);
    refused(&run("sqlite:///x", "redis://b:9092"), "TD0100", 2, "kafka");
    let shard = tidings([
        "relay",
        "run",
        "--from",
        "sqlite:///x",
        "--to",
        "-",
        "--shard",
        "2/2",
    ])
    .run();
    assert_eq!(shard.code, Some(2), "{}", shard.stderr);
    refused(
        &run("sqlite:///no/such/file.db", "-"),
        "TD0077",
        2,
        "/no/such/file.db",
    );
}

#[test]
fn a_url_from_the_environment_is_not_shown_in_the_help() {
    let help = tidings(["relay", "run", "--help"])
        .variable("TIDINGS_RELAY_FROM", "postgres://app:secret@db/shop")
        .ok();
    assert!(
        help.stdout.contains("TIDINGS_RELAY_FROM"),
        "{}",
        help.stdout
    );
    assert!(!help.stdout.contains("secret"), "{}", help.stdout);
}

#[test]
fn check_tells_every_side_that_does_not_work() {
    let table = Table::fresh(Kind::Sqlite, "check").unwrap();
    let place = Place::new();
    let answer = table
        .command(["relay", "check", "--to", "redis://b", "-o", "json"])
        .run();
    assert_eq!(answer.code, Some(4), "{}", answer.stderr);
    assert_eq!(
        failed(&answer),
        [("table", "TD0073"), ("destination", "TD0100")].map(owned)
    );

    table.command(["outbox", "migrate"]).ok();
    let answer = table
        .command(["relay", "check", "-o", "json", "--to"])
        .argument(place.data())
        .ok();
    assert_eq!(failed(&answer), []);
    assert!(answer.stdout.contains("0 unsent"), "{}", answer.stdout);
    assert!(!place.data().exists(), "a check makes nothing");
}

/// It was tried again for ever.
#[test]
fn a_row_whose_id_is_none_ends_a_relay_that_is_to_end() {
    let table = Table::fresh(Kind::Sqlite, "no_id").unwrap();
    table.run("CREATE TABLE outbox (id TEXT PRIMARY KEY, aggregate_id TEXT, event_type TEXT, payload TEXT, sent INTEGER DEFAULT 0, created_at TEXT)");
    table.run(
        "INSERT INTO outbox VALUES ('first', 'order-1', 'order.placed', '{}', 0, '2026-01-01')",
    );
    table.command(["relay", "init"]).ok();

    let answer = table
        .command(["relay", "run", "--to", "-", "--until-empty", "--unordered"])
        .run();

    refused(&answer, "TD0074", 5, "the row first");
    refused(&answer, "TD0074", 5, "neither a whole number");
    assert_eq!(table.sent(), 0);
}

#[test]
fn a_table_of_others_is_not_migrated() {
    for kind in kinds() {
        let Some(table) = Table::seed(kind, "not_ours") else {
            continue;
        };
        let answer = table.command(["outbox", "migrate"]).run();
        refused(&answer, "TD0074", 5, "somebody else's");
        let made = match kind {
            Kind::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE name LIKE 'tidings%'",
            Kind::Postgres => "SELECT COUNT(*) FROM pg_tables WHERE tablename LIKE 'tidings%'",
            Kind::MariaDb => {
                "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE 'tidings%'"
            }
        };
        assert_eq!(table.number(made), 0, "{kind:?}: nothing is made beside it");
    }
}

fn owned((check, code): (&str, &str)) -> (String, String) {
    (check.to_owned(), code.to_owned())
}

/// What failed, and with which code.
fn failed(answer: &Answer) -> Vec<(String, String)> {
    let checks = answer.json();
    let failed = checks.as_array().unwrap().iter();
    failed
        .filter(|check| check["ok"] == false)
        .map(|check| {
            let text = |name: &str| check[name].as_str().unwrap();
            owned((text("check"), text("code")))
        })
        .collect()
}

#[test]
fn check_tells_all_that_is_wrong_at_once_each_with_its_way_out() {
    if !kinds().contains(&Kind::Postgres) {
        return;
    }
    let Some(table) = Table::fresh(Kind::Postgres, "check_all") else {
        return;
    };
    table.run("CREATE TABLE outbox (id BIGINT GENERATED BY DEFAULT AS IDENTITY (CACHE 20) PRIMARY KEY, event_type TEXT, payload JSON, created_at TIMESTAMP, sent BOOLEAN)");
    table.run("DO $$ BEGIN CREATE ROLE t_check LOGIN PASSWORD 'check'; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    table.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let place = Place::new();
    place.write("data", "no folder");
    let check = || {
        tidings(["relay", "check", "-o", "json", "--to"])
            .argument(place.data())
            .variable(
                "TIDINGS_RELAY_FROM",
                url_as(table.url(), "t_check", "check"),
            )
            .run()
    };

    let answer = check();

    assert_eq!(answer.code, Some(4), "{}", answer.stderr);
    let missing = |check| (check, "TD0076");
    let expected = [
        ("order", "TD0074"),
        missing("read rows"),
        missing("settle rows"),
        missing("tidings_relay_outbox"),
        missing("tidings_relay_lease"),
        missing("tidings_relay_note"),
    ];
    let told = failed(&answer);
    assert_eq!(told[..6], expected.map(owned));
    assert_eq!((told.len(), told[6].0.as_str()), (7, "destination"));
    // Each way out that is a statement helps.
    for check in answer.json().as_array().unwrap() {
        let message = check["message"].as_str().unwrap();
        for begin in ["GRANT ", "ALTER "] {
            if let Some(at) = message.find(begin) {
                let statement = message[at..].split(';').next().unwrap();
                table.run(statement);
            }
        }
    }
    let left = failed(&check());
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].0, "destination");
}

#[test]
fn check_names_every_column_that_is_missing_and_goes_on() {
    for kind in kinds() {
        let Some(table) = Table::fresh(kind, "check_columns") else {
            continue;
        };
        table.run("CREATE TABLE outbox (id INTEGER PRIMARY KEY, kind VARCHAR(20))");
        let place = Place::new();
        let mapping = place.write("tidings.toml", "[relay.mapping]\nsource = \"service\"\n");

        let answer = table
            .command(["relay", "check", "-o", "json", "--to"])
            .argument(place.data())
            .variable("TIDINGS_CONFIG", mapping)
            .run();

        assert_eq!(failed(&answer), [owned(("table", "TD0074"))], "{kind:?}");
        for name in ["event_type", "payload", "sent", "service"] {
            assert!(
                answer.stdout.contains(&format!("no column {name}")),
                "{}",
                answer.stdout
            );
        }
        assert!(answer.stdout.contains("tidings.toml"), "{}", answer.stdout);
    }
}

#[test]
fn a_folder_that_another_process_owns_takes_the_events_beside_it() {
    let table = Table::seed(Kind::Sqlite, "owned").unwrap();
    let other = Table::seed(Kind::Sqlite, "owned_too").unwrap();
    let place = Place::new();
    let owner = table
        .command(["relay", "run", "--to"])
        .argument(place.data())
        .start();
    owner.heard("relay ready");
    other.place_orders(2, 5);

    other
        .command(["relay", "run", "--until-empty", "--to"])
        .argument(place.data())
        .ok();

    assert_eq!(other.sent(), 10);
    until("the owner has them in its log", || {
        let counted = tidings(["event", "count", "-o", "json"])
            .data(&place.data())
            .ok();
        counted.stdout.contains("10")
    });
}

#[test]
fn a_privilege_that_is_missing_is_named_with_its_grant() {
    if !cfg!(feature = "postgres") {
        return;
    }
    let Some(table) = Table::seed(Kind::Postgres, "privilege") else {
        return;
    };
    table.run("DROP ROLE IF EXISTS tidings_cli_reader");
    table.run("CREATE ROLE tidings_cli_reader LOGIN PASSWORD 'reader'; GRANT SELECT ON outbox TO tidings_cli_reader");
    let url = url_as(table.url(), "tidings_cli_reader", "reader");

    let answer = tidings(["relay", "run", "--to", "-", "--until-empty", "--from", &url]).run();

    table.run("REVOKE ALL ON outbox FROM tidings_cli_reader; DROP ROLE tidings_cli_reader");
    refused(&answer, "TD0076", 6, "GRANT");
    assert!(!answer.stderr.contains(":reader@"), "{}", answer.stderr);
}

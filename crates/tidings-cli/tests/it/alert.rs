//! Alerting as the person on call meets it: what is told, when it is over, what survives a kill.

use crate::command::{Place, Running, tidings, until};
use crate::table::{Kind, Table};
use serde_json::Value;

/// Lets a group give up what is there, all for the same failure, until so many facts of it are in the log. The consumer goes on: it owns the folder and carries facts.
pub(crate) fn given_up(place: &Place, group: &str, facts: u64) -> Running {
    let arguments = [
        "consumer",
        "run",
        group,
        "--type",
        "order.*",
        "--exec",
        "sh -c 'echo card declined >&2; exit 1'",
    ];
    let consumer = tidings(arguments).data(&place.data()).start();
    until("the facts are in the log", || {
        let count = ["event", "count", "--type", "tidings.dead_letter.recorded"];
        let count = tidings(count).arguments(["-o", "json"]).data(&place.data());
        count.ok().json()["count"].as_u64() >= Some(facts)
    });
    consumer
}

/// Events of the type `order.placed`, each of a key of its own, with something in their payload that alerts must not tell.
pub(crate) fn orders(place: &Place, from: u32, to: u32) {
    let lines: String = (from..to)
        .map(|number| {
            format!("{{\"event_id\":\"evt-{number}\",\"event_type\":\"order.placed\",\"aggregate_id\":\"order-{number}\",\"payload\":{{\"card\":\"hidden-4711\"}}}}\n")
        })
        .collect();
    place.import(&lines);
}

/// What a watcher's command was given, a JSON line each.
fn told(place: &Place) -> Vec<Value> {
    let text = std::fs::read_to_string(place.file("told")).unwrap_or_default();
    assert!(!text.contains("hidden-4711"), "{text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A command that appends what it is given to a file.
fn exec(place: &Place) -> String {
    format!("sh -c 'cat >> {}'", place.file("told").display())
}

/// Watches until everything is told.
fn watched(place: &Place, further: &[&str]) -> crate::command::Answer {
    tidings([
        "alert",
        "run",
        "--from",
        "earliest",
        "--until-end",
        "--exec",
    ])
    .argument(exec(place))
    .arguments(further)
    .data(&place.data())
    .ok()
}

/// Rule and stage of each line.
fn stages(told: &[Value]) -> Vec<String> {
    let word = |line: &Value, name: &str| line["data"][name].as_str().unwrap().to_owned();
    told.iter()
        .map(|line| format!("{} {}", word(line, "rule"), word(line, "stage")))
        .collect()
}

#[test]
fn the_first_dead_letter_of_a_failure_is_told_once_also_over_several_runs() {
    let place = Place::new();
    orders(&place, 0, 5);
    let _consumer = given_up(&place, "payment", 5);

    let first = watched(&place, &[]);
    let lines = told(&place);
    assert_eq!(stages(&lines), ["dead_letter fired"], "{lines:?}");
    let data = &lines[0]["data"];
    assert_eq!(lines[0]["type"], "tidings.alert.fired");
    assert_eq!(data["consumer"], "payment");
    assert_eq!(data["sample"]["event_type"], "order.placed");
    let reason = data["sample"]["reason"].as_str().unwrap();
    assert!(reason.contains("card declined"), "{reason}");
    assert!(first.stderr.contains("alert fired"), "{}", first.stderr);
    assert!(!first.stderr.contains("hidden-4711"), "{}", first.stderr);

    // The same folder, the same facts: nothing new. Four more letters wait for the end of their window.
    watched(&place, &[]);
    assert_eq!(told(&place).len(), 1);

    // A window that is over: the others are told together.
    watched(&place, &["--window", "0s"]);
    let lines = told(&place);
    assert_eq!(stages(&lines)[1..], ["dead_letter repeated"], "{lines:?}");
    assert_eq!(lines[1]["data"]["total"], 5);
    assert_eq!(lines[1]["data"]["count"], 4);
}

#[test]
fn a_watcher_never_keeps_others_from_owning_the_folder() {
    let place = Place::new();
    orders(&place, 0, 1);
    let watcher = tidings(["alert", "run"]).data(&place.data()).start();
    watcher.heard("alerting");

    let emit = tidings(["emit", "order.paid", "-o", "json"])
        .data(&place.data())
        .ok();

    assert!(emit.json()["position"].is_number(), "{}", emit.stdout);
    let answer = watcher.interrupt(rustix::process::Signal::TERM);
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
}

#[test]
fn a_group_that_does_not_move_is_told_and_so_is_the_end_of_it() {
    let place = Place::new();
    orders(&place, 0, 1);
    let group = |end: &[&str]| {
        tidings([
            "consumer", "run", "mailer", "--type", "order.*", "--exec", "true",
        ])
        .arguments(end)
        .data(&place.data())
    };
    group(&["--until-end"]).ok();
    orders(&place, 1, 4);

    let watcher = tidings(["alert", "run", "--stalled-after", "1s", "--every", "100ms"])
        .data(&place.data())
        .start();
    let line = watcher.heard("alert fired");
    assert!(line.contains("mailer is 3 events behind"), "{line}");
    assert!(line.contains("no consumer works for it"), "{line}");
    assert!(line.contains("tidings consumer lag mailer"), "{line}");
    group(&["--until-end"]).ok();
    let line = watcher.heard("alert resolved");
    assert!(line.contains("mailer moves again"), "{line}");
}

/// Settles every dead letter of a folder, as a person's decision does.
fn settle(place: &Place) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let database = tidings::state_database(place.data()).await.unwrap();
        #[allow(
            irrefutable_let_patterns,
            reason = "it is one of several where others are built in"
        )]
        let tidings::sql::Pool::Sqlite(pool) = database.pool() else {
            panic!("the database of a folder is SQLite");
        };
        let settled = sqlx::query("UPDATE tidings_dead_letter SET status = 'discarded'");
        settled.execute(pool).await.unwrap();
        database.close().await;
    });
}

#[test]
fn an_alert_is_over_once_no_dead_letter_of_its_failure_is_open() {
    let place = Place::new();
    orders(&place, 0, 2);
    let _consumer = given_up(&place, "payment", 2);
    let watcher = tidings(["alert", "run", "--from", "earliest", "--every", "100ms"])
        .data(&place.data())
        .start();
    watcher.heard("alert fired  payment gave");

    settle(&place);

    let line = watcher.heard("alert resolved");
    assert!(line.contains("in payment is open any more"), "{line}");
}

#[test]
fn an_outbox_whose_events_wait_is_told() {
    let table = Table::seed(Kind::Sqlite, "alert").unwrap();
    table
        .command(["relay", "run", "--to", "-", "--until-empty"])
        .ok();
    table.place_orders(1, 3);
    let place = Place::new();
    orders(&place, 0, 1);

    let outbox = ["--outbox", table.url(), "--outbox-after", "0s"];
    watched(&place, &outbox);

    let lines = told(&place);
    assert_eq!(stages(&lines), ["outbox fired"], "{lines:?}");
    assert_eq!(lines[0]["data"]["count"], 3);
    let text = lines[0]["data"]["text"].as_str().unwrap();
    assert!(text.contains("3 unsent events"), "{text}");
}

#[test]
fn a_key_that_is_held_for_longer_than_it_may_is_told() {
    let place = Place::new();
    orders(&place, 0, 1);
    let _consumer = given_up(&place, "payment", 1);
    // The dead letter itself is told first, so that it is told here no more.
    watched(&place, &[]);
    assert_eq!(stages(&told(&place)), ["dead_letter fired"]);

    watched(&place, &["--parked-after", "1h"]);
    assert_eq!(told(&place).len(), 1, "it is not held for so long");
    watched(&place, &["--parked-after", "0s"]);

    let lines = told(&place);
    assert_eq!(stages(&lines)[1..], ["parked fired"], "{lines:?}");
    assert_eq!(lines[1]["data"]["consumer"], "payment");
}

#[test]
fn a_command_that_fails_is_run_again_with_the_same_id_until_it_succeeds() {
    let place = Place::new();
    orders(&place, 0, 1);
    let _consumer = given_up(&place, "payment", 1);
    let script = format!(
        "sh -c 'echo $TIDINGS_ALERT_ID >> {0}; test $(wc -l < {0}) -ge 3'",
        place.file("ids").display()
    );

    let answer = tidings([
        "alert",
        "run",
        "--from",
        "earliest",
        "--until-end",
        "--exec",
    ])
    .argument(script)
    .data(&place.data())
    .ok();

    let ids = std::fs::read_to_string(place.file("ids")).unwrap();
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert!(
        ids.iter().all(|id| *id == ids[0] && id.starts_with("msg_")),
        "{ids:?}"
    );
    assert!(answer.stderr.contains("exit status 1"), "{}", answer.stderr);
}

#[test]
fn a_test_goes_through_each_channel_and_says_what_came_back() {
    let place = Place::new();
    let good = exec(&place);

    let answer = tidings(["alert", "test", "-o", "json", "--exec", &good])
        .data(&place.data())
        .ok();
    let rows = answer.json();
    assert_eq!(rows[0]["channel"], "standard error");
    assert_eq!(rows[1]["result"], "accepted");
    assert_eq!(told(&place)[0]["type"], "tidings.alert.test");
    assert!(!place.data().exists(), "a test makes no folder");

    let bad = "sh -c 'echo no route >&2; exit 7'";
    let slow = ["--exec-time-limit", "5s", "--exec", "sleep 600"];
    let answer = tidings(["alert", "test", "--exec", &good, "--exec", bad])
        .arguments(slow)
        .data(&place.data())
        .run();
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert!(answer.stderr.contains("TD0153"), "{}", answer.stderr);
    assert!(answer.stdout.contains("no route"), "{}", answer.stdout);
    assert!(
        answer.stdout.contains("took longer than 5s"),
        "{}",
        answer.stdout
    );

    let answer = tidings(["alert", "test", "--exec", "no-such-program-here"]).run();
    assert_eq!(answer.code, Some(2), "{}", answer.stderr);
    assert!(answer.stderr.contains("TD0040"), "{}", answer.stderr);
}

/// The names of figures in a text.
fn names(text: &str) -> std::collections::BTreeSet<String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("tidings_"))
        .map(str::to_owned)
        .collect()
}

fn figures(running: &Running) -> String {
    let line = running.heard("metrics http://");
    let (_, url) = line.split_once("http://").unwrap();
    let address = url.trim_end_matches("/metrics");
    crate::health::get(address, "/metrics").1
}

#[test]
fn the_rules_for_prometheus_name_figures_that_are_served() {
    let rules = tidings(["alert", "rules"]).ok().stdout;
    let place = Place::new();
    orders(&place, 0, 1);
    let table = Table::seed(Kind::Sqlite, "rules").unwrap();
    table.place_orders(1, 1);

    let consumer = tidings([
        "consumer", "run", "mailer", "--type", "order.*", "--exec", "true", "--listen", "0",
    ])
    .data(&place.data())
    .start();
    consumer.heard("metrics http://");
    let relay = table
        .command(["relay", "run", "--to", "-", "--listen", "0"])
        .start();
    relay.heard("relay ready");
    let watcher = tidings(["alert", "run", "--listen", "0"])
        .data(&place.data())
        .start();
    let wanted: Vec<String> = rules
        .lines()
        .filter(|line| line.contains("expr:") || line.contains("and on"))
        .flat_map(names)
        .collect();
    assert!(wanted.len() >= 10, "{wanted:?}");

    let mut missing = Vec::new();
    until("every figure is served", || {
        let served = [&consumer, &relay, &watcher].map(figures).concat();
        let served = names(&served);
        missing = wanted
            .iter()
            .filter(|name| !served.contains(*name))
            .cloned()
            .collect();
        // The outbox is asked once in a while.
        missing.is_empty()
    });
    assert!(missing.is_empty(), "{missing:?}");
}

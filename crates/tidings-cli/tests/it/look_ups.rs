//! Looking at a folder: lists, counts, one event, tail, and how each is printed.

use crate::command::{Place, tidings, until};
use rustix::process::Signal;
use serde_json::Value;

const LINES: &str = r#"{"event_id":"evt-1","event_type":"order.placed","aggregate_id":"order-1","timestamp":"2024-01-15T10:30:00Z","version":1,"source":"shop","correlation_id":"req-1","payload":{"total": 59.980}}
{"event_id":"evt-2","event_type":"order.placed.v2","aggregate_id":"order-2","source":"shop","payload":{"big":12345678901234567890123}}
{"event_id":"evt-3","event_type":"payment.succeeded","aggregate_id":"order-1","source":"bank","correlation_id":"req-1","causation_id":"evt-1","payload":null}
"#;

fn place() -> Place {
    let place = Place::new();
    place.import(LINES);
    place
}

#[test]
fn a_list_is_an_array_of_envelopes_with_positions() {
    let place = place();

    let list = tidings(["event", "ls", "-o", "json"])
        .data(&place.data())
        .ok();

    let rows = list.json();
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert_eq!(
        (&rows[0]["event_id"], &rows[0]["position"]),
        (&Value::from("evt-1"), &Value::from(0))
    );
    assert!(
        list.stdout.contains(r#"{"total": 59.980}"#),
        "numbers keep their spelling: {}",
        list.stdout
    );
    assert!(list.stdout.contains("12345678901234567890123"));
}

#[test]
fn filters_narrow_a_list() {
    let place = place();
    let ids = |arguments: &[&str]| -> Vec<String> {
        let answer = tidings([&["event", "ls", "-o", "jsonl"], arguments].concat())
            .data(&place.data())
            .ok();
        answer
            .lines()
            .iter()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["event_id"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };

    assert_eq!(ids(&["--key", "order-1"]), ["evt-1", "evt-3"]);
    assert_eq!(
        ids(&["--type", "order.placed"]),
        ["evt-1", "evt-2"],
        "a type has every version"
    );
    assert_eq!(
        ids(&["--corr", "evt-2"]),
        ["evt-2"],
        "an event without a correlation id begins a flow"
    );
    assert_eq!(ids(&["--source", "bank"]), ["evt-3"]);
    assert_eq!(ids(&["-n", "1"]), ["evt-1"]);
    assert_eq!(ids(&["--since", "latest"]), [] as [&str; 0]);
}

#[test]
fn every_format_prints_one_event() {
    let place = place();
    let get = |format: &str| {
        tidings(["event", "get", "evt-2", "-o", format])
            .data(&place.data())
            .ok()
            .stdout
    };

    let object: Value = serde_json::from_str(&get("json")).unwrap();
    assert_eq!(
        (&object["event_type"], &object["position"]),
        (&Value::from("order.placed.v2"), &Value::from(1))
    );
    assert_eq!(get("json"), get("jsonl"));
    assert!(
        get("yaml").contains("\"payload\": {\"big\":12345678901234567890123}\n"),
        "{}",
        get("yaml")
    );
    assert!(
        get("table").contains("aggregate_id  order-2\n"),
        "{}",
        get("table")
    );
    assert_eq!(
        tidings(["event", "get", "evt-2", "--raw"])
            .data(&place.data())
            .ok()
            .stdout,
        r#"{"big":12345678901234567890123}"#
    );
}

#[test]
fn a_count_is_one_object() {
    let place = place();

    assert_eq!(
        tidings(["event", "count", "-o", "json"])
            .data(&place.data())
            .ok()
            .stdout,
        "{\"count\":3}\n"
    );
    assert_eq!(
        tidings(["event", "count", "--type", "order.*"])
            .data(&place.data())
            .ok()
            .stdout,
        "2\n"
    );
}

#[test]
fn an_emitted_event_is_there_with_ids_of_its_own() {
    let place = Place::new();
    let emit = [
        "emit",
        "order.placed",
        "--key",
        "order-9",
        "--payload",
        r#"{"total": 1.50}"#,
        "-H",
        "tenant=acme",
        "-o",
        "json",
    ];

    let event = tidings(emit).data(&place.data()).ok().json();

    assert_eq!(event["correlation_id"], event["event_id"]);
    assert_eq!(
        (&event["tenant"], &event["position"]),
        (&Value::from("acme"), &Value::from(0))
    );
    let id = event["event_id"].as_str().unwrap();
    let found = tidings(["event", "get", id, "-o", "json"])
        .data(&place.data())
        .ok();
    assert!(
        found.stdout.contains(r#""payload":{"total": 1.50}"#),
        "{}",
        found.stdout
    );
}

#[test]
fn a_command_shaped_type_is_carried_with_a_warning() {
    let place = Place::new();

    let answer = tidings(["emit", "send.email"]).data(&place.data()).ok();

    assert!(
        answer.stderr.contains("send.email") && answer.stderr.contains("command"),
        "{}",
        answer.stderr
    );
}

#[test]
fn tail_shows_what_is_there_and_what_comes() {
    let place = place();
    let mut tail = tidings(["tail", "order.*", "--from-start", "-o", "jsonl"])
        .data(&place.data())
        .start();
    let id = |line: Option<String>| {
        serde_json::from_str::<Value>(&line.unwrap()).unwrap()["event_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };

    assert_eq!(id(tail.line()), "evt-1");
    assert_eq!(id(tail.line()), "evt-2");
    tidings(["emit", "payment.failed"]).data(&place.data()).ok();
    tidings(["emit", "order.cancelled"])
        .data(&place.data())
        .ok();
    let line = tail.line().unwrap();
    assert!(line.contains("order.cancelled"), "{line}");

    let answer = tail.interrupt(Signal::INT);
    assert_eq!(answer.code, Some(130));
}

#[test]
fn tail_until_end_stops_by_itself() {
    let place = place();

    let answer = tidings(["tail", "--until-end", "-o", "jsonl"])
        .data(&place.data())
        .ok();

    assert_eq!(answer.lines().len(), 3);
    assert_eq!(
        tidings(["tail", "--from-start", "-n", "2", "-o", "jsonl"])
            .data(&place.data())
            .ok()
            .lines()
            .len(),
        2
    );
}

#[test]
fn completions_man_pages_version_and_reference_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            tidings(["completion", shell])
                .ok()
                .stdout
                .contains("tidings")
        );
    }
    let place = Place::new();
    let folder = place.file("man");
    tidings(["man"]).argument(&folder).ok();
    until("the pages are there", || {
        folder.join("tidings-event-import.1").exists()
    });
    assert!(tidings(["man"]).ok().stdout.starts_with(".ie"));
    assert_eq!(
        tidings(["version", "-o", "json"]).ok().json()["version"],
        env!("CARGO_PKG_VERSION")
    );
    for chapter in ["cli", "errors", "limits"] {
        assert!(
            tidings(["reference", chapter])
                .ok()
                .stdout
                .starts_with("# ")
        );
    }
}

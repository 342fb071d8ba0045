//! Dead letters as the person on call sees them.

use crate::command::{Place, tidings, until};
use serde_json::Value;

const EVENT: &str = r#"{"event_id":"evt-1","event_type":"order.placed","aggregate_id":"order-1","X":{"a":1.0},"payload":{"total": 59.980}}"#;

fn given_up(place: &Place, group: &str) {
    let arguments = [
        "consumer",
        "run",
        group,
        "--type",
        "order.*",
        "--exec",
        "sh -c 'echo bad >&2; exit 1'",
        "--until-end",
    ];
    tidings(arguments).data(&place.data()).ok();
}

#[test]
fn a_list_has_an_object_for_each_group_that_gave_up() {
    let place = Place::new();
    place.import(EVENT);
    assert_eq!(
        tidings(["dlq", "ls", "-o", "json"])
            .data(&place.data())
            .ok()
            .stdout,
        "[]\n"
    );

    given_up(&place, "one");
    given_up(&place, "two");
    given_up(&place, "two");

    let rows = tidings(["dlq", "ls", "-o", "json"])
        .data(&place.data())
        .ok()
        .json();
    let groups: Vec<&Value> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["consumer"])
        .collect();
    assert_eq!(groups, ["one", "two"]);
    for name in [
        "event_id",
        "event_type",
        "aggregate_id",
        "consumer",
        "reason",
        "attempts",
        "status",
    ] {
        assert!(!rows[0][name].is_null(), "{name}: {rows}");
    }
    assert_eq!(
        tidings(["dlq", "ls", "--all", "-o", "json"])
            .data(&place.data())
            .ok()
            .json(),
        rows
    );
    assert!(
        tidings(["dlq", "ls"])
            .data(&place.data())
            .ok()
            .stdout
            .contains("order.placed")
    );
}

#[test]
fn showing_one_gives_attempts_and_the_raw_event() {
    let place = Place::new();
    place.import(EVENT);
    given_up(&place, "one");

    let shown = tidings(["dlq", "show", "evt-1", "-o", "json"])
        .data(&place.data())
        .ok();

    assert!(
        shown.stdout.contains(EVENT),
        "the raw event is there to the letter: {}",
        shown.stdout
    );
    assert!(
        shown.json()["history"]
            .as_array()
            .is_some_and(|history| history.len() == 1),
        "{}",
        shown.stdout
    );
    let missing = tidings(["dlq", "show", "evt-9"]).data(&place.data()).run();
    assert_eq!(missing.code, Some(3));
}

#[test]
fn a_dead_letter_tells_which_version_of_the_code_gave_it_up() {
    let place = Place::new();
    place.import(EVENT);
    let run = |group: &str| {
        tidings(["consumer", "run", group, "--type", "order.*", "--until-end"])
            .arguments(["--exec", "false"])
            .data(&place.data())
    };
    run("flag").arguments(["--code-version", "1.4.2"]).ok();
    run("variable")
        .variable("TIDINGS_CODE_VERSION", "54b67e")
        .ok();
    run("silent").ok();

    for (group, version) in [("flag", "1.4.2"), ("variable", "54b67e"), ("silent", "")] {
        let shown = tidings(["dlq", "show", "evt-1", "--consumer", group, "-o", "json"])
            .data(&place.data())
            .ok();
        assert_eq!(shown.json()["code_version"], version, "{group}");
    }
}

#[test]
fn internal_facts_are_shown_only_to_those_who_ask() {
    let place = Place::new();
    place.import(EVENT);
    given_up(&place, "one");
    let count = |arguments: &[&str]| {
        tidings([&["event", "count"], arguments].concat())
            .data(&place.data())
            .ok()
            .stdout
    };

    until("the fact is in the log", || {
        // What a process could not carry when it ended, the next one does that works on the folder.
        place.import("");
        count(&["--internal"]) == "2\n"
    });
    assert_eq!(count(&[]), "1\n");
    assert_eq!(count(&["--type", "tidings.**"]), "1\n");
    assert_eq!(count(&["--type", "**"]), "1\n");
}

//! `consumer run` with a schedule: what fails is tried later, its key waits, and a SIGKILL at any moment loses nothing and breaks no order.

use crate::command::{Place, Tidings, tidings, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Notes each attempt and each success; what it does is said by the first word of the event's id.
const HANDLER: &str = r#"cat > /dev/null
echo "$TIDINGS_EVENT_ID $TIDINGS_ATTEMPT" >> "$1.attempts"
case "$TIDINGS_EVENT_ID" in
  bad-*) [ "$TIDINGS_ATTEMPT" -gt 3 ] || exit 75 ;;
  never-*) exit 75 ;;
  down-*) [ ! -e "$1.down" ] || exit 75 ;;
  slow-*) while [ ! -e "$1.go" ]; do sleep 0.02; done ;;
esac
echo "$TIDINGS_EVENT_ID" >> "$1"
echo "$TIDINGS_EVENT_ID done" >> "$1.attempts"
"#;

fn run(place: &Place, more: &[&str]) -> Tidings {
    let script = place.write("handler.sh", HANDLER);
    let done = place.file("done");
    let command = format!("sh {} {}", script.display(), done.display());
    let arguments = [
        "consumer", "run", "later", "--type", "**", "--exec", &command,
    ];
    tidings([&arguments[..], more].concat()).data(&place.data())
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn event(id: &str, key: &str) -> String {
    format!(
        "{{\"event_id\":\"{id}\",\"event_type\":\"order.placed\",\"aggregate_id\":\"{key}\",\"source\":\"shop\",\"payload\":{{}}}}\n"
    )
}

/// First occurrences, in order: a kill between an effect and its settlement brings an event again.
fn firsts(path: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    for line in lines(path) {
        if !seen.contains(&line) {
            seen.push(line);
        }
    }
    seen
}

#[test]
fn kills_at_any_moment_neither_lose_nor_reorder_what_waits_for_a_later_attempt() {
    let place = Place::new();
    let mut expected: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut text = String::new();
    for number in 0..8 {
        for key in ["a", "b", "c"] {
            let kind = if number % 4 == 1 { "bad" } else { "good" };
            let id = format!("{kind}-{key}-{number}");
            text += &event(&id, key);
            expected.entry(key).or_default().push(id);
        }
    }
    place.import(&text);
    let done = place.file("done");
    let attempts = place.file("done.attempts");
    let flags = [
        "--attempts",
        "2",
        "--later",
        "100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms",
        "--until-end",
    ];

    // Killed where it happens to be when so many attempts have begun.
    for begun in [2, 7, 15, 22] {
        let mut running = run(&place, &flags).start();
        until("a part is tried", || {
            lines(&attempts).len() >= begun || running.has_ended()
        });
        running.kill();
    }
    run(&place, &flags).ok();

    let firsts = firsts(&done);
    for (key, ids) in expected {
        let mine: Vec<&String> = firsts
            .iter()
            .filter(|id| id.contains(&format!("-{key}-")))
            .collect();
        assert_eq!(mine, ids.iter().collect::<Vec<_>>(), "{firsts:?}");
    }
    no_count_goes_back(&lines(&attempts));
}

/// Checks that no attempt at an event is lower than one before it, unless the event was handled by then: a kill between an effect and its settlement lets it begin anew.
fn no_count_goes_back(attempts: &[String]) {
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for line in attempts {
        // A kill may cut a line.
        let Some((id, word)) = line.split_once(' ') else {
            continue;
        };
        if word == "done" {
            last.remove(id);
        } else if let Ok(attempt) = word.parse() {
            let before = last.insert(id, attempt).unwrap_or(0);
            assert!(attempt >= before, "{id}: {before}, then {attempt}");
        }
    }
}

#[test]
fn an_event_given_up_holds_its_key_and_the_others_go_on() {
    let place = Place::new();
    place.import(&(event("never-a-1", "a") + &event("good-a-2", "a") + &event("good-b-1", "b")));

    let answer = run(&place, &["--attempts", "2", "--until-end", "-o", "json"]).ok();

    assert_eq!(lines(&place.file("done")), ["good-b-1"]);
    let summary: Value = answer.json();
    assert_eq!(
        (
            &summary["dead_lettered"],
            &summary["parked"],
            &summary["held_keys"]
        ),
        (&Value::from(1), &Value::from(2), &Value::from(1)),
        "{summary}"
    );
    // With the other policy the same group goes on behind what comes now.
    place.import(&(event("never-c-1", "c") + &event("good-c-2", "c")));
    run(
        &place,
        &["--attempts", "2", "--until-end", "--on-failure", "continue"],
    )
    .ok();
    assert_eq!(lines(&place.file("done")), ["good-b-1", "good-c-2"]);
}

/// The letters in the store of a group, by their ids, and how they stand there.
fn waiting(place: &Place) -> Vec<(String, String)> {
    let listed = tidings(["retry", "ls", "-o", "json"]).data(&place.data());
    let word = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = listed.ok().json();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (word(row, "event_id"), word(row, "state")))
        .collect()
}

#[test]
fn a_group_stops_when_more_is_parked_than_may_be_of_it_or_of_a_key() {
    let put_off = ["--attempts", "1", "--later", "1h"];
    for (flag, keys, said) in [
        (
            "--parked-max",
            ["a", "b", "c", "d"],
            "4 of its events are parked, more than the 3 that may be",
        ),
        (
            "--parked-of-key-max",
            ["a"; 4],
            "4 events of one key are parked, more than the 3 that may be",
        ),
    ] {
        let place = Place::new();
        let events = keys.iter().enumerate();
        let events = events.map(|(number, key)| event(&format!("never-{key}-{number}"), key));
        place.import(&events.collect::<String>());

        let answer = run(&place, &[&put_off[..], &[flag, "3"]].concat()).run();

        assert_ne!(answer.code, Some(0), "{}", answer.stderr);
        assert!(answer.stderr.contains(said), "{}", answer.stderr);
        assert!(answer.stderr.contains("TD0120"), "{}", answer.stderr);
        assert!(
            answer.stderr.contains(flag),
            "the way out: {}",
            answer.stderr
        );
        assert_eq!(waiting(&place).len(), 4, "nothing is lost");
    }
}

#[test]
fn what_waits_is_retried_now_or_passed_over_and_its_key_goes_on() {
    let place = Place::new();
    let done = place.file("done");
    let down = place.write("done.down", "");
    place.import(&(event("down-a-1", "a") + &event("never-b-1", "b") + &event("good-b-2", "b")));
    let _running = run(&place, &["--attempts", "1", "--later", "1h"]).start();
    let state = |id: &str, state: &str| (id.to_owned(), state.to_owned());
    until("everything is parked", || waiting(&place).len() == 3);
    assert!(waiting(&place).contains(&state("good-b-2", "behind")));
    std::fs::remove_file(down).unwrap();

    let decide = |arguments: &[&str]| {
        let answer = tidings(arguments).arguments(["-o", "json"]);
        answer.data(&place.data()).ok().json()
    };
    let retried = decide(&["retry", "now", "down-a-1"]);
    assert_eq!(retried["retried"], 1, "{retried}");
    until("it is retried", || lines(&done) == ["down-a-1"]);
    until("its row is gone", || waiting(&place).len() == 2);

    let skip = ["consumer", "skip", "later", "never-b-1"];
    let silent = tidings(skip).data(&place.data()).run();
    assert_eq!(silent.code, Some(2), "{}", silent.stderr);
    assert!(silent.stderr.contains("--reason"), "{}", silent.stderr);
    assert_eq!(waiting(&place).len(), 2, "nothing changed");
    let skipped = decide(&[&skip[..], &["--reason", "a test order"]].concat());
    assert_eq!(skipped["skipped"], true, "{skipped}");
    until("its key goes on", || {
        lines(&done) == ["down-a-1", "good-b-2"]
    });
    until("nothing waits", || waiting(&place).is_empty());
}

#[test]
fn an_event_that_is_skipped_ahead_of_a_running_group_is_not_handled() {
    let place = Place::new();
    let done = place.file("done");
    place.import(&(event("slow-a-1", "a") + &event("good-a-2", "a") + &event("good-a-3", "a")));
    let running = run(&place, &[]).start();
    until("the first is being handled", || {
        !lines(&place.file("done.attempts")).is_empty()
    });

    let skip = [
        "consumer", "skip", "later", "good-a-2", "--reason", "a test",
    ];
    tidings(skip).data(&place.data()).ok();
    running.heard("passed over  good-a-2");
    place.write("done.go", "");

    until("the rest is handled", || lines(&done).len() == 2);
    assert_eq!(lines(&done), ["slow-a-1", "good-a-3"]);
}

#[test]
fn a_rate_spreads_handlings_over_the_time() {
    let place = Place::new();
    let events = (0..11).map(|number| event(&format!("good-{number}-1"), &number.to_string()));
    place.import(&events.collect::<String>());
    let began = std::time::Instant::now();

    run(&place, &["--rate", "10/s", "--until-end"]).ok();

    assert_eq!(lines(&place.file("done")).len(), 11);
    // One at once, the others one each 100 ms.
    let took = began.elapsed();
    assert!(took >= std::time::Duration::from_secs(1), "{took:?}");
}

//! What the person on call decides about dead letters: once, resumable after a kill, beside a running owner, with who and why.

use crate::command::{Place, is_quick, tidings, until};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

/// A message as Watermill's poison queue has it.
fn poisoned(number: u64, group: &str) -> String {
    let payload = format!(r#"{{"order_id":"order-{number}","total":59.980}}"#);
    json!({
        "topic": "orders.poison", "partition": 0, "offset": number,
        "headers": {
            "reason_poisoned": format!("no stock of PROD-{number}"),
            "handler_poisoned": group,
            "ce_specversion": "1.0", "ce_id": format!("evt-{number}"), "ce_type": "order.placed.v2",
            "ce_source": "shop", "ce_subject": format!("order-{}", number % 100),
            "content-type": "application/json",
        },
        "payload": payload,
    })
    .to_string()
}

/// A folder whose store has so many dead letters of one group.
fn dead(place: &Place, count: u64) {
    // The folder exists.
    place.import("");
    let mut lines = String::new();
    for number in 0..count {
        writeln!(lines, "{}", poisoned(number, "shipping")).unwrap();
    }
    let imported = tidings(["dlq", "import", "-", "-o", "json"])
        .data(&place.data())
        .input(lines)
        .ok()
        .json();
    assert_eq!(imported["imported"], count, "{imported}");
}

fn dlq(place: &Place, arguments: &[&str]) -> Value {
    let arguments = [&["dlq"], arguments, &["-o", "json"]].concat();
    tidings(arguments).data(&place.data()).ok().json()
}

fn waiting(place: &Place) -> Vec<String> {
    let listed = tidings(["retry", "ls", "-o", "jsonl"])
        .data(&place.data())
        .ok();
    let rows = listed.lines().into_iter().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["event_id"].as_str().unwrap().to_owned()
    });
    rows.collect()
}

fn facts(place: &Place) -> Value {
    let file = format!("sqlite://{}/state.db", place.data().display());
    let status = tidings(["outbox", "status", "-o", "json", "--from", &file]).ok();
    status.json()["unsent"].clone()
}

#[test]
fn a_letter_is_redriven_once_for_the_group_that_is_named() {
    let place = Place::new();
    place.import(r#"{"event_id":"evt-1","event_type":"order.placed","aggregate_id":"order-1","payload":{"total": 59.980}}"#);
    for group in ["one", "two"] {
        let run = [
            "consumer",
            "run",
            group,
            "--type",
            "order.*",
            "--exec",
            "false",
            "--until-end",
        ];
        tidings(run).data(&place.data()).ok();
    }
    let planned = dlq(&place, &["redrive", "--consumer", "one", "--dry-run"]);
    assert_eq!(
        (&planned["selected"], &planned["would_redrive"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(planned["skipped"], json!([]));
    assert_eq!(
        dlq(&place, &["ls"]).as_array().unwrap().len(),
        2,
        "nothing changed"
    );

    let done = dlq(
        &place,
        &[
            "redrive",
            "evt-1",
            "--consumer",
            "one",
            "--reason",
            "INC-1",
            "--actor",
            "anna",
        ],
    );
    let again = dlq(&place, &["redrive", "evt-1", "--consumer", "one"]);

    assert_eq!(
        (&done["selected"], &done["redriven"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&again["selected"], &again["redriven"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(again["skipped"][0]["count"], 1);
    let reason = again["skipped"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("redriven already"), "{reason}");
    let shown = dlq(&place, &["show", "evt-1", "--consumer", "one"]);
    assert_eq!(
        (&shown["status"], &shown["redrives"]),
        (&json!("redriven"), &json!(1))
    );
    let action = shown["actions"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&action["action"], &action["actor"], &action["reason"]),
        (&json!("redrive"), &json!("anna"), &json!("INC-1"))
    );
    let other = dlq(&place, &["show", "evt-1", "--consumer", "two"]);
    assert_eq!(
        (&other["status"], &other["redrives"]),
        (&json!("open"), &json!(0))
    );
    let none = tidings(["dlq", "redrive", "--consumer", "nobody", "-o", "json"])
        .data(&place.data())
        .run();
    assert_eq!(none.code, Some(3), "{}", none.stderr);
    assert_eq!(none.json()["selected"], 0);
    let vague = tidings(["dlq", "redrive"]).data(&place.data()).run();
    assert_eq!(vague.code, Some(2), "{}", vague.stderr);
}

/// A fact with the whole event in it, as a group without a store put it on the log.
const FACT: &str = r#"{"event_id":"fact-1","event_type":"tidings.dead_letter.recorded","aggregate_id":"order-1","timestamp":"2024-01-15T10:30:00Z","version":1,"source":"one","correlation_id":"flow-1","causation_id":"evt-1","payload":{"event_id":"evt-1","event_type":"order.placed","aggregate_id":"order-1","consumer":"one","handler":"ship","reason":"no stock","reasons":["no stock","shelf 7 is empty"],"attempts":3,"history":[{"attempt":3,"at":"2024-01-15T10:29:59Z","error":"no stock"}],"first_failed_at":"2024-01-15T10:29:58Z","position":4711,"death":0,"status":"open","envelope":{"event_id":"evt-1","event_type":"order.placed","aggregate_id":"order-1","correlation_id":"flow-1","payload":{"total": 59.980}}}}"#;

#[test]
fn what_an_earlier_version_put_on_the_log_is_taken_over_and_redriven_once() {
    let place = Place::new();
    place.import(FACT);

    let listed = dlq(&place, &["ls"]);

    let letter = &listed[0];
    assert_eq!(
        (&letter["event_id"], &letter["consumer"]),
        (&json!("evt-1"), &json!("one"))
    );
    assert_eq!(
        (&letter["attempts"], &letter["position"]),
        (&json!(3), &json!(4_711))
    );
    let shown = tidings(["dlq", "show", "evt-1", "-o", "json"]).data(&place.data());
    let shown = shown.ok();
    assert!(
        shown.stdout.contains("59.980"),
        "to the letter: {}",
        shown.stdout
    );
    let shown = shown.json();
    assert_eq!(shown["reasons"], json!(["no stock", "shelf 7 is empty"]));
    assert_eq!(shown["actions"][0]["action"], "take_over");
    assert_eq!(dlq(&place, &["redrive", "evt-1"])["redriven"], 1);
    assert_eq!(waiting(&place), ["evt-1"]);
    // The fact is still on the log: it is not taken over again.
    assert_eq!(dlq(&place, &["redrive", "--all"])["redriven"], 0);
    assert_eq!(dlq(&place, &["stats"])[0]["count"], 1);
}

#[test]
fn a_redrive_that_is_killed_goes_on_and_hands_nothing_back_twice() {
    let place = Place::new();
    let count = if is_quick() { 2_000 } else { 8_000 };
    dead(&place, count);
    // Slow enough that each kill hits it midway.
    let redrive = ["dlq", "redrive", "--all", "--rate", "200/s"];
    for _ in 0..3 {
        let before = waiting(&place).len();
        let mut running = tidings(redrive).data(&place.data()).start();
        until("it has handed something back", || {
            waiting(&place).len() > before
        });
        assert!(!running.has_ended(), "{}", running.said());
        running.kill();
    }

    let planned = dlq(&place, &["redrive", "--consumer", "shipping", "--dry-run"]);
    let left = planned["would_redrive"].as_u64().unwrap();
    assert!((1..count).contains(&left), "{left} of {count} are left");
    let last = dlq(&place, &["redrive", "--consumer", "shipping"]);

    assert_eq!(last["redriven"], left, "what was planned is what happens");
    let mut events = waiting(&place);
    assert_eq!(events.len() as u64, count);
    events.sort();
    events.dedup();
    assert_eq!(events.len() as u64, count, "each once");
    assert_eq!(facts(&place), count, "each is stated once");
    let stats = dlq(&place, &["stats"]);
    assert_eq!(stats[0]["count"], count);
    assert_eq!(stats[0]["status"], "redriven");
}

/// A handler by `--pipe` that writes down each event before it takes it.
const NOTING: &str = r#"
import json, sys
out = open(sys.argv[1], "a", buffering=1)
for line in sys.stdin:
    event_id = json.loads(line)["event_id"]
    out.write(event_id + "\n")
    print(json.dumps({"event_id": event_id, "outcome": "ack"}), flush=True)
"#;

#[test]
fn a_redrive_and_its_group_that_are_killed_together_lose_nothing_and_repeat_only_what_was_under_way()
 {
    let place = Place::new();
    let count = if is_quick() { 3_000 } else { 6_000 };
    dead(&place, count);
    let script = place.write("handler.py", NOTING);
    let file = place.file("handled");
    let handler = format!("python3 {} {}", script.display(), file.display());
    let group = ["consumer", "run", "shipping", "--type", "order.*", "--pipe"];
    let group = [&group[..], &[&handler]].concat();
    let handled = || -> Vec<String> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    // What was handed back and not done with when both were killed, at each kill.
    let mut under_way: Vec<HashSet<String>> = Vec::new();
    for _ in 0..3 {
        let before = handled().len();
        let working = tidings(&group).data(&place.data()).start();
        // Slow enough that each kill hits it midway.
        let redrive = ["dlq", "redrive", "--all", "--rate", "40/s"];
        let mut redriving = tidings(redrive).data(&place.data()).start();
        until("some are handled", || handled().len() >= before + 30);
        assert!(!redriving.has_ended(), "{}", redriving.said());
        working.kill();
        redriving.kill();
        under_way.push(waiting(&place).into_iter().collect());
    }
    let killed = handled().len();
    assert!(
        (90..count as usize).contains(&killed),
        "{killed} of {count}"
    );

    dlq(&place, &["redrive", "--consumer", "shipping"]);
    tidings(&group)
        .arguments(["--until-end"])
        .data(&place.data())
        .ok();

    let mut times: HashMap<String, usize> = HashMap::new();
    for event in handled() {
        *times.entry(event).or_default() += 1;
    }
    assert_eq!(times.len() as u64, count, "each is handled");
    for (event, times) in times {
        let cut = under_way.iter().filter(|it| it.contains(&event)).count();
        assert!(
            times <= 1 + cut,
            "{event} was handled {times} times, and cut off {cut} times"
        );
    }
    assert_eq!(waiting(&place), [""; 0]);
    let stats = dlq(&place, &["stats"]);
    assert_eq!(stats[0]["count"], count);
    assert_eq!(stats[0]["status"], "resolved");
}

#[test]
fn a_limit_leaves_the_rest() {
    let place = Place::new();
    dead(&place, 30);

    let planned = dlq(&place, &["redrive", "--all", "--limit", "7", "--dry-run"]);
    let done = dlq(&place, &["redrive", "--all", "--limit", "7"]);

    assert_eq!(
        (&planned["selected"], &planned["would_redrive"]),
        (&json!(30), &json!(7))
    );
    assert_eq!(
        planned["skipped"],
        json!([{"reason": "beyond the limit", "count": 23}])
    );
    assert_eq!(
        (&done["selected"], &done["redriven"]),
        (&json!(30), &json!(7))
    );
    assert_eq!(done["skipped"], planned["skipped"]);
    assert_eq!(waiting(&place).len(), 7);
    assert_eq!(waiting(&place)[0], "evt-0", "the oldest first");
}

#[test]
fn a_discard_says_why_and_an_edit_keeps_both() {
    let place = Place::new();
    dead(&place, 3);
    let silent = tidings(["dlq", "discard", "evt-0"])
        .data(&place.data())
        .run();
    assert_eq!(silent.code, Some(2), "{}", silent.stderr);
    let unasked = [
        "dlq",
        "discard",
        "--consumer",
        "shipping",
        "--reason",
        "old",
    ];
    let unasked = tidings(unasked).data(&place.data()).run();
    assert_eq!(unasked.code, Some(2), "{}", unasked.stderr);

    let done = dlq(&place, &["discard", "evt-0", "--reason", "a test order"]);
    let planned = dlq(
        &place,
        &["edit", "evt-1", "--set", "/total=60.50", "--dry-run"],
    );
    let edited = dlq(
        &place,
        &[
            "edit",
            "evt-1",
            "--set",
            "/total=60.50",
            "--reason",
            "a wrong price",
        ],
    );

    assert_eq!(
        (&done["selected"], &done["discarded"]),
        (&json!(1), &json!(1))
    );
    let diff = json!(["-   \"total\": 59.980", "+   \"total\": 60.50"]);
    assert_eq!((&planned["diff"], &planned["copy"]), (&diff, &Value::Null));
    assert_eq!(edited["diff"], diff);
    let copy = edited["copy"].as_str().unwrap();
    assert_ne!(copy, "evt-1");
    let shown = tidings(["dlq", "show", "evt-1", "-o", "json"])
        .data(&place.data())
        .ok();
    assert!(
        shown.stdout.contains("59.980") && shown.stdout.contains("60.50"),
        "{}",
        shown.stdout
    );
    let shown = shown.json();
    assert_eq!(shown["status"], "edited");
    assert_eq!(shown["copy"]["event_id"], copy);
    assert_eq!(shown["copy"]["causation_id"], "evt-1");
    assert_eq!(shown["copy"]["editedfrom"], "evt-1");
    assert_eq!(waiting(&place), [copy]);
    let late = ["dlq", "edit", "evt-0", "--set", "/total=1", "--reason", "x"];
    let late = tidings(late).data(&place.data()).run();
    assert_eq!(late.code, Some(5), "{}", late.stderr);
    let exported = tidings(["dlq", "export"]).data(&place.data()).ok();
    let exported: Value = serde_json::from_str(exported.lines()[0]).unwrap();
    assert_eq!(
        (&exported["event_id"], &exported["tdgconsumer"]),
        (&json!("evt-2"), &json!("shipping"))
    );
}

#[test]
fn clusters_are_what_a_person_sees_first() {
    let place = Place::new();
    dead(&place, 5);

    let clusters = dlq(&place, &[]);

    assert_eq!(
        clusters.as_array().unwrap().len(),
        1,
        "numbers do not count: {clusters}"
    );
    assert_eq!(
        (&clusters[0]["count"], &clusters[0]["consumer"]),
        (&json!(5), &json!("shipping"))
    );
    let name = clusters[0]["cluster"].as_str().unwrap();
    let table = tidings(["dlq"]).data(&place.data()).ok();
    assert!(
        table.stdout.contains(name) && table.stdout.contains("REDRIVEN"),
        "{}",
        table.stdout
    );
    assert_eq!(dlq(&place, &["show", name])[0]["cluster"], name);
    assert_eq!(
        dlq(&place, &["redrive", name, "--limit", "1"])["redriven"],
        1
    );
    assert_eq!(dlq(&place, &[])[0]["redriven"], 1);
    assert_eq!(
        dlq(&place, &["redrive", "--type", "order.*", "--dry-run"])["would_redrive"],
        4
    );
    assert_eq!(
        dlq(&place, &["ls", "--key", "order-3"])[0]["event_id"],
        "evt-3"
    );
}

#[test]
fn a_redrive_of_which_too_many_die_again_ends_with_an_exit_code_of_its_own() {
    let place = Place::new();
    dead(&place, 5);
    let group = ["consumer", "run", "shipping", "--type", "order.*"];
    let _failing = tidings(group)
        .arguments(["--exec", "false"])
        .data(&place.data())
        .start();
    until("the group runs", || {
        let groups = tidings(["consumer", "ls", "-o", "json"])
            .data(&place.data())
            .run();
        groups.code == Some(0) && groups.json()[0]["status"] == "running"
    });

    let redrive = ["dlq", "redrive", "--all", "--max-failure-ratio", "0.5"];
    let stopped = tidings(redrive)
        .arguments(["-o", "json"])
        .data(&place.data())
        .run();

    assert_eq!(stopped.code, Some(4), "{stopped:?}");
    assert!(stopped.stderr.contains("TD0133"), "{}", stopped.stderr);
    let report = stopped.json();
    let why = report["aborted"].as_str().unwrap_or_default();
    assert!(why.contains("failed again"), "{report}");
    assert_eq!(report["handled"], 0, "{report}");
    assert!(report["failed_again"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_person_decides_beside_a_running_owner() {
    let place = Place::new();
    dead(&place, 2);
    let group = [
        "consumer", "run", "mailer", "--type", "mail.*", "--exec", "true",
    ];
    let owner = tidings(group).data(&place.data()).start();
    until("the folder has an owner", || {
        let named = tidings(["consumer", "ls", "-o", "json"])
            .data(&place.data())
            .run();
        named.code == Some(0) && named.json()[0]["status"] == "running"
    });

    assert_eq!(dlq(&place, &["redrive", "evt-0"])["redriven"], 1);
    let decide = |arguments: &[&str]| {
        let arguments = [arguments, &["-o", "json"]].concat();
        tidings(arguments).data(&place.data()).ok().json()
    };
    let paused = decide(&["consumer", "pause", "shipping", "--reason", "INC-1"]);
    assert_eq!(
        (&paused["paused"], &paused["changed"]),
        (&json!(true), &json!(true))
    );
    let resumed = decide(&["consumer", "resume", "shipping"]);
    assert_eq!(
        (&resumed["paused"], &resumed["changed"]),
        (&json!(false), &json!(true))
    );
    let skipped = decide(&[
        "consumer",
        "skip",
        "shipping",
        "evt-1",
        "--reason",
        "a test order",
    ]);
    assert_eq!(skipped["skipped"], true);
    assert_eq!(dlq(&place, &["show", "evt-1"])["status"], "discarded");
    assert_eq!(decide(&["retry", "now"])["retried"], 0);
    until("the owner has carried the facts into the log", || {
        let count = [
            "event",
            "count",
            "--type",
            "tidings.dead_letter.*",
            "-o",
            "json",
        ];
        let counted = tidings(count).data(&place.data()).ok();
        counted.stdout.contains('2')
    });
    drop(owner);
}

#[test]
fn a_discard_that_is_only_tried_says_what_it_would_do_and_changes_nothing() {
    let place = Place::new();
    dead(&place, 3);
    assert_eq!(dlq(&place, &["redrive", "evt-2"])["redriven"], 1);

    let planned = dlq(&place, &["discard", "--consumer", "shipping", "--dry-run"]);
    let forced = dlq(&place, &["discard", "--all", "--force", "--dry-run"]);

    assert_eq!(
        (&planned["selected"], &planned["would_discard"]),
        (&json!(3), &json!(2))
    );
    let skipped = json!([{"reason": "redriven already, and not handled yet", "count": 1}]);
    assert_eq!(planned["skipped"], skipped);
    assert_eq!(planned["discarded"], Value::Null);
    assert_eq!(forced["would_discard"], 3);
    assert_eq!(
        dlq(&place, &["ls", "--status", "open"])
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let done = [
        "discard",
        "--consumer",
        "shipping",
        "--yes",
        "--reason",
        "old",
    ];
    let done = dlq(&place, &done);
    assert_eq!(
        (&done["selected"], &done["discarded"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(done["skipped"], skipped);
}

#[test]
fn an_edit_that_does_not_say_why_is_refused() {
    let place = Place::new();
    dead(&place, 1);

    let silent = ["dlq", "edit", "evt-0", "--set", "/total=1"];
    let silent = tidings(silent).data(&place.data()).run();

    assert_eq!(silent.code, Some(2), "{}", silent.stderr);
    assert!(silent.stderr.contains("--reason"), "{}", silent.stderr);
    assert_eq!(dlq(&place, &["show", "evt-0"])["status"], "open");
}

#[test]
fn dead_letters_are_exported_as_cloudevents() {
    let place = Place::new();
    dead(&place, 2);

    let exported = tidings(["dlq", "export", "--cloudevents"]).data(&place.data());

    let exported = exported.ok();
    let events = exported.lines().into_iter();
    let events: Vec<Value> = events
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 2);
    let event = &events[0];
    assert_eq!(
        (&event["specversion"], &event["id"]),
        (&json!("1.0"), &json!("evt-0"))
    );
    assert_eq!(
        (&event["type"], &event["source"]),
        (&json!("order.placed.v2"), &json!("shop"))
    );
    assert_eq!(event["data"]["order_id"], "order-0");
    assert_eq!(event["tdgconsumer"], "shipping");
    assert_eq!(event["tdgerror"], "no stock of PROD-0");
}

//! `tidings schedule`: events that are published later by whoever owns the folder, killed or not.

use crate::command::{Answer, Place, Running, tidings, until};
use serde_json::Value;

/// A process that owns the folder and does nothing else of interest.
fn owner(place: &Place) -> Running {
    let running = tidings([
        "consumer", "run", "g", "--type", "never.*", "--exec", "true",
    ])
    .data(&place.data())
    .start();
    until("the owner is there", || {
        let groups = tidings(["consumer", "ls", "-o", "json"])
            .data(&place.data())
            .run();
        groups.code == Some(0) && groups.stdout.contains("running")
    });
    running
}

fn schedule(place: &Place, arguments: &[&str]) -> Answer {
    tidings(["schedule"])
        .arguments(arguments)
        .argument("--data")
        .argument(place.data())
        .run()
}

fn scheduled(place: &Place) -> Vec<Value> {
    let listed = schedule(place, &["ls", "-o", "json"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    listed.json().as_array().unwrap().clone()
}

fn published(place: &Place, event_type: &str) -> Vec<Value> {
    tidings(["event", "ls", "--type", event_type, "-o", "json"])
        .data(&place.data())
        .ok()
        .json()
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn what_is_scheduled_fires_once_although_its_owner_is_killed() {
    let place = Place::new();
    let added = schedule(
        &place,
        &[
            "add",
            "payment.fell_due",
            "--key",
            "order-1",
            "--payload",
            "{\"n\": 1.50}",
            "--in",
            "3s",
            "-o",
            "json",
        ],
    );
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let name = added.json()["name"].as_str().unwrap().to_owned();
    let due = added.json()["due"].as_str().unwrap().to_owned();
    owner(&place).kill();
    let later = schedule(
        &place,
        &["add", "order.expired", "--name", "later", "--in", "1h"],
    );
    assert_eq!(later.code, Some(0), "{}", later.stderr);

    let first = owner(&place);
    until("it is fired", || scheduled(&place).len() == 1);
    first.kill();
    let second = owner(&place);
    until("it is published", || {
        !published(&place, "payment.fell_due").is_empty()
    });
    second.kill();
    let third = owner(&place);
    let events = published(&place, "payment.fell_due");
    third.kill();

    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["event_id"], name.as_str());
    assert_eq!(events[0]["scheduledtime"], due.as_str());
    assert!(
        events[0]["timestamp"].as_str().unwrap() >= due.as_str(),
        "early: {events:?}"
    );
    assert_eq!(scheduled(&place)[0]["name"], "later");
}

#[test]
fn what_waits_is_shown_moved_and_cancelled_beside_its_owner() {
    let place = Place::new();
    let running = owner(&place);
    let every = [
        "add",
        "report.fell_due",
        "--name",
        "weekly",
        "--every",
        "0 9 * * MON",
        "--zone",
        "Europe/Berlin",
    ];
    assert_eq!(schedule(&place, &every).code, Some(0));
    let again = schedule(&place, &every);
    assert_eq!(again.code, Some(0));
    assert!(again.stderr.contains("stays as it is"), "{}", again.stderr);
    let once = [
        "add",
        "order.expired",
        "--name",
        "once",
        "--at",
        "2999-01-01T00:00:00Z",
    ];
    assert_eq!(schedule(&place, &once).code, Some(0));

    let rows = scheduled(&place);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[0]["name"], "once");
    assert_eq!(rows[0]["due"], "2999-01-01T00:00:00Z");
    assert_eq!(rows[1]["cron"], "0 9 * * MON");
    assert_eq!(rows[1]["time_zone"], "Europe/Berlin");

    assert_eq!(schedule(&place, &["cancel", "weekly"]).code, Some(0));
    assert_eq!(
        schedule(&place, &["move", "once", "--in", "0s"]).code,
        Some(0)
    );
    until("the owner has fired what was moved", || {
        published(&place, "order.expired").len() == 1
    });
    let gone = schedule(&place, &["cancel", "once"]);
    assert!(gone.stderr.contains("TD0141"), "{}", gone.stderr);
    assert!(published(&place, "report.fell_due").is_empty());
    running.kill();
}

#[test]
fn a_schedule_that_is_none_is_refused_and_nothing_is_made() {
    let place = Place::new();
    let wrong = schedule(&place, &["add", "a.happened", "--every", "61 * * * *"]);
    assert!(wrong.stderr.contains("TD0140"), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("61 * * * *"), "{}", wrong.stderr);
    let zone = [
        "add",
        "a.happened",
        "--every",
        "* * * * *",
        "--zone",
        "Mars/Base",
    ];
    let zone = schedule(&place, &zone);
    assert!(zone.stderr.contains("Mars/Base"), "{}", zone.stderr);
    assert!(!place.data().exists());

    let nowhere = schedule(&place, &["ls"]);
    assert!(nowhere.stderr.contains("TD0010"), "{}", nowhere.stderr);
    assert!(!place.data().exists());
}

#[test]
fn who_cancels_and_moves_is_kept_with_the_reason() {
    let place = Place::new();
    for name in ["one", "two"] {
        let add = ["add", "order.expired", "--name", name, "--in", "1h"];
        assert_eq!(schedule(&place, &add).code, Some(0));
    }
    let why = ["--reason", "INC-4711", "--actor", "ann"];

    let cancel = schedule(&place, &[&["cancel", "one"][..], &why].concat());
    assert_eq!(cancel.code, Some(0), "{}", cancel.stderr);
    let to = ["move", "two", "--at", "2999-01-01T00:00:00Z"];
    let moved = schedule(&place, &[&to[..], &why].concat());
    assert_eq!(moved.code, Some(0), "{}", moved.stderr);
    // What changes nothing is no action.
    assert_ne!(schedule(&place, &["cancel", "one"]).code, Some(0));

    let actions = tidings(["dlq", "actions", "-o", "json"]);
    let actions = actions.data(&place.data()).ok().json();
    let told = |action: &Value| {
        let words = ["action", "target", "actor", "reason"].map(|name| action[name].clone());
        words
            .map(|word| word.as_str().unwrap().to_owned())
            .join(" ")
    };
    let told: Vec<String> = actions.as_array().unwrap().iter().map(told).collect();
    let expected = [
        "schedule_cancel one ann INC-4711",
        "schedule_move two ann INC-4711",
    ];
    assert_eq!(told, expected);
    assert_eq!(actions[1]["detail"]["due"], "2999-01-01T00:00:00Z");
    assert!(actions[0]["consumer"].is_null(), "{actions}");
}

//! `tidings dlq actions`: what persons did to groups, with who and why.

use crate::command::{Place, tidings};
use serde_json::Value;

const WHY: [&str; 4] = ["--reason", "INC-4711", "--actor", "ann"];

fn actions(place: &Place, more: &[&str]) -> Vec<Value> {
    let actions = tidings(["dlq", "actions", "-o", "json"]).arguments(more);
    let actions = actions.data(&place.data()).ok().json();
    actions.as_array().unwrap().clone()
}

#[test]
fn what_persons_do_to_groups_is_kept_with_who_and_why() {
    let place = Place::new();
    place.import(r#"{"event_id":"first","event_type":"order.placed","aggregate_id":"k"}"#);
    let run = |group: &str, more: &[&str], said: &str| {
        let run = ["consumer", "run", group, "--type", "order.*"];
        let fails = ["--exec", "sh -c 'exit 75'", "--attempts", "1"];
        let command = tidings([&run[..], &fails, more].concat());
        let running = command.data(&place.data()).start();
        running.heard(said);
        running.kill();
    };
    run("bad", &["--later", "1h"], "later  first");
    run("other", &[], "dead letter  first");
    let decide = |arguments: &[&str]| {
        tidings(arguments).arguments(WHY).data(&place.data()).ok();
    };

    decide(&["retry", "now", "--consumer", "bad"]);
    decide(&["consumer", "pause", "bad"]);
    decide(&["consumer", "resume", "bad"]);
    decide(&["consumer", "reset", "bad", "--to", "earliest", "--yes"]);
    decide(&["dlq", "discard", "first", "--consumer", "other", "--yes"]);
    decide(&["consumer", "rm", "bad", "--yes"]);
    let dry = [
        "consumer",
        "reset",
        "other",
        "--to",
        "earliest",
        "--dry-run",
    ];
    decide(&dry);

    let all = actions(&place, &[]);
    let told = |action: &Value| {
        assert_eq!(action["actor"], "ann", "{action}");
        assert_eq!(action["reason"], "INC-4711", "{action}");
        let words = ["action", "consumer", "target"].map(|name| action[name].clone());
        words
            .map(|word| word.as_str().unwrap().to_owned())
            .join(" ")
    };
    let told: Vec<String> = all.iter().map(told).collect();
    let expected = [
        "retry_now bad first",
        "pause bad bad",
        "resume bad bad",
        "reset bad bad",
        "discard other first",
        "rm bad bad",
    ];
    assert_eq!(told, expected);
    assert_eq!(all[3]["detail"]["to"], 0, "{all:?}");
    let of_other = actions(&place, &["--consumer", "other"]);
    assert_eq!(of_other, [all[4].clone()]);
    let newest = actions(&place, &["-n", "2"]);
    assert_eq!(newest, all[4..]);
}

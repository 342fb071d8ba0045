//! Retention from the command line: a rule that stays with the folder, and what readers and groups are told.

use crate::command::{Place, tidings};
use tidings_testkit::loan_data;

const FIRST: &str = "{\"event_id\":\"first\",\"event_type\":\"order.placed\"}\n";

#[test]
fn a_rule_is_shown_set_and_kept_and_one_that_loses_events_needs_a_yes() {
    let place = Place::new();
    place.import(FIRST);
    let retention = |arguments: &[&str]| {
        tidings(["log", "retention", "-o", "json"].iter().chain(arguments)).data(&place.data())
    };

    let shown = retention(&[]).ok().json();
    assert!(shown["max_age_seconds"].is_null() && shown["max_bytes"].is_null());
    assert_eq!(
        (shown["held_by"].as_str(), shown["end"].as_u64()),
        (Some("all"), Some(1))
    );
    retention(&["--max-age", "30d", "--max-size", "1MiB"]).ok();
    let refused = retention(&["--held-by", "none"]).run();
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("will lose events"),
        "{}",
        refused.stderr
    );
    retention(&["--max-size", "none", "--abandoned-after", "2d"]).ok();

    let shown = retention(&[]).ok().json();

    assert_eq!(shown["max_age_seconds"], 2_592_000.0);
    assert!(shown["max_bytes"].is_null());
    assert_eq!(
        (
            shown["held_by"].as_str(),
            shown["abandoned_after_seconds"].as_f64()
        ),
        (Some("all"), Some(172_800.0))
    );
    let table = tidings(["log", "retention", "--off"])
        .data(&place.data())
        .ok();
    assert!(
        table.stdout.starts_with("keeps everything"),
        "{}",
        table.stdout
    );
}

#[test]
fn a_group_that_lost_events_and_a_reader_of_removed_ones_are_told_and_have_a_way_on() {
    let place = Place::new();
    let lines: Vec<String> = loan_data::lines(1_500).collect();
    place.import(FIRST);
    let group =
        |arguments: &[&str]| tidings(["consumer"].iter().chain(arguments)).data(&place.data());
    let handle = ["run", "g", "--type", "**", "--exec", "true", "--until-end"];
    group(&handle).ok();
    tidings([
        "log",
        "retention",
        "--max-size",
        "200kB",
        "--held-by",
        "none",
        "--yes",
    ])
    .data(&place.data())
    .ok();
    place.import(&(lines.join("\n") + "\n"));
    tidings(["emit", "order.placed"]).data(&place.data()).ok();
    let shown = tidings(["log", "retention", "-o", "json"])
        .data(&place.data())
        .ok()
        .json();
    let earliest = shown["earliest"].as_u64().unwrap();
    assert!(
        earliest > 1 && shown["bytes"].as_u64().unwrap() <= 300_000,
        "{shown}"
    );

    let lag = group(&["lag", "g", "-o", "json"]).ok();
    assert!(lag.stderr.contains("consumer reset g"), "{}", lag.stderr);
    assert_eq!(lag.json()[0]["lost"], earliest - 1);
    let export = tidings(["event", "export", "--since", "@1"])
        .data(&place.data())
        .run();
    assert_eq!(export.code, Some(1));
    assert!(
        export.stderr.contains("TD0008") && export.stderr.contains(&format!("start at {earliest}")),
        "{}",
        export.stderr
    );
    let kept = tidings(["event", "export"]).data(&place.data()).ok();
    assert_eq!(
        kept.lines().len() as u64,
        shown["end"].as_u64().unwrap() - earliest
    );
    let refused = group(&handle).run();
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("TD0064"), "{}", refused.stderr);

    group(&["reset", "g", "--to", "earliest", "--yes"]).ok();
    let position = group(&["ls", "-o", "json"]).ok().json()[0]["position"].clone();
    assert_eq!(position, earliest);
}

#[test]
fn a_group_that_is_about_to_lose_events_is_warned_before_it_does() {
    let place = Place::new();
    let lines: Vec<String> = loan_data::lines(300).collect();
    place.import(FIRST);
    let command = |arguments: &[&str]| tidings(arguments).data(&place.data());
    let handle = "consumer run g --type ** --exec true --until-end";
    command(&handle.split(' ').collect::<Vec<_>>()).ok();
    place.import(&(lines.join("\n") + "\n"));
    let lag = || command(&["consumer", "lag", "g", "-o", "json"]).ok();
    let quiet = lag();
    assert!(!quiet.stderr.contains("warning"), "{}", quiet.stderr);

    let shown = command(&["log", "retention", "-o", "json"]).ok().json();
    let bytes = shown["bytes"].as_u64().unwrap();
    // A tenth more than there is: what comes next may remove what the group has not handled.
    let size = format!("{}B", bytes + bytes / 10);
    let rule = [
        "log",
        "retention",
        "--held-by",
        "none",
        "--yes",
        "--max-size",
    ];
    command(&[&rule[..], &[&size]].concat()).ok();

    let warned = lag();
    assert!(
        warned
            .stderr
            .contains("warning: the group g stands at position 1")
            && warned.stderr.contains("more bytes"),
        "{}",
        warned.stderr
    );
    assert_eq!(warned.json()[0]["lost"], 0);
    assert_eq!(warned.json()[0]["loss"]["is_near"], true);
}

//! Events are copied between places, and `--url` names a place as `--data` does.

use crate::command::{Place, tidings};
use tidings_testkit::loan_data;

fn export(place: &Place) -> String {
    tidings(["event", "export"]).data(&place.data()).ok().stdout
}

fn url(place: &Place) -> String {
    format!("file://{}", place.data().display())
}

fn bridge(from: &Place, to: &Place) -> crate::command::Tidings {
    tidings([
        "bridge",
        "--from",
        &url(from),
        "--to",
        &url(to),
        "--until-end",
        "-o",
        "json",
    ])
}

#[test]
fn a_bridge_copies_everything_once_and_goes_on_where_it_was() {
    let (from, to) = (Place::new(), Place::new());
    let lines: Vec<String> = loan_data::lines(40).collect();
    let text = lines.join("\n") + "\n";
    from.import(&text);

    let answer = bridge(&from, &to).ok();
    let summary: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(summary["copied"], lines.len());
    assert_eq!(export(&to), text);

    tidings(["emit", "order.placed", "--key", "order-1"])
        .argument("--url")
        .argument(url(&from))
        .ok();
    let answer = bridge(&from, &to).ok();
    let summary: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(summary["copied"], 1);
    assert_eq!(export(&to), export(&from));
    let groups = tidings(["consumer", "ls", "-o", "json", "--url", &url(&from)]).ok();
    assert!(groups.stdout.contains("\"bridge\""), "{}", groups.stdout);
}

#[test]
fn a_bridge_to_itself_and_a_broker_that_is_none_are_refused() {
    let place = Place::new();
    let answer = bridge(&place, &place).run();
    assert_eq!(answer.code, Some(2), "{}", answer.stderr);
    assert!(answer.stderr.contains("for ever"), "{}", answer.stderr);

    for arguments in [
        vec!["tail", "--url", "redis://ann:secret@h"],
        vec![
            "relay",
            "run",
            "--from",
            "sqlite:///none",
            "--to",
            "redis://ann:secret@h",
        ],
        vec!["broker", "check", "--url", "redis://ann:secret@h"],
    ] {
        let answer = tidings(arguments).run();
        assert_eq!(answer.code, Some(2), "{}", answer.stderr);
        assert!(answer.stderr.contains("TD0100"), "{}", answer.stderr);
        assert!(answer.stderr.contains("kafka://"), "{}", answer.stderr);
        assert!(!answer.stderr.contains("secret"), "{}", answer.stderr);
    }
}

#[test]
fn a_folder_needs_no_topology() {
    let place = Place::new();
    place.import("");
    let answer = tidings(["broker", "check", "--url", &url(&place)]).ok();
    assert!(
        answer.stderr.contains("events can pass"),
        "{}",
        answer.stderr
    );
}

//! Readers beside the owner: each sees a prefix of the durable log, never more.

use crate::command::{Place, tidings, until};
use tidings_testkit::loan_data;

#[test]
fn while_one_process_imports_others_tail_and_export_a_prefix() {
    let place = Place::new();
    let lines: Vec<String> = loan_data::lines(1_500).collect();
    let file = place.write("events.jsonl", lines.join("\n") + "\n");
    place.import("{\"event_id\":\"first\",\"event_type\":\"t\"}\n");

    let mut tail = tidings(["tail", "--since", "@1", "-o", "jsonl"])
        .data(&place.data())
        .start();
    let mut import = tidings(["event", "import", "-o", "jsonl"])
        .argument(&file)
        .data(&place.data())
        .start();
    let mut acknowledged = 0;
    let mut exports = 0;
    while import.line().is_some() {
        acknowledged += 1;
        if acknowledged % 5_000 == 1 {
            let exported = tidings(["event", "export", "--since", "@1"])
                .data(&place.data())
                .ok();
            let exported = exported.lines();
            assert!(
                exported.len() >= acknowledged,
                "{} exported after {acknowledged} acks",
                exported.len()
            );
            assert!(
                exported.iter().zip(&lines).all(|(one, other)| one == other),
                "no prefix"
            );
            exports += 1;
        }
    }
    until("the import ends", || import.has_ended());

    assert_eq!((acknowledged, exports), (lines.len(), 6));
    for line in &lines {
        let shown = tail.line().unwrap();
        assert!(shown.starts_with(&line[..line.len() - 1]), "{shown}");
    }
}

#[test]
fn a_second_writer_is_refused_naming_the_owner_while_readers_are_served() {
    let place = Place::new();
    place.import("{\"event_id\":\"first\",\"event_type\":\"order.placed\"}\n");
    let running = tidings([
        "consumer", "run", "g", "--type", "order.*", "--exec", "true",
    ])
    .data(&place.data())
    .start();
    until("the group is there", || {
        tidings(["consumer", "ls", "-o", "json"])
            .data(&place.data())
            .ok()
            .json()[0]["status"]
            == "running"
    });

    for arguments in [
        &["emit", "order.placed"][..],
        &["event", "import", "-"],
        &[
            "consumer", "run", "h", "--type", "order.*", "--exec", "true",
        ],
        &["demo"],
    ] {
        let answer = tidings(arguments.iter().copied()).data(&place.data()).run();
        assert_eq!(answer.code, Some(5), "{arguments:?}: {}", answer.stderr);
        assert!(
            answer.stderr.contains("TD0001") && answer.stderr.contains(&running.id().to_string()),
            "{}",
            answer.stderr
        );
    }
    let reset = tidings(["consumer", "reset", "g", "--to", "earliest", "--yes"])
        .data(&place.data())
        .run();
    assert_eq!(reset.code, Some(5), "{}", reset.stderr);
    assert!(reset.stderr.contains("TD0030"), "{}", reset.stderr);
    assert_eq!(
        tidings(["event", "count"]).data(&place.data()).ok().stdout,
        "1\n"
    );
}

#[test]
fn a_group_is_moved_and_forgotten_once_nobody_works_for_it() {
    let place = Place::new();
    place.import(&(loan_data::lines(1).collect::<Vec<_>>().join("\n") + "\n"));
    let count = place.file("count");
    let handler = format!("sh -c 'echo x >> {}'", count.display());
    let run = || {
        tidings([
            "consumer",
            "run",
            "g",
            "--type",
            "offer.*",
            "--exec",
            &handler,
            "--until-end",
        ])
        .data(&place.data())
        .ok()
    };
    run();
    let handled = || std::fs::read_to_string(&count).unwrap().lines().count();
    assert_eq!(handled(), 5);

    let dry = tidings([
        "consumer",
        "reset",
        "g",
        "--to",
        "earliest",
        "--dry-run",
        "-o",
        "json",
    ])
    .data(&place.data())
    .ok()
    .json();
    assert_eq!(
        (dry["from"].as_u64(), dry["to"].as_u64()),
        (Some(20), Some(0))
    );
    assert_eq!(
        tidings(["consumer", "reset", "g", "--to", "earliest"])
            .data(&place.data())
            .run()
            .code,
        Some(2),
        "nobody can be asked"
    );
    tidings(["consumer", "reset", "g", "--to", "@14", "--yes"])
        .data(&place.data())
        .ok();
    run();
    assert_eq!(handled(), 7);

    tidings(["consumer", "rm", "g", "--yes"])
        .data(&place.data())
        .ok();
    assert_eq!(
        tidings(["consumer", "ls", "-o", "json"])
            .data(&place.data())
            .ok()
            .stdout,
        "[]\n"
    );
}

#[test]
fn lag_over_a_limit_is_an_exit_code() {
    let place = Place::new();
    place.import("{\"event_id\":\"a\",\"event_type\":\"order.placed\"}\n");
    tidings([
        "consumer",
        "run",
        "g",
        "--type",
        "order.*",
        "--exec",
        "true",
        "--until-end",
    ])
    .data(&place.data())
    .ok();
    place.import("{\"event_id\":\"b\",\"event_type\":\"order.placed\"}\n{\"event_id\":\"c\",\"event_type\":\"mail.sent\"}\n");

    let lag = tidings(["consumer", "lag", "g", "-o", "json"])
        .data(&place.data())
        .ok()
        .json();
    assert_eq!(lag[0]["lag_events"], 1, "only what the group wants counts");
    assert_eq!(
        tidings(["consumer", "lag", "--max", "1"])
            .data(&place.data())
            .run()
            .code,
        Some(0)
    );
    assert_eq!(
        tidings(["consumer", "lag", "--max", "0"])
            .data(&place.data())
            .run()
            .code,
        Some(4)
    );
    let unknown = tidings(["consumer", "lag", "h"]).data(&place.data()).run();
    assert_eq!(unknown.code, Some(3), "{}", unknown.stderr);
}

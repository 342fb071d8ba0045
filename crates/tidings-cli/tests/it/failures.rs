//! Bad input: what, which value, what to do; and nothing is lost.

use crate::command::{Place, tidings};
use std::os::unix::fs::PermissionsExt as _;

const EVENT: &str = "{\"event_id\":\"a\",\"event_type\":\"order.placed\"}\n";

#[test]
fn a_folder_that_is_not_there_is_told_and_not_made_by_reading() {
    let place = Place::new();

    for arguments in [
        &["event", "ls"][..],
        &["event", "count"],
        &["event", "export"],
        &["tail"],
        &["consumer", "ls"],
        &["dlq", "ls"],
        &["event", "get", "x"],
    ] {
        let answer = tidings(arguments.iter().copied()).data(&place.data()).run();
        assert_eq!(answer.code, Some(3), "{arguments:?}: {}", answer.stderr);
        assert!(
            answer.stderr.contains("TD0010")
                && answer.stderr.contains(place.data().to_str().unwrap()),
            "{}",
            answer.stderr
        );
    }
    assert!(!place.data().exists());
}

#[test]
fn a_folder_that_others_may_open_is_refused_with_the_command_that_helps() {
    let place = Place::new();
    place.import(EVENT);
    std::fs::set_permissions(place.data(), std::fs::Permissions::from_mode(0o755)).unwrap();

    let answer = tidings(["emit", "order.placed"]).data(&place.data()).run();

    assert_eq!(answer.code, Some(5), "{}", answer.stderr);
    assert!(
        answer
            .stderr
            .contains(&format!("chmod 700 {}", place.data().display())),
        "{}",
        answer.stderr
    );
    std::fs::set_permissions(place.data(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(
        tidings(["event", "count"]).data(&place.data()).ok().stdout,
        "1\n"
    );
}

#[test]
fn a_new_folder_is_private_and_an_empty_one_is_made_so() {
    let place = Place::new();
    std::fs::create_dir(place.data()).unwrap();
    std::fs::set_permissions(place.data(), std::fs::Permissions::from_mode(0o755)).unwrap();

    place.import(EVENT);

    let mode = std::fs::metadata(place.data())
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o700);
}

#[test]
fn a_folder_of_a_newer_format_is_refused_and_left_alone() {
    let place = Place::new();
    place.import(EVENT);
    let format = place.data().join("format");
    let known = std::fs::read_to_string(&format).unwrap();
    let newer = known.replace(|c: char| c.is_ascii_digit(), "9");
    std::fs::write(&format, &newer).unwrap();

    for arguments in [&["emit", "order.placed"][..], &["event", "count"]] {
        let answer = tidings(arguments.iter().copied()).data(&place.data()).run();
        assert_eq!(answer.code, Some(5), "{}", answer.stderr);
        assert!(answer.stderr.contains("TD0002"), "{}", answer.stderr);
    }
    assert_eq!(std::fs::read_to_string(&format).unwrap(), newer);
    std::fs::write(&format, known).unwrap();
    assert_eq!(
        tidings(["event", "count"]).data(&place.data()).ok().stdout,
        "1\n"
    );
}

#[test]
fn a_full_disk_refuses_the_rest_and_keeps_what_was_acknowledged() {
    // Writing to a device that is always full stands for standard output; the log's own full disk is tested on a faulty disk.
    let place = Place::new();
    place.import(EVENT);

    let answer = tidings(["event", "export", "--out", "/dev/full"])
        .data(&place.data())
        .run();

    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("TD0005") && answer.stderr.contains("/dev/full"),
        "{}",
        answer.stderr
    );
}

#[test]
fn wrong_arguments_say_what_is_right() {
    let place = Place::new();
    place.import(EVENT);
    for (arguments, words) in [
        (&["event", "ls", "--since", "tomorrow"][..], "@1234"),
        (&["event", "ls", "--type", "ord*"], "whole segment"),
        (
            &["consumer", "run", "a/b", "--type", "x", "--exec", "true"],
            "group name",
        ),
        (&["consumer", "run", "g", "--type", "x"], "--exec"),
        (
            &[
                "consumer", "run", "g", "--type", "x", "--exec", "a", "--pipe", "b",
            ],
            "cannot be used with",
        ),
        (
            &[
                "consumer",
                "run",
                "g",
                "--type",
                "x",
                "--exec",
                "true",
                "--attempts",
                "0",
            ],
            "1..=1000",
        ),
        (&["evnt"], "event"),
    ] {
        let answer = tidings(arguments.iter().copied()).data(&place.data()).run();
        assert_eq!(answer.code, Some(2), "{arguments:?}: {}", answer.stderr);
        assert!(
            answer.stderr.contains(words),
            "{arguments:?}: {}",
            answer.stderr
        );
    }
    let missing = tidings(["event", "import", "/no/such/file"])
        .data(&place.data())
        .run();
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("/no/such/file") && missing.stderr.contains("TD0061"),
        "{}",
        missing.stderr
    );
    let payload = tidings(["emit", "order.placed", "--payload", "{x"])
        .data(&place.data())
        .run();
    assert!(payload.stderr.contains("TD0015"), "{}", payload.stderr);
    assert_eq!(
        tidings(["event", "count"]).data(&place.data()).ok().stdout,
        "1\n"
    );
}

#[test]
fn a_reader_that_goes_away_ends_an_export_quietly() {
    let place = Place::new();
    place.import(&EVENT.repeat(20_000));
    let mut export = tidings(["event", "export"]).data(&place.data()).start();
    export.line().unwrap();

    let answer = export.close();

    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_flipped_bit_is_found_reported_and_read_around() {
    let place = Place::new();
    for number in 0..5 {
        place.import(&format!(
            "{{\"event_id\":\"e{number}\",\"event_type\":\"order.placed\"}}\n"
        ));
    }
    let sound = tidings(["verify", "-o", "json"])
        .data(&place.data())
        .ok()
        .json();
    assert_eq!(
        (&sound["events"], &sound["damage"]),
        (&5.into(), &serde_json::json!([]))
    );
    let segment = place.data().join("log/main/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(2).position(|window| window == b"e2").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let answer = tidings(["verify", "-o", "json"]).data(&place.data()).run();

    assert_eq!(answer.code, Some(4), "{}", answer.stderr);
    let damage = &answer.json()["damage"][0];
    assert_eq!((&damage["from"], &damage["events"]), (&2.into(), &1.into()));
    assert!(
        damage["bytes"].as_u64().is_some_and(|bytes| bytes > 0)
            && damage["file"]
                .as_str()
                .is_some_and(|file| file.ends_with(".seg"))
    );
    let listed = tidings(["event", "ls", "-o", "jsonl"])
        .data(&place.data())
        .ok();
    assert!(
        listed.lines().len() == 4 && !listed.stdout.contains("\"e2\""),
        "{}",
        listed.stdout
    );
    assert!(listed.stderr.contains("damaged"), "{}", listed.stderr);
    place.import("{\"event_id\":\"e5\",\"event_type\":\"order.placed\"}\n");
    assert_eq!(
        tidings(["event", "count"]).data(&place.data()).ok().stdout,
        "5\n"
    );
    assert_eq!(
        tidings(["verify"]).data(&place.data()).run().code,
        Some(4),
        "damage does not go away"
    );
}

/// Any number of files that a process may have open, from too few to enough: what is refused is told, and nothing that was acknowledged is lost.
#[test]
fn too_few_files_that_may_be_open_are_told_and_cost_nothing_that_was_acknowledged() {
    let place = Place::new();
    place.import(EVENT);
    let emit = |files: u32| {
        let limited = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        std::process::Command::new("sh")
            .args(["-c", &limited, env!("CARGO_BIN_EXE_tidings")])
            .args(["emit", "order.placed", "--data"])
            .arg(place.data())
            .output()
            .unwrap()
    };
    let (mut acknowledged, mut refused) = (0_u64, 0);

    // With fewer, the asynchronous runtime cannot begin: nothing of the folder is touched then.
    for files in 8..40 {
        let answer = emit(files);
        let told = String::from_utf8_lossy(&answer.stderr);
        assert!(!told.contains("panicked"), "{files} files: {told}");
        if answer.status.success() {
            acknowledged += 1;
        } else {
            refused += 1;
            assert!(
                told.contains("error[TD") && told.contains("Too many open files"),
                "{files} files: {told}"
            );
        }
    }

    assert!(refused > 0, "no limit was low enough");
    assert!(acknowledged > 10, "{acknowledged}");
    let count = tidings(["event", "count"]).data(&place.data()).ok().stdout;
    let there: u64 = count.trim().parse().unwrap();
    assert!(
        there > acknowledged,
        "{there} events, {acknowledged} and the first were acknowledged"
    );
    let verified = tidings(["verify"]).data(&place.data()).ok();
    assert!(verified.stdout.contains("sound"), "{}", verified.stdout);
}

/// The bytes rotted while nobody worked for the group; it learns of it when it comes to the place, and goes on behind it.
#[test]
fn a_group_that_was_away_when_events_rotted_is_told_their_positions() {
    let place = Place::new();
    for _ in 0..5 {
        place.import(EVENT);
    }
    let segment = place.data().join("log/main/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    // Each import left a frame and a sync mark; the third frame of events is the fifth.
    let third = bytes
        .windows(4)
        .enumerate()
        .filter(|(at, found)| *found == [0xf5, b'T', b'd', 0xf7] && bytes[at + 5] == 1)
        .map(|(at, _)| at)
        .nth(2)
        .unwrap();
    bytes[third + 70] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let run = || {
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
        .ok()
    };

    let told = run().stderr;

    assert!(
        told.contains("warning: ") && told.contains("(positions 2 to 2)"),
        "{told}"
    );
    assert!(told.contains("4 handled"), "{told}");
    assert!(!run().stderr.contains("warning: "), "it is told once");
    let facts = tidings([
        "tail",
        "tidings.log.*",
        "--from-start",
        "--until-end",
        "-o",
        "jsonl",
    ])
    .data(&place.data())
    .ok();
    assert_eq!(facts.lines().len(), 1, "{}", facts.stdout);
    assert!(
        facts.stdout.contains("\"first_position\":2"),
        "{}",
        facts.stdout
    );
}

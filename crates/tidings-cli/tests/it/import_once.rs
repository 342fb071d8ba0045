//! `event import --skip-existing`: a repeated or interrupted import becomes complete, without doubles.

use crate::command::{Halted, Place, is_quick, tidings, until};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tidings_testkit::loan_data;

/// Kills of a full run.
const KILLS: u64 = 24;

const EVENT: &str = r#"{"event_id":"evt-1","event_type":"order.placed","source":"shop","payload":{"total": 59.980}}"#;

fn export(place: &Place) -> String {
    tidings(["event", "export"]).data(&place.data()).ok().stdout
}

/// Imports lines, leaving out what is there, and answers the summary.
fn import(place: &Place, lines: &str) -> Value {
    tidings(["event", "import", "-", "--skip-existing", "-o", "json"])
        .data(&place.data())
        .input(lines)
        .ok()
        .json()
}

fn counts(summary: &Value) -> [u64; 3] {
    ["imported", "skipped", "conflicts"].map(|name| summary[name].as_u64().unwrap())
}

#[test]
fn a_repeated_import_adds_nothing_and_a_longer_file_what_is_new() {
    let place = Place::new();
    let lines: Vec<String> = loan_data::lines(150).map(|line| line + "\n").collect();
    let (most, whole) = (lines[..2_000].concat(), lines.concat());

    assert_eq!(counts(&import(&place, &most)), [2_000, 0, 0]);
    assert_eq!(counts(&import(&place, &most)), [0, 2_000, 0]);
    assert_eq!(counts(&import(&place, &whole)), [1_000, 2_000, 0]);
    assert!(
        export(&place) == whole,
        "the events are not those of the file"
    );
}

#[test]
fn doubles_within_the_file_are_imported_once() {
    let place = Place::new();
    let lines: Vec<String> = loan_data::lines(100).map(|line| line + "\n").collect();
    // Each line twice, some at once and some more than a batch later.
    let near: String = lines
        .iter()
        .flat_map(|line| [line.as_str(), line])
        .collect();
    let doubled = near + &lines.concat();

    assert_eq!(counts(&import(&place, &doubled)), [2_000, 4_000, 0]);
    assert!(export(&place) == lines.concat());
}

#[test]
fn the_same_id_from_another_source_is_another_event_unless_it_is_a_uuid_7() {
    let place = Place::new();
    let from = |id: &str, source: &str| {
        format!("{{\"event_id\":\"{id}\",\"event_type\":\"t\",\"source\":\"{source}\"}}\n")
    };
    let uuid = "018d0c2e-1234-7abc-8def-0123456789ab";
    let lines = [from("1", "shop"), from("1", "bank"), from(uuid, "shop")].concat();

    assert_eq!(counts(&import(&place, &lines)), [3, 0, 0]);
    assert_eq!(counts(&import(&place, &lines)), [0, 3, 0]);
    assert_eq!(export(&place), lines);
}

#[test]
fn other_content_under_an_id_that_is_there_is_reported_and_not_written() {
    let place = Place::new();
    place.import(&format!("{EVENT}\n"));
    let other = EVENT.replace("59.980", "60");
    let third = EVENT.replace("evt-1", "evt-2");
    let fourth = third.replace("order.placed", "order.lost");

    let answer = tidings(["event", "import", "-", "--skip-existing", "-o", "json"])
        .data(&place.data())
        .input(format!("{EVENT}\n{other}\n{third}\n{fourth}\n"))
        .run();

    assert_eq!(answer.code, Some(5), "{}", answer.stderr);
    assert_eq!(counts(&answer.json()), [1, 3, 2]);
    assert!(
        answer.stderr.contains("error[TD0066]: 2 events"),
        "{}",
        answer.stderr
    );
    assert!(
        answer
            .stderr
            .contains("event evt-1: the one at position 0 has the same id"),
        "{}",
        answer.stderr
    );
    assert!(answer.stderr.contains("event evt-2: the one at position 1"));
    assert_eq!(export(&place), format!("{EVENT}\n{third}\n"));
}

#[test]
fn receipts_of_what_is_left_out_say_where_it_is() {
    let place = Place::new();
    place.import(&format!("{EVENT}\n"));
    let second = EVENT.replace("evt-1", "evt-2");

    let answer = tidings(["event", "import", "-", "--skip-existing", "-o", "jsonl"])
        .data(&place.data())
        .input(format!("{EVENT}\n{second}\n{second}\n"))
        .ok();

    assert_eq!(
        answer.lines(),
        [
            r#"{"event_id":"evt-2","position":1}"#,
            r#"{"event_id":"evt-1","position":0,"skipped":true}"#,
            r#"{"event_id":"evt-2","position":1,"skipped":true}"#,
        ]
    );
}

#[test]
fn an_import_that_is_killed_again_and_again_becomes_complete_without_doubles() {
    let lines: Vec<String> = loan_data::lines(200).map(|line| line + "\n").collect();
    let whole = lines.concat();
    let place = Place::new();
    // Doubles in the file, which come before and behind a kill.
    let doubled: String = lines
        .chunks(700)
        .flat_map(|part| part.iter().chain(part.iter().step_by(3)))
        .map(String::as_str)
        .collect();
    let file = place.write("events.jsonl", &doubled);
    // The shorter of two: what the kills are spread over must not be a moment in which the machine was busy.
    let calm = [(); 2].map(|()| {
        let started = Instant::now();
        let place = Place::new();
        run_import(&file, &place.data(), None);
        let takes = started.elapsed();
        assert!(export(&place) == whole);
        takes
    });
    let takes = calm[0].min(calm[1]);
    let seed = std::env::var("TIDINGS_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0x7464_6704_u64);
    let mut random = seed;
    let (mut kills, mut cut_short) = (0, 0);
    let wanted = if is_quick() { 5 } else { KILLS };

    while kills < wanted {
        let place = Place::new();
        // The next life goes on where this one was killed, and may be killed as well.
        for _ in 0..3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let moment = takes.mul_f64((random % 1_000) as f64 / 1_000.0);
            kills += u64::from(run_import(&file, &place.data(), Some(moment)));
        }
        cut_short += usize::from(place.data().exists() && export_so_far(&place) < lines.len());
        run_import(&file, &place.data(), None);
        assert!(
            export(&place) == whole,
            "seed {seed}: after {kills} kills the log is not what the file is"
        );
    }
    println!("{kills} kills (seed {seed}): {cut_short} imports were cut short, 0 lost, 0 doubled");
    assert!(cut_short > 0, "no import was cut short: nothing is shown");
}

/// Events that survived so far; a folder that was never begun has none.
fn export_so_far(place: &Place) -> usize {
    let answer = tidings(["event", "export"]).data(&place.data()).run();
    answer.stdout.lines().count()
}

/// Imports a file, leaving out what is there; killed with SIGKILL at a moment if it still runs then, which is what is answered.
fn run_import(file: &Path, data: &Path, kill_after: Option<Duration>) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(["event", "import", "--skip-existing", "-q", "--data"])
        .args([data, file])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    if let Some(moment) = kill_after {
        std::thread::sleep(moment);
        let is_running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        return is_running;
    }
    assert!(child.wait().unwrap().success());
    false
}

#[test]
fn what_waits_beside_the_owner_is_there_already() {
    let place = Place::new();
    let owner = Halted::at(&place);
    let lines = loan_data::lines(60)
        .map(|line| line + "\n")
        .collect::<String>();

    let first = import(&place, &lines);
    let second = import(&place, &lines);
    let other = EVENT.replace("59.980", "60");
    import(&place, &format!("{EVENT}\n"));
    let conflict = tidings(["event", "import", "-", "--skip-existing"])
        .data(&place.data())
        .input(format!("{other}\n"))
        .run();
    owner.go_on();

    let total = first["imported"].as_u64().unwrap();
    assert_eq!(counts(&second), [0, total, 0]);
    assert_eq!(conflict.code, Some(5), "{}", conflict.stderr);
    assert!(
        conflict.stderr.contains("on its way"),
        "{}",
        conflict.stderr
    );
    until("the owner has carried them", || {
        let counted = tidings(["event", "count"]).data(&place.data()).ok();
        counted.stdout == format!("{}\n", total + 2)
    });
    assert_eq!(counts(&import(&place, &lines)), [0, total, 0]);
}

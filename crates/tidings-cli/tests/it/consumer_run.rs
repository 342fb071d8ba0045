//! Handlers in any language: `consumer run` with `--exec` and `--pipe`.

use crate::command::{Answer, Place, Tidings, tidings, until};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use tidings_testkit::loan_data;

/// A Python handler by `--pipe`: appends each event id and key to a file, answers by rules in the payload.
const PIPE: &str = r#"
import json, os, signal, sys, time
out = open(sys.argv[1], "a", buffering=1)
for line in sys.stdin:
    event = json.loads(line)
    payload = event.get("payload") or {}
    do = payload.get("do", "ack") if isinstance(payload, dict) else "ack"
    out.write(event["event_id"] + " " + event.get("aggregate_id", "") + "\n")
    if do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "hang":
        time.sleep(60)
    answer = {"event_id": event["event_id"], "outcome": do if do in ("ack", "retry", "dead_letter") else "ack"}
    if do == "retry":
        answer["after_ms"] = 1
        answer["reason"] = "not yet"
    if do == "emit":
        answer["emit"] = [{"event_type": "stock.reserved", "aggregate_id": event["aggregate_id"], "payload": {"n": 1.50}}]
    print(json.dumps(answer), flush=True)
"#;

fn event(id: &str, key: &str, what: &str) -> String {
    format!(
        "{{\"event_id\":\"{id}\",\"event_type\":\"order.placed\",\"aggregate_id\":\"{key}\",\"source\":\"shop\",\"correlation_id\":\"req-{key}\",\"payload\":{{\"do\":\"{what}\"}}}}\n"
    )
}

fn run(place: &Place, group: &str, handler: [&str; 2], more: &[&str]) -> Tidings {
    let arguments = [
        &[
            "consumer",
            "run",
            group,
            "--type",
            "order.*",
            handler[0],
            handler[1],
            "--until-end",
        ],
        more,
    ]
    .concat();
    tidings(arguments).data(&place.data())
}

fn pipe(place: &Place) -> (String, std::path::PathBuf) {
    let script = place.write("handler.py", PIPE);
    let handled = place.file("handled");
    (
        format!("python3 {} {}", script.display(), handled.display()),
        handled,
    )
}

fn handled(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

fn dead_letters(place: &Place) -> Vec<Value> {
    tidings(["dlq", "ls", "-o", "json"])
        .data(&place.data())
        .ok()
        .json()
        .as_array()
        .unwrap()
        .clone()
}

fn events(place: &Place, pattern: &str) -> Vec<Value> {
    let answer: Answer = tidings(["event", "ls", "-o", "json", "--type", pattern])
        .data(&place.data())
        .ok();
    answer.json().as_array().unwrap().clone()
}

#[test]
fn exec_gives_envelope_and_attributes_and_takes_what_is_emitted() {
    let place = Place::new();
    place.import(
        &(event("evt-1", "order-1", "x").trim_end().replace(
            "\"source\"",
            "\"EVIL\":\"1\",\"PATH\":\"/nowhere\",\"source\"",
        ) + "\n"),
    );
    let seen = place.file("seen");
    let script = place.write("handler.sh", format!("cat > {0}; env | grep ^TIDINGS_ | sort >> {0}; env | grep -c EVIL >> {0}\necho '{{\"event_type\":\"mail.sent\",\"aggregate_id\":\"order-1\",\"payload\":{{\"n\": 1.0}}}}'\n", seen.display()));

    run(
        &place,
        "mailer",
        ["--exec", &format!("sh '{}'", script.display())],
        &[],
    )
    .ok();

    let text = std::fs::read_to_string(&seen).unwrap();
    assert!(
        text.starts_with(r#"{"event_id":"evt-1","event_type":"order.placed""#),
        "{text}"
    );
    for line in [
        "TIDINGS_EVENT_ID=evt-1",
        "TIDINGS_EVENT_TYPE=order.placed",
        "TIDINGS_AGGREGATE_ID=order-1",
        "TIDINGS_CORRELATION_ID=req-order-1",
        "TIDINGS_SOURCE=shop",
    ] {
        assert!(text.lines().any(|given| given == line), "{line}: {text}");
    }
    assert_eq!(
        text.lines().last(),
        Some("0"),
        "no other attribute is a variable"
    );
    let sent = events(&place, "mail.sent");
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (&sent[0]["correlation_id"], &sent[0]["causation_id"]),
        (&Value::from("req-order-1"), &Value::from("evt-1"))
    );
}

#[test]
fn exec_exit_codes_decide() {
    let place = Place::new();
    for (id, key) in [("good", "0"), ("later", "75"), ("never", "3")] {
        place.import(&event(id, key, "x"));
    }
    let count = place.file("count");
    let script = place.write("handler.sh", format!("echo $TIDINGS_EVENT_ID >> {}\necho \"cannot do $TIDINGS_EVENT_ID\" >&2\nexit $TIDINGS_AGGREGATE_ID\n", count.display()));

    run(
        &place,
        "strict",
        ["--exec", &format!("sh {}", script.display())],
        &["--attempts", "3"],
    )
    .ok();

    let tried = std::fs::read_to_string(&count).unwrap();
    let times = |id: &str| tried.lines().filter(|line| *line == id).count();
    assert_eq!((times("good"), times("later"), times("never")), (1, 3, 1));
    let dead = dead_letters(&place);
    let of = |id: &str| {
        dead.iter()
            .find(|dead| dead["event_id"] == id)
            .unwrap_or_else(|| panic!("{dead:?}"))
    };
    assert_eq!(dead.len(), 2);
    assert_eq!(
        (&of("later")["attempts"], &of("never")["attempts"]),
        (&Value::from(3), &Value::from(1))
    );
    assert_eq!(
        (
            &of("never")["consumer"],
            &of("never")["status"],
            &of("never")["event_type"],
            &of("never")["aggregate_id"]
        ),
        (
            &Value::from("strict"),
            &Value::from("open"),
            &Value::from("order.placed"),
            &Value::from("3")
        )
    );
    assert!(
        of("never")["reason"]
            .as_str()
            .unwrap()
            .contains("cannot do never"),
        "{dead:?}"
    );
}

#[test]
fn pipe_outcomes_decide_and_emitted_events_keep_their_payload_text() {
    let place = Place::new();
    for (id, what) in [
        ("a", "ack"),
        ("b", "retry"),
        ("c", "dead_letter"),
        ("d", "emit"),
        ("e", "ack"),
    ] {
        place.import(&event(id, id, what));
    }
    let (command, path) = pipe(&place);

    run(
        &place,
        "py",
        ["--pipe", &command],
        &["--attempts", "2", "--parallel", "4"],
    )
    .ok();

    let handled = handled(&path);
    assert_eq!(
        handled.iter().filter(|id| *id == "b").count(),
        2,
        "{handled:?}"
    );
    assert_eq!(handled.iter().collect::<HashSet<_>>().len(), 5);
    let dead: BTreeMap<String, Value> = dead_letters(&place)
        .into_iter()
        .map(|dead| {
            (
                dead["event_id"].as_str().unwrap().to_owned(),
                dead["reason"].clone(),
            )
        })
        .collect();
    assert_eq!(dead.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert!(dead["b"].as_str().unwrap().contains("not yet"));
    let emitted = events(&place, "stock.*");
    assert_eq!(emitted.len(), 1);
    assert_eq!(emitted[0]["causation_id"], "d");
}

#[test]
fn an_event_that_kills_the_process_ends_in_the_dead_letters_and_the_rest_goes_on() {
    let place = Place::new();
    for (number, what) in ["ack", "ack", "die", "ack", "ack", "ack"]
        .iter()
        .enumerate()
    {
        place.import(&event(&format!("e{number}"), &format!("k{number}"), what));
    }
    let (command, path) = pipe(&place);

    run(
        &place,
        "py",
        ["--pipe", &command],
        &["--attempts", "3", "--parallel", "6"],
    )
    .ok();

    let dead = dead_letters(&place);
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(
        (&dead[0]["event_id"], &dead[0]["attempts"]),
        (&Value::from("e2"), &Value::from(3))
    );
    assert_eq!(handled(&path).iter().collect::<HashSet<_>>().len(), 6);
}

#[test]
fn a_silent_process_is_killed_and_its_event_given_up_in_the_end() {
    let place = Place::new();
    place.import(&(event("slow", "a", "hang") + &event("fine", "b", "ack")));
    let (command, path) = pipe(&place);

    run(
        &place,
        "py",
        ["--pipe", &command],
        &[
            "--attempts",
            "2",
            "--time-limit",
            // Long enough for an interpreter to start on a busy machine.
            "10s",
            "--parallel",
            "2",
        ],
    )
    .ok();

    assert_eq!(
        dead_letters(&place)
            .iter()
            .map(|dead| dead["event_id"].clone())
            .collect::<Vec<_>>(),
        ["slow"]
    );
    assert!(handled(&path).contains(&"fine".to_owned()));
}

#[test]
fn keys_stay_serial_and_in_order_while_different_keys_run_in_parallel() {
    let place = Place::new();
    let keys = 40;
    place.import(&(loan_data::lines(keys).collect::<Vec<_>>().join("\n") + "\n"));
    let (command, path) = pipe(&place);

    let arguments = [
        "consumer",
        "run",
        "all",
        "--type",
        "**",
        "--pipe",
        &command,
        "--parallel",
        "8",
        "--until-end",
    ];
    tidings(arguments).data(&place.data()).ok();

    assert_order(&path, &loan_data::lines(keys).collect::<Vec<_>>());
}

/// The distinct ids are complete and their first occurrences in the order of their key.
fn assert_order(path: &Path, lines: &[String]) {
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        expected
            .entry(text("aggregate_id"))
            .or_default()
            .push(text("event_id"));
    }
    let mut seen = HashSet::new();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        // A kill may cut a line.
        if let Some((id, key)) = line.split_once(' ').filter(|(id, _)| id.len() == 20)
            && seen.insert(id.to_owned())
        {
            found.entry(key.to_owned()).or_default().push(id.to_owned());
        }
    }
    assert!(
        found == expected,
        "{} of {} ids, or an order broken",
        seen.len(),
        lines.len()
    );
}

#[test]
fn kills_of_handler_and_runner_lose_nothing_and_keep_the_order() {
    let place = Place::new();
    let lines: Vec<String> = loan_data::lines(300).collect();
    place.import(&(lines.join("\n") + "\n"));
    let (command, path) = pipe(&place);
    let arguments = [
        "consumer",
        "run",
        "all",
        "--type",
        "**",
        "--pipe",
        &command,
        "--parallel",
        "8",
        "--until-end",
    ];

    for round in 1..=3 {
        let mut running = tidings(arguments).data(&place.data()).start();
        until("a part is handled", || {
            handled(&path).len() >= round * 600 || running.has_ended()
        });
        kill_children(running.id());
        until("it goes on", || {
            handled(&path).len() >= round * 600 + 300 || running.has_ended()
        });
        running.kill();
    }
    tidings(arguments).data(&place.data()).ok();

    assert_order(&path, &lines);
    assert_eq!(
        dead_letters(&place).len(),
        0,
        "a kill from outside is no event's fault"
    );
}

/// Kills the handler processes of a runner, which are its children.
fn kill_children(parent: u32) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if status
            .lines()
            .any(|line| line == format!("PPid:\t{parent}"))
        {
            // It may have ended meanwhile.
            let _ended = rustix::process::kill_process(
                rustix::process::Pid::from_raw(id).unwrap(),
                Signal::KILL,
            );
        }
    }
}

#[test]
fn a_new_group_begins_where_told_and_goes_on_where_it_was() {
    let place = Place::new();
    place.import(&(event("a", "1", "ack") + &event("b", "2", "ack")));
    let (command, path) = pipe(&place);

    run(
        &place,
        "late",
        ["--pipe", &command],
        &["--from", "@1", "--parallel", "1"],
    )
    .ok();
    assert_eq!(handled(&path), ["b"]);
    place.import(&event("c", "3", "ack"));
    run(
        &place,
        "late",
        ["--pipe", &command],
        &["--from", "earliest", "--parallel", "1"],
    )
    .ok();
    assert_eq!(handled(&path), ["b", "c"]);
    run(&place, "new", ["--pipe", &command], &["--parallel", "1"]).ok();
    assert_eq!(handled(&path), ["b", "c", "a", "b", "c"]);
}

#[test]
fn a_handler_that_does_not_exist_is_refused_before_anything_happens() {
    let place = Place::new();
    place.import(&event("a", "1", "ack"));

    let answer = run(&place, "py", ["--pipe", "no-such-program-here --x"], &[]).run();

    assert_eq!(answer.code, Some(2), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("no-such-program-here") && answer.stderr.contains("TD0040"),
        "{}",
        answer.stderr
    );
    assert_eq!(dead_letters(&place).len(), 0);
}

#[test]
fn sigterm_drains_and_ends_with_success() {
    let place = Place::new();
    place.import(&event("a", "1", "ack"));
    let (command, path) = pipe(&place);
    let running = tidings([
        "consumer", "run", "py", "--type", "order.*", "--pipe", &command,
    ])
    .data(&place.data())
    .start();
    until("it is handled", || !handled(&path).is_empty());

    let answer = running.interrupt(Signal::TERM);

    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    let lag = tidings(["consumer", "lag", "py", "-o", "json"])
        .data(&place.data())
        .ok()
        .json();
    assert_eq!(
        (
            &lag[0]["consumer"],
            &lag[0]["lag_events"],
            &lag[0]["status"]
        ),
        (&Value::from("py"), &Value::from(0), &Value::from("stopped"))
    );
}

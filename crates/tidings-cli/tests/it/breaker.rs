//! `consumer run` while everything fails: the circuit opens, nothing is given up, one event is tried now and then, and once that succeeds each event is handled.

use crate::command::{Answer, Place, Running, Tidings, tidings, until};
use crate::health::{address, get};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const EVENTS: usize = 60;
const KEYS: usize = 30;

/// Fails while there is a file of this name; else it writes the event down.
const HANDLER: &str = r#"cat > /dev/null
echo "$TIDINGS_EVENT_ID $TIDINGS_ATTEMPT" >> "$1.attempts"
if [ -e "$1.down" ]; then
  echo "the provider is down" >&2
  exit 75
fi
echo "$TIDINGS_EVENT_ID" >> "$1"
"#;

struct Shop {
    place: Place,
}

impl Shop {
    /// A provider that is down, and events of several keys.
    fn new() -> Self {
        let place = Place::new();
        place.write("done.down", "");
        let event = |number: usize| {
            let key = number % KEYS;
            format!(
                "{{\"event_id\":\"evt-{number}\",\"event_type\":\"order.placed\",\"aggregate_id\":\"order-{key}\",\"source\":\"shop\",\"payload\":{{}}}}\n"
            )
        };
        place.import(&(0..EVENTS).map(event).collect::<String>());
        Self { place }
    }

    fn run(&self, more: &[&str]) -> Tidings {
        let script = self.place.write("handler.sh", HANDLER);
        let done = self.place.file("done");
        let command = format!("sh {} {}", script.display(), done.display());
        let arguments = [
            "consumer",
            "run",
            "payment",
            "--type",
            "**",
            "--exec",
            &command,
            "--parallel",
            "4",
            "--attempts",
            "2",
            "--until-end",
            "-o",
            "json",
        ];
        tidings([&arguments[..], more].concat()).data(&self.place.data())
    }

    /// With a circuit breaker of this rule.
    fn run_with(&self, rule: &str, more: &[&str]) -> Tidings {
        let breaker = ["--break-after", rule, "--probe-after", "100ms"];
        self.run(&[&breaker[..], more].concat())
    }

    fn attempts(&self) -> Vec<String> {
        lines(&self.place.file("done.attempts"))
    }

    fn heals(&self) {
        std::fs::remove_file(self.place.file("done.down")).unwrap();
    }

    /// Checks that each event was handled once and in the order of its key.
    fn check(&self, answer: &Answer) {
        let summary: Value = answer.json();
        assert_eq!(summary["dead_lettered"], 0, "{summary}");
        assert_eq!(
            (&summary["parked"], &summary["held_keys"]),
            (&0.into(), &0.into())
        );
        let done = lines(&self.place.file("done"));
        assert_eq!(done.len(), EVENTS, "{done:?}");
        let mut newest = BTreeMap::new();
        for id in done {
            let number: usize = id["evt-".len()..].parse().unwrap();
            let before = newest.insert(number % KEYS, number);
            assert!(before < Some(number), "{id} came after {before:?}");
        }
        let letters = tidings(["dlq", "ls", "-o", "json"])
            .data(&self.place.data())
            .ok();
        assert_eq!(letters.stdout.trim(), "[]");
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until so many events were tried in vain.
fn tried_in_vain(running: &Running, times: usize) {
    until("events were tried in vain", || {
        let said = running.said();
        said.matches("the event that was tried failed").count() >= times
    });
}

#[test]
fn a_provider_that_is_down_costs_a_few_attempts_and_no_dead_letter_even_across_a_kill() {
    let shop = Shop::new();
    let running = shop.run_with("9/10", &[]).start();
    let opened = running.heard("circuit open");
    assert!(opened.contains("the provider is down"), "{opened}");
    tried_in_vain(&running, 2);
    // Nine that open the circuit, four under way, and what was tried.
    let tried = shop.attempts().len();
    assert!(tried <= 9 + 4 + 4, "{tried} attempts");
    running.kill();

    let mut running = shop.run_with("9/10", &["--listen", "0"]).start();
    running.heard("circuit open");
    let address = address(&running);
    until("the figures tell", || {
        let (_, body) = get(&address, "/metrics");
        body.contains("tidings_consumer_circuit_openings_total{consumer=\"payment\"} 1")
            && body.contains("state=\"closed\"} 0")
            && body.contains("tidings_consumer_paused{consumer=\"payment\"} 1")
    });
    let (status, body) = get(&address, "/readyz");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("everything fails"), "{body}");
    tried_in_vain(&running, 1);
    until("an event says why it waits", || {
        let explain = ["event", "explain", "evt-59", "-o", "json"];
        let answer = tidings(explain).data(&shop.place.data()).ok();
        let rows: Value = answer.json();
        let words = rows[0]["explanation"].as_str().unwrap();
        rows[0]["state"] == "circuit_open"
            && words.contains("open since 2")
            && words.contains("one event is")
            && words.contains("the provider is down")
    });
    for what in ["ls", "lag"] {
        let groups = tidings(["consumer", what, "-o", "json"])
            .data(&shop.place.data())
            .ok();
        let waits = groups.json()[0]["waits"].to_string();
        assert!(waits.contains("circuit open since"), "{waits}");
        assert!(groups.stderr.contains("payment waits"), "{}", groups.stderr);
    }
    shop.heals();

    let answer = running.end();

    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("circuit closed"),
        "{}",
        answer.stderr
    );
    shop.check(&answer);
    let summary: Value = answer.json();
    assert_eq!(summary["circuit_openings"], 1);
}

#[test]
fn under_a_supervisor_it_stops_with_a_code_of_its_own_and_uses_up_no_attempts() {
    let shop = Shop::new();

    for _ in 0..4 {
        let answer = shop.run_with("3/3", &["--on-break", "stop"]).run();

        assert_eq!(answer.code, Some(69), "{}", answer.stderr);
        assert!(answer.stderr.contains("error[TD0036]"), "{}", answer.stderr);
        assert!(
            answer.stderr.contains("the provider is down"),
            "{}",
            answer.stderr
        );
        let summary: Value = answer.json();
        assert_eq!(
            (&summary["dead_lettered"], &summary["handled"]),
            (&0.into(), &0.into())
        );
    }
    shop.heals();
    let answer = shop.run_with("9/10", &["--on-break", "stop"]).ok();

    shop.check(&answer);
}

#[test]
fn a_pause_by_a_person_and_the_end_work_while_the_circuit_is_open() {
    let shop = Shop::new();
    let running = shop.run_with("9/10", &[]).start();
    running.heard("circuit open");
    let decide = |what: &str, why: &[&str]| {
        tidings([&["consumer", what, "payment"], why].concat())
            .data(&shop.place.data())
            .ok()
    };
    decide("pause", &["--reason", "repairing"]);
    running.heard("paused  repairing");
    let ended = running.interrupt(rustix::process::Signal::TERM);
    assert!(!ended.stderr.contains("error["), "{}", ended.stderr);

    shop.heals();
    let mut running = shop.run_with("9/10", &[]).start();
    running.heard("paused  repairing");
    decide("resume", &["--reason", "repaired"]);

    let answer = running.end();

    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    shop.check(&answer);
}

#[test]
fn what_instances_keep_in_a_shared_store_is_told_from_there() {
    let shop = Shop::new();
    let store = format!("sqlite://{}", shop.place.file("shared.db").display());
    tidings(["dlq", "migrate", "--store", &store]).ok();
    let running = shop.run_with("9/10", &["--store", &store]).start();
    running.heard("circuit open");

    for what in ["ls", "lag"] {
        let groups = ["consumer", what, "-o", "json"];
        until("the store tells", || {
            let groups = tidings([&groups[..], &["--store", &store]].concat())
                .data(&shop.place.data())
                .ok();
            let waits = groups.json()[0]["waits"].to_string();
            waits.contains("circuit open since") && groups.stderr.contains("payment waits")
        });
        let beside = tidings(groups).data(&shop.place.data()).ok();
        assert!(beside.json()[0]["waits"].is_null(), "{}", beside.stdout);
    }
    let nowhere = format!("sqlite://{}", shop.place.file("nowhere.db").display());
    let answer = tidings(["consumer", "ls", "--store", &nowhere])
        .data(&shop.place.data())
        .run();
    assert_ne!(answer.code, Some(0));
    assert!(answer.stderr.contains("nowhere.db"), "{}", answer.stderr);
    running.kill();
}

#[test]
fn a_script_whose_answers_are_wrong_opens_the_circuit_and_gives_up_no_event() {
    let shop = Shop::new();
    let script = |verb: &str| {
        let text = format!(
            "import json, sys\nfor line in sys.stdin:\n    event = json.loads(line)['event_id']\n    print(json.dumps({{'event_id': event, 'outcome': '{verb}'}}), flush=True)\n"
        );
        format!(
            "python3 {}",
            shop.place.write("handler.py", &text).display()
        )
    };
    let run = |command: &str| {
        let arguments = ["consumer", "run", "payment", "--type", "**", "--until-end"];
        let breaker = ["--break-after", "9/10", "--probe-after", "100ms"];
        let pipe = ["--pipe", command, "--on-break", "stop", "-o", "json"];
        tidings([&arguments[..], &breaker, &pipe].concat()).data(&shop.place.data())
    };

    let answer = run(&script("done")).run();

    assert_eq!(answer.code, Some(69), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("unknown variant `done`"),
        "{}",
        answer.stderr
    );
    assert_eq!(answer.json()["dead_lettered"], 0, "{}", answer.stdout);
    let answer = run(&script("ack")).ok();
    assert_eq!(answer.json()["handled"], EVENTS, "{}", answer.stdout);
}

#[test]
fn who_asks_for_no_breaker_gets_dead_letters() {
    let shop = Shop::new();

    let answer = shop.run(&["--on-failure", "continue"]).ok();

    let summary: Value = answer.json();
    assert_eq!(summary["dead_lettered"], EVENTS, "{summary}");
}

//! What goes in comes out: the same order, every attribute, every byte of every payload.

use crate::command::{Place, tidings};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use std::io::Write as _;
use tidings_testkit::loan_data;

const SEED: &str = r#"{"event_id":"evt-a7f8b4c2","event_type":"order.placed","aggregate_id":"order-123","timestamp":"2024-01-15T10:30:00Z","version":1,"source":"order-service","correlation_id":"req-7d9f4e12","payload":{"order_id":"order-123","user_id":"user-456","items":[{"sku":"PROD-001","qty":2,"price":29.99}],"total":59.98}}"#;

fn export(place: &Place) -> String {
    tidings(["event", "export"]).data(&place.data()).ok().stdout
}

#[test]
fn import_then_export_changes_nothing() {
    let place = Place::new();
    let lines = [
        SEED,
        r#"{"event_id":"a","event_type":"ORDER_PLACED"}"#,
        r#"{"event_id":"b","event_type":"com.github.pull_request.opened","payload":{"n":1.0e+2,"n":10000000000000000000000.50, "z":1,"a":[ ]}}"#,
        r#"{"event_id":"c","event_type":"t","timestamp":"2011-10-01T00:38:44.54600000000012+02:00","X-Tenant":{"b":[1.10,null],"a":"\u00e9"},"extra":null,"payload":"\ud800"}"#,
        r#"{"event_id":"d","event_type":"order.placed.v2","correlation_id":null,"payload":null}"#,
        r#"{"event_id":"e","event_type":"t","content_type":"image/png","payload_base64":"iVBORw0KGgo="}"#,
        r#"{"event_id":"f \" \\ é","event_type":"Ereignis gemeldet ✓","aggregate_id":"","version":4294967295,"source":""}"#,
        SEED,
    ];
    let text = lines.join("\n") + "\n";

    place.import(&text);

    assert_eq!(export(&place), text);
}

#[test]
fn gzip_and_plain_files_and_standard_input_are_the_same() {
    let text = loan_data::lines(5).collect::<Vec<_>>().join("\n") + "\n";
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();

    for (name, bytes) in [
        ("plain.jsonl", text.clone().into_bytes()),
        ("packed.gz", gzip.finish().unwrap()),
    ] {
        let place = Place::new();
        let file = place.write(name, bytes);
        tidings(["event", "import"])
            .data(&place.data())
            .input("")
            .run();
        let answer = tidings(["event".as_ref(), "import".as_ref(), file.as_os_str()])
            .data(&place.data())
            .ok();
        assert!(
            answer.stdout.contains("imported 100 events"),
            "{}",
            answer.stdout
        );
        assert_eq!(export(&place), text);
    }
}

#[test]
fn receipts_name_event_and_position() {
    let place = Place::new();
    let answer = tidings(["event", "import", "-", "-o", "jsonl"])
        .data(&place.data())
        .input(format!("{SEED}\n{SEED}\n"))
        .ok();

    assert_eq!(
        answer.lines(),
        [
            r#"{"event_id":"evt-a7f8b4c2","position":0}"#,
            r#"{"event_id":"evt-a7f8b4c2","position":1}"#
        ]
    );
}

#[test]
fn bad_lines_are_named_kept_aside_and_the_rest_is_imported() {
    let place = Place::new();
    let rejects = place.file("rejects.jsonl");
    let deep = format!(
        "{{\"event_id\":\"deep\",\"event_type\":\"t\",\"payload\":{}{}}}",
        "[".repeat(70),
        "]".repeat(70)
    );
    let long_type = format!(
        r#"{{"event_id":"long","event_type":"{}"}}"#,
        "x".repeat(300)
    );
    let long_key = format!(
        r#"{{"event_id":"key","event_type":"t","aggregate_id":"{}"}}"#,
        "x".repeat(1_100)
    );
    let large = format!(
        r#"{{"event_id":"large","event_type":"t","payload":"{}"}}"#,
        "x".repeat(1_048_600)
    );
    let bad = [
        "not json",
        r#"{"event_type":"t"}"#,
        r#"{"event_id":"x","event_type":"t","x":1,"x":2}"#,
        &deep,
        &long_type,
        &long_key,
        &large,
    ];
    let mut input = Vec::new();
    for line in bad {
        input.extend_from_slice(line.as_bytes());
        input.extend_from_slice(b"\n");
        input.extend_from_slice(SEED.as_bytes());
        input.extend_from_slice(b"\n");
    }
    input.extend_from_slice(b"{\"event_id\":\"\xff\",\"event_type\":\"t\"}\n");

    let mut command = tidings(["event", "import", "-", "-o", "json", "--rejects"]);
    command = command.argument(&rejects);
    let answer = command.data(&place.data()).input(input).run();

    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert_eq!(answer.json()["imported"], 7);
    assert_eq!(answer.json()["rejected"], 8);
    for (number, words) in [
        (1, "begins with"),
        (3, "event_id is missing"),
        (5, "\"x\" is given twice"),
        (7, "71 levels"),
        (9, "300 bytes, at most 256"),
        (11, "aggregate_id has 1100 bytes"),
        (13, "payload has 1048602 bytes"),
        (15, "byte 14 is not valid UTF-8"),
    ] {
        let line = answer
            .stderr
            .lines()
            .find(|line| line.starts_with(&format!("line {number}: ")));
        assert!(
            line.is_some_and(|line| line.contains(words)),
            "line {number} {words}: {}",
            answer.stderr
        );
    }
    let kept = std::fs::read(&rejects).unwrap();
    assert_eq!(
        kept.split(|&byte| byte == b'\n').count(),
        9,
        "eight lines and what is behind the last"
    );
    assert!(kept.starts_with(b"not json\n{\"event_type\":\"t\"}\n"));
    assert_eq!(export(&place).lines().count(), 7);
}

#[test]
fn cloud_events_and_batches_are_read_and_written() {
    let place = Place::new();
    let event = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed","subject":"order-1","time":"2018-04-05T17:31:00.10Z","datacontenttype":"application/json","comexampleextension1":"value","data":{"total": 1.50}}"#;
    place.import(&format!("{event}\n[{event},{SEED}]\n"));

    let exported = tidings(["event", "export", "--cloudevents"])
        .data(&place.data())
        .ok();

    let first: Value = serde_json::from_str(exported.lines()[0]).unwrap();
    assert_eq!(first, serde_json::from_str::<Value>(event).unwrap());
    assert!(exported.lines()[0].ends_with(r#""data":{"total": 1.50}}"#));
    assert_eq!(exported.lines()[1], exported.lines()[0]);
    let seed: Value = serde_json::from_str(exported.lines()[2]).unwrap();
    assert_eq!(seed["correlationid"], "req-7d9f4e12");

    let again = Place::new();
    again.import(&exported.stdout);
    assert_eq!(export(&again), export(&place));
}

#[test]
fn export_selects_by_type_and_place_and_time() {
    let place = Place::new();
    place.import(&(loan_data::lines(2).collect::<Vec<_>>().join("\n") + "\n"));
    let count = |arguments: &[&str]| {
        tidings([&["event", "export"], arguments].concat())
            .data(&place.data())
            .ok()
            .lines()
            .len()
    };

    assert_eq!(count(&["--type", "offer.*"]), 10);
    assert_eq!(count(&["--type", "offer.*", "application.**"]), 24);
    assert_eq!(count(&["--since", "@30"]), 10);
    assert_eq!(count(&["--since", "@10", "--until", "@30"]), 20);
    assert_eq!(
        count(&["--since", "1h"]),
        40,
        "time is that of appending, not that of the fact"
    );
    assert_eq!(count(&["--until", "1h"]), 0);
}

#[test]
fn receipts_before_the_flush_are_never_given_in_silence() {
    let place = Place::new();

    let answer = tidings(["event", "import", "-", "-q", "--durability", "written"])
        .data(&place.data())
        .input(format!("{SEED}\n"))
        .ok();

    assert!(
        answer.stderr.contains("a power cut may lose"),
        "{}",
        answer.stderr
    );
    assert_eq!(export(&place), format!("{SEED}\n"));
}

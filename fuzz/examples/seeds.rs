//! Writes the kept inputs that are made from what the programs really write: `cargo run --example seeds`, in this folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings_core::broker::Broker;
use tidings_core::{Envelope, EnvelopeParts, Payload, Timestamp, cloudevents, envelope_json};
use tidings_fuzz::checksummed::{HEAD_BYTES, SEGMENT_HEADER_BYTES};
use tidings_fuzz::look_up_table;
use tidings_fuzz::reading::block_on;
use tidings_log::{Codec, LogBroker, OpenOptions};
use tidings_testkit::{FaultyDisk, ManualClock, loan_data};

/// Every way in which the seed's document says something.
const LINES: &[&str] = &[
    r#"{"event_id":"evt-1","event_type":"order.placed","aggregate_id":"order-1","timestamp":"2024-01-15T10:30:00.1200+02:00","version":2,"source":"shop","correlation_id":"c","causation_id":"d","content_type":"application/json","X_Tenant":{"a":[1.0,-0]},"flag":true,"nothing":null,"payload":{"total": 59.980}}"#,
    r#"{"event_id":"é✓","event_type":"t.v3","aggregate_id":"","source":"","payload_base64":"AAEC/w=="}"#,
    "{\"event_id\":\"a\\n\\u0041\",\"event_type\":\"t\",\n \"payload\":[1,\r\n2]}",
    r#"[{"event_id":"a","event_type":"t"},{"specversion":"1.0","id":"b","source":"s","type":"t"},3]"#,
    r#"{"event_type":"order.placed","aggregate_id":"order-1","payload":{}}"#,
];

/// CloudEvents of others.
const CLOUD_EVENTS: &[&str] = &[
    r#"{"specversion":"1.0","id":"A234-1234","source":"/mycontext","type":"com.example.someevent","subject":"larger","time":"2018-04-05T17:31:00.10Z","datacontenttype":"text/xml","data":"<much wow=\"xml\"/>","comexampleextension1":"value","othervalue":5}"#,
    r#"{"specversion":"1.0","id":"1","source":"urn:tidings:source-absent","type":"t.v2","version":"7","timestamp":"soon","payload":3,"partitionkey":"k","data_base64":"AAEC"}"#,
    r#"{"specversion":"1.0","id":"1","source":"s","type":"t","dataversion":2,"correlationid":"c","causationid":null,"tdgattributes":"{\"source\":\"\",\"Nested\":{\"a\":[null]},\"big\":4294967296}","data":{"a":1.00}}"#,
];

fn main() {
    for (at, line) in LINES.iter().chain(CLOUD_EVENTS).enumerate() {
        keep("envelope_json", &format!("line-{at}"), line.as_bytes());
        keep("cloudevents_json", &format!("line-{at}"), line.as_bytes());
    }
    for (at, envelope) in events().iter().enumerate() {
        let line = envelope_json::to_json(envelope);
        keep("envelope_json", &format!("event-{at}"), line.as_bytes());
        let line = cloudevents::to_json(envelope);
        keep("cloudevents_json", &format!("event-{at}"), line.as_bytes());
    }
    let pairs: Vec<u8> = (0..120).flat_map(|number| [number * 2, number]).collect();
    for what in [2, 3, 6, 7] {
        let input = [&[what, 20], pairs.as_slice()].concat();
        keep("look_up_table", &format!("pairs-{what}"), &input);
    }
    let table = look_up_table::written(&pairs);
    for what in [0, 1, 4, 5] {
        let input = [&[what, 20], table.as_slice()].concat();
        keep("look_up_table", &format!("table-{what}"), &input);
    }
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let name = format!("{codec:?}").to_lowercase();
        // Unpacked, the long event would only make inputs long.
        let segments = segments(codec, codec != Codec::None);
        let [first, second, ..] = &segments[..] else {
            panic!("the events fill two segments");
        };
        keep("frame", &name, &[&[1, 0], frame(&first.1)].concat());
        keep(
            "frame",
            &format!("{name}-flipped"),
            &[&[5, 70], frame(&first.1)].concat(),
        );
        for (what, about) in [(3, "whole"), (11, "indexed"), (39, "torn")] {
            let torn = if what == 39 {
                first.1.len() / 2
            } else {
                first.1.len()
            };
            let input = [&[what][..], &[0; 12], &first.1[..torn]].concat();
            keep("segment_open", &format!("{name}-{about}"), &input);
        }
        let numbers = [
            first.1.len() as u16,
            second.0 as u16,
            second.0 as u16,
            1,
            64,
            64,
        ];
        let numbers: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let input = [&[23][..], &numbers, &first.1, &second.1].concat();
        keep("segment_open", &format!("{name}-two"), &input);
    }
}

/// Events with every attribute, with hardly any, and of a business.
fn events() -> Vec<Envelope> {
    let mut sparse = EnvelopeParts::new("0190-a", "order.placed");
    sparse.timestamp = Some(Timestamp::from_micros(1_700_000_000_000_001).into());
    sparse.payload = Some(Payload::binary(vec![0, 0xf5, b'T', b'd', 0xf7, 0xff]));
    let sparse = Envelope::new(sparse).expect("it has an id and a type");
    let lines = LINES[..3].iter().map(|line| (*line).to_owned());
    let read = lines.chain(loan_data::lines(3).step_by(17));
    read.filter_map(|line| envelope_json::from_json(line.as_bytes()).ok())
        .chain([sparse])
        .collect()
}

fn long_event() -> Envelope {
    let mut parts = EnvelopeParts::new("long", "order.placed");
    let payload = format!("[{}1]", "20.5, ".repeat(6_000));
    parts.payload = Payload::json(payload).ok();
    Envelope::new(parts).expect("it has an id and a type")
}

/// What a log writes, in segments without the room that was reserved.
fn segments(codec: Codec, with_long: bool) -> Vec<(u64, Vec<u8>)> {
    let disk = FaultyDisk::new();
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(
        1_700_000_000_000_000,
    )));
    let mut options = OpenOptions::new("/data", clock, Arc::new(disk.clone()));
    (options.codec, options.segment_bytes) = (codec, 4_096);
    options.look_up_tables = false;
    let broker = LogBroker::open(options).expect("an empty disk is opened");
    let events = events();
    // Only a long batch gets a frame that is packed.
    let long = [long_event()];
    let first = if with_long { &long[..] } else { &[] };
    let outcomes = block_on(broker.publish(first));
    assert!(outcomes.iter().all(Result::is_ok));
    for batch in [
        &events[..],
        &events[..1],
        &events[1..3],
        &events[..],
        &events[..],
        &events[..],
        &events[..2],
    ] {
        let outcomes = block_on(broker.publish(batch));
        assert!(outcomes.iter().all(Result::is_ok));
    }
    drop(broker);
    let segments = disk.files().into_iter().filter_map(|path| {
        let first = path
            .file_name()?
            .to_str()?
            .strip_suffix(".seg")?
            .parse()
            .ok()?;
        let mut bytes = disk.bytes_of(&path)?;
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0)? + 1);
        Some((first, bytes))
    });
    segments.collect()
}

/// The first frame of a segment.
fn frame(segment: &[u8]) -> &[u8] {
    let frame = &segment[SEGMENT_HEADER_BYTES..];
    let stored = frame.get(12..16).and_then(|bytes| bytes.first_chunk());
    let stored_bytes = stored.map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
    &frame[..HEAD_BYTES + stored_bytes]
}

fn keep(target: &str, name: &str, bytes: &[u8]) {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let kept =
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(name), bytes));
    kept.expect("the folder of kept inputs is written to");
}

//! What is wrong with a broker, a group or a message is said with its code and a way out, and what is no event keeps its bytes.

use crate::brokers::{self, Broker};
use crate::command::{Answer, Place, tidings};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Fails with this code of ours and of the process, naming the way out.
pub(crate) fn refused(answer: &Answer, exit: i32, code: &str, words: &str) {
    assert_eq!(answer.code, Some(exit), "{}", answer.stderr);
    assert!(answer.stderr.contains(code), "{code}: {}", answer.stderr);
    assert!(answer.stderr.contains(words), "{words}: {}", answer.stderr);
}

#[test]
fn a_broker_that_is_not_there_is_named_with_its_address() {
    for url in [
        "kafka://127.0.0.1:1",
        "amqp://127.0.0.1:1",
        "nats://127.0.0.1:1",
        "tls://127.0.0.1:1",
    ] {
        let answer = tidings(["emit", "order.placed", "--url", url]).run();
        refused(&answer, 7, "TD0101", "127.0.0.1:1");
    }
}

#[test]
fn what_is_missing_on_a_broker_is_named_with_the_command_where_it_must_not_be_made() {
    for broker in [brokers::kafka(), brokers::nats(), brokers::rabbitmq()] {
        let Some(broker) = broker else { continue };
        let url = format!("{}&ensure=false", broker.url);

        let answer = tidings(["emit", "order.placed", "--url", &url]).run();

        refused(&answer, 3, "TD0103", "make it:");
        let missing = tidings(["broker", "check", "-o", "json", "--url", &url]).run();
        assert_eq!(missing.code, Some(4), "{}", missing.stderr);
        assert!(missing.json()[0]["way_out"].is_string());
    }
}

#[test]
fn a_topic_with_too_few_partitions_is_wrong_and_says_how_to_add_some() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let narrow = format!("{}&partitions=2", broker.url);
    tidings(["broker", "ensure", "--url", &narrow]).ok();

    let wide = format!("{}&partitions=4", broker.url);
    let answer = tidings(["broker", "check", "-o", "json", "--url", &wide]).run();

    assert_eq!(answer.code, Some(4), "{}", answer.stderr);
    let item = answer.json()[0].clone();
    assert_eq!(item["state"], "wrong", "{item}");
    assert!(
        item["way_out"].as_str().unwrap().contains("--partitions 4"),
        "{item}"
    );
}

#[test]
fn a_group_that_needs_order_is_refused_where_there_is_none() {
    let Some(broker) = brokers::nats() else {
        return;
    };
    let run = |group: &str| {
        tidings(["consumer", "run", group, "--type", "**", "--until-end"]).arguments([
            "--exec",
            "true",
            "--url",
            &broker.url,
        ])
    };

    refused(&run("mailer").run(), 1, "TD0032", "single instance");
}

#[test]
fn a_group_that_may_have_several_instances_is_refused_a_store_that_they_do_not_share() {
    let Some(broker) = brokers::rabbitmq() else {
        return;
    };
    let place = Place::new();
    let run = |declared: &[&str]| {
        tidings(["consumer", "run", "mailer", "--type", "**", "--until-end"])
            .arguments(["--exec", "true", "--url", &broker.url])
            .arguments(declared)
            .data(&place.data())
            .run()
    };

    for asked in [&[][..], &["--on-failure", "hold"]] {
        let answer = run(asked);
        for way_out in ["--store URL", "--single-instance", "--on-failure continue"] {
            refused(&answer, 1, "TD0122", way_out);
        }
    }
    for declared in [&["--single-instance"][..], &["--on-failure", "continue"]] {
        let answer = run(declared);
        assert_eq!(answer.code, Some(0), "{declared:?}: {}", answer.stderr);
    }
}

#[test]
fn a_group_name_that_the_broker_cannot_hold_is_refused_with_what_would_do() {
    let Some(broker) = brokers::nats() else {
        return;
    };
    let run = |group: &str| {
        let run = tidings(["consumer", "run", group, "--type", "**", "--until-end"]);
        run.arguments(["--exec", "true", "--single-instance", "--url", &broker.url])
            .run()
    };

    // The command line takes it; a dot is three bytes of a consumer's name of 255 at most.
    let most = format!("a{}", ".".repeat(84));
    refused(&run(&(most.clone() + "...")), 1, "TD0032", "fewer dots");
    assert_eq!(run(&most).code, Some(0));
    assert_eq!(run(&"x".repeat(121)).code, Some(2));
}

#[test]
fn history_is_refused_by_a_broker_that_keeps_none() {
    let Some(broker) = brokers::rabbitmq() else {
        return;
    };

    let answer = tidings(["event", "export", "--url", &broker.url]).run();

    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert!(answer.stderr.contains("TD0032"), "{}", answer.stderr);
    assert!(answer.stderr.contains("RabbitMQ"), "{}", answer.stderr);
}

/// Sends messages to NATS as any program may: by its text protocol.
fn send_raw(broker: &Broker, messages: &[(&str, Option<&str>, &[u8])]) {
    let server = broker.url.trim_start_matches("nats://");
    let (address, parameters) = server.split_once('?').unwrap();
    let stream = parameters.split_once("stream=").unwrap().1;
    let mut socket = TcpStream::connect(address).unwrap();
    let mut bytes = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n".to_vec();
    for (subject, content_type, body) in messages {
        let head = content_type.map_or_else(String::new, |content_type| {
            format!("NATS/1.0\r\ncontent-type: {content_type}\r\n\r\n")
        });
        let line = if head.is_empty() {
            format!("PUB {stream}.{subject} {}\r\n", body.len())
        } else {
            let whole = head.len() + body.len();
            format!("HPUB {stream}.{subject} {} {whole}\r\n", head.len())
        };
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"PING\r\n");
    socket.write_all(&bytes).unwrap();
    // The answer to the ping comes once everything before it was read.
    let mut heard = Vec::new();
    while !heard.windows(4).any(|four| four == b"PONG") {
        let mut chunk = [0; 4096];
        let count = socket.read(&mut chunk).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&chunk[..count]);
    }
}

#[test]
fn foreign_events_are_read_and_garbage_is_shown_and_given_up_with_its_bytes() {
    let Some(broker) = brokers::nats() else {
        return;
    };
    tidings(["broker", "ensure", "--url", &broker.url]).ok();
    send_raw(
        &broker,
        &[
            ("shop.opened", None, br#"{"city":"Bonn"}"#),
            ("shop.painted", Some("image/x-unheard-of"), b"\x01\x02\x03"),
            ("shop.closed", None, b"\xff\xfe no event"),
        ],
    );

    let exported: Vec<Value> = broker
        .export()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(exported.len(), 3);
    let foreign = &exported[0];
    assert_eq!(foreign["event_type"], "shop.opened");
    assert_eq!(foreign["payload"]["city"], "Bonn");
    assert!(foreign["event_id"].is_string() && foreign.get("problem").is_none());
    for (row, bytes) in [(&exported[1], "AQID"), (&exported[2], "//4gbm8gZXZlbnQ=")] {
        assert_eq!(row["payload_base64"], bytes, "{row}");
    }
    assert!(exported[2]["problem"].is_string(), "{}", exported[2]);

    let handled = tidings(["consumer", "run", "g", "--type", "shop.*", "--until-end"])
        .arguments(["--exec", "sh -c 'cat > /dev/null'", "-o", "json"])
        .arguments(["--url", &broker.url, "--single-instance"])
        .ok()
        .json();
    let garbage = exported.iter().filter(|row| row.get("problem").is_some());
    assert_eq!(handled["dead_lettered"], garbage.count(), "{handled}");
    let facts = tidings([
        "tail",
        "tidings.**",
        "--from-start",
        "--until-end",
        "-o",
        "json",
    ])
    .arguments(["--url", &broker.url])
    .ok();
    assert!(
        facts.stdout.contains("//4gbm8gZXZlbnQ="),
        "{}",
        facts.stdout
    );

    // Into a folder they go by themselves; what is no event is put aside.
    let place = Place::new();
    let to = format!("file://{}", place.data().display());
    let rejects = place.file("rejects.jsonl");
    let refused = tidings(["bridge", "--from", &broker.url, "--to", &to, "--until-end"]).run();
    assert!(refused.stderr.contains("TD0106"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--rejects"), "{}", refused.stderr);
    tidings(["bridge", "--from", &broker.url, "--to", &to, "--until-end"])
        .argument("--rejects")
        .argument(&rejects)
        .ok();
    let kept = std::fs::read_to_string(&rejects).unwrap();
    assert!(kept.contains("//4gbm8gZXZlbnQ="), "{kept}");
}

#[test]
fn what_is_too_large_for_the_broker_or_for_an_event_is_refused_before_it_is_sent() {
    let Some(broker) = brokers::nats() else {
        return;
    };
    let place = Place::new();

    // The first has room in an event, and none beside its attributes in a message of 1 MiB, which is what NATS takes.
    for letters in [1_048_570, 2_000_000] {
        let file = place.write("large.json", format!("\"{}\"", "x".repeat(letters)));
        let answer = tidings(["emit", "order.placed", "--url", &broker.url])
            .argument("--payload")
            .argument(format!("@{}", file.display()))
            .run();
        refused(&answer, 1, "TD0012", "bytes");
    }

    assert_eq!(broker.export().len(), 0);
}

//! The same on SNS with SQS and on EventBridge, which say what is wrong in other words.

use crate::brokers::{self, Broker};
use crate::brokers_bad_input::refused;
use crate::command::{Place, tidings};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer than any answer takes on a machine under load.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

fn both() -> impl Iterator<Item = Broker> {
    [brokers::sns_sqs(), brokers::eventbridge()]
        .into_iter()
        .flatten()
}

/// Reads one request of HTTP: its head and its body.
fn request(socket: &mut TcpStream) -> (String, Vec<u8>) {
    socket.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
    let mut bytes = Vec::new();
    loop {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = head {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| {
                let length = line.strip_prefix("content-length:")?;
                length.trim().parse::<usize>().ok()
            });
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                return (head, bytes.split_off(end + 4));
            }
        }
        let mut chunk = [0; 4096];
        let count = socket.read(&mut chunk).unwrap();
        assert!(count > 0, "the request ends early");
        bytes.extend_from_slice(&chunk[..count]);
    }
}

/// A service that knows nobody: it answers every request as AWS answers a wrong key.
struct Stranger {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || {
            loop {
                let (mut socket, _) = listener.accept().unwrap();
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let (head, _) = request(&mut socket);
                let said = "The security token included in the request is invalid.";
                // EventBridge speaks JSON, SNS XML.
                let (status, body) = if head.contains("x-amz-target") {
                    let error = json!({"__type": "UnrecognizedClientException", "message": said});
                    ("400 Bad Request", error.to_string())
                } else {
                    let error = format!(
                        "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>{said}</Message></Error></ErrorResponse>"
                    );
                    ("403 Forbidden", error)
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                socket.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self {
            address,
            stopped,
            thread: Some(thread),
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // It waits for a connection; this is one.
        let _woken = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

#[test]
fn a_service_that_is_not_there_or_does_not_know_us_is_named_and_keeps_the_secret() {
    let stranger = Stranger::start();
    for scheme in ["sns+sqs", "eventbridge"] {
        let url = format!("{scheme}://key:s3cret@127.0.0.1:1");
        let answer = tidings(["emit", "order.placed", "--url", &url]).run();
        refused(&answer, 7, "TD0101", "127.0.0.1:1");

        let url = format!("{scheme}://key:s3cret@{}", stranger.address);
        let answer = tidings(["emit", "order.placed", "--url", &url]).run();
        refused(&answer, 6, "TD0102", "security token");
        assert!(!answer.stderr.contains("s3cret"), "{}", answer.stderr);

        let nobody = format!("{scheme}://{}", stranger.address);
        let folder = Place::new();
        let answer = tidings(["emit", "order.placed", "--url", &nobody])
            .variable("HOME", folder.data())
            .variable("AWS_ACCESS_KEY_ID", "")
            .variable("AWS_PROFILE", "")
            .run();
        refused(&answer, 6, "TD0102", "AWS_ACCESS_KEY_ID");
    }
}

#[test]
fn what_is_missing_on_aws_is_named_with_its_command_where_it_must_not_be_made() {
    for broker in both() {
        let url = format!("{}&ensure=false", broker.url);

        let answer = tidings(["emit", "order.placed", "--url", &url]).run();

        refused(&answer, 3, "TD0103", "make it: aws ");
        let run = tidings(["consumer", "run", "g", "--type", "**", "--exec", "true"])
            .arguments(["--until-end", "--unordered", "--url", &url])
            .run();
        refused(&run, 3, "TD0103", "make it: aws ");
        let missing = tidings(["broker", "check", "-o", "json", "--url", &url]).run();
        assert_eq!(missing.code, Some(4), "{}", missing.stderr);
        let way_out = missing.json()[0]["way_out"].clone();
        assert!(way_out.as_str().unwrap().starts_with("aws "), "{way_out}");
    }
}

#[test]
fn a_group_that_needs_order_and_history_are_refused_where_aws_has_none() {
    for broker in both() {
        let run = |group: &str, declared: &[&str]| {
            tidings(["consumer", "run", group, "--type", "**", "--until-end"])
                .arguments(["--exec", "true", "--url", &broker.url])
                .arguments(declared)
                .run()
        };

        refused(&run("mailer", &[]), 1, "TD0032", "--unordered");
        assert_eq!(run(&"x".repeat(121), &["--unordered"]).code, Some(2));
        // Names of queues and rules are shorter than those of groups may be.
        let long = run(&"x".repeat(120), &["--unordered"]);
        assert_eq!(long.code, Some(0), "{}", long.stderr);
        let listed = tidings(["consumer", "ls", "-o", "json", "--url", &broker.url]).ok();
        let groups = listed.json();
        assert_eq!(groups[0]["consumer"], "x".repeat(120), "{groups}");

        let answer = tidings(["event", "export", "--url", &broker.url]).run();
        refused(&answer, 1, "TD0032", "keeps no history");
    }
}

#[test]
fn what_is_too_large_for_aws_is_refused_before_it_is_sent() {
    let place = Place::new();
    // It fits into an event, and not into a message of 256 KiB.
    let file = place.write("large.json", format!("\"{}\"", "x".repeat(262_144)));
    for broker in both() {
        let answer = tidings(["emit", "order.placed", "--url", &broker.url])
            .argument("--payload")
            .argument(format!("@{}", file.display()))
            .run();

        refused(&answer, 1, "TD0012", "bytes");
    }
}

/// Sends a request to the service as any program may, signed by nobody, which the server does not look at.
fn send_raw(broker: &Broker, service: &str, headers: &str, body: &str) {
    let (_, server) = broker.url.split_once('@').unwrap();
    let (address, _) = server.split_once('?').unwrap();
    let length = body.len();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n{body}"
    );
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn name_of(broker: &Broker, parameter: &str) -> String {
    let (_, rest) = broker.url.split_once(&format!("&{parameter}=")).unwrap();
    rest.split('&').next().unwrap().to_owned()
}

/// What the group makes of everything that waits for it; what its handler was given.
fn handled(broker: &Broker, place: &Place) -> (Value, Vec<Value>) {
    let seen = place.file("seen.jsonl");
    let handler = format!("sh -c 'cat >> {0}; echo >> {0}'", seen.display());
    let report = tidings(["consumer", "run", "g", "--type", "**", "--until-end"])
        .arguments(["--unordered", "-o", "json", "--url", &broker.url])
        .arguments(["--exec", &handler])
        .data(&place.data())
        .ok()
        .json();
    let seen = std::fs::read_to_string(seen).unwrap_or_default();
    let lines = seen.lines().filter(|line| !line.is_empty());
    let events = lines.map(|line| serde_json::from_str(line).unwrap());
    (report, events.collect())
}

#[test]
fn foreign_json_on_a_topic_of_sns_is_read_and_garbage_is_given_up_with_its_bytes() {
    let Some(broker) = brokers::sns_sqs() else {
        return;
    };
    let place = Place::new();
    assert_eq!(handled(&broker, &place).0["handled"], 0);
    let topic = name_of(&broker, "topic");
    for message in ["%7B%22city%22%3A%22Bonn%22%7D", "%7Bhalf"] {
        let body = format!(
            "Action=Publish&TopicArn=arn%3Aaws%3Asns%3Aus-east-1%3A123456789012%3A{topic}&Message={message}"
        );
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        send_raw(&broker, "sns", form, &body);
    }

    let (report, events) = handled(&broker, &place);

    assert_eq!(report["handled"], 1, "{report}");
    assert_eq!(report["dead_lettered"], 1, "{report}");
    // It has neither type nor id: they say where it was found.
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["event_type"], "foreign.received");
    assert!(events[0]["event_id"].as_str().unwrap().starts_with("sqs:"));
    assert_eq!(events[0]["payload"]["city"], "Bonn");
    let store = format!("sqlite://{}/state.db", place.data().display());
    let letters = tidings(["dlq", "export", "--store", &store]).ok();
    let letter: Value = serde_json::from_str(letters.stdout.trim()).unwrap();
    assert_eq!(letter["payload_base64"], "e2hhbGY=", "{letter}");
    assert!(letters.stdout.contains("nor JSON"), "{}", letters.stdout);
}

#[test]
fn an_entry_of_others_on_a_bus_is_an_event_though_it_has_no_id_and_another_type() {
    let Some(broker) = brokers::eventbridge() else {
        return;
    };
    let place = Place::new();
    assert_eq!(handled(&broker, &place).0["handled"], 0);
    let bus = name_of(&broker, "bus");
    let entry = json!({
        "EventBusName": bus, "Source": "shop", "DetailType": "Shop Opened", "Detail": r#"{"city":"Bonn"}"#,
    });
    let body = json!({"Entries": [entry]}).to_string();
    let json = "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: AWSEvents.PutEvents\r\n";
    send_raw(&broker, "events", json, &body);

    let (report, events) = handled(&broker, &place);

    assert_eq!(report["handled"], 1, "{report}");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["event_type"], "Shop Opened");
    assert_eq!(events[0]["source"], "shop");
    assert_eq!(events[0]["payload"]["city"], "Bonn");
    assert!(!events[0]["event_id"].as_str().unwrap().is_empty());
}

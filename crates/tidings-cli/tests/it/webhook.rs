//! `alert run --webhook` against a real server: what a receiver gets, also when the watcher is killed between, and when it wants nothing more.

use crate::alert::{given_up, orders};
use crate::command::{Place, Running, Tidings, tidings, until};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request as a receiver sees it.
#[derive(Debug, Clone)]
struct Got {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Got {
    fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }
}

/// A receiver of webhooks.
struct Receiver {
    port: u16,
    got: Arc<Mutex<Vec<Got>>>,
    /// What it answers; 0 is no answer, the connection is kept open.
    status: Arc<Mutex<u16>>,
}

impl Receiver {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let status = Arc::new(Mutex::new(status));
        let (noted, answers) = (Arc::clone(&got), Arc::clone(&status));
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                kept.extend(answer(stream, &noted, &answers));
            }
        });
        Self { port, got, status }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/T0/hidden", self.port)
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn answers(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }
}

/// Reads a request and answers it; a connection without an answer is given back, to be kept open.
fn answer(stream: TcpStream, noted: &Mutex<Vec<Got>>, answers: &Mutex<u16>) -> Option<TcpStream> {
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    noted.lock().unwrap().push(Got { headers, body });
    let status = *answers.lock().unwrap();
    let mut stream = reader.into_inner();
    if status == 0 {
        return Some(stream);
    }
    let text = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(text.as_bytes());
    None
}

fn alert(arguments: &[&str], place: &Place, receiver: &Receiver) -> Tidings {
    tidings(["alert"])
        .arguments(arguments)
        .arguments(["--allow-private", "--webhook", &receiver.url()])
        .variable("TIDINGS_WEBHOOK_SECRET", SECRET)
        .data(&place.data())
}

fn dead_letters(place: &Place) -> Running {
    orders(place, 0, 3);
    given_up(place, "payment", 3)
}

#[test]
fn a_watcher_that_is_killed_between_sends_the_same_message_again_and_no_other() {
    let place = Place::new();
    let _consumer = dead_letters(&place);
    let receiver = Receiver::start(0);

    for kill in 1..=3 {
        let watcher = alert(&["run", "--from", "earliest"], &place, &receiver).start();
        until("the message is on its way", || receiver.got().len() == kill);
        watcher.kill();
    }
    receiver.answers(204);
    alert(&["run", "--until-end"], &place, &receiver).ok();
    alert(&["run", "--until-end"], &place, &receiver).ok();

    let got = receiver.got();
    assert_eq!(
        got.len(),
        4,
        "three that were killed, one that was accepted"
    );
    assert!(got.iter().all(|one| one.id() == got[0].id()), "{got:?}");
    assert!(got.iter().all(|one| one.body == got[0].body), "{got:?}");
    assert!(
        got[0].headers["webhook-signature"].starts_with("v1,"),
        "{got:?}"
    );
    let body: serde_json::Value = serde_json::from_str(&got[0].body).unwrap();
    assert_eq!(body["type"], "tidings.alert.fired");
    assert_eq!(body["data"]["consumer"], "payment");
    assert!(!got[0].body.contains("hidden-4711"), "{got:?}");
}

#[test]
fn a_receiver_that_is_gone_gets_nothing_until_it_accepts_a_test() {
    let place = Place::new();
    let consumer = dead_letters(&place);
    let receiver = Receiver::start(410);
    let run = || {
        alert(
            &["run", "--from", "earliest", "--until-end", "--window", "0s"],
            &place,
            &receiver,
        )
        .ok()
    };

    let answer = run();
    assert_eq!(receiver.got().len(), 1);
    assert!(answer.stderr.contains("410"), "{}", answer.stderr);
    receiver.answers(204);
    orders(&place, 3, 5);
    drop(consumer);
    let consumer = given_up(&place, "payment", 5);
    let answer = run();
    assert!(
        answer.stderr.contains("gets no alerts any more"),
        "{}",
        answer.stderr
    );
    assert_eq!(receiver.got().len(), 1);

    alert(&["test"], &place, &receiver).ok();
    assert_eq!(receiver.got().len(), 2);
    orders(&place, 5, 6);
    drop(consumer);
    let _consumer = given_up(&place, "payment", 6);
    run();
    assert!(receiver.got().len() > 2);
}

#[test]
fn what_a_receiver_answers_is_told_and_no_secret_is() {
    let place = Place::new();
    let receiver = Receiver::start(401);

    let answer = alert(&["test"], &place, &receiver).run();

    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert!(answer.stdout.contains("status 401"), "{}", answer.stdout);
    for text in [&answer.stdout, &answer.stderr] {
        assert!(
            !text.contains("hidden") && !text.contains("MfKQ9"),
            "{text}"
        );
    }
}

#[test]
fn a_webhook_needs_a_secret_a_url_and_an_address_that_it_may_lead_to() {
    let place = Place::new();
    let file = place.write("secret", format!("{SECRET}\n"));
    let bad = place.write("bad", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let test = |url: &str, file: Option<&std::path::Path>| {
        let mut command = tidings(["alert", "test", "--webhook", url]);
        if let Some(file) = file {
            command = command.argument("--webhook-secret-file").argument(file);
        }
        command.data(&place.data()).run()
    };

    for (url, file, code, error) in [
        ("http://127.0.0.1:9/", Some(file.as_path()), 6, "TD0152"),
        ("http://169.254.169.254/", Some(file.as_path()), 6, "TD0152"),
        ("ftp://example.com/", Some(file.as_path()), 2, "TD0150"),
        ("http://example.com/", None, 2, "TD0151"),
        ("http://example.com/", Some(bad.as_path()), 2, "TD0151"),
    ] {
        let answer = test(url, file);
        assert_eq!(answer.code, Some(code), "{url}: {}", answer.stderr);
        assert!(answer.stderr.contains(error), "{url}: {}", answer.stderr);
        assert!(!answer.stderr.contains("MfKQ9"), "{}", answer.stderr);
    }
    // The way out is told where it is one.
    for (url, is_way_out) in [
        ("http://127.0.0.1:9/", true),
        ("http://169.254.1.1/", false),
    ] {
        let answer = test(url, Some(&file));
        let told = answer.stderr.contains("--allow-private");
        assert_eq!(told, is_way_out, "{}", answer.stderr);
    }
    // A name is looked up for each attempt.
    let answer = test("http://localhost:9/", Some(&file));
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert!(answer.stdout.contains("TD0152"), "{}", answer.stdout);
}

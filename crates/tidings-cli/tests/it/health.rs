//! `--listen`: what Prometheus and an orchestrator see while a relay or a consumer runs.

use crate::command::{Place, Running, tidings, until};
use crate::table::{Kind, Table};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// The address of the port that was taken.
pub(crate) fn address(running: &Running) -> String {
    let line = running.heard("metrics http://");
    let (_, rest) = line.split_once("http://").unwrap();
    rest.trim_end_matches("/metrics").to_owned()
}

/// The status and the body of an answer.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[test]
fn a_relay_tells_its_figures_and_is_ready_while_it_has_the_lease() {
    let table = Table::seed(Kind::Sqlite, "metrics").unwrap();
    let running = table
        .command(["relay", "run", "--to", "-", "--listen", "0"])
        .start();
    let address = address(&running);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    table.place_orders(1, 7);

    until("the figures tell seven events", || {
        let (status, body) = get(&address, "/metrics");
        assert_eq!(status, 200);
        body.contains("tidings_outbox_relayed_total{outbox=\"")
            && body.lines().any(|line| {
                line.starts_with("tidings_outbox_relayed_total{") && line.ends_with(" 7")
            })
    });
    let (_, body) = get(&address, "/metrics");
    assert!(body.contains("text/plain; version=0.0.4"), "{body}");
    assert!(body.contains("tidings_build_info{version="), "{body}");
    assert_eq!(get(&address, "/livez").0, 200);
    assert_eq!(get(&address, "/readyz").0, 200);
    assert_eq!(get(&address, "/other").0, 404);

    let waiting = table
        .command(["relay", "run", "--to", "-", "--listen", "0"])
        .start();
    waiting.heard("relays this shard");
    let (status, body) = get(&self::address(&waiting), "/readyz");
    assert_eq!(status, 503, "{body}");
}

#[test]
fn a_consumer_tells_its_figures() {
    let place = Place::new();
    place.import("{\"event_id\":\"e-1\",\"event_type\":\"order.placed\",\"payload\":{}}\n");
    let running = tidings([
        "consumer", "run", "mailer", "--type", "order.*", "--exec", "true", "--listen", "0",
    ])
    .data(&place.data())
    .start();
    let address = address(&running);

    until("one event is handled", || {
        get(&address, "/metrics")
            .1
            .contains("tidings_events_handled_total{consumer=\"mailer\",outcome=\"ok\"} 1")
    });
    let (_, body) = get(&address, "/metrics");
    for figure in [
        "tidings_consumer_lag_events{consumer=\"mailer\"}",
        "tidings_log_state{state=\"open\"} 1",
        "tidings_log_end_position 1",
        "tidings_log_damage_total 0",
    ] {
        assert!(body.contains(figure), "{figure}: {body}");
    }
    assert_eq!(get(&address, "/readyz").0, 200);
}

#[test]
fn a_port_that_is_taken_and_an_address_that_is_none_are_told() {
    let table = Table::seed(Kind::Sqlite, "taken").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let run = |address: &str| {
        table
            .command([
                "relay",
                "run",
                "--to",
                "-",
                "--until-empty",
                "--listen",
                address,
            ])
            .run()
    };

    let answer = run(&port);
    assert_eq!(answer.code, Some(5), "{}", answer.stderr);
    assert!(answer.stderr.contains("TD0091"), "{}", answer.stderr);
    let answer = run("here");
    assert_eq!(answer.code, Some(2), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("127.0.0.1:9464"),
        "{}",
        answer.stderr
    );
}

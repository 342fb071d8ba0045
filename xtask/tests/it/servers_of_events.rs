//! `cargo xtask services` with the servers that carry events: each is killed, started and restarted, and nothing of it is left in the end.

use crate::services::{PORTS_OF_ONE, Place, listen};

fn is_killed_and_restarted(server: &'static str, usual_port: u16) {
    let Some(place) = Place::with_tools(server, usual_port) else {
        return;
    };

    place.run(&["up", server]);
    let first = place.process();
    assert_eq!(place.state(), "up");

    place.run(&["kill", "-9", server]);
    assert_eq!(place.state(), "down");
    assert!(
        place
            .refused(&["kill", "-9", server])
            .contains("not running")
    );
    place.run(&["up", server]);
    let second = place.process();
    assert_eq!(place.state(), "up");
    assert_ne!(second, first);

    place.run(&["restart", server]);
    assert_eq!(place.state(), "up");
    assert_ne!(place.process(), second);

    assert!(place.run(&["down", server]).contains("stopped"));
    assert_eq!(place.state(), "down");
    // Whatever it started beside itself has ended too.
    for port in place.port..place.port + PORTS_OF_ONE {
        listen(port);
    }
}

#[test]
fn nats_is_killed_and_restarted() {
    is_killed_and_restarted("nats", 14222);
}

#[test]
fn moto_is_killed_and_restarted() {
    is_killed_and_restarted("moto", 15555);
}

#[test]
fn rabbitmq_is_killed_and_restarted() {
    is_killed_and_restarted("rabbitmq", 16672);
}

#[test]
fn kafka_is_killed_and_restarted() {
    is_killed_and_restarted("kafka", 19092);
}

//! Ports for servers of tests: below those that the system gives to outgoing connections, so that none is taken between the choice and the start.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where the range begins: above the usual ports of the servers.
const FIRST: u16 = 20_000;
/// Ports of one process of tests.
const PORTS: u16 = 100;
/// Processes that have ports of their own at the same time.
const PROCESSES: u32 = 120;

/// Ports of this process that were given away.
static GIVEN: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on and that no other test of this process gets.
pub(crate) fn own_port() -> u16 {
    let process = u16::try_from(std::process::id() % PROCESSES).expect("small");
    for _ in 0..PORTS {
        let port = FIRST + process * PORTS + GIVEN.fetch_add(1, Ordering::Relaxed) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("none of {PORTS} ports is free");
}

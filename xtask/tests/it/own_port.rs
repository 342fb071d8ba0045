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
    own_ports(1)
}

/// The first of so many ports one behind the other, for a server that has several.
pub(crate) fn own_ports(count: u16) -> u16 {
    let process = u16::try_from(std::process::id() % PROCESSES).expect("small");
    for _ in 0..PORTS {
        let first = GIVEN.fetch_add(count, Ordering::Relaxed) % PORTS;
        let port = FIRST + process * PORTS + first;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if first + count <= PORTS && (port..port + count).all(is_free) {
            return port;
        }
    }
    panic!("no {count} of {PORTS} ports are free");
}

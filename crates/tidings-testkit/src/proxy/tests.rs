//! The proxy before a server that echoes, with plain blocking sockets on both sides.

use super::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Instant;

/// Everything here is over long before.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long a byte that must not come is waited for.
const QUIET: Duration = Duration::from_millis(100);

/// A server that answers each connection with what it hears, on threads that end with their connections.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut answers = connection.try_clone().unwrap();
                // A connection that is reset ends the echo.
                let _ended = std::io::copy(&mut &connection, &mut answers);
                let _closed = answers.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

fn connect(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends and hears it again.
fn say(mut stream: &TcpStream, words: &[u8]) {
    stream.write_all(words).unwrap();
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, words);
}

/// Nothing comes for a while, and the connection stays.
fn is_silent(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let heard = stream.read(&mut [0]);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    heard.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn is_reset(mut stream: &TcpStream) -> bool {
    let heard = stream.read(&mut [0]);
    heard.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let end = now() + DEADLINE;
    while !reached() {
        assert!(now() < end, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test of a network waits by the clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn bytes_go_both_ways_and_are_counted_and_each_side_may_close_its_half() {
    let proxy = FaultProxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    let long: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let writing = {
        let (mut stream, long) = (stream.try_clone().unwrap(), long.clone());
        std::thread::spawn(move || {
            stream.write_all(&long).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        })
    };

    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();

    writing.join().unwrap();
    assert!(heard == long);
    until("it is closed", || proxy.figures().open == 0);
    let figures = proxy.figures();
    assert_eq!((figures.accepted, figures.cut), (1, 0));
    assert_eq!(figures.bytes_to_server, 1_000_000);
    assert_eq!(figures.bytes_to_client, 1_000_000);
}

#[test]
fn a_cut_resets_both_sides_of_all_connections_and_takes_new_ones() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap().to_string()).unwrap();
    let (one, two) = (connect(&proxy), connect(&proxy));
    let (at_server, _) = listener.accept().unwrap();
    let (_too, _) = listener.accept().unwrap();

    assert_eq!(proxy.cut(), 2);

    assert!(is_reset(&one) && is_reset(&two) && is_reset(&at_server));
    assert_eq!(proxy.figures().open, 0);
    let _again = connect(&proxy);
    listener.accept().unwrap();
    assert_eq!(proxy.figures().accepted, 3);
}

#[test]
fn new_connections_are_refused_beside_open_ones_until_the_network_is_healed() {
    let proxy = FaultProxy::start(echo()).unwrap();
    let open = connect(&proxy);
    say(&open, b"before");

    for _ in 0..3 {
        proxy.refuse();
        let refused = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        say(&open, b"meanwhile");
        proxy.heal();
        say(&connect(&proxy), b"after");
    }

    until("only one is open", || proxy.figures().open == 1);
    assert_eq!(proxy.down(), 1);
    assert!(is_reset(&open));
    assert!(TcpStream::connect(proxy.address()).is_err());
}

#[test]
fn a_half_open_connection_takes_bytes_and_tells_nothing_and_is_cut_when_healed() {
    let proxy = FaultProxy::start(echo()).unwrap();
    let (mut silent, idle) = (connect(&proxy), connect(&proxy));
    say(&silent, b"before");
    say(&idle, b"before");

    proxy.half_open();
    silent.write_all(b"into the void").unwrap();
    assert!(is_silent(&silent));
    until("they are thrown away", || {
        proxy.figures().bytes_swallowed == 13
    });
    assert_eq!(proxy.figures().open, 2);

    proxy.heal();
    assert!(is_reset(&silent));
    say(&idle, b"nothing of this one was lost");
    say(&connect(&proxy), b"after");
}

#[test]
fn answers_get_lost_after_their_requests_were_done() {
    let proxy = FaultProxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    say(&stream, b"before");

    proxy.swallow(Direction::ToClient);
    stream.write_all(b"done").unwrap();
    until("the answer is lost", || {
        proxy.figures().bytes_swallowed == 4
    });

    assert!(is_silent(&stream));
    assert_eq!(proxy.figures().bytes_to_server, 6 + 4);
}

#[test]
fn a_stranded_connection_is_silent_for_good_beside_new_ones() {
    let proxy = FaultProxy::start(echo()).unwrap();
    let mut stranded = connect(&proxy);
    say(&stranded, b"before");

    proxy.strand();
    stranded.write_all(b"nobody hears").unwrap();
    say(&connect(&proxy), b"new ones work");
    proxy.heal();
    say(&connect(&proxy), b"after");

    assert!(is_silent(&stranded));
    until("they are thrown away", || {
        proxy.figures().bytes_swallowed == 12
    });
    assert_eq!(proxy.figures().cut, 0);
}

#[test]
fn a_frozen_network_loses_nothing() {
    let proxy = FaultProxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    say(&stream, b"before");

    proxy.freeze();
    stream.write_all(b"held").unwrap();
    let late = connect(&proxy);
    assert!(is_silent(&stream));
    proxy.heal();

    let mut heard = [0; 4];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"held");
    say(&late, b"taken after all");
    assert_eq!(proxy.figures().bytes_swallowed, 0);
}

#[test]
fn a_delay_holds_for_each_direction_and_bytes_stay_in_order() {
    let proxy = FaultProxy::start(echo()).unwrap();
    let stream = connect(&proxy);
    say(&stream, b"at once");

    proxy.delay(Direction::ToServer, Duration::from_millis(60));
    proxy.delay(Direction::ToClient, Duration::from_millis(40));
    let began = now();
    say(&stream, b"later");
    assert!(now() - began >= Duration::from_millis(100));
    let long: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let writing = {
        let (mut stream, long) = (stream.try_clone().unwrap(), long.clone());
        std::thread::spawn(move || stream.write_all(&long).unwrap())
    };
    let mut heard = vec![0; long.len()];
    (&stream).read_exact(&mut heard).unwrap();
    writing.join().unwrap();
    assert!(heard == long);
}

#[test]
fn a_narrow_direction_takes_its_time_until_it_is_healed() {
    let proxy = FaultProxy::start(echo()).unwrap();
    let stream = connect(&proxy);
    proxy.limit(Direction::ToServer, NonZeroU64::new(20_000).unwrap());

    let began = now();
    say(&stream, &[7; 4_000]);
    assert!(now() - began >= Duration::from_millis(150));

    proxy.heal();
    say(&stream, &[8; 1_000_000_usize / 10]);
    assert_eq!(proxy.figures().bytes_to_server, 104_000);
}

#[test]
fn a_target_that_is_not_there_resets_and_is_counted() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = gone.local_addr().unwrap().to_string();
    drop(gone);
    let proxy = FaultProxy::start(target).unwrap();

    assert!(is_reset(&connect(&proxy)));

    assert_eq!(proxy.figures().unreachable, 1);
}

#[test]
fn a_proxy_that_is_dropped_cuts_and_gives_its_port_back() {
    let proxy = FaultProxy::start(echo()).unwrap();
    let address = proxy.address();
    let stream = connect(&proxy);
    say(&stream, b"before");

    drop(proxy);

    assert!(is_reset(&stream));
    FaultProxy::start_at(address, "127.0.0.1:1").unwrap();
}

#[test]
fn only_the_loopback_is_listened_on() {
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let refused = FaultProxy::start_at(everywhere, "127.0.0.1:1").unwrap_err();
    assert!(refused.to_string().contains("loopback"), "{refused}");
}

#[test]
fn host_and_port_of_a_url_are_found_with_and_without_user_and_path() {
    let of = |url: &'static str| {
        let (from, to) = host_of(url);
        &url[from..to]
    };
    assert_eq!(of("amqp://guest:p@h:5672/%2f"), "h:5672");
    assert_eq!(of("nats://127.0.0.1:4222"), "127.0.0.1:4222");
    assert_eq!(of("http://[::1]:80?a=/@"), "[::1]:80");
    assert_eq!(of("127.0.0.1:9092"), "127.0.0.1:9092");
}

//! Reads a log to its end and waits for nothing but its own calls.

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use tidings_core::Envelope;
use tidings_core::broker::{BrokerError, Position, ReadRequest, Reader};

/// More calls than any input can need: reading that takes them does not end.
const CALLS_MAX: usize = 20_000;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Everything that a log has to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The events with their positions.
    pub events: Vec<(u64, Envelope)>,
    /// Positions that are told to be lost, neighbours as one.
    pub lost: Vec<Range<u64>>,
    /// Behind the last position.
    pub end: u64,
}

impl Seen {
    fn lose(&mut self, from: u64, to: u64) {
        match self.lost.last_mut().filter(|last| last.end == from) {
            Some(last) => last.end = to,
            None => self.lost.push(from..to),
        }
    }
}

/// Reads from the oldest position to the end. Positions only grow, damage is passed, and it ends.
pub fn read_all(reader: &dyn Reader) -> Seen {
    let mut seen = Seen::default();
    let mut from =
        block_on(reader.earliest()).expect("nothing keeps the oldest position from being told");
    for _ in 0..CALLS_MAX {
        let request = ReadRequest {
            from,
            patterns: &[],
            events_max: 64,
        };
        match block_on(reader.read(request)) {
            Ok(page) => {
                for recorded in page.events {
                    assert!(recorded.position >= from && recorded.position < page.next);
                    from = recorded.position.next();
                    seen.events.push((recorded.position.0, recorded.envelope));
                }
                assert!(page.next >= from, "reading went back");
                from = page.next;
                if page.at_end {
                    seen.end = from.0;
                    return seen;
                }
            }
            Err(BrokerError::Damaged {
                from: first,
                to: last,
                ..
            }) => {
                assert!(
                    first >= from && last >= first,
                    "damage {first}..={last} at {from}"
                );
                from = Position(
                    last.0
                        .checked_add(1)
                        .expect("no event is at the last position"),
                );
                seen.lose(first.0, from.0);
            }
            Err(error) => panic!("reading at {from} failed: {error}"),
        }
    }
    panic!("reading does not end");
}

//! How the tests drive a log: a small executor, events, and folders.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use tidings_core::broker::{
    Broker, BrokerError, Delivery, Position, PublishError, ReadRequest, Reader, Received, Recorded,
    Subscription,
};
use tidings_core::{Envelope, EnvelopeParts, Pattern, Payload, Timestamp};
use tidings_log::{Codec, LogBroker, OpenOptions, RealDisk};
use tidings_testkit::{FaultyDisk, ManualClock};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
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

/// An event of key `key` whose id and payload name `number`.
pub(crate) fn event(number: u64) -> Envelope {
    typed_event("order.placed", number)
}

pub(crate) fn typed_event(event_type: &str, number: u64) -> Envelope {
    let mut parts = EnvelopeParts::new(format!("evt-{number}"), event_type);
    parts.aggregate_id = Some(format!("order-{}", number % 7));
    parts.timestamp = Some(Timestamp::from_micros(1_700_000_000_000_000 + number as i64).into());
    parts.payload = Some(Payload::json(format!("{{\"number\": {number}}}")).unwrap());
    Envelope::new(parts).unwrap()
}

pub(crate) fn events(numbers: std::ops::Range<u64>) -> Vec<Envelope> {
    numbers.map(event).collect()
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::at("2024-01-15T10:30:00Z".parse().unwrap())
}

pub(crate) fn on_disk(folder: &std::path::Path) -> OpenOptions {
    let mut options = OpenOptions::new(folder, Arc::new(clock()), Arc::new(RealDisk));
    options.codec = Codec::None;
    options
}

/// Publishes and answers the positions.
pub(crate) fn publish(broker: &LogBroker, batch: &[Envelope]) -> Result<Vec<u64>, PublishError> {
    let outcomes = block_on(broker.publish(batch));
    assert_eq!(outcomes.len(), batch.len());
    outcomes
        .into_iter()
        .map(|outcome| outcome.map(|receipt| receipt.position.unwrap().0))
        .collect()
}

/// Everything from a position on, by pages.
pub(crate) fn read_from(reader: &dyn Reader, from: u64, patterns: &[Pattern]) -> Vec<Recorded> {
    let (mut all, mut from) = (Vec::new(), Position(from));
    loop {
        let page = block_on(reader.read(ReadRequest {
            from,
            patterns,
            events_max: 100,
        }))
        .unwrap();
        all.extend(page.events);
        from = page.next;
        if page.at_end {
            return all;
        }
    }
}

pub(crate) fn envelopes(recorded: &[Recorded]) -> Vec<Envelope> {
    recorded
        .iter()
        .map(|recorded| recorded.envelope.clone())
        .collect()
}

/// Everything that can be read, and the positions that are told to be lost.
pub(crate) fn read_around_damage(
    reader: &dyn Reader,
) -> (Vec<Recorded>, Vec<std::ops::RangeInclusive<u64>>) {
    let (mut all, mut lost, mut from) = (Vec::new(), Vec::new(), Position(0));
    loop {
        match block_on(reader.read(ReadRequest {
            from,
            patterns: &[],
            events_max: 100,
        })) {
            Ok(page) => {
                all.extend(page.events);
                from = page.next;
                if page.at_end {
                    return (all, lost);
                }
            }
            Err(BrokerError::Damaged {
                from: first, to, ..
            }) => {
                assert!(first >= from && to >= first, "{first} {to}");
                lost.push(first.0..=to.0);
                from = to.next();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A log on a faulty disk, in small segments.
pub(crate) fn on_faulty(disk: &FaultyDisk) -> OpenOptions {
    let mut options = OpenOptions::new("/data", Arc::new(clock()), Arc::new(disk.clone()));
    // Segments and frames of the sizes that the tests are made for, whatever packs well.
    options.codec = Codec::None;
    options.segment_bytes = 4_096;
    // They are made by a thread of their own, and its calls of the disk would come between the counted ones.
    options.look_up_tables = false;
    options
}

/// How often something is repeated: less when the environment asks for haste.
#[expect(
    clippy::disallowed_methods,
    reason = "the one setting of the tests, read where it is used"
)]
pub(crate) fn repeated(usually: u64, quick: u64) -> u64 {
    let hurry = std::env::var_os("TIDINGS_TEST_QUICK").is_some();
    if hurry { quick } else { usually }
}

/// What became of events that were published one batch after the other.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) acked: Vec<Envelope>,
    /// Their outcome is not known, or they were refused: they may be there only if it is not known.
    pub(crate) unknown: Vec<Envelope>,
}

impl Journal {
    /// Publishes a batch and notes what became of it.
    pub(crate) fn publish(&mut self, broker: &LogBroker, batch: &[Envelope]) -> bool {
        let outcomes = block_on(broker.publish(batch));
        let mut all = true;
        for (outcome, envelope) in outcomes.into_iter().zip(batch) {
            match outcome {
                Ok(_) => self.acked.push(envelope.clone()),
                Err(error) => {
                    all = false;
                    if error.may_have_happened() {
                        self.unknown.push(envelope.clone());
                    }
                }
            }
        }
        all
    }

    /// Checks that everything acknowledged is there, in order and once, and that nothing else is but what is not known.
    pub(crate) fn check(&self, recorded: &[Recorded], about: &str) {
        let mut acked = self.acked.iter().peekable();
        let mut seen = HashSet::new();
        for recorded in recorded {
            assert!(
                seen.insert(recorded.envelope.event_id().to_owned()),
                "{about}: {} is there twice",
                recorded.envelope.event_id()
            );
            if acked
                .next_if(|expected| **expected == recorded.envelope)
                .is_none()
            {
                assert!(
                    self.unknown.contains(&recorded.envelope),
                    "{about}: {} should not be there",
                    recorded.envelope.event_id()
                );
            }
        }
        if let Some(missing) = acked.next() {
            panic!(
                "{about}: {} was acknowledged and is lost or out of order",
                missing.event_id()
            );
        }
    }
}

/// The next deliveries that are not empty.
pub(crate) fn receive(subscription: &mut Subscription, events_max: usize) -> Vec<Delivery> {
    loop {
        if let Received::Deliveries { deliveries, .. } =
            block_on(subscription.receive.receive(events_max)).unwrap()
            && !deliveries.is_empty()
        {
            return deliveries;
        }
    }
}

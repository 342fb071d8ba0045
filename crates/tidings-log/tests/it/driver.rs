//! How the tests drive a log: a small executor, events, and folders.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use tidings_core::broker::{
    Broker, Delivery, Position, PublishError, ReadRequest, Reader, Received, Recorded, Subscription,
};
use tidings_core::{Envelope, EnvelopeParts, Pattern, Payload, Timestamp};
use tidings_log::{LogBroker, OpenOptions, RealDisk};
use tidings_testkit::ManualClock;

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
    OpenOptions::new(folder, Arc::new(clock()), Arc::new(RealDisk))
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

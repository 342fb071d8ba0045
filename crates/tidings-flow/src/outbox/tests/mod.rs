//! The relay against a database and destinations in memory, on a clock that is moved by hand.

mod life;
mod order;
mod store;
mod trouble;

use super::{Relay, RelayNotice, RelayOptions, RunningRelay};
use crate::fakes::{CountingChance, FakeBroker, ManualClock, SharedBroker};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::FakeStore;
use tidings_core::BoxFuture;
use tidings_core::broker::{Broker, Destination, PublishError, PublishOutcome, Receipt};
use tidings_core::seam::Clock;
use tidings_core::{Code, Envelope, ErrorClass};

/// An outbox, a broker and the clock of both.
struct Shop {
    clock: Arc<ManualClock>,
    store: Arc<FakeStore>,
    broker: Arc<FakeBroker>,
    chance: Arc<CountingChance>,
    notices: Arc<Mutex<Vec<RelayNotice>>>,
}

impl Shop {
    fn new() -> Self {
        let clock = ManualClock::new();
        Self {
            store: FakeStore::new(&clock),
            clock,
            broker: Arc::new(FakeBroker::new()),
            chance: Arc::default(),
            notices: Arc::default(),
        }
    }

    fn relay(&self, options: RelayOptions) -> Relay {
        let broker: Arc<dyn Broker> = Arc::new(SharedBroker(Arc::clone(&self.broker)));
        self.relay_to(Arc::new(broker), options)
    }

    fn relay_to(&self, destination: Arc<dyn Destination>, options: RelayOptions) -> Relay {
        let clock: Arc<ManualClock> = Arc::clone(&self.clock);
        let store: Arc<FakeStore> = Arc::clone(&self.store);
        let chance = Arc::clone(&self.chance);
        let chance: Arc<CountingChance> = chance;
        let notices = Arc::clone(&self.notices);
        Relay::new(store, destination, clock, chance, options)
            .observe(move |notice| notices.lock().unwrap().push(notice.clone()))
    }

    fn start(&self) -> RunningRelay {
        self.relay(RelayOptions::default()).start()
    }

    /// Payload numbers of what the broker has, in its order.
    fn log(&self) -> Vec<String> {
        let state = self.broker.lock();
        let ids = state
            .log
            .iter()
            .map(|one| one.envelope.event_id().to_owned());
        ids.collect()
    }

    fn told(&self, wanted: impl Fn(&RelayNotice) -> bool) -> usize {
        let notices = self.notices.lock().unwrap();
        notices.iter().filter(|notice| wanted(notice)).count()
    }

    /// Lets time pass in small steps until something is so.
    async fn until(&self, what: &str, reached: impl Fn() -> bool) {
        let (limit, step) = (Duration::from_secs(600), Duration::from_millis(20));
        self.steps(limit, step, what, reached).await;
    }

    async fn within(&self, limit: Duration, what: &str, reached: impl Fn() -> bool) {
        self.steps(limit, Duration::from_millis(1), what, reached)
            .await;
    }

    async fn steps(&self, limit: Duration, step: Duration, what: &str, reached: impl Fn() -> bool) {
        let end = self.clock.elapsed() + limit;
        settle_tasks().await;
        while !reached() {
            self.jump(step).await;
            let told = self.notices.lock().unwrap();
            assert!(
                self.clock.elapsed() <= end,
                "not within {limit:?}: {what}; {told:?}"
            );
        }
    }

    /// Lets time pass in steps of a tenth of a second.
    async fn pass(&self, time: Duration) {
        let end = self.clock.elapsed() + time;
        while self.clock.elapsed() < end {
            let left = end - self.clock.elapsed();
            self.jump(left.min(Duration::from_millis(100))).await;
        }
    }

    /// Lets time pass in one step, and everybody do what follows.
    async fn jump(&self, time: Duration) {
        settle_tasks().await;
        self.clock.advance(time);
        settle_tasks().await;
    }
}

/// Everybody who can go on does so; the tests run on one thread.
async fn settle_tasks() {
    for _ in 0..12 {
        tokio::task::yield_now().await;
    }
}

type Answer = Box<dyn Fn(&Envelope) -> PublishOutcome + Send + Sync>;

/// A destination that answers each event as the test wants, and keeps what it accepted.
struct Scripted {
    answer: Answer,
    accepted: Mutex<Vec<String>>,
    /// How long a batch takes.
    takes: Option<(Arc<ManualClock>, Duration)>,
}

impl Scripted {
    fn new(answer: impl Fn(&Envelope) -> PublishOutcome + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            answer: Box::new(answer),
            accepted: Mutex::default(),
            takes: None,
        })
    }

    fn slow(clock: &Arc<ManualClock>, takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            answer: Box::new(|_| accepted()),
            accepted: Mutex::default(),
            takes: Some((Arc::clone(clock), takes)),
        })
    }

    fn accepted(&self) -> Vec<String> {
        self.accepted.lock().unwrap().clone()
    }
}

impl Destination for Scripted {
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            if let Some((clock, takes)) = &self.takes {
                clock.sleep(*takes).await;
            }
            let mut failed: Vec<String> = Vec::new();
            let mut outcomes = Vec::new();
            for envelope in batch {
                let key = envelope.aggregate_id().map(str::to_owned);
                if key.as_ref().is_some_and(|key| failed.contains(key)) {
                    outcomes.push(Err(PublishError::NotAttempted));
                    continue;
                }
                let outcome = (self.answer)(envelope);
                match &outcome {
                    Ok(_) => self
                        .accepted
                        .lock()
                        .unwrap()
                        .push(envelope.event_id().to_owned()),
                    Err(_) => failed.extend(key),
                }
                outcomes.push(outcome);
            }
            outcomes
        })
    }
}

fn accepted() -> PublishOutcome {
    Ok(Receipt { position: None })
}

fn refused(class: ErrorClass, code: Code) -> PublishOutcome {
    let reason = "as the test wants it".to_owned();
    Err(PublishError::Refused {
        reason,
        class,
        code,
    })
}

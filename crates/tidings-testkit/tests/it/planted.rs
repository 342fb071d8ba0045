//! The suite of brokers finds bugs: each is planted into the broker in memory, and the property that must see it fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, Delivery, PublishOutcome, Reader, Receipt, Receive,
    Received, Settle, SettleAction, SettleError, SubscribeRequest, Subscription, Token,
};
use tidings_core::{BoxFuture, Envelope, EnvelopeParts, Payload, Timestamp};
use tidings_flow::runtime::SystemClock;
use tidings_testkit::MemoryBroker;
use tidings_testkit::conformance::broker::{
    Ending, Fixture, RawMessage, Traits, Unavailable, run_some,
};

/// What is wrong with the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// Acknowledges an event in fifty and forgets it.
    Forgets,
    /// Hands every tenth event out twice.
    Doubles,
    /// Appends a batch from its end.
    Reverses,
    /// Loses the source of an event.
    Strips,
    /// Takes a release for an acknowledgement.
    DropsReleased,
    /// Settles everything before what is acknowledged.
    SettlesBefore,
    /// Says that a stale token was settled.
    BelievesAnybody,
    /// Accepts events after it was closed, and forgets them.
    OutlivesItsEnd,
    /// Lets no second group see anything.
    OneGroup,
    /// Says that a message is no event, and loses its bytes.
    DropsGarbage,
}

/// The id of a message that is no event.
const GARBAGE: &str = "garbage";

/// A broker in memory with a bug.
struct Buggy {
    inner: MemoryBroker,
    bug: Option<Bug>,
    published: AtomicU64,
    first_group: Arc<Mutex<Option<String>>>,
}

impl Broker for Buggy {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            let mut batch = batch.to_vec();
            match self.bug {
                Some(Bug::Reverses) => batch.reverse(),
                Some(Bug::Strips) => {
                    let strip = |envelope: &Envelope| {
                        let mut parts = envelope.parts();
                        parts.source = None;
                        Envelope::trusted(parts)
                    };
                    batch = batch.iter().map(strip).collect();
                }
                _ => {}
            }
            let mut outcomes = Vec::new();
            for envelope in &batch {
                let number = self.published.fetch_add(1, Ordering::AcqRel);
                if self.bug == Some(Bug::Forgets) && number % 50 == 7 {
                    outcomes.push(Ok(Receipt { position: None }));
                    continue;
                }
                let mut outcome =
                    Broker::publish(&self.inner, std::slice::from_ref(envelope)).await;
                if self.bug == Some(Bug::OutlivesItsEnd) {
                    outcome = vec![Ok(Receipt { position: None })];
                }
                outcomes.append(&mut outcome);
            }
            outcomes
        })
    }

    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async move {
            let joined = self.inner.subscribe(request).await?;
            let mut first = self.first_group.lock().unwrap();
            let name = request.group.to_string();
            let is_first = *first.get_or_insert_with(|| name.clone()) == name;
            Ok(Subscription {
                receive: Box::new(BuggyReceive {
                    inner: joined.receive,
                    bug: self.bug,
                    silent: self.bug == Some(Bug::OneGroup) && !is_first,
                }),
                settle: Arc::new(BuggySettle {
                    inner: joined.settle,
                    bug: self.bug,
                }),
                resumed: joined.resumed,
            })
        })
    }

    fn reader(&self) -> Option<&dyn Reader> {
        self.inner.reader()
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.inner.admin()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        self.inner.close()
    }
}

struct BuggyReceive {
    inner: Box<dyn Receive>,
    bug: Option<Bug>,
    silent: bool,
}

impl Receive for BuggyReceive {
    fn receive(&mut self, events_max: usize) -> BoxFuture<'_, Result<Received, BrokerError>> {
        Box::pin(async move {
            if self.silent {
                return std::future::pending().await;
            }
            let mut received = self.inner.receive(events_max).await?;
            if let Received::Deliveries { deliveries, .. } = &mut received {
                if self.bug == Some(Bug::Doubles) {
                    let again = deliveries.iter().find(|it| it.token.0 % 10 == 3).cloned();
                    deliveries.extend(again);
                }
                let garbage = deliveries.iter_mut();
                garbage
                    .filter(|it| it.envelope.event_id() == GARBAGE)
                    .for_each(|it| self.tell_garbage(it));
            }
            Ok(received)
        })
    }

    fn is_caught_up(&self) -> bool {
        self.inner.is_caught_up()
    }

    fn behind(&self, now: Timestamp) -> Option<Duration> {
        self.inner.behind(now)
    }
}

impl BuggyReceive {
    fn tell_garbage(&self, delivery: &mut Delivery) {
        delivery.problem = Some("it is no JSON".into());
        if self.bug == Some(Bug::DropsGarbage) {
            let mut parts = delivery.envelope.parts();
            parts.payload = None;
            delivery.envelope = Envelope::trusted(parts);
        }
    }
}

struct BuggySettle {
    inner: Arc<dyn Settle>,
    bug: Option<Bug>,
}

impl Settle for BuggySettle {
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            let mut told = Vec::new();
            for (token, action) in outcomes {
                match (self.bug, action) {
                    (Some(Bug::DropsReleased), SettleAction::Release) => {
                        told.push((*token, SettleAction::Ack));
                    }
                    (Some(Bug::SettlesBefore), SettleAction::Ack) => {
                        let before = (0..token.0).map(|it| (Token(it), SettleAction::Ack));
                        self.inner.settle(&before.collect::<Vec<_>>()).await;
                        told.push((*token, *action));
                    }
                    _ => told.push((*token, *action)),
                }
            }
            let answers = self.inner.settle(&told).await;
            match self.bug {
                Some(Bug::BelievesAnybody | Bug::Doubles | Bug::SettlesBefore) => {
                    answers.into_iter().map(|_| Ok(())).collect()
                }
                _ => answers,
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        self.inner.flush()
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        self.inner.leave()
    }
}

/// A place for the broker with its bug.
struct Planted {
    bug: Option<Bug>,
    events: MemoryBroker,
    first_group: Arc<Mutex<Option<String>>>,
    /// How often its server was restarted, of which nobody sees anything.
    restarts: Arc<AtomicU64>,
}

impl Planted {
    fn with(bug: Option<Bug>) -> Self {
        Self {
            bug,
            events: MemoryBroker::new(Arc::new(SystemClock::new())),
            first_group: Arc::default(),
            restarts: Arc::default(),
        }
    }
}

impl Fixture for Planted {
    fn name(&self) -> &'static str {
        "planted"
    }

    fn version(&self) -> BoxFuture<'_, String> {
        Box::pin(async move { format!("{:?}", self.bug) })
    }

    fn traits(&self) -> Traits {
        Traits {
            one_instance: Some("as in memory"),
            in_process: Some("as in memory"),
            idle_max: Duration::from_secs(1),
            ..Traits::default()
        }
    }

    fn test(&self) -> &'static str {
        "planted::the_suite_finds_planted_bugs"
    }

    fn fresh<'a>(&'a self, property: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move { property.to_owned() })
    }

    fn send_raw<'a>(
        &'a self,
        _address: &'a str,
        message: RawMessage,
    ) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(async move {
            let mut parts = EnvelopeParts::new(GARBAGE, message.event_type);
            parts.aggregate_id = message.key;
            parts.payload = Some(Payload::binary(message.body));
            let envelope = [Envelope::new(parts).unwrap()];
            let outcomes = Broker::publish(&self.events, &envelope).await;
            assert!(outcomes[0].is_ok(), "{outcomes:?}");
            Ok(())
        })
    }

    fn restart_server(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        self.restarts.fetch_add(1, Ordering::AcqRel);
        Box::pin(async { Ok(()) })
    }

    fn connect<'a>(
        &'a self,
        _address: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Broker>, BrokerError>> {
        Box::pin(async move {
            Ok(Arc::new(Buggy {
                inner: self.events.another(),
                bug: self.bug,
                published: AtomicU64::new(0),
                first_group: Arc::clone(&self.first_group),
            }) as Arc<dyn Broker>)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_finds_planted_bugs() {
    for (bug, property) in [
        (Bug::Forgets, "A1"),
        (Bug::Doubles, "A1"),
        (Bug::Reverses, "C3"),
        (Bug::Reverses, "A14"),
        (Bug::Strips, "B1"),
        (Bug::DropsReleased, "A4"),
        (Bug::DropsReleased, "A8"),
        (Bug::SettlesBefore, "D4"),
        (Bug::BelievesAnybody, "E8"),
        (Bug::OutlivesItsEnd, "A10"),
        (Bug::OneGroup, "A16"),
        (Bug::OneGroup, "H1"),
        (Bug::Forgets, "I5"),
        (Bug::Reverses, "I5"),
        (Bug::DropsGarbage, "E4"),
    ] {
        let ending = ending(bug, property).await;

        assert_eq!(ending, Ending::Fail, "{property} does not see {bug:?}");
    }
    // It is the bug that is seen, and not how garbage gets into a broker that has no messages.
    assert_eq!(ending(Bug::BelievesAnybody, "E4").await, Ending::Pass);
}

async fn ending(bug: Bug, property: &str) -> Ending {
    let planted = Planted::with(Some(bug));
    let report = run_some(Arc::new(planted), &[property]).await;
    report.results[0].result
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_must_not_be_killed_is_restarted_in_good_order_and_that_is_said() {
    // I2 finds out how by a restart of its own before those under load.
    for (property, ending, expected) in [("I2", Ending::Declared, 4), ("I5", Ending::Pass, 1)] {
        let sound = Planted::with(None);
        let restarts = Arc::clone(&sound.restarts);

        let report = run_some(Arc::new(sound), &[property]).await;

        let result = &report.results[0];
        assert_eq!(result.result, ending, "{result}");
        assert_eq!(restarts.load(Ordering::Acquire), expected, "{result}");
    }
}

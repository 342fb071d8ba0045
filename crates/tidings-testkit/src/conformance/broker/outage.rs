//! A server that goes down and comes up again: how it is brought down, and what is published meanwhile: I5.

use super::chaos::{IN_PROCESS, PUBLISH_PATIENCE};
use super::fixture::{Fixture, Unavailable};
use super::ground::{Ground, assert_none_missing, declared, number_of, spread};
use super::member::Member;
use super::report::Verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::Envelope;
use tidings_core::broker::Broker;
use tidings_core::seam::Clock as _;
use tidings_flow::runtime::SystemClock;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// As many as the requirement names, whatever the counts of the run.
const EVENTS: usize = 10_000;
const KEYS: usize = 100;
/// Published at once.
const BATCH_EVENTS: usize = 500;
/// A publisher tries again after so long.
const PAUSE: Duration = Duration::from_millis(100);

/// How a server is brought down and up again: in the hardest way that it bears.
pub(super) enum Fall {
    /// Killed with SIGKILL and started.
    Killed,
    /// Restarted in good order, because it must not be killed.
    InGoodOrder(Unavailable),
}

impl Fall {
    /// The first fall, which tells the way of the next ones: a hook that is not there must not look like one that was used.
    pub(super) async fn first(fixture: &dyn Fixture) -> Result<Self, Unavailable> {
        if let Err(reason) = fixture.kill_server().await {
            return match fixture.restart_server().await {
                Ok(()) => Ok(Self::InGoodOrder(reason)),
                Err(_) => Err(reason),
            };
        }
        start(fixture).await;
        Ok(Self::Killed)
    }

    /// Once more.
    pub(super) async fn again(&self, fixture: &dyn Fixture) {
        match self {
            Self::Killed => {
                fixture.kill_server().await.expect("killed before");
                start(fixture).await;
            }
            Self::InGoodOrder(_) => {
                let restarted = fixture.restart_server().await;
                restarted.expect("restarted before");
            }
        }
    }

    /// Of what claims a kill: a restart in good order says why there was none.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Killed => Verdict::Pass,
            Self::InGoodOrder(reason) => declared(reason),
        }
    }
}

async fn start(fixture: &dyn Fixture) {
    let started = fixture.start_server().await;
    started.expect("a server that was killed starts");
}

/// I5: ten thousand events are published while the server goes down, is down and comes up again, each until it is accepted, with the same id after an unknown
/// outcome: nothing accepted is lost, and the first occurrences of each key are in order.
pub(super) async fn published_through(ground: Arc<Ground>) -> Verdict {
    if ground.traits.is_embedded {
        return Verdict::Declared(IN_PROCESS.to_owned());
    }
    let broker = ground.connect().await;
    ground.prepare(&*broker, "i5").await;
    let events = spread(EVENTS, KEYS);
    let (flowing, flows) = oneshot::channel();
    let (falls, fallen) = oneshot::channel();
    let mut publishing = JoinSet::new();
    publishing.spawn(publish(broker, events.clone(), flowing, fallen));
    // A publisher that failed ends the wait as well, and is told below.
    let _failed = flows.await;
    let killed = ground.fixture.kill_server().await;
    let _failed = falls.send(());
    let back = match killed {
        Ok(()) => ground.fixture.start_server().await,
        Err(reason) => ground.fixture.restart_server().await.map_err(|_| reason),
    };
    if let Err(reason) = back {
        return declared(&reason);
    }
    if let Some(Err(error)) = publishing.join_next().await {
        std::panic::resume_unwind(error.into_panic());
    }

    let reader = ground.connect().await;
    let mut member = Member::join(&ground, &*reader, "i5").await;
    let seen = member.read(&ground, events.len()).await;
    assert_none_missing(&events, &seen);
    assert_first_in_order(&seen);
    Verdict::Pass
}

/// Publishes in order: a first part while the server is up, a third while it may fall, the rest once it has fallen or is about to.
async fn publish(
    broker: Arc<dyn Broker>,
    events: Vec<Envelope>,
    flowing: oneshot::Sender<()>,
    fallen: oneshot::Receiver<()>,
) {
    let (first, rest) = events.split_at(BATCH_EVENTS);
    let (meanwhile, behind) = rest.split_at(EVENTS / 3);
    publish_until_accepted(&*broker, first).await;
    // Nobody waits for it where the property has ended.
    let _ended = flowing.send(());
    publish_until_accepted(&*broker, meanwhile).await;
    if fallen.await.is_ok() {
        publish_until_accepted(&*broker, behind).await;
    }
}

/// Publishes again, with the same ids and in their order, what was not accepted.
async fn publish_until_accepted(broker: &dyn Broker, events: &[Envelope]) {
    let clock = SystemClock::new();
    for batch in events.chunks(BATCH_EVENTS) {
        let mut waiting = batch.to_vec();
        let began = clock.elapsed();
        loop {
            let outcomes = broker.publish(&waiting).await;
            assert_eq!(outcomes.len(), waiting.len(), "one outcome for each event");
            let mut left = Vec::new();
            for (envelope, outcome) in waiting.into_iter().zip(outcomes) {
                if let Err(error) = outcome {
                    let waits =
                        error.class().is_transient() && clock.elapsed() - began < PUBLISH_PATIENCE;
                    assert!(waits, "{} is not accepted: {error}", envelope.event_id());
                    left.push(envelope);
                }
            }
            if left.is_empty() {
                break;
            }
            waiting = left;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What came again may stand anywhere; what came first stands in the order of its key.
fn assert_first_in_order(seen: &[Envelope]) {
    let mut known = BTreeSet::new();
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for envelope in seen {
        if !known.insert(envelope.event_id()) {
            continue;
        }
        let key = envelope.aggregate_id().expect("each has a key").to_owned();
        let number = number_of(envelope);
        if let Some(before) = last.insert(key, number) {
            assert!(
                before < number,
                "{} came behind number {before} of its key",
                envelope.event_id()
            );
        }
    }
}

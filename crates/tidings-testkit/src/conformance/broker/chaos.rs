//! Servers that restart and networks that fail, under load: A15, D6, I1, I2, J3.

use super::consumer::{builder, drain, start};
use super::durability::process_killed_thrice;
use super::ground::{END_MAX, Ground, connect, declared, event};
use super::order::assert_handled_in_order;
use super::outage::Fall;
use super::report::Verdict;
use super::witness::{Witness, content};
use crate::proxy::{Direction, FaultProxy};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidings_core::broker::{Broker, KeyOrder, PublishError};
use tidings_core::seam::Clock as _;
use tidings_core::{BoxFuture, Envelope};
use tidings_flow::runtime::SystemClock;
use tokio::task::{JoinError, JoinSet};

/// How long a publisher tries one event: a server needs its time to start.
pub(super) const PUBLISH_PATIENCE: Duration = Duration::from_secs(90);
/// A network is down for so long before it comes back.
const OUTAGE: Duration = Duration::from_secs(2);
pub(super) const IN_PROCESS: &str =
    "the broker lives in its process: no server and no network to lose";

/// What is done to server or network while events flow.
type Disturbance<'a> = Box<dyn FnOnce() -> BoxFuture<'a, ()> + Send + 'a>;

/// A load of publishers that do not give up, and one consumer.
struct Load {
    address: String,
    publishers: usize,
    each: usize,
}

impl Load {
    fn of(ground: &Ground, address: &str) -> Self {
        Self {
            address: address.to_owned(),
            publishers: ground.count(100, 20),
            each: ground.count(100, 30),
        }
    }

    /// Publishes everything, with a disturbance after each equal part; nothing acknowledged is lost, and where the broker keeps order, so it is.
    async fn run(&self, ground: &Ground, disturbances: Vec<Disturbance<'_>>) {
        let broker = connect(&*ground.fixture, &self.address).await;
        let reader = connect(&*ground.fixture, &self.address).await;
        let witness = Witness::new();
        let build = || builder(ground, &reader, "load", &witness, content());
        let consumer = start(ground, build).await;
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut events = Vec::new();
        let mut tasks = JoinSet::new();
        for publisher in 0..self.publishers {
            let key = format!("p{publisher}");
            let own: Vec<_> = (0..self.each).map(|number| event(&key, number)).collect();
            events.extend(own.iter().cloned());
            tasks.spawn(publish_stubbornly(
                Arc::clone(&broker),
                own,
                Arc::clone(&accepted),
            ));
        }
        let parts = disturbances.len() + 1;
        for (index, disturb) in disturbances.into_iter().enumerate() {
            let wanted = events.len() * (index + 1) / parts;
            while accepted.load(Ordering::Acquire) < wanted {
                while let Some(ended) = tasks.try_join_next() {
                    told(ended);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            disturb().await;
        }
        while let Some(ended) = tasks.join_next().await {
            told(ended);
        }

        witness
            .until_handled_patiently(events.len(), PUBLISH_PATIENCE)
            .await;
        tokio::time::sleep(ground.traits.quiet).await;
        if broker.capabilities().key_order == KeyOrder::None {
            assert_eq!(witness.seen().handled(), events.len());
        } else {
            assert_handled_in_order(&events, &witness);
        }
        drain(consumer).await;
    }
}

/// A publisher that gave up is what the property found.
fn told(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Publishes one event after the other, each until it is accepted, as a relay does.
async fn publish_stubbornly(
    broker: Arc<dyn Broker>,
    events: Vec<Envelope>,
    accepted: Arc<AtomicUsize>,
) {
    let clock = SystemClock::new();
    for envelope in events {
        let began = clock.elapsed();
        loop {
            let outcomes = broker.publish(std::slice::from_ref(&envelope)).await;
            match outcomes.as_slice() {
                [Ok(_)] => break,
                [Err(error)] => {
                    let waits =
                        error.class().is_transient() && clock.elapsed() - began < PUBLISH_PATIENCE;
                    assert!(waits, "{} is not accepted: {error}", envelope.event_id());
                }
                _ => panic!("one event, and the outcomes are {outcomes:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        accepted.fetch_add(1, Ordering::AcqRel);
    }
}

/// A15: the server is stopped and started in good order, after a third and after a half.
pub(super) async fn reconnects(ground: Arc<Ground>) -> Verdict {
    if let Err(reason) = restartable(&ground).await {
        return reason;
    }
    let restart = || -> Disturbance<'_> {
        Box::new(|| {
            Box::pin(async {
                let restarted = ground.fixture.restart_server().await;
                restarted.expect("restarted before");
            })
        })
    };
    let load = Load::of(&ground, &ground.address);
    load.run(&ground, vec![restart(), restart()]).await;
    Verdict::Pass
}

/// Whether the server can be restarted; once before the load, because a hook that is not there must not look like one that was used.
async fn restartable(ground: &Ground) -> Result<(), Verdict> {
    if ground.traits.is_embedded {
        return Err(Verdict::Declared(IN_PROCESS.to_owned()));
    }
    let restarted = ground.fixture.restart_server().await;
    restarted.map_err(|reason| declared(&reason))
}

/// I2: the server is killed with SIGKILL and started again, three times; restarted in good order where it must not be killed.
pub(super) async fn killed_thrice(ground: Arc<Ground>) -> Verdict {
    if ground.traits.is_embedded {
        return process_killed_thrice(&ground).await;
    }
    let fall = match Fall::first(&*ground.fixture).await {
        Ok(fall) => fall,
        Err(reason) => return declared(&reason),
    };
    let fall_again = || -> Disturbance<'_> { Box::new(|| Box::pin(fall.again(&*ground.fixture))) };
    let load = Load::of(&ground, &ground.address);
    load.run(&ground, vec![fall_again(), fall_again(), fall_again()])
        .await;
    fall.verdict()
}

/// I1: connections are cut, frozen, half open, slow and narrow, one after the other.
pub(super) async fn bad_network(ground: Arc<Ground>) -> Verdict {
    let (address, proxy) = match ground.fixture.behind_proxy(&ground.address).await {
        Ok(found) => found,
        Err(reason) => return declared(&reason),
    };
    let fault = |inject: fn(&FaultProxy)| -> Disturbance<'_> {
        let proxy = &proxy;
        Box::new(move || {
            Box::pin(async move {
                inject(proxy);
                tokio::time::sleep(OUTAGE).await;
                proxy.heal();
            })
        })
    };
    let faults = vec![
        fault(|proxy| {
            proxy.cut();
        }),
        fault(|proxy| {
            proxy.down();
        }),
        fault(FaultProxy::freeze),
        fault(FaultProxy::half_open),
        fault(|proxy| proxy.swallow(Direction::ToClient)),
        fault(|proxy| {
            for direction in Direction::BOTH {
                proxy.delay(direction, Duration::from_millis(20));
                proxy.limit(direction, NonZeroU64::new(200_000).unwrap());
            }
        }),
    ];
    Load::of(&ground, &address).run(&ground, faults).await;
    Verdict::Pass
}

/// D6: while the server's answers cannot come, nothing is confirmed, and that is said in bounded time: what was sent may be there. Afterwards it is accepted.
pub(super) async fn confirmed(ground: Arc<Ground>) -> Verdict {
    let (address, proxy) = match ground.fixture.behind_proxy(&ground.address).await {
        Ok(found) => found,
        Err(reason) => return declared(&reason),
    };
    let broker = connect(&*ground.fixture, &address).await;
    super::ground::publish(&*broker, &[event("k", 0)]).await;
    proxy.swallow(Direction::ToClient);
    let batch = [event("k", 1), event("k", 2), event("other", 3)];

    let outcomes = tokio::time::timeout(END_MAX * 2, broker.publish(&batch)).await;

    let outcomes = outcomes.expect("publishing ends, also where no answer comes");
    assert!(
        outcomes.iter().all(Result::is_err),
        "confirmed, though no answer of the server came: {outcomes:?}"
    );
    assert!(
        outcomes
            .iter()
            .flat_map(|it| it.as_ref().err())
            .all(|it| it.class().is_transient()),
        "{outcomes:?}"
    );
    // The first of each key was sent, the one behind it may have waited for its answer.
    for (outcome, envelope) in [&outcomes[0], &outcomes[2]]
        .into_iter()
        .zip([&batch[0], &batch[2]])
    {
        assert!(
            outcome.as_ref().is_err_and(PublishError::may_have_happened),
            "{} was sent, and may be there: {outcome:?}",
            envelope.event_id()
        );
    }
    proxy.heal();
    let accepted = Arc::default();
    publish_stubbornly(broker, batch.to_vec(), accepted).await;
    Verdict::Pass
}

/// J3: publishing says in bounded time that the broker is gone, and works again soon after it is back; the consumer goes on by itself.
pub(super) async fn health(ground: Arc<Ground>) -> Verdict {
    let (address, proxy) = match ground.fixture.behind_proxy(&ground.address).await {
        Ok(found) => found,
        Err(reason) => return declared(&reason),
    };
    let broker = connect(&*ground.fixture, &address).await;
    let witness = Witness::new();
    let build = || builder(&ground, &broker, "j3", &witness, content());
    let consumer = start(&ground, build).await;
    super::ground::publish(&*broker, &[event("k", 0)]).await;
    witness.until_handled(1).await;

    proxy.down();
    let outcomes = tokio::time::timeout(END_MAX * 2, broker.publish(&[event("k", 1)])).await;
    let outcomes = outcomes.expect("publishing ends, also while the broker is gone");
    assert!(
        matches!(outcomes.as_slice(), [Err(error)] if error.class().is_transient()),
        "while the broker is gone: {outcomes:?}"
    );
    proxy.heal();

    let back = publish_stubbornly(Arc::clone(&broker), vec![event("k", 1)], Arc::default());
    assert!(
        tokio::time::timeout(END_MAX * 3, back).await.is_ok(),
        "publishing does not work a minute after the broker is back"
    );
    witness.until_handled_patiently(2, END_MAX * 2).await;
    drain(consumer).await;
    Verdict::Pass
}

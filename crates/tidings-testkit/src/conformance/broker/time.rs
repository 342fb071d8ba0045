//! Events that are published later, through a store and its relay: G1, G2, G3.

use super::consumer::{builder, drain, start};
use super::fixture::Sharing;
use super::ground::{Ground, event};
use super::report::Verdict;
use super::stores::{Store, answered, drain_relay};
use super::witness::{Witness, content};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::store::{ScheduleStore, ScheduledEvent};
use tidings_core::{Envelope, Timestamp};
use tidings_flow::consumer::RunningConsumer;
use tidings_flow::outbox::RunningRelay;
use tidings_flow::runtime::SystemClock;
use tidings_flow::schedule::{SCHEDULED_TIME, Scheduler};

/// How far ahead events are scheduled: long enough to change one's mind on a busy machine, short enough to wait for.
const AHEAD: Duration = Duration::from_millis(1_000);

/// What looks at one property of time: scheduled events, their way to the broker, and who sees them there.
struct Scene {
    store: Store,
    witness: Arc<Witness>,
    consumer: RunningConsumer,
    relay: RunningRelay,
}

impl Scene {
    async fn set(ground: &Ground, property: &str, sharing: Sharing) -> Result<Self, Verdict> {
        let store = Store::fresh(ground, property, sharing).await?;
        let broker = ground.connect().await;
        let witness = Witness::new();
        let build = || builder(ground, &broker, property, &witness, content());
        let consumer = start(ground, build).await;
        Ok(Self {
            relay: store.relay(&broker),
            store,
            witness,
            consumer,
        })
    }

    fn schedules(&self) -> &Arc<dyn ScheduleStore> {
        &self.store.stores.schedules
    }

    fn scheduler(&self) -> Scheduler {
        Scheduler::start(Arc::clone(self.schedules()), Arc::new(SystemClock::new()))
    }

    /// What time it is for the store.
    async fn now(&self) -> Timestamp {
        answered(self.schedules().due(0).await).now
    }

    /// Schedules an event under its own id.
    async fn add(&self, event: &Envelope, due: Timestamp) {
        let scheduled = ScheduledEvent {
            id: event.event_id().to_owned(),
            due,
            recurrence: None,
            event: event.clone(),
            fired: 0,
            fired_last: None,
        };
        let is_new = answered(self.schedules().add(&scheduled).await);
        assert!(is_new, "{} is scheduled twice", scheduled.id);
    }

    /// Schedules events of three keys, each a little after the one before.
    async fn add_spread(&self, numbers: std::ops::Range<usize>) -> Vec<(Envelope, Timestamp)> {
        let now = self.now().await;
        let mut scheduled = Vec::new();
        for (index, number) in (1..).zip(numbers) {
            let due = now.plus(AHEAD / 20 * index);
            let event = event(&format!("k{}", number % 3), number);
            self.add(&event, due).await;
            scheduled.push((event, due));
        }
        scheduled
    }

    /// Each was published once, and not before it was due.
    fn assert_fired(&self, scheduled: &[(Envelope, Timestamp)]) {
        let seen = self.witness.seen();
        for (event, due) in scheduled {
            let published = seen.attempts_at(event);
            assert_eq!(published.len(), 1, "{} was published", event.event_id());
            let envelope = &published[0].envelope;
            let at = envelope.timestamp().map(|it| it.instant());
            assert!(
                at.is_some_and(|at| at >= *due),
                "{} was due at {due} and fired at {at:?}",
                event.event_id()
            );
            let told = envelope.extension_text(SCHEDULED_TIME);
            assert_eq!(told.as_deref(), Some(due.to_string().as_str()));
            assert_eq!(envelope.payload_bytes(), event.payload_bytes());
        }
        assert_eq!(seen.begun.len(), scheduled.len(), "nothing else was");
    }

    async fn end(self, ground: &Ground, scheduled: &[(Envelope, Timestamp)]) -> Verdict {
        self.witness.until_handled(scheduled.len()).await;
        tokio::time::sleep(ground.traits.quiet).await;
        self.assert_fired(scheduled);
        let left = answered(self.schedules().list(None, 10).await);
        assert!(left.is_empty(), "what has fired is forgotten: {left:?}");
        drain(self.consumer).await;
        drain_relay(self.relay).await;
        Verdict::Pass
    }
}

/// G1: what is scheduled is published once it is due, and not before; what is due already, at once.
pub(super) async fn scheduled(ground: Arc<Ground>) -> Verdict {
    let scene = match Scene::set(&ground, "g1", Sharing::OneInstance).await {
        Ok(scene) => scene,
        Err(declared) => return declared,
    };
    let now = scene.now().await;
    let mut scheduled = Vec::new();
    for number in 0..ground.count(50, 10) {
        let due = now.plus(AHEAD + AHEAD / 10 * u32::try_from(number).unwrap());
        let event = event("due", number);
        scene.add(&event, due).await;
        scheduled.push((event, due));
    }

    // It looks at once, while none of them is due.
    let scheduler = scene.scheduler();
    let at_once = event("at-once", 0);
    scene.add(&at_once, now).await;
    scheduler.wake();
    scheduled.push((at_once, now));

    scene.end(&ground, &scheduled).await
}

/// G2: what is cancelled is not published, and what is moved is published when it is due by then.
pub(super) async fn cancelled(ground: Arc<Ground>) -> Verdict {
    let scene = match Scene::set(&ground, "g2", Sharing::OneInstance).await {
        Ok(scene) => scene,
        Err(declared) => return declared,
    };
    let now = scene.now().await;
    let far = now.plus(Duration::from_secs(86_400));
    let (soon, later) = (now.plus(AHEAD / 10), now.plus(AHEAD));
    let (cancelled, moved, put_off) = (event("c", 0), event("m", 0), event("p", 0));
    scene.add(&cancelled, soon).await;
    scene.add(&moved, far).await;
    scene.add(&put_off, soon).await;

    let is_cancelled = answered(scene.schedules().cancel(cancelled.event_id()).await);
    let is_moved = scene.schedules().reschedule(moved.event_id(), soon).await;
    let is_put_off = scene
        .schedules()
        .reschedule(put_off.event_id(), later)
        .await;

    assert!(is_cancelled, "it is there to be cancelled");
    assert!(answered(is_moved) && answered(is_put_off), "they are there");
    let again = answered(scene.schedules().cancel(cancelled.event_id()).await);
    assert!(!again, "it was cancelled before");
    let _scheduler = scene.scheduler();
    // The one that was put off comes after the time of the one that was cancelled.
    scene.end(&ground, &[(moved, soon), (put_off, later)]).await
}

/// G3: several schedulers look at one store, one of them ends on its way, and each event fires once.
pub(super) async fn several(ground: Arc<Ground>) -> Verdict {
    let sharing = match ground.traits.one_instance {
        Some(_) => Sharing::OneInstance,
        None => Sharing::ManyInstances,
    };
    let scene = match Scene::set(&ground, "g3", sharing).await {
        Ok(scene) => scene,
        Err(declared) => return declared,
    };
    let half = ground.count(50, 10);
    let ends = scene.scheduler();
    let others = [scene.scheduler(), scene.scheduler()];
    let mut scheduled = scene.add_spread(0..half).await;

    scene.witness.until_handled(half / 2).await;
    drop(ends);
    scheduled.extend(scene.add_spread(half..2 * half).await);
    scene.witness.until_handled(scheduled.len()).await;

    let fired: u64 = others.iter().map(|one| one.stats().fired).sum();
    assert!(fired >= half as u64, "the others fired {fired} and no more");
    scene.end(&ground, &scheduled).await
}

//! What is parked and comes again, or was parked by another instance: it is recognized, and never handled in two places.

use super::*;
use crate::fakes::failures::FakeFailures;
use std::sync::atomic::{AtomicBool, Ordering};
use tidings_core::Timestamp;
use tidings_core::store::{
    DeathCause, FailedAttempt, FailureChange, FailureStore, LaneId, ParkedDelivery, ParkedId,
};

/// A group on a broker whose keys move in silence, with a store that several share: one attempt in place and one ten seconds later.
struct Shared {
    stage: Stage,
    store: FakeFailures,
    seen: Seen,
    /// Whether the first attempt at the first event fails.
    fails: Arc<AtomicBool>,
}

impl Shared {
    fn new() -> Self {
        let mut broker = FakeBroker::new();
        broker.group_leased = false;
        let mut stage = Stage::on(broker);
        stage.config.attempts = 1;
        stage.config.later = vec![Duration::from_secs(10)];
        stage.config.backoff.jitter_percent = 0;
        let store = FakeFailures::new(&stage.clock);
        Self {
            stage,
            store,
            seen: Seen::default(),
            fails: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Runs a group whose first event fails at its first attempt.
    async fn start(&self) -> RunningConsumer {
        let (seen, fails) = (self.seen.clone(), Arc::clone(&self.fails));
        let handler = TestHandler::of("**", move |context| {
            let id = context.envelope.event_id().to_owned();
            let fails = fails.load(Ordering::Acquire) && id == "evt-1" && context.attempt == 1;
            seen.note(format!("{id} at {}", context.attempt));
            async move {
                if fails {
                    return Err(HandlerError::transient_message("not yet"));
                }
                Ok(())
            }
        });
        self.with(handler).await
    }

    async fn with(&self, handler: TestHandler) -> RunningConsumer {
        let builder = self.stage.builder("group").handler(Arc::new(handler));
        let store = Arc::new(self.store.clone());
        builder.failures(store).start().await.unwrap()
    }

    fn publish(&self, numbers: impl IntoIterator<Item = usize>) {
        let events = numbers.into_iter();
        let events = events.map(|number| event("a.b", Some("k"), number));
        self.stage.broker.append(events);
    }

    /// Another instance parks events of the key; the first is due then.
    async fn park_elsewhere(&self, numbers: impl IntoIterator<Item = usize>, due_in: Duration) {
        let deliveries = numbers.into_iter().map(|number| ParkedDelivery {
            id: ParkedId(0),
            lead: 0,
            lane: LaneId::of_key("k"),
            envelope: event("a.b", Some("k"), number),
            problem: None,
            position: None,
            attempts: 1,
            rounds: 1,
            deaths: 0,
            history: vec![FailedAttempt {
                attempt: 1,
                at: Timestamp::from_micros(0),
                error: "not yet".to_owned(),
            }],
            due: None,
            letter: None,
        });
        let change = FailureChange::Park {
            deliveries: deliveries.collect(),
            due_in: Some(due_in),
        };
        self.store.apply("group", &[change]).await.unwrap();
    }

    async fn until_free(&self) {
        let done = || self.store.lock().parked.is_empty();
        self.stage.until("the key is free", done).await;
    }
}

/// The broker was not told in time that a parked event is settled, and hands it out once more.
#[tokio::test]
async fn a_copy_of_a_parked_event_that_was_handled_is_settled_and_not_handled() {
    let shared = Shared::new();
    shared.publish([1]);
    let consumer = shared.start().await;
    shared.stage.idle(&consumer).await;
    assert_eq!(shared.store.parked_ids(), ["evt-1"]);
    shared.until_free().await;

    shared.publish([1]);
    shared.stage.idle(&consumer).await;

    assert_eq!(shared.seen.all(), ["evt-1 at 1", "evt-1 at 2"]);
    assert_eq!(shared.stage.broker.lock().acked.len(), 2);
    assert_eq!(consumer.stats().skipped, 1);
}

/// The run that parked it ended before it could settle it, the next one handled the row and ended too, and then the copy comes.
#[tokio::test]
async fn a_copy_of_an_event_that_an_earlier_run_parked_is_recognized_by_the_one_after_the_next() {
    let shared = Shared::new();
    shared.park_elsewhere([1], Duration::from_secs(1)).await;
    let consumer = shared.start().await;
    shared.until_free().await;
    shared.stage.idle(&consumer).await;
    drop(consumer);
    shared.stage.settle_down().await;

    shared.publish([1]);
    let consumer = shared.start().await;
    shared.stage.idle(&consumer).await;

    assert_eq!(shared.seen.all(), ["evt-1 at 2"]);
    shared.stage.drain(consumer).await;
    assert!(shared.store.lock().attempts.is_empty(), "and is forgotten");
}

/// The look at the rows of a key that nobody here knew of fails: the key is parked all the same.
#[tokio::test]
async fn what_comes_behind_rows_that_could_not_be_read_waits_for_them() {
    let shared = Shared::new();
    shared.publish([9]);
    let consumer = shared.start().await;
    shared.stage.idle(&consumer).await;
    shared.store.lock().rows_faults = 1;
    shared.park_elsewhere([1, 2], Duration::ZERO).await;
    let failed = || shared.store.lock().rows_faults == 0;
    shared.stage.until("a look at rows failed", failed).await;

    shared.publish([3]);
    shared.until_free().await;
    shared.stage.idle(&consumer).await;

    let seen = shared.seen.all();
    assert_eq!(seen[1..], ["evt-1 at 2", "evt-2 at 2", "evt-3 at 1"]);
}

/// A message group of a FIFO queue goes to whoever asks next: this instance gets what is behind an event that another one has parked.
#[tokio::test]
async fn what_comes_behind_an_event_that_another_instance_parked_waits_for_it() {
    let shared = Shared::new();
    shared.publish([9]);
    let consumer = shared.start().await;
    shared.stage.idle(&consumer).await;

    shared.park_elsewhere([1], Duration::from_secs(5)).await;
    shared.publish([2]);
    shared.stage.idle(&consumer).await;
    assert_eq!(shared.store.parked_ids(), ["evt-1", "evt-2"]);
    shared.until_free().await;

    let seen = shared.seen.all();
    assert_eq!(seen, ["evt-9 at 1", "evt-1 at 2", "evt-2 at 1"]);
}

/// The lease of the instance that fetched two rows is over while it handles the first: the second is somebody else's by now.
#[tokio::test]
async fn a_fetched_row_is_not_started_once_another_instance_may_have_it() {
    let shared = Shared::new();
    let (store, clock) = (shared.store.clone(), Arc::clone(&shared.stage.clock));
    let seen = shared.seen.clone();
    let handler = TestHandler::of("**", move |context| {
        let id = context.envelope.event_id().to_owned();
        let is_first = id == "evt-1";
        seen.note(id);
        store.lock().follows |= is_first;
        let over = tidings_core::seam::Clock::sleep(&*clock, Duration::from_secs(2));
        async move {
            if is_first {
                over.await;
            }
            Ok(())
        }
    });
    shared.park_elsewhere([1, 2], Duration::ZERO).await;
    let consumer = shared.with(handler).await;
    let first_done = || shared.store.parked_ids() == ["evt-2"];
    shared.stage.until("the first is done", first_done).await;
    shared.stage.settle_down().await;
    assert_eq!(shared.seen.all(), ["evt-1"]);

    shared.store.lock().follows = false;
    shared.until_free().await;

    assert_eq!(shared.seen.all(), ["evt-1", "evt-2"]);
    shared.stage.drain(consumer).await;
    assert!(shared.store.lock().lead_given_up, "when it drains");
}

/// An attempt is noted before it is risked. The lease may end in between: then it is never made, and does not say that the process died with it; two in a row do.
#[tokio::test]
async fn a_row_of_which_one_attempt_was_noted_and_never_made_is_tried_all_the_same() {
    for noted in [2, 3] {
        let shared = Shared::new();
        shared.park_elsewhere([1], Duration::ZERO).await;
        shared.store.lock().parked[0].attempts = noted;
        let consumer = shared.start().await;

        shared.stage.settle_down().await;

        let letters = shared.store.lock().letters.clone();
        if noted == 2 {
            assert_eq!(shared.seen.all(), ["evt-1 at 3"]);
            assert!(shared.store.parked_ids().is_empty() && letters.is_empty());
        } else {
            assert!(shared.seen.all().is_empty());
            assert_eq!(letters.len(), 1);
            assert_eq!(letters[0].cause, DeathCause::Crash);
        }
        shared.stage.drain(consumer).await;
    }
}

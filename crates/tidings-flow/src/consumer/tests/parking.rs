//! Retry later and held keys: what a group cannot handle yet is in a store before it is settled, and nothing of a key overtakes.

mod decided;
mod needs;

use super::*;
use crate::consumer::{OnFailure, Policy};
use crate::fakes::failures::FakeFailures;
use crate::fakes::garbage;
use std::collections::HashMap;
use tidings_core::store::{
    DeathCause, Decision, FailureChange, FailureStore, LaneId, ParkedDelivery, ParkedId, StoreError,
};
use tidings_core::{DedupeKey, codes};

/// A stage with a store, for one attempt in place and one ten seconds later.
struct Parked {
    stage: Stage,
    store: FakeFailures,
    seen: Seen,
}

impl Parked {
    fn new() -> Self {
        let mut stage = Stage::new();
        stage.config.attempts = 1;
        stage.config.later = vec![Duration::from_secs(10)];
        stage.config.backoff.jitter_percent = 0;
        let store = FakeFailures::new(&stage.clock);
        Self {
            stage,
            store,
            seen: Seen::default(),
        }
    }

    /// Runs a group whose events fail as often as they are told, and notes each handling with its attempt.
    async fn start(&self, failing: &[(&str, u32)]) -> RunningConsumer {
        let failing: HashMap<String, u32> = failing
            .iter()
            .map(|(id, times)| ((*id).to_owned(), *times))
            .collect();
        let seen = self.seen.clone();
        let handler = TestHandler::of("**", move |context| {
            let id = context.envelope.event_id().to_owned();
            let fails = failing
                .get(&id)
                .is_some_and(|times| context.attempt <= *times);
            let word = if fails { "fails" } else { "ok" };
            seen.note(format!("{id} at {} {word}", context.attempt));
            async move {
                if fails {
                    return Err(HandlerError::transient_message(format!("no {id}")));
                }
                Ok(())
            }
        });
        let builder = self.stage.builder("group").handler(Arc::new(handler));
        let store = Arc::new(self.store.clone());
        builder.failures(store).start().await.unwrap()
    }

    fn publish(&self, numbers: impl IntoIterator<Item = usize>) {
        let events = numbers
            .into_iter()
            .map(|number| event("a.b", Some("k"), number));
        self.stage.broker.append(events);
    }
}

#[tokio::test]
async fn a_key_whose_event_is_put_off_waits_in_the_store_and_keeps_its_order() {
    let parked = Parked::new();
    parked.publish([1, 2, 3]);
    parked.stage.broker.append([event("a.b", Some("other"), 9)]);
    let consumer = parked.start(&[("evt-1", 1)]).await;
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.store.parked_ids(), ["evt-1", "evt-2", "evt-3"]);
    assert_eq!(parked.stage.broker.lock().acked.len(), 4);
    let stats = consumer.stats();
    assert_eq!((stats.parked, stats.parked_keys, stats.put_off), (3, 1, 1));
    // It arrives while the key is parked.
    parked.publish([4]);
    parked.stage.idle(&consumer).await;
    assert_eq!(parked.store.parked_ids().len(), 4);

    let done = || parked.store.lock().parked.is_empty();
    parked.stage.until("the key is free", done).await;
    parked.publish([5]);
    parked.stage.idle(&consumer).await;

    let mut seen = parked.seen.all();
    seen.retain(|one| !one.starts_with("evt-9"));
    let expected = [
        "evt-1 at 1 fails",
        "evt-1 at 2 ok",
        "evt-2 at 1 ok",
        "evt-3 at 1 ok",
        "evt-4 at 1 ok",
        "evt-5 at 1 ok",
    ];
    assert_eq!(seen, expected);
    let stats = consumer.stats();
    assert_eq!((stats.parked, stats.parked_keys, stats.handled), (0, 0, 6));
    assert!(parked.store.lock().parked.is_empty());
}

#[tokio::test]
async fn a_later_attempt_is_never_early_and_at_most_a_tick_late() {
    let parked = Parked::new();
    parked.publish([1]);
    let consumer = parked.start(&[("evt-1", 1)]).await;
    parked.stage.idle(&consumer).await;
    let due = parked.store.lock().parked[0].due.unwrap();

    parked
        .stage
        .until("the second attempt", || parked.seen.len() == 2)
        .await;

    let now = tidings_core::seam::Clock::now(&*parked.stage.clock);
    assert!(now >= due, "{now} is before {due}");
    let latest = due.plus(tidings_core::limits::PARKED_LOOK_INTERVAL);
    assert!(now <= latest, "{now} is after {latest}");
}

#[tokio::test]
async fn nothing_is_settled_before_it_is_parked() {
    let parked = Parked::new();
    let down = StoreError::Unavailable {
        database: "fake".to_owned(),
        reason: "connection refused".to_owned(),
    };
    parked.store.lock().faults = vec![(down.clone(), false), (down, true)].into();
    parked.publish([1, 2]);
    let consumer = parked.start(&[("evt-1", 1)]).await;

    parked
        .stage
        .until("the group waits", || consumer.stats().trouble.is_some())
        .await;
    assert!(parked.stage.broker.lock().acked.is_empty());
    parked.stage.idle(&consumer).await;

    // The second answer was lost; the changes were made again, and nothing is there twice.
    assert_eq!(parked.store.parked_ids(), ["evt-1", "evt-2"]);
    assert_eq!(parked.stage.broker.lock().acked.len(), 2);
    assert_eq!(consumer.stats().trouble, None);
}

#[tokio::test]
async fn a_dead_letter_holds_its_key_until_it_is_handed_back() {
    let mut parked = Parked::new();
    parked.stage.config.later.clear();
    parked.publish([1, 2]);
    parked.stage.broker.append([event("a.b", Some("other"), 9)]);
    let consumer = parked.start(&[("evt-1", 1)]).await;
    parked.stage.idle(&consumer).await;
    parked.publish([3]);
    parked.stage.idle(&consumer).await;

    let stats = consumer.stats();
    assert_eq!(
        (stats.parked, stats.held_keys, stats.dead_lettered),
        (3, 1, 1)
    );
    assert_eq!(parked.stage.broker.lock().acked.len(), 4);
    {
        let state = parked.store.lock();
        let letter = &state.letters[0];
        assert_eq!((letter.cause, letter.holds), (DeathCause::Attempts, true));
        assert_eq!(letter.reasons, ["no evt-1"]);
        assert_eq!(letter.delivery.history.len(), 1);
        assert!(letter.fingerprint.starts_with("dlq-"));
        assert_eq!(state.facts.len(), 1);
        let fact = crate::dead_letter::DeadLetter::from_envelope(&state.facts[0]).unwrap();
        assert!(fact.original().is_none(), "the store has it");
        assert_eq!(fact.record.event_id, "evt-1");
    }
    // Its first attempt after that fails once more, the second one does not.
    parked.store.redrive_held();
    parked
        .stage
        .until("it died again", || consumer.stats().dead_lettered == 2)
        .await;
    {
        let state = parked.store.lock();
        assert_eq!((state.facts.len(), state.letters.len()), (2, 1));
        assert_ne!(state.facts[0].event_id(), state.facts[1].event_id());
    }
    drop(consumer);
    parked.stage.settle_down().await;
    let consumer = parked.start(&[]).await;
    let known = || consumer.stats().held_keys == 1;
    parked
        .stage
        .until("what is held is known after a restart", known)
        .await;
    parked.store.redrive_held();
    let done = || parked.store.lock().parked.is_empty();
    parked.stage.until("the key is free", done).await;
    parked.stage.idle(&consumer).await;

    let mut seen = parked.seen.all();
    seen.retain(|one| one.ends_with("ok") && !one.starts_with("evt-9"));
    assert_eq!(seen, ["evt-1 at 1 ok", "evt-2 at 1 ok", "evt-3 at 1 ok"]);
}

/// Parks an event of the type `c.d` that is due.
pub(super) async fn park_unwanted(store: &FakeFailures) {
    let envelope = event("c.d", Some("k"), 7);
    let delivery = ParkedDelivery {
        id: ParkedId(0),
        lead: 0,
        lane: LaneId::of(&envelope),
        envelope,
        problem: None,
        position: None,
        attempts: 0,
        rounds: 0,
        deaths: 1,
        history: Vec::new(),
        due: None,
        letter: Some("letter".to_owned()),
    };
    let change = FailureChange::Park {
        deliveries: vec![delivery],
        due_in: Some(Duration::ZERO),
    };
    store.apply("group", &[change]).await.unwrap();
}

#[tokio::test]
async fn a_group_may_go_on_behind_a_dead_letter() {
    let mut parked = Parked::new();
    parked.stage.config.later.clear();
    parked.stage.config.on_failure = Some(OnFailure::Continue);
    parked.publish([1, 2]);
    let consumer = parked.start(&[("evt-1", 9)]).await;
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.seen.all(), ["evt-1 at 1 fails", "evt-2 at 1 ok"]);
    assert!(parked.store.lock().parked.is_empty());
    assert_eq!(parked.store.lock().letters.len(), 1);
    assert!(!parked.store.lock().letters[0].holds);
    // The end of the process before the settlement is durable brings it back: it does not die twice.
    parked.stage.broker.append([event("a.b", Some("k"), 1)]);
    drop(consumer);
    parked.stage.settle_down().await;
    let consumer = parked.start(&[("evt-1", 9)]).await;
    parked.stage.idle(&consumer).await;
    assert_eq!(parked.seen.len(), 2);
    assert_eq!(parked.store.lock().facts.len(), 1);
    parked.stage.drain(consumer).await;
    assert!(parked.store.lock().attempts.is_empty());
}

#[tokio::test]
async fn attempts_count_on_across_the_end_of_the_process() {
    let mut parked = Parked::new();
    parked.stage.config.attempts = 3;
    parked.publish([1]);
    let consumer = parked.start(&[("evt-1", 9)]).await;
    parked
        .stage
        .until("two attempts failed", || parked.seen.len() == 2)
        .await;
    let key = DedupeKey::of(&event("a.b", Some("k"), 1));
    // The second attempt did not start before the first one was noted.
    assert_eq!(parked.store.lock().noted[0], (key, 1));
    drop(consumer);
    parked.stage.settle_down().await;
    let noted = parked.store.lock().attempts.get(&key).copied();

    let consumer = parked.start(&[("evt-1", 9)]).await;
    parked
        .stage
        .until("it is put off", || consumer.stats().put_off == 1)
        .await;

    let next = noted.unwrap() + 1;
    assert_eq!(parked.seen.all()[2], format!("evt-1 at {next} fails"));
    assert!(parked.store.lock().attempts.is_empty(), "its row knows");
    assert_eq!(parked.store.lock().parked[0].attempts, 3);
}

#[tokio::test]
async fn success_after_failures_is_forgotten() {
    let mut parked = Parked::new();
    parked.stage.config.attempts = 5;
    parked.publish([1, 2]);
    let consumer = parked.start(&[("evt-1", 2)]).await;
    parked.stage.idle(&consumer).await;

    assert!(parked.store.lock().attempts.is_empty());
    assert_eq!(parked.store.lock().noted.len(), 2);
    assert_eq!(parked.stage.broker.lock().acked.len(), 2);
    assert_eq!(consumer.stats().handled, 2);
}

#[tokio::test]
async fn a_message_that_is_no_event_holds_its_key_as_well() {
    let mut parked = Parked::new();
    parked.stage.config.later.clear();
    parked
        .stage
        .broker
        .append([garbage("a.b", Some("k"), 1), event("a.b", Some("k"), 2)]);
    let consumer = parked.start(&[]).await;
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.store.parked_ids(), ["evt-1", "evt-2"]);
    let state = parked.store.lock();
    assert_eq!(state.letters[0].cause, DeathCause::Unreadable);
    assert!(state.letters[0].delivery.problem.is_some());
}

#[tokio::test]
async fn a_person_pauses_a_group_through_its_store() {
    let parked = Parked::new();
    parked.store.lock().paused = Some("deploying".to_owned());
    let consumer = parked.start(&[]).await;
    parked
        .stage
        .until("it is paused", || consumer.stats().paused_by.is_some())
        .await;
    parked.publish([1]);
    parked.stage.settle_down().await;
    assert_eq!(parked.seen.len(), 0);

    parked.store.lock().paused = None;
    parked
        .stage
        .until("it goes on", || parked.seen.len() == 1)
        .await;

    assert_eq!(consumer.stats().paused_by, None);
}

#[tokio::test]
async fn a_group_with_until_end_waits_for_what_is_put_off_and_not_for_what_is_held() {
    let mut parked = Parked::new();
    parked.stage.config.until_end = true;
    parked.publish([1]);
    parked.stage.broker.append([event("a.b", Some("held"), 2)]);
    let consumer = parked.start(&[("evt-1", 1), ("evt-2", 9)]).await;

    let finished = parked.stage.wait("finished", consumer.finished()).await;
    finished.unwrap();

    assert_eq!(parked.store.parked_ids(), ["evt-2"]);
    assert!(parked.seen.all().contains(&"evt-1 at 2 ok".to_owned()));
}

#[tokio::test]
async fn an_error_has_the_policy_of_its_type() {
    #[derive(Debug, thiserror::Error)]
    #[error("no money")]
    struct NoMoney;
    let mut parked = Parked::new();
    parked.stage.config.policies.set::<NoMoney>(Policy {
        permanent: true,
        ..Policy::default()
    });
    parked.publish([1]);
    let handler = TestHandler::failing(|| NoMoney.into());
    let builder = parked.stage.builder("group").handler(Arc::new(handler));
    let store = Arc::new(parked.store.clone());
    let consumer = builder.failures(store).start().await.unwrap();
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.store.lock().letters[0].cause, DeathCause::Permanent);
    assert_eq!(consumer.stats().put_off, 0);
}

#[tokio::test]
async fn how_often_an_event_is_tried_is_told_unless_it_depends_on_its_error() {
    #[derive(Debug, thiserror::Error)]
    #[error("no money")]
    struct NoMoney;
    for (attempts, told) in [(2, 2), (7, 0)] {
        let mut parked = Parked::new();
        let policy = Policy {
            attempts,
            ..Policy::default()
        };
        parked.stage.config.policies.set::<NoMoney>(policy);
        parked.publish([1]);
        let consumer = parked.start(&[("evt-1", 1)]).await;
        let is_told = || parked.store.lock().attempts_max == Some(told);
        parked.stage.until("it is told", is_told).await;
        drop(consumer);
    }
}

#[tokio::test]
async fn a_dead_letter_tells_the_version_of_the_code_that_gave_it_up() {
    let mut parked = Parked::new();
    parked.stage.config.later.clear();
    parked.stage.config.code_version = "1.4.2".to_owned();
    parked.publish([1]);
    let consumer = parked.start(&[("evt-1", 9)]).await;
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.store.lock().letters[0].code_version, "1.4.2");
}

/// The attempts after 0, 10 and 20 seconds fail, and the next one would begin 30 seconds after the first failure. What an earlier process noted of that one counts like what this process saw.
#[tokio::test]
async fn an_event_that_would_be_too_old_at_its_next_attempt_is_given_up_after_a_restart_too() {
    for is_restarted in [false, true] {
        let mut parked = Parked::new();
        parked.stage.config.later = vec![Duration::from_secs(10); 9];
        parked.stage.config.age_max = Some(Duration::from_secs(25));
        parked.publish([1]);
        let mut consumer = parked.start(&[("evt-1", 99)]).await;
        parked
            .stage
            .until("it is put off", || consumer.stats().put_off == 1)
            .await;
        if is_restarted {
            drop(consumer);
            parked.stage.settle_down().await;
            consumer = parked.start(&[("evt-1", 99)]).await;
        }

        let is_dead = || !parked.store.lock().letters.is_empty();
        parked.stage.until("it is given up", is_dead).await;

        let state = parked.store.lock();
        let letter = &state.letters[0];
        assert_eq!(letter.cause, DeathCause::Age, "restarted: {is_restarted}");
        let failed = letter.delivery.history.iter().map(|one| one.attempt);
        assert_eq!(failed.collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(consumer.stats().handled, 0);
    }
}

#[tokio::test]
async fn an_event_with_which_the_process_dies_is_counted_before_it_is_handled_again_and_given_up() {
    let mut parked = Parked::new();
    parked.stage.config.later.clear();
    parked.stage.config.attempts = 3;
    let events = (1..=4).map(|number| event("a.b", Some(&format!("k{number}")), number));
    parked.stage.broker.append(events);
    let poison = DedupeKey::of(&event("a.b", None, 2));
    let mut deaths = 0;
    for _ in 0..10 {
        // The process "dies" while it handles event 2: the handling never ends, and the consumer is dropped.
        let (seen, reached) = (parked.seen.clone(), Seen::default());
        let dies = reached.clone();
        let handler = TestHandler::of("**", move |context| {
            let (seen, dies) = (seen.clone(), dies.clone());
            async move {
                seen.note(context.envelope.event_id());
                if context.envelope.event_id() == "evt-2" {
                    dies.note("reached");
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        });
        let mut builder = parked.stage.builder("group").handler(Arc::new(handler));
        builder = builder.configure(|config| config.time_limit = Duration::from_secs(9_999));
        let store = Arc::new(parked.store.clone());
        let consumer = builder.failures(store).start().await.unwrap();
        let is_dead = || !parked.store.lock().letters.is_empty();
        parked
            .stage
            .until("it dies or is given up", || reached.len() > 0 || is_dead())
            .await;
        if is_dead() {
            parked.stage.idle(&consumer).await;
            break;
        }
        deaths += 1;
        drop(consumer);
        parked.stage.settle_down().await;
    }

    // The first death is that of an event that nobody suspected.
    assert_eq!(deaths, 1 + 3);
    let state = parked.store.lock();
    assert_eq!(state.letters.len(), 1);
    assert_eq!(state.letters[0].cause, DeathCause::Crash);
    let counts: Vec<u32> = state
        .noted
        .iter()
        .filter(|(event, _)| *event == poison)
        .map(|(_, attempts)| *attempts)
        .collect();
    assert_eq!(counts, [1, 2, 3]);
    assert!(state.attempts.is_empty(), "{:?}", state.attempts);
    drop(state);
    for number in [1, 3, 4] {
        let id = format!("evt-{number}");
        assert!(parked.seen.all().contains(&id), "{id} was handled");
    }
}

#[tokio::test]
async fn a_group_starts_no_more_handlings_a_second_than_it_may() {
    let mut stage = Stage::new();
    stage.config.rate_max = Some(10);
    let events = (0..25).map(|number| event("a.b", None, number));
    stage.broker.append(events);
    let seen = Seen::default();
    let times = seen.clone();
    let clock = Arc::clone(&stage.clock);
    let handler = TestHandler::of("**", move |_| {
        times.note(
            tidings_core::seam::Clock::elapsed(&*clock)
                .as_millis()
                .to_string(),
        );
        async { Ok(()) }
    });
    let consumer = stage.start(handler).await;
    stage.idle(&consumer).await;

    let times: Vec<u64> = seen.all().iter().map(|at| at.parse().unwrap()).collect();
    assert_eq!(times.len(), 25);
    // One at once, then one each tenth of a second; the clock of the test moves in steps of 20 ms.
    let last = times[24];
    assert!((2_300..=3_200).contains(&last), "{times:?}");
    for (index, at) in times.iter().enumerate() {
        assert!(*at + 120 >= index as u64 * 100, "{index} started at {at}");
    }
}

#[tokio::test]
async fn what_a_slow_store_is_told_last_is_settled_before_the_group_is_left() {
    let mut parked = Parked::new();
    parked.stage.config.attempts = 2;
    parked.store.slowness = 8;
    let (open, gate) = tokio::sync::watch::channel(false);
    let seen = parked.seen.clone();
    let handler = TestHandler::of("**", move |context| {
        let (mut gate, seen) = (gate.clone(), seen.clone());
        let key = context.envelope.aggregate_id().unwrap().to_owned();
        async move {
            if context.attempt == 1 {
                return Err(HandlerError::transient_message("not yet"));
            }
            seen.note(key.clone());
            gate.wait_for(|open| *open).await.unwrap();
            // The store is being told of the other key by then.
            let turns = if key == "b" { 4 } else { 0 };
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    });
    let keys = ["a", "b"].into_iter().zip(1..);
    parked
        .stage
        .broker
        .append(keys.map(|(key, number)| event("a.b", Some(key), number)));
    let builder = parked.stage.builder("group").handler(Arc::new(handler));
    let store = Arc::new(parked.store.clone());
    let consumer = builder.failures(store).start().await.unwrap();
    parked
        .stage
        .until("both are at work", || parked.seen.len() == 2)
        .await;

    let drained = consumer.drain(Duration::from_secs(60));
    let opened = async {
        tokio::task::yield_now().await;
        open.send(true).unwrap();
    };
    let (drained, ()) = tokio::join!(drained, opened);

    drained.unwrap();
    assert_eq!(parked.stage.broker.lock().acked.len(), 2);
}

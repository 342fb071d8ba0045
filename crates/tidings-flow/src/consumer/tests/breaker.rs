//! The circuit breaker of a group: when everything fails, the group waits, counts no attempt, gives nothing up, and goes on in order once one event succeeds.

mod opening;
mod probing;

use super::*;
use crate::consumer::{Breaker, CircuitState, OnFailure, OnOpen, Policy};
use crate::fakes::failures::FakeFailures;
use crate::fakes::garbage;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tidings_core::codes;
use tidings_core::seam::Clock as _;

const SECOND: Duration = Duration::from_secs(1);

/// A group whose handlers need a provider that can be down.
struct Shop {
    stage: Stage,
    store: FakeFailures,
    is_down: Arc<AtomicBool>,
    /// Each handling, with its attempt and how it ended.
    calls: Seen,
    notices: Seen,
}

#[derive(Debug, thiserror::Error)]
#[error("the provider is down")]
struct ProviderDown;

impl Shop {
    /// Of ten outcomes nine must fail, one event is tried after a second, then after two, and after four at most.
    fn new() -> Self {
        let mut stage = Stage::new();
        stage.config.parallel = 8;
        stage.config.breaker = Some(Breaker {
            probe_after: SECOND,
            probe_max: 4 * SECOND,
            ..Breaker::default()
        });
        let store = FakeFailures::new(&stage.clock);
        Self {
            stage,
            store,
            is_down: Arc::new(AtomicBool::new(true)),
            calls: Seen::default(),
            notices: Seen::default(),
        }
    }

    fn handler(&self) -> TestHandler {
        let (calls, is_down) = (self.calls.clone(), Arc::clone(&self.is_down));
        TestHandler::of("**", move |context| {
            let (calls, is_down) = (calls.clone(), Arc::clone(&is_down));
            async move {
                // Several are under way at once.
                tokio::task::yield_now().await;
                let word = match is_down.load(Ordering::Relaxed) {
                    true => "fails",
                    false => "ok",
                };
                let id = context.envelope.event_id();
                calls.note(format!("{id} at {} {word}", context.attempt));
                match word {
                    "ok" => Ok(()),
                    _ => Err(ProviderDown.into()),
                }
            }
        })
    }

    fn builder(&self) -> ConsumerBuilder {
        self.stage
            .builder("group")
            .failures(Arc::new(self.store.clone()))
            .observer(Arc::new(self.notices.clone()))
    }

    async fn start(&self) -> RunningConsumer {
        let builder = self.builder().handler(Arc::new(self.handler()));
        builder.start().await.unwrap()
    }

    /// Events of so many keys, in turn.
    fn publish(&self, count: usize, keys: usize) {
        self.stage.broker.append((0..count).map(|number| {
            let key = format!("k{}", number % keys);
            event("order.placed", Some(&key), number)
        }));
    }

    fn heals(&self) {
        self.is_down.store(false, Ordering::Relaxed);
    }

    async fn opened(&self, consumer: &RunningConsumer) {
        self.stage
            .wait("the circuit is open", consumer.circuit_opened())
            .await
            .unwrap();
        self.stage.settle_down().await;
    }

    /// Lets so many events be tried in vain.
    async fn tried_in_vain(&self, consumer: &RunningConsumer, times: u32) {
        let failed = || {
            let circuit = consumer.stats().circuit;
            circuit.is_some_and(|circuit| circuit.probes_failed >= times)
        };
        self.stage.until("an event was tried in vain", failed).await;
    }

    /// Which events succeeded, in order.
    fn succeeded(&self) -> Vec<String> {
        let calls = self.calls.all();
        let ok = calls.iter().filter_map(|call| call.strip_suffix(" ok"));
        ok.map(|call| call.split(' ').next().unwrap().to_owned())
            .collect()
    }

    fn assert_nothing_is_lost(&self, consumer: &RunningConsumer) {
        let stats = consumer.stats();
        assert_eq!((stats.dead_lettered, stats.put_off), (0, 0));
        let store = self.store.lock();
        assert_eq!(store.letters.len(), 0);
        assert_eq!(store.parked.len(), 0);
    }

    fn assert_each_succeeded_once(&self, count: usize) {
        let succeeded = self.succeeded();
        let different: HashSet<&String> = succeeded.iter().collect();
        assert_eq!((succeeded.len(), different.len()), (count, count));
    }
}

#[tokio::test]
async fn a_thousand_events_that_all_fail_cost_a_few_attempts_and_no_dead_letter() {
    for attempts in [2, 5] {
        let mut shop = Shop::new();
        shop.stage.config.attempts = attempts;
        shop.publish(1_000, 1_000);
        let consumer = shop.start().await;

        shop.opened(&consumer).await;

        let most = 10 + shop.stage.config.parallel;
        assert!(shop.calls.len() <= most, "{} calls", shop.calls.len());
        shop.tried_in_vain(&consumer, 6).await;
        assert!(shop.calls.len() <= most + 7, "{} calls", shop.calls.len());
        shop.assert_nothing_is_lost(&consumer);
        assert_eq!(shop.store.lock().attempts.len(), 0, "no attempt is counted");
        let circuit = consumer.stats().circuit.unwrap();
        assert_eq!(circuit.reason, "the provider is down");

        shop.heals();
        shop.stage.idle(&consumer).await;

        shop.assert_each_succeeded_once(1_000);
        shop.assert_nothing_is_lost(&consumer);
        let stats = consumer.stats();
        assert_eq!((stats.circuit, stats.circuit_openings), (None, 1));
        assert_eq!(consumer.lag().await.unwrap().events, 0);
        let notices = shop.notices.all();
        let count = |what: &str| notices.iter().filter(|one| *one == what).count();
        assert_eq!(count("circuit opened"), 1);
        assert!(count("circuit opened again") >= 6);
        assert_eq!(count("circuit closed"), 1);
        shop.stage.drain(consumer).await;
    }
}

#[tokio::test]
async fn the_store_knows_for_others_how_the_circuit_stands() {
    let shop = Shop::new();
    shop.publish(30, 30);
    let told = |shop: &Shop| shop.store.lock().circuit.clone();
    let consumer = shop.start().await;
    shop.opened(&consumer).await;
    let is_told = || told(&shop).is_some();
    shop.stage.until("it is told", is_told).await;
    let open = told(&shop).unwrap();
    assert_eq!(open.reason, "the provider is down");
    assert!(open.probe_at > Some(open.since));

    shop.tried_in_vain(&consumer, 2).await;
    let is_news = || told(&shop).is_some_and(|again| again.probe_at > open.probe_at);
    shop.stage.until("news are told", is_news).await;
    assert_eq!(told(&shop).unwrap().since, open.since);
    // Whoever stops waits no more.
    shop.stage.drain(consumer).await;
    assert_eq!(told(&shop), None);
    let consumer = shop.start().await;
    shop.opened(&consumer).await;
    shop.stage.until("it is told", is_told).await;
    // A process that is killed cannot tell; the next one does.
    drop(consumer);
    shop.stage.settle_down().await;
    shop.heals();
    let consumer = shop.start().await;
    shop.stage.idle(&consumer).await;
    let is_closed = || told(&shop).is_none();
    shop.stage
        .until("it is told that it is closed", is_closed)
        .await;
}

#[tokio::test]
async fn without_a_store_it_is_the_same() {
    let shop = Shop::new();
    shop.publish(200, 200);
    let builder = shop.stage.builder("group");
    let consumer = builder
        .handler(Arc::new(shop.handler()))
        .start()
        .await
        .unwrap();

    shop.opened(&consumer).await;
    shop.tried_in_vain(&consumer, 8).await;
    shop.heals();
    shop.stage.idle(&consumer).await;

    shop.assert_each_succeeded_once(200);
    assert_eq!(
        shop.stage
            .broker
            .events_of("tidings.dead_letter.recorded")
            .len(),
        0
    );
}

#[tokio::test]
async fn while_it_is_open_one_event_is_tried_at_growing_intervals() {
    let shop = Shop::new();
    shop.publish(100, 100);
    let consumer = shop.start().await;
    shop.opened(&consumer).await;
    let stats = consumer.stats().circuit.unwrap();
    assert_eq!(stats.state, CircuitState::Open);
    let mut before = shop.stage.clock.now();

    for (times, least) in [(1, 800), (2, 1_600), (3, 3_200), (4, 3_200)] {
        let calls = shop.calls.len();
        shop.tried_in_vain(&consumer, times).await;

        assert_eq!(shop.calls.len(), calls + 1, "one event is tried");
        let now = shop.stage.clock.now();
        let waited = now.as_micros() - before.as_micros();
        // A step of the clock is 20 ms.
        let (least, most) = (least * 1_000 - 40_000, least * 1_250 + 40_000);
        assert!(
            (least..=most).contains(&waited),
            "{waited} is not within {least} and {most}"
        );
        before = now;
    }
    assert_eq!(consumer.stats().running, 0);
}

#[tokio::test]
async fn the_order_of_each_key_is_kept() {
    let shop = Shop::new();
    shop.publish(400, 20);
    let consumer = shop.start().await;
    shop.opened(&consumer).await;
    shop.tried_in_vain(&consumer, 3).await;

    shop.heals();
    shop.stage.idle(&consumer).await;

    shop.assert_each_succeeded_once(400);
    let mut newest = [None; 20];
    for id in shop.succeeded() {
        let number: usize = id["evt-".len()..].parse().unwrap();
        let of_key = &mut newest[number % 20];
        assert!(*of_key < Some(number), "{id} came too late");
        *of_key = Some(number);
    }
}

#[tokio::test]
async fn a_process_that_is_killed_and_started_again_while_everything_fails_uses_up_no_attempts() {
    let mut shop = Shop::new();
    shop.stage.config.attempts = 2;
    shop.publish(60, 30);

    for _ in 0..8 {
        let consumer = shop.start().await;
        shop.opened(&consumer).await;
        shop.stage
            .until("the store was told", || {
                shop.store.lock().attempts.is_empty()
            })
            .await;
        shop.assert_nothing_is_lost(&consumer);
        // Dropped where it is.
        drop(consumer);
        shop.stage.settle_down().await;
    }
    shop.heals();
    let consumer = shop.start().await;
    shop.stage.idle(&consumer).await;

    shop.assert_each_succeeded_once(60);
    shop.assert_nothing_is_lost(&consumer);
}

#[tokio::test]
async fn it_drains_at_once_while_it_is_open_and_leaves_its_events_to_the_next() {
    let shop = Shop::new();
    shop.publish(50, 50);
    let consumer = shop.start().await;
    shop.opened(&consumer).await;

    tokio::select! {
        biased;
        drained = consumer.drain(60 * SECOND) => drained.unwrap(),
        () = shop.stage.settle_down() => panic!("it waits for time to pass"),
    }

    assert_eq!(shop.stage.broker.lock().leaves, 1);
    shop.heals();
    let consumer = shop.start().await;
    shop.stage.idle(&consumer).await;
    shop.assert_each_succeeded_once(50);
    shop.assert_nothing_is_lost(&consumer);
}

#[tokio::test]
async fn a_drain_goes_on_when_the_circuit_opens_during_it() {
    let shop = Shop::new();
    let consumer = shop.start().await;
    let handle = consumer.handle();
    // With one key behind each other, draining handles what is older than the newest event that was started.
    shop.publish(200, 12);
    let started = || shop.calls.len() > 0;
    shop.stage.until("it has begun", started).await;

    shop.stage.drain(consumer).await;

    assert!(handle.stats().dead_lettered == 0);
    shop.heals();
    let consumer = shop.start().await;
    shop.stage.idle(&consumer).await;
    shop.assert_each_succeeded_once(200);
}

#[tokio::test]
async fn paused_it_tries_nothing_and_resumed_it_does() {
    let shop = Shop::new();
    shop.publish(50, 50);
    let consumer = shop.start().await;
    shop.opened(&consumer).await;
    let calls = shop.calls.len();

    consumer.pause();
    shop.heals();
    let half_open = || {
        let circuit = consumer.stats().circuit;
        circuit.is_some_and(|circuit| circuit.state == CircuitState::HalfOpen)
    };
    shop.stage.until("it would try", half_open).await;
    shop.stage.settle_down().await;
    assert_eq!(shop.calls.len(), calls);
    consumer.resume();
    shop.stage.idle(&consumer).await;

    shop.assert_each_succeeded_once(50);
    assert_eq!(consumer.stats().circuit, None);
}

#[tokio::test]
async fn paused_in_its_store_it_tries_nothing() {
    let shop = Shop::new();
    shop.publish(50, 50);
    let consumer = shop.start().await;
    shop.opened(&consumer).await;
    shop.store.lock().paused = Some("deploying".to_owned());
    shop.stage
        .until("it is paused", || consumer.stats().paused_by.is_some())
        .await;
    let calls = shop.calls.len();

    shop.heals();
    let before = shop.stage.clock.elapsed();
    let over = || shop.stage.clock.elapsed() > before + 10 * SECOND;
    shop.stage.until("ten seconds are over", over).await;

    assert_eq!(shop.calls.len(), calls);
    shop.store.lock().paused = None;
    shop.stage.idle(&consumer).await;
    shop.assert_each_succeeded_once(50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_a_provider_that_comes_and_goes_costs_nothing_but_time() {
    const EVENTS: usize = 3_000;
    let mut shop = Shop::new();
    shop.stage.config.attempts = 3;
    let down = Arc::new(AtomicUsize::new(0));
    let handler = {
        let (calls, down) = (shop.calls.clone(), Arc::clone(&down));
        TestHandler::of("**", move |context| {
            let call = down.fetch_add(1, Ordering::Relaxed);
            // Up for 300 calls, down for 30.
            let fails = call % 330 >= 300;
            let word = if fails { "fails" } else { "ok" };
            calls.note(format!(
                "{} at {} {word}",
                context.envelope.event_id(),
                context.attempt
            ));
            async move {
                match fails {
                    true => Err(ProviderDown.into()),
                    false => Ok(()),
                }
            }
        })
    };
    shop.publish(EVENTS, 500);
    let builder = shop.builder().handler(Arc::new(handler));
    let consumer = builder.start().await.unwrap();

    // The clock of this test runs faster than its tasks do.
    let idle = consumer.wait_idle();
    tokio::pin!(idle);
    loop {
        tokio::select! {
            biased;
            done = &mut idle => break done.unwrap(),
            () = tokio::task::yield_now() => shop.stage.clock.advance(Duration::from_millis(1)),
        }
    }

    shop.assert_each_succeeded_once(EVENTS);
    shop.assert_nothing_is_lost(&consumer);
    let stats = consumer.stats();
    assert!(stats.circuit_openings > 0 && stats.circuit.is_none());
    let mut newest = vec![None; 500];
    for id in shop.succeeded() {
        let number: usize = id["evt-".len()..].parse().unwrap();
        let of_key = &mut newest[number % 500];
        assert!(*of_key < Some(number), "{id} came too late");
        *of_key = Some(number);
    }
}

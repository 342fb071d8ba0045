//! Order within a key, and freedom between keys, in the running consumer.

use super::*;
use crate::runtime::SystemClock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Notices when two handlings of one key overlap.
#[derive(Default)]
struct OverlapDetector {
    busy: Mutex<HashMap<String, usize>>,
    overlaps: AtomicUsize,
    most: AtomicUsize,
}

impl OverlapDetector {
    fn enter(&self, key: &str) {
        let mut busy = self.busy.lock().unwrap();
        let count = busy.entry(key.to_owned()).or_default();
        *count += 1;
        if *count > 1 {
            self.overlaps.fetch_add(1, Ordering::Relaxed);
        }
        let all = busy.values().sum();
        self.most.fetch_max(all, Ordering::Relaxed);
    }

    fn leave(&self, key: &str) {
        *self.busy.lock().unwrap().get_mut(key).unwrap() -= 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_never_overlap_and_keep_their_order_while_different_keys_run_together() {
    const EVENTS: usize = 6_000;
    const KEYS: usize = 37;
    let mut stage = Stage::new();
    stage.config.parallel = 16;
    stage.config.in_flight_max = 500;
    stage.config.backoff.first = Duration::from_millis(1);
    let detector = Arc::new(OverlapDetector::default());
    let order: Arc<Mutex<HashMap<String, Vec<usize>>>> = Arc::default();
    let handler = {
        let (detector, order) = (Arc::clone(&detector), Arc::clone(&order));
        TestHandler::of("**", move |context| {
            let (detector, order) = (Arc::clone(&detector), Arc::clone(&order));
            async move {
                let key = context.envelope.aggregate_id().unwrap().to_owned();
                let number: usize = context.envelope.event_id()[4..].parse().unwrap();
                detector.enter(&key);
                for _ in 0..number % 5 {
                    tokio::task::yield_now().await;
                }
                detector.leave(&key);
                // Some fail once; their successors must wait all the same.
                if number.is_multiple_of(17) && context.attempt == 1 {
                    return Err(HandlerError::transient_message("once"));
                }
                order.lock().unwrap().entry(key).or_default().push(number);
                Ok(())
            }
        })
    };
    // Real time: a clock moved by hand would outrun the threads.
    let builder = stage.builder("group").clock(Arc::new(SystemClock::new()));
    let consumer = builder.handler(Arc::new(handler)).start().await.unwrap();

    let key = |number: usize| format!("key-{}", number * number % KEYS);
    stage
        .broker
        .append((0..EVENTS).map(|number| event("a.b", Some(&key(number)), number)));
    let idle = tokio::time::timeout(Duration::from_secs(120), consumer.wait_idle());
    idle.await.unwrap().unwrap();

    assert_eq!(detector.overlaps.load(Ordering::Relaxed), 0);
    assert!(
        detector.most.load(Ordering::Relaxed) > 1,
        "keys ran together"
    );
    assert!(
        detector.most.load(Ordering::Relaxed) <= 16,
        "no more than allowed"
    );
    let order = order.lock().unwrap();
    assert_eq!(order.values().map(Vec::len).sum::<usize>(), EVENTS);
    for (key, numbers) in &*order {
        assert!(numbers.is_sorted(), "{key} lost its order");
    }
    assert_eq!(stage.broker.lock().acked.len(), EVENTS);
}

#[tokio::test]
async fn a_slow_key_and_a_failing_key_delay_no_other() {
    let mut stage = Stage::new();
    stage.config.parallel = 2;
    let gate = Arc::new(Semaphore::new(0));
    let seen = Seen::default();
    let handler = {
        let (gate, seen) = (Arc::clone(&gate), seen.clone());
        TestHandler::of("**", move |context| {
            let (gate, seen) = (Arc::clone(&gate), seen.clone());
            async move {
                match context.envelope.aggregate_id() {
                    Some("slow") => drop(gate.acquire().await),
                    Some("failing") => return Err(HandlerError::transient_message("no")),
                    _ => {}
                }
                seen.note(context.envelope.event_id());
                Ok(())
            }
        })
    };
    let consumer = stage.start(handler).await;

    let slow = (0..5).map(|number| event("a.b", Some("slow"), number));
    let failing = (10..15).map(|number| event("a.b", Some("failing"), number));
    let free = (100..200).map(|number| event("a.b", Some(&format!("k{}", number % 7)), number));
    stage
        .broker
        .append(slow.chain(failing).chain(free).collect::<Vec<_>>());
    stage.settle_down().await;

    assert_eq!(
        seen.len(),
        100,
        "without the clock, only free keys come through"
    );
    gate.add_permits(1);
    stage.idle(&consumer).await;
    assert_eq!(seen.len(), 105);
    assert_eq!(consumer.stats().dead_lettered, 5);
}

#[tokio::test]
async fn events_without_a_key_do_not_wait_for_each_other() {
    let stage = Stage::new();
    let gate = Arc::new(Semaphore::new(0));
    let seen = Seen::default();
    let handler = {
        let (gate, seen) = (Arc::clone(&gate), seen.clone());
        TestHandler::of("**", move |context| {
            let (gate, seen) = (Arc::clone(&gate), seen.clone());
            async move {
                if context.envelope.event_id() == "evt-0" {
                    drop(gate.acquire().await);
                }
                seen.note(context.envelope.event_id());
                Ok(())
            }
        })
    };
    let consumer = stage.start(handler).await;

    stage
        .broker
        .append((0..10).map(|number| event("a.b", None, number)));
    stage.settle_down().await;

    assert_eq!(seen.len(), 9);
    gate.add_permits(1);
    stage.idle(&consumer).await;
    assert_eq!(seen.len(), 10);
}

#[tokio::test]
async fn no_more_is_received_than_may_be_in_flight() {
    let mut stage = Stage::new();
    stage.config.in_flight_max = 10;
    stage.config.parallel = 4;
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = Arc::clone(&gate);
        TestHandler::of("**", move |_| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(())
            }
        })
    };
    let consumer = stage.start(handler).await;

    stage
        .broker
        .append((0..100).map(|number| event("a.b", None, number)));
    stage.settle_down().await;

    let stats = consumer.stats();
    assert_eq!((stats.in_flight, stats.running), (10, 4));
    gate.add_permits(7);
    stage.settle_down().await;
    let stats = consumer.stats();
    assert_eq!((stats.in_flight, stats.running, stats.handled), (10, 4, 7));
    gate.add_permits(1_000);
    stage.idle(&consumer).await;
    assert_eq!(consumer.stats().handled, 100);
}

//! Trouble that is not the event's fault: the group waits, no attempt is counted, and it goes on by itself.

use super::*;
use crate::consumer::ConsumerError;
use crate::fakes::Fault;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidings_core::broker::BrokerError;
use tidings_core::codes;

fn emitting(calls: &Arc<AtomicUsize>) -> TestHandler {
    let calls = Arc::clone(calls);
    TestHandler::of("a.b", move |context| {
        calls.fetch_add(1, Ordering::Relaxed);
        let key = context.envelope.event_id().to_owned();
        async move {
            context.emit.draft(draft("b.c", &key))?;
            context.emit.draft(draft("b.d", &key))
        }
    })
}

#[tokio::test]
async fn a_full_disk_pauses_the_group_and_counts_no_attempt() {
    let mut stage = Stage::new();
    stage.config.attempts = 1;
    stage.config.parallel = 2;
    stage.broker.fail_always(Some(Fault::Full));
    let seen = Seen::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let builder = stage.builder("group").observer(Arc::new(seen.clone()));
    let consumer = builder
        .handler(Arc::new(emitting(&calls)))
        .start()
        .await
        .unwrap();

    stage
        .broker
        .append((0..50).map(|number| event("a.b", None, number)));
    stage
        .until("several tries", || stage.broker.lock().publishes > 20)
        .await;

    let stats = consumer.stats();
    assert!(
        calls.load(Ordering::Relaxed) <= 2,
        "nothing further is started"
    );
    assert_eq!(
        (stats.retried, stats.dead_lettered, stats.handled),
        (0, 0, 0)
    );
    assert_eq!(
        stats.trouble.as_deref(),
        Some("the event was refused: as the test wants it")
    );
    assert_eq!(seen.all(), ["paused"]);
    stage.broker.fail_always(None);
    stage.idle(&consumer).await;

    assert_eq!(
        calls.load(Ordering::Relaxed),
        50,
        "each event was handled once"
    );
    let stats = consumer.stats();
    assert_eq!(
        (stats.handled, stats.emitted, stats.trouble),
        (50, 100, None)
    );
    assert!(seen.all().contains(&"resumed".to_owned()));
    assert!(stage.broker.doubles().is_empty());
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_before_anything_is_published_again() {
    for fault in [Fault::LostAnswer, Fault::LostBatch] {
        let stage = Stage::new();
        stage.broker.fail_next([fault]);
        let calls = Arc::new(AtomicUsize::new(0));
        let consumer = stage.start(emitting(&calls)).await;

        stage.broker.append([event("a.b", None, 1)]);
        stage.idle(&consumer).await;

        assert_eq!(stage.broker.events_of("b.c").len(), 1, "{fault:?}");
        assert_eq!(stage.broker.events_of("b.d").len(), 1, "{fault:?}");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn an_event_that_the_broker_refuses_for_what_it_is_fails_its_handling_for_good() {
    let stage = Stage::new();
    stage.broker.fail_next([Fault::Refused]);
    let calls = Arc::new(AtomicUsize::new(0));
    let consumer = stage.start(emitting(&calls)).await;

    stage.broker.append([event("a.b", None, 1)]);
    stage.idle(&consumer).await;

    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(consumer.stats().dead_lettered, 1);
}

#[tokio::test]
async fn outcomes_that_the_broker_does_not_take_are_told_again() {
    let stage = Stage::new();
    stage.broker.lock().settle_failures = 3;
    let consumer = stage
        .start(TestHandler::of("a.b", |_| async { Ok(()) }))
        .await;

    stage
        .broker
        .append((0..5).map(|number| event("a.b", Some("k"), number)));
    stage.idle(&consumer).await;

    let mut acked = stage.broker.lock().acked.clone();
    acked.sort_unstable();
    assert_eq!(acked, [0, 1, 2, 3, 4]);
    assert_eq!(consumer.lag().await.unwrap().events, 0);
}

#[tokio::test]
async fn a_closed_broker_stops_the_consumer_and_says_so() {
    let stage = Stage::new();
    stage
        .broker
        .lock()
        .receive_errors
        .push_back(BrokerError::Closed);
    let consumer = stage
        .start(TestHandler::of("a.b", |_| async { Ok(()) }))
        .await;

    stage.broker.append([event("a.b", None, 1)]);
    let error = stage
        .wait("stopped", consumer.wait_idle())
        .await
        .unwrap_err();

    assert_eq!(error.code(), codes::CLOSED);
    assert!(matches!(error, ConsumerError::Stopped { .. }));
    stage.drain(consumer).await;
}

//! Pause, resume, idleness, the end, draining.

use super::*;
use crate::consumer::DrainError;
use crate::runtime::SystemClock;
use std::future::{pending, ready};
use tidings_core::codes;
use tokio::sync::Semaphore;

#[tokio::test]
async fn a_paused_consumer_starts_nothing_and_goes_on_when_resumed() {
    let stage = Stage::new();
    let seen = Seen::default();
    let handler = {
        let seen = seen.clone();
        TestHandler::of("a.b", move |context| {
            seen.note(context.envelope.event_id());
            async { Ok(()) }
        })
    };
    let consumer = stage.start(handler).await;
    consumer.pause();

    stage
        .broker
        .append((0..5).map(|number| event("a.b", None, number)));
    stage.settle_down().await;

    assert_eq!(seen.len(), 0);
    assert!(consumer.stats().paused);
    consumer.resume();
    stage.idle(&consumer).await;
    assert_eq!(seen.len(), 5);
    assert!(!consumer.stats().paused);
}

#[tokio::test]
async fn finished_waits_for_retries_and_for_what_the_handlers_emit() {
    let mut stage = Stage::new();
    stage.config.until_end = true;
    let seen = Seen::default();
    let handler = {
        let seen = seen.clone();
        TestHandler::of("count.**", move |context| {
            let seen = seen.clone();
            async move {
                if context.attempt == 1 {
                    return Err(HandlerError::transient_message("once"));
                }
                let depth = context.envelope.event_type().name().split('.').count();
                seen.note(context.envelope.event_type().as_str());
                if depth < 6 {
                    let deeper = format!("{}.more", context.envelope.event_type());
                    context.emit.draft(draft(&deeper, "k"))?;
                }
                // Not for this group, so nobody waits for it.
                context.emit.draft(draft("other.thing", "k"))
            }
        })
    };
    stage.broker.append([
        event("count.one", Some("k"), 1),
        event("other.thing", None, 2),
    ]);
    let consumer = stage.start(handler).await;

    stage.wait("finished", consumer.finished()).await.unwrap();

    assert_eq!(seen.len(), 5);
    assert_eq!(seen.all()[4], "count.one.more.more.more.more");
    assert_eq!(consumer.stats().in_flight, 0);
    stage.drain(consumer).await;
}

#[tokio::test]
async fn finished_resolves_for_a_group_with_nothing_to_do() {
    let mut stage = Stage::new();
    stage.config.until_end = true;
    let consumer = stage.start(TestHandler::of("a.b", |_| ready(Ok(())))).await;

    stage.wait("finished", consumer.finished()).await.unwrap();
    stage.idle(&consumer).await;
}

#[tokio::test]
async fn idle_waits_for_back_offs() {
    let stage = Stage::new();
    let handler = TestHandler::of("a.b", |context| async move {
        match context.attempt {
            1 => Err(HandlerError::transient_message("once")),
            _ => Ok(()),
        }
    });
    let consumer = stage.start(handler).await;
    stage.broker.append([event("a.b", None, 1)]);
    stage.settle_down().await;

    let mut idle = Box::pin(consumer.wait_idle());
    tokio::select! {
        biased;
        _ = &mut idle => panic!("idle while an event waits for its next attempt"),
        () = stage.settle_down() => {}
    }
    stage.wait("idle", idle).await.unwrap();

    assert_eq!(consumer.stats().handled, 1);
}

#[tokio::test]
async fn draining_lets_handlers_finish_and_starts_no_others() {
    let mut stage = Stage::new();
    stage.config.parallel = 2;
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = Arc::clone(&gate);
        TestHandler::of("a.b", move |context| {
            let gate = Arc::clone(&gate);
            async move {
                drop(gate.acquire().await);
                assert!(context.shared.shutdown.is_requested());
                context.emit.draft(draft("b.c", "k"))
            }
        })
    };
    let consumer = stage.start(handler).await;
    stage
        .broker
        .append((0..10).map(|number| event("a.b", None, number)));
    stage.settle_down().await;

    let draining = consumer.drain(Duration::from_secs(10));
    let opened = async {
        stage.settle_down().await;
        gate.add_permits(2);
        pending::<()>().await;
    };
    tokio::select! {
        result = draining => result.unwrap(),
        () = opened => unreachable!(),
    }

    let state = stage.broker.lock();
    assert_eq!(state.acked.len(), 2);
    assert_eq!(state.released.len(), 8);
    assert_eq!((state.flushes, state.leaves), (1, 1));
    drop(state);
    assert_eq!(stage.broker.events_of("b.c").len(), 2);
}

#[tokio::test]
async fn at_the_deadline_the_rest_is_cancelled_counted_and_handled_next_time() {
    let stage = Stage::new();
    let stuck = TestHandler::of("a.b", |context| async move {
        if context.envelope.event_id() != "evt-0" {
            pending::<()>().await;
        }
        Ok(())
    });
    let consumer = stage.start(stuck).await;
    stage
        .broker
        .append((0..4).map(|number| event("a.b", None, number)));
    stage.settle_down().await;

    let draining = consumer.drain(Duration::from_secs(5));
    let error = stage.wait("drained", draining).await.unwrap_err();

    assert!(
        matches!(error, DrainError::Unfinished { unfinished: 3, .. }),
        "{error}"
    );
    assert_eq!(error.code(), codes::DRAIN_TIMEOUT);
    assert_eq!(stage.broker.lock().leaves, 1);
    let consumer = stage.start(TestHandler::of("a.b", |_| ready(Ok(())))).await;
    stage.idle(&consumer).await;
    assert_eq!(consumer.stats().handled, 3);
}

#[tokio::test]
async fn dropping_the_handle_stops_everything() {
    let stage = Stage::new();
    let seen = Seen::default();
    let handler = {
        let seen = seen.clone();
        TestHandler::of("a.b", move |_| {
            seen.note("handled");
            ready(Ok(()))
        })
    };
    let consumer = stage.start(handler).await;
    drop(consumer);

    stage.settle_down().await;
    stage.broker.append([event("a.b", None, 1)]);
    stage.settle_down().await;

    assert_eq!(seen.len(), 0);
    // The group is free again.
    let _next = stage.start(TestHandler::of("a.b", |_| ready(Ok(())))).await;
}

#[tokio::test]
async fn what_is_queued_of_a_lost_scope_is_forgotten() {
    let mut stage = Stage::new();
    stage.config.parallel = 1;
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = Arc::clone(&gate);
        TestHandler::of("a.b", move |_| {
            let gate = Arc::clone(&gate);
            async move {
                drop(gate.acquire().await);
                Ok(())
            }
        })
    };
    let consumer = stage.start(handler).await;
    stage
        .broker
        .append((0..10).map(|number| event("a.b", None, number)));
    stage.settle_down().await;

    stage.broker.lose_scope();
    stage.settle_down().await;
    assert_eq!(consumer.stats().in_flight, 1, "only what runs is left");
    gate.add_permits(1);
    stage.idle(&consumer).await;

    assert_eq!(consumer.stats().handled, 1);
    assert_eq!(stage.broker.lock().acked, [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_orderly_drains_on_many_threads_each_event_is_handled_once() {
    const EVENTS: usize = 3_000;
    let mut stage = Stage::new();
    stage.config.parallel = 8;
    stage.config.in_flight_max = 64;
    let seen = Seen::default();
    let key = |number: usize| format!("k{}", number % 13);
    stage
        .broker
        .append((0..EVENTS).map(|number| event("a.b", Some(&key(number)), number)));

    let limit = Duration::from_secs(60);
    let mut rounds = 0;
    while seen.len() < EVENTS {
        rounds += 1;
        let enough = seen.len() + 1 + rounds * 7 % 400;
        let handler = {
            let seen = seen.clone();
            TestHandler::of("a.b", move |context| {
                let seen = seen.clone();
                async move {
                    tokio::task::yield_now().await;
                    seen.note(context.envelope.event_id());
                    context.emit.draft(draft("b.c", "k"))
                }
            })
        };
        let builder = stage.builder("group").clock(Arc::new(SystemClock::new()));
        let consumer = builder.handler(Arc::new(handler)).start().await.unwrap();
        let progress = async {
            while seen.len() < enough.min(EVENTS) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(limit, progress).await.unwrap();
        let drained = tokio::time::timeout(limit, consumer.drain(limit)).await;
        drained.unwrap().unwrap();
    }

    assert!(rounds > 3);
    assert_eq!(seen.len(), EVENTS);
    assert_eq!(stage.broker.events_of("b.c").len(), EVENTS);
    assert!(stage.broker.doubles().is_empty());
}

//! Retry in place: how often, how long, and what counts as a failure.

use super::*;
use crate::consumer::Backoff;
use tidings_core::extract::HandlerErrorKind;

/// Handles one event with a handler that always fails, and tells what was observed.
async fn observed(stage: &Stage, handler: TestHandler) -> (Vec<String>, RunningConsumer) {
    let seen = Seen::default();
    let builder = stage.builder("group").handler(Arc::new(handler));
    let consumer = builder
        .observer(Arc::new(seen.clone()))
        .start()
        .await
        .unwrap();
    stage.broker.append([event("a.b", Some("k"), 1)]);
    stage.idle(&consumer).await;
    (seen.all(), consumer)
}

fn exact_backoff() -> Backoff {
    Backoff {
        first: Duration::from_millis(100),
        max: Duration::from_millis(300),
        jitter_percent: 0,
    }
}

#[tokio::test]
async fn a_failure_is_tried_again_after_growing_waits_until_attempts_are_used_up() {
    let mut stage = Stage::new();
    stage.config.backoff = exact_backoff();

    let failing = TestHandler::failing(|| HandlerError::transient_message("no"));
    let (seen, consumer) = observed(&stage, failing).await;

    let expected = [
        "retry 1 after 100ms",
        "retry 2 after 200ms",
        "retry 3 after 300ms",
        "retry 4 after 300ms",
        "dead after 5",
    ];
    assert_eq!(seen, expected);
    let stats = consumer.stats();
    assert_eq!(
        (stats.retried, stats.dead_lettered, stats.handled),
        (4, 1, 0)
    );
}

#[tokio::test]
async fn a_permanent_failure_is_given_up_at_once() {
    let stage = Stage::new();

    let failing = TestHandler::failing(|| HandlerError::permanent_message("never"));
    let (seen, _consumer) = observed(&stage, failing).await;

    assert_eq!(seen, ["dead after 1"]);
}

#[tokio::test]
async fn a_handler_may_say_when_to_try_again() {
    let mut stage = Stage::new();
    stage.config.attempts = 2;

    let failing = TestHandler::failing(|| {
        let kind = HandlerErrorKind::RetryAfter(Duration::from_secs(7));
        HandlerError::transient_message("busy").with_kind(kind)
    });
    let (seen, _consumer) = observed(&stage, failing).await;

    assert_eq!(seen, ["retry 1 after 7000ms", "dead after 2"]);
}

#[tokio::test]
async fn a_fault_that_heals_leaves_no_trace_but_its_attempts() {
    let mut stage = Stage::new();
    stage.config.backoff = exact_backoff();

    let healing = TestHandler::of("**", |context| async move {
        match context.attempt {
            1 | 2 => Err(HandlerError::transient_message("not yet")),
            _ => Ok(()),
        }
    });
    let (seen, _consumer) = observed(&stage, healing).await;

    let expected = [
        "retry 1 after 100ms",
        "retry 2 after 200ms",
        "handled evt-1 at 3",
    ];
    assert_eq!(seen, expected);
    assert_eq!(stage.broker.lock().log.len(), 1);
}

#[tokio::test]
async fn what_a_failed_attempt_emitted_is_not_published() {
    let mut stage = Stage::new();
    stage.config.attempts = 2;

    let handler = TestHandler::of("a.b", |context| async move {
        context
            .emit
            .draft(draft("b.c", &format!("attempt-{}", context.attempt)))?;
        match context.attempt {
            1 => Err(HandlerError::transient_message("after emitting")),
            _ => Ok(()),
        }
    });
    let (_seen, consumer) = observed(&stage, handler).await;

    let emitted = stage.broker.events_of("b.c");
    assert_eq!(emitted.len(), 1);
    assert_eq!(emitted[0].aggregate_id(), Some("attempt-2"));
    assert_eq!(consumer.stats().emitted, 1);
}

#[tokio::test]
async fn a_panic_is_a_failure_that_is_tried_again() {
    let mut stage = Stage::new();
    stage.config.attempts = 3;
    let handler = TestHandler::of("a.b", |context| {
        // The first panics in the call itself, the second at its first poll, the third after waiting.
        assert!(context.attempt != 1, "in the call");
        async move {
            assert!(context.attempt != 2, "at the first poll");
            tokio::task::yield_now().await;
            panic!("after waiting, attempt {}", context.attempt)
        }
    });

    let (seen, consumer) = observed(&stage, handler).await;

    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2], "dead after 3");
    let fact = &stage.broker.events_of("tidings.dead_letter.recorded")[0];
    let record = crate::dead_letter::DeadLetter::from_envelope(fact)
        .unwrap()
        .record;
    let errors: Vec<&str> = record
        .history
        .iter()
        .map(|one| one.error.as_str())
        .collect();
    assert_eq!(
        errors,
        [
            "the handler panicked: in the call",
            "the handler panicked: at the first poll",
            "the handler panicked: after waiting, attempt 3",
        ]
    );
    assert_eq!(consumer.stats().running, 0);
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_cancelled_and_tried_again() {
    let mut stage = Stage::new();
    stage.config.attempts = 2;
    stage.config.time_limit = Duration::from_secs(3);
    let dropped = Seen::default();
    let handler = {
        let dropped = dropped.clone();
        TestHandler::of("a.b", move |_| {
            struct Dropped(Seen);
            impl Drop for Dropped {
                fn drop(&mut self) {
                    self.0.note("dropped");
                }
            }
            let guard = Dropped(dropped.clone());
            async move {
                std::future::pending::<()>().await;
                drop(guard);
                Ok(())
            }
        })
    };

    let (seen, _consumer) = observed(&stage, handler).await;

    assert_eq!(seen[1], "dead after 2");
    assert_eq!(dropped.len(), 2);
    let fact = &stage.broker.events_of("tidings.dead_letter.recorded")[0];
    let record = crate::dead_letter::DeadLetter::from_envelope(fact)
        .unwrap()
        .record;
    assert!(
        record.reason.contains("time limit of 3s"),
        "{}",
        record.reason
    );
}

#[tokio::test]
async fn a_handler_with_its_own_time_limit_gets_none_from_the_runtime() {
    let mut stage = Stage::new();
    stage.config.time_limit = Duration::from_secs(1);
    let clock = Arc::clone(&stage.clock);
    let mut handler = TestHandler::of("a.b", move |_| {
        let sleep = tidings_core::seam::Clock::sleep(&*clock, Duration::from_secs(10));
        async move {
            sleep.await;
            Ok(())
        }
    });
    handler.own_time_limit = Some(Duration::from_secs(20));

    let (seen, _consumer) = observed(&stage, handler).await;

    assert_eq!(seen, ["handled evt-1 at 1"]);
}

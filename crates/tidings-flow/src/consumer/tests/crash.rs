//! Crashes: the consumer is dropped at every step of its way and started again. No event may be lost, no fact may stand on the log twice.

use super::*;
use std::collections::HashSet;

const EVENTS: usize = 12;
const DEAD: &str = "tidings.dead_letter.recorded";

/// Each event emits three, every fifth is poison, every third fails once.
fn handler() -> TestHandler {
    TestHandler::of("order.placed", |context| async move {
        let number: usize = context.envelope.event_id()[4..].parse().unwrap();
        if number.is_multiple_of(5) {
            return Err(HandlerError::permanent_message("poison"));
        }
        tokio::task::yield_now().await;
        if number.is_multiple_of(3) && context.attempt == 1 {
            return Err(HandlerError::transient_message("once"));
        }
        for part in 0..3 {
            context
                .emit
                .draft(draft(&format!("part.made{part}"), &format!("o{number}")))?;
        }
        Ok(())
    })
}

fn stage(eager_cursor: bool) -> Stage {
    let mut broker = FakeBroker::new();
    broker.yields = true;
    broker.eager_cursor = eager_cursor;
    let mut stage = Stage::on(broker);
    stage.config.parallel = 4;
    let key = |number: usize| format!("k{}", number % 5);
    stage
        .broker
        .append((1..=EVENTS).map(|number| event("order.placed", Some(&key(number)), number)));
    stage
}

/// Checks that the log holds what one undisturbed run would have left, and nothing twice.
fn check(stage: &Stage, story: &str) {
    assert_eq!(stage.broker.doubles(), Vec::<String>::new(), "{story}");
    let causes = |event_type: &str| -> HashSet<String> {
        let events = stage.broker.events_of(event_type);
        events
            .iter()
            .map(|one| one.causation_id().unwrap().to_owned())
            .collect()
    };
    let poison = |number: &usize| number.is_multiple_of(5);
    let ids = |wanted: &dyn Fn(&usize) -> bool| -> HashSet<String> {
        (1..=EVENTS)
            .filter(wanted)
            .map(|number| format!("evt-{number}"))
            .collect()
    };
    assert_eq!(causes(DEAD), ids(&poison), "{story}");
    for part in 0..3 {
        let event_type = format!("part.made{part}");
        assert_eq!(
            causes(&event_type),
            ids(&|number| !poison(number)),
            "{story}"
        );
    }
}

async fn finish(stage: &Stage) {
    let consumer = stage.start(handler()).await;
    stage.idle(&consumer).await;
    stage.drain(consumer).await;
    let state = stage.broker.lock();
    assert_eq!(state.durable_of("group"), state.log.len() as u64);
}

#[tokio::test]
async fn a_crash_at_any_step_loses_no_event_and_doubles_no_fact() {
    for eager_cursor in [true, false] {
        for steps in 0..150 {
            let stage = stage(eager_cursor);
            let consumer = stage.start(handler()).await;
            for step in 0..steps {
                tokio::task::yield_now().await;
                if step % 3 == 0 {
                    stage.clock.advance(Duration::from_millis(10));
                }
            }
            drop(consumer);
            stage.settle_down().await;

            finish(&stage).await;

            check(
                &stage,
                &format!("crash after {steps} steps, eager cursor {eager_cursor}"),
            );
        }
    }
}

#[tokio::test]
async fn many_crashes_in_a_row_lose_no_event_and_double_no_fact() {
    for seed in 0..40_usize {
        let stage = stage(seed.is_multiple_of(2));
        for round in 0..6 {
            let consumer = stage.start(handler()).await;
            for _ in 0..(seed * 31 + round * 17) % 90 {
                tokio::task::yield_now().await;
                stage.clock.advance(Duration::from_millis(5));
            }
            drop(consumer);
            stage.settle_down().await;
        }

        finish(&stage).await;

        check(&stage, &format!("seed {seed}"));
    }
}

#[tokio::test]
async fn an_event_that_was_given_up_before_a_crash_is_not_handled_again() {
    let mut broker = FakeBroker::new();
    broker.eager_cursor = false;
    let stage = Stage::on(broker);
    stage.broker.append([event("a.b", Some("k"), 1)]);
    let consumer = stage
        .start(TestHandler::failing(|| {
            HandlerError::permanent_message("no")
        }))
        .await;
    stage.idle(&consumer).await;
    drop(consumer);
    stage.settle_down().await;

    let seen = Seen::default();
    let handler = {
        let seen = seen.clone();
        TestHandler::of("a.b", move |context| {
            seen.note(context.envelope.event_id());
            async { Ok(()) }
        })
    };
    let consumer = stage.start(handler).await;
    stage.idle(&consumer).await;

    assert_eq!(seen.len(), 0);
    assert_eq!(consumer.stats().skipped, 1);
    assert_eq!(stage.broker.events_of(DEAD).len(), 1);
}

#[tokio::test]
async fn after_an_orderly_drain_nothing_is_handled_twice() {
    let stage = stage(false);
    let seen = Seen::default();
    for _ in 0..2 {
        let seen = seen.clone();
        let noting = TestHandler::of("order.placed", move |context| {
            seen.note(context.envelope.event_id());
            async { Ok(()) }
        });
        let consumer = stage.start(noting).await;
        stage.idle(&consumer).await;
        stage.drain(consumer).await;
    }

    assert_eq!(seen.len(), EVENTS);
}

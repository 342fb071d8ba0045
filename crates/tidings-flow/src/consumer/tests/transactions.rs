//! Handlers that take a transaction: effect, inbox row and emitted events become true together, whatever breaks in between.

use super::*;
use crate::dead_letter::DeadLetter;
use crate::fakes::database::{
    CONNECTION_LOST, DriverError, FakeDatabase, Step, collision, down, unanswered_commit,
};
use tidings_core::store::StoreError;

const DEAD: &str = "tidings.dead_letter.recorded";

/// Writes the event's id as its effect and emits one event.
fn billing(database: &FakeDatabase) -> TestHandler {
    let database = database.clone();
    TestHandler::of("order.placed", move |context| {
        let database = database.clone();
        async move {
            let mut tx = database.begin(&context).await?;
            tx.write(context.envelope.event_id());
            tokio::task::yield_now().await;
            context.emit.draft(draft("invoice.sent", "i1"))
        }
    })
    .transactional()
}

/// As [`billing`], and fails after its effect while `failing` says so for the attempt.
fn failing_billing(
    database: &FakeDatabase,
    failing: impl Fn(u32) -> Option<HandlerError> + Send + Sync + 'static,
) -> TestHandler {
    let database = database.clone();
    let failing = Arc::new(failing);
    TestHandler::of("order.placed", move |context| {
        let (database, failing) = (database.clone(), Arc::clone(&failing));
        async move {
            let mut tx = database.begin(&context).await?;
            tx.write(context.envelope.event_id());
            context.emit.draft(draft("invoice.sent", "i1"))?;
            failing(context.attempt).map_or(Ok(()), Err)
        }
    })
    .transactional()
}

fn orders(stage: &Stage, numbers: impl IntoIterator<Item = usize>) {
    let order = |number| event("order.placed", Some(&format!("k{number}")), number);
    stage.broker.append(numbers.into_iter().map(order));
}

/// What is in the database after the consumer has come to rest.
#[derive(Debug, PartialEq)]
struct Left {
    effects: Vec<String>,
    outbox: usize,
    published: usize,
}

fn left(stage: &Stage, database: &FakeDatabase) -> Left {
    let state = database.lock();
    let mut effects = state.effects.clone();
    effects.sort();
    Left {
        effects,
        outbox: state.outbox.len(),
        published: stage.broker.events_of("invoice.sent").len(),
    }
}

fn one_effect() -> Left {
    Left {
        effects: vec!["evt-1".to_owned()],
        outbox: 1,
        published: 0,
    }
}

/// Runs one order through a handler with an observer, and answers what was told.
async fn tell(stage: &Stage, handler: TestHandler) -> (RunningConsumer, Vec<String>) {
    orders(stage, [1]);
    let seen = Seen::default();
    let builder = stage.builder("group").handler(Arc::new(handler));
    let builder = builder.observer(Arc::new(seen.clone()));
    let consumer = builder.start().await.unwrap();
    stage.idle(&consumer).await;
    (consumer, seen.all())
}

#[tokio::test]
async fn effect_and_emitted_event_are_committed_together_and_nothing_is_published() {
    let stage = Stage::new();
    let database = FakeDatabase::default();

    let (consumer, told) = tell(&stage, billing(&database)).await;

    assert_eq!(left(&stage, &database), one_effect());
    assert_eq!(told, ["handled evt-1 at 1"]);
    assert_eq!(consumer.stats().emitted, 1);
    assert_eq!(consumer.delivery(), DeliveryGuarantee::EffectOnce);
    let emitted = database.lock().outbox[0].clone();
    assert_eq!(emitted.causation_id(), Some("evt-1"));
}

#[tokio::test]
async fn one_handler_without_a_transaction_makes_the_group_at_least_once() {
    let stage = Stage::new();
    let other = TestHandler::of("a.b", |_| async { Ok(()) }).named("other");
    let builder = stage.builder("group").handler(Arc::new(other));
    let builder = builder.handler(Arc::new(billing(&FakeDatabase::default())));

    let consumer = builder.start().await.unwrap();

    assert_eq!(consumer.delivery(), DeliveryGuarantee::AtLeastOnce);
}

#[tokio::test]
async fn an_event_that_comes_again_is_counted_and_not_handled() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    orders(&stage, [1, 1]);

    let (consumer, told) = tell(&stage, billing(&database)).await;

    assert_eq!(left(&stage, &database), one_effect());
    let twice = "deduplicated evt-1";
    assert_eq!(told, ["handled evt-1 at 1", twice, twice]);
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.deduplicated), (1, 2));
}

#[tokio::test]
async fn what_a_failed_attempt_did_is_undone_and_the_next_one_counts() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    let handler = failing_billing(&database, |attempt| {
        (attempt < 3).then(|| HandlerError::transient_message("not yet"))
    });

    let (consumer, _) = tell(&stage, handler).await;

    assert_eq!(left(&stage, &database), one_effect());
    assert_eq!(consumer.stats().retried, 2);
    assert_eq!(database.lock().rolled_back, 2);
}

#[tokio::test]
async fn an_event_that_is_given_up_leaves_no_effect_and_no_inbox_row() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    let handler = failing_billing(&database, |_| {
        Some(HandlerError::permanent_message("no such account"))
    });
    let (consumer, _) = tell(&stage, handler).await;
    assert_eq!(consumer.stats().dead_lettered, 1);
    assert_eq!(left(&stage, &database).effects.len(), 0);
    stage.drain(consumer).await;

    // Delivered again, as by a redrive, it is handled.
    orders(&stage, [1]);
    let consumer = stage.start(billing(&database)).await;
    stage.idle(&consumer).await;

    assert_eq!(left(&stage, &database), one_effect());
}

#[tokio::test]
async fn a_transaction_that_is_kept_is_a_dead_letter_that_says_what_to_do() {
    let stage = Stage::new();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let database = FakeDatabase::default();
    let handler = {
        let (database, kept) = (database.clone(), Arc::clone(&kept));
        TestHandler::of("order.placed", move |context| {
            let (database, kept) = (database.clone(), Arc::clone(&kept));
            async move {
                let tx = database.begin(&context).await?;
                kept.lock().unwrap().push(tx);
                Ok(())
            }
        })
        .transactional()
    };

    let (consumer, _) = tell(&stage, handler).await;

    assert_eq!(consumer.stats().dead_lettered, 1);
    let dead = stage.broker.events_of(DEAD).remove(0);
    let letter = DeadLetter::from_envelope(&dead).unwrap();
    assert!(
        letter.record.reasons[0].contains("drop the Tx"),
        "{letter:?}"
    );
}

#[tokio::test]
async fn a_handler_that_claims_a_transaction_must_leave_one() {
    let stage = Stage::new();
    let handler = TestHandler::of("order.placed", |_| async { Ok(()) }).transactional();

    let (consumer, told) = tell(&stage, handler).await;

    assert_eq!(consumer.stats().dead_lettered, 1);
    assert_eq!(told, ["dead after 1"]);
}

#[tokio::test]
async fn a_handler_that_claims_nothing_is_given_no_transaction() {
    let stage = Stage::new();
    let handler = TestHandler {
        delivery: DeliveryGuarantee::AtLeastOnce,
        ..billing(&FakeDatabase::default())
    };

    let (consumer, _) = tell(&stage, handler).await;

    assert_eq!(consumer.stats().dead_lettered, 1);
    let dead = stage.broker.events_of(DEAD).remove(0);
    let letter = DeadLetter::from_envelope(&dead).unwrap();
    assert!(
        letter.record.reasons[0].contains("EffectOnce"),
        "{letter:?}"
    );
}

#[tokio::test]
async fn a_collision_runs_the_handling_again_and_counts_no_attempt() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    for _ in 0..3 {
        database.fail_next(Step::Commit, collision(), false);
    }

    let (consumer, told) = tell(&stage, billing(&database)).await;

    assert_eq!(left(&stage, &database), one_effect());
    assert_eq!(told, ["handled evt-1 at 1"]);
    assert_eq!((consumer.stats().retried, database.lock().begun), (0, 4));
}

#[tokio::test]
async fn one_collision_after_the_other_makes_the_group_wait_and_costs_no_event() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    for _ in 0..15 {
        database.fail_next(Step::Commit, collision(), false);
    }

    let (_consumer, told) = tell(&stage, billing(&database)).await;

    assert_eq!(left(&stage, &database), one_effect());
    assert_eq!(told, ["paused", "resumed", "handled evt-1 at 1"]);
}

#[tokio::test]
async fn a_commit_without_an_answer_counts_once_whether_it_happened_or_not() {
    for happened in [true, false] {
        let stage = Stage::new();
        let database = FakeDatabase::default();
        database.fail_next(Step::Commit, unanswered_commit(), happened);

        let (consumer, told) = tell(&stage, billing(&database)).await;

        assert_eq!(left(&stage, &database), one_effect(), "{happened}");
        assert_eq!(told, ["paused", "resumed", "handled evt-1 at 1"]);
        let stats = consumer.stats();
        assert_eq!(
            (stats.handled, stats.emitted, stats.deduplicated),
            (1, 1, 0)
        );
    }
}

#[tokio::test]
async fn a_database_that_is_down_makes_the_group_wait_and_counts_no_attempt() {
    for step in [Step::Begin, Step::Emit, Step::Commit] {
        let stage = Stage::new();
        let database = FakeDatabase::default();
        database.fail_always(Some((step, down())));
        orders(&stage, 1..=3);
        let consumer = stage.start(billing(&database)).await;
        stage
            .until("trouble", || consumer.stats().trouble.is_some())
            .await;
        for _ in 0..100 {
            stage.clock.advance(Duration::from_secs(1));
            stage.settle_down().await;
        }
        let reason = consumer.stats().trouble.unwrap();
        assert!(reason.contains("connection refused"), "{step:?} {reason}");

        database.fail_always(None);
        stage.idle(&consumer).await;

        let left = left(&stage, &database);
        assert_eq!((left.effects.len(), left.outbox), (3, 3), "{step:?}");
        let stats = consumer.stats();
        assert_eq!((stats.retried, stats.dead_lettered), (0, 0), "{step:?}");
        assert_eq!(stats.trouble, None);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_handler_is_not_its_events_fault() {
    // Told by the driver's error among the causes, by a store's error, or only by the rollback that fails as well.
    type Failure = fn() -> HandlerError;
    let by_driver: Failure = || DriverError(CONNECTION_LOST).into();
    let by_store: Failure = || down().into();
    let by_words: Failure = || HandlerError::transient_message("broken pipe");
    for (failure, rollback) in [
        (by_driver, None),
        (by_store, None),
        (by_words, Some(down())),
    ] {
        let stage = Stage::new();
        let database = FakeDatabase::default();
        if let Some(error) = rollback {
            database.fail_next(Step::RollBack, error, false);
        }
        let runs = Arc::new(Mutex::new(0));
        let handler = failing_billing(&database, move |_| {
            let mut runs = runs.lock().unwrap();
            *runs += 1;
            (*runs == 1).then(failure)
        });

        let (_consumer, told) = tell(&stage, handler).await;

        assert_eq!(left(&stage, &database), one_effect());
        assert_eq!(told, ["paused", "resumed", "handled evt-1 at 1"]);
    }
}

#[tokio::test]
async fn a_statement_of_the_handler_that_fails_counts_as_its_failure() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    let handler = failing_billing(&database, |_| Some(DriverError(23505).into()));

    let (consumer, told) = tell(&stage, handler).await;

    assert_eq!(consumer.stats().retried, 4);
    assert_eq!(told.last().unwrap(), "dead after 5");
    assert!(!told.contains(&"paused".to_owned()), "{told:?}");
}

#[tokio::test]
async fn an_emitted_event_that_the_outbox_refuses_is_the_handlers_fault() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    let refused = StoreError::Refused {
        reason: "too long".to_owned(),
    };
    database.fail_always(Some((Step::Emit, refused)));

    let (_consumer, told) = tell(&stage, billing(&database)).await;

    assert_eq!(told, ["dead after 1"]);
    assert_eq!(left(&stage, &database).effects.len(), 0);
}

#[tokio::test]
async fn a_constraint_that_fails_at_the_commit_counts_attempts() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    let constraint = StoreError::Database {
        database: "fake".to_owned(),
        reason: "deferred constraint".to_owned(),
    };
    database.fail_always(Some((Step::Commit, constraint)));

    let (_consumer, told) = tell(&stage, billing(&database)).await;

    assert_eq!(told.last().unwrap(), "dead after 5");
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_rolled_back() {
    let mut stage = Stage::new();
    stage.config.time_limit = Duration::from_secs(1);
    let database = FakeDatabase::default();
    let slow = database.clone();
    let handler = TestHandler::of("order.placed", move |context| {
        let database = slow.clone();
        async move {
            let mut tx = database.begin(&context).await?;
            tx.write("half done");
            if context.attempt == 1 {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    })
    .transactional();

    let (consumer, _) = tell(&stage, handler).await;

    assert_eq!(database.lock().effects, ["half done"]);
    assert_eq!(
        (consumer.stats().retried, database.lock().rolled_back),
        (1, 1)
    );
}

#[tokio::test]
async fn a_store_that_a_handler_reaches_without_a_transaction_may_be_down_as_well() {
    let stage = Stage::new();
    let runs = Arc::new(Mutex::new(0));
    let handler = TestHandler::of("order.placed", move |_| {
        let mut runs = runs.lock().unwrap();
        *runs += 1;
        let result = if *runs < 4 { Err(down()) } else { Ok(()) };
        async move { Ok(result?) }
    });

    let (_consumer, told) = tell(&stage, handler).await;

    assert_eq!(told, ["paused", "resumed", "handled evt-1 at 1"]);
}

#[tokio::test]
async fn a_crash_at_any_step_makes_no_effect_twice_and_loses_none() {
    const EVENTS: usize = 9;
    for eager_cursor in [true, false] {
        for steps in 0..120 {
            let mut broker = FakeBroker::new();
            broker.yields = true;
            broker.eager_cursor = eager_cursor;
            let mut stage = Stage::on(broker);
            stage.config.parallel = 3;
            let mut database = FakeDatabase::default();
            database.yields = true;
            orders(&stage, 1..=EVENTS);
            let failing_once =
                |attempt| (attempt == 1).then(|| HandlerError::transient_message("once"));
            let consumer = stage.start(failing_billing(&database, failing_once)).await;
            for step in 0..steps {
                tokio::task::yield_now().await;
                if step % 3 == 0 {
                    stage.clock.advance(Duration::from_millis(10));
                }
            }
            drop(consumer);
            stage.settle_down().await;

            let consumer = stage.start(billing(&database)).await;
            stage.idle(&consumer).await;

            let mut expected: Vec<String> = (1..=EVENTS).map(|n| format!("evt-{n}")).collect();
            expected.sort();
            let found = left(&stage, &database);
            let story = format!("crash after {steps} steps, eager cursor {eager_cursor}");
            assert_eq!(found.effects, expected, "{story}");
            assert_eq!((found.outbox, found.published), (EVENTS, 0), "{story}");
        }
    }
}

//! Batch handlers with a transaction: one for the batch, with only the new events in it; a batch in which one fails is taken apart.

use super::*;
use crate::fakes::database::{FakeDatabase, Step, collision, unanswered_commit};
use crate::handler::BatchHandler;
use tidings_core::store::Admission;

/// Writes an effect for each new event and emits one event for each.
struct Ledger {
    database: FakeDatabase,
    patterns: Vec<Pattern>,
    calls: Seen,
    /// Numbers of events that fail after their effect.
    poison: Vec<usize>,
}

impl Ledger {
    fn of(database: &FakeDatabase, poison: &[usize]) -> Self {
        Self {
            database: database.clone(),
            patterns: vec!["order.placed".parse().unwrap()],
            calls: Seen::default(),
            poison: poison.to_vec(),
        }
    }
}

impl BatchHandler for Ledger {
    fn name(&self) -> &str {
        "ledger"
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn events_max(&self) -> usize {
        8
    }

    fn delivery(&self) -> DeliveryGuarantee {
        DeliveryGuarantee::EffectOnce
    }

    fn handle(&self, contexts: Vec<HandlerContext>) -> BoxFuture<'static, Vec<HandlerResult>> {
        let (database, calls) = (self.database.clone(), self.calls.clone());
        let poison: Vec<String> = self.poison.iter().map(|n| format!("evt-{n}")).collect();
        Box::pin(async move {
            let mut tx = match database.begin_batch(&contexts).await {
                Ok(tx) => tx,
                Err(error) => {
                    let same = || {
                        let words = error.chain().join(": ");
                        HandlerError::permanent_message(words).with_kind(error.kind())
                    };
                    let mut answers: Vec<_> = contexts.iter().map(|_| Err(same())).collect();
                    answers[0] = Err(error);
                    return answers;
                }
            };
            let admissions = contexts[0].work.admissions();
            let mut given = Vec::new();
            let mut answers = Vec::new();
            for (context, admission) in contexts.iter().zip(admissions) {
                if admission == Admission::HandledBefore {
                    answers.push(Err(HandlerError::handled_before()));
                    continue;
                }
                let id = context.envelope.event_id();
                given.push(id);
                tx.write(id);
                tokio::task::yield_now().await;
                answers.push(if poison.iter().any(|bad| bad == id) {
                    Err(HandlerError::transient_message("no such account"))
                } else {
                    context.emit.draft(draft("entry.made", id))
                });
            }
            calls.note(given.join(" "));
            answers
        })
    }
}

fn orders(stage: &Stage, numbers: impl IntoIterator<Item = usize>) {
    let order = |number| event("order.placed", Some(&format!("k{number}")), number);
    stage.broker.append(numbers.into_iter().map(order));
}

async fn run(stage: &Stage, ledger: Ledger) -> RunningConsumer {
    let builder = stage.builder("group").batch_handler(Arc::new(ledger));
    let consumer = builder.start().await.unwrap();
    stage.idle(&consumer).await;
    consumer
}

fn ids(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("evt-{n}")).collect()
}

fn effects(database: &FakeDatabase) -> Vec<String> {
    let mut effects = database.lock().effects.clone();
    effects.sort();
    effects
}

#[tokio::test]
async fn a_batch_is_one_transaction() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    orders(&stage, 1..=6);
    let ledger = Ledger::of(&database, &[]);
    let calls = ledger.calls.clone();

    let consumer = run(&stage, ledger).await;

    assert_eq!(calls.all(), ["evt-1 evt-2 evt-3 evt-4 evt-5 evt-6"]);
    assert_eq!(effects(&database), ids(1..=6));
    assert_eq!(database.lock().begun, 1);
    assert_eq!(database.lock().outbox.len(), 6);
    assert_eq!(stage.broker.events_of("entry.made").len(), 0);
    assert_eq!((consumer.stats().handled, consumer.stats().emitted), (6, 6));
}

#[tokio::test]
async fn only_what_is_new_is_handed_to_the_handler() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    orders(&stage, 1..=3);
    stage
        .drain(run(&stage, Ledger::of(&database, &[])).await)
        .await;
    // One of them under another key, so that both of it are in one batch.
    stage
        .broker
        .append([event("order.placed", Some("other"), 4)]);
    orders(&stage, [2, 3, 4, 5]);
    let ledger = Ledger::of(&database, &[]);
    let calls = ledger.calls.clone();

    let consumer = run(&stage, ledger).await;

    assert_eq!(calls.all(), ["evt-4 evt-5"]);
    assert_eq!(effects(&database), ids(1..=5));
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.deduplicated), (2, 3));
}

#[tokio::test]
async fn a_batch_of_which_everything_is_known_calls_nobody() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    orders(&stage, 1..=3);
    stage
        .drain(run(&stage, Ledger::of(&database, &[])).await)
        .await;
    orders(&stage, 1..=3);
    let ledger = Ledger::of(&database, &[]);
    let calls = ledger.calls.clone();

    let consumer = run(&stage, ledger).await;

    assert_eq!((calls.len(), consumer.stats().deduplicated), (0, 3));
}

#[tokio::test]
async fn one_poison_event_is_found_and_the_others_count_once() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    orders(&stage, 1..=6);
    let ledger = Ledger::of(&database, &[4]);
    let calls = ledger.calls.clone();

    let consumer = run(&stage, ledger).await;

    assert_eq!(effects(&database), ids([1, 2, 3, 5, 6]));
    assert_eq!(database.lock().outbox.len(), 5);
    let stats = consumer.stats();
    assert_eq!(
        (stats.handled, stats.retried, stats.dead_lettered),
        (5, 4, 1)
    );
    let alone = ["evt-1", "evt-2", "evt-3", "evt-4", "evt-5", "evt-6"];
    assert_eq!(calls.all()[1..7], alone);
}

#[tokio::test]
async fn a_collision_runs_the_batch_again_as_a_whole() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    database.fail_next(Step::Commit, collision(), false);
    database.fail_next(Step::Begin, collision(), false);
    orders(&stage, 1..=4);

    let consumer = run(&stage, Ledger::of(&database, &[])).await;

    assert_eq!(effects(&database), ids(1..=4));
    assert_eq!(database.lock().begun, 2);
    assert_eq!((consumer.stats().handled, consumer.stats().retried), (4, 0));
}

#[tokio::test]
async fn collisions_without_end_take_the_batch_apart() {
    let stage = Stage::new();
    let database = FakeDatabase::default();
    for _ in 0..12 {
        database.fail_next(Step::Commit, collision(), false);
    }
    orders(&stage, 1..=3);
    let ledger = Ledger::of(&database, &[]);
    let calls = ledger.calls.clone();

    run(&stage, ledger).await;

    assert_eq!(effects(&database), ids(1..=3));
    assert!(
        calls.all().contains(&"evt-1".to_owned()),
        "{:?}",
        calls.all()
    );
}

#[tokio::test]
async fn a_commit_of_a_batch_without_an_answer_counts_once_whether_it_happened_or_not() {
    for happened in [true, false] {
        let stage = Stage::new();
        let database = FakeDatabase::default();
        orders(&stage, [9]);
        stage
            .drain(run(&stage, Ledger::of(&database, &[])).await)
            .await;
        database.fail_next(Step::Commit, unanswered_commit(), happened);
        orders(&stage, [1, 2, 3, 9]);

        let consumer = run(&stage, Ledger::of(&database, &[])).await;

        assert_eq!(effects(&database), ids([1, 2, 3, 9]), "{happened}");
        assert_eq!(database.lock().outbox.len(), 4);
        let stats = consumer.stats();
        assert_eq!((stats.handled, stats.emitted), (3, 3), "{happened}");
        assert_eq!(stats.deduplicated, 1);
    }
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_batch_makes_no_effect_twice_and_loses_none() {
    for steps in 0..120 {
        let mut broker = FakeBroker::new();
        broker.yields = true;
        broker.eager_cursor = steps % 2 == 0;
        let stage = Stage::on(broker);
        let mut database = FakeDatabase::default();
        database.yields = true;
        orders(&stage, 1..=9);
        let ledger = Arc::new(Ledger::of(&database, &[3]));
        let builder = stage.builder("group").batch_handler(ledger);
        let consumer = builder.start().await.unwrap();
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        drop(consumer);
        stage.settle_down().await;

        run(&stage, Ledger::of(&database, &[])).await;

        assert_eq!(effects(&database), ids(1..=9), "crash after {steps} steps");
        assert_eq!(database.lock().outbox.len(), 9, "crash after {steps} steps");
    }
}

//! Batch handlers: several events a call, each of another key, each with an outcome of its own.

use super::*;
use crate::dead_letter::DeadLetter;
use crate::fakes::failures::FakeFailures;
use crate::fakes::garbage;
use crate::handler::BatchHandler;
use std::collections::HashSet;
use tidings_core::store::DeathCause;

type BatchFunction = dyn Fn(&HandlerContext) -> HandlerResult + Send + Sync;

struct TestBatch {
    patterns: Vec<Pattern>,
    calls: Seen,
    /// How many answers are missing.
    short_by: usize,
    function: Box<BatchFunction>,
}

impl TestBatch {
    fn of(
        calls: &Seen,
        function: impl Fn(&HandlerContext) -> HandlerResult + Send + Sync + 'static,
    ) -> Self {
        Self {
            patterns: vec!["a.b".parse().unwrap()],
            calls: calls.clone(),
            short_by: 0,
            function: Box::new(function),
        }
    }
}

impl BatchHandler for TestBatch {
    fn name(&self) -> &str {
        "batch"
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn events_max(&self) -> usize {
        8
    }

    fn handle(&self, contexts: Vec<HandlerContext>) -> BoxFuture<'static, Vec<HandlerResult>> {
        let keys: Vec<&str> = contexts
            .iter()
            .map(|context| context.envelope.aggregate_id().unwrap())
            .collect();
        let distinct: HashSet<&str> = keys.iter().copied().collect();
        assert_eq!(
            distinct.len(),
            keys.len(),
            "a key twice in one call: {keys:?}"
        );
        let ids = contexts.iter().map(|context| context.envelope.event_id());
        self.calls.note(ids.collect::<Vec<_>>().join(" "));
        let mut results: Vec<HandlerResult> = contexts.iter().map(&self.function).collect();
        results.truncate(results.len() - self.short_by.min(results.len()));
        Box::pin(async move { results })
    }
}

async fn handled(stage: &Stage, batch: TestBatch, events: usize, keys: usize) -> RunningConsumer {
    let key = |number: usize| format!("k{}", number % keys);
    stage
        .broker
        .append((0..events).map(|number| event("a.b", Some(&key(number)), number)));
    let builder = stage.builder("group").batch_handler(Arc::new(batch));
    let consumer = builder.start().await.unwrap();
    stage.idle(&consumer).await;
    consumer
}

#[tokio::test]
async fn a_call_takes_several_events_each_of_another_key() {
    let stage = Stage::new();
    let calls = Seen::default();

    let consumer = handled(&stage, TestBatch::of(&calls, |_| Ok(())), 60, 20).await;

    assert_eq!(consumer.stats().handled, 60);
    assert!(calls.len() < 30, "{} calls", calls.len());
    assert!(calls.all().iter().all(|call| call.split(' ').count() <= 8));
}

#[tokio::test]
async fn items_of_a_call_fail_alone_and_their_keys_keep_their_order() {
    let mut stage = Stage::new();
    stage.config.attempts = 2;
    let calls = Seen::default();
    let ended = Seen::default();
    let batch = {
        let ended = ended.clone();
        TestBatch::of(&calls, move |context| {
            let id = context.envelope.event_id();
            match id {
                "evt-3" => return Err(HandlerError::permanent_message("poison")),
                "evt-4" if context.attempt == 1 => {
                    return Err(HandlerError::transient_message("once"));
                }
                _ => {}
            }
            ended.note(id);
            context.emit.draft(draft("b.c", id))
        })
    };

    let consumer = handled(&stage, batch, 12, 4).await;

    let stats = consumer.stats();
    assert_eq!(
        (stats.handled, stats.retried, stats.dead_lettered),
        (11, 1, 1)
    );
    assert_eq!(stats.emitted, 11);
    let of_key = |key: usize| {
        let numbers = ended
            .all()
            .into_iter()
            .map(|id| id[4..].parse::<usize>().unwrap());
        numbers
            .filter(|number| number % 4 == key)
            .collect::<Vec<_>>()
    };
    assert_eq!(of_key(0), [0, 4, 8]);
    assert_eq!(of_key(3), [7, 11]);
}

#[tokio::test]
async fn an_event_without_an_answer_has_failed() {
    let mut stage = Stage::new();
    stage.config.attempts = 1;
    let mut batch = TestBatch::of(&Seen::default(), |_| Ok(()));
    batch.short_by = 1;

    let consumer = handled(&stage, batch, 3, 3).await;

    assert_eq!(consumer.stats().dead_lettered + consumer.stats().handled, 3);
    let fact = &stage.broker.events_of("tidings.dead_letter.recorded")[0];
    let record = DeadLetter::from_envelope(fact).unwrap().record;
    assert!(record.reason.contains("answered for"), "{}", record.reason);
}

#[tokio::test]
async fn a_panic_of_a_call_fails_each_of_its_events() {
    let mut stage = Stage::new();
    stage.config.attempts = 2;
    let batch = TestBatch::of(&Seen::default(), |context| {
        assert!(context.attempt > 1, "the first call of each");
        Ok(())
    });

    let consumer = handled(&stage, batch, 5, 5).await;

    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.retried), (5, 5));
}

#[tokio::test]
async fn single_and_batch_handlers_share_a_group_and_the_order_of_a_key() {
    let stage = Stage::new();
    let calls = Seen::default();
    let single = {
        let calls = calls.clone();
        TestHandler::of("c.d", move |context| {
            calls.note(context.envelope.event_id());
            async { Ok(()) }
        })
    };
    stage.broker.append([
        event("a.b", Some("k"), 1),
        event("c.d", Some("k"), 2),
        event("a.b", Some("k"), 3),
        event("c.d", Some("k"), 4),
    ]);
    let builder = stage.builder("group").handler(Arc::new(single));
    let builder = builder.batch_handler(Arc::new(TestBatch::of(&calls, |_| Ok(()))));
    let consumer = builder.start().await.unwrap();

    stage.idle(&consumer).await;

    assert_eq!(calls.all(), ["evt-1", "evt-2", "evt-3", "evt-4"]);
}

#[tokio::test]
async fn a_message_that_is_no_event_is_left_out_of_the_call() {
    let stage = Stage::new();
    let calls = Seen::default();
    let ended = Seen::default();
    let batch = {
        let ended = ended.clone();
        TestBatch::of(&calls, move |context| {
            ended.note(context.envelope.event_id());
            Ok(())
        })
    };
    stage.broker.append([
        garbage("a.b", Some("x"), 0),
        event("a.b", Some("x"), 1),
        garbage("a.b", Some("y"), 2),
        event("a.b", Some("z"), 3),
    ]);

    let builder = stage.builder("group").batch_handler(Arc::new(batch));
    let consumer = builder.start().await.unwrap();
    stage.idle(&consumer).await;

    let mut handled = ended.all();
    handled.sort();
    assert_eq!(handled, ["evt-1", "evt-3"]);
    assert_eq!(consumer.stats().dead_lettered, 2);
}

#[tokio::test]
async fn a_row_that_a_batch_handler_does_not_want_is_given_up() {
    let stage = Stage::new();
    let calls = Seen::default();
    let store = FakeFailures::new(&stage.clock);
    super::parking::park_unwanted(&store).await;
    let batch = Arc::new(TestBatch::of(&calls, |_| Ok(())));
    let builder = stage.builder("group").batch_handler(batch);
    let consumer = builder
        .failures(Arc::new(store.clone()))
        .start()
        .await
        .unwrap();
    stage
        .until("it is given up", || consumer.stats().dead_lettered == 1)
        .await;

    assert_eq!(calls.len(), 0);
    assert_eq!(store.lock().letters[0].cause, DeathCause::Unwanted);
}

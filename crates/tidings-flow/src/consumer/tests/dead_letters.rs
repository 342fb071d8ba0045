//! What is given up is recorded before the group goes on.

use super::*;
use crate::dead_letter::{self, DeadLetter};
use crate::fakes::{Fault, garbage};
use tidings_core::broker::BrokerError;
use tidings_core::{Envelope, event_id};

const FACT: &str = "tidings.dead_letter.recorded";

fn failing() -> TestHandler {
    TestHandler::failing(|| {
        let cause = std::io::Error::other("connection refused");
        HandlerError::from(Outer(cause))
    })
}

#[derive(Debug, thiserror::Error)]
#[error("the bank does not answer")]
struct Outer(#[source] std::io::Error);

#[tokio::test]
async fn a_dead_letter_tells_who_gave_what_up_and_why() {
    let mut stage = Stage::new();
    stage.config.attempts = 2;
    let mut parts = event("order.placed", Some("order-7"), 1).into_parts();
    parts.correlation_id = Some("flow-1".to_owned());
    let original = Envelope::new(parts).unwrap();
    stage
        .broker
        .append([event("a.b", Some("x"), 0), original.clone()]);

    let handler = TestHandler {
        patterns: vec!["order.*".parse().unwrap()],
        ..failing()
    };
    let consumer = stage.start(handler.named("charge")).await;
    stage.idle(&consumer).await;

    let facts = stage.broker.events_of(FACT);
    assert_eq!(facts.len(), 1);
    let fact = &facts[0];
    assert_eq!(fact.aggregate_id(), Some("order-7"));
    assert_eq!(fact.correlation_id(), "flow-1");
    assert_eq!(fact.causation_id(), Some("evt-1"));
    assert_eq!(fact.source(), Some("group"));
    assert_eq!(fact.event_id(), dead_letter::fact_id(&original, "group", 0));
    let letter = DeadLetter::from_envelope(fact).unwrap();
    assert_eq!(letter.original().unwrap().unwrap(), original);
    let record = letter.record;
    assert_eq!(record.consumer, "group");
    assert_eq!(record.handler, "charge");
    assert_eq!(record.reason, "the bank does not answer");
    assert_eq!(
        record.reasons,
        ["the bank does not answer", "connection refused"]
    );
    assert_eq!(record.attempts, 2);
    assert_eq!(record.history.len(), 2);
    assert_eq!(record.position, Some(1));
    assert!(record.first_failed_at.is_some());
}

#[tokio::test]
async fn the_group_goes_on_behind_a_dead_letter() {
    let stage = Stage::new();
    let handler = TestHandler::of("a.b", |context| async move {
        match context.envelope.event_id() {
            "evt-1" => Err(HandlerError::permanent_message("poison")),
            _ => Ok(()),
        }
    });
    let consumer = stage.start(handler).await;

    stage
        .broker
        .append((0..4).map(|number| event("a.b", Some("k"), number)));
    stage.idle(&consumer).await;

    let stats = consumer.stats();
    assert_eq!(
        (stats.handled, stats.dead_lettered, stats.in_flight),
        (3, 1, 0)
    );
    assert_eq!(stage.broker.lock().acked.len(), 4);
}

#[tokio::test]
async fn an_event_is_settled_only_once_its_dead_letter_is_on_the_log() {
    let stage = Stage::new();
    stage.broker.fail_always(Some(Fault::Full));
    let consumer = stage
        .start(TestHandler::failing(|| {
            HandlerError::permanent_message("no")
        }))
        .await;

    stage.broker.append([event("a.b", Some("k"), 1)]);
    stage
        .until("the group waits", || consumer.stats().trouble.is_some())
        .await;
    assert!(stage.broker.lock().acked.is_empty());
    stage.broker.fail_always(None);
    stage.idle(&consumer).await;

    assert_eq!(stage.broker.lock().acked, [0]);
    assert_eq!(stage.broker.events_of(FACT).len(), 1);
}

#[tokio::test]
async fn a_broker_without_room_for_the_envelope_gets_its_position() {
    let stage = Stage::new();
    stage.broker.fail_next([Fault::Refused]);
    let consumer = stage
        .start(TestHandler::failing(|| {
            HandlerError::permanent_message("no")
        }))
        .await;

    stage.broker.append([event("a.b", Some("k"), 1)]);
    stage.idle(&consumer).await;

    let letter = DeadLetter::from_envelope(&stage.broker.events_of(FACT)[0]).unwrap();
    assert!(letter.original().is_none());
    assert_eq!(letter.record.position, Some(0));
}

#[tokio::test]
async fn a_dead_letter_that_is_refused_pauses_the_group_and_is_never_dropped() {
    let stage = Stage::new();
    stage.broker.fail_always(Some(Fault::Refused));
    let consumer = stage
        .start(TestHandler::failing(|| {
            HandlerError::permanent_message("no")
        }))
        .await;

    stage.broker.append([event("a.b", Some("k"), 1)]);
    stage
        .until("several tries", || stage.broker.lock().publishes > 5)
        .await;
    assert!(consumer.stats().trouble.is_some());
    stage.broker.fail_always(None);
    stage.idle(&consumer).await;

    assert_eq!(stage.broker.events_of(FACT).len(), 1);
    assert_eq!(consumer.stats().trouble, None);
}

#[tokio::test]
async fn dead_letters_are_listed_in_order_and_each_once() {
    let stage = Stage::new();
    let consumer = stage
        .start(TestHandler::failing(|| {
            HandlerError::permanent_message("no")
        }))
        .await;
    stage
        .broker
        .append((0..300).map(|number| event("a.b", None, number)));
    stage.idle(&consumer).await;
    let double = stage.broker.events_of(FACT)[0].clone();
    let other = event(FACT, None, 9_999);
    stage.broker.append([double, other]);

    let mut letters = dead_letter::list(&*stage.broker);
    let mut ids = Vec::new();
    while let Some(letter) = letters.next().await {
        ids.push(letter.unwrap().id);
    }

    let facts = stage.broker.events_of(FACT);
    let expected: Vec<&str> = facts.iter().take(300).map(Envelope::event_id).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn damage_is_told_and_skipped() {
    let stage = Stage::new();
    let seen = Seen::default();
    let damaged = || BrokerError::Damaged {
        path: "log".into(),
        offset: 1,
        from: Default::default(),
        to: Default::default(),
        reason: "a bit flipped".to_owned(),
    };
    let full = BrokerError::DiskFull { path: "log".into() };
    stage
        .broker
        .lock()
        .receive_errors
        .extend([damaged(), full, damaged()]);
    let builder = stage.builder("group").observer(Arc::new(seen.clone()));
    let handler = TestHandler::of("a.b", |_| async { Ok(()) });
    let consumer = builder.handler(Arc::new(handler)).start().await.unwrap();

    stage.broker.append([event("a.b", None, 1)]);
    stage.idle(&consumer).await;

    assert_eq!(
        seen.all(),
        ["damaged", "broker failed", "damaged", "handled evt-1 at 1"]
    );
    assert_eq!(consumer.stats().damaged, 2);
}

#[tokio::test]
async fn emitted_events_inherit_their_flow_and_have_ids_that_repeat() {
    let stage = Stage::new();
    let handler = TestHandler::of("order.placed", |context| async move {
        context.emit.draft(draft("payment.succeeded", "order-1"))?;
        let mut second = draft("payment.logged", "order-1");
        second.source = Some("bank".to_owned());
        context.emit.draft(second)
    });
    let consumer = stage.start(handler.named("charge")).await;
    let mut parts = event("order.placed", Some("order-1"), 1).into_parts();
    parts.correlation_id = Some("flow-1".to_owned());
    let trace = "\"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\"";
    parts
        .extensions
        .push(("traceparent".to_owned(), trace.to_owned()));
    let cause = Envelope::new(parts).unwrap();

    stage.broker.append([cause.clone()]);
    stage.idle(&consumer).await;

    let first = &stage.broker.events_of("payment.succeeded")[0];
    let second = &stage.broker.events_of("payment.logged")[0];
    for (emitted, ordinal) in [(first, 0), (second, 1)] {
        let expected = event_id::repeatable(event_id::Origin {
            cause: &cause,
            group: "group",
            handler: "charge",
            ordinal,
        });
        assert_eq!(emitted.event_id(), expected);
        assert_eq!(emitted.correlation_id(), "flow-1");
        assert_eq!(emitted.causation_id(), Some("evt-1"));
        assert_eq!(emitted.trace_context(), cause.trace_context());
    }
    assert_eq!(
        (first.source(), second.source()),
        (Some("group"), Some("bank"))
    );
}

#[tokio::test]
async fn an_emitted_event_over_a_limit_is_a_permanent_failure_and_nothing_is_published() {
    let stage = Stage::new();
    let handler = TestHandler::of("a.b", |context| async move {
        context.emit.draft(draft("b.c", "k"))?;
        context.emit.draft(draft("b.d", &"x".repeat(2_000)))
    });
    let consumer = stage.start(handler).await;

    stage.broker.append([event("a.b", None, 1)]);
    stage.idle(&consumer).await;

    assert!(stage.broker.events_of("b.c").is_empty());
    let record = DeadLetter::from_envelope(&stage.broker.events_of(FACT)[0])
        .unwrap()
        .record;
    assert_eq!(record.attempts, 1);
    assert!(
        record
            .reason
            .contains("event 2 that the handler emits, b.d"),
        "{}",
        record.reason
    );
}

#[tokio::test]
async fn a_message_that_is_no_event_is_given_up_without_a_handler() {
    let stage = Stage::new();
    let seen = Seen::default();
    let noted = seen.clone();
    let handler = TestHandler::of("a.b", move |context| {
        noted.note(context.envelope.event_id());
        async { Ok(()) }
    });
    stage.broker.append([
        event("a.b", Some("x"), 0),
        garbage("a.b", Some("x"), 1),
        event("a.b", Some("x"), 2),
    ]);

    let consumer = stage.start(handler).await;
    stage.idle(&consumer).await;

    assert_eq!(seen.all(), ["evt-0", "evt-2"]);
    let facts = stage.broker.events_of(FACT);
    assert_eq!(facts.len(), 1);
    let letter = DeadLetter::from_envelope(&facts[0]).unwrap();
    assert_eq!(letter.record.reason, "a message is no event: not JSON");
    assert_eq!(letter.record.attempts, 1);
    let original = letter.original().unwrap().unwrap();
    assert_eq!(original.payload_bytes(), b"\xff\x00");
}

//! The producer against a broker in memory.

use super::*;
use crate::fakes::{CountingChance, FakeBroker, Fault, ManualClock, SharedBroker, event};
use serde::{Deserialize, Serialize};
use tidings_core::{EventType, Payload};

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    order_id: String,
    total: u32,
}

impl Event for OrderPlaced {
    const TYPE: &'static str = "order.placed";
    const VERSION: u32 = 2;

    fn key(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.order_id))
    }
}

fn order(id: &str) -> OrderPlaced {
    OrderPlaced {
        order_id: id.to_owned(),
        total: 7,
    }
}

struct Stage {
    broker: Arc<FakeBroker>,
    clock: Arc<ManualClock>,
    producer: Producer,
}

fn stage(queue_events_max: usize) -> Stage {
    let broker = Arc::new(FakeBroker::new());
    let clock = ManualClock::new();
    let config = ProducerConfig {
        source: Some("shop".to_owned()),
        timeout: Duration::from_secs(10),
        queue_events_max,
    };
    let producer = Producer::new(
        Arc::new(SharedBroker(Arc::clone(&broker))),
        Arc::clone(&clock) as _,
        Arc::new(CountingChance::default()),
        config,
    );
    Stage {
        broker,
        clock,
        producer,
    }
}

impl Stage {
    fn envelopes(&self) -> Vec<Envelope> {
        let state = self.broker.lock();
        state
            .log
            .iter()
            .map(|recorded| recorded.envelope.clone())
            .collect()
    }
}

#[tokio::test]
async fn an_event_is_stamped_with_everything_that_it_does_not_say() {
    let stage = stage(10);

    let published = stage.producer.publish(&order("o-1")).await.unwrap();

    let envelope = &stage.envelopes()[0];
    assert_eq!(envelope.event_id(), published.event_id);
    assert_eq!(published.receipt.position.unwrap().0, 0);
    assert_eq!(envelope.event_type().as_str(), "order.placed");
    assert_eq!(envelope.version_given(), Some(2));
    assert_eq!(envelope.aggregate_id(), Some("o-1"));
    assert_eq!(envelope.source(), Some("shop"));
    assert_eq!(envelope.correlation_id_given(), Some(envelope.event_id()));
    assert_eq!(envelope.causation_id(), None);
    assert_eq!(envelope.timestamp().unwrap().instant(), stage.clock.now());
    assert_eq!(envelope.payload_bytes(), br#"{"order_id":"o-1","total":7}"#);
}

#[tokio::test]
async fn a_consequence_inherits_its_flow_and_names_its_cause() {
    let stage = stage(10);
    let mut parts = event("cart.checked_out", None, 1).into_parts();
    parts.correlation_id = Some("flow-1".to_owned());
    let cause = Envelope::new(parts).unwrap();

    stage
        .producer
        .publish_caused_by(&cause, &order("o-1"))
        .await
        .unwrap();
    let stamp = Stamp {
        event_id: Some("evt-own".to_owned()),
        correlation_id: Some("flow-2".to_owned()),
        ..Stamp::default()
    };
    let draft = Draft::of(&order("o-2")).unwrap();
    stage.producer.publish_stamped(draft, stamp).await.unwrap();

    let envelopes = stage.envelopes();
    assert_eq!(envelopes[0].correlation_id(), "flow-1");
    assert_eq!(envelopes[0].causation_id(), Some("evt-1"));
    assert_eq!(envelopes[1].event_id(), "evt-own");
    assert_eq!(envelopes[1].correlation_id(), "flow-2");
    assert_eq!(envelopes[1].causation_id(), None);
}

#[tokio::test]
async fn each_event_has_its_own_outcome_and_a_bad_one_holds_back_its_key_only() {
    let stage = stage(10);
    let mut broken = Draft::of(&order("a")).unwrap();
    broken.payload = Some(Payload::binary(vec![0; 2_000_000]));
    let good = |key| Draft::of(&order(key)).unwrap();
    let drafts = vec![good("a"), broken, good("b"), good("a")];

    let outcomes = stage.producer.publish_drafts(drafts).await;

    assert!(outcomes[0].is_ok());
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.code(), codes::LIMIT_EXCEEDED);
    assert!(!error.may_have_happened());
    assert!(outcomes[2].is_ok());
    assert!(matches!(outcomes[3], Err(PublishError::NotAttempted)));
    let keys: Vec<_> = stage
        .envelopes()
        .iter()
        .map(|one| one.aggregate_id().map(str::to_owned))
        .collect();
    assert_eq!(keys, [Some("a".to_owned()), Some("b".to_owned())]);
}

#[tokio::test]
async fn all_events_of_a_call_are_published_in_order_in_batches_that_fit_the_queue() {
    let stage = stage(16);
    let orders: Vec<OrderPlaced> = (0..50)
        .map(|number| order(&format!("o-{number}")))
        .collect();

    let outcomes = stage.producer.publish_all(&orders).await;

    assert!(outcomes.iter().all(Result::is_ok));
    let published = stage.envelopes();
    assert_eq!(published.len(), 50);
    for (number, (envelope, outcome)) in published.iter().zip(&outcomes).enumerate() {
        assert_eq!(
            envelope.aggregate_id(),
            Some(format!("o-{number}").as_str())
        );
        assert_eq!(outcome.as_ref().unwrap().event_id, envelope.event_id());
    }
    assert_eq!(stage.broker.lock().publishes, 4);
}

#[tokio::test]
async fn after_a_failed_batch_the_keys_that_failed_are_held_back() {
    let stage = stage(2);
    stage.broker.fail_next([Fault::Full]);
    let events: Vec<Envelope> = ["a", "b", "a", "c", "b", "d"]
        .iter()
        .enumerate()
        .map(|(number, key)| event("x.y", Some(key), number))
        .collect();

    let outcomes = stage.producer.publish_envelopes(&events).await;

    let told: Vec<&str> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(_) => "ok",
            Err(PublishError::NotAttempted) => "held back",
            Err(_) => "refused",
        })
        .collect();
    assert_eq!(
        told,
        ["refused", "refused", "held back", "ok", "held back", "ok"]
    );
}

#[tokio::test]
async fn envelopes_are_published_as_they_are() {
    let stage = stage(10);
    let mut parts = event("ORDER_PLACED", None, 1).into_parts();
    parts.source = None;
    parts.timestamp = None;
    let bare = Envelope::new(parts).unwrap();

    let outcomes = stage
        .producer
        .publish_envelopes(std::slice::from_ref(&bare))
        .await;

    assert!(outcomes[0].is_ok());
    assert_eq!(stage.envelopes(), [bare]);
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_ambiguous_and_a_full_queue_is_not() {
    let stage = stage(1);
    stage.broker.fail_always(Some(Fault::Hangs));
    let first = stage.producer.clone();
    let second = stage.producer.clone();
    let first = async move { first.publish(&order("o-1")).await };
    let second = async move { second.publish(&order("o-2")).await };
    let clock = async {
        tokio::task::yield_now().await;
        stage.clock.advance(Duration::from_secs(10));
    };

    let (first, second, ()) = tokio::join!(first, second, clock);

    let first = first.unwrap_err();
    assert!(matches!(first, PublishError::Timeout { .. }), "{first}");
    assert!(first.may_have_happened());
    let second = second.unwrap_err();
    assert!(!second.may_have_happened());
    assert_eq!(second.code(), codes::PUBLISH_TIMEOUT);
    assert!(second.class().is_transient());
    assert_eq!(
        stage.broker.lock().publishes,
        1,
        "the second was never handed over"
    );
}

#[tokio::test]
async fn a_cancelled_publish_gives_its_place_back() {
    let stage = stage(1);
    stage.broker.fail_next([Fault::Hangs]);
    let cancelled = order("o-1");

    tokio::select! {
        biased;
        _ = stage.producer.publish(&cancelled) => unreachable!(),
        () = std::future::ready(()) => {}
    }
    let second = stage.producer.publish(&order("o-2")).await;

    assert!(second.is_ok());
}

#[tokio::test]
async fn a_payload_that_is_no_json_is_refused() {
    #[derive(Deserialize)]
    struct Odd;
    impl Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    impl Event for Odd {
        const TYPE: &'static str = "odd.seen";
    }
    let stage = stage(1);

    let error = stage.producer.publish(&Odd).await.unwrap_err();

    assert_eq!(error.code(), codes::PAYLOAD_INVALID);
    assert!(error.to_string().contains("odd.seen"), "{error}");
    assert!(EventType::declared(Odd::TYPE).is_ok());
}

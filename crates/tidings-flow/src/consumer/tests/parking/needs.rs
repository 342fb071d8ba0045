//! What parking needs: a store that every instance sees, and an end to how much is in it.

use super::*;
use crate::consumer::ConsumerError;
use tidings_core::broker::KeyOrder;

#[tokio::test]
async fn retry_later_and_holding_need_a_store_that_all_instances_see() {
    let refused = async |stage: &Stage, store: Option<FakeFailures>| -> ConsumerError {
        let handler = TestHandler::of("**", |_| async { Ok(()) });
        let mut builder = stage.builder("group").handler(Arc::new(handler));
        if let Some(store) = store {
            builder = builder.failures(Arc::new(store));
        }
        builder.start().await.err().unwrap()
    };
    let mut stage = Stage::new();
    stage.config.later = vec![Duration::from_secs(1)];
    assert_eq!(
        refused(&stage, None).await.code(),
        codes::FAILURE_STORE_MISSING
    );
    stage.config.later.clear();
    stage.config.on_failure = Some(OnFailure::Hold);
    assert_eq!(
        refused(&stage, None).await.code(),
        codes::FAILURE_STORE_MISSING
    );
    let mut broker = FakeBroker::new();
    broker.group_leased = false;
    broker.key_order = KeyOrder::AcrossInstances;
    let mut stage = Stage::on(broker);
    let mut store = FakeFailures::new(&stage.clock);
    store.shared = false;
    // Whoever says nothing asks for it as well.
    for asked in [Some(OnFailure::Hold), None] {
        stage.config.on_failure = asked;
        let error = refused(&stage, Some(store.clone())).await;
        assert_eq!(error.code(), codes::FAILURE_STORE_LOCAL);
        for way_out in ["--store URL", "--single-instance", "--on-failure continue"] {
            assert!(error.to_string().contains(way_out), "{error}");
        }
    }
}

/// Whether the second event of a key is handled after the first one was given up, on a broker on which the group may have several instances. The store may be seen by all of them, by one, or be missing.
async fn goes_on(is_shared: Option<bool>, change: fn(&mut ConsumerConfig)) -> bool {
    let mut broker = FakeBroker::new();
    broker.group_leased = false;
    let mut stage = Stage::on(broker);
    change(&mut stage.config);
    let handler = TestHandler::of("**", |context| async move {
        match context.envelope.event_id() {
            "evt-1" => Err(HandlerError::permanent_message("never")),
            _ => Ok(()),
        }
    });
    let mut builder = stage.builder("group").handler(Arc::new(handler));
    if let Some(shared) = is_shared {
        let mut store = FakeFailures::new(&stage.clock);
        store.shared = shared;
        builder = builder.failures(Arc::new(store));
    }
    let events = [1, 2].map(|number| event("a.b", Some("k"), number));
    stage.broker.append(events);
    let consumer = builder.start().await.unwrap();
    stage.idle(&consumer).await;
    assert_eq!(consumer.stats().dead_lettered, 1);
    consumer.stats().handled == 1
}

#[tokio::test]
async fn a_group_that_may_have_several_instances_holds_keys_where_all_of_them_see_its_store() {
    assert!(!goes_on(Some(true), |_| {}).await);
    assert!(!goes_on(Some(false), |config| config.single_instance = true).await);
    assert!(goes_on(Some(false), |config| config.unordered = true).await);
    let goes_on_anyway: fn(&mut ConsumerConfig) =
        |config| config.on_failure = Some(OnFailure::Continue);
    assert!(goes_on(Some(false), goes_on_anyway).await);
    assert!(goes_on(None, |_| {}).await, "nobody could hold a key");
}

#[tokio::test]
async fn a_group_stops_loudly_when_too_much_is_parked() {
    let mut parked = Parked::new();
    parked.stage.config.parked_of_key_max = 3;
    parked.publish(1..=5);
    let consumer = parked.start(&[("evt-1", 9)]).await;

    let stopped = parked.stage.wait("stopped", consumer.wait_idle()).await;
    let error = stopped.unwrap_err();
    assert_eq!(error.code(), codes::PARKED_FULL);
    assert!(error.to_string().contains("parked_of_key_max"), "{error}");
    parked.publish([6]);
    parked.stage.settle_down().await;
    assert_eq!(parked.seen.len(), 1);
}

/// A supervisor that starts it again and again parked more each time.
#[tokio::test]
async fn a_group_that_stopped_with_too_much_parked_parks_no_more_when_it_is_started_again() {
    let mut parked = Parked::new();
    parked.stage.config.parked_of_key_max = 3;
    parked.publish([1, 2]);
    let consumer = parked.start(&[("evt-1", 1)]).await;
    parked.stage.idle(&consumer).await;
    parked.publish(3..=20);
    let stopped = parked.stage.wait("stopped", consumer.wait_idle()).await;
    assert_eq!(stopped.unwrap_err().code(), codes::PARKED_FULL);
    parked.stage.settle_down().await;
    let before = parked.store.parked_ids();
    assert_eq!(before, ["evt-1", "evt-2", "evt-3", "evt-4"]);
    drop(consumer);

    for _ in 0..3 {
        parked.stage.settle_down().await;
        let consumer = parked.start(&[("evt-1", 1)]).await;
        let stopped = parked.stage.wait("stopped", consumer.wait_idle()).await;
        assert_eq!(stopped.unwrap_err().code(), codes::PARKED_FULL);
        parked.stage.settle_down().await;
        assert_eq!(parked.store.parked_ids(), before);
    }
    parked.stage.settle_down().await;
    parked.stage.config.parked_of_key_max = 100;
    let consumer = parked.start(&[]).await;
    let done = || consumer.stats().handled == 20;
    parked.stage.until("all is handled", done).await;

    let expected = (1..=20).map(|number| match number {
        1 => "evt-1 at 2 ok".to_owned(),
        _ => format!("evt-{number} at 1 ok"),
    });
    assert_eq!(parked.seen.all()[1..], expected.collect::<Vec<_>>());
}

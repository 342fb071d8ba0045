//! Publishing and receiving: A1, A3, A4, A5, A8, A11.

use super::consumer::{builder, drain, start, without_handler};
use super::ground::{
    END_MAX, Ground, assert_seen, counts, event, pattern, publish, spread, typed_event,
};
use super::member::Member;
use super::report::Verdict;
use super::witness::{Witness, content};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{BrokerError, Received, SettleAction};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long the second event of a key is watched while the first is being handled.
const WATCHED: Duration = Duration::from_millis(150);

/// A1: each event arrives once and as it was published; after closing the stream ends.
pub(super) async fn arrives(ground: Arc<Ground>) -> Verdict {
    let events = spread(100, 10);
    let broker = ground.connect().await;
    let mut member = Member::join(&ground, &*broker, "a1").await;

    publish(&*broker, &events).await;

    let seen = member.read(&ground, events.len()).await;
    assert_seen(&events, &seen, 1);
    let close = tokio::time::timeout(END_MAX, broker.close());
    close.await.expect("closing ends").expect("closing works");
    let ended = tokio::time::timeout(END_MAX, async {
        loop {
            match member.subscription.receive.receive(1).await {
                Ok(Received::Lost(_)) | Err(BrokerError::Closed) => return,
                Ok(Received::Deliveries { deliveries, .. }) => assert!(deliveries.is_empty()),
                Ok(Received::Assigned(_) | Received::Revoked(_)) => {}
                Err(error) => panic!("after closing, receiving answers: {error}"),
            }
        }
    });
    assert!(ended.await.is_ok(), "the stream does not end after closing");
    Verdict::Pass
}

/// A3: many places, made, filled and read at the same time.
pub(super) async fn places(ground: Arc<Ground>) -> Verdict {
    let places = ground.count(20, 10);
    let count = ground.count(100, 50);
    let mut tasks = JoinSet::new();
    for place in 0..places {
        let ground = Arc::clone(&ground);
        tasks.spawn(async move {
            let here = ground.elsewhere(&format!("a3-{place}")).await;
            let broker = here.connect().await;
            let mut member = Member::join(&here, &*broker, "a3").await;
            let events: Vec<_> = (0..count)
                .map(|number| event(&format!("place{place}-{}", number % 10), number))
                .collect();
            publish(&*broker, &events).await;
            let seen = member.read(&here, count).await;
            assert_seen(&events, &seen, 1);
            member.leave().await;
            broker.close().await.expect("closing works");
            here.fixture.remove(&here.address).await;
        });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    Verdict::Pass
}

/// A4: each event is released twice and comes three times, unchanged and soon.
pub(super) async fn released(ground: Arc<Ground>) -> Verdict {
    let events = spread(100, 100);
    let broker = ground.connect().await;
    let mut member = Member::join(&ground, &*broker, "a4").await;
    publish(&*broker, &events).await;

    let mut seen = Vec::new();
    for round in 0..2 {
        let began = ground.elapsed();
        let deliveries = member.take(events.len()).await;
        let took = ground.elapsed() - began;
        let in_time = round == 0 || took <= ground.traits.redelivery_max + Duration::from_secs(1);
        assert!(in_time, "what was released came again after {took:?}");
        member.settle(&deliveries, SettleAction::Release).await;
        seen.extend(deliveries.into_iter().map(|delivery| delivery.envelope));
    }
    seen.extend(member.read(&ground, events.len()).await);

    assert_seen(&events, &seen, 3);
    Verdict::Pass
}

/// A5: the second event of a key is not handled before the first is finished, and the first is not handed out anew meanwhile.
pub(super) async fn waits(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let witness = Witness::new();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let consumer = start(&ground, || {
        let held = Arc::clone(&held);
        let act = Arc::new(move |_| -> tidings_core::BoxFuture<'static, _> {
            let held = Arc::clone(&held);
            Box::pin(async move {
                held.acquire().await.expect("the gate stays").forget();
                Ok(())
            })
        });
        builder(&ground, &broker, "a5", &witness, act)
    })
    .await;
    publish(&*broker, &[event("k", 0), event("k", 1)]).await;

    witness
        .until("the first", |seen| !seen.begun.is_empty())
        .await;
    tokio::time::sleep(WATCHED.max(ground.traits.quiet)).await;
    let begun = witness.seen().begun.len();
    assert_eq!(begun, 1, "the first is being handled, and {begun} began");
    gate.add_permits(1);
    witness
        .until("the second", |seen| seen.begun.len() == 2)
        .await;
    gate.add_permits(1);
    witness.until_handled(2).await;
    tokio::time::sleep(ground.traits.quiet).await;

    assert_eq!(witness.seen().begun.len(), 2, "an event was handled twice");
    drain(consumer).await;
    Verdict::Pass
}

/// A8: events that are released over and over, by one instance after the other, are all there afterwards.
pub(super) async fn stays(ground: Arc<Ground>) -> Verdict {
    let events = spread(50, 50);
    let instances = ground.count(3, 1);
    let rounds = ground.count(100, 5);
    let broker = ground.connect().await;
    ground.prepare(&*broker, "a8").await;
    publish(&*broker, &events).await;

    for _ in 0..instances {
        let mut member = Member::join(&ground, &*broker, "a8").await;
        for _ in 0..rounds {
            let deliveries = member.next(events.len(), member.idle_max).await;
            assert!(!deliveries.is_empty(), "what was released does not come");
            member.settle(&deliveries, SettleAction::Release).await;
        }
        member.leave().await;
    }

    let mut member = Member::join(&ground, &*broker, "a8").await;
    let seen = member.read(&ground, events.len()).await;
    assert_seen(&events, &seen, 1);
    Verdict::Pass
}

/// A11: of two types, each group sees its own.
pub(super) async fn routed(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let orders = Witness::new();
    let stock = Witness::new();
    let first = start(&ground, || {
        builder(&ground, &broker, "a11-orders", &orders, content())
    })
    .await;
    let second = start(&ground, || {
        without_handler(&ground, &broker, "a11-stock")
            .handler(stock.handler(pattern("stock.*"), content()))
    })
    .await;

    let placed = event("k", 1);
    let counted = typed_event("stock.counted", "k", 1);
    publish(&*broker, &[placed.clone(), counted.clone()]).await;

    orders.until_handled(1).await;
    stock.until_handled(1).await;
    tokio::time::sleep(ground.traits.quiet).await;
    for (witness, wanted) in [(&orders, &placed), (&stock, &counted)] {
        let seen = witness.seen();
        let envelopes: Vec<_> = seen.begun.iter().map(|begun| &begun.envelope).collect();
        assert_eq!(counts(envelopes.iter().copied()).len(), 1);
        assert_eq!(envelopes, [wanted]);
    }
    drain(first).await;
    drain(second).await;
    Verdict::Pass
}

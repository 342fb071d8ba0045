//! The order of keys, judged in handlers: A9, C1, C2, C3.

use super::consumer::{builder, drain, start, without_order};
use super::ground::{Ground, assert_none_missing, publish, spread};
use super::report::Verdict;
use super::witness::{Act, Handling, Seen, Witness, assert_no_overlap, assert_order, yielding};
use std::sync::Arc;
use tidings_core::Envelope;
use tidings_core::broker::KeyOrder;
use tidings_core::extract::HandlerError;
use tokio::sync::Semaphore;

const KEYS: usize = 16;

/// Everything was handled, each event once, and per key in order and one at a time.
pub(super) fn assert_handled_in_order(published: &[Envelope], witness: &Witness) {
    let seen = witness.seen();
    assert_no_overlap(&seen);
    assert_order(&seen.begun);
    let begun: Vec<_> = seen.begun.iter().map(|it| it.envelope.clone()).collect();
    assert_none_missing(published, &begun);
}

/// A9: ten instances, or one where that is all that the broker declares; they are closed at the end and not before.
pub(super) async fn kept(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    if let Some(declared) = without_order(&ground, &broker).await {
        return declared;
    }
    let shared = ground.traits.one_instance.is_none()
        && broker.capabilities().key_order == KeyOrder::AcrossInstances;
    let instances = if shared { 10 } else { 1 };
    let events = spread(ground.count(1_000, 100), KEYS);
    let witness = Witness::new();
    let mut consumers = Vec::new();
    let mut brokers = Vec::new();
    for _ in 0..instances {
        let own = ground.connect().await;
        let build = || builder(&ground, &own, "a9", &witness, yielding());
        consumers.push(start(&ground, build).await);
        brokers.push(own);
    }
    if shared {
        // Assignments settle before the order is judged; C4 looks at what happens while they change.
        tokio::time::sleep(ground.traits.quiet).await;
    }

    publish(&*broker, &events).await;

    witness.until_handled(events.len()).await;
    tokio::time::sleep(ground.traits.quiet).await;
    assert_handled_in_order(&events, &witness);
    let begun = witness.seen().begun.len();
    assert_eq!(begun, events.len(), "events were handled again");
    for consumer in consumers {
        drain(consumer).await;
    }
    Verdict::Pass
}

/// C1: sixteen keys, sixteen lanes: all of them work at once, and each on one event.
pub(super) async fn lanes(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let events = spread(KEYS * ground.count(50, 10), KEYS);
    let witness = Witness::new();
    let gate = Arc::new(Semaphore::new(0));
    let consumer = start(&ground, || {
        let gate = Arc::clone(&gate);
        let act: Act = Arc::new(move |_| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                let _open = gate.acquire().await.expect("the gate stays");
                tokio::task::yield_now().await;
                Ok(())
            })
        });
        builder(&ground, &broker, "c1", &witness, act).configure(|it| it.parallel = KEYS)
    })
    .await;
    publish(&*broker, &events).await;

    witness
        .until("all lanes to be at work", |seen| seen.running() == KEYS)
        .await;
    gate.add_permits(KEYS);
    witness.until_handled(events.len()).await;

    assert_eq!(witness.seen().running_max, KEYS, "handlings at once");
    assert_no_overlap(&witness.seen());
    if broker.capabilities().key_order != KeyOrder::None {
        assert_handled_in_order(&events, &witness);
    }
    drain(consumer).await;
    Verdict::Pass
}

/// C2: while one event of one key is handled, everything of the other keys is.
pub(super) async fn slow_key(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let events = spread(ground.count(1_000, 160), KEYS);
    let slow = "k0";
    let others = events.iter().filter(|it| it.key().as_deref() != Some(slow));
    let others = others.count();
    let witness = Witness::new();
    let gate = Arc::new(Semaphore::new(0));
    let consumer = start(&ground, || {
        let gate = Arc::clone(&gate);
        let act: Act = Arc::new(move |context| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                if context.envelope.key().as_deref() == Some(slow) {
                    let _open = gate.acquire().await.expect("the gate stays");
                }
                Ok(())
            })
        });
        builder(&ground, &broker, "c2", &witness, act)
    })
    .await;
    publish(&*broker, &events).await;

    witness
        .until("the other keys", |seen| seen.handled() >= others)
        .await;
    assert_eq!(witness.seen().handled(), others, "the slow key waits");
    gate.add_permits(1);
    witness.until_handled(events.len()).await;
    tokio::time::sleep(ground.traits.quiet).await;

    assert_eq!(witness.seen().begun.len(), events.len(), "handled again");
    drain(consumer).await;
    Verdict::Pass
}

/// C3: every third event fails twice, every fifth of those for a while; its key waits for it.
pub(super) async fn after_failures(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    if let Some(declared) = without_order(&ground, &broker).await {
        return declared;
    }
    let events = spread(ground.count(500, 96), KEYS);
    let witness = Witness::new();
    let consumer = start(&ground, || {
        let act: Act = Arc::new(|context| {
            let number = super::ground::number_of(&context.envelope);
            let fails = number.is_multiple_of(3) && context.attempt <= 2;
            let result = fails.then(|| HandlerError::transient_message("not yet"));
            Box::pin(std::future::ready(result.map_or(Ok(()), Err)))
        });
        builder(&ground, &broker, "c3", &witness, act)
    })
    .await;
    publish(&*broker, &events).await;

    witness.until_handled(events.len()).await;
    tokio::time::sleep(ground.traits.quiet).await;
    assert_handled_in_order(&events, &witness);
    assert_attempts(&events, &witness.seen());
    drain(consumer).await;
    Verdict::Pass
}

/// Every third event was handled three times and the others once, with attempts that count.
fn assert_attempts(events: &[Envelope], seen: &Seen) {
    let failing = events.len().div_ceil(3);
    assert_eq!(seen.begun.len(), events.len() + 2 * failing, "attempts");
    let of_first = |it: &&Handling| it.envelope.event_id() == events[0].event_id();
    let attempts: Vec<_> = seen
        .begun
        .iter()
        .filter(of_first)
        .map(|it| it.attempt)
        .collect();
    assert_eq!(attempts, [1, 2, 3], "attempts are counted");
}

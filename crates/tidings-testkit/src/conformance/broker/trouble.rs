//! Trouble while events are parked: the network is cut, keys move to other instances: E11, E12.

use super::consumer::{drain, keeping, start, without_order};
use super::fixture::Sharing;
use super::ground::{Ground, assert_none_missing, connect, declared, number_of, publish, spread};
use super::report::Verdict;
use super::sharing::refused;
use super::stores::Store;
use super::witness::{Act, Witness, assert_effects_in_order, assert_no_overlap};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::Envelope;
use tidings_core::broker::{Broker, KeyOrder};
use tidings_core::extract::HandlerError;
use tidings_flow::consumer::{ConsumerError, OnFailure, RunningConsumer};

const KEYS: usize = 8;
/// Waits before later attempts.
const LATER: [Duration; 4] = [Duration::from_millis(20); 4];
/// So many attempts at an event that recovers fail: those in place and a later one.
const FAILURES: u32 = 3;
/// A broker may need so long to take a client back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of each key every third event fails for a while.
fn failing() -> Act {
    Arc::new(|context| {
        let of_key = number_of(&context.envelope) / KEYS;
        let fails = of_key.is_multiple_of(3) && context.attempt <= FAILURES;
        Box::pin(async move {
            tokio::task::yield_now().await;
            match fails {
                true => Err(HandlerError::transient_message("not yet")),
                false => Ok(()),
            }
        })
    })
}

/// Everything was handled, one event of a key at a time and, where the broker keeps order, none before the one ahead of it.
fn assert_all(broker: &dyn Broker, published: &[Envelope], witness: &Witness) {
    let seen = witness.seen();
    let begun: Vec<_> = seen.begun.iter().map(|it| it.envelope.clone()).collect();
    assert_none_missing(published, &begun);
    assert_no_overlap(&seen);
    if broker.capabilities().key_order != KeyOrder::None {
        assert_effects_in_order(&seen, published, &[]);
    }
}

/// E11: the connection to the broker is cut again and again while events are parked: nothing is lost, and no key gets out of order.
pub(super) async fn cut(ground: Arc<Ground>) -> Verdict {
    let (address, proxy) = match ground.fixture.behind_proxy(&ground.address).await {
        Ok(found) => found,
        Err(reason) => return declared(&reason),
    };
    let store = match Store::fresh(&ground, "e11", Sharing::OneInstance).await {
        Ok(store) => store,
        Err(declared) => return declared,
    };
    let group = ground.group("e11");
    let broker = ground.connect().await;
    let reader = connect(&*ground.fixture, &address).await;
    let witness = Witness::new();
    let consumer = start(&ground, || {
        let watched = (&witness, failing());
        keeping(&ground, (&reader, &store), "e11", &LATER, watched)
    })
    .await;
    let events = spread(ground.count(800, 96), KEYS);
    let cuts = ground.count(12, 3);

    for batch in events.chunks(events.len().div_ceil(cuts)) {
        let failed = witness.seen().ended.iter().filter(|it| !it.success).count();
        publish(&*broker, batch).await;
        witness
            .until("a failure", |seen| {
                seen.ended.iter().filter(|it| !it.success).count() > failed
            })
            .await;
        proxy.cut();
    }

    witness
        .until_handled_patiently(events.len(), PATIENCE)
        .await;
    for key in 0..KEYS {
        store.until_parked(&group, &format!("k{key}"), 0).await;
    }
    tokio::time::sleep(ground.traits.quiet).await;
    assert_all(&*broker, &events, &witness);
    drain(consumer).await;
    Verdict::Pass
}

/// E12: instances that share a store join and leave while events are parked; a key that moves to another one keeps its order. One with a store of its own is refused.
pub(super) async fn moving(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    if let Some(declared) = without_order(&ground, &broker).await {
        return declared;
    }
    if let Some(why) = ground.traits.one_instance {
        return refused(&ground, "e12", why).await;
    }
    if broker.capabilities().key_order != KeyOrder::AcrossInstances {
        let why = "the order of a key is kept within one instance, which must be declared";
        return Verdict::Declared(why.to_owned());
    }
    let store = match Store::fresh(&ground, "e12", Sharing::ManyInstances).await {
        Ok(store) => store,
        Err(declared) => return declared,
    };
    let witness = Witness::new();
    if let Err(declared) = assert_own_store_is_refused(&ground, &broker, &witness).await {
        return declared;
    }
    let group = ground.group("e12");
    let rounds = ground.count(12, 4);
    let events = spread(ground.count(1_600, 160), KEYS);
    let mut running: Vec<RunningConsumer> = Vec::new();
    for (round, batch) in events.chunks(events.len().div_ceil(rounds)).enumerate() {
        if running.len() == 2 {
            drain(running.remove(0)).await;
        }
        let own = ground.connect().await;
        let own_store = Store::open(&ground, &store.address).await;
        running.push(
            start(&ground, || {
                let watched = (&witness, failing());
                keeping(&ground, (&own, &own_store), "e12", &LATER, watched)
            })
            .await,
        );
        publish(&*broker, batch).await;
        let half = events.len().min((round + 1) * batch.len()) - batch.len() / 2;
        witness.until_handled_patiently(half, PATIENCE).await;
    }

    witness
        .until_handled_patiently(events.len(), PATIENCE)
        .await;
    for key in 0..KEYS {
        store.until_parked(&group, &format!("k{key}"), 0).await;
    }
    tokio::time::sleep(ground.traits.quiet).await;
    assert_all(&*broker, &events, &witness);
    for consumer in running {
        drain(consumer).await;
    }
    Verdict::Pass
}

/// A group of several instances cannot keep what it parks where one of them alone finds it.
async fn assert_own_store_is_refused(
    ground: &Ground,
    broker: &Arc<dyn Broker>,
    witness: &Arc<Witness>,
) -> Result<(), Verdict> {
    let local = Store::fresh(ground, "e12-local", Sharing::OneInstance).await?;
    // A group that says nothing of its dead letters holds their keys as well.
    for (later, on_failure) in [(&LATER[..], Some(OnFailure::Hold)), (&[], None)] {
        let watched = (witness, failing());
        let started = keeping(ground, (broker, &local), "e12-local", later, watched)
            .configure(|config| {
                config.single_instance = false;
                config.on_failure = on_failure;
            })
            .start()
            .await;
        let is_refused = matches!(started, Err(ConsumerError::StoreLocal { .. }));
        assert!(is_refused, "a store of one machine was taken: {started:?}");
    }
    Ok(())
}

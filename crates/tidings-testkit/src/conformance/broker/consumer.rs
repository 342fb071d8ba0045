//! Consumers of the runtime on a place, seen by a witness.

use super::ground::{END_MAX, Ground, pattern};
use super::report::Verdict;
use super::stores::Store;
use super::witness::{Act, Witness, content};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{Broker, KeyOrder};
use tidings_flow::consumer::{
    Backoff, Consumer, ConsumerBuilder, ConsumerConfig, ConsumerError, OnFailure, RunningConsumer,
};

/// Short waits between attempts: the suite judges what happens, not how long it takes.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(5),
    max: Duration::from_millis(20),
    jitter_percent: 50,
};

/// Attempts in place of a consumer that has a store.
pub(super) const ATTEMPTS: u32 = 2;

/// A consumer of `order.*` in a group, which asks for as much order as the broker has.
pub(super) fn builder(
    ground: &Ground,
    broker: &Arc<dyn Broker>,
    group: &str,
    witness: &Arc<Witness>,
    act: Act,
) -> ConsumerBuilder {
    without_handler(ground, broker, group).handler(witness.handler(pattern("order.*"), act))
}

/// The same with a store, in which it keeps what it cannot handle: two attempts in place, later ones after these waits, and a dead letter that holds its key.
pub(super) fn keeping(
    ground: &Ground,
    (broker, store): (&Arc<dyn Broker>, &Store),
    group: &str,
    later: &[Duration],
    (witness, act): (&Arc<Witness>, Act),
) -> ConsumerBuilder {
    let builder = builder(ground, broker, group, witness, act);
    kept_in(store, later, builder)
}

/// Lets a consumer keep in a store what it cannot handle.
pub(super) fn kept_in(
    store: &Store,
    later: &[Duration],
    builder: ConsumerBuilder,
) -> ConsumerBuilder {
    let failures = &store.stores.failures;
    builder.failures(Arc::clone(failures)).configure(|config| {
        config.attempts = ATTEMPTS;
        config.later = later.to_vec();
        config.on_failure = Some(OnFailure::Hold);
        config.single_instance |= !failures.is_shared();
    })
}

/// The same, before it has a handler.
pub(super) fn without_handler(
    ground: &Ground,
    broker: &Arc<dyn Broker>,
    group: &str,
) -> ConsumerBuilder {
    let order = broker.capabilities().key_order;
    Consumer::builder(Arc::clone(broker), ground.group(group)).config(ConsumerConfig {
        backoff: BACKOFF,
        unordered: order == KeyOrder::None,
        single_instance: order == KeyOrder::OneInstance,
        ..ConsumerConfig::default()
    })
}

/// Starts it, and tries again while the trouble may pass.
pub(super) async fn start(ground: &Ground, build: impl Fn() -> ConsumerBuilder) -> RunningConsumer {
    let began = ground.elapsed();
    loop {
        match build().start().await {
            Ok(running) => return running,
            Err(ConsumerError::Broker(error))
                if error.class().is_transient() && ground.elapsed() - began < ground.patience() =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("the consumer does not start: {error}"),
        }
    }
}

/// Drains; everything that runs must end in time.
pub(super) async fn drain(consumer: RunningConsumer) {
    let drained = consumer.drain(END_MAX).await;
    drained.unwrap_or_else(|error| panic!("draining failed: {error}"));
}

/// Where a broker keeps no order, a group that needs it must be refused, and the property is declared. Where it keeps order for one instance, a group that
/// does not say that it is one must be refused.
pub(super) async fn without_order(ground: &Ground, broker: &Arc<dyn Broker>) -> Option<Verdict> {
    let order = broker.capabilities().key_order;
    if order == KeyOrder::AcrossInstances {
        return None;
    }
    let witness = Witness::new();
    let ordered = builder(ground, broker, "ordered", &witness, content())
        .configure(|config| {
            config.unordered = false;
            config.single_instance = false;
        })
        .start()
        .await;
    match ordered {
        Err(ConsumerError::KeyOrder { .. }) if order == KeyOrder::None => {}
        Err(ConsumerError::SingleInstance { .. }) if order == KeyOrder::OneInstance => return None,
        other => panic!("a group that needs more order than there is must be refused: {other:?}"),
    }
    Some(Verdict::Declared(
        "it keeps no order of a key; a group that needs it is refused".to_owned(),
    ))
}

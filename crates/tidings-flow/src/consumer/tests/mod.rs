//! The consumer runtime against a broker in memory and a clock moved by hand.

mod batches;
mod breaker;
mod crash;
mod dead_letters;
mod instances_model;
mod life;
mod order;
mod parked_elsewhere;
mod parking;
mod parking_model;
mod retries;
mod starting;
mod transactions;
mod transactions_of_batches;
mod trouble;

use super::{Consumer, ConsumerBuilder, ConsumerConfig, Notice, Observer, RunningConsumer};
use crate::fakes::{CountingChance, FakeBroker, ManualClock, SharedBroker, event};
use crate::handler::{DeliveryHandler, HandlerResult};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_core::extract::{DeliveryGuarantee, Draft, HandlerContext, HandlerError};
use tidings_core::{BoxFuture, EventType, Pattern, Payload};

/// Everything around one consumer.
struct Stage {
    broker: Arc<FakeBroker>,
    clock: Arc<ManualClock>,
    config: ConsumerConfig,
}

impl Stage {
    fn new() -> Self {
        Self::on(FakeBroker::new())
    }

    fn on(broker: FakeBroker) -> Self {
        Self {
            broker: Arc::new(broker),
            clock: ManualClock::new(),
            config: ConsumerConfig::default(),
        }
    }

    fn builder(&self, group: &str) -> ConsumerBuilder {
        Consumer::builder(
            Arc::new(SharedBroker(Arc::clone(&self.broker))),
            group.parse().unwrap(),
        )
        .clock(Arc::clone(&self.clock) as _)
        .chance(Arc::new(CountingChance::default()))
        .config(self.config.clone())
    }

    async fn start(&self, handler: TestHandler) -> RunningConsumer {
        let builder = self.builder("group").handler(Arc::new(handler));
        builder.start().await.unwrap()
    }

    /// Lets everything run that can run without the clock.
    async fn settle_down(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    /// Moves the clock on until a condition holds.
    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        for _ in 0..5_000 {
            for _ in 0..20 {
                if condition() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            self.clock.advance(Duration::from_millis(20));
        }
        panic!("it did not come to this: {what}");
    }

    /// Moves the clock on until a future ends.
    async fn wait<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            output = future => output,
            () = self.until(what, || false) => unreachable!(),
        }
    }

    async fn idle(&self, consumer: &RunningConsumer) {
        self.wait("idle", consumer.wait_idle()).await.unwrap();
    }

    async fn drain(&self, consumer: RunningConsumer) {
        let draining = consumer.drain(Duration::from_secs(60));
        self.wait("drained", draining).await.unwrap();
    }
}

type TestFunction = dyn Fn(HandlerContext) -> BoxFuture<'static, HandlerResult> + Send + Sync;

/// A handler made from a closure.
struct TestHandler {
    name: String,
    patterns: Vec<Pattern>,
    own_time_limit: Option<Duration>,
    delivery: DeliveryGuarantee,
    function: Box<TestFunction>,
}

impl TestHandler {
    fn of<F, Fut>(pattern: &str, function: F) -> Self
    where
        F: Fn(HandlerContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HandlerResult> + Send + 'static,
    {
        Self {
            name: "handler".to_owned(),
            patterns: vec![pattern.parse().unwrap()],
            own_time_limit: None,
            delivery: DeliveryGuarantee::AtLeastOnce,
            function: Box::new(move |context| Box::pin(function(context))),
        }
    }

    fn named(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// Claims effect once: its function takes a transaction.
    fn transactional(self) -> Self {
        Self {
            delivery: DeliveryGuarantee::EffectOnce,
            ..self
        }
    }

    /// Fails for every event.
    fn failing(error: fn() -> HandlerError) -> Self {
        Self::of("**", move |_| async move { Err(error()) })
    }
}

impl DeliveryHandler for TestHandler {
    fn name(&self) -> &str {
        &self.name
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn delivery(&self) -> DeliveryGuarantee {
        self.delivery
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        (self.function)(context)
    }

    fn own_time_limit(&self) -> Option<Duration> {
        self.own_time_limit
    }
}

/// A draft of a type about a key.
fn draft(event_type: &str, key: &str) -> Draft {
    Draft {
        event_type: EventType::carried(event_type).unwrap(),
        version: None,
        aggregate_id: Some(key.to_owned()),
        source: None,
        timestamp: None,
        content_type: None,
        extensions: Vec::new(),
        payload: Payload::json("{}").ok(),
    }
}

/// What was seen, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Observer for Seen {
    fn notice(&self, notice: Notice<'_>) {
        self.note(match notice {
            Notice::Handled {
                envelope, attempt, ..
            } => format!("handled {} at {attempt}", envelope.event_id()),
            Notice::Deduplicated { envelope, .. } => {
                format!("deduplicated {}", envelope.event_id())
            }
            Notice::RetryScheduled { attempt, delay, .. } => {
                format!("retry {attempt} after {}ms", delay.as_millis())
            }
            Notice::DeadLettered { attempts, .. } => format!("dead after {attempts}"),
            Notice::RetryLater { attempt, delay, .. } => {
                format!("later {attempt} after {}ms", delay.as_millis())
            }
            Notice::PassedOver { envelope } => format!("passed over {}", envelope.event_id()),
            Notice::Replaced { copy, .. } => format!("replaced by {}", copy.event_id()),
            Notice::StoreFailed { .. } => "store failed".to_owned(),
            Notice::Paused { .. } => "paused".to_owned(),
            Notice::Resumed => "resumed".to_owned(),
            Notice::CircuitOpened { again: false, .. } => "circuit opened".to_owned(),
            Notice::CircuitOpened { again: true, .. } => "circuit opened again".to_owned(),
            Notice::CircuitClosed { .. } => "circuit closed".to_owned(),
            Notice::Damaged { .. } => "damaged".to_owned(),
            Notice::BrokerFailed { .. } => "broker failed".to_owned(),
            Notice::Stopped { reason } => format!("stopped: {reason}"),
        });
    }
}

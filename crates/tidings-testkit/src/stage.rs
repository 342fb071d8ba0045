//! What a scenario plays on: broker, producer, consumers, and the wait until all of them are at rest.

use crate::MemoryBroker;
use crate::assert::Outcome;
use crate::scenario::Build;
use crate::virtual_time::{NEVER, RepeatableChance, VirtualTime};
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tidings_core::broker::{Broker, GroupName, Position, Reader as _};
use tidings_core::extract::Draft;
use tidings_core::seam::{Chance, Clock};
use tidings_flow::consumer::{Consumer, RunningConsumer};
use tidings_flow::dead_letter::{self, DeadLetter};
use tidings_flow::producer::{Producer, ProducerConfig};
use tokio::sync::oneshot;

/// How long a scenario may go on, in the machine's time, before it is taken for one without an end.
const SCENARIO_TIME_MAX: Duration = Duration::from_secs(60);
/// How many events a scenario may record before it is taken for one without an end.
const SCENARIO_EVENTS_MAX: u64 = 20_000;

pub(crate) struct Stage {
    broker: MemoryBroker,
    producer: Producer,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    consumers: Vec<RunningConsumer>,
}

impl Stage {
    /// An empty stage; call it inside the scenario's runtime.
    pub(crate) fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(VirtualTime::begin());
        let chance: Arc<dyn Chance> = Arc::new(RepeatableChance::default());
        let broker = MemoryBroker::new(Arc::clone(&clock));
        let producer = Producer::new(
            Arc::new(broker.clone()),
            Arc::clone(&clock),
            Arc::clone(&chance),
            ProducerConfig::default(),
        );
        Self {
            broker,
            producer,
            clock,
            chance,
            consumers: Vec::new(),
        }
    }

    /// Starts a consumer.
    pub(crate) async fn start(&mut self, group: &str, build: Build) {
        let name: GroupName = group.parse().unwrap_or_else(|error| panic!("{error}"));
        let broker: Arc<dyn Broker> = Arc::new(self.broker.clone());
        let builder = Consumer::builder(broker, name)
            .clock(Arc::clone(&self.clock))
            .chance(Arc::clone(&self.chance))
            .configure(|config| {
                // A handler that waits for the world outside is not cut off: a scenario's time would be over at once.
                config.time_limit = NEVER;
                // What fails in a scenario does not heal by waiting: it is to end in the dead letters. Who wants to see a circuit open sets a breaker.
                config.breaker = None;
            });
        match build(builder).start().await {
            Ok(consumer) => self.consumers.push(consumer),
            Err(error) => panic!("the scenario's consumer {group:?} does not start: {error}"),
        }
    }

    /// Publishes events in their order, and answers their ids.
    pub(crate) async fn publish(&self, drafts: Vec<Draft>) -> Vec<String> {
        let mut ids = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let event_type = draft.event_type.clone();
            match self.producer.publish_draft(draft).await {
                Ok(published) => ids.push(published.event_id),
                Err(error) => panic!("the scenario's {event_type} cannot be published: {error}"),
            }
        }
        ids
    }

    /// How many events were recorded so far.
    pub(crate) fn recorded(&self) -> usize {
        self.broker.events().len()
    }

    /// Waits until no consumer has anything left to do, with what the others emitted meanwhile.
    pub(crate) async fn come_to_rest(&self) {
        let over = after(SCENARIO_TIME_MAX);
        // The broker is never closed before the scenario ends, so that this cannot fail.
        let too_many = self.broker.wait_beyond(Position(SCENARIO_EVENTS_MAX));
        tokio::select! {
            () = self.rest() => {}
            _ = over => panic!("the scenario does not come to rest within {SCENARIO_TIME_MAX:?}:{}", self.busy()),
            _ = too_many => panic!("the scenario does not come to rest within {SCENARIO_EVENTS_MAX} events:{}", self.busy()),
        }
    }

    async fn rest(&self) {
        loop {
            let before = self.recorded();
            for consumer in &self.consumers {
                if let Err(error) = consumer.wait_idle().await {
                    panic!("{error}");
                }
            }
            if self.recorded() == before {
                return;
            }
        }
    }

    fn busy(&self) -> String {
        self.consumers
            .iter()
            .map(|consumer| {
                let stats = consumer.stats();
                format!(
                    "\n  {}: {} events in flight, {} emitted so far",
                    consumer.group(),
                    stats.in_flight,
                    stats.emitted
                )
            })
            .collect()
    }

    /// What was recorded behind the first `before` events by the consumers: without the events that the scenario published itself.
    pub(crate) fn outcome(&self, before: usize, published: &[String]) -> Outcome {
        let mut emitted = Vec::new();
        let mut dead_letters = Vec::new();
        for recorded in self.broker.events().into_iter().skip(before) {
            let envelope = recorded.envelope;
            if published.iter().any(|id| id == envelope.event_id()) {
                continue;
            }
            if envelope.event_type().name() != dead_letter::EVENT_TYPE {
                emitted.push(envelope);
                continue;
            }
            match DeadLetter::from_envelope(&envelope) {
                Ok(letter) => dead_letters.push(letter),
                Err(error) => panic!("{error}"),
            }
        }
        Outcome::new(emitted, dead_letters)
    }
}

/// Resolves after so long in the machine's time, which a paused runtime does not know. Dropped earlier, its thread ends at once.
fn after(limit: Duration) -> impl Future<Output = ()> {
    let (over, is_over) = oneshot::channel();
    let (cancel, cancelled) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if cancelled.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            // Nobody waits any more if the scenario came to rest in the same moment.
            let _ = over.send(());
        }
    });
    async move {
        let _kept = cancel;
        if is_over.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

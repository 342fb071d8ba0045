//! What the figures share: clock and chance, an outbox to publish into, a relay, and destinations that cost nothing.

use crate::engine::Place;
use crate::measure::Outcome;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidings_core::broker::{Destination, PublishOutcome, Receipt};
use tidings_core::seam::Clock as _;
use tidings_core::store::Wake;
use tidings_core::{BoxFuture, Envelope};
use tidings_flow::outbox::{Relay, RelayOptions, RelayPhase, RunningRelay};
use tidings_flow::runtime::{SystemChance, SystemClock};
use tidings_sql::{Outbox, OutboxConfig, OutboxOptions, SqlOutbox};

/// Clock and chance of the benchmark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    pub(crate) clock: SystemClock,
    pub(crate) chance: SystemChance,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            clock: SystemClock::new(),
            chance: SystemChance,
        }
    }

    /// An outbox to publish into; commits tell `wakes`.
    pub(crate) fn outbox(self, wakes: Vec<Wake>) -> Outcome<Outbox> {
        let config = OutboxConfig {
            wakes,
            ..OutboxConfig::default()
        };
        Ok(Outbox::new(
            config,
            Arc::new(self.clock),
            Arc::new(self.chance),
        )?)
    }

    /// A relay as it comes: no setting is changed but whether it ends by itself.
    pub(crate) async fn relay(
        self,
        place: &Place,
        sink: Arc<dyn Destination>,
        until_empty: bool,
    ) -> Outcome<RunningRelay> {
        let clock = Arc::new(self.clock);
        let options = OutboxOptions::default();
        let store =
            SqlOutbox::open(place.database.clone(), options, clock.clone(), &self.chance).await?;
        let options = RelayOptions {
            until_empty,
            ..RelayOptions::default()
        };
        let chance = Arc::new(self.chance);
        let relay = Relay::new(Arc::new(store), sink, clock, chance, options).start();
        if !until_empty {
            relay.reached(RelayPhase::Relaying).await;
        }
        Ok(relay)
    }
}

/// Accepts everything at once and forgets it.
pub(crate) struct NullSink;

impl Destination for NullSink {
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move { accepted(batch) })
    }
}

fn accepted(batch: &[Envelope]) -> Vec<PublishOutcome> {
    let receipt = Receipt { position: None };
    batch.iter().map(|_| Ok(receipt)).collect()
}

/// Accepts everything at once and notes when.
pub(crate) struct StampingSink {
    clock: SystemClock,
    arrivals: Mutex<HashMap<String, Duration>>,
}

impl StampingSink {
    pub(crate) fn new(stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            clock: stage.clock,
            arrivals: Mutex::default(),
        })
    }

    /// When an event arrived, by the clock of the benchmark.
    pub(crate) fn arrival(&self, event_id: &str) -> Option<Duration> {
        self.lock().get(event_id).copied()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Duration>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Destination for StampingSink {
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            let now = self.clock.elapsed();
            let mut arrivals = self.lock();
            for envelope in batch {
                arrivals.insert(envelope.event_id().to_owned(), now);
            }
            accepted(batch)
        })
    }
}

//! Opening tidings: a folder, or a broker of another kind.

use crate::tidings::Inner;
use crate::{Error, Tidings};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_core::broker::{Broker, BrokerError};
use tidings_core::seam::{Chance, Clock};
use tidings_flow::producer::{Producer, ProducerConfig};
use tidings_flow::runtime::{SystemChance, SystemClock};
use tidings_log::{Codec, Durability, LogBroker, OpenOptions, RealDisk, RecoveryReport};

/// How tidings is opened, where [`Tidings::open`] does not do.
#[must_use = "nothing is opened before `open`"]
pub struct TidingsBuilder {
    durability: Durability,
    codec: Codec,
    producer: ProducerConfig,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    program: Option<String>,
}

impl Default for TidingsBuilder {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            codec: Codec::default(),
            producer: ProducerConfig::default(),
            clock: Arc::new(SystemClock::new()),
            chance: Arc::new(SystemChance),
            program: None,
        }
    }
}

impl TidingsBuilder {
    /// What an acknowledgement means; [`Durability::Synced`] unless given.
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// How new events are stored; [`Codec::Lz4`], which makes typical ones four times smaller, unless given. All are read whatever is chosen.
    pub fn codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// The service that states events which do not say so themselves, for example `order-service`.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.producer.source = Some(source.into());
        self
    }

    /// How long publishing waits for room and for its outcome, together; 10 seconds unless given.
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.producer.timeout = timeout;
        self
    }

    /// Events that may be on their way to the broker; further calls of `publish` wait.
    pub fn publish_queue(mut self, events_max: usize) -> Self {
        self.producer.queue_events_max = events_max;
        self
    }

    /// Whose time it is: a test gives a clock that it turns itself.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Where random bits come from: a test gives some that repeat.
    pub fn chance(self, chance: Arc<dyn Chance>) -> Self {
        Self { chance, ..self }
    }

    /// The name by which others are told who owns the folder; the executable's unless given.
    pub fn program(mut self, name: impl Into<String>) -> Self {
        self.program = Some(name.into());
        self
    }

    /// Opens a data folder with its embedded broker, and makes it if it does not exist.
    ///
    /// **Errors**, **Cancel**: as [`Tidings::open`].
    pub async fn open(self, folder: impl AsRef<Path>) -> Result<Tidings, Error> {
        let options = self.log_options(folder.as_ref());
        // What an unclean end left is read through on opening, so it must not hold up the caller's runtime.
        let opened = tokio::task::spawn_blocking(move || LogBroker::open(options)).await;
        let broker = opened.map_err(|_| BrokerError::Bug {
            what: "the task that opens the data folder",
        })??;
        let recovery = broker.recovery().clone();
        tell(folder.as_ref(), &recovery);
        Ok(self.assemble(Arc::new(broker), Some(recovery)))
    }

    fn log_options(&self, folder: &Path) -> OpenOptions {
        let disk = Arc::new(RealDisk);
        let mut options = OpenOptions::new(folder, Arc::clone(&self.clock), disk);
        options.durability = self.durability;
        options.codec = self.codec;
        options.program = self.program.clone().unwrap_or_else(executable);
        options
    }

    /// Uses a broker that is open already: another kind, or one in memory in a test.
    pub fn from_broker(self, broker: Arc<dyn Broker>) -> Tidings {
        self.assemble(broker, None)
    }

    fn assemble(self, broker: Arc<dyn Broker>, recovery: Option<RecoveryReport>) -> Tidings {
        let producer = Producer::new(
            Arc::clone(&broker),
            Arc::clone(&self.clock),
            Arc::clone(&self.chance),
            self.producer,
        );
        Tidings::assembled(Inner {
            broker,
            producer,
            clock: self.clock,
            chance: self.chance,
            recovery,
            consumers: Mutex::default(),
        })
    }
}

/// Damage is never silent, whether the caller looks at the report or not.
fn tell(folder: &Path, recovery: &RecoveryReport) {
    let folder = folder.display();
    if !recovery.damaged.is_empty() {
        let positions = &recovery.damaged;
        tracing::error!(%folder, ?positions, "events are lost: part of the log is damaged");
    }
    if recovery.cut_bytes > 0 {
        let bytes = recovery.cut_bytes;
        tracing::info!(%folder, bytes, "an end that was never acknowledged was cut and kept aside");
    }
}

impl fmt::Debug for TidingsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TidingsBuilder")
            .field("durability", &self.durability)
            .field("codec", &self.codec)
            .field("producer", &self.producer)
            .finish_non_exhaustive()
    }
}

fn executable() -> String {
    std::env::current_exe()
        .ok()
        .as_deref()
        .and_then(Path::file_stem)
        .map_or_else(
            || "a program".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
}

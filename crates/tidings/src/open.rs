//! Opening tidings: a folder, or a broker of another kind.

use crate::blocking::blocking;
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
#[cfg(feature = "sqlite")]
use tidings_log::StateFolder;
use tidings_log::{Codec, Durability, LogBroker, OpenOptions, RealDisk, RecoveryReport, Retention};

/// How long the database of an owner that has just begun is waited for.
#[cfg(feature = "sqlite")]
const OWNER_STATE_WAIT: Duration = Duration::from_millis(500);
#[cfg(feature = "sqlite")]
const OWNER_STATE_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How tidings is opened, where [`Tidings::open`] does not do.
#[must_use = "nothing is opened before `open`"]
pub struct TidingsBuilder {
    durability: Durability,
    codec: Codec,
    retention: Option<Retention>,
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
            retention: None,
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

    /// How much of the history is kept, by age and by size; everything, or what the folder's own rule says, unless given. Given, it becomes the folder's rule, which later
    /// owners keep.
    ///
    /// Retention waits for every group, unless [`Retention::held_by`] says otherwise.
    pub fn retention(mut self, rule: Retention) -> Self {
        self.retention = Some(rule);
        self
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
        let broker = open_log(self.log_options(folder.as_ref())).await?;
        Ok(self.with_log(folder.as_ref(), broker))
    }

    fn with_log(self, folder: &Path, broker: LogBroker) -> Tidings {
        tell(folder, broker.recovery());
        let log = Arc::new(broker);
        let broker: Arc<dyn Broker> = log.clone();
        #[cfg(feature = "sqlite")]
        let state = Some(crate::state::State::start(
            folder,
            Arc::clone(&broker),
            Arc::clone(&self.clock),
            Arc::clone(&self.chance),
        ));
        let inner = self.inner(broker);
        #[cfg(feature = "sqlite")]
        let failures = state
            .as_ref()
            .map(|state| state.failures() as Arc<dyn tidings_core::store::FailureStore>);
        #[cfg(not(feature = "sqlite"))]
        let failures = None;
        Tidings::assembled(Inner {
            log: Some(log),
            failures,
            #[cfg(feature = "sqlite")]
            state,
            ..inner
        })
    }

    /// Opens a data folder as its owner, or beside the owner where another process owns it: then the log is read here, groups are worked for here, and what is
    /// published goes through `state.db`, from where the owner carries it into the log. A receipt then has no position.
    ///
    /// **Errors**: as [`Tidings::open`]; [`BrokerError::FolderOwned`] where the owner keeps no `state.db`.
    ///
    /// **Cancel**: as [`Tidings::open`].
    #[cfg(feature = "sqlite")]
    pub async fn open_or_beside(self, folder: impl AsRef<Path>) -> Result<Tidings, Error> {
        let folder = folder.as_ref();
        let clock = Arc::clone(&self.clock);
        let chance = Arc::clone(&self.chance);
        let options = self.log_options(folder);
        let owned = match open_log(options).await {
            Ok(broker) => return Ok(self.with_log(folder, broker)),
            Err(error @ BrokerError::FolderOwned { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        let mut waited = Duration::ZERO;
        while !crate::state::path(folder).exists() {
            if waited >= OWNER_STATE_WAIT {
                return Err(owned.into());
            }
            clock.sleep(OWNER_STATE_POLL_INTERVAL).await;
            waited += OWNER_STATE_POLL_INTERVAL;
        }
        let broker = crate::state::BesideBroker::open(folder, clock, chance).await?;
        let shared_state = Some(broker.database().clone());
        let failures = broker.failures().await?;
        let inner = self.inner(Arc::new(broker));
        Ok(Tidings::assembled(Inner {
            failures: Some(Arc::new(failures)),
            shared_state,
            ..inner
        }))
    }

    /// Opens a data folder beside its owner, whether it has one now or not, and never becomes the owner: for who only watches and must keep nobody from owning it. Else as
    /// [`open_or_beside`](Self::open_or_beside) beside an owner; what is published waits in `state.db` until there is one.
    ///
    /// **Errors**: [`BrokerError::FolderMissing`]; a database that cannot be opened.
    ///
    /// **Cancel**: as [`Tidings::open`].
    #[cfg(feature = "sqlite")]
    pub async fn open_beside(self, folder: impl AsRef<Path>) -> Result<Tidings, Error> {
        let clock = Arc::clone(&self.clock);
        let chance = Arc::clone(&self.chance);
        let broker = crate::state::BesideBroker::open(folder.as_ref(), clock, chance).await?;
        Ok(self.from_broker(Arc::new(broker)))
    }

    fn log_options(&self, folder: &Path) -> OpenOptions {
        let disk = Arc::new(RealDisk);
        let mut options = OpenOptions::new(folder, Arc::clone(&self.clock), disk);
        options.durability = self.durability;
        options.codec = self.codec;
        options.retention = self.retention;
        options.program = self.program.clone().unwrap_or_else(executable);
        options
    }

    /// Uses a broker that is open already, with a data folder for state beside it.
    ///
    /// **Guarantee**, **Errors**, **Cancel**: as [`connect_with_data`](Self::connect_with_data).
    #[cfg(feature = "sqlite")]
    pub async fn from_broker_with_data(
        self,
        broker: Arc<dyn Broker>,
        folder: impl AsRef<Path>,
    ) -> Result<Tidings, Error> {
        let folder = folder.as_ref();
        let owned = self.own_folder(folder).await?;
        let name = broker.capabilities().name;
        self.with_state(broker, folder, owned, name)
    }

    /// Becomes the owner of a folder for state.
    #[cfg(feature = "sqlite")]
    pub(crate) async fn own_folder(&self, folder: &Path) -> Result<StateFolder, BrokerError> {
        let program = self.program.clone().unwrap_or_else(executable);
        let (folder, clock) = (folder.to_owned(), Arc::clone(&self.clock));
        blocking("the task that opens the data folder", move || {
            StateFolder::own(folder, &program, &*clock, Arc::new(RealDisk))
        })
        .await
    }

    /// Notes where the events are, and begins to carry there what waits.
    #[cfg(feature = "sqlite")]
    pub(crate) fn with_state(
        self,
        broker: Arc<dyn Broker>,
        folder: &Path,
        owned: StateFolder,
        url: &str,
    ) -> Result<Tidings, Error> {
        owned.note_broker(url)?;
        let state = crate::state::State::start(
            folder,
            Arc::clone(&broker),
            Arc::clone(&self.clock),
            Arc::clone(&self.chance),
        );
        let inner = self.inner(broker);
        Ok(Tidings::assembled(Inner {
            failures: Some(state.failures()),
            state: Some(state.owning(owned)),
            ..inner
        }))
    }

    /// Uses a broker that is open already: another kind, or one in memory in a test. It keeps no state.
    pub fn from_broker(self, broker: Arc<dyn Broker>) -> Tidings {
        Tidings::assembled(self.inner(broker))
    }

    fn inner(self, broker: Arc<dyn Broker>) -> Inner {
        let producer = Producer::new(
            Arc::clone(&broker),
            Arc::clone(&self.clock),
            Arc::clone(&self.chance),
            self.producer,
        );
        Inner {
            broker,
            producer,
            clock: self.clock,
            chance: self.chance,
            log: None,
            failures: None,
            #[cfg(feature = "sqlite")]
            state: None,
            #[cfg(feature = "sqlite")]
            shared_state: None,
            #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
            facts: Mutex::default(),
            consumers: Mutex::default(),
            inboxes: Mutex::default(),
        }
    }
}

/// Opens the log of a folder.
async fn open_log(options: OpenOptions) -> Result<LogBroker, BrokerError> {
    // What an unclean end left is read through on opening, so it must not hold up the caller's runtime.
    let task = "the task that opens the data folder";
    blocking(task, move || LogBroker::open(options)).await
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

//! `state.db`, the SQLite database in a data folder: what processes beside the owner write waits in its outbox until the owner has carried it into the log, or to the broker
//! that has the folder's events.

mod beside;
mod failures;
mod outbox;
mod waiting;

pub(crate) use beside::BesideBroker;
pub(crate) use failures::StateFailures;
pub(crate) use outbox::EMPTY_POLL_INTERVAL;
pub use waiting::Waiting;

use outbox::StateOutbox;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidings_core::broker::Broker;
use tidings_core::seam::{Chance, Clock, Disk as _};
use tidings_core::store::{StoreError, Wake};
use tidings_flow::outbox::{Relay, RelayMetrics, RelayOptions, RunningRelay};
use tidings_flow::schedule::Scheduler;
use tidings_log::StateFolder;
use tidings_sql::schema::{self, Part};
use tidings_sql::{Database, DatabaseOptions, Schedules};

/// The name of the database in its folder.
const FILE: &str = "state.db";

/// Where the database of a data folder is.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Opens the database of a data folder, and makes it and its tables where they are missing.
pub(crate) async fn open(folder: &Path) -> Result<Database, StoreError> {
    let options = DatabaseOptions {
        create: true,
        ..DatabaseOptions::default()
    };
    let database = Database::open_file(&path(folder), &options).await?;
    schema::migrate(&database, &Part::ALL).await?;
    Ok(database)
}

/// The database of a data folder, `state.db`, for what works beside the folder's owner or without one. Folder, database and tables are made where they are missing.
///
/// **Errors**: a folder that cannot be made; a database that cannot be opened; tables of a newer version.
///
/// **Cancel**: no effect.
pub async fn state_database(folder: impl AsRef<Path>) -> Result<Database, crate::Error> {
    let folder = folder.as_ref();
    tidings_log::RealDisk
        .create_directories(folder)
        .map_err(|error| StoreError::Unavailable {
            database: path(folder).display().to_string(),
            reason: format!("its folder cannot be made: {error}"),
        })?;
    Ok(open(folder).await?)
}

/// The database of a folder that this process owns, and the relay that carries its outbox into the log, or to a broker elsewhere.
pub(crate) struct State {
    outbox: Arc<StateOutbox>,
    /// Owns the folder where no log does; guarded to give it back when all is closed.
    folder: Mutex<Option<StateFolder>>,
    failures: Arc<StateFailures>,
    /// Guards the relay; taken when it is stopped.
    relay: Mutex<Option<RunningRelay>>,
}

impl State {
    /// Begins to relay what is there and what comes, for who owns the folder by its log.
    pub(crate) fn start(
        folder: &Path,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
    ) -> Self {
        let outbox = Arc::new(StateOutbox::new(
            folder.to_owned(),
            Arc::clone(&broker),
            Arc::clone(&clock),
            Arc::clone(&chance),
        ));
        let options = RelayOptions {
            label: "the owner of the data folder".to_owned(),
            ..RelayOptions::default()
        };
        let relay = Relay::new(outbox.clone(), Arc::new(broker), clock, chance, options).start();
        outbox.wake_with(relay.wake());
        let failures = Arc::new(StateFailures::new(Arc::clone(&outbox), path(folder)));
        Self {
            outbox,
            folder: Mutex::default(),
            failures,
            relay: Mutex::new(Some(relay)),
        }
    }

    /// Keeps the ownership of the folder until everything of it is closed.
    pub(crate) fn owning(self, folder: StateFolder) -> Self {
        Self {
            folder: Mutex::new(Some(folder)),
            ..self
        }
    }

    /// Whether nothing waits to be carried to the broker.
    pub(crate) async fn is_empty(&self) -> bool {
        self.outbox.is_empty().await
    }

    /// The database.
    pub(crate) async fn database(&self) -> Result<Database, StoreError> {
        self.outbox.database().await
    }

    /// The scheduled events, and who fires them.
    pub(crate) async fn schedules(&self) -> Result<(Schedules, &Arc<Scheduler>), StoreError> {
        self.outbox.schedules().await
    }

    /// What groups could not handle yet.
    pub(crate) fn failures(&self) -> Arc<StateFailures> {
        Arc::clone(&self.failures)
    }

    /// What tells the relay of a commit; `None` once it was stopped.
    pub(crate) fn wake(&self) -> Option<Wake> {
        self.lock().as_ref().map(|relay| relay.wake())
    }

    /// What the relay has done; `None` once it was stopped.
    pub(crate) fn metrics(&self) -> Option<RelayMetrics> {
        self.lock().as_ref().map(|relay| relay.metrics())
    }

    /// Lets the relay finish what is on its way.
    pub(crate) async fn stop(&self, limit: Duration) {
        let relay = self.lock().take();
        if let Some(relay) = relay {
            // What it could not finish is relayed at the next start.
            if let Err(error) = relay.drain(limit).await {
                tracing::warn!(%error, "the relay of the data folder was cut off");
            }
        }
        self.outbox.close().await;
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        drop({ folder }.take());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<RunningRelay>> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

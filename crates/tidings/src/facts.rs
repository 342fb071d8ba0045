//! What is stated about dead letters in a database of one's own: carried to the broker of the group, by one of the processes that work with the database.

use crate::tidings::Inner;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::limits::RELAY_POLL_BUSY;
use tidings_core::seam::Clock;
use tidings_core::store::{OutboxStore as _, StoreError, Wake};
use tidings_flow::outbox::{KeyPolicy, Relay, RelayOptions, RunningRelay};
use tidings_sql::{Database, Failures, Outbox, OutboxConfig, OutboxOptions, SqlOutbox};

/// A relay of the facts in one outbox; events of other kinds are left to the relay of the application, which may carry them elsewhere.
#[derive(Debug)]
pub(crate) struct FactsRelay {
    outbox: Arc<SqlOutbox>,
    relay: RunningRelay,
}

impl FactsRelay {
    /// Begins to relay. `None` where this user may not: then it is up to another relay, and that is told.
    ///
    /// **Errors**: a database that does not answer.
    async fn start(
        database: &Database,
        table: &str,
        inner: &Inner,
    ) -> Result<Option<Self>, StoreError> {
        let options = OutboxOptions {
            table: table.to_owned(),
            unordered: true,
            facts_only: true,
            ..OutboxOptions::default()
        };
        let clock = Arc::clone(&inner.clock);
        let opened = SqlOutbox::open(database.clone(), options, clock, &*inner.chance).await;
        let outbox = match opened {
            Ok(outbox) => Arc::new(outbox),
            Err(error) if error.class().is_transient() => return Err(error),
            Err(error) => {
                let database = database.name();
                tracing::warn!(database, table, %error, "facts about dead letters wait until a relay carries them");
                return Ok(None);
            }
        };
        let options = RelayOptions {
            label: format!("facts, process {}", std::process::id()),
            // An alert about one event must not wait for a fact about another.
            policy: KeyPolicy::Skip,
            ..RelayOptions::default()
        };
        let relay = Relay::new(
            outbox.clone(),
            Arc::new(Arc::clone(&inner.broker)),
            Arc::clone(&inner.clock),
            Arc::clone(&inner.chance),
            options,
        );
        Ok(Some(Self {
            relay: relay.start(),
            outbox,
        }))
    }

    /// What tells it of a commit.
    pub(crate) fn wake(&self) -> Wake {
        self.relay.wake()
    }

    /// Waits so long at most until what was stated last is carried away, and stops. The rest is carried by whoever comes next.
    pub(crate) async fn stop(self, clock: &dyn Clock, wait: Duration, limit: Duration) {
        let carried = async {
            while self.waits().await {
                clock.sleep(RELAY_POLL_BUSY).await;
            }
        };
        tokio::select! {
            biased;
            () = carried => {}
            () = clock.sleep(wait) => {}
        }
        if let Err(error) = self.relay.drain(limit).await {
            tracing::warn!(%error, "the relay of facts about dead letters was cut off");
        }
    }

    async fn waits(&self) -> bool {
        let status = self.outbox.status().await;
        status.is_ok_and(|status| status.pending > 0)
    }
}

/// The store with an outbox that is relayed from here, to the broker that the groups of this process read.
///
/// **Errors**: a database that does not answer.
pub(crate) async fn relayed(store: &Failures, inner: &Inner) -> Result<Failures, StoreError> {
    let database = store.database();
    if is_state(database) {
        return Ok(store.clone());
    }
    let otherwise = OutboxConfig::default();
    let table = store.outbox().map_or(&*otherwise.table, Outbox::table);
    let name = format!("{}#{table}", database.name());
    let wake = match inner.facts_wake(&name) {
        Some(wake) => wake,
        None => match FactsRelay::start(database, table, inner).await? {
            Some(facts) => {
                let wake = facts.wake();
                inner.keep_facts(name, facts);
                wake
            }
            None => return Ok(store.clone()),
        },
    };
    if store.outbox().is_some() {
        // It is woken as its owner wants; the relay finds the facts at its next poll.
        return Ok(store.clone());
    }
    let config = OutboxConfig {
        wakes: vec![wake],
        ..otherwise
    };
    let (clock, chance) = (Arc::clone(&inner.clock), Arc::clone(&inner.chance));
    let outbox = Outbox::new(config, clock, chance)?;
    Ok(store.clone().with_outbox(outbox))
}

/// Whether a database is that of a data folder, whose owner carries its outbox.
fn is_state(database: &Database) -> bool {
    let path = database.name().strip_prefix("sqlite:");
    let file = path.and_then(|path| Path::new(path).file_name());
    file.is_some_and(|file| file == "state.db")
}

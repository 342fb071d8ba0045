//! The outbox of `state.db` as the owner of the data folder relays it: opened when it is first needed, so that a full disk or a broken database never keeps the log from working.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tidings_core::broker::Broker;
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::{
    Burial, DeadRow, Failure, HeldLease, LeaseAnswer, LeaseRequest, OutboxStatus, OutboxStore,
    RowContent, RowId, RowSeen, Settlement, Shard, StoreError, UnsentQuery, UnsentRows, Wake,
};
use tidings_core::{BoxFuture, DedupeKey, Envelope, Timestamp};
use tidings_flow::schedule::Scheduler;
use tidings_sql::{Database, Outbox, OutboxConfig, OutboxOptions, Schedules, SqlOutbox};
use tokio::sync::OnceCell;

/// The outbox of the data folder that this process owns.
pub(crate) struct StateOutbox {
    folder: PathBuf,
    name: String,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    opened: OnceCell<Opened>,
    /// What tells the relay of a commit; known once the relay has started.
    wake: OnceLock<Wake>,
    /// Whether rows may be there that an earlier owner published and did not live to settle: until everything that was left has been read once.
    may_be_known: AtomicBool,
}

struct Opened {
    database: Database,
    outbox: SqlOutbox,
    schedules: Schedules,
    scheduler: Arc<Scheduler>,
}

impl StateOutbox {
    pub(crate) fn new(
        folder: PathBuf,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
    ) -> Self {
        let name = super::path(&folder).display().to_string();
        Self {
            folder,
            name,
            broker,
            clock,
            chance,
            opened: OnceCell::new(),
            wake: OnceLock::new(),
            may_be_known: AtomicBool::new(true),
        }
    }

    /// Whether nothing waits to be relayed. What cannot be opened is not waited for.
    pub(crate) async fn is_empty(&self) -> bool {
        match self.opened.get() {
            Some(Opened { outbox, .. }) => outbox
                .status()
                .await
                .is_ok_and(|status| status.pending == 0),
            None => !super::path(&self.folder).exists(),
        }
    }

    /// Closes the database, if it was opened: nothing of it is touched afterwards.
    pub(crate) async fn close(&self) {
        if let Some(Opened {
            database,
            scheduler,
            ..
        }) = self.opened.get()
        {
            scheduler.stop();
            database.close().await;
        }
    }

    pub(crate) async fn database(&self) -> Result<Database, StoreError> {
        Ok(self.opened().await?.database.clone())
    }

    /// Lets what is committed here be relayed at once.
    pub(crate) fn wake_with(&self, wake: Wake) {
        // Said once, by who starts the relay.
        let _first = self.wake.set(wake);
    }

    /// An outbox of the database that wakes the relay at a commit.
    pub(super) fn waking(&self) -> Result<Outbox, StoreError> {
        let config = OutboxConfig {
            wakes: self.wake.get().cloned().into_iter().collect(),
            ..OutboxConfig::default()
        };
        Outbox::new(config, Arc::clone(&self.clock), Arc::clone(&self.chance))
    }

    /// The scheduled events, and who fires them.
    pub(crate) async fn schedules(&self) -> Result<(Schedules, &Arc<Scheduler>), StoreError> {
        let opened = self.opened().await?;
        Ok((opened.schedules.clone(), &opened.scheduler))
    }

    async fn outbox(&self) -> Result<&SqlOutbox, StoreError> {
        Ok(&self.opened().await?.outbox)
    }

    async fn opened(&self) -> Result<&Opened, StoreError> {
        self.opened.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<Opened, StoreError> {
        let database = super::open(&self.folder).await?;
        let outbox = SqlOutbox::open(
            database.clone(),
            OutboxOptions::default(),
            Arc::clone(&self.clock),
            &*self.chance,
        );
        let outbox = outbox.await?;
        let schedules = Schedules::open(&database)
            .await?
            .with_outbox(self.waking()?);
        let scheduler = Scheduler::start(Arc::new(schedules.clone()), Arc::clone(&self.clock));
        Ok(Opened {
            database,
            outbox,
            schedules,
            scheduler: Arc::new(scheduler),
        })
    }

    /// Settles what is in the log already, so that the end of an owner between publishing and settling puts no event there twice. A broker that cannot be looked through may get
    /// an event twice, with one id; inboxes leave the second out.
    async fn leave_out_known(
        &self,
        outbox: &SqlOutbox,
        answer: &mut UnsentRows,
    ) -> Result<(), StoreError> {
        let Some(reader) = self.broker.reader() else {
            return Ok(());
        };
        let events = answer
            .rows
            .iter()
            .filter_map(|row| row.content.clone().ok());
        let events: Vec<Envelope> = events.collect();
        let found = reader.recorded(&events).await;
        let found = found.map_err(|error| StoreError::Unavailable {
            database: self.name.clone(),
            reason: format!("the log cannot be looked through: {error}"),
        })?;
        let found = found.iter().flatten();
        let known: HashSet<DedupeKey> = found
            .map(|recorded| DedupeKey::of(&recorded.envelope))
            .collect();
        let is_known = |content: &RowContent| {
            let event = content.as_ref().ok();
            event.is_some_and(|event| known.contains(&DedupeKey::of(event)))
        };
        let sent: Vec<RowId> = answer
            .rows
            .iter()
            .filter(|row| is_known(&row.content))
            .map(|row| row.id)
            .collect();
        if !sent.is_empty() {
            outbox.settle(&sent).await?;
            answer.rows.retain(|row| !is_known(&row.content));
        }
        if !answer.cut {
            self.may_be_known.store(false, Ordering::Release);
        }
        Ok(())
    }
}

impl OutboxStore for StateOutbox {
    fn name(&self) -> &str {
        &self.name
    }

    fn settlement(&self) -> Settlement {
        Settlement::Delete
    }

    fn ids_tell_order(&self) -> bool {
        true
    }

    /// Whoever owns the folder relays its outbox: the lock of the folder is the lease, and ends with the process.
    fn lease<'a>(&'a self, _: &'a LeaseRequest) -> BoxFuture<'a, Result<LeaseAnswer, StoreError>> {
        Box::pin(async move {
            self.outbox().await?;
            Ok(LeaseAnswer::Held { epoch: 1 })
        })
    }

    fn release<'a>(&'a self, _: Shard, _: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn unsent<'a>(
        &'a self,
        query: &'a UnsentQuery,
    ) -> BoxFuture<'a, Result<UnsentRows, StoreError>> {
        Box::pin(async move {
            let outbox = self.outbox().await?;
            let mut answer = outbox.unsent(query).await?;
            if self.may_be_known.load(Ordering::Acquire) {
                self.leave_out_known(outbox, &mut answer).await?;
            }
            Ok(answer)
        })
    }

    fn settle<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.outbox().await?.settle(rows).await })
    }

    fn note_failures<'a>(
        &'a self,
        lease: &'a HeldLease,
        failures: &'a [Failure],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.outbox().await?.note_failures(lease, failures).await })
    }

    fn bury<'a>(
        &'a self,
        lease: &'a HeldLease,
        burials: &'a [Burial],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.outbox().await?.bury(lease, burials).await })
    }

    fn dead(&self, limit: u32) -> BoxFuture<'_, Result<Vec<DeadRow>, StoreError>> {
        Box::pin(async move { self.outbox().await?.dead(limit).await })
    }

    fn revive<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move { self.outbox().await?.revive(rows).await })
    }

    fn discard<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move { self.outbox().await?.discard(rows).await })
    }

    fn prune(&self, sent_before: Timestamp, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move { self.outbox().await?.prune(sent_before, limit).await })
    }

    fn rows<'a>(
        &'a self,
        take: &'a mut (dyn FnMut(RowSeen) + Send),
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move { self.outbox().await?.rows(take).await })
    }

    fn status(&self) -> BoxFuture<'_, Result<OutboxStatus, StoreError>> {
        Box::pin(async move { self.outbox().await?.status().await })
    }

    fn watch(&self) -> Option<BoxFuture<'_, ()>> {
        self.opened.get()?.outbox.watch()
    }
}

/// How long a drain waits before it looks again whether the outbox is empty.
pub(crate) const EMPTY_POLL_INTERVAL: Duration = Duration::from_millis(5);

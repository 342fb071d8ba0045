//! `Tidings`: a broker, a producer and the consumers that were started here.

use crate::consumer::ConsumerBuilder;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use crate::facts::FactsRelay;
use crate::history::{self, History};
use crate::log_metrics;
use crate::{Error, TidingsBuilder};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidings_core::broker::{
    Admin, Broker, BrokerError, GroupLag, PublishOutcome, Reader, Recorded,
};
use tidings_core::limits::DRAIN_TIMEOUT_DEFAULT;
use tidings_core::seam::{Chance, Clock};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use tidings_core::store::Wake;
use tidings_core::store::{FailureStore, InboxStore};
use tidings_core::{Envelope, Event};
use tidings_flow::consumer::RunningConsumer;
use tidings_flow::dead_letter::{self, DeadLetters};
use tidings_flow::inbox::{InboxKeeper, InboxRetention};
use tidings_flow::metrics::MetricFamily;
use tidings_flow::producer::{Producer, Published};
use tidings_log::{LogBroker, RecoveryReport};

/// An open broker with a producer and the consumers that were started through it. Clones are the same one.
///
/// End with [`drain`](Self::drain), or with [`shutdown`](Self::shutdown) to leave the rest for the next start. Dropping the last clone stops consumers where they
/// are: nothing that was acknowledged is lost, but events in flight are handled again at the next start. A [`ConsumerHandle`](crate::ConsumerHandle) holds a clone, and so
/// does a handler that was given one as its state.
#[doc = include_str!("docs/tidings.md")]
#[derive(Clone)]
pub struct Tidings {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) producer: Producer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    /// The log of the folder, with the embedded broker.
    pub(crate) log: Option<Arc<LogBroker>>,
    /// What groups could not handle yet, unless a consumer has a store of its own.
    pub(crate) failures: Option<Arc<dyn FailureStore>>,
    /// The database of the data folder, where this process owns the folder.
    #[cfg(feature = "sqlite")]
    pub(crate) state: Option<crate::state::State>,
    /// The database of a data folder that another process owns.
    #[cfg(feature = "sqlite")]
    pub(crate) shared_state: Option<tidings_sql::Database>,
    /// Who carries the facts about dead letters of a database of one's own, one for each outbox; guarded to add or to take them.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) facts: Mutex<HashMap<String, FactsRelay>>,
    /// Guards the consumers, in the order in which they were started; held to add or to take them, never across an await.
    pub(crate) consumers: Mutex<Vec<RunningConsumer>>,
    /// Who looks after the inboxes of consumers that were started here, one for each inbox; guarded to add or to take them.
    pub(crate) inboxes: Mutex<HashMap<String, InboxKeeper>>,
}

impl Tidings {
    /// Opens a data folder with its embedded broker, and makes it if it does not exist.
    ///
    /// **Guarantee**: what was acknowledged before is there, whatever happened to the process or to the machine meanwhile.
    ///
    /// **Errors**: [`BrokerError::FolderOwned`] while another process has it open, which is transient; others are permanent and say what to do.
    ///
    /// **Cancel**: the folder is let go of.
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder().open(folder).await
    }

    /// Opens with a durability, a source, a time limit or a broker of your own.
    pub fn builder() -> TidingsBuilder {
        TidingsBuilder::default()
    }

    pub(crate) fn assembled(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Publishes an event under a fresh id.
    ///
    /// **Guarantee**: once this returns a receipt, the event is as durable as the broker promises: on the disk, unless opened otherwise. Whether anybody listens makes
    /// no difference.
    ///
    /// **Errors**: [`Error::may_have_happened`] says whether the event may have been written all the same.
    ///
    /// **Cancel**: before the broker has the event nothing happens; after that it may or may not be published.
    pub async fn publish<E: Event>(&self, event: E) -> Result<Published, Error> {
        Ok(self.inner.producer.publish(&event).await?)
    }

    /// Publishes events in their order; one outcome for each.
    ///
    /// **Guarantee**: after a failure of one key nothing later of that key is sent.
    ///
    /// **Errors**, **Cancel**: as [`publish`](Self::publish), for each event.
    pub async fn publish_all<E: Event>(&self, events: &[E]) -> Vec<Result<Published, Error>> {
        let outcomes = self.inner.producer.publish_all(events).await;
        outcomes
            .into_iter()
            .map(|outcome| outcome.map_err(Error::from))
            .collect()
    }

    /// Publishes envelopes exactly as they are, in their order; one outcome for each. For imports and bridges.
    ///
    /// **Guarantee**, **Errors**, **Cancel**: as [`publish_all`](Self::publish_all).
    pub async fn publish_envelopes(&self, envelopes: &[Envelope]) -> Vec<PublishOutcome> {
        self.inner.producer.publish_envelopes(envelopes).await
    }

    /// The producer behind [`publish`](Self::publish): for events without a Rust type, with an id of their own, or with a known cause.
    pub fn producer(&self) -> &Producer {
        &self.inner.producer
    }

    /// Begins a consumer: a group with a name of its own, which gets every event that its handlers ask for, whatever other groups do.
    pub fn consumer(&self, group: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), group.into())
    }

    /// What happened so far, oldest first: the events that match a pattern such as `order.*` or `**`.
    ///
    /// **Errors**: a pattern that is none; a broker without history.
    ///
    /// **Cancel**: no effect.
    pub async fn history(&self, pattern: &str) -> Result<History, Error> {
        let patterns = vec![pattern.parse()?];
        History::open(Arc::clone(&self.inner.broker), patterns).await
    }

    /// The event with this id; the first one if several sources gave it. On the embedded log it is looked up, not searched for.
    ///
    /// **Errors**: [`BrokerError::Damaged`] if it is not found and a damaged stretch may have held it; a broker without history.
    ///
    /// **Cancel**: no effect.
    pub async fn find(&self, event_id: &str) -> Result<Option<Recorded>, Error> {
        history::find(self.reader()?, event_id).await
    }

    /// Reading history by position and time, for tails, exports and look-ups.
    ///
    /// **Errors**: a broker without history.
    pub fn reader(&self) -> Result<&dyn Reader, Error> {
        history::reader_of(&*self.inner.broker)
    }

    /// Groups as an operator sees them.
    ///
    /// **Errors**: a broker that cannot tell.
    pub fn admin(&self) -> Result<&dyn Admin, Error> {
        let broker = &self.inner.broker;
        broker.admin().ok_or_else(|| {
            Error::from(BrokerError::Unsupported {
                broker: broker.capabilities().name,
                what: "administrate groups".to_owned(),
            })
        })
    }

    /// The broker itself.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.inner.broker
    }

    /// What opening the data folder found and did, if it was opened here: an unfinished end that was cut, damage.
    pub fn recovery(&self) -> Option<&RecoveryReport> {
        self.log().map(LogBroker::recovery)
    }

    /// The log of the data folder, if one was opened here: its status for metrics and health checks, its rule of retention.
    pub fn log(&self) -> Option<&LogBroker> {
        self.inner.log.as_deref()
    }

    /// The figures of the log under their names, for [`render`](tidings_flow::metrics::render): its state, the damage that was met, how much it holds. Empty where this
    /// process does not own a data folder, or the disk does not answer.
    pub fn log_metrics(&self) -> Vec<MetricFamily> {
        let status = self.log().and_then(|log| log.status().ok());
        status
            .as_ref()
            .map(log_metrics::families)
            .unwrap_or_default()
    }

    /// The database in the data folder, `state.db`: for tables of the application, an inbox, and an outbox whose events this process carries into the log, or to the broker that it
    /// was [connected with](TidingsBuilder::connect_with_data).
    ///
    /// **Errors**: [`BrokerError::Unsupported`] where this process does not own a data folder; a database that cannot be opened.
    ///
    /// **Cancel**: no effect.
    #[cfg(feature = "sqlite")]
    pub async fn database(&self) -> Result<tidings_sql::Database, Error> {
        Ok(self.state()?.database().await?)
    }

    /// The outbox in [`database`](Self::database): what is published into a transaction there is in the log, or on the broker, soon after its commit.
    ///
    /// **Errors**: [`BrokerError::Unsupported`] where this process does not own a data folder.
    #[cfg(feature = "sqlite")]
    pub fn outbox(&self) -> Result<tidings_sql::Outbox, Error> {
        let config = tidings_sql::OutboxConfig {
            source: self.inner.producer.source().map(str::to_owned),
            wakes: self.state()?.wake().into_iter().collect(),
            ..tidings_sql::OutboxConfig::default()
        };
        let clock = Arc::clone(&self.inner.clock);
        let chance = Arc::clone(&self.inner.chance);
        Ok(tidings_sql::Outbox::new(config, clock, chance)?)
    }

    /// Events that are published later: delayed, at a time, or again and again. They are kept in `state.db`; who owns the data folder fires them.
    ///
    /// **Errors**: [`BrokerError::Unsupported`] without a data folder; a database that cannot be opened.
    ///
    /// **Cancel**: no effect.
    #[cfg(feature = "sqlite")]
    pub async fn schedule(&self) -> Result<crate::Schedule, Error> {
        if let Some(database) = &self.inner.shared_state {
            let store = tidings_sql::Schedules::open(database).await?;
            return Ok(crate::Schedule::new(self.clone(), store, None));
        }
        let (store, scheduler) = self.state()?.schedules().await?;
        Ok(crate::Schedule::new(self.clone(), store, Some(scheduler)))
    }

    #[cfg(feature = "sqlite")]
    fn state(&self) -> Result<&crate::state::State, Error> {
        let broker = &self.inner.broker;
        self.inner.state.as_ref().ok_or_else(|| {
            Error::from(BrokerError::Unsupported {
                broker: broker.capabilities().name,
                what: "give a database: only the owner of a data folder has one; to keep state beside a broker, connect with a data folder"
                    .to_owned(),
            })
        })
    }

    /// What the relay of `state.db` has done, where this process owns the data folder: the events that other processes published beside it.
    #[cfg(feature = "sqlite")]
    pub fn relay_metrics(&self) -> Option<tidings_flow::outbox::RelayMetrics> {
        self.inner.state.as_ref()?.metrics()
    }

    /// Everything that was given up, oldest first, each with its reasons.
    ///
    /// **Errors**: a broker without history.
    pub fn dead_letters(&self) -> Result<DeadLetters<'_>, Error> {
        Ok(dead_letter::list(self.reader()?))
    }

    /// How far a group is behind, whether it runs here or not.
    ///
    /// **Errors**: [`BrokerError::GroupUnknown`]; a broker that cannot tell.
    ///
    /// **Cancel**: no effect.
    pub async fn lag(&self, group: &str) -> Result<GroupLag, Error> {
        let name = group.parse()?;
        Ok(self.admin()?.lag(&name).await?)
    }

    /// Lets every consumer finish what has happened, with what their handlers emit on the way and what was published through `state.db`, then stops
    /// them and closes the broker. It waits 30 seconds at most.
    ///
    /// **Guarantee**: after `Ok` no consumer of this process has anything left to do; all of it is settled durably.
    ///
    /// **Errors**: [`Error::DrainTimeout`] if consumers were still busy: they were stopped as by [`shutdown`](Self::shutdown), and go on at the next start. A consumer
    /// that was paused by [`pause`](crate::ConsumerHandle::pause), or whose [circuit](crate::Breaker) is open, is not waited for.
    ///
    /// **Cancel**: consumers may or may not be stopped; call it again.
    pub async fn drain(&self) -> Result<(), Error> {
        self.drain_within(DRAIN_TIMEOUT_DEFAULT).await
    }

    /// As [`drain`](Self::drain), with a time limit of your own.
    pub async fn drain_within(&self, limit: Duration) -> Result<(), Error> {
        crate::drain::drain(&self.inner, limit).await
    }

    /// Stops every consumer once the handlers in flight are done, leaves the rest for the next start, and closes the broker. Handlers get 30 seconds at most.
    ///
    /// **Guarantee**: what was handled is settled durably; nothing is lost.
    ///
    /// **Errors**: handlers that were cancelled because they took longer; their events are handled again at the next start.
    ///
    /// **Cancel**: as [`drain`](Self::drain).
    pub async fn shutdown(&self) -> Result<(), Error> {
        crate::drain::stop(&self.inner, DRAIN_TIMEOUT_DEFAULT).await
    }
}

impl Inner {
    /// Becomes the owner of a consumer.
    pub(crate) fn keep(&self, consumer: RunningConsumer) {
        self.lock().push(consumer);
    }

    /// Looks after what an inbox remembers of a group until the consumers are stopped.
    pub(crate) fn look_after(
        &self,
        inbox: Arc<dyn InboxStore>,
        group: &str,
        retention: InboxRetention,
    ) {
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes
            .entry(inbox.name().to_owned())
            .or_insert_with(|| InboxKeeper::start(inbox, Arc::clone(&self.clock)))
            .keep(group, retention);
    }

    /// What wakes the relay of the facts in an outbox, if there is one.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn facts_wake(&self, outbox: &str) -> Option<Wake> {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.get(outbox).map(FactsRelay::wake)
    }

    /// Becomes the owner of a relay of facts.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn keep_facts(&self, outbox: String, relay: FactsRelay) {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.insert(outbox, relay);
    }

    /// Gives the relays of facts away, to be stopped.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn take_facts(&self) -> Vec<FactsRelay> {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.drain().map(|(_, relay)| relay).collect()
    }

    /// Looks at every consumer.
    pub(crate) fn each<T>(&self, look: impl Fn(&RunningConsumer) -> T) -> Vec<T> {
        self.lock().iter().map(look).collect()
    }

    /// Gives the consumers away, to be stopped.
    pub(crate) fn take_consumers(&self) -> Vec<RunningConsumer> {
        self.inboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        std::mem::take(&mut *self.lock())
    }

    /// Gives one consumer away, to be stopped; `None` if it was taken before.
    pub(crate) fn take_consumer(&self, group: &str) -> Option<RunningConsumer> {
        let mut consumers = self.lock();
        let index = consumers
            .iter()
            .position(|consumer| consumer.group().as_str() == group)?;
        Some(consumers.remove(index))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RunningConsumer>> {
        self.consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tidings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tidings")
            .field("broker", &self.inner.broker.capabilities().name)
            .field(
                "consumers",
                &self.inner.each(|consumer| consumer.group().to_string()),
            )
            .finish_non_exhaustive()
    }
}

//! `Tidings`: a broker, a producer and the consumers that were started here.

use crate::consumer::ConsumerBuilder;
use crate::history::{self, History};
use crate::{Error, TidingsBuilder};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidings_core::broker::{Admin, Broker, BrokerError, GroupLag, PublishOutcome, Reader};
use tidings_core::limits::DRAIN_TIMEOUT_DEFAULT;
use tidings_core::seam::{Chance, Clock};
use tidings_core::{Envelope, Event};
use tidings_flow::consumer::RunningConsumer;
use tidings_flow::dead_letter::{self, DeadLetters};
use tidings_flow::producer::{Producer, Published};
use tidings_log::RecoveryReport;

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
    /// What opening the folder found, with the embedded broker.
    pub(crate) recovery: Option<RecoveryReport>,
    /// Guards the consumers, in the order in which they were started; held to add or to take them, never across an await.
    pub(crate) consumers: Mutex<Vec<RunningConsumer>>,
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
        self.inner.recovery.as_ref()
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

    /// Lets every consumer finish what has happened, with what their handlers emit on the way, then stops them and closes the broker. It waits 30 seconds at most.
    ///
    /// **Guarantee**: after `Ok` no consumer of this process has anything left to do; all of it is settled durably.
    ///
    /// **Errors**: [`Error::DrainTimeout`] if consumers were still busy: they were stopped as by [`shutdown`](Self::shutdown), and go on at the next start. A consumer
    /// that was paused by [`pause`](crate::ConsumerHandle::pause) is not waited for.
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

    /// Looks at every consumer.
    pub(crate) fn each<T>(&self, look: impl Fn(&RunningConsumer) -> T) -> Vec<T> {
        self.lock().iter().map(look).collect()
    }

    /// Gives the consumers away, to be stopped.
    pub(crate) fn take_consumers(&self) -> Vec<RunningConsumer> {
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

//! A watcher before it starts: where it keeps, how it looks, whom it tells.

use super::channel::Channel;
use super::handler::FactHandler;
use super::look::Sight;
use super::message::Alert;
use super::options::AlertOptions;
use super::running::RunningWatch;
use super::stats::WatchStats;
use super::watcher::Watcher;
use crate::runtime::Tasks;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::limits::ALERT_FACTS_PER_STEP_MAX;
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::{AlertStore, KeptChange, KeptKind, StoreError};
use tokio::sync::{Notify, mpsc, watch};

/// What a watcher tells while it works.
#[derive(Debug)]
#[non_exhaustive]
pub enum WatchNotice<'a> {
    /// An alert was concluded and kept; its messages are on their way.
    Alerted(&'a Alert),
    /// A channel accepted a message.
    Accepted {
        /// The channel.
        channel: &'a str,
    },
    /// A channel did not accept a message, which is sent again.
    Failed {
        /// The channel.
        channel: &'a str,
        /// Why.
        reason: &'a str,
        /// When it is sent again.
        delay: Duration,
    },
    /// A message is given up.
    GivenUp {
        /// The channel.
        channel: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// A channel wants no message any more; it gets none until [`Watch::reopen`].
    Closed {
        /// The channel.
        channel: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// Something could not be looked at.
    Unseen {
        /// Why.
        reason: &'a str,
    },
    /// The store does not do what is asked; it is asked again.
    StoreFailed {
        /// Why.
        reason: &'a str,
        /// When it is asked again.
        delay: Duration,
    },
}

pub(super) type Observe = Arc<dyn Fn(&WatchNotice<'_>) + Send + Sync>;

/// A watcher before it starts.
pub struct Watch {
    pub(super) store: Arc<dyn AlertStore>,
    pub(super) sight: Arc<dyn Sight>,
    pub(super) channels: Vec<Arc<dyn Channel>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chance: Arc<dyn Chance>,
    pub(super) options: AlertOptions,
    pub(super) observe: Observe,
}

impl Watch {
    /// A watcher that keeps what it knows in a store and looks through `sight`.
    pub fn new(
        store: Arc<dyn AlertStore>,
        sight: Arc<dyn Sight>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        options: AlertOptions,
    ) -> Self {
        Self {
            store,
            sight,
            channels: Vec::new(),
            clock,
            chance,
            options,
            observe: Arc::new(|_| {}),
        }
    }

    /// Adds a channel: each gets every alert.
    #[must_use]
    pub fn channel(mut self, channel: Arc<dyn Channel>) -> Self {
        self.channels.push(channel);
        self
    }

    /// Tells a function what happens; it must not block.
    #[must_use]
    pub fn observe(mut self, observe: impl Fn(&WatchNotice<'_>) + Send + Sync + 'static) -> Self {
        self.observe = Arc::new(observe);
        self
    }

    /// Lets a channel that wanted no message any more have messages again.
    ///
    /// **Errors**: what the store reports.
    pub async fn reopen(
        store: &dyn AlertStore,
        watcher: &str,
        channel: &dyn Channel,
    ) -> Result<(), StoreError> {
        let change = KeptChange::Forget {
            kind: KeptKind::Channel,
            name: channel.identity(),
        };
        store.keep(watcher, &[change]).await
    }

    /// Reads what an earlier run has kept, and begins. Needs a tokio runtime.
    ///
    /// **Errors**: what the store reports.
    ///
    /// **Cancel**: nothing has begun.
    pub async fn start(self) -> Result<RunningWatch, StoreError> {
        let kept = self.store.kept(&self.options.watcher).await?;
        let (facts, received) = mpsc::channel(ALERT_FACTS_PER_STEP_MAX);
        let (stop, stopped) = watch::channel(false);
        let look_now = Arc::new(Notify::new());
        let (told, stats) = watch::channel(WatchStats::default());
        let clock = Arc::clone(&self.clock);
        let mut watcher = Watcher::new(self, kept, told);
        let asked = Arc::clone(&look_now);
        let mut tasks = Tasks::new();
        tasks.spawn(async move { watcher.run(received, stopped, asked).await });
        Ok(RunningWatch {
            handler: Arc::new(FactHandler::new(facts)),
            stats,
            look_now,
            stop,
            tasks,
            clock,
        })
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("options", &self.options)
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

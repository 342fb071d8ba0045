//! The relay as a user sees it: built from a store and destinations, started, woken, looked at, drained.

use super::driver::{Driver, Shared};
use super::error::RelayError;
use super::metrics::RelayMetrics;
use super::notice::{RelayNotice, RelayPhase};
use super::options::RelayOptions;
use crate::runtime::Tasks;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::Destination;
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::{OutboxStore, Wake};

/// Is told what the relay does, from its own task; it must not block.
pub(super) type Observer = Arc<dyn Fn(&RelayNotice) + Send + Sync>;

/// Carries the events of an outbox to where they go.
///
/// **Guarantee**: every committed event is sent at least once, or is given up with its reason and waits for a person. Events of one key are sent first in
/// the order of their rows. Whatever is sent twice has the same event id. A row is settled only after its destination has accepted the event.
///
/// **Source**: seed concept *transactional outbox, poller*.
#[derive(Clone)]
pub struct Relay {
    pub(super) store: Arc<dyn OutboxStore>,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) named: BTreeMap<Arc<str>, Arc<dyn Destination>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chance: Arc<dyn Chance>,
    pub(super) options: RelayOptions,
    pub(super) observer: Option<Observer>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("outbox", &self.store.name())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// A relay of an outbox. What its rows name as their destination goes there too, unless [`to`](Self::to) says otherwise.
    pub fn new(
        store: Arc<dyn OutboxStore>,
        destination: Arc<dyn Destination>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        options: RelayOptions,
    ) -> Self {
        Self {
            store,
            destination,
            named: BTreeMap::new(),
            clock,
            chance,
            options,
            observer: None,
        }
    }

    /// Sends the rows that name a destination there. Destinations do not wait for each other.
    #[must_use]
    pub fn to(mut self, name: &str, destination: Arc<dyn Destination>) -> Self {
        self.named.insert(Arc::from(name), destination);
        self
    }

    /// Tells what happens to a function, from the relay's own task; it must not block.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&RelayNotice) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Begins; needs a tokio runtime.
    pub fn start(self) -> RunningRelay {
        let clock = Arc::clone(&self.clock);
        let shared = Arc::new(Shared::new(
            self.store.name(),
            self.options.shard,
            Arc::clone(&clock),
        ));
        let mut tasks = Tasks::new();
        tasks.spawn(Driver::new(self, Arc::clone(&shared)).run());
        RunningRelay {
            handle: RelayHandle { shared },
            clock,
            tasks,
        }
    }
}

/// A relay that works. Dropping it stops it where it is: what is on its way may be sent and is sent again by the next relay, once the lease is over;
/// [`drain`](Self::drain) is the gentle way.
pub struct RunningRelay {
    handle: RelayHandle,
    clock: Arc<dyn Clock>,
    tasks: Tasks<()>,
}

impl std::fmt::Debug for RunningRelay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningRelay")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

impl std::ops::Deref for RunningRelay {
    type Target = RelayHandle;

    fn deref(&self) -> &RelayHandle {
        &self.handle
    }
}

impl RunningRelay {
    /// A view of this relay for those who do not own it.
    pub fn handle(&self) -> RelayHandle {
        self.handle.clone()
    }

    /// Starts nothing new, waits for what is on its way, settles it, gives the lease back, and answers what was done.
    ///
    /// **Guarantee**: after `Ok` everything that was accepted is settled, and another relay can begin at once.
    ///
    /// **Errors**: [`RelayError::Unfinished`] at the deadline; the rest is sent again by the next relay.
    ///
    /// **Cancel**: as dropping the relay.
    pub async fn drain(mut self, deadline: Duration) -> Result<RelayMetrics, RelayError> {
        let shared = Arc::clone(&self.handle.shared);
        shared.ask_to_drain();
        tokio::select! {
            biased;
            _ = self.tasks.join_next() => {}
            () = self.clock.sleep(deadline) => {
                self.tasks.abort_all();
                let metrics = shared.metrics();
                return Err(RelayError::Unfinished {
                    outbox: metrics.outbox,
                    in_flight_rows: metrics.in_flight_rows,
                    deadline,
                });
            }
        }
        self.handle.outcome()
    }
}

/// A view of a [`RunningRelay`] that can be cloned and handed around; it keeps nothing running.
#[derive(Clone)]
pub struct RelayHandle {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for RelayHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayHandle")
            .field("metrics", &self.shared.metrics())
            .finish()
    }
}

impl RelayHandle {
    /// What tells the relay that something was committed, for whoever commits in this process; calling it often costs nothing.
    pub fn wake(&self) -> Wake {
        let shared = Arc::clone(&self.shared);
        Wake::new(move || shared.wake())
    }

    /// What it has done, and how its outbox stands.
    pub fn metrics(&self) -> RelayMetrics {
        self.shared.metrics()
    }

    /// What it is at.
    pub fn phase(&self) -> RelayPhase {
        self.shared.phase()
    }

    /// Asks it to drain, without waiting; [`finished`](Self::finished) waits.
    pub fn stop(&self) {
        self.shared.ask_to_drain();
    }

    /// Waits until it has ended: by [`stop`](Self::stop), by `until_empty`, or because it was dropped. Answers what was done.
    ///
    /// **Errors**: [`RelayError::Store`] of a relay that was to end by itself; [`RelayError::Bug`].
    ///
    /// **Cancel**: no effect.
    pub async fn finished(&self) -> Result<RelayMetrics, RelayError> {
        self.reached(RelayPhase::Ended).await;
        self.outcome()
    }

    /// Waits until it is at a phase, or has ended.
    ///
    /// **Cancel**: no effect.
    pub async fn reached(&self, phase: RelayPhase) {
        self.shared.reached(phase).await;
    }

    fn outcome(&self) -> Result<RelayMetrics, RelayError> {
        let metrics = self.shared.metrics();
        if self.shared.is_broken() {
            return Err(RelayError::Bug {
                outbox: metrics.outbox,
            });
        }
        if let Some(error) = self.shared.failed() {
            return Err(RelayError::Store {
                outbox: metrics.outbox,
                error,
            });
        }
        Ok(metrics)
    }
}

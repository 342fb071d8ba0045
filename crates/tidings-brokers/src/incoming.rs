//! What stands between the task that talks to a broker for a group and the two halves of its subscription.

use crate::unsettled::Unsettled;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidings_core::broker::{BrokerError, Delivery, Receive, Received, Scope};
use tidings_core::{BoxFuture, Timestamp};
use tokio::sync::{Notify, watch};

/// An answer that nothing is left is good for so long.
pub(crate) const CAUGHT_UP_FRESH: Duration = Duration::from_millis(100);

/// Deliveries of one group and what else its receive half tells.
pub(crate) struct Incoming<H> {
    scope: Arc<str>,
    /// Guards what is open; held for table work only, never over a wait.
    inner: Mutex<Inner<H>>,
    /// Whether the broker was closed: whoever receives is told so.
    ends: watch::Receiver<bool>,
    /// The receive half has something to look at.
    changed: Notify,
    /// The task has something to look at.
    pub(crate) work: Notify,
}

/// What the lock guards.
pub(crate) struct Inner<H> {
    pub(crate) table: Unsettled<H>,
    /// Nothing from this place on is handed out yet.
    pub(crate) hold_from: Option<u64>,
    notices: VecDeque<Notice>,
    caught_up: CaughtUp,
}

#[derive(Debug)]
enum Notice {
    Assigned(Scope),
    Lost(Scope),
    Failed(BrokerError),
}

/// Whether everything was handed out is known to the server alone, and asking takes a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CaughtUp {
    NotAsked,
    Asked,
    Yes,
}

impl<H: Clone> Incoming<H> {
    /// Assigned, and empty.
    pub(crate) fn new(scope: &str, hold_from: Option<u64>, ends: watch::Receiver<bool>) -> Self {
        let incoming = Self {
            scope: scope.into(),
            inner: Mutex::new(Inner {
                table: Unsettled::new(),
                hold_from,
                notices: VecDeque::new(),
                caught_up: CaughtUp::NotAsked,
            }),
            ends,
            changed: Notify::new(),
            work: Notify::new(),
        };
        let mut inner = incoming.lock();
        let assigned = Notice::Assigned(incoming.scope(&inner));
        inner.notices.push_back(assigned);
        drop(inner);
        incoming
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner<H>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scope(&self, inner: &Inner<H>) -> Scope {
        Scope {
            name: Arc::clone(&self.scope),
            generation: inner.table.generation(),
        }
    }

    /// Takes in deliveries, each with its place and the broker's handle.
    pub(crate) fn insert(&self, deliveries: Vec<(u64, Delivery, H)>) {
        let mut inner = self.lock();
        for (place, mut delivery, handle) in deliveries {
            delivery.token = inner.table.token(place);
            inner.table.insert(place, delivery, handle);
        }
        drop(inner);
        self.wake();
    }

    /// Makes the receive half look again.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Holds everything back that was not taken in yet.
    #[cfg(feature = "nats")]
    pub(crate) fn hold(&self) {
        let mut inner = self.lock();
        let end = inner.table.end();
        inner.hold_from.get_or_insert(end);
    }

    /// Holds everything back that was not handed out yet.
    #[cfg(feature = "nats")]
    pub(crate) fn hold_all(&self) {
        self.lock().hold_from = Some(0);
    }

    /// Lets everything be handed out that was held.
    #[cfg(feature = "nats")]
    pub(crate) fn stop_holding(&self) {
        if self.lock().hold_from.take().is_some() {
            self.wake();
        }
    }

    /// Tells a failure, unless one waits to be told already.
    pub(crate) fn fail(&self, error: BrokerError) {
        let mut inner = self.lock();
        if !matches!(inner.notices.back(), Some(Notice::Failed(_))) {
            inner.notices.push_back(Notice::Failed(error));
        }
        drop(inner);
        self.wake();
    }

    /// What was handed out is not ours any more: its tokens are stale from now on, and what comes next belongs to a new generation.
    pub(crate) fn lose(&self) {
        let mut inner = self.lock();
        let lost = Notice::Lost(self.scope(&inner));
        inner.table.lose();
        let assigned = Notice::Assigned(self.scope(&inner));
        inner.notices.extend([lost, assigned]);
        inner.caught_up = CaughtUp::NotAsked;
        drop(inner);
        self.wake();
    }

    /// Whether the receive half waits to hear if anything is left.
    pub(crate) fn is_asked(&self) -> bool {
        self.lock().caught_up == CaughtUp::Asked
    }

    /// Answers that.
    pub(crate) fn answer(&self, nothing_left: bool) {
        let mut inner = self.lock();
        if inner.caught_up == CaughtUp::Asked {
            inner.caught_up = if nothing_left && !inner.table.is_anything_ready() {
                CaughtUp::Yes
            } else {
                CaughtUp::NotAsked
            };
        }
    }

    /// An answer that nobody took is too old now.
    pub(crate) fn forget_answer(&self) {
        let mut inner = self.lock();
        if inner.caught_up == CaughtUp::Yes {
            inner.caught_up = CaughtUp::NotAsked;
        }
    }

    fn is_caught_up(&self) -> bool {
        let mut inner = self.lock();
        if inner.table.is_anything_ready() || !inner.notices.is_empty() {
            return false;
        }
        if inner.caught_up == CaughtUp::Yes {
            inner.caught_up = CaughtUp::NotAsked;
            return true;
        }
        inner.caught_up = CaughtUp::Asked;
        drop(inner);
        self.work.notify_one();
        false
    }

    fn next(&self, events_max: usize) -> Option<Result<Received, BrokerError>> {
        let mut inner = self.lock();
        match inner.notices.pop_front() {
            Some(Notice::Assigned(scope)) => return Some(Ok(Received::Assigned(scope))),
            Some(Notice::Lost(scope)) => return Some(Ok(Received::Lost(scope))),
            Some(Notice::Failed(error)) => return Some(Err(error)),
            None => {}
        }
        let end = inner.hold_from.unwrap_or(u64::MAX);
        let deliveries = inner.table.hand_out(events_max, end);
        let scope = self.scope(&inner);
        (!deliveries.is_empty()).then_some(Ok(Received::Deliveries { scope, deliveries }))
    }
}

/// The receive half of a subscription.
pub(crate) struct ReceiveHalf<H> {
    pub(crate) incoming: Arc<Incoming<H>>,
    /// Keeps the task alive as long as one of the halves is.
    pub(crate) _member: Arc<dyn Any + Send + Sync>,
}

impl<H: Clone + Send> Receive for ReceiveHalf<H> {
    fn receive(&mut self, events_max: usize) -> BoxFuture<'_, Result<Received, BrokerError>> {
        Box::pin(async move {
            let mut ends = self.incoming.ends.clone();
            loop {
                if *ends.borrow() {
                    return Err(BrokerError::Closed);
                }
                let changed = self.incoming.changed.notified();
                if let Some(told) = self.incoming.next(events_max) {
                    return told;
                }
                tokio::select! {
                    () = changed => {}
                    // A broker that is gone altogether was closed as well.
                    ended = ends.wait_for(|ends| *ends) => match ended {
                        Ok(_) => {}
                        Err(_) => return Err(BrokerError::Closed),
                    },
                }
            }
        })
    }

    fn is_caught_up(&self) -> bool {
        self.incoming.is_caught_up()
    }

    fn behind(&self, now: Timestamp) -> Option<Duration> {
        let oldest = self.incoming.lock().table.oldest_ready()?;
        Some(now.since(oldest))
    }
}

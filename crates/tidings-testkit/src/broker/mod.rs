//! A broker in memory, with the same meaning as a real one: a total order, groups with cursors, history.

mod group;
mod subscription;

use group::Group;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, GroupLag, GroupName, GroupStatus, KeyOrder, Page,
    Position, PublishError, PublishOutcome, ReadRequest, Reader, Receipt, Recorded, StartAt,
    SubscribeRequest, Subscription,
};
use tidings_core::limits::PAYLOAD_BYTES_MAX;
use tidings_core::seam::Clock;
use tidings_core::{BoxFuture, Envelope, Pattern, Timestamp};
use tokio::sync::watch;

const NAME: &str = "memory";

/// A broker in memory: the fake beside the real ones.
///
/// Clones share the events, so that a test can keep one and look at what happened; closing one closes all. A further connection to the same events is
/// [`another`](Self::another).
///
/// **Guarantee**: none beyond the process; it declares `synced: false`.
#[derive(Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
    /// Whether this connection was closed.
    closed: Arc<AtomicBool>,
}

pub(crate) struct Shared {
    clock: Arc<dyn Clock>,
    /// Guards events and groups; held for look-ups and pushes, never across an await.
    inner: Mutex<Inner>,
    /// The end of the log, for those who wait for more.
    end: watch::Sender<u64>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) events: Vec<Recorded>,
    pub(crate) groups: BTreeMap<GroupName, Group>,
    full: bool,
}

impl MemoryBroker {
    /// An empty broker whose append times are the clock's.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                inner: Mutex::new(Inner::default()),
                end: watch::Sender::new(0),
            }),
            closed: Arc::default(),
        }
    }

    /// A further connection to the same events and groups: closing one leaves the other open, as with clients of a real broker.
    pub fn another(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            closed: Arc::default(),
        }
    }

    /// Whether events are refused as by a full disk, from now on.
    pub fn set_full(&self, full: bool) {
        self.shared.lock().full = full;
    }

    /// Everything published so far, internal facts included.
    pub fn events(&self) -> Vec<Recorded> {
        self.shared.lock().events.clone()
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker")
            .field("events", &self.shared.lock().events.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ends(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Wakes whoever waits, also when nothing was published.
    pub(crate) fn wake(&self) {
        let end = self.lock().events.len() as u64;
        self.end.send_replace(end);
    }

    fn append(&self, envelope: &Envelope) -> PublishOutcome {
        let mut inner = self.lock();
        if inner.full {
            let path = NAME.into();
            return Err(PublishError::refused(&BrokerError::DiskFull { path }));
        }
        let last = inner.events.last().map(|event| event.append_time);
        let position = Position(inner.events.len() as u64);
        inner.events.push(Recorded {
            position,
            append_time: last.map_or(self.now(), |last| last.max(self.now())),
            envelope: envelope.clone(),
        });
        Ok(Receipt {
            position: Some(position),
        })
    }
}

impl Inner {
    pub(crate) fn start(&self, start: StartAt) -> u64 {
        match start {
            StartAt::Earliest => 0,
            StartAt::Latest => self.events.len() as u64,
            StartAt::Position(position) => position.0.min(self.events.len() as u64),
            StartAt::Time(time) => {
                self.events
                    .partition_point(|event| event.append_time < time) as u64
            }
        }
    }

    fn group(&mut self, name: &GroupName) -> Result<&mut Group, BrokerError> {
        self.groups
            .get_mut(name)
            .ok_or_else(|| BrokerError::GroupUnknown {
                group: name.to_string(),
                similar: None,
            })
    }

    fn idle_group(&mut self, name: &GroupName) -> Result<&mut Group, BrokerError> {
        let group = self.group(name)?;
        if group.leased {
            return Err(BrokerError::GroupLeased {
                group: name.to_string(),
                owner: "a consumer of this test".to_owned(),
            });
        }
        Ok(group)
    }
}

/// Whether a connection may still be used.
pub(crate) fn check_open(closed: &AtomicBool) -> Result<(), BrokerError> {
    if closed.load(Ordering::Acquire) {
        Err(BrokerError::Closed)
    } else {
        Ok(())
    }
}

/// Whether an event is wanted: by one of the patterns, or as everything but internal facts where there are none.
pub(crate) fn wanted(patterns: &[Pattern], envelope: &Envelope) -> bool {
    let event_type = envelope.event_type();
    if patterns.is_empty() {
        return !event_type.is_internal();
    }
    patterns.iter().any(|pattern| pattern.matches(event_type))
}

impl Broker for MemoryBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: NAME,
            key_order: KeyOrder::AcrossInstances,
            group_leased: true,
            tells_assignment: true,
            replay: true,
            old_events_for_late_groups: true,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            synced: false,
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            let outcomes = batch
                .iter()
                .map(|envelope| {
                    check_open(&self.closed).map_err(|error| PublishError::refused(&error))?;
                    self.shared.append(envelope)
                })
                .collect();
            self.shared.wake();
            outcomes
        })
    }

    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async move { subscription::subscribe(&self.shared, &self.closed, request) })
    }

    fn reader(&self) -> Option<&dyn Reader> {
        Some(self)
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            self.closed.store(true, Ordering::Release);
            self.shared.wake();
            Ok(())
        })
    }
}

impl Reader for MemoryBroker {
    fn read<'a>(&'a self, request: ReadRequest<'a>) -> BoxFuture<'a, Result<Page, BrokerError>> {
        Box::pin(async move {
            let inner = self.shared.lock();
            let mut next = request.from.0;
            let mut events = Vec::new();
            for event in inner
                .events
                .iter()
                .skip(usize::try_from(next).unwrap_or(usize::MAX))
            {
                if events.len() >= request.events_max {
                    break;
                }
                next = event.position.next().0;
                if wanted(request.patterns, &event.envelope) {
                    events.push(event.clone());
                }
            }
            Ok(Page {
                events,
                next: Position(next),
                at_end: next >= inner.events.len() as u64,
            })
        })
    }

    fn earliest(&self) -> BoxFuture<'_, Result<Position, BrokerError>> {
        Box::pin(async { Ok(Position(0)) })
    }

    fn end(&self) -> BoxFuture<'_, Result<Position, BrokerError>> {
        Box::pin(async move { Ok(Position(self.shared.lock().events.len() as u64)) })
    }

    fn position_at(&self, time: Timestamp) -> BoxFuture<'_, Result<Position, BrokerError>> {
        Box::pin(async move { Ok(Position(self.shared.lock().start(StartAt::Time(time)))) })
    }

    fn wait_beyond(&self, position: Position) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            let mut ends = self.shared.ends();
            loop {
                let end = *ends.borrow_and_update();
                check_open(&self.closed)?;
                if end > position.0 || ends.changed().await.is_err() {
                    return Ok(());
                }
            }
        })
    }
}

impl Admin for MemoryBroker {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupStatus>, BrokerError>> {
        Box::pin(async move {
            let inner = self.shared.lock();
            Ok(inner
                .groups
                .iter()
                .map(|(name, group)| group.status(name))
                .collect())
        })
    }

    fn lag<'a>(&'a self, name: &'a GroupName) -> BoxFuture<'a, Result<GroupLag, BrokerError>> {
        Box::pin(async move {
            let now = self.shared.now();
            let mut inner = self.shared.lock();
            inner.group(name)?;
            let inner = &*inner;
            Ok(inner
                .groups
                .get(name)
                .map_or(GroupLag::default(), |group| group.lag(&inner.events, now)))
        })
    }

    fn seek<'a>(
        &'a self,
        name: &'a GroupName,
        start: StartAt,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        Box::pin(async move {
            let now = self.shared.now();
            let mut inner = self.shared.lock();
            let position = inner.start(start);
            inner.idle_group(name)?.seek(position, now);
            Ok(Some(Position(position)))
        })
    }

    fn remove<'a>(&'a self, name: &'a GroupName) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move {
            let mut inner = self.shared.lock();
            inner.idle_group(name)?;
            inner.groups.remove(name);
            Ok(())
        })
    }
}

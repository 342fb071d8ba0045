//! The receive half of a subscription: what was released comes first, then the log is read on from the cursor.

use super::state::GroupState;
use crate::filter::Filter;
use crate::format::fields::Malformed;
use crate::history::SCAN_BYTES_MAX;
use crate::log::Log;
use crate::scan::{Bounds, Found, Scanner, Stop};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tidings_core::broker::{BrokerError, Delivery, GroupName, Receive, Received, Scope, Token};
use tidings_core::limits::FOLLOW_POLL_INTERVAL;
use tidings_core::{BoxFuture, Timestamp};

/// Events that room is made for before they are read.
const EVENTS_AHEAD_MAX: usize = 1_024;

/// Hands out the events of a group of the log.
pub(crate) struct LogReceive {
    log: Arc<Log>,
    group: GroupName,
    state: Arc<GroupState>,
    scope: Scope,
    assigned: bool,
    filter: Filter,
    /// Guards the scanner for `behind`, which looks ahead from outside; receiving owns it without locking.
    scanner: Mutex<Scanner>,
    /// What was met behind events that were handed out first.
    told_next: Option<BrokerError>,
    /// Events that were read and not handed out, because their mark could not be made durable.
    held: Vec<Delivery>,
}

impl LogReceive {
    pub(crate) fn new(
        log: Arc<Log>,
        state: Arc<GroupState>,
        scope: Scope,
        filter: Filter,
        (group, position): (&GroupName, u64),
        first_told: Option<BrokerError>,
    ) -> Self {
        let scanner = Mutex::new(Scanner::new(log.clone(), position));
        Self {
            log,
            group: group.clone(),
            state,
            scope,
            assigned: false,
            filter,
            scanner,
            told_next: first_told,
            held: Vec::new(),
        }
    }

    async fn next(&mut self, events_max: usize) -> Result<Received, BrokerError> {
        if self.state.progress().has_left() {
            return Err(BrokerError::Closed);
        }
        if !self.assigned {
            self.assigned = true;
            return Ok(Received::Assigned(self.scope.clone()));
        }
        if let Some(error) = self.told_next.take() {
            return Err(self.passed(error));
        }
        loop {
            let released = self
                .released(events_max)
                .map_err(|error| self.passed(error))?;
            if !released.is_empty() {
                return Ok(self.deliveries(released));
            }
            if let Some(received) = self.fresh(events_max)? {
                return Ok(received);
            }
            self.wait().await;
            if self.state.progress().has_left() || self.log.is_closed() {
                return Err(BrokerError::Closed);
            }
        }
    }

    /// Reads released events again, oldest first.
    fn released(&mut self, events_max: usize) -> Result<Vec<Delivery>, BrokerError> {
        let positions = self.state.progress().take_released(events_max);
        let mut events = Vec::with_capacity(positions.len());
        let mut positions = positions.into_iter();
        let failed = positions.find_map(|position| match self.read_again(position, &mut events) {
            Ok(()) => None,
            Err(error) => {
                let mut progress = self.state.progress();
                if matches!(error, BrokerError::Damaged { .. }) {
                    progress.give_up(position);
                } else {
                    progress.put_back(position);
                }
                Some(error)
            }
        });
        let mut progress = self.state.progress();
        positions.for_each(|position| progress.put_back(position));
        drop(progress);
        match failed {
            Some(error) if events.is_empty() => Err(error),
            Some(error) => {
                self.told_next = Some(error);
                Ok(events)
            }
            None => Ok(events),
        }
    }

    fn read_again(&mut self, position: u64, events: &mut Vec<Delivery>) -> Result<(), BrokerError> {
        let mut scanner = Scanner::new(self.log.clone(), position);
        let bounds = Bounds {
            events_max: 1,
            bytes_max: u64::MAX,
        };
        match scanner.scan_with(&mut self.filter, bounds, &mut taking(events))? {
            Stop::Damage(damage) => Err(damage),
            Stop::Full | Stop::Paused | Stop::AtEnd => Ok(()),
        }
    }

    /// Reads on; `None` if there is nothing new.
    fn fresh(&mut self, events_max: usize) -> Result<Option<Received>, BrokerError> {
        let scanner = self
            .scanner
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let mut events = std::mem::take(&mut self.held);
        if scanner.position() < self.log.end_known().visible {
            // As many as are likely to come, so that the list need not grow step by step.
            events.reserve(
                events_max
                    .saturating_sub(events.len())
                    .min(EVENTS_AHEAD_MAX),
            );
        }
        let before = scanner.position();
        let mut stop = Stop::Full;
        if events.len() < events_max {
            let bounds = Bounds {
                events_max: events_max - events.len(),
                bytes_max: SCAN_BYTES_MAX,
            };
            let read = scanner.scan_with(&mut self.filter, bounds, &mut taking(&mut events));
            stop = match read {
                Ok(stop) => stop,
                Err(error) if events.is_empty() => return Err(self.passed(error)),
                // What was read before it failed is handed out first: the scanner is behind it.
                Err(error) => {
                    self.told_next = Some(error);
                    Stop::Full
                }
            };
        }
        let scanned = scanner.position();
        let positions = events.iter().take(events_max).map(|event| event.token.0);
        if let Err(error) = self.state.hand_out(positions, scanned) {
            self.held = events;
            return Err(error);
        }
        if events.len() > events_max {
            self.held = events.split_off(events_max);
        }
        match stop {
            Stop::Damage(damage) if events.is_empty() => return Err(damage),
            Stop::Damage(damage) => self.told_next = Some(damage),
            // A long stretch without an event for this group: the caller gets its turn.
            Stop::Paused => return Ok(Some(self.deliveries(events))),
            Stop::AtEnd if events.is_empty() && scanned == before => return Ok(None),
            Stop::AtEnd if events.is_empty() => return Ok(None),
            Stop::AtEnd | Stop::Full => {}
        }
        Ok(Some(self.deliveries(events)))
    }

    /// A position that retention removed, in the words of the group that wanted it.
    fn passed(&self, error: BrokerError) -> BrokerError {
        match error {
            BrokerError::Removed { position, oldest } => BrokerError::GroupPassed {
                group: self.group.to_string(),
                position,
                oldest,
            },
            other => other,
        }
    }

    fn deliveries(&self, deliveries: Vec<Delivery>) -> Received {
        Received::Deliveries {
            scope: self.scope.clone(),
            deliveries,
        }
    }

    /// Waits until there may be something to tell.
    async fn wait(&mut self) {
        let position = self
            .scanner
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .position();
        if !self.log.owned {
            return self.log.clock.sleep(FOLLOW_POLL_INTERVAL).await;
        }
        let (log, state) = (&self.log, &self.state);
        poll_fn(|context| poll_news(log, state, position, context)).await;
    }
}

/// Makes deliveries of what a scan finds. A token is the position of its event.
fn taking(deliveries: &mut Vec<Delivery>) -> impl FnMut(Found<'_>) -> Result<(), Malformed> {
    |found| {
        let event = found.recorded()?;
        deliveries.push(Delivery {
            token: Token(event.position.0),
            position: Some(event.position),
            append_time: Some(event.append_time),
            envelope: event.envelope,
            problem: None,
            redelivered: false,
        });
        Ok(())
    }
}

fn poll_news(log: &Log, state: &GroupState, position: u64, context: &Context<'_>) -> Poll<()> {
    let mut progress = state.progress();
    if progress.has_released() || progress.has_left() {
        return Poll::Ready(());
    }
    progress.wait(context.waker());
    drop(progress);
    if log.wait_beyond(position, context.waker()) {
        Poll::Pending
    } else {
        Poll::Ready(())
    }
}

impl Receive for LogReceive {
    fn receive(&mut self, events_max: usize) -> BoxFuture<'_, Result<Received, BrokerError>> {
        Box::pin(self.next(events_max.max(1)))
    }

    fn is_caught_up(&self) -> bool {
        let scanner = self.scanner.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing_read_ahead =
            self.held.is_empty() && self.told_next.is_none() && !scanner.has_untold_damage();
        nothing_read_ahead
            && scanner.position() >= self.log.end_known().visible
            && !self.state.progress().has_released()
    }

    fn behind(&self, now: Timestamp) -> Option<Duration> {
        if let Some(held) = self.held.first() {
            return held.append_time.map(|appended| now.since(appended));
        }
        let mut scanner = self.scanner.lock().unwrap_or_else(PoisonError::into_inner);
        // An error is told by the next receive, which meets it too.
        let oldest = scanner.peek_append_time().ok().flatten()?;
        Some(now.since(oldest))
    }
}

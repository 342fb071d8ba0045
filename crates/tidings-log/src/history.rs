//! History without a group: reading by position and by time, and waiting for more. The owner and readers beside it share this.

use crate::filter::Filter;
use crate::log::Log;
use crate::look_up::LookUps;
use crate::scan::{Bounds, Scanner, Stop};
use crate::segment::Segment;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use tidings_core::Timestamp;
use tidings_core::broker::{BrokerError, Page, Position, ReadRequest};
use tidings_core::limits::FOLLOW_POLL_INTERVAL;

/// Bytes of frames looked at in one go, so that other tasks get their turn.
pub(crate) const SCAN_BYTES_MAX: u64 = 4_194_304;
/// Retention may remove what is looked at; so often it is looked again.
const LOOKS_MAX: usize = 16;
/// Scanners kept for readers that will ask for the next page.
const KEPT_SCANNERS_MAX: usize = 16;

/// Reads the history of a log.
pub(crate) struct History {
    pub log: Arc<Log>,
    pub look_ups: Arc<LookUps>,
    /// Guards scanners that wait where a page ended: held to take one or to put one back.
    kept: Mutex<Vec<(Scanner, Filter)>>,
}

impl History {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self {
            look_ups: Arc::new(LookUps::new(log.clone())),
            log,
            kept: Mutex::new(Vec::new()),
        }
    }

    /// Reads a page.
    pub(crate) fn read(&self, request: &ReadRequest<'_>) -> Result<Page, BrokerError> {
        let (mut scanner, mut filter) = self.scanner(request);
        let mut events = Vec::new();
        let bounds = Bounds {
            events_max: request.events_max,
            bytes_max: SCAN_BYTES_MAX,
        };
        let at_end = match scanner.scan(&mut filter, bounds, &mut events)? {
            Stop::Full | Stop::Paused => false,
            Stop::AtEnd => true,
            // Told when it is asked for from there, so that what stands before it is not withheld.
            Stop::Damage(BrokerError::Damaged { from, .. }) if from > request.from => {
                return Ok(Page {
                    events,
                    next: from,
                    at_end: false,
                });
            }
            Stop::Damage(damage) => {
                self.keep(scanner, filter);
                return Err(damage);
            }
        };
        let next = Position(scanner.position());
        self.keep(scanner, filter);
        Ok(Page {
            events,
            next,
            at_end,
        })
    }

    /// The oldest position kept.
    pub(crate) fn earliest(&self) -> Result<Position, BrokerError> {
        self.log.look_at_begin()?;
        let end = self.log.end()?;
        Ok(Position(
            self.log
                .segments()
                .first()
                .map_or(end.visible, |segment| segment.first),
        ))
    }

    /// Behind the last position that may be read.
    pub(crate) fn end(&self) -> Result<Position, BrokerError> {
        Ok(Position(self.log.end()?.visible))
    }

    /// The first position appended at `time` or later.
    pub(crate) fn position_at(&self, time: Timestamp) -> Result<Position, BrokerError> {
        for _ in 0..LOOKS_MAX {
            match self.look_for(time) {
                // Retention was faster; the list of segments is new now.
                Err(BrokerError::Removed { .. }) => {}
                found => return found,
            }
        }
        self.earliest()
    }

    fn look_for(&self, time: Timestamp) -> Result<Position, BrokerError> {
        let end = self.log.end()?;
        let segments = self.log.segments();
        let Some(segment) = self.last_begun_before(&segments, time)? else {
            return self.earliest();
        };
        let from = self
            .log
            .place_before(segment, time.as_micros())?
            .map_or(segment.first, |entry| entry.position);
        let mut scanner = Scanner::new(self.log.clone(), from);
        loop {
            match scanner.peek_append_time()? {
                Some(found) if found >= time => return Ok(Position(scanner.position())),
                Some(_) => scanner.skip_batch(),
                // What is damaged cannot say when it was appended.
                None if scanner.has_untold_damage() => scanner.forget_damage(),
                None => return Ok(Position(end.visible.max(scanner.position()))),
            }
        }
    }

    /// Waits until the end is beyond `position`.
    pub(crate) async fn wait_beyond(&self, position: Position) -> Result<(), BrokerError> {
        loop {
            if self.log.end()?.visible > position.0 {
                return Ok(());
            }
            if self.log.is_closed() {
                return Err(BrokerError::Closed);
            }
            if self.log.owned {
                poll_fn(|context| {
                    if self.log.wait_beyond(position.0, context.waker()) {
                        Poll::Pending
                    } else {
                        Poll::Ready(())
                    }
                })
                .await;
            } else {
                self.log.clock.sleep(FOLLOW_POLL_INTERVAL).await;
            }
        }
    }

    /// The last segment in which a frame may stand that was appended before `time`.
    fn last_begun_before<'a>(
        &self,
        segments: &'a [Arc<Segment>],
        time: Timestamp,
    ) -> Result<Option<&'a Arc<Segment>>, BrokerError> {
        let (mut low, mut high) = (0, segments.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let Some(segment) = segments.get(middle) else {
                break;
            };
            if self.log.append_time(segment)? < time.as_micros() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1).and_then(|at| segments.get(at)))
    }

    fn scanner(&self, request: &ReadRequest<'_>) -> (Scanner, Filter) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |(scanner, filter): &(Scanner, Filter)| {
            scanner.position() == request.from.0 && filter.is_of(request.patterns)
        };
        match kept.iter().position(fits) {
            Some(at) => kept.swap_remove(at),
            None => (
                Scanner::new(self.log.clone(), request.from.0),
                Filter::new(request.patterns),
            ),
        }
    }

    fn keep(&self, scanner: Scanner, filter: Filter) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_SCANNERS_MAX {
            // The one kept longest is the least likely to be asked for again.
            kept.remove(0);
        }
        kept.push((scanner, filter));
    }
}

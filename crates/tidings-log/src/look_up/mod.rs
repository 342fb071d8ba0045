//! Look-ups by event id and by key: which blocks of which segments may hold what is asked for, and what is really there.
//!
//! A closed segment has a table beside it, made in the background by the owner; of the newest segment the same is kept in memory and carried on with each look-up. Where neither is there, the segment is read. Nothing is answered that was not compared with the event itself.

mod background;
mod collected;
mod table;

pub(crate) use background::Background;
pub(crate) use table::TableState;

use crate::filter::Filter;
use crate::format::Identity;
use crate::format::look_up::{Block, Kind, fingerprint};
use crate::history::SCAN_BYTES_MAX;
use crate::log::{End, Log};
use crate::scan::{Bounds, Found, Scanner, Stop};
use crate::segment::Segment;
use collected::{Collected, Halt};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use table::{Budget, Closed, KeptTable, NoTable};
use tidings_core::Envelope;
use tidings_core::broker::{BrokerError, LookUpBy, LookUpRequest, Page, Position, Recorded};
use tidings_core::event_id::DedupeKey;

/// Blocks read in one go, so that other tasks get their turn.
const BLOCKS_AT_ONCE: usize = 64;
/// Where everything is read, a scan counts as so many blocks.
const TURNS_OF_A_SCAN: usize = 32;

/// Looks events of a log up.
pub(crate) struct LookUps {
    log: Arc<Log>,
    /// Guards what is known of the newest segment: held while it is read on, so that this is done once.
    newest: Mutex<Option<Collected>>,
    /// Whether anything was looked up before. Who asks once is answered by reading the newest segment; who asks again, by what is known of it.
    asked: AtomicBool,
    budget: Budget,
}

/// What to do about a segment without a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutTable {
    /// Read it.
    Read,
    /// Make the table if this process owns the log, for it will be asked for again and again.
    Make,
}

/// Positions of one segment that are to be looked at, in order.
#[derive(Debug, PartialEq, Eq)]
enum Places {
    /// These blocks.
    Blocks(Vec<Range<u64>>),
    /// All of it.
    Everything(Range<u64>),
}

impl LookUps {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            newest: Mutex::new(None),
            asked: AtomicBool::new(false),
            budget: Budget::default(),
        }
    }

    /// Looks up a stretch.
    pub(crate) fn look_up(&self, request: &LookUpRequest<'_>) -> Result<Page, BrokerError> {
        let end = self.log.end()?;
        let segments = self.log.segments();
        check_kept(&segments, end, request.from)?;
        let (kind, text) = match request.by {
            LookUpBy::EventId(id) => (Kind::EventId, id),
            LookUpBy::Key(key) => (Kind::Key, key),
        };
        let prints = [fingerprint(self.log.number, kind, text)];
        let reads_newest = self.reads_newest(request.from, end);
        let mut visit = Visit {
            log: &self.log,
            filter: Filter::new(request.patterns),
            by: request.by,
            from: request.from.0,
            events_max: request.events_max,
            events: Vec::new(),
            turns: BLOCKS_AT_ONCE,
        };
        for (at, segment) in segments.iter().enumerate() {
            let next = end_of(&segments, at, end);
            if next <= visit.from {
                continue;
            }
            let places = if reads_newest && segment.first == end.segment {
                Places::Everything(segment.first..next)
            } else {
                self.places(segment, next, end, &prints, WithoutTable::Read)?
            };
            if let Some(going_on_at) = visit.all(places)? {
                return Ok(Page {
                    events: visit.events,
                    next: Position(going_on_at),
                    at_end: false,
                });
            }
            visit.from = visit.from.max(next);
        }
        Ok(Page {
            events: visit.events,
            next: Position(visit.from.max(end.visible)),
            at_end: true,
        })
    }

    /// The first event with the same dedupe key, for each of these.
    pub(crate) fn recorded(
        &self,
        envelopes: &[Envelope],
    ) -> Result<Vec<Option<Recorded>>, BrokerError> {
        let end = self.log.end()?;
        let segments = self.log.segments();
        let mut wanted = Wanted::of(self.log.number, envelopes);
        for (at, segment) in segments.iter().enumerate() {
            if wanted.is_all_found() {
                break;
            }
            let next = end_of(&segments, at, end);
            let prints = wanted.fingerprints();
            let places = self.places(segment, next, end, &prints, WithoutTable::Make);
            let looked = places.and_then(|places| match places {
                Places::Blocks(ranges) => ranges
                    .into_iter()
                    .try_for_each(|range| wanted.look_at(&self.log, range)),
                Places::Everything(range) => wanted.look_at(&self.log, range),
            });
            match looked {
                // Retention was faster: what is gone is not recorded any more.
                Err(BrokerError::Removed { .. }) => {}
                looked => looked?,
            }
        }
        Ok(wanted.found)
    }

    /// Whether the newest segment is just read: for the first look-up, and where a page of it goes on.
    fn reads_newest(&self, from: Position, end: End) -> bool {
        let is_first = !self.asked.swap(true, Ordering::Relaxed);
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.is_none() && (is_first || from.0 > end.segment)
    }

    /// Where in a segment there may be what one of the fingerprints is of.
    fn places(
        &self,
        segment: &Segment,
        next: u64,
        end: End,
        prints: &[u64],
        without: WithoutTable,
    ) -> Result<Places, BrokerError> {
        let closed = Closed {
            first: segment.first,
            next,
        };
        if segment.first == end.segment {
            return self.places_in_newest(closed, prints);
        }
        let mut numbers = Vec::new();
        let Some(kept) = self.table(segment, closed, prints.len(), without) else {
            return Ok(Places::Everything(closed.first..closed.next));
        };
        match kept.add_blocks_of(&self.log, closed, prints, &mut numbers) {
            Ok(()) => Ok(places(kept.table.blocks(), next, numbers)),
            Err(why) => {
                self.discard(segment, &why);
                Ok(Places::Everything(closed.first..closed.next))
            }
        }
    }

    fn places_in_newest(&self, closed: Closed, prints: &[u64]) -> Result<Places, BrokerError> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = newest
            .take()
            .filter(|known| known.segment() == closed.first);
        let known = newest.insert(known.unwrap_or_else(|| {
            Collected::new(Identity {
                log: self.log.number,
                segment: closed.first,
            })
        }));
        match known.read_to(&self.log, closed.next, &|| false) {
            Ok(()) => {}
            // It is read as a whole then, as long as it is the newest.
            Err(Halt::TooMany | Halt::Stopped) => {
                return Ok(Places::Everything(closed.first..closed.next));
            }
            Err(Halt::Failed(error)) => return Err(error),
        }
        let mut numbers = Vec::new();
        for &print in prints {
            known.add_blocks_of(print, &mut numbers);
        }
        Ok(places(known.blocks(), closed.next, numbers))
    }

    /// The table of a closed segment, if there is one that holds.
    fn table(
        &self,
        segment: &Segment,
        closed: Closed,
        prints: usize,
        without: WithoutTable,
    ) -> Option<Arc<KeptTable>> {
        let mut state = match without {
            WithoutTable::Make => segment
                .look_up
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            // Whoever makes the table now takes as long as reading the segment does.
            WithoutTable::Read => match segment.look_up.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            },
        };
        // So many that most buckets would be read anyway.
        let whole = prints >= BLOCKS_AT_ONCE;
        match &*state {
            TableState::Impossible => return None,
            TableState::Kept(kept) if !(whole && kept.may_grow()) => return Some(kept.clone()),
            TableState::Kept(_) | TableState::Unread => {}
        }
        let mut read = table::read(&self.log, closed, &self.budget, whole);
        if let Err(why) = &read {
            self.tell_wrong(closed, why);
            if without == WithoutTable::Make && self.log.owned {
                self.make(&mut state, closed, &|| false);
                if matches!(*state, TableState::Impossible) {
                    return None;
                }
                read = table::read(&self.log, closed, &self.budget, whole);
            }
        }
        let kept = Arc::new(read.ok()?);
        if !kept.is_passing() {
            *state = TableState::Kept(kept.clone());
        }
        Some(kept)
    }

    /// Whether there is a table of a segment that holds.
    fn has_table(&self, closed: Closed) -> bool {
        table::read(&self.log, closed, &self.budget, false).is_ok()
    }

    /// Makes the table of a closed segment.
    fn make(
        &self,
        state: &mut MutexGuard<'_, TableState>,
        closed: Closed,
        stop: &dyn Fn() -> bool,
    ) {
        **state = match table::make(&self.log, closed, stop) {
            Err(Halt::TooMany) => TableState::Impossible,
            Ok(()) | Err(Halt::Stopped) => TableState::Unread,
            // Only a hint that saves later look-ups the reading: an error changes nothing for anybody else.
            Err(Halt::Failed(error)) => {
                tracing::debug!(%error, segment = closed.first, "a look-up table was not made");
                TableState::Unread
            }
        };
    }

    /// Forgets a table that does not hold, and takes it away so that it is made anew.
    fn discard(&self, segment: &Segment, why: &NoTable) {
        let next = segment.first;
        self.tell_wrong(
            Closed {
                first: segment.first,
                next,
            },
            why,
        );
        let mut state = segment
            .look_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *state = TableState::Unread;
    }

    fn tell_wrong(&self, closed: Closed, why: &NoTable) {
        let NoTable::Wrong(reason) = why else { return };
        let path = self.log.folder.look_up(closed.first);
        tracing::warn!(path = %path.display(), reason, "a look-up table does not hold and is made anew");
        if self.log.owned
            && let Err(error) = self.log.folder.disk.remove(&path)
        {
            tracing::debug!(%error, path = %path.display(), "a look-up table that does not hold was left behind");
        }
    }
}

/// A look-up below the oldest position kept is an error, as reading there is.
fn check_kept(segments: &[Arc<Segment>], end: End, from: Position) -> Result<(), BrokerError> {
    let oldest = segments
        .first()
        .map_or(end.visible, |segment| segment.first);
    if from.0 < oldest {
        return Err(BrokerError::Removed {
            position: from,
            oldest: Position(oldest),
        });
    }
    Ok(())
}

/// Position behind the last event of a segment.
fn end_of(segments: &[Arc<Segment>], at: usize, end: End) -> u64 {
    segments.get(at + 1).map_or(end.visible, |next| next.first)
}

/// The ranges of blocks, and of those that may hold anything; neighbours as one.
fn places(blocks: &[Block], next: u64, mut numbers: Vec<usize>) -> Places {
    let suspects = blocks.iter().enumerate().filter(|(_, block)| block.suspect);
    numbers.extend(suspects.map(|(number, _)| number));
    numbers.sort_unstable();
    numbers.dedup();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for number in numbers {
        let Some(block) = blocks.get(number) else {
            continue;
        };
        let end = blocks.get(number + 1).map_or(next, |behind| behind.first);
        match ranges.last_mut().filter(|last| last.end == block.first) {
            Some(last) => last.end = end,
            None => ranges.push(block.first..end),
        }
    }
    Places::Blocks(ranges)
}

/// A look-up on its way through the places.
struct Visit<'a> {
    log: &'a Arc<Log>,
    filter: Filter,
    by: LookUpBy<'a>,
    /// Everything before this position was looked at.
    from: u64,
    events_max: usize,
    events: Vec<Recorded>,
    /// How much more is looked at before others have their turn.
    turns: usize,
}

impl Visit<'_> {
    /// Looks at the places of a segment; where to go on if the page ends before they do.
    fn all(&mut self, places: Places) -> Result<Option<u64>, BrokerError> {
        let (ranges, bytes_max) = match places {
            Places::Blocks(ranges) => (ranges, 1),
            Places::Everything(range) => (vec![range], SCAN_BYTES_MAX),
        };
        for range in ranges {
            if let Some(going_on_at) = self.look_at(range, bytes_max)? {
                return Ok(Some(going_on_at));
            }
        }
        Ok(None)
    }

    fn look_at(&mut self, range: Range<u64>, bytes_max: u64) -> Result<Option<u64>, BrokerError> {
        let first = range.start.max(self.from);
        let asked_from = self.from;
        let mut scanner = Scanner::new(self.log.clone(), first);
        while scanner.position() < range.end {
            if self.turns == 0 {
                return Ok(Some(scanner.position()));
            }
            let (by, events) = (self.by, &mut self.events);
            let bounds = Bounds {
                events_max: usize::MAX,
                bytes_max,
            };
            let stopped = scanner.scan_with(&mut self.filter, bounds, &mut |found| {
                if found.position < range.end && is_asked_for(by, &found)? {
                    events.push(found.recorded()?);
                }
                Ok(())
            })?;
            if self.events.len() >= self.events_max {
                self.events.truncate(self.events_max);
                let last = self.events.last();
                return Ok(Some(last.map_or(asked_from, |last| last.position.next().0)));
            }
            match stopped {
                Stop::AtEnd => break,
                Stop::Full | Stop::Paused => {}
                // Told when it is asked for from there, so that what stands before it is not withheld.
                Stop::Damage(BrokerError::Damaged { from, .. }) if from.0 > asked_from => {
                    return Ok(Some(from.0));
                }
                Stop::Damage(damage) => return Err(damage),
            }
            let cost = if bytes_max > 1 { TURNS_OF_A_SCAN } else { 1 };
            self.turns = self.turns.saturating_sub(cost);
        }
        self.from = self.from.max(range.end);
        Ok(None)
    }
}

/// Whether an event is what is looked up: a table says only where it may be.
fn is_asked_for(
    by: LookUpBy<'_>,
    found: &Found<'_>,
) -> Result<bool, crate::format::fields::Malformed> {
    let names = found.names()?;
    Ok(match by {
        LookUpBy::EventId(id) => names.event_id == id,
        LookUpBy::Key(key) => {
            names.aggregate_id == Some(key) || names.other_key().as_deref() == Some(key)
        }
    })
}

/// Events whose like is looked for.
struct Wanted<'a> {
    envelopes: &'a [Envelope],
    log: u64,
    /// Fingerprint of the id, and place of the event, of those that are not found yet; sorted, which is also the order of the buckets.
    missing: Vec<(u64, usize)>,
    found: Vec<Option<Recorded>>,
}

impl<'a> Wanted<'a> {
    fn of(log: u64, envelopes: &'a [Envelope]) -> Self {
        let prints = envelopes
            .iter()
            .map(|envelope| fingerprint(log, Kind::EventId, envelope.event_id()));
        let mut missing: Vec<(u64, usize)> = prints.zip(0..).collect();
        missing.sort_unstable();
        Self {
            envelopes,
            log,
            missing,
            found: vec![None; envelopes.len()],
        }
    }

    fn is_all_found(&self) -> bool {
        self.missing.is_empty()
    }

    fn fingerprints(&self) -> Vec<u64> {
        self.missing.iter().map(|(print, _)| *print).collect()
    }

    /// Looks at the events of a range. What is damaged is not there any more.
    fn look_at(&mut self, log: &Arc<Log>, range: Range<u64>) -> Result<(), BrokerError> {
        let mut scanner = Scanner::new(log.clone(), range.start);
        let mut filter = Filter::all();
        let bounds = Bounds {
            events_max: usize::MAX,
            bytes_max: 1,
        };
        while scanner.position() < range.end && !self.is_all_found() {
            let stopped = scanner.scan_with(&mut filter, bounds, &mut |found| {
                if found.position >= range.end {
                    return Ok(());
                }
                let print = fingerprint(self.log, Kind::EventId, found.names()?.event_id);
                let at = self.missing.partition_point(|known| known.0 < print);
                if self.missing.get(at).is_some_and(|known| known.0 == print) {
                    self.take(print, &found.recorded()?);
                }
                Ok(())
            })?;
            if matches!(stopped, Stop::AtEnd) {
                break;
            }
        }
        self.missing
            .retain(|(_, place)| self.found.get(*place).is_some_and(Option::is_none));
        Ok(())
    }

    /// Keeps an event for everyone who looks for its like. A dedupe key takes time to make, so that it is made where the ids are the same.
    fn take(&mut self, print: u64, recorded: &Recorded) {
        let event_id = recorded.envelope.event_id();
        let at = self.missing.partition_point(|known| known.0 < print);
        let same = self.missing.get(at..).unwrap_or_default().iter();
        for (_, place) in same.take_while(|known| known.0 == print) {
            let Some(wanted) = self.envelopes.get(*place) else {
                continue;
            };
            if let Some(answer) = self.found.get_mut(*place)
                && answer.is_none()
                && wanted.event_id() == event_id
                && DedupeKey::of(wanted) == DedupeKey::of(&recorded.envelope)
            {
                *answer = Some(recorded.clone());
            }
        }
    }
}

//! The floor: an id below which nothing unsent can be, so that reads do not walk over what was deleted and is still held by an old snapshot.
//!
//! It is a matter of speed only, and only where the database tells which transactions are open. It is proven by two reads that leave nothing out: the first
//! sees the lowest unsent id, the second comes after every transaction that was open at the first has ended, and sees it again.

use super::read::ReadKind;
use super::{Effect, Found, RowId, Step, Told};
use std::time::Duration;

/// Rows of a sweep: enough to count what came late.
pub(super) const SWEEP_ROWS: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Candidate {
    row: RowId,
    /// The first transaction that had not begun.
    first_future: u64,
}

/// The floor and the next candidate for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Floor {
    pub(super) proven: Option<RowId>,
    candidate: Option<Candidate>,
    /// The largest id seen.
    pub(super) highest: Option<RowId>,
    /// Whether the database tells which transactions are open.
    possible: bool,
    /// Whether something was settled since the last look.
    moved: bool,
    pub(super) look_at: Duration,
    pub(super) sweep_at: Duration,
}

impl Floor {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            proven: None,
            candidate: None,
            highest: None,
            possible: false,
            moved: false,
            look_at: now,
            sweep_at: now,
        }
    }

    pub(super) fn settled(&mut self) {
        self.moved = true;
    }

    pub(super) fn saw(&mut self, found: &Found) {
        self.possible = found.horizon.is_some();
        if self.possible {
            let highest = found.rows.iter().map(|row| row.id).max();
            self.highest = self.highest.max(highest);
        }
    }

    /// When to read for the floor's sake, and how.
    pub(super) fn due(&self) -> Option<(Duration, ReadKind)> {
        if !self.possible {
            return None;
        }
        let sweep = self.proven.map(|_| (self.sweep_at, ReadKind::Sweep));
        let look =
            (self.moved || self.candidate.is_some()).then_some((self.look_at, ReadKind::Floor));
        [sweep, look]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }
}

impl Step {
    pub(super) fn plan_floor(&mut self, now: Duration, kind: ReadKind) {
        match kind {
            ReadKind::Work => {}
            ReadKind::Floor => {
                self.floor.moved = false;
                self.floor.look_at = now + self.bounds.floor_interval;
            }
            ReadKind::Sweep => self.floor.sweep_at = now + self.bounds.sweep_interval,
        }
    }

    /// A read that left nothing out was answered.
    pub(super) fn floor_seen(
        &mut self,
        now: Duration,
        kind: ReadKind,
        found: &Found,
        effects: &mut Vec<Effect>,
    ) {
        let lowest = found.rows.iter().map(|row| row.id).min();
        let below = |row: RowId| match lowest {
            Some(lowest) => lowest.0.checked_sub(1).map(|below| row.min(RowId(below))),
            None => Some(row),
        };
        if kind == ReadKind::Sweep
            && let Some(floor) = self.floor.proven
        {
            let late = found.rows.iter().filter(|row| row.id <= floor).count();
            if late > 0 {
                effects.push(Effect::Tell(Told::LateRows(late)));
                self.floor.proven = below(floor);
                self.floor.candidate = None;
                self.read_at = now;
            }
        }
        let Some(horizon) = found.horizon else {
            self.floor.candidate = None;
            return;
        };
        if let Some(candidate) = self.floor.candidate
            && horizon.oldest_open >= candidate.first_future
        {
            self.floor.proven = self.floor.proven.max(below(candidate.row));
            self.floor.candidate = None;
        }
        if self.floor.candidate.is_none()
            && let Some(row) = lowest.or(self.floor.highest).and_then(below)
            && Some(row) > self.floor.proven
        {
            self.floor.candidate = Some(Candidate {
                row,
                first_future: horizon.first_future,
            });
        }
    }
}

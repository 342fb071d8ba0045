//! Which lanes are parked: their deliveries wait in a store, and what arrives for them is put behind. A pure step machine beside the lane table, under the same lock.
//!
//! A lane is parked from the moment its first delivery is on its way to the store until no row of it is left there and none is on its way. What is told here happens in one order,
//! that of the lock; the store is told in the same order.

mod states;

use states::State;
use std::collections::HashMap;
use std::time::Duration;
use tidings_core::store::{LaneId, ParkedLane};

/// What a lane that has rows in the store is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its rows wait in the store for their time or for a person.
    Resting,
    /// Its oldest rows are being fetched.
    Fetching,
    /// Rows are in the lane table, so many of them; one after the other they are handled.
    Working(usize),
    /// What was fetched is handled; the store is being told.
    Emptying,
}

#[derive(Debug)]
struct Lane {
    phase: Phase,
    /// Rows in the store and on their way there, as far as this process knows.
    rows: u64,
    /// Rows on their way to the store.
    coming: u64,
    /// Changes of its rows that the store is being told.
    changing: u64,
    /// When something about it last changed here: what the store said before is out of date.
    touched: u64,
    /// When the store last said that it has rows: that it had none before is out of date.
    told: u64,
    /// Whether its head is held by a dead letter, as far as this process knows.
    held: bool,
    /// Whether rows of it were parked elsewhere: by an earlier run or by another instance.
    inherited: bool,
    /// Whether it may have rows that others parked, beside those that are counted: it is not forgotten before the store was looked at.
    unsure: bool,
    /// When its oldest row was parked, by the clock of this process, which may have begun later: in microseconds, so that it can be before its zero.
    since: i64,
}

impl Lane {
    /// Goes over into another phase, or with `None` out of the table.
    fn go(&mut self, to: Option<Phase>) {
        let (before, after) = (State::of(Some(self.phase)), State::of(to));
        debug_assert!(
            states::is_drawn(before, after),
            "no way leads from {before} to {after}: draw it in states.rs"
        );
        self.phase = to.unwrap_or(self.phase);
    }

    /// Whether nothing of it was on its way since a turn.
    fn is_at_rest_since(&self, turn: u64) -> bool {
        self.phase == Phase::Resting
            && self.coming == 0
            && self.changing == 0
            && self.is_untouched_since(turn)
    }

    /// Whether nothing was learnt of it since a turn.
    fn is_untouched_since(&self, turn: u64) -> bool {
        self.touched <= turn && self.told <= turn
    }
}

/// The parked lanes of one group.
#[derive(Debug, Default)]
pub(crate) struct ParkedLanes {
    lanes: HashMap<LaneId, Lane>,
    rows: u64,
    /// Lanes that are not resting.
    busy: usize,
    held: usize,
    turn: u64,
    /// When a lane was last forgotten.
    forgot: u64,
    /// The time that was told last, in microseconds.
    now: i64,
}

impl ParkedLanes {
    /// Whether nothing is parked.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Lanes with rows.
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Rows in the store and on their way there.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows of one lane.
    pub(crate) fn rows_of(&self, lane: LaneId) -> u64 {
        self.lanes.get(&lane).map_or(0, |lane| lane.rows)
    }

    /// Whether a lane is parked, as far as this process knows: what arrives for it is parked behind, unless it follows deliveries that are older than the rows.
    pub(crate) fn has(&self, lane: LaneId) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// Lanes that are being worked on, or whose rows are being fetched.
    pub(crate) fn busy(&self) -> usize {
        self.busy
    }

    /// Lanes that are held by a dead letter.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// How long ago the oldest row was parked, as far as this process knows: what left a lane that has others is noticed when the store is asked as a whole.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let since = self.lanes.values().map(|lane| lane.since).min()?;
        let age = u64::try_from(self.now.saturating_sub(since)).unwrap_or(0);
        Some(Duration::from_micros(age))
    }

    /// It is so late now, by the clock of this process.
    pub(crate) fn set_now(&mut self, now: Duration) {
        self.now = micros(now);
    }

    /// Whether rows of a lane were parked by somebody else.
    pub(crate) fn is_inherited(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_some_and(|lane| lane.inherited)
    }

    /// Deliveries of a lane are on their way to the store; the lane is parked from now on.
    pub(crate) fn park(&mut self, id: LaneId, count: u64) {
        self.turn += 1;
        self.rows += count;
        let now = self.now;
        let lane = self.lanes.entry(id).or_insert(Lane {
            phase: Phase::Resting,
            rows: 0,
            coming: 0,
            changing: 0,
            touched: 0,
            told: 0,
            held: false,
            inherited: false,
            unsure: false,
            since: now,
        });
        lane.rows += count;
        lane.coming += count;
        lane.touched = self.turn;
    }

    /// So many of them are there, or will not come.
    pub(crate) fn arrived(&mut self, id: LaneId, count: u64) {
        self.turn += 1;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.coming = lane.coming.saturating_sub(count);
            lane.touched = self.turn;
        }
    }

    /// Deliveries that were on their way will not come: their scope was taken away.
    pub(crate) fn withdrawn(&mut self, id: LaneId, count: u64) {
        self.arrived(id, count);
        self.left(id, count);
        self.forget_if_empty(id);
    }

    /// Whether a lane is held by a dead letter from now on.
    pub(crate) fn set_held(&mut self, id: LaneId, held: bool) {
        if let Some(lane) = self.lanes.get_mut(&id)
            && lane.held != held
        {
            lane.held = held;
            if held {
                self.held += 1;
            } else {
                self.held -= 1;
            }
        }
    }

    /// The store said at a turn that the head of a lane is due; whether its rows are to be fetched now.
    pub(crate) fn due(&mut self, told: &ParkedLane, turn: u64) -> bool {
        if let Some(lane) = self.lanes.get_mut(&told.lane) {
            if lane.phase != Phase::Resting || lane.changing > 0 || lane.touched > turn {
                return false;
            }
            lane.go(Some(Phase::Fetching));
            self.busy += 1;
            return true;
        }
        self.rows += told.rows;
        self.busy += 1;
        let lane = Lane {
            phase: Phase::Fetching,
            rows: told.rows,
            coming: 0,
            changing: 0,
            touched: turn,
            told: turn,
            held: false,
            inherited: true,
            unsure: false,
            since: self.now,
        };
        self.lanes.insert(told.lane, lane);
        true
    }

    /// So many of the rows that were fetched for a lane go into the lane table now; `false` if they must not: something older was put off meanwhile.
    pub(crate) fn fetched(&mut self, id: LaneId, count: usize) -> bool {
        let lane = self.lanes.get_mut(&id);
        let Some(lane) = lane.filter(|lane| lane.phase == Phase::Fetching) else {
            return false;
        };
        lane.go(Some(Phase::Working(count)));
        self.set_held(id, false);
        true
    }

    /// Nothing of what was fetched for a lane is to be handled now; `is_empty` says that the store had no row at a turn.
    pub(crate) fn fetched_nothing(&mut self, id: LaneId, is_empty: bool, turn: u64) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        if lane.phase != Phase::Fetching {
            return;
        }
        // A person took its rows away, unless something came in the meantime; or those there are not due.
        let is_gone = is_empty && lane.coming == 0 && lane.is_untouched_since(turn);
        if is_gone {
            self.forget(id);
        } else {
            self.rest(id);
        }
    }

    /// A row in the lane table was handled or given up, and is being taken out of the store.
    pub(crate) fn leaves(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        lane.changing += 1;
        if let Phase::Working(left) = lane.phase {
            lane.go(Some(match left {
                0 | 1 => Phase::Emptying,
                _ => Phase::Working(left - 1),
            }));
        }
    }

    /// The head of a lane is being put off, or holds it: nothing of it is in the lane table any more.
    pub(crate) fn put_back(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        lane.changing += 1;
        if let Phase::Working(_) = lane.phase {
            self.rest(id);
        }
    }

    /// What was fetched of a lane is not handled now: something older is put off first.
    pub(crate) fn drop_fetched(&mut self, id: LaneId) {
        self.rest(id);
    }

    /// A change of a row of a lane came to nothing in the store: others know more of its rows.
    pub(crate) fn doubt(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.unsure = true;
        }
    }

    /// The store was told of a change of a row of a lane, which is out of the store if it `left`. Whether the lane may have others that are due.
    pub(crate) fn changed(&mut self, id: LaneId, left: bool) -> bool {
        self.turn += 1;
        if left {
            self.left(id, 1);
        }
        let Some(lane) = self.lanes.get_mut(&id) else {
            return false;
        };
        lane.changing = lane.changing.saturating_sub(1);
        lane.touched = self.turn;
        if lane.phase != Phase::Emptying || lane.changing > 0 {
            return false;
        }
        let is_empty = lane.rows == 0 && lane.coming == 0 && !lane.unsure;
        if is_empty {
            self.forget(id);
        } else {
            self.rest(id);
        }
        !is_empty
    }

    /// What can be compared with [`reconcile`](Self::reconcile) later.
    pub(crate) fn turn(&self) -> u64 {
        self.turn
    }

    /// What the store knew at a turn: lanes that are unknown here are parked, and resting ones that it does not know are not. Answers those that may have been free by now.
    pub(crate) fn reconcile(&mut self, told: &[ParkedLane], turn: u64) -> Vec<LaneId> {
        let forgot_since = self.forgot > turn;
        let mut doubtful = Vec::new();
        let known: HashMap<LaneId, u64> = told.iter().map(|one| (one.lane, one.rows)).collect();
        let stale: Vec<LaneId> = self
            .lanes
            .iter()
            .filter(|(id, lane)| lane.is_at_rest_since(turn) && !known.contains_key(id))
            .map(|(id, _)| *id)
            .collect();
        for id in stale {
            self.forget(id);
        }
        for one in told {
            match self.lanes.get_mut(&one.lane) {
                Some(lane) if lane.is_at_rest_since(turn) => {
                    self.rows = self.rows - lane.rows + one.rows;
                    lane.inherited |= one.rows > lane.rows;
                    lane.rows = one.rows;
                    lane.unsure = false;
                    self.learn(one);
                }
                // Which of the rows that it told are those on their way here, and which somebody else's, cannot be said.
                Some(lane) => {
                    lane.unsure = true;
                    self.learn_rows(one.lane);
                }
                None => {
                    self.park(one.lane, one.rows);
                    self.arrived(one.lane, one.rows);
                    if let Some(lane) = self.lanes.get_mut(&one.lane) {
                        lane.inherited = true;
                    }
                    self.learn(one);
                    if forgot_since {
                        doubtful.push(one.lane);
                    }
                }
            }
        }
        doubtful
    }

    /// The store has rows of a lane, whatever it said before.
    fn learn_rows(&mut self, id: LaneId) {
        self.turn += 1;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.told = self.turn;
        }
    }

    /// Takes over what only the store knows of a lane.
    fn learn(&mut self, told: &ParkedLane) {
        self.learn_rows(told.lane);
        let now = self.now;
        if let (Some(lane), Some(oldest)) = (self.lanes.get_mut(&told.lane), told.oldest) {
            lane.since = now.saturating_sub(micros(oldest));
        }
        self.set_held(told.lane, told.held);
    }

    fn left(&mut self, id: LaneId, count: u64) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            let count = count.min(lane.rows);
            lane.rows -= count;
            self.rows -= count;
        }
    }

    fn rest(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id)
            && lane.phase != Phase::Resting
        {
            lane.go(Some(Phase::Resting));
            self.busy -= 1;
        }
    }

    /// Forgets a lane without rows.
    fn forget_if_empty(&mut self, id: LaneId) {
        let is_empty = self.lanes.get(&id).is_some_and(|lane| {
            let is_still = lane.coming == 0 && lane.changing == 0 && !lane.unsure;
            lane.rows == 0 && is_still && lane.phase == Phase::Resting
        });
        if is_empty {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: LaneId) {
        self.set_held(id, false);
        if let Some(mut lane) = self.lanes.remove(&id) {
            self.busy -= usize::from(lane.phase != Phase::Resting);
            lane.go(None);
            self.rows -= lane.rows;
            self.turn += 1;
            self.forgot = self.turn;
        }
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

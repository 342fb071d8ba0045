//! Lanes: deliveries of one key one after the other, of different keys at the same time. A pure step machine: it waits for nothing and reads no clock.
//!
//! What happens is told to the table (delivered, finished, failed, a time has come, paused); what is to be done is read from its answers (start these, try
//! again then, give up). The shell around it is in `pipeline.rs`.

use super::retry::RetryPolicy;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;
use tidings_core::extract::HandlerErrorKind;

/// Names a lane: the hash of a key, or a number of its own for an event without one. Two keys with one hash share a lane, which costs time and breaks nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneKey(pub(crate) u64);

/// Bounds of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneLimits {
    /// Calls that run at the same time.
    pub(crate) parallel: usize,
    /// Items held: queued, running and waiting together.
    pub(crate) held_max: usize,
}

/// How items of one class are handed to calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallSize {
    /// One item a call.
    One,
    /// Up to so many items a call, each of another lane.
    UpTo(usize),
}

/// An item that is being handled.
#[derive(Debug)]
pub(crate) struct Running<T> {
    /// Its lane.
    pub(crate) lane: LaneKey,
    /// Which class of calls it belongs to.
    pub(crate) class: usize,
    /// Which attempt this is, from 1.
    pub(crate) attempt: u32,
    /// What was delivered.
    pub(crate) item: T,
}

/// A call to start; it holds one of the `parallel` places until [`LaneTable::call_ended`].
#[derive(Debug)]
pub(crate) enum Call<T> {
    /// One item.
    One(Running<T>),
    /// Several items, each of another lane.
    Many(Vec<Running<T>>),
}

/// What follows from a failure.
#[derive(Debug)]
pub(crate) enum Verdict<T> {
    /// The item waits at the head of its lane.
    Retry {
        /// For so long.
        delay: Duration,
    },
    /// Given up: it runs on until [`LaneTable::finished`], so that what is behind it waits until the dead letter is recorded.
    GiveUp(Running<T>),
}

#[derive(Debug)]
struct Entry<T> {
    class: usize,
    failures: u32,
    item: T,
}

#[derive(Debug)]
enum Head<T> {
    Ready(Entry<T>),
    Waiting { until: Duration, entry: Entry<T> },
    Running,
}

#[derive(Debug)]
struct Lane<T> {
    head: Head<T>,
    /// Allocates nothing while empty, which it is for most lanes.
    behind: VecDeque<Entry<T>>,
}

/// The lanes of one group.
#[derive(Debug)]
pub(crate) struct LaneTable<T> {
    limits: LaneLimits,
    retry: RetryPolicy,
    lanes: HashMap<LaneKey, Lane<T>, BuildHasherDefault<PassThrough>>,
    /// For each class, the lanes whose head may start, oldest first.
    ready: Vec<(CallSize, VecDeque<LaneKey>)>,
    ready_lanes: usize,
    class_next: usize,
    timers: BinaryHeap<Reverse<(Duration, LaneKey)>>,
    held: usize,
    calls: usize,
    running: usize,
    paused: bool,
}

impl<T> LaneTable<T> {
    /// An empty table with one entry of `classes` for each class of calls.
    pub(crate) fn new(limits: LaneLimits, retry: RetryPolicy, classes: &[CallSize]) -> Self {
        Self {
            limits,
            retry,
            lanes: HashMap::default(),
            ready: classes
                .iter()
                .map(|size| (*size, VecDeque::new()))
                .collect(),
            ready_lanes: 0,
            class_next: 0,
            timers: BinaryHeap::new(),
            held: 0,
            calls: 0,
            running: 0,
            paused: false,
        }
    }

    /// How many items may be delivered now.
    pub(crate) fn room(&self) -> usize {
        self.limits.held_max.saturating_sub(self.held)
    }

    /// Items held: queued, running and waiting together.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Items that are being handled.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Lanes whose head could start.
    pub(crate) fn ready_lanes(&self) -> usize {
        self.ready_lanes
    }

    /// Whether a call could start now.
    pub(crate) fn may_start(&self) -> bool {
        !self.paused && self.calls < self.limits.parallel && self.ready_lanes > 0
    }

    /// Starts nothing while paused; what runs goes on.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// An item arrived. The caller keeps to [`room`](Self::room).
    pub(crate) fn deliver(&mut self, lane: LaneKey, class: usize, item: T) {
        let entry = Entry {
            class,
            failures: 0,
            item,
        };
        self.held += 1;
        match self.lanes.entry(lane) {
            std::collections::hash_map::Entry::Occupied(mut known) => {
                known.get_mut().behind.push_back(entry);
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(Lane {
                    head: Head::Ready(entry),
                    behind: VecDeque::new(),
                });
                self.push_ready(class, lane);
            }
        }
    }

    /// Takes calls to start, oldest lanes first and the classes in turn, until `items_max` items are taken.
    pub(crate) fn start(&mut self, items_max: usize, calls: &mut Vec<Call<T>>) {
        let mut items = 0;
        while items < items_max && self.may_start() {
            let Some((class, size)) = self.next_class() else {
                return;
            };
            let call = match size {
                CallSize::One => self.take_ready(class).map(Call::One),
                CallSize::UpTo(count) => {
                    let mut taken = Vec::new();
                    while taken.len() < count.max(1) {
                        let Some(running) = self.take_ready(class) else {
                            break;
                        };
                        taken.push(running);
                    }
                    (!taken.is_empty()).then_some(Call::Many(taken))
                }
            };
            if let Some(call) = call {
                items += match &call {
                    Call::One(_) => 1,
                    Call::Many(taken) => taken.len(),
                };
                self.calls += 1;
                calls.push(call);
            }
        }
    }

    /// The running item of a lane is done with, well or not; the next one of the lane may start.
    pub(crate) fn finished(&mut self, lane: LaneKey) {
        self.running = self.running.saturating_sub(1);
        self.held = self.held.saturating_sub(1);
        self.advance(lane);
    }

    /// Handling an item failed at the time `now`; `random` are bits for the jitter.
    pub(crate) fn failed(
        &mut self,
        running: Running<T>,
        kind: HandlerErrorKind,
        now: Duration,
        random: u64,
    ) -> Verdict<T> {
        let Some(delay) = self.retry.delay(running.attempt, kind, random) else {
            return Verdict::GiveUp(running);
        };
        let until = now.saturating_add(delay);
        let entry = Entry {
            class: running.class,
            failures: running.attempt,
            item: running.item,
        };
        self.running = self.running.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(&running.lane) {
            lane.head = Head::Waiting { until, entry };
            self.timers.push(Reverse((until, running.lane)));
        }
        Verdict::Retry { delay }
    }

    /// A call has returned; its place is free.
    pub(crate) fn call_ended(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    /// When the next waiting lane is to go on.
    pub(crate) fn due_next(&self) -> Option<Duration> {
        self.timers.peek().map(|Reverse((until, _))| *until)
    }

    /// The time is now `now`: lanes that have waited long enough may start.
    pub(crate) fn advance_to(&mut self, now: Duration) {
        while let Some(Reverse((until, key))) = self.timers.peek().copied()
            && until <= now
        {
            self.timers.pop();
            let Some(lane) = self.lanes.get_mut(&key) else {
                continue;
            };
            // A timer may be left over from an item that was withdrawn.
            let current = matches!(&lane.head, Head::Waiting { until: set, .. } if *set == until);
            if !current {
                continue;
            }
            if let Head::Waiting { entry, .. } = std::mem::replace(&mut lane.head, Head::Running) {
                let class = entry.class;
                lane.head = Head::Ready(entry);
                self.push_ready(class, key);
            }
        }
    }

    /// Takes out every item that is not running and that `wanted` names; the rest keeps its order.
    pub(crate) fn withdraw(&mut self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut withdrawn = Vec::new();
        let keys: Vec<LaneKey> = self.lanes.keys().copied().collect();
        for key in keys {
            let Some(lane) = self.lanes.get_mut(&key) else {
                continue;
            };
            for entry in std::mem::take(&mut lane.behind) {
                if wanted(&entry.item) {
                    withdrawn.push(entry.item);
                } else {
                    lane.behind.push_back(entry);
                }
            }
            let head_goes = match &lane.head {
                Head::Ready(entry) | Head::Waiting { entry, .. } => wanted(&entry.item),
                Head::Running => false,
            };
            if !head_goes {
                continue;
            }
            match std::mem::replace(&mut lane.head, Head::Running) {
                Head::Ready(entry) => {
                    self.unready(entry.class, key);
                    withdrawn.push(entry.item);
                }
                Head::Waiting { entry, .. } => withdrawn.push(entry.item),
                Head::Running => {}
            }
            self.advance(key);
        }
        self.held = self.held.saturating_sub(withdrawn.len());
        withdrawn
    }

    /// Makes the next item of a lane its head, or forgets the lane.
    fn advance(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get_mut(&key) else {
            return;
        };
        match lane.behind.pop_front() {
            None => {
                self.lanes.remove(&key);
            }
            Some(entry) => {
                let class = entry.class;
                lane.head = Head::Ready(entry);
                self.push_ready(class, key);
            }
        }
    }

    fn push_ready(&mut self, class: usize, key: LaneKey) {
        if let Some((_, queue)) = self.ready.get_mut(class) {
            queue.push_back(key);
            self.ready_lanes += 1;
        }
    }

    fn unready(&mut self, class: usize, key: LaneKey) {
        if let Some((_, queue)) = self.ready.get_mut(class) {
            let before = queue.len();
            queue.retain(|other| *other != key);
            self.ready_lanes -= before - queue.len();
        }
    }

    /// The next class, in turn, that has a ready lane.
    fn next_class(&mut self) -> Option<(usize, CallSize)> {
        let count = self.ready.len();
        for step in 0..count {
            let class = (self.class_next + step) % count;
            if let Some((size, queue)) = self.ready.get(class)
                && !queue.is_empty()
            {
                let size = *size;
                self.class_next = class + 1;
                return Some((class, size));
            }
        }
        None
    }

    fn take_ready(&mut self, class: usize) -> Option<Running<T>> {
        let (_, queue) = self.ready.get_mut(class)?;
        let key = queue.pop_front()?;
        self.ready_lanes -= 1;
        let lane = self.lanes.get_mut(&key)?;
        match std::mem::replace(&mut lane.head, Head::Running) {
            Head::Ready(entry) => {
                self.running += 1;
                Some(Running {
                    lane: key,
                    class,
                    attempt: entry.failures.saturating_add(1),
                    item: entry.item,
                })
            }
            // A lane in a ready queue has a ready head; anything else is put back untouched.
            other => {
                lane.head = other;
                None
            }
        }
    }
}

/// Lane keys are hashes already.
#[derive(Default)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;

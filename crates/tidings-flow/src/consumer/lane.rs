//! Lanes: deliveries of one key one after the other, of different keys at the same time. A pure step machine: it waits for nothing and reads no clock.
//!
//! What happens is told to the table (delivered, finished, to be tried again, a time has come, paused); what is to be done is read from its answers (start
//! these). The shell around it is in `pipeline.rs`; which lanes are parked in a store is known to `parking.rs`.

mod probe;

pub(crate) use probe::Forgiven;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

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

impl<T> Call<T> {
    /// Its items.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(taken) => taken.len(),
        }
    }
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
    /// Its failure is being noted in a store; it is tried again then, and not before that is done.
    Noting {
        until: Duration,
        entry: Entry<T>,
    },
    Waiting {
        until: Duration,
        entry: Entry<T>,
    },
    /// It is being handled; where it came from.
    Running(usize),
}

/// Stands for where an item came from while it is on its way from one state into another.
const NOWHERE: usize = usize::MAX;

#[derive(Debug)]
struct Lane<T> {
    key: LaneKey,
    head: Head<T>,
    /// Allocates nothing while empty, which it is for most lanes.
    behind: VecDeque<Entry<T>>,
}

/// The lanes of one group.
#[derive(Debug)]
pub(crate) struct LaneTable<T> {
    limits: LaneLimits,
    /// Where an item came from.
    source_of: fn(&T) -> usize,
    /// Where the lane of a key is. Short entries, because keys lie scattered over it.
    places: HashMap<LaneKey, usize, BuildHasherDefault<PassThrough>>,
    /// The lanes. A free place is taken again at once, so that what is worked on lies close together and stays in the processor's caches.
    lanes: Vec<Lane<T>>,
    /// Places in `lanes` that no key has, the one freed last at the end.
    free: Vec<usize>,
    /// For each class, the places of lanes whose head may start, oldest first.
    ready: Vec<(CallSize, VecDeque<usize>)>,
    ready_lanes: usize,
    class_next: usize,
    timers: BinaryHeap<Reverse<(Duration, LaneKey)>>,
    held: usize,
    calls: usize,
    running: usize,
    paused: bool,
    rationed: bool,
}

impl<T> LaneTable<T> {
    /// An empty table with one entry of `classes` for each class of calls.
    pub(crate) fn new(
        limits: LaneLimits,
        classes: &[CallSize],
        source_of: fn(&T) -> usize,
    ) -> Self {
        Self {
            limits,
            source_of,
            places: HashMap::default(),
            lanes: Vec::new(),
            free: Vec::new(),
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
            rationed: false,
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

    /// Whether a lane has an item that came from there, be it at work or not.
    pub(crate) fn has_from(&self, lane: LaneKey, source: usize) -> bool {
        let place = self.places.get(&lane);
        let Some(lane) = place.and_then(|place| self.lanes.get(*place)) else {
            return false;
        };
        let at_head = match &lane.head {
            Head::Running(source) => *source,
            Head::Ready(entry) | Head::Noting { entry, .. } | Head::Waiting { entry, .. } => {
                (self.source_of)(&entry.item)
            }
        };
        let mut behind = lane.behind.iter();
        at_head == source || behind.any(|entry| (self.source_of)(&entry.item) == source)
    }

    /// Whether a call could start now.
    pub(crate) fn may_start(&self) -> bool {
        !self.paused && !self.rationed && self.calls < self.limits.parallel && self.ready_lanes > 0
    }

    /// Starts nothing while paused; what runs goes on.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Starts nothing while the group has started as much as it may; what runs goes on.
    pub(crate) fn set_rationed(&mut self, rationed: bool) {
        self.rationed = rationed;
    }

    /// An item arrived that failed so often before. The caller keeps to [`room`](Self::room).
    pub(crate) fn deliver(&mut self, lane: LaneKey, class: usize, failures: u32, item: T) {
        let entry = Entry {
            class,
            failures,
            item,
        };
        self.held += 1;
        if let Some(known) = self.lane_mut(lane) {
            known.behind.push_back(entry);
            return;
        }
        self.open(lane, entry);
    }

    /// Older items arrived, each with its class and how often it failed before: they go ahead of everything in their lane that was not begun.
    pub(crate) fn deliver_ahead(
        &mut self,
        lane: LaneKey,
        items: impl DoubleEndedIterator<Item = (usize, u32, T)>,
    ) {
        let mut older = VecDeque::new();
        for (class, failures, item) in items {
            older.push_back(Entry {
                class,
                failures,
                item,
            });
        }
        self.held += older.len();
        let Some((place, known)) = self.place_of(lane) else {
            if let Some(first) = older.pop_front() {
                self.open(lane, first);
                if let Some(opened) = self.lane_mut(lane) {
                    opened.behind = older;
                }
            }
            return;
        };
        let begun = !matches!(&known.head, Head::Ready(entry) if entry.failures == 0);
        if !begun
            && let Some(first) = older.pop_front()
            && let Head::Ready(entry) = std::mem::replace(&mut known.head, Head::Running(NOWHERE))
        {
            let (class_before, class) = (entry.class, first.class);
            known.head = Head::Ready(first);
            known.behind.push_front(entry);
            for entry in older.into_iter().rev() {
                known.behind.push_front(entry);
            }
            if class_before != class {
                self.unready(class_before, place);
                self.push_ready(class, place);
            }
            return;
        }
        for entry in older.into_iter().rev() {
            known.behind.push_front(entry);
        }
    }

    /// A lane that was empty begins with an item.
    fn open(&mut self, lane: LaneKey, entry: Entry<T>) {
        let class = entry.class;
        let fresh = Lane {
            key: lane,
            head: Head::Ready(entry),
            behind: VecDeque::new(),
        };
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(free) = self.lanes.get_mut(place) {
                    *free = fresh;
                }
                place
            }
            None => {
                self.lanes.push(fresh);
                self.lanes.len() - 1
            }
        };
        self.places.insert(lane, place);
        self.push_ready(class, place);
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
                items += call.len();
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

    /// A running item failed and is tried again then, at the head of its lane. Unless that is `noted` already, it waits for [`noted`](Self::noted) as well.
    pub(crate) fn wait(&mut self, running: Running<T>, until: Duration, noted: bool) {
        let entry = Entry {
            class: running.class,
            failures: running.attempt,
            item: running.item,
        };
        self.running = self.running.saturating_sub(1);
        let Some(lane) = self.lane_mut(running.lane) else {
            return;
        };
        if noted {
            lane.head = Head::Waiting { until, entry };
            self.timers.push(Reverse((until, running.lane)));
        } else {
            lane.head = Head::Noting { until, entry };
        }
    }

    /// The failure of so many attempts at the head of a lane is noted.
    pub(crate) fn noted(&mut self, key: LaneKey, failures: u32) {
        let Some(lane) = self.lane_mut(key) else {
            return;
        };
        // The item may have been withdrawn in the meantime.
        if !matches!(&lane.head, Head::Noting { entry, .. } if entry.failures == failures) {
            return;
        }
        let noting = std::mem::replace(&mut lane.head, Head::Running(NOWHERE));
        if let Head::Noting { until, entry } = noting {
            lane.head = Head::Waiting { until, entry };
            self.timers.push(Reverse((until, key)));
        }
    }

    /// Takes out those items behind the head of a lane that `wanted` names, each with how often it failed; the rest keeps its order.
    pub(crate) fn take_behind(
        &mut self,
        key: LaneKey,
        wanted: impl Fn(&T) -> bool,
    ) -> Vec<(T, u32)> {
        let Some(lane) = self.lane_mut(key) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        for entry in std::mem::take(&mut lane.behind) {
            if wanted(&entry.item) {
                taken.push((entry.item, entry.failures));
            } else {
                lane.behind.push_back(entry);
            }
        }
        self.held = self.held.saturating_sub(taken.len());
        taken
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
            let Some((place, lane)) = self.place_of(key) else {
                continue;
            };
            // A timer may be left over from an item that was withdrawn.
            let current = matches!(&lane.head, Head::Waiting { until: set, .. } if *set == until);
            if !current {
                continue;
            }
            let waiting = std::mem::replace(&mut lane.head, Head::Running(NOWHERE));
            if let Head::Waiting { entry, .. } = waiting {
                let class = entry.class;
                lane.head = Head::Ready(entry);
                self.push_ready(class, place);
            }
        }
    }

    /// Takes out every item that is not running and that `wanted` names; the rest keeps its order.
    pub(crate) fn withdraw(&mut self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut withdrawn = Vec::new();
        let keys: Vec<LaneKey> = self.places.keys().copied().collect();
        for key in keys {
            let Some((place, lane)) = self.place_of(key) else {
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
                Head::Ready(entry) | Head::Noting { entry, .. } | Head::Waiting { entry, .. } => {
                    wanted(&entry.item)
                }
                Head::Running(_) => false,
            };
            if !head_goes {
                continue;
            }
            match std::mem::replace(&mut lane.head, Head::Running(NOWHERE)) {
                Head::Ready(entry) => {
                    self.unready(entry.class, place);
                    withdrawn.push(entry.item);
                }
                Head::Noting { entry, .. } | Head::Waiting { entry, .. } => {
                    withdrawn.push(entry.item);
                }
                Head::Running(_) => {}
            }
            self.advance(key);
        }
        self.held = self.held.saturating_sub(withdrawn.len());
        withdrawn
    }

    /// The place of the lane of a key, and the lane.
    fn place_of(&mut self, key: LaneKey) -> Option<(usize, &mut Lane<T>)> {
        let place = *self.places.get(&key)?;
        Some((place, self.lanes.get_mut(place)?))
    }

    fn lane_mut(&mut self, key: LaneKey) -> Option<&mut Lane<T>> {
        self.place_of(key).map(|(_, lane)| lane)
    }

    /// Makes the next item of a lane its head, or forgets the lane, whose head is gone.
    fn advance(&mut self, key: LaneKey) {
        let Some((place, lane)) = self.place_of(key) else {
            return;
        };
        match lane.behind.pop_front() {
            None => {
                lane.behind = VecDeque::new();
                self.places.remove(&key);
                self.free.push(place);
            }
            Some(entry) => {
                let class = entry.class;
                lane.head = Head::Ready(entry);
                self.push_ready(class, place);
            }
        }
    }

    fn push_ready(&mut self, class: usize, place: usize) {
        if let Some((_, queue)) = self.ready.get_mut(class) {
            queue.push_back(place);
            self.ready_lanes += 1;
        }
    }

    fn unready(&mut self, class: usize, place: usize) {
        if let Some((_, queue)) = self.ready.get_mut(class) {
            let before = queue.len();
            queue.retain(|other| *other != place);
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
        let place = queue.pop_front()?;
        self.ready_lanes -= 1;
        let source_of = self.source_of;
        let lane = self.lanes.get_mut(place)?;
        match std::mem::replace(&mut lane.head, Head::Running(NOWHERE)) {
            Head::Ready(entry) => {
                lane.head = Head::Running(source_of(&entry.item));
                self.running += 1;
                Some(Running {
                    lane: lane.key,
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

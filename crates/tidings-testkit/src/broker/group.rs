//! A group in memory: what it wants, what it was handed, what it settled.

use std::collections::BTreeSet;
use std::time::Duration;
use tidings_core::broker::{
    GroupLag, GroupName, GroupStatus, LowWatermark, Position, Recorded, Resumed,
};
use tidings_core::{Pattern, Timestamp};

pub(crate) struct Group {
    patterns: Vec<Pattern>,
    watermark: LowWatermark,
    /// The first position that was not looked at.
    cursor: u64,
    /// Handed out, given back, and to be handed out again first.
    released: BTreeSet<u64>,
    /// Settled while an older one is open.
    settled: BTreeSet<u64>,
    moved_at: Option<Timestamp>,
    pub(crate) leased: bool,
    /// Grows with each subscription, so that a stale token is known.
    pub(crate) generation: u64,
}

impl Group {
    pub(crate) fn new(position: u64) -> Self {
        Self {
            patterns: Vec::new(),
            watermark: LowWatermark::new(position),
            cursor: position,
            released: BTreeSet::new(),
            settled: BTreeSet::new(),
            moved_at: None,
            leased: false,
            generation: 0,
        }
    }

    /// Begins a subscription where the group stands, and tells what the last one may have left behind.
    pub(crate) fn join(&mut self, patterns: &[Pattern]) -> Resumed {
        let from = self.watermark.position();
        let handed_out_before = self.cursor.max(from);
        self.patterns = patterns.to_vec();
        self.leased = true;
        self.generation += 1;
        self.watermark = LowWatermark::new(from);
        self.cursor = from;
        self.released.clear();
        Resumed {
            from: Position(from),
            handed_out_before: Position(handed_out_before),
        }
    }

    /// Ends a subscription. A clean end leaves nothing in doubt.
    pub(crate) fn part(&mut self, clean: bool) {
        self.leased = false;
        if clean {
            self.cursor = self.watermark.position();
        }
    }

    /// Hands out what is wanted next, what was given back first.
    pub(crate) fn hand_out<'a>(
        &mut self,
        events: &'a [Recorded],
        events_max: usize,
    ) -> Vec<&'a Recorded> {
        let mut taken = Vec::new();
        while taken.len() < events_max {
            let Some(position) = self.released.pop_first() else {
                break;
            };
            taken.extend(events.get(place(position)));
        }
        while taken.len() < events_max {
            let Some(event) = events.get(place(self.cursor)) else {
                break;
            };
            let position = self.cursor;
            self.cursor += 1;
            let fresh = !self.settled.contains(&position);
            if fresh && super::wanted(&self.patterns, &event.envelope) {
                self.watermark.hand_out(position);
                taken.push(event);
            } else {
                self.watermark.scan_to(self.cursor);
            }
        }
        taken
    }

    /// Takes an outcome; `false` for a position that is not open.
    pub(crate) fn settle(&mut self, position: u64, now: Timestamp) -> bool {
        self.released.remove(&position);
        if !self.watermark.settle(position) {
            return false;
        }
        // Kept while older ones are open: after an unclean stop it must not come again.
        self.settled.insert(position);
        let low = self.watermark.position();
        self.settled = self.settled.split_off(&low);
        self.moved_at = Some(now);
        true
    }

    pub(crate) fn release(&mut self, position: u64) -> bool {
        self.watermark.is_open(position) && self.released.insert(position)
    }

    pub(crate) fn is_caught_up(&self, events: &[Recorded]) -> bool {
        self.released.is_empty() && place(self.cursor) >= events.len()
    }

    pub(crate) fn behind(&self, events: &[Recorded], now: Timestamp) -> Option<Duration> {
        let oldest = self.released.first().copied().unwrap_or(self.cursor);
        Some(now.since(events.get(place(oldest))?.append_time))
    }

    pub(crate) fn seek(&mut self, position: u64, now: Timestamp) {
        self.watermark = LowWatermark::new(position);
        self.cursor = position;
        self.released.clear();
        self.settled.clear();
        self.moved_at = Some(now);
    }

    pub(crate) fn status(&self, name: &GroupName) -> GroupStatus {
        GroupStatus {
            name: name.clone(),
            patterns: self.patterns.clone(),
            position: Some(Position(self.watermark.position())),
            moved_at: self.moved_at,
            owner: self.leased.then(|| "this test".to_owned()),
            abandoned: false,
        }
    }

    pub(crate) fn lag(&self, events: &[Recorded], now: Timestamp) -> GroupLag {
        let low = self.watermark.position();
        let mut open = events
            .iter()
            .skip(place(low))
            .filter(|event| !self.settled.contains(&event.position.0))
            .filter(|event| super::wanted(&self.patterns, &event.envelope));
        let oldest = open.next();
        GroupLag {
            events: oldest.map_or(0, |_| 1 + open.count() as u64),
            age: oldest.map_or(Duration::ZERO, |event| now.since(event.append_time)),
            ..GroupLag::default()
        }
    }
}

fn place(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

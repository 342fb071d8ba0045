//! What the thread of a group member, the receive half and the settle half share: partitions with what was taken from them, handed out and settled.

use super::super::mapping::Incomer;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::broker::{
    BrokerError, Delivery, LowWatermark, Received, Scope, SettleAction, SettleError, Token,
};
use tidings_core::limits::{
    KAFKA_HANDED_OUT_AHEAD_FIRST, KAFKA_HANDED_OUT_AHEAD_MAX, KAFKA_PENDING_BYTES_MAX,
    KAFKA_PENDING_EVENTS_MAX,
};
use tokio::sync::Notify;

/// Bits of a token that count offsets; the others name the slot.
const TOKEN_OFFSET_BITS: u32 = 32;
/// Twice as long as a broker keeps a fetch waiting.
const GAP_SETTLES: Duration = Duration::from_secs(1);

/// Shared by the three.
#[derive(Default)]
pub(super) struct Shared {
    /// Guards all of it. Held for look-ups and moves in memory; only a partition that is given up waits with it, on `changed`, which lets go of it.
    state: Mutex<State>,
    /// There is something to receive.
    pub(super) arrived: Notify,
    /// Something was received, settled, or nobody is left.
    changed: Condvar,
}

/// What is known of the group's partitions that are ours.
#[derive(Default)]
pub(super) struct State {
    /// What the receive half tells before anything else.
    told: VecDeque<Received>,
    failed: Option<BrokerError>,
    parts: Vec<Part>,
    /// Which partition a token's slot belongs to, and its first offset.
    slots: HashMap<u32, Slot>,
    slot_next: u32,
    generation: u64,
    /// Which partition hands out next.
    turn: usize,
    pending_events: usize,
    pending_bytes: usize,
    /// The group has told us once what is ours, be it nothing.
    joined: bool,
    /// The thread has ended.
    ended: bool,
    /// Both halves are gone, or the group was left.
    stopping: bool,
    /// The broker was closed: nothing is handed out any more.
    closed: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    partition: i32,
    base: u64,
}

/// Where a group stands in a partition, as it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) partition: i32,
    /// The first offset that is not settled.
    pub(super) position: u64,
    /// Everything below may have been handed out. It is raised before more is, so that whoever goes on here after a process that died knows what it may have died with.
    pub(super) handed_below: u64,
}

/// A partition that is ours.
struct Part {
    partition: i32,
    scope: Scope,
    watermark: LowWatermark,
    /// What may have been handed out before it was ours.
    redelivered_below: u64,
    /// Nothing is handed out from here on before this is committed to be further.
    handed_below: u64,
    /// How far it is raised next.
    raise_by: u64,
    /// The next offset that was not taken.
    next: u64,
    slot: u32,
    slot_base: u64,
    /// Taken and not handed out, in order; what was released comes back here.
    pending: VecDeque<Taken>,
    /// Handed out and not settled.
    handed_out: BTreeMap<u64, Taken>,
    committed: u64,
    /// It is being given up: nothing more is handed out.
    revoked: bool,
    /// The end was reached and nothing was taken since.
    at_end: bool,
    /// An end that is further than what was taken although the end was reached, and since when it is so.
    gap: Option<(u64, Duration)>,
}

impl Part {
    fn stand(&self) -> Stand {
        Stand {
            partition: self.partition,
            position: self.watermark.position(),
            handed_below: self.handed_below,
        }
    }

    /// Whether what lies before the end is no events: marks of transactions, say. Kafka does not tell, but an event would have come by now.
    fn ends_in_gap(&mut self, end: u64, now: Duration) -> bool {
        match self.gap {
            Some((seen, since)) if seen == end && self.at_end => {
                now.saturating_sub(since) >= GAP_SETTLES
            }
            _ => {
                self.gap = Some((end, now));
                false
            }
        }
    }
}

#[derive(Clone)]
struct Taken {
    offset: u64,
    bytes: usize,
    delivery: Delivery,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something changes, for so long at most.
    pub(super) fn wait_changed<'a>(
        &self,
        state: MutexGuard<'a, State>,
        most: Duration,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wakes the thread if it waits.
    pub(super) fn tell_changed(&self) {
        self.changed.notify_all();
    }
}

impl State {
    /// A partition is ours from now on, and begins where the group stands.
    pub(super) fn assign(&mut self, topic: &Arc<str>, stand: Stand, committed: bool) {
        let (partition, from) = (stand.partition, stand.position);
        self.generation += 1;
        let scope = Scope {
            name: format!("{topic}/{partition}").into(),
            generation: self.generation,
        };
        self.told.push_back(Received::Assigned(scope.clone()));
        let slot = self.new_slot(partition, from);
        self.parts.push(Part {
            partition,
            scope,
            watermark: LowWatermark::new(from),
            redelivered_below: stand.handed_below,
            handed_below: stand.handed_below,
            raise_by: KAFKA_HANDED_OUT_AHEAD_FIRST,
            next: from,
            slot,
            slot_base: from,
            pending: VecDeque::new(),
            handed_out: BTreeMap::new(),
            // What was not committed yet is committed at the next occasion.
            committed: if committed { from } else { u64::MAX },
            revoked: false,
            at_end: false,
            gap: None,
        });
    }

    fn new_slot(&mut self, partition: i32, base: u64) -> u32 {
        let slot = self.slot_next;
        self.slot_next = self.slot_next.wrapping_add(1);
        self.slots.insert(slot, Slot { partition, base });
        slot
    }

    /// The group has told what is ours.
    pub(super) fn join(&mut self) {
        self.joined = true;
    }

    /// A partition is to be given up: what was not handed out is let go of.
    pub(super) fn revoke(&mut self, partition: i32) {
        let Some(part) = self
            .parts
            .iter_mut()
            .find(|part| part.partition == partition)
        else {
            return;
        };
        part.revoked = true;
        let pending = std::mem::take(&mut part.pending);
        let scope = part.scope.clone();
        self.told.push_back(Received::Revoked(scope));
        self.pending_events -= pending.len();
        self.pending_bytes -= pending.iter().map(|taken| taken.bytes).sum::<usize>();
    }

    /// A partition is gone.
    pub(super) fn lose(&mut self, partition: i32) {
        let Some(index) = self
            .parts
            .iter()
            .position(|part| part.partition == partition)
        else {
            return;
        };
        let part = self.parts.remove(index);
        self.slots.retain(|_, slot| slot.partition != partition);
        self.pending_events -= part.pending.len();
        self.pending_bytes -= part.pending.iter().map(|taken| taken.bytes).sum::<usize>();
        self.told.push_back(Received::Lost(part.scope));
    }

    /// The partitions that are ours.
    pub(super) fn partitions(&self) -> Vec<i32> {
        self.parts.iter().map(|part| part.partition).collect()
    }

    /// The next offset of a partition that was not taken.
    pub(super) fn next(&self, partition: i32) -> Option<u64> {
        let part = self.parts.iter().find(|part| part.partition == partition)?;
        Some(part.next)
    }

    /// Whether handlers are at work on events of these partitions.
    pub(super) fn is_at_work(&self, partitions: &[i32]) -> bool {
        self.parts
            .iter()
            .any(|part| partitions.contains(&part.partition) && !part.handed_out.is_empty())
    }

    /// Takes in records that were read, less those that were taken before.
    pub(super) fn take_in(&mut self, records: Vec<(Incomer, bool)>) {
        for (record, is_wanted) in records {
            let Some(index) = self
                .parts
                .iter()
                .position(|part| part.partition == record.partition && !part.revoked)
            else {
                continue;
            };
            self.take_in_one(index, record, is_wanted);
        }
    }

    fn take_in_one(&mut self, index: usize, record: Incomer, is_wanted: bool) {
        let Some(part) = self.parts.get(index) else {
            return;
        };
        let offset = record.offset;
        if offset < part.next {
            return;
        }
        let (mut slot, mut base) = (part.slot, part.slot_base);
        if offset - base > u64::from(u32::MAX) {
            (slot, base) = (self.new_slot(record.partition, offset), offset);
        }
        let Some(part) = self.parts.get_mut(index) else {
            return;
        };
        (part.slot, part.slot_base) = (slot, base);
        part.next = offset + 1;
        part.at_end = false;
        part.gap = None;
        if !is_wanted {
            part.watermark.scan_to(part.next);
            return;
        }
        part.watermark.hand_out(offset);
        let token = Token(u64::from(slot) << TOKEN_OFFSET_BITS | (offset - base));
        part.pending.push_back(Taken {
            offset,
            bytes: record.bytes,
            delivery: Delivery {
                token,
                position: None,
                append_time: record.append_time,
                envelope: record.carried.envelope,
                problem: record.carried.problem,
                redelivered: offset < part.redelivered_below,
            },
        });
        self.pending_events += 1;
        self.pending_bytes += record.bytes;
    }

    /// The end of a partition was reached.
    pub(super) fn reach_end(&mut self, partition: i32) {
        let found = self
            .parts
            .iter_mut()
            .find(|part| part.partition == partition);
        if let Some(part) = found {
            part.at_end = true;
        }
    }

    /// Whether as much waits as may.
    pub(super) fn is_full(&self) -> bool {
        self.pending_events >= KAFKA_PENDING_EVENTS_MAX
            || self.pending_bytes >= KAFKA_PENDING_BYTES_MAX
    }

    /// Whether at most half as much waits as may.
    pub(super) fn has_room(&self) -> bool {
        self.pending_events <= KAFKA_PENDING_EVENTS_MAX / 2
            && self.pending_bytes <= KAFKA_PENDING_BYTES_MAX / 2
    }

    /// What the receive half says next, if there is something.
    pub(super) fn receive(&mut self, events_max: usize) -> Option<Result<Received, BrokerError>> {
        if self.closed {
            return Some(Err(BrokerError::Closed));
        }
        if let Some(told) = self.told.pop_front() {
            return Some(Ok(told));
        }
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let parts = self.parts.len();
        for step in 0..parts {
            let index = (self.turn + step) % parts;
            let Some(part) = self.parts.get_mut(index) else {
                continue;
            };
            let below = part.handed_below;
            let free = part.pending.partition_point(|taken| taken.offset < below);
            if free == 0 {
                continue;
            }
            let count = free.min(events_max.max(1));
            let mut deliveries = Vec::with_capacity(count);
            let mut bytes = 0;
            for taken in part.pending.drain(..count) {
                bytes += taken.bytes;
                deliveries.push(taken.delivery.clone());
                part.handed_out.insert(taken.offset, taken);
            }
            let scope = part.scope.clone();
            self.turn = index + 1;
            self.pending_events -= count;
            self.pending_bytes -= bytes;
            return Some(Ok(Received::Deliveries { scope, deliveries }));
        }
        self.ended.then_some(Err(BrokerError::Closed))
    }

    /// Takes one outcome; `true` if something came back to be handed out again.
    pub(super) fn settle(
        &mut self,
        token: Token,
        action: SettleAction,
    ) -> Result<bool, SettleError> {
        let slot = u32::try_from(token.0 >> TOKEN_OFFSET_BITS).unwrap_or(u32::MAX);
        let Some(&Slot { partition, base }) = self.slots.get(&slot) else {
            let was_given = slot < self.slot_next;
            return Err(if was_given {
                SettleError::Stale
            } else {
                SettleError::Unknown
            });
        };
        let offset = base + (token.0 & u64::from(u32::MAX));
        let found = self
            .parts
            .iter_mut()
            .find(|part| part.partition == partition);
        let Some(part) = found else {
            return Err(SettleError::Stale);
        };
        match action {
            SettleAction::Ack => {
                if !part.watermark.settle(offset) {
                    return Err(SettleError::Unknown);
                }
                if part.handed_out.remove(&offset).is_none()
                    && let Ok(place) = part
                        .pending
                        .binary_search_by_key(&offset, |taken| taken.offset)
                    && let Some(taken) = part.pending.remove(place)
                {
                    self.pending_events -= 1;
                    self.pending_bytes -= taken.bytes;
                }
                Ok(false)
            }
            SettleAction::Release => {
                let Some(taken) = part.handed_out.remove(&offset) else {
                    // Released before, and waiting to be handed out again.
                    return if part.watermark.is_open(offset) {
                        Ok(false)
                    } else {
                        Err(SettleError::Unknown)
                    };
                };
                if part.revoked {
                    return Ok(false);
                }
                self.pending_events += 1;
                self.pending_bytes += taken.bytes;
                let place = part.pending.partition_point(|other| other.offset < offset);
                part.pending.insert(place, taken);
                Ok(true)
            }
            SettleAction::Extend(_) if part.watermark.is_open(offset) => Ok(false),
            SettleAction::Extend(_) => Err(SettleError::Unknown),
        }
    }

    /// Where the group stands in partitions whose watermark is beyond what was committed; all count as committed from now on.
    pub(super) fn take_moved(&mut self) -> Vec<Stand> {
        let moved = self.parts.iter_mut().filter_map(|part| {
            let stand = part.stand();
            let is_moved = part.committed != stand.position;
            part.committed = stand.position;
            is_moved.then_some(stand)
        });
        moved.collect()
    }

    /// Where the group stands in partitions that are given up, or in all of them: what was not handed out is not suspected of anything.
    pub(super) fn take_last(&mut self, only: Option<&[i32]>) -> Vec<Stand> {
        let mut last = Vec::new();
        for part in &mut self.parts {
            if only.is_some_and(|only| !only.contains(&part.partition)) {
                continue;
            }
            let stand = part.stand();
            let newest = part.handed_out.last_key_value();
            let handed_below = newest.map_or(stand.position, |(offset, _)| offset + 1);
            if part.committed != stand.position || part.handed_below != handed_below {
                part.committed = stand.position;
                part.handed_below = handed_below;
                last.push(Stand {
                    handed_below,
                    ..stand
                });
            }
        }
        last
    }

    /// Where the group would stand if everything taken could be handed out, for the partitions in which more was taken than may be.
    pub(super) fn to_raise(&self) -> Vec<Stand> {
        let short = self.parts.iter().filter(|part| {
            let newest = part.pending.back();
            !part.revoked && newest.is_some_and(|taken| taken.offset >= part.handed_below)
        });
        let raised = short.map(|part| Stand {
            handed_below: part.next + part.raise_by,
            ..part.stand()
        });
        raised.collect()
    }

    /// That is committed: more may be handed out. The next time it goes further, because much is.
    pub(super) fn raised(&mut self, stands: &[Stand]) {
        for stand in stands {
            for part in &mut self.parts {
                if part.partition == stand.partition {
                    part.handed_below = stand.handed_below;
                    part.raise_by = (part.raise_by * 2).min(KAFKA_HANDED_OUT_AHEAD_MAX);
                }
            }
        }
    }

    /// A commit failed: what it told is committed again.
    pub(super) fn commit_failed(&mut self, partitions: impl Iterator<Item = i32>) {
        for partition in partitions {
            for part in &mut self.parts {
                if part.partition == partition {
                    part.committed = u64::MAX;
                }
            }
        }
    }

    pub(super) fn fail(&mut self, error: BrokerError) {
        self.failed = Some(error);
    }

    /// Whether everything that was fetched was handed out: the ends are worth asking for.
    pub(super) fn seems_caught_up(&self) -> bool {
        self.joined && self.told.is_empty() && self.pending_events == 0
    }

    /// Whether everything before these ends was handed out.
    pub(super) fn has_reached(&mut self, ends: &BTreeMap<i32, u64>, now: Duration) -> bool {
        if !self.seems_caught_up() {
            return false;
        }
        let mut reached = true;
        for part in &mut self.parts {
            let Some(end) = ends.get(&part.partition) else {
                return false;
            };
            reached &= part.next >= *end || part.ends_in_gap(*end, now);
        }
        reached
    }

    /// When the oldest event that waits was appended.
    pub(super) fn oldest_pending(&self) -> Option<Timestamp> {
        let first = self.parts.iter().filter_map(|part| part.pending.front());
        first.filter_map(|taken| taken.delivery.append_time).min()
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.stopping = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }
}

#[cfg(test)]
mod tests;

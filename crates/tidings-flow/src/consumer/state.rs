//! What the lock of a consumer guards, and what goes in and out of it.

use super::breaker::Circuit;
use super::keeping::{Finished, Keep, Kept, Origin};
use super::lane::{Call, LaneKey, LaneTable};
use super::parking::ParkedLanes;
use super::rate::Ration;
use super::stats::ConsumerStats;
use crate::dead_letter::History;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{Position, SettleAction, Token};
use tidings_core::store::{Decision, LaneId};
use tidings_core::{Code, DedupeKey, Envelope, Timestamp};

/// A delivery on its way through the lanes.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) token: Token,
    /// Counts what was received, so that older and newer can be told apart.
    pub(super) sequence: u64,
    /// Which of the receiver's scopes it came from.
    pub(super) scope: usize,
    pub(super) position: Option<Position>,
    pub(super) append_time: Option<Timestamp>,
    pub(super) envelope: Envelope,
    /// Index of its handler.
    pub(super) handler: usize,
    /// Whether an earlier run may have handled it.
    pub(super) suspect: bool,
    /// What went wrong so far.
    pub(super) history: History,
    /// Why the message is no event, if it is none.
    pub(super) problem: Option<Arc<str>>,
    /// Its row, if it comes from the store and not from the broker. Boxed, because few do.
    pub(super) kept: Option<Box<Kept>>,
}

/// Stands for the store in the place of a scope of the broker.
const STORE: usize = usize::MAX;

impl Work {
    /// Where it came from: the index of a scope, or what stands for the store.
    pub(super) fn source(&self) -> usize {
        match self.kept {
            Some(_) => STORE,
            None => self.scope,
        }
    }

    /// Where it came from, if that was the broker.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            token: self.token,
            scope: self.scope,
        }
    }
}

/// A delivery on its way to its lane.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) lane: LaneKey,
    pub(super) class: usize,
    pub(super) work: Work,
    /// Its lane in the store, where that is known to matter.
    pub(super) parked_as: Option<LaneId>,
}

/// What became of one item of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Completion {
    /// Handled; so many events were emitted, and are published or in the outbox.
    Handled {
        lane: LaneKey,
        token: Token,
        emitted: u64,
    },
    /// Its effect was there before.
    Deduplicated { lane: LaneKey, token: Token },
    /// Given up, its dead letter is recorded.
    DeadLettered { lane: LaneKey, token: Token },
    /// The lanes know already: it waits for the next attempt, or for the store.
    Elsewhere,
}

/// What a worker brings to the lanes and takes from them.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Brought: what became of items.
    pub(super) done: Vec<Completion>,
    /// Brought: how many calls have returned.
    pub(super) calls_ended: usize,
    /// Taken: what to start.
    pub(super) calls: Vec<Call<Work>>,
    /// How many items to take at most.
    pub(super) items_max: usize,
    /// Brought: whether the last calls took long, so that nothing should wait for the next ones.
    pub(super) slow: bool,
}

/// How far a consumer is, for those who wait for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// The last request of [`State::idle_requested`] that found the group idle.
    pub(super) idle_answered: u64,
    /// Nothing was left for the group, and `until_end` is set.
    pub(super) finished: bool,
    /// Its circuit is open: it waits until what its handlers need works again.
    pub(super) circuit_open: bool,
    /// It cannot go on, for this reason.
    pub(super) stopped: Option<(String, Code)>,
}

/// The right of this instance to start what is parked for all of them.
pub(super) struct Lead {
    pub(super) until: Duration,
    /// Names this instance in the store.
    pub(super) owner: Arc<str>,
    pub(super) epoch: u64,
}

/// What the lock guards.
pub(super) struct State {
    pub(super) table: LaneTable<Work>,
    /// Lanes whose deliveries wait in the store.
    pub(super) parked: ParkedLanes,
    /// Parked lanes whose fetched rows are done with, and of which it is not sure what is left: a delivery that comes twice is parked once.
    pub(super) doubtful: Vec<LaneId>,
    /// What the store is to be told.
    pub(super) keep: Keep,
    /// Events whose rows are done with.
    pub(super) finished: Finished,
    /// Nothing where this instance may not start what is parked for all of them.
    pub(super) lead: Option<Lead>,
    /// Attempts that an earlier run noted, of events that were not settled.
    pub(super) attempts: HashMap<DedupeKey, u32>,
    /// What persons decided of events.
    pub(super) decisions: HashMap<DedupeKey, Decision>,
    /// What the store said of the decisions when they were read.
    pub(super) decided: String,
    /// Whether the store was asked what is there for the group; without a store there is nothing to ask.
    pub(super) loaded: bool,
    /// Whether a parked delivery waits for its time, as far as is known.
    pub(super) waits_for_time: bool,
    /// Whether a lane that is due had no room.
    pub(super) parker_waits_for_room: bool,
    /// When the parker looks next.
    pub(super) parker_wakes_at: Duration,
    /// Why a person paused the group in its store.
    pub(super) paused_by: Option<String>,
    /// Whether everything fails.
    pub(super) circuit: Circuit,
    /// What the group may start, if that is limited.
    pub(super) ration: Option<Ration>,
    /// The group stopped by itself: nothing is fetched and nothing started.
    pub(super) halted: bool,
    /// Told to the broker next.
    pub(super) outcomes: Vec<(Token, SettleAction)>,
    /// Being told to the broker.
    pub(super) settling: usize,
    pub(super) settler_awake: bool,
    pub(super) receiver_waits: bool,
    pub(super) idle_requested: u64,
    pub(super) idle_workers: Vec<usize>,
    /// Publishes and transactions that broker and store refuse at the moment.
    pub(super) troubles: usize,
    pub(super) paused_by_user: bool,
    /// The newest event that was ever started.
    pub(super) sequence_started: u64,
    /// Nothing is fetched any more; what is older than the newest event started is still handled.
    pub(super) draining: bool,
    /// Nothing is started any more.
    pub(super) stopping: bool,
    /// Nothing runs any more; what the store is told now is the last.
    pub(super) closing: bool,
    /// The store is told everything; what is to be settled now is the last.
    pub(super) all_told: bool,
    pub(super) counts: ConsumerStats,
}

impl State {
    /// How many events may be received now.
    pub(super) fn room(&self) -> usize {
        self.table
            .room()
            .saturating_sub(self.outcomes.len() + self.settling + self.keep.tokens())
    }

    /// Gives deliveries back, to be delivered again to whoever comes next.
    pub(super) fn release(&mut self, works: &[Work]) {
        for work in works {
            self.release_one(work);
        }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.table.held() == 0
            && self.outcomes.is_empty()
            && self.settling == 0
            && self.keep.is_idle()
            && self.parked.busy() == 0
            && self.loaded
    }

    /// Lets the parker look at a time at the latest; whether it has to be woken for that.
    pub(super) fn due_no_later_than(&mut self, at: Duration) -> bool {
        let sooner = at < self.parker_wakes_at;
        self.parker_wakes_at = self.parker_wakes_at.min(at);
        sooner
    }
}

//! What waits to be told to the store, and what follows once it is told. The queue lives under the lock of the pipeline, so that the store is told in the order in which things happened.

use super::lane::LaneKey;
use super::pipeline::{State, Work};
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use tidings_core::broker::{SettleAction, Token};
use tidings_core::store::{DeathCause, FailureChange, LaneId, ParkedDelivery, ParkedId, ParkedRow};
use tidings_core::{DedupeKey, Envelope};
use tokio::sync::oneshot;

/// Stands in the place of an attempt number: the event was given up, and its settlement may not have reached the broker. Within what every database takes for a number.
pub(super) const GIVEN_UP: u32 = i32::MAX as u32;

/// Stands in the place of the index of a handler: none was asked.
pub(super) const NO_HANDLER: usize = usize::MAX;

/// How long it is remembered that an event was given up: by then every broker has its settlement.
const GIVEN_UP_KEPT: Duration = Duration::from_secs(30);

/// Rows that are remembered as done with at most; a broker that is slower than so many of them may see one handled twice.
const FINISHED_MAX: usize = 100_000;

/// What the runtime keeps of a delivery that comes from the store or was there.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its row.
    pub(super) row: ParkedRow,
    pub(super) lane: LaneId,
    pub(super) rounds: u32,
    pub(super) deaths: u32,
    pub(super) letter: Option<String>,
    /// Whether no handler of the group wants an event of its type.
    pub(super) unwanted: bool,
}

/// A change that waits to be made.
pub(super) enum Change {
    /// As the store takes it.
    Ready(FailureChange),
    /// A death whose number the store is asked for first.
    Bury(Box<Burial>),
}

/// An event that is being given up.
pub(super) struct Burial {
    pub(super) delivery: ParkedDelivery,
    /// Index of the handler.
    pub(super) handler: usize,
    pub(super) reasons: Vec<String>,
    pub(super) cause: DeathCause,
    pub(super) holds: bool,
}

/// What follows once a change is made.
pub(super) enum Then {
    Nothing,
    /// The next attempt at the head of a lane may start when its time has come.
    Noted {
        lane: LaneKey,
        failures: u32,
    },
    /// The delivery is settled.
    Ack(Token),
    /// The rows are in the store: the deliveries are settled.
    Parked {
        lane: LaneId,
        deliveries: Vec<Origin>,
        /// The failed delivery at the head, if there is one.
        put_off: Option<PutOff>,
    },
    /// A row has changed, and is out of the store if it `left`.
    Changed {
        lane: LaneId,
        left: bool,
        put_off: Option<PutOff>,
    },
    /// The dead letter is recorded.
    Buried(Buried),
    /// Somebody waits for it.
    Tell(oneshot::Sender<()>),
}

/// Where a delivery of the broker came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) token: Token,
    pub(super) scope: usize,
}

/// What is told of a failure that is tried again later.
#[derive(Debug)]
pub(super) struct PutOff {
    pub(super) envelope: Envelope,
    pub(super) handler: usize,
    pub(super) attempt: u32,
    pub(super) reason: String,
    pub(super) delay: Duration,
}

/// What follows from a recorded death.
#[derive(Debug)]
pub(super) enum Buried {
    /// A delivery of the broker whose lane goes on.
    GoesOn { lane: LaneKey, token: Token },
    /// A delivery of the broker that holds its lane.
    Holds { lane: LaneId, origin: Origin },
    /// A row of the store, which is out of it or holds its lane.
    Row { lane: LaneId, holds: bool },
}

/// A change and what follows.
pub(super) struct Keeping {
    pub(super) change: Change,
    pub(super) then: Then,
}

impl Keeping {
    /// Deliveries of the broker that wait for it.
    fn tokens(&self) -> usize {
        match &self.then {
            Then::Ack(_) | Then::Buried(Buried::GoesOn { .. } | Buried::Holds { .. }) => 1,
            Then::Parked { deliveries, .. } => deliveries.len(),
            Then::Nothing
            | Then::Noted { .. }
            | Then::Changed { .. }
            | Then::Buried(Buried::Row { .. })
            | Then::Tell(_) => 0,
        }
    }
}

/// What waits to be told to the store.
#[derive(Default)]
pub(super) struct Keep {
    queue: Vec<Keeping>,
    /// Changes that are being made.
    in_hand: usize,
    /// Deliveries of the broker that wait for changes.
    tokens: usize,
    pub(super) keeper_awake: bool,
    /// Events that were given up and whose mark is to be taken away, and when.
    marks: VecDeque<(Duration, DedupeKey)>,
}

impl Keep {
    pub(super) fn push(&mut self, change: FailureChange, then: Then) {
        self.push_keeping(Keeping {
            change: Change::Ready(change),
            then,
        });
    }

    pub(super) fn push_keeping(&mut self, keeping: Keeping) {
        self.tokens += keeping.tokens();
        self.queue.push(keeping);
    }

    /// Takes everything that waits.
    pub(super) fn take(&mut self) -> Vec<Keeping> {
        let taken = std::mem::take(&mut self.queue);
        self.in_hand = taken.len();
        taken
    }

    /// What was taken is done with.
    pub(super) fn done(&mut self, tokens: usize) {
        self.in_hand = 0;
        self.tokens = self.tokens.saturating_sub(tokens);
    }

    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_hand == 0
    }

    /// Deliveries of the broker that wait for changes.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Remembers that an event was given up, until every broker has its settlement.
    pub(super) fn mark(&mut self, event: DedupeKey, now: Duration) {
        self.marks.push_back((now + GIVEN_UP_KEPT, event));
    }

    /// The same for an event of an earlier run, as soon as another one is marked or the group stops.
    pub(super) fn mark_again(&mut self, event: DedupeKey) {
        let until = self.marks.back().map_or(GIVEN_UP_KEPT, |(until, _)| *until);
        self.marks.push_back((until, event));
    }

    /// Lets marks go whose time is over, or all.
    pub(super) fn forget_marks(&mut self, now: Option<Duration>) {
        while let Some((until, event)) = self.marks.front().copied()
            && now.is_none_or(|now| until <= now)
        {
            self.marks.pop_front();
            self.push(FailureChange::Succeeded { event }, Then::Nothing);
        }
    }

    /// Takes deliveries of a scope out of what waits to be parked; how many of which lane.
    pub(super) fn forget_scope(&mut self, scope: usize) -> Vec<(LaneId, u64)> {
        let mut forgotten = Vec::new();
        let mut tokens = 0;
        for keeping in &mut self.queue {
            let Keeping {
                change: Change::Ready(FailureChange::Park { deliveries, .. }),
                then:
                    Then::Parked {
                        lane,
                        deliveries: origins,
                        put_off,
                    },
            } = keeping
            else {
                continue;
            };
            if origins.iter().all(|origin| origin.scope != scope) {
                continue;
            }
            // A lane belongs to one scope, so that all of it goes.
            tokens += origins.len();
            forgotten.push((*lane, origins.len() as u64));
            deliveries.clear();
            origins.clear();
            *put_off = None;
        }
        self.tokens = self.tokens.saturating_sub(tokens);
        forgotten
    }

    /// Lets the store remember for a while that an event is not to be handled again.
    pub(super) fn give_up(&mut self, event: DedupeKey, now: Duration) {
        let attempts = GIVEN_UP;
        self.push(FailureChange::Attempted { event, attempts }, Then::Nothing);
        self.mark(event, now);
    }
}

/// Events whose rows were handled or given up a short while ago: the delivery from which a row was parked may come again, because its settlement did not reach the broker.
#[derive(Default)]
pub(super) struct Finished {
    known: HashSet<DedupeKey>,
    order: VecDeque<(Duration, DedupeKey)>,
}

impl Finished {
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn has(&self, event: DedupeKey) -> bool {
        self.known.contains(&event)
    }

    fn add(&mut self, event: DedupeKey, now: Duration) {
        if self.known.insert(event) {
            self.order.push_back((now + GIVEN_UP_KEPT, event));
        }
        if self.order.len() > FINISHED_MAX {
            self.forget_first();
        }
    }

    /// Forgets those whose time is over.
    pub(super) fn forget(&mut self, now: Duration) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, event)) = self.order.pop_front() {
            self.known.remove(&event);
        }
    }
}

/// How many deliveries of the broker wait for some changes.
pub(super) fn tokens_of(keepings: &[Keeping]) -> usize {
    keepings.iter().map(Keeping::tokens).sum()
}

impl State {
    /// Parks an arrival behind its lane, if that is parked; else gives it back.
    ///
    /// What is in the table of the same scope was delivered before it, in its order: whatever came before those has had its effect, or comes once more with them. So it follows them, and what they come
    /// to, rather than rows that another instance parked of the same events. Anything else there, such as what is still at work of a scope that was taken away, says nothing about what is parked.
    pub(super) fn park_behind(
        &mut self,
        work: Work,
        (key, lane): (LaneKey, LaneId),
        failures: u32,
    ) -> Option<Work> {
        if !self.parked.has(lane) || self.table.has_from(key, work.scope) {
            return Some(work);
        }
        let origin = work.origin();
        self.parked.park(lane, 1);
        self.keep.push(
            FailureChange::Park {
                deliveries: vec![parked_of(work, lane, failures)],
                due_in: None,
            },
            Then::Parked {
                lane,
                deliveries: vec![origin],
                put_off: None,
            },
        );
        None
    }

    /// Takes what is behind the head of a lane out of the lane table: deliveries of the broker of the same key are parked behind, rows of the store are there already.
    pub(super) fn park_rest(&mut self, key: LaneKey, lane: LaneId, head: &Envelope) {
        let behind = self.table.take_behind(key, |work| {
            let key = head.key();
            work.kept.is_some() || (key.is_some() && work.envelope.key() == key)
        });
        let mut deliveries = Vec::new();
        let mut origins = Vec::new();
        for (work, failures) in behind {
            if work.kept.is_none() {
                origins.push(work.origin());
                deliveries.push(parked_of(work, lane, failures));
            }
        }
        if deliveries.is_empty() {
            return;
        }
        self.parked.park(lane, deliveries.len() as u64);
        self.keep.push(
            FailureChange::Park {
                deliveries,
                due_in: None,
            },
            Then::Parked {
                lane,
                deliveries: origins,
                put_off: None,
            },
        );
    }

    /// Notes that a row is done with, for deliveries of its event that come again. Where an earlier run or another instance may have parked it, and nobody knows whether that
    /// was settled, the store remembers it as well.
    fn note_finished(&mut self, lane: LaneId, event: DedupeKey, now: Duration) {
        self.finished.add(event, now);
        if self.parked.is_inherited(lane) {
            self.keep.give_up(event, now);
        }
    }

    /// A row is being taken out of the store.
    pub(super) fn row_leaves(&mut self, lane: LaneId, envelope: &Envelope, now: Duration) {
        self.parked.leaves(lane);
        self.note_finished(lane, DedupeKey::of(envelope), now);
    }

    /// Settles a delivery.
    pub(super) fn ack(&mut self, token: Token) {
        self.outcomes.push((token, SettleAction::Ack));
    }
}

/// A delivery as the store keeps it.
pub(super) fn parked_of(work: Work, lane: LaneId, attempts: u32) -> ParkedDelivery {
    let (id, lead, rounds, deaths, letter) = match work.kept {
        Some(kept) => {
            let ParkedRow { id, lead, .. } = kept.row;
            (id, lead, kept.rounds, kept.deaths, kept.letter)
        }
        None => (ParkedId(0), 0, 0, 0, None),
    };
    ParkedDelivery {
        id,
        lead,
        lane,
        envelope: work.envelope,
        problem: work.problem,
        position: work.position.map(|position| position.0),
        attempts,
        rounds,
        deaths,
        history: work.history.into(),
        due: None,
        letter,
    }
}

//! A store of failures in memory, as a database keeps it; a test plays the operator by changing its rows.

use super::{CountingChance, ManualClock};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tidings_core::seam::Clock;
use tidings_core::store::{
    DeathRecord, Decision, Due, FailureChange, FailureState, FailureStore, LaneId, OpenCircuit,
    ParkedDelivery, ParkedId, ParkedLane, ParkedRow, StoreError,
};
use tidings_core::{BoxFuture, DedupeKey, Envelope, Timestamp};

#[derive(Default)]
pub(crate) struct FailuresState {
    /// Rows by their number.
    pub(crate) parked: Vec<ParkedDelivery>,
    pub(crate) attempts: HashMap<DedupeKey, u32>,
    pub(crate) letters: Vec<DeathRecord>,
    pub(crate) facts: Vec<Envelope>,
    pub(crate) decisions: HashMap<DedupeKey, Decision>,
    pub(crate) paused: Option<String>,
    /// What was told of the circuit last.
    pub(crate) circuit: Option<OpenCircuit>,
    /// How often the group tries an event, as it told last.
    pub(crate) attempts_max: Option<u32>,
    /// Another instance picks up what is due.
    pub(crate) follows: bool,
    /// The one that picked it up said that it does not any more.
    pub(crate) lead_given_up: bool,
    /// Who picks up what is due, and until when.
    lead: Option<(String, Timestamp)>,
    epoch: u64,
    /// Every attempt count ever noted, in order.
    pub(crate) noted: Vec<(DedupeKey, u32)>,
    next: i64,
    /// Calls of `apply`.
    pub(crate) applied: usize,
    /// What the next calls of `apply` meet, and whether the changes are made all the same.
    pub(crate) faults: VecDeque<(StoreError, bool)>,
    /// So many of the next looks at rows fail.
    pub(crate) rows_faults: usize,
}

/// Several handles share one store.
#[derive(Clone)]
pub(crate) struct FakeFailures {
    state: Arc<Mutex<FailuresState>>,
    clock: Arc<ManualClock>,
    pub(crate) shared: bool,
    /// Yields before and after each change, so that a consumer can be dropped there.
    pub(crate) yields: bool,
    /// So many times others have their turn before and after each change.
    pub(crate) slowness: usize,
    /// With it, `slowness` is the most of it, and each change differs.
    pub(crate) uneven: Option<Arc<CountingChance>>,
    /// With it, one of so many looks at what is due, and at its rows, fails.
    pub(crate) shaky: Option<(Arc<CountingChance>, usize)>,
}

impl FakeFailures {
    pub(crate) fn new(clock: &Arc<ManualClock>) -> Self {
        Self {
            state: Arc::default(),
            clock: Arc::clone(clock),
            shared: true,
            yields: false,
            slowness: 0,
            uneven: None,
            shaky: None,
        }
    }

    fn look(&self) -> Result<(), StoreError> {
        match &self.shaky {
            Some((chance, one_of)) if chance.roll(*one_of) == 0 => Err(unavailable()),
            _ => Ok(()),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, FailuresState> {
        self.state.lock().unwrap()
    }

    /// Events that are parked, by their ids, in the order of the store.
    pub(crate) fn parked_ids(&self) -> Vec<String> {
        let state = self.lock();
        let ids = state.parked.iter().map(|row| row.envelope.event_id());
        ids.map(str::to_owned).collect()
    }

    /// A person hands every open dead letter that holds its lane back.
    pub(crate) fn redrive_held(&self) {
        let now = self.clock.now();
        for row in &mut self.lock().parked {
            if row.letter.is_some() && row.due.is_none() {
                row.due = Some(now);
                row.attempts = 0;
                row.rounds = 0;
            }
        }
    }

    /// A person discards an event that holds its lane.
    pub(crate) fn discard(&self, event_id: &str) {
        let now = self.clock.now();
        let mut state = self.lock();
        let gone = |row: &ParkedDelivery| row.envelope.event_id() == event_id;
        let lanes: Vec<LaneId> = state
            .parked
            .iter()
            .filter(|row| gone(row))
            .map(|row| row.lane)
            .collect();
        let keys: Vec<DedupeKey> = state
            .parked
            .iter()
            .filter(|row| gone(row))
            .map(|row| DedupeKey::of(&row.envelope))
            .collect();
        state
            .decisions
            .extend(keys.into_iter().map(|key| (key, Decision::Discarded)));
        state.parked.retain(|row| !gone(row));
        for lane in lanes {
            state.advance(lane, now);
        }
    }

    async fn pause(&self) {
        let mut times = if self.yields { 1 } else { self.slowness };
        if let Some(chance) = &self.uneven {
            times = chance.roll(times + 1);
        }
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }
}

impl FailuresState {
    fn advance(&mut self, lane: LaneId, now: Timestamp) {
        if let Some(head) = self.parked.iter_mut().find(|row| row.lane == lane)
            && head.due.is_none()
            && head.letter.is_none()
        {
            head.due = Some(now);
        }
    }

    /// No decision is ever taken back.
    fn decided(&self) -> String {
        self.decisions.len().to_string()
    }

    fn is_head(&self, row: &ParkedDelivery) -> bool {
        let head = self.parked.iter().find(|other| other.lane == row.lane);
        head.is_some_and(|head| head.id == row.id)
    }

    fn park(&mut self, delivery: &ParkedDelivery, due: Option<Timestamp>, letter: Option<&str>) {
        let event = DedupeKey::of(&delivery.envelope);
        self.attempts.remove(&event);
        let known = self
            .parked
            .iter()
            .any(|row| DedupeKey::of(&row.envelope) == event);
        if known {
            return;
        }
        self.next += 1;
        self.parked.push(ParkedDelivery {
            id: ParkedId(self.next),
            due,
            letter: letter.map(str::to_owned),
            ..delivery.clone()
        });
    }

    fn remove(&mut self, id: ParkedId, now: Timestamp) {
        let Some(index) = self.parked.iter().position(|row| row.id == id) else {
            return;
        };
        let row = self.parked.remove(index);
        self.advance(row.lane, now);
    }

    /// Whether a row is there, with the event that it had.
    fn has(&self, row: &ParkedRow) -> bool {
        let mut rows = self.parked.iter().map(ParkedDelivery::row);
        rows.any(|known| known.id == row.id && known.event == row.event)
    }

    fn is_led_by(&self, epoch: u64) -> bool {
        epoch == 0 || (epoch == self.epoch && !self.follows)
    }

    fn bury(&mut self, record: &DeathRecord, now: Timestamp) {
        self.letters.retain(|letter| letter.id != record.id);
        self.letters.push(record.clone());
        self.facts.push(record.fact.clone());
        let event = DedupeKey::of(&record.delivery.envelope);
        self.attempts.remove(&event);
        let deaths = record.delivery.deaths + 1;
        match (record.delivery.id, record.holds) {
            (ParkedId(0), false) => {}
            (ParkedId(0), true) => {
                let held = ParkedDelivery {
                    deaths,
                    ..record.delivery.clone()
                };
                self.park(&held, None, Some(&record.id));
            }
            (id, false) => self.remove(id, now),
            (id, true) => {
                if let Some(row) = self.parked.iter_mut().find(|row| row.id == id) {
                    *row = ParkedDelivery {
                        deaths,
                        due: None,
                        letter: Some(record.id.clone()),
                        ..record.delivery.clone()
                    };
                }
            }
        }
    }

    /// Whether a change comes to something.
    fn change(&mut self, change: &FailureChange, now: Timestamp) -> bool {
        match change {
            FailureChange::Attempted { event, attempts } => {
                let known = self.attempts.entry(*event).or_default();
                *known = (*known).max(*attempts);
                self.noted.push((*event, *attempts));
            }
            FailureChange::Succeeded { event } => {
                self.attempts.remove(event);
            }
            FailureChange::Park { deliveries, due_in } => {
                for (index, delivery) in deliveries.iter().enumerate() {
                    let due = due_in.filter(|_| index == 0).map(|wait| now.plus(wait));
                    self.park(delivery, due, None);
                }
                if let (None, Some(first)) = (due_in, deliveries.first()) {
                    self.advance(first.lane, now);
                }
            }
            FailureChange::Postpone {
                row,
                attempts,
                rounds,
                history,
                due_in,
            } => {
                if !self.has(row) || !self.is_led_by(row.lead) {
                    return false;
                }
                if let Some(row) = self.parked.iter_mut().find(|known| known.id == row.id) {
                    row.attempts = *attempts;
                    row.rounds = *rounds;
                    row.history.clone_from(history);
                    row.due = Some(now.plus(*due_in));
                }
            }
            FailureChange::Finish { row } => {
                if !self.has(row) {
                    return false;
                }
                self.remove(row.id, now);
            }
            FailureChange::Bury(record) => {
                let row = record.delivery.row();
                if row.id != ParkedId(0) && !(self.has(&row) && self.is_led_by(row.lead)) {
                    return false;
                }
                self.bury(record, now);
            }
        }
        true
    }

    fn lane(&self, lane: LaneId) -> ParkedLane {
        let rows = self.parked.iter().filter(|row| row.lane == lane);
        let held = rows
            .clone()
            .any(|row| row.letter.is_some() && row.due.is_none());
        ParkedLane {
            lane,
            rows: rows.count() as u64,
            held,
            oldest: None,
        }
    }
}

impl FailureStore for FakeFailures {
    fn name(&self) -> &str {
        "the fake store"
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn state<'a>(&'a self, _group: &'a str) -> BoxFuture<'a, Result<FailureState, StoreError>> {
        Box::pin(async move {
            self.pause().await;
            let state = self.lock();
            let mut lanes: Vec<LaneId> = state.parked.iter().map(|row| row.lane).collect();
            lanes.sort();
            lanes.dedup();
            Ok(FailureState {
                lanes: lanes.into_iter().map(|lane| state.lane(lane)).collect(),
                attempts: state.attempts.clone(),
                decisions: state.decisions.clone(),
                decided: state.decided(),
            })
        })
    }

    fn apply<'a>(
        &'a self,
        _group: &'a str,
        changes: &'a [FailureChange],
    ) -> BoxFuture<'a, Result<Vec<usize>, StoreError>> {
        Box::pin(async move {
            self.pause().await;
            let result = {
                let now = self.clock.now();
                let mut state = self.lock();
                state.applied += 1;
                let fault = state.faults.pop_front();
                let mut nothing = Vec::new();
                if fault.as_ref().is_none_or(|(_, applied)| *applied) {
                    for (index, change) in changes.iter().enumerate() {
                        if !state.change(change, now) {
                            nothing.push(index);
                        }
                    }
                }
                fault.map_or(Ok(nothing), |(error, _)| Err(error))
            };
            self.pause().await;
            result
        })
    }

    fn due<'a>(&'a self, _group: &'a str, limit: u32) -> BoxFuture<'a, Result<Due, StoreError>> {
        Box::pin(async move {
            self.pause().await;
            self.look()?;
            let due = {
                let now = self.clock.now();
                let state = self.lock();
                let heads = state.parked.iter().filter(|row| state.is_head(row));
                let (ready, waiting): (Vec<_>, Vec<_>) = heads
                    .filter_map(|row| row.due.map(|due| (due, row.lane)))
                    .partition(|(due, _)| *due <= now);
                let micros = |due: Timestamp| (due.as_micros() - now.as_micros()) as u64;
                Due {
                    lanes: ready
                        .iter()
                        .take(limit as usize)
                        .map(|(_, lane)| state.lane(*lane))
                        .collect(),
                    next_in: waiting
                        .iter()
                        .map(|(due, _)| Duration::from_micros(micros(*due)))
                        .min(),
                    paused: state.paused.clone(),
                    decided: state.decided(),
                }
            };
            self.pause().await;
            Ok(due)
        })
    }

    fn rows<'a>(
        &'a self,
        _group: &'a str,
        lane: LaneId,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<ParkedDelivery>, StoreError>> {
        Box::pin(async move {
            self.pause().await;
            self.look()?;
            let rows = {
                let mut state = self.lock();
                if state.rows_faults > 0 {
                    state.rows_faults -= 1;
                    return Err(unavailable());
                }
                let rows = state.parked.iter().filter(|row| row.lane == lane);
                rows.take(limit as usize).cloned().collect()
            };
            self.pause().await;
            Ok(rows)
        })
    }

    fn tell_circuit<'a>(
        &'a self,
        _group: &'a str,
        circuit: Option<&'a OpenCircuit>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.lock().circuit = circuit.cloned();
            Ok(())
        })
    }

    fn tell_attempts_max<'a>(
        &'a self,
        _group: &'a str,
        attempts: u32,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.lock().attempts_max = Some(attempts);
            Ok(())
        })
    }

    fn lead<'a>(
        &'a self,
        _group: &'a str,
        owner: &'a str,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async move {
            self.pause().await;
            let now = self.clock.now();
            let mut state = self.lock();
            state.lead_given_up = lease.is_zero();
            if state.follows {
                // Whoever leads is none of those that ask here.
                state.lead = None;
                return Ok(None);
            }
            let leader = state
                .lead
                .as_ref()
                .map(|(leader, until)| (leader.as_str(), *until));
            if leader.is_some_and(|(leader, until)| leader != owner && until > now) {
                return Ok(None);
            }
            let is_new = leader.is_none_or(|(leader, _)| leader != owner);
            state.epoch += u64::from(is_new);
            state.lead = Some((owner.to_owned(), now.plus(lease)));
            Ok(Some(state.epoch))
        })
    }

    fn deaths<'a>(
        &'a self,
        _group: &'a str,
        events: &'a [DedupeKey],
    ) -> BoxFuture<'a, Result<Vec<u32>, StoreError>> {
        Box::pin(async move {
            let state = self.lock();
            let deaths = |event: &DedupeKey| {
                let letter = state
                    .letters
                    .iter()
                    .find(|letter| DedupeKey::of(&letter.delivery.envelope) == *event);
                letter.map_or(0, |letter| letter.delivery.deaths + 1)
            };
            Ok(events.iter().map(deaths).collect())
        })
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable {
        database: "memory".to_owned(),
        reason: "it is not there".to_owned(),
    }
}

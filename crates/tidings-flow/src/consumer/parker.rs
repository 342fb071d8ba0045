//! The parker: finds out which parked lanes are due and lets their deliveries enter their lanes ahead of newer ones.
//!
//! Where several instances of a group share a store, one of them does that for all, so that a key is never handled in two places: a lease in the store says which. The others park what arrives for a
//! parked key, and learn from the store when it is free.
//!
//! It asks the store at its tick, so that it learns as well what persons did from another process, and in between when a delivery of this process is due or more of a lane may be.

use super::keeping::Kept;
use super::lane::LaneKey;
use super::observer::Notice;
use super::pipeline::{Pipeline, TaskWatch, Trouble, Work};
use super::routes::Routes;
use super::state::Lead;
use crate::dead_letter::History;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{Position, Token};
use tidings_core::limits::{
    PARKED_LEASE, PARKED_LOOK_IDLE_INTERVAL, PARKED_LOOK_INTERVAL, PARKED_REFRESH_INTERVAL,
    PAUSE_RETRY_INTERVAL,
};
use tidings_core::store::{
    FailureStore, LaneId, OpenCircuit, ParkedDelivery, ParkedLane, StoreError,
};

/// Lanes that one look at the store brings, beside those that are worked on.
const LANES_MAX: usize = 256;
/// Rows of a lane that are fetched at once.
const ROWS_MAX: u32 = 64;

/// Learns what the store has for the group; until it answers the group waits.
pub(super) async fn load(pipeline: &Pipeline) {
    learn(pipeline).await;
    pipeline.parker.notify_one();
}

/// The same, where the parker is to look when it would anyway.
pub(super) async fn learn(pipeline: &Pipeline) {
    let Some(store) = &pipeline.failures else {
        return;
    };
    let group = pipeline.group.as_str();
    let mut paused = None;
    loop {
        let turn = pipeline.lock().parked.turn();
        match store.state(group).await {
            Ok(found) => {
                let now = pipeline.clock.elapsed();
                let mut state = pipeline.lock();
                state.parked.set_now(now);
                let doubtful = state.parked.reconcile(&found.lanes, turn);
                state.doubtful.extend(doubtful);
                state.attempts = found.attempts;
                state.decisions = found.decisions;
                state.decided = found.decided;
                state.loaded = true;
                pipeline.wake_after(state);
                return;
            }
            Err(error) if !error.class().is_transient() => {
                pipeline.lock().halt();
                let reason = format!("what is parked cannot be read: {error}");
                pipeline.stop(&reason, error.code());
                return;
            }
            Err(error) => {
                if paused.is_none() {
                    paused = Some(Trouble::begin(pipeline, &error.to_string()));
                }
                pipeline.clock.sleep(PAUSE_RETRY_INTERVAL).await;
                if pipeline.lock().draining {
                    return;
                }
            }
        }
    }
}

/// Lets another instance pick up what is due at once, in place of at the end of the lease.
pub(super) async fn give_up_lead(pipeline: &Pipeline) {
    let lead = pipeline.lock().lead.take();
    let (Some(store), Some(lead)) = (&pipeline.failures, lead) else {
        return;
    };
    let given_up = store.lead(pipeline.group.as_str(), &lead.owner, Duration::ZERO);
    if let Err(error) = given_up.await {
        // It ends by itself then.
        tracing::debug!(%error, "the lead of what is parked is not given up");
    }
}

/// Looks after parked lanes until it is stopped.
pub(super) async fn pick_up(pipeline: Arc<Pipeline>, store: Arc<dyn FailureStore>) {
    let _watch = TaskWatch {
        pipeline: Arc::clone(&pipeline),
        task: "parker",
    };
    while !pipeline.lock().loaded {
        pipeline.parker.notified().await;
    }
    let mut parker = Parker {
        routes: Routes::new(&pipeline),
        owner: format!(
            "{:016x}{:016x}",
            pipeline.chance.next_u64(),
            pipeline.chance.next_u64()
        )
        .into(),
        refreshed: pipeline.clock.elapsed(),
        heeds_at: Duration::ZERO,
        told: None,
        pipeline,
        store,
    };
    loop {
        let wait = match parker.look().await {
            Ok(wait) => wait,
            Err(error) => {
                parker.wait_in_trouble(&error).await;
                continue;
            }
        };
        tokio::select! {
            biased;
            () = parker.pipeline.parker.notified() => {}
            () = parker.pipeline.clock.sleep(wait) => {}
        }
    }
}

struct Parker {
    pipeline: Arc<Pipeline>,
    store: Arc<dyn FailureStore>,
    routes: Routes,
    /// Names this instance in the store.
    owner: Arc<str>,
    /// When what is parked was last compared as a whole.
    refreshed: Duration,
    /// Until when decisions are not read again.
    heeds_at: Duration,
    /// What the store knows of the circuit; `None` before it was told anything.
    told: Option<Option<OpenCircuit>>,
}

impl Parker {
    /// Looks once, and answers how long until the next look.
    async fn look(&mut self) -> Result<Duration, StoreError> {
        self.refresh().await?;
        self.tell_circuit().await;
        let mut doubtful = std::mem::take(&mut self.pipeline.lock().doubtful);
        doubtful.sort_unstable();
        doubtful.dedup();
        let looked = self.look_for_due(&doubtful).await;
        if looked.is_err() {
            // Whether they have a row is still to be found out.
            self.pipeline.lock().doubtful.extend(doubtful);
        }
        looked
    }

    async fn look_for_due(&mut self, doubtful: &[LaneId]) -> Result<Duration, StoreError> {
        let pipeline = Arc::clone(&self.pipeline);
        let group = pipeline.group.as_str();
        let now = pipeline.clock.elapsed();
        let (turn, busy) = {
            let mut state = pipeline.lock();
            state.parked.set_now(now);
            state.parker_wakes_at = Duration::ZERO;
            (state.parked.turn(), state.parked.busy())
        };
        let leads = self.leads(now).await?;
        let limit = u32::try_from(busy + LANES_MAX).unwrap_or(u32::MAX);
        let due = self.store.due(group, limit).await?;
        pipeline.set_paused_by(due.paused.as_deref());
        self.heed(due.decided).await?;
        let mut entered = 0;
        // While nothing is tried, what is parked stays where it is.
        let holds = pipeline.lock().circuit.holds();
        if due.paused.is_none()
            && let Some(lead) = leads
            && !holds
        {
            for lane in &due.lanes {
                entered += usize::from(self.enter(lane, lead, turn).await?);
            }
        }
        let left_out = due.paused.is_none() && leads.is_some() && entered < due.lanes.len();
        for lane in doubtful {
            if due.lanes.iter().all(|due| due.lane != *lane) {
                self.look_at(*lane, turn).await?;
            }
        }
        let more = due.lanes.len() >= limit as usize;
        let mut state = pipeline.lock();
        state.waits_for_time = due.next_in.is_some() || left_out || more;
        let interval = match (more, state.parked.is_empty()) {
            // What did not fit into one look is looked for at once, as long as there is room; whoever makes room wakes the parker.
            (true, _) if entered > 0 => Duration::ZERO,
            (true, _) => PARKED_LOOK_INTERVAL / 10,
            (false, false) => PARKED_LOOK_INTERVAL,
            (false, true) => PARKED_LOOK_IDLE_INTERVAL,
        };
        let wait = due.next_in.map_or(interval, |next| next.min(interval));
        state.parker_wakes_at = pipeline.clock.elapsed() + wait;
        pipeline.wake_idle_waiter(&state);
        Ok(wait)
    }

    /// Tells the store how the circuit stands, if that is news.
    async fn tell_circuit(&mut self) {
        let circuit = self.pipeline.lock().circuit.to_tell();
        if self.told.as_ref() == Some(&circuit) {
            return;
        }
        let group = self.pipeline.group.as_str();
        if let Err(error) = self.store.tell_circuit(group, circuit.as_ref()).await {
            // Only who looks from outside misses it; a store whose tables are older has no place for it.
            tracing::debug!(%error, "how the circuit stands could not be told");
        }
        self.told = Some(circuit);
    }

    /// The epoch of the lead, if this instance may start what is due now. The lease counts from before it was asked for, so that it ends here before it does in the store.
    async fn leads(&self, now: Duration) -> Result<Option<u64>, StoreError> {
        if !self.store.is_shared() {
            return Ok(Some(0));
        }
        let group = self.pipeline.group.as_str();
        let leads = self.store.lead(group, &self.owner, PARKED_LEASE).await?;
        self.pipeline.lock().lead = leads.map(|epoch| Lead {
            until: now.saturating_add(PARKED_LEASE),
            owner: Arc::clone(&self.owner),
            epoch,
        });
        Ok(leads)
    }

    /// Compares what is parked as a whole, now and then: persons and other instances change it as well.
    async fn refresh(&mut self) -> Result<(), StoreError> {
        let pipeline = &self.pipeline;
        let now = pipeline.clock.elapsed();
        if now.saturating_sub(self.refreshed) < PARKED_REFRESH_INTERVAL {
            return Ok(());
        }
        self.refreshed = now;
        let turn = {
            let state = pipeline.lock();
            if state.parked.is_empty() {
                return Ok(());
            }
            state.parked.turn()
        };
        let found = self.store.state(pipeline.group.as_str()).await?;
        let now = pipeline.clock.elapsed();
        let mut state = pipeline.lock();
        state.parked.set_now(now);
        let doubtful = state.parked.reconcile(&found.lanes, turn);
        state.doubtful.extend(doubtful);
        pipeline.wake_after(state);
        Ok(())
    }

    /// Learns what persons decided, if they decided something, and passes over what is discarded and not started yet.
    async fn heed(&mut self, decided: String) -> Result<(), StoreError> {
        let pipeline = Arc::clone(&self.pipeline);
        let now = pipeline.clock.elapsed();
        if pipeline.lock().decided == decided || now < self.heeds_at {
            return Ok(());
        }
        let decisions = self.store.decisions(pipeline.group.as_str()).await?;
        // A redrive of many decides something all the time: reading it takes a tenth of this task at most.
        let after = pipeline.clock.elapsed();
        let took = after.saturating_sub(now);
        self.heeds_at = after + PARKED_LOOK_IDLE_INTERVAL.max(took * 10);
        let mut state = pipeline.lock();
        state.decisions = decisions;
        state.decided = decided;
        let passed_over = state.pass_over();
        pipeline.wake_idle_waiter(&state);
        pipeline.wake_after(state);
        for decided in passed_over {
            pipeline.notice(decided.notice());
        }
        Ok(())
    }

    /// Lets the rows of a due lane enter the lane table; `false` if there was no room, or something of the lane is on its way.
    async fn enter(&mut self, lane: &ParkedLane, lead: u64, turn: u64) -> Result<bool, StoreError> {
        let pipeline = Arc::clone(&self.pipeline);
        let (room, turn) = {
            let mut state = pipeline.lock();
            let room = state.room();
            state.parker_waits_for_room |= room == 0;
            if state.draining || room == 0 {
                return Ok(false);
            }
            if !state.parked.due(lane, turn) {
                return Ok(false);
            }
            (room, state.parked.turn())
        };
        let limit = ROWS_MAX.min(u32::try_from(room).unwrap_or(u32::MAX));
        let group = pipeline.group.as_str();
        let mut rows = match self.store.rows(group, lane.lane, limit).await {
            Ok(rows) => rows,
            Err(error) => {
                let mut state = pipeline.lock();
                state.parked.fetched_nothing(lane.lane, false, turn);
                return Err(error);
            }
        };
        for row in &mut rows {
            row.lead = lead;
        }
        self.take(lane, rows, turn);
        Ok(true)
    }

    /// Forgets a lane of which nothing is due if it has no row at all.
    async fn look_at(&self, lane: LaneId, turn: u64) -> Result<(), StoreError> {
        let pipeline = &self.pipeline;
        {
            let mut state = pipeline.lock();
            if !state.parked.has(lane) {
                return Ok(());
            }
            let lane_told = ParkedLane {
                lane,
                rows: 0,
                held: false,
                oldest: None,
            };
            if !state.parked.due(&lane_told, turn) {
                // Something of it is on its way: it is looked at again.
                state.doubtful.push(lane);
                return Ok(());
            }
        }
        let found = self.store.rows(pipeline.group.as_str(), lane, 1).await;
        let mut state = pipeline.lock();
        let is_empty = found.as_ref().is_ok_and(Vec::is_empty);
        state.parked.fetched_nothing(lane, is_empty, turn);
        pipeline.wake_idle_waiter(&state);
        pipeline.wake_after(state);
        found.map(drop)
    }

    fn take(&mut self, lane: &ParkedLane, rows: Vec<ParkedDelivery>, turn: u64) {
        let pipeline = Arc::clone(&self.pipeline);
        let is_empty = rows.is_empty();
        let ready = ready_rows(rows);
        let key = match ready.first().and_then(|row| row.envelope.key()) {
            Some(key) => pipeline.lane_of_key(&key),
            None => LaneKey(pipeline.hasher.hash_one(lane.lane)),
        };
        let mut items = Vec::with_capacity(ready.len());
        for row in ready {
            let wanted = match row.problem {
                None => self.routes.of(&pipeline, row.envelope.event_type()),
                Some(_) => Some(self.routes.any()),
            };
            // A row that nobody wants takes its turn as well: it is given up there, since nothing handled it.
            let route = wanted.unwrap_or(self.routes.any());
            let attempts = row.attempts;
            let mut work = work_of(row, route.handler);
            if let Some(kept) = &mut work.kept {
                kept.unwanted = wanted.is_none();
            }
            items.push((route.class, attempts, work));
        }
        let mut state = pipeline.lock();
        let count = items.len();
        if count == 0 || state.draining {
            state.parked.fetched_nothing(lane.lane, is_empty, turn);
            pipeline.wake_after(state);
            return;
        }
        if state.parked.fetched(lane.lane, count) {
            state.table.deliver_ahead(key, items.into_iter());
        }
        pipeline.wake_after(state);
    }

    async fn wait_in_trouble(&self, error: &StoreError) {
        let pipeline = &self.pipeline;
        pipeline.notice(Notice::StoreFailed {
            error,
            delay: PAUSE_RETRY_INTERVAL,
        });
        pipeline.clock.sleep(PAUSE_RETRY_INTERVAL).await;
    }
}

/// The rows from the head on that follow each other without a wait: up to the first that has a time of its own, or is held.
fn ready_rows(mut rows: Vec<ParkedDelivery>) -> Vec<ParkedDelivery> {
    let is_due = rows.first().is_some_and(|head| head.due.is_some());
    if !is_due {
        return Vec::new();
    }
    let own = rows.iter().skip(1);
    let ready = own
        .take_while(|row| row.due.is_none() && row.letter.is_none())
        .count();
    rows.truncate(ready + 1);
    rows
}

fn work_of(row: ParkedDelivery, handler: usize) -> Work {
    let kept = Kept {
        row: row.row(),
        lane: row.lane,
        rounds: row.rounds,
        deaths: row.deaths,
        letter: row.letter,
        unwanted: false,
    };
    Work {
        // Never told to the broker: what comes from the store is told to the store.
        token: Token(0),
        sequence: 0,
        scope: usize::MAX,
        position: row.position.map(Position),
        append_time: None,
        envelope: row.envelope,
        handler,
        suspect: false,
        history: History::from(row.history),
        problem: row.problem,
        kept: Some(Box::new(kept)),
    }
}

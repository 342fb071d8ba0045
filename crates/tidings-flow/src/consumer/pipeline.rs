//! What the tasks of one consumer share: its lanes, what waits to be settled, and who is to be woken.
//!
//! One lock guards all of it. Every task comes with a batch of news and leaves with a batch of work, so that the lock is taken once for many events and held
//! for microseconds; nothing is awaited under it.

use super::breaker::Circuit;
use super::builder::ConsumerConfig;
use super::error::ConsumerError;
use super::keeping::{Finished, Keep};
use super::lane::{Call, LaneKey, LaneTable};
use super::observer::{Notice, Observer};
use super::parking::ParkedLanes;
use super::policy::{OnFailure, Policies};
use super::rate::Ration;
use super::resume::Known;
use super::routes::route_of_copy;
pub(super) use super::state::{Arrival, Completion, Exchange, Progress, State, Work};
use super::stats::ConsumerStats;
use crate::handler::{BatchHandler, DeliveryHandler};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tidings_core::broker::{Broker, GroupName, Settle, SettleAction, Token};
use tidings_core::extract::{DeliveryGuarantee, HandlerShared, Shutdown, States};
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::FailureStore;
use tidings_core::{Code, Envelope, Pattern, codes};
use tokio::sync::{Notify, watch};

/// Outcomes that are worth a call of the broker while there is more to handle. A busy worker reaches this within milliseconds, and whoever falls idle or is
/// slow does not wait for it.
const SETTLE_EVENTS_MIN: usize = 1_024;

/// Lanes to work on that are worth having while a fetch is under way, whatever few handlers run at the same time.
const READY_LANES_MIN: usize = 128;

/// A handler of either kind.
pub(super) enum Handler {
    Single(Arc<dyn DeliveryHandler>),
    Batch(Arc<dyn BatchHandler>),
}

impl Handler {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Single(handler) => handler.name(),
            Self::Batch(handler) => handler.name(),
        }
    }

    pub(super) fn patterns(&self) -> &[Pattern] {
        match self {
            Self::Single(handler) => handler.patterns(),
            Self::Batch(handler) => handler.patterns(),
        }
    }

    pub(super) fn check(&self, states: &States) -> Result<(), String> {
        match self {
            Self::Single(handler) => handler.check(states),
            Self::Batch(handler) => handler.check(states),
        }
    }

    pub(super) fn delivery(&self) -> DeliveryGuarantee {
        match self {
            Self::Single(handler) => handler.delivery(),
            Self::Batch(handler) => handler.delivery(),
        }
    }
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the tasks of one consumer share.
pub(super) struct Pipeline {
    pub(super) group: GroupName,
    pub(super) config: ConsumerConfig,
    pub(super) handlers: Vec<Handler>,
    pub(super) states: States,
    pub(super) shutdown: Shutdown,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) settle: Arc<dyn Settle>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chance: Arc<dyn Chance>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    /// Where failures are kept, if anywhere.
    pub(super) failures: Option<Arc<dyn FailureStore>>,
    pub(super) policies: Policies,
    pub(super) on_failure: OnFailure,
    /// Whether lanes may be parked, seen without the lock: a hint for work that is better done outside of it.
    pub(super) may_be_parked: AtomicBool,
    /// Held by handlings of suspects: by many that are suspected for the first time, or by one.
    pub(super) suspects: tokio::sync::RwLock<()>,
    /// What an earlier run had published of its suspects; set before the first of them is handled.
    pub(super) known: OnceLock<Known>,
    /// Hashes keys to lanes, differently in each process, so that nobody can choose keys that collide.
    pub(super) hasher: RandomState,
    state: Mutex<State>,
    /// Lanes to work on that are enough.
    ready_wanted: usize,
    pub(super) workers: Vec<Notify>,
    pub(super) receiver: Notify,
    pub(super) settler: Notify,
    pub(super) keeper: Notify,
    pub(super) parker: Notify,
    pub(super) timer: Notify,
    pub(super) progress: watch::Sender<Progress>,
}

/// What a pipeline is made from.
pub(super) struct PipelineParts {
    pub(super) table: LaneTable<Work>,
    pub(super) workers: usize,
    pub(super) group: GroupName,
    pub(super) config: ConsumerConfig,
    pub(super) handlers: Vec<Handler>,
    pub(super) states: States,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) failures: Option<Arc<dyn FailureStore>>,
    pub(super) policies: Policies,
    pub(super) on_failure: OnFailure,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) settle: Arc<dyn Settle>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chance: Arc<dyn Chance>,
}

impl Pipeline {
    pub(super) fn new(parts: PipelineParts) -> Arc<Self> {
        let ready_wanted = ready_wanted(&parts.config, &parts.handlers);
        let has_store = parts.failures.is_some();
        let state = State {
            table: parts.table,
            parked: ParkedLanes::default(),
            doubtful: Vec::new(),
            keep: Keep::default(),
            finished: Finished::default(),
            lead: None,
            attempts: HashMap::new(),
            decisions: HashMap::new(),
            decided: String::new(),
            loaded: !has_store,
            waits_for_time: has_store,
            parker_waits_for_room: false,
            parker_wakes_at: Duration::ZERO,
            paused_by: None,
            circuit: Circuit::new(parts.config.breaker),
            ration: parts
                .config
                .rate_max
                .map(|rate| Ration::new(rate, parts.clock.elapsed())),
            halted: false,
            outcomes: Vec::new(),
            settling: 0,
            settler_awake: false,
            receiver_waits: false,
            idle_requested: 0,
            idle_workers: Vec::new(),
            troubles: 0,
            paused_by_user: false,
            sequence_started: 0,
            draining: false,
            stopping: false,
            closing: false,
            all_told: false,
            counts: ConsumerStats::default(),
        };
        Arc::new(Self {
            group: parts.group,
            config: parts.config,
            handlers: parts.handlers,
            states: parts.states,
            shutdown: Shutdown::default(),
            broker: parts.broker,
            settle: parts.settle,
            clock: parts.clock,
            chance: parts.chance,
            observer: parts.observer,
            failures: parts.failures,
            policies: parts.policies,
            on_failure: parts.on_failure,
            may_be_parked: AtomicBool::new(false),
            suspects: tokio::sync::RwLock::new(()),
            known: OnceLock::new(),
            hasher: RandomState::new(),
            state: Mutex::new(state),
            ready_wanted,
            workers: (0..parts.workers).map(|_| Notify::new()).collect(),
            receiver: Notify::new(),
            settler: Notify::new(),
            keeper: Notify::new(),
            parker: Notify::new(),
            timer: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        })
    }

    /// Held for a batch of news, never across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What deliveries handled by one worker share. Each worker has its own, so that the workers do not fight over one reference count.
    pub(super) fn handler_shared(&self) -> Arc<HandlerShared> {
        Arc::new(HandlerShared {
            group: self.group.clone(),
            states: self.states.clone(),
            shutdown: self.shutdown.clone(),
            time_limit: self.config.time_limit,
        })
    }

    pub(super) fn notice(&self, notice: Notice<'_>) {
        if let Some(observer) = &self.observer {
            observer.notice(notice);
        }
    }

    /// Takes what the receiver brought: deliveries for lanes, and tokens of events that nobody wants.
    pub(super) fn deliver(&self, arrivals: &mut Vec<Arrival>, unwanted: &mut Vec<Token>) {
        let mut state = self.lock();
        let parked = !state.parked.is_empty();
        let mut decided = Vec::new();
        for arrival in arrivals.drain(..) {
            if state.draining || state.halted {
                // It came while draining began: handled now, it would leave a gap behind it. Nor is anything parked by a group that stops because too much is.
                state.release_one(&arrival.work);
                continue;
            }
            let route = |copy: &Envelope| route_of_copy(self, copy.event_type());
            let Some((arrival, failures)) = state.as_decided(arrival, route, &mut decided) else {
                continue;
            };
            let Arrival {
                lane,
                class,
                work,
                parked_as,
            } = arrival;
            let work = match parked {
                true => self.park_arrival(&mut state, work, (lane, parked_as), failures),
                false => Some(work),
            };
            let Some(work) = work else {
                continue;
            };
            state.table.deliver(lane, class, failures, work);
        }
        state.counts.skipped += unwanted.len() as u64;
        let acks = unwanted.drain(..).map(|token| (token, SettleAction::Ack));
        state.outcomes.extend(acks);
        self.wake_after(state);
        for decided in decided {
            self.notice(decided.notice());
        }
    }

    /// The lane of a key in memory.
    pub(super) fn lane_of_key(&self, key: &str) -> LaneKey {
        LaneKey(self.hasher.hash_one(key))
    }

    /// Gives a worker's news to the lanes and takes new calls; `false` once the worker is to end.
    pub(super) fn exchange(&self, worker: usize, exchange: &mut Exchange) -> bool {
        let mut state = self.lock();
        let mut closed = None;
        for completion in exchange.done.drain(..) {
            let (lane, token) = match completion {
                Completion::Elsewhere => continue,
                Completion::Handled {
                    lane,
                    token,
                    emitted,
                } => {
                    state.counts.handled += 1;
                    state.counts.emitted += emitted;
                    closed = closed.or(self.succeeds(&mut state, lane));
                    (lane, token)
                }
                Completion::Deduplicated { lane, token } => {
                    state.counts.deduplicated += 1;
                    (lane, token)
                }
                Completion::DeadLettered { lane, token } => {
                    state.counts.dead_lettered += 1;
                    (lane, token)
                }
            };
            state.table.finished(lane);
            state.outcomes.push((token, SettleAction::Ack));
        }
        for _ in 0..std::mem::take(&mut exchange.calls_ended) {
            state.table.call_ended();
        }
        state.look_after_probe();
        match state.ration {
            _ if state.circuit.wants_probe() => self.start_probe(&mut state, exchange),
            None => state.table.start(exchange.items_max, &mut exchange.calls),
            Some(_) => self.start_rationed(&mut state, exchange),
        }
        for call in &exchange.calls {
            state.sequence_started = newest(call).max(state.sequence_started);
        }
        state.idle_workers.retain(|idle| *idle != worker);
        let idle = exchange.calls.is_empty();
        if idle {
            state.idle_workers.push(worker);
        }
        if state.draining && !state.stopping && state.table.held() == 0 {
            state.stopping = true;
            self.wake_workers();
        }
        let goes_on = !state.stopping;
        let settle = idle || exchange.slow || state.outcomes.len() >= SETTLE_EVENTS_MIN;
        self.wake(state, settle);
        if let Some(open_for) = closed {
            self.tell_closed(open_for);
        }
        goes_on
    }

    /// Starts no more than the group may.
    fn start_rationed(&self, state: &mut State, exchange: &mut Exchange) {
        let Some(ration) = &mut state.ration else {
            return;
        };
        let allowed = ration.allows(self.clock.elapsed());
        if allowed > 0 {
            let items_max = exchange.items_max.min(allowed);
            state.table.start(items_max, &mut exchange.calls);
            ration.used(exchange.calls.iter().map(Call::len).sum());
        }
        let used_up = ration.next_in() > Duration::from_micros(1);
        state.table.set_rationed(used_up);
        if used_up {
            self.timer.notify_one();
        }
    }

    /// Wakes who has something to do after a change, and lets go of the lock first.
    pub(super) fn wake_after(&self, state: MutexGuard<'_, State>) {
        self.wake(state, true);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>, settle: bool) {
        state.look_after_probe();
        let worker = state
            .table
            .may_start()
            .then(|| state.idle_workers.pop())
            .flatten();
        let settler = settle && !state.settler_awake && !state.outcomes.is_empty();
        state.settler_awake |= settler;
        let keeper = state.keep.has_work() && !state.keep.keeper_awake;
        state.keep.keeper_awake |= keeper;
        let may_be_parked = !state.parked.is_empty();
        if may_be_parked != self.may_be_parked.load(Ordering::Relaxed) {
            self.may_be_parked.store(may_be_parked, Ordering::Relaxed);
        }
        let receiver = state.receiver_waits && self.wants_more(&state);
        if receiver {
            state.receiver_waits = false;
        }
        let parker = state.parker_waits_for_room && state.room() >= self.config.in_flight_max / 4;
        if parker {
            state.parker_waits_for_room = false;
        }
        drop(state);
        if parker {
            self.parker.notify_one();
        }
        if let Some(notify) = worker.and_then(|worker| self.workers.get(worker)) {
            notify.notify_one();
        }
        if settler {
            self.settler.notify_one();
        }
        if keeper {
            self.keeper.notify_one();
        }
        if receiver {
            self.receiver.notify_one();
        }
    }

    /// Wakes the receiver if somebody waits for the group to be idle, and it is.
    pub(super) fn wake_idle_waiter(&self, state: &State) {
        let wanted = state.is_idle() && {
            let progress = self.progress.borrow();
            self.config.until_end || state.idle_requested > progress.idle_answered
        };
        if wanted {
            self.receiver.notify_one();
        }
    }

    /// Whether it pays to receive now: there is some room and few lanes to work on, or any room and nothing to do at all.
    ///
    /// With enough to work on nothing is fetched ahead: what lies around leaves the processor's caches, and that costs more than fetching it later.
    pub(super) fn wants_more(&self, state: &State) -> bool {
        let room = state.room();
        let ready = state.table.ready_lanes();
        (room > self.config.in_flight_max / 64 && ready < self.ready_wanted)
            || (room > 0 && ready == 0 && state.table.running() == 0)
    }

    /// Pauses or resumes for the user.
    pub(super) fn set_paused_by_user(&self, paused: bool) {
        let mut state = self.lock();
        state.paused_by_user = paused;
        self.apply_pause(state);
    }

    /// Stops fetching, and keeps of what is queued only what is older than the newest event started: if that is handled, the group's place in the log has no
    /// gaps, and nothing that was handled comes again. A group that the user has paused, or whose circuit is open, starts nothing at all.
    pub(super) fn begin_drain(&self) {
        self.shutdown.request();
        let mut state = self.lock();
        state.draining = true;
        state.stopping = state.paused_by_user || state.halted || !state.circuit.is_closed();
        let newest = state.sequence_started;
        // Rows of the store are there at the next start.
        let newer = state
            .table
            .withdraw(|work| work.sequence > newest || work.kept.is_some());
        state.release(&newer);
        self.apply_pause(state);
        self.receiver.notify_one();
        self.wake_workers();
    }

    /// Starts nothing any more.
    pub(super) fn stop_starting(&self) {
        let mut state = self.lock();
        state.stopping = true;
        self.apply_pause(state);
        self.wake_workers();
    }

    pub(super) fn wake_workers(&self) {
        for worker in &self.workers {
            worker.notify_one();
        }
    }

    /// Takes what is queued or waits out of the lanes, to be delivered again to whoever comes next.
    pub(super) fn release_queued(&self) {
        let mut state = self.lock();
        let withdrawn = state.table.withdraw(|_| true);
        state.release(&withdrawn);
        self.wake_after(state);
    }

    /// Gives back what is queued of a scope that is to be given up: the broker then knows that nobody is at work on it, and need not wait.
    pub(super) fn release_scope(&self, scope: usize) {
        let mut state = self.lock();
        let withdrawn = state
            .table
            .withdraw(|work| work.scope == scope && work.kept.is_none());
        state.release(&withdrawn);
        self.wake_after(state);
    }

    /// Forgets what is queued of a scope that was taken away; nobody may settle it any more, and what is not parked yet is not parked.
    pub(super) fn forget_scope(&self, scope: usize) {
        let mut state = self.lock();
        for (lane, count) in state.keep.forget_scope(scope) {
            state.parked.withdrawn(lane, count);
        }
        let withdrawn = state
            .table
            .withdraw(|work| work.scope == scope && work.kept.is_none());
        self.wake_after(state);
        drop(withdrawn);
    }

    /// Notes why a person paused the group in its store, or that it may go on.
    pub(super) fn set_paused_by(&self, why: Option<&str>) {
        let mut state = self.lock();
        if state.paused_by.as_deref() == why {
            return;
        }
        state.paused_by = why.map(str::to_owned);
        self.apply_pause(state);
        match why {
            Some(reason) => self.notice(Notice::Paused { reason }),
            None => self.notice(Notice::Resumed),
        }
    }

    fn apply_pause(&self, mut state: MutexGuard<'_, State>) {
        let paused = state.is_paused();
        state.table.set_paused(paused);
        self.wake_after(state);
    }

    /// Notes that the consumer cannot go on.
    pub(super) fn stop(&self, reason: &str, code: Code) {
        self.notice(Notice::Stopped { reason });
        self.progress.send_modify(|progress| {
            progress
                .stopped
                .get_or_insert_with(|| (reason.to_owned(), code));
        });
    }

    pub(super) fn stopped_error(&self, reason: String, code: Code) -> ConsumerError {
        ConsumerError::Stopped {
            group: self.group.to_string(),
            reason,
            code,
        }
    }
}

/// How many lanes to work on are enough: all places twice, and for batch handlers what makes whole batches.
fn ready_wanted(config: &ConsumerConfig, handlers: &[Handler]) -> usize {
    let a_call = handlers.iter().map(|handler| match handler {
        Handler::Single(_) => 1,
        Handler::Batch(handler) => handler.events_max(),
    });
    let parallel = config.parallel.saturating_mul(a_call.max().unwrap_or(1));
    parallel.saturating_mul(2).max(READY_LANES_MIN)
}

/// The newest event of a call.
fn newest(call: &Call<Work>) -> u64 {
    match call {
        Call::One(running) => running.item.sequence,
        Call::Many(taken) => {
            let sequences = taken.iter().map(|running| running.item.sequence);
            sequences.max().unwrap_or(0)
        }
    }
}

/// The group waits while one of these lives: the broker refuses what somebody has to publish, or a store what somebody has to write.
pub(super) struct Trouble<'a> {
    pipeline: &'a Pipeline,
}

impl<'a> Trouble<'a> {
    pub(super) fn begin(pipeline: &'a Pipeline, reason: &str) -> Self {
        let mut state = pipeline.lock();
        state.troubles += 1;
        let first = state.troubles == 1;
        state.counts.trouble = Some(reason.to_owned());
        pipeline.apply_pause(state);
        if first {
            pipeline.notice(Notice::Paused { reason });
        }
        Self { pipeline }
    }
}

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        let mut state = self.pipeline.lock();
        state.troubles -= 1;
        let last = state.troubles == 0;
        if last {
            state.counts.trouble = None;
        }
        self.pipeline.apply_pause(state);
        if last {
            self.pipeline.notice(Notice::Resumed);
        }
    }
}

/// Watches a task: if it panics, which is a defect of ours, the consumer says so instead of standing still.
pub(super) struct TaskWatch {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) task: &'static str,
}

impl Drop for TaskWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = format!(
                "its {} ended unexpectedly; this is a defect of tidings, please report it",
                self.task
            );
            self.pipeline.stop(&reason, codes::BUG);
        }
    }
}

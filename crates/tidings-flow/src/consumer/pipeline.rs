//! What the tasks of one consumer share: its lanes, what waits to be settled, and who is to be woken.
//!
//! One lock guards all of it. Every task comes with a batch of news and leaves with a batch of work, so that the lock is taken once for many events and held
//! for microseconds; nothing is awaited under it.

use super::builder::ConsumerConfig;
use super::error::ConsumerError;
use super::lane::{Call, LaneKey, LaneTable};
use super::observer::{Notice, Observer};
use super::resume::Known;
use super::stats::ConsumerStats;
use crate::dead_letter::History;
use crate::handler::{BatchHandler, DeliveryHandler};
use std::collections::hash_map::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tidings_core::broker::{Broker, GroupName, Position, Settle, SettleAction, Token};
use tidings_core::extract::{HandlerShared, Shutdown, States};
use tidings_core::seam::{Chance, Clock};
use tidings_core::{Code, Envelope, Pattern, Timestamp, codes};
use tokio::sync::{Notify, watch};

/// Outcomes that are worth a call of the broker while there is more to handle. A busy worker reaches this within milliseconds, and whoever falls idle or is
/// slow does not wait for it.
const SETTLE_EVENTS_MIN: usize = 256;

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
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

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
}

/// What became of one item of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Completion {
    /// Handled; so many events were emitted and published.
    Handled {
        lane: LaneKey,
        token: Token,
        emitted: u64,
    },
    /// Given up, its dead letter is recorded.
    DeadLettered { lane: LaneKey, token: Token },
    /// It waits in its lane for the next attempt.
    Retrying,
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
    /// It cannot go on, for this reason.
    pub(super) stopped: Option<(String, Code)>,
}

/// What the lock guards.
pub(super) struct State {
    pub(super) table: LaneTable<Work>,
    /// Told to the broker next.
    pub(super) outcomes: Vec<(Token, SettleAction)>,
    /// Being told to the broker.
    pub(super) settling: usize,
    pub(super) settler_awake: bool,
    pub(super) receiver_waits: bool,
    pub(super) idle_requested: u64,
    idle_workers: Vec<usize>,
    /// Publishes that the broker refuses at the moment.
    troubles: usize,
    paused_by_user: bool,
    /// The newest event that was ever started.
    sequence_started: u64,
    /// Nothing is fetched any more; what is older than the newest event started is still handled.
    pub(super) draining: bool,
    /// Nothing is started any more.
    stopping: bool,
    /// Nothing runs any more.
    pub(super) closing: bool,
    pub(super) counts: ConsumerStats,
}

impl State {
    /// How many events may be received now.
    pub(super) fn room(&self) -> usize {
        self.table
            .room()
            .saturating_sub(self.outcomes.len() + self.settling)
    }

    /// Gives deliveries back, to be delivered again to whoever comes next.
    fn release(&mut self, works: &[Work]) {
        let releases = works.iter().map(|work| (work.token, SettleAction::Release));
        self.outcomes.extend(releases);
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.table.held() == 0 && self.outcomes.is_empty() && self.settling == 0
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
    /// What an earlier run had published of its suspects; set before the first of them is handled.
    pub(super) known: OnceLock<Known>,
    /// Hashes keys to lanes, differently in each process, so that nobody can choose keys that collide.
    pub(super) hasher: RandomState,
    state: Mutex<State>,
    pub(super) workers: Vec<Notify>,
    pub(super) receiver: Notify,
    pub(super) settler: Notify,
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
    pub(super) broker: Arc<dyn Broker>,
    pub(super) settle: Arc<dyn Settle>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chance: Arc<dyn Chance>,
}

impl Pipeline {
    pub(super) fn new(parts: PipelineParts) -> Arc<Self> {
        let state = State {
            table: parts.table,
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
            known: OnceLock::new(),
            hasher: RandomState::new(),
            state: Mutex::new(state),
            workers: (0..parts.workers).map(|_| Notify::new()).collect(),
            receiver: Notify::new(),
            settler: Notify::new(),
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
        })
    }

    pub(super) fn notice(&self, notice: Notice<'_>) {
        if let Some(observer) = &self.observer {
            observer.notice(notice);
        }
    }

    /// Takes what the receiver brought: items for lanes, and tokens of events that nobody wants.
    pub(super) fn deliver(
        &self,
        items: &mut Vec<(LaneKey, usize, Work)>,
        unwanted: &mut Vec<Token>,
    ) {
        let mut state = self.lock();
        for (lane, class, work) in items.drain(..) {
            if state.draining {
                // It came while draining began: handled now, it would leave a gap behind it.
                state.release(&[work]);
            } else {
                state.table.deliver(lane, class, work);
            }
        }
        state.counts.skipped += unwanted.len() as u64;
        let acks = unwanted.drain(..).map(|token| (token, SettleAction::Ack));
        state.outcomes.extend(acks);
        self.wake_after(state);
    }

    /// Gives a worker's news to the lanes and takes new calls; `false` once the worker is to end.
    pub(super) fn exchange(&self, worker: usize, exchange: &mut Exchange) -> bool {
        let mut state = self.lock();
        for completion in exchange.done.drain(..) {
            let (lane, token) = match completion {
                Completion::Retrying => continue,
                Completion::Handled {
                    lane,
                    token,
                    emitted,
                } => {
                    state.counts.handled += 1;
                    state.counts.emitted += emitted;
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
        state.table.start(exchange.items_max, &mut exchange.calls);
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
        goes_on
    }

    /// Wakes who has something to do after a change, and lets go of the lock first.
    pub(super) fn wake_after(&self, state: MutexGuard<'_, State>) {
        self.wake(state, true);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>, settle: bool) {
        let worker = state
            .table
            .may_start()
            .then(|| state.idle_workers.pop())
            .flatten();
        let settler = settle && !state.settler_awake && !state.outcomes.is_empty();
        state.settler_awake |= settler;
        let receiver = state.receiver_waits && self.wants_more(&state);
        if receiver {
            state.receiver_waits = false;
        }
        drop(state);
        if let Some(notify) = worker.and_then(|worker| self.workers.get(worker)) {
            notify.notify_one();
        }
        if settler {
            self.settler.notify_one();
        }
        if receiver {
            self.receiver.notify_one();
        }
    }

    /// Whether it pays to receive now: there is much room, or some room and few lanes to work on, or any room and nothing to do at all.
    pub(super) fn wants_more(&self, state: &State) -> bool {
        let room = state.room();
        let held_max = self.config.in_flight_max;
        let ready = state.table.ready_lanes();
        room > held_max / 4
            || (room > held_max / 64 && ready < self.config.parallel)
            || (room > 0 && ready == 0 && state.table.running() == 0)
    }

    /// Pauses or resumes for the user.
    pub(super) fn set_paused_by_user(&self, paused: bool) {
        let mut state = self.lock();
        state.paused_by_user = paused;
        self.apply_pause(state);
    }

    /// Stops fetching, and keeps of what is queued only what is older than the newest event started: if that is handled, the group's place in the log has no
    /// gaps, and nothing that was handled comes again. A group that the user has paused starts nothing at all.
    pub(super) fn begin_drain(&self) {
        self.shutdown.request();
        let mut state = self.lock();
        state.draining = true;
        state.stopping = state.paused_by_user;
        let newest = state.sequence_started;
        let newer = state.table.withdraw(|work| work.sequence > newest);
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

    fn wake_workers(&self) {
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

    /// Forgets what is queued of a scope that was taken away; nobody may settle it any more.
    pub(super) fn forget_scope(&self, scope: usize) {
        let mut state = self.lock();
        let withdrawn = state.table.withdraw(|work| work.scope == scope);
        self.wake_after(state);
        drop(withdrawn);
    }

    fn apply_pause(&self, mut state: MutexGuard<'_, State>) {
        let paused = state.paused_by_user || state.troubles > 0 || state.stopping;
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

    pub(super) fn stats(&self) -> ConsumerStats {
        let state = self.lock();
        ConsumerStats {
            in_flight: state.table.held() + state.outcomes.len() + state.settling,
            running: state.table.running(),
            paused: state.paused_by_user,
            ..state.counts.clone()
        }
    }
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

/// The group waits while one of these lives: the broker refuses what somebody has to publish.
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

//! The receiver: fetches events while there is room, sorts them into lanes, and knows when nothing is left.

use super::lane::LaneKey;
use super::observer::Notice;
use super::parker;
use super::pipeline::{Arrival, Pipeline, TaskWatch, Work};
use super::resume;
use super::routes::Routes;
use crate::dead_letter::{self, History};
use crate::runtime::broker_backoff;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidings_core::broker::{BrokerError, Delivery, Receive, Received, Resumed, Scope, Token};
use tidings_core::codes;
use tidings_core::limits::FOLLOW_POLL_INTERVAL;
use tidings_core::store::LaneId;

/// Events fetched at once: enough to spread the cost of a call, few enough to begin at once and to stay in the processor's caches until they are handled.
const FETCH_EVENTS_MAX: usize = 512;

/// Fetches until draining begins, and gives the receive half back: a broker may take its drop for a farewell.
pub(super) async fn fetch(
    pipeline: Arc<Pipeline>,
    receive: Box<dyn Receive>,
    resumed: Option<Resumed>,
) -> Box<dyn Receive> {
    let _watch = TaskWatch {
        pipeline: Arc::clone(&pipeline),
        task: "receiver",
    };
    let mut fetcher = Fetcher {
        sorter: Sorter::new(&pipeline),
        asks_always: keys_move_in_silence(&pipeline),
        pipeline,
        receive,
        failures: 0,
    };
    if let Some(resumed) = resumed {
        resume::learn(&fetcher.pipeline, resumed).await;
    }
    parker::load(&fetcher.pipeline).await;
    fetcher.run().await;
    fetcher.receive
}

/// Whether another instance may have parked what is behind a delivery, without a word from the broker that its key has moved.
fn keys_move_in_silence(pipeline: &Pipeline) -> bool {
    let capabilities = pipeline.broker.capabilities();
    let is_alone = pipeline.config.single_instance || capabilities.group_leased;
    let is_shared = pipeline
        .failures
        .as_ref()
        .is_some_and(|store| store.is_shared());
    is_shared && !is_alone && !capabilities.tells_assignment
}

/// What to do next.
enum Step {
    /// End.
    Stop,
    /// Wait until there is room.
    Wait,
    /// Fetch so many events at most; if the group is idle and caught up, answer this request.
    Fetch {
        events_max: usize,
        idle_request: Option<u64>,
    },
}

struct Fetcher {
    pipeline: Arc<Pipeline>,
    receive: Box<dyn Receive>,
    sorter: Sorter,
    /// Failures of the broker in a row.
    failures: u32,
    /// Whether the store is asked what is parked before each batch: keys come from other instances, and the broker does not tell.
    asks_always: bool,
}

impl Fetcher {
    async fn run(&mut self) {
        loop {
            match self.next_step() {
                Step::Stop => return,
                Step::Wait => self.pipeline.receiver.notified().await,
                Step::Fetch {
                    events_max,
                    idle_request,
                } => {
                    if let Some(request) = idle_request
                        && self.receive.is_caught_up()
                    {
                        self.answer_idle(request);
                        continue;
                    }
                    let received = tokio::select! {
                        biased;
                        () = self.pipeline.receiver.notified() => continue,
                        received = self.receive.receive(events_max) => received,
                        // A broker that skips to its end in silence is asked again whether it is there.
                        () = self.pipeline.clock.sleep(FOLLOW_POLL_INTERVAL), if idle_request.is_some() => continue,
                    };
                    match received {
                        Ok(Received::Assigned(scope)) => {
                            self.sorter.scope(scope);
                            // Another instance may have parked lanes of it.
                            parker::load(&self.pipeline).await;
                        }
                        Ok(received) => {
                            if self.asks_always && matches!(received, Received::Deliveries { .. }) {
                                // What it was handed is settled by nobody before it is parked, so that the store knows by now.
                                parker::learn(&self.pipeline).await;
                            }
                            self.take(received);
                        }
                        Err(error) => self.failed(&error).await,
                    }
                }
            }
        }
    }

    fn next_step(&self) -> Step {
        let mut state = self.pipeline.lock();
        if state.draining {
            return Step::Stop;
        }
        if state.halted || !self.pipeline.wants_more(&state) {
            state.receiver_waits = true;
            return Step::Wait;
        }
        let progress = self.pipeline.progress.borrow();
        let at_end = self.pipeline.config.until_end && !progress.finished && !state.waits_for_time;
        let asked = state.idle_requested > progress.idle_answered || at_end;
        Step::Fetch {
            events_max: state.room().min(FETCH_EVENTS_MAX),
            idle_request: (asked && state.is_idle()).then_some(state.idle_requested),
        }
    }

    fn answer_idle(&self, request: u64) {
        let waits = self.pipeline.lock().waits_for_time;
        self.pipeline.progress.send_modify(|progress| {
            progress.idle_answered = request;
            progress.finished |= self.pipeline.config.until_end && !waits;
        });
    }

    fn take(&mut self, received: Received) {
        self.failures = 0;
        match received {
            Received::Deliveries { scope, deliveries } => {
                let scope = self.sorter.scope(scope);
                for delivery in deliveries {
                    self.sorter.sort(&self.pipeline, scope, delivery);
                }
                let Sorter {
                    arrivals, unwanted, ..
                } = &mut self.sorter;
                self.pipeline.deliver(arrivals, unwanted);
            }
            Received::Assigned(scope) => {
                self.sorter.scope(scope);
            }
            Received::Revoked(scope) => {
                let scope = self.sorter.scope(scope);
                self.pipeline.release_scope(scope);
            }
            Received::Lost(scope) => {
                let scope = self.sorter.scope(scope);
                self.pipeline.forget_scope(scope);
            }
        }
    }

    async fn failed(&mut self, error: &BrokerError) {
        if matches!(error, BrokerError::Damaged { .. }) {
            self.pipeline.lock().counts.damaged += 1;
            self.pipeline.notice(Notice::Damaged { error });
            return;
        }
        if matches!(error, BrokerError::Closed) {
            self.pipeline.stop("the broker was closed", codes::CLOSED);
            wait_for_drain(&self.pipeline).await;
            return;
        }
        if matches!(error, BrokerError::GroupPassed { .. }) {
            // To go on behind the gap is for whoever knows what the gap means.
            self.pipeline.stop(&error.to_string(), error.code());
            wait_for_drain(&self.pipeline).await;
            return;
        }
        let delay = broker_backoff(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.pipeline.notice(Notice::BrokerFailed { error, delay });
        wait(&self.pipeline, delay).await;
    }
}

async fn wait(pipeline: &Pipeline, delay: Duration) {
    tokio::select! {
        () = pipeline.receiver.notified() => {}
        () = pipeline.clock.sleep(delay) => {}
    }
}

async fn wait_for_drain(pipeline: &Pipeline) {
    while !pipeline.lock().draining {
        pipeline.receiver.notified().await;
    }
}

/// Sorts deliveries into lanes.
struct Sorter {
    scopes: Vec<Scope>,
    routes: Routes,
    /// Counts what was received, from 1.
    sequence: u64,
    arrivals: Vec<Arrival>,
    unwanted: Vec<Token>,
}

impl Sorter {
    fn new(pipeline: &Pipeline) -> Self {
        Self {
            scopes: Vec::new(),
            routes: Routes::new(pipeline),
            sequence: 0,
            arrivals: Vec::new(),
            unwanted: Vec::new(),
        }
    }

    fn scope(&mut self, scope: Scope) -> usize {
        if let Some(index) = self.scopes.iter().rposition(|known| *known == scope) {
            return index;
        }
        self.scopes.push(scope);
        self.scopes.len() - 1
    }

    fn sort(&mut self, pipeline: &Pipeline, scope: usize, delivery: Delivery) {
        let route = match delivery.problem {
            None => self.routes.of(pipeline, delivery.envelope.event_type()),
            Some(_) => Some(self.routes.any()),
        };
        let Some(route) = route else {
            self.unwanted.push(delivery.token);
            return;
        };
        let known = pipeline.known.get();
        let suspect =
            delivery.redelivered || known.is_some_and(|known| known.is_suspect(delivery.position));
        if suspect && was_given_up(pipeline, &delivery) {
            self.unwanted.push(delivery.token);
            return;
        }
        self.sequence += 1;
        let lane = match delivery.envelope.key() {
            Some(key) => pipeline.lane_of_key(&key),
            None => LaneKey(pipeline.hasher.hash_one(self.sequence)),
        };
        let parked_as = pipeline
            .may_be_parked
            .load(Ordering::Relaxed)
            .then(|| LaneId::of(&delivery.envelope));
        let work = Work {
            token: delivery.token,
            sequence: self.sequence,
            scope,
            position: delivery.position,
            append_time: delivery.append_time,
            envelope: delivery.envelope,
            handler: route.handler,
            suspect,
            history: History::default(),
            problem: delivery.problem,
            kept: None,
        };
        self.arrivals.push(Arrival {
            lane,
            class: route.class,
            work,
            parked_as,
        });
    }
}

/// Whether an earlier run recorded the dead letter of an event on the broker and was stopped before it could settle it. A store knows it by itself.
fn was_given_up(pipeline: &Pipeline, delivery: &Delivery) -> bool {
    if pipeline.failures.is_some() {
        return false;
    }
    let id = dead_letter::fact_id(&delivery.envelope, pipeline.group.as_str(), 0);
    pipeline
        .known
        .get()
        .is_some_and(|known| known.has_id(&id, pipeline.group.as_str()))
}

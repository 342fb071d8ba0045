//! The receiver: fetches events while there is room, sorts them into lanes, and knows when nothing is left.

use super::lane::LaneKey;
use super::observer::Notice;
use super::pipeline::{Handler, Pipeline, TaskWatch, Work};
use super::resume;
use crate::dead_letter::{self, History};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{BrokerError, Delivery, Receive, Received, Resumed, Scope, Token};
use tidings_core::limits::{FOLLOW_POLL_INTERVAL, RETRY_BACKOFF_FIRST, RETRY_BACKOFF_MAX};
use tidings_core::{EventType, codes};

/// Events fetched at once: enough to spread the cost of a call, few enough to begin at once.
const FETCH_EVENTS_MAX: usize = 1_024;
/// Event types whose handler is remembered; beyond that it is looked up each time.
const ROUTES_MAX: usize = 1_024;

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
        pipeline,
        receive,
        failures: 0,
    };
    if let Some(resumed) = resumed {
        resume::learn(&fetcher.pipeline, resumed).await;
    }
    fetcher.run().await;
    fetcher.receive
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
                        Ok(received) => self.take(received),
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
        if !self.pipeline.wants_more(&state) {
            state.receiver_waits = true;
            return Step::Wait;
        }
        let progress = self.pipeline.progress.borrow();
        let asked = state.idle_requested > progress.idle_answered
            || (self.pipeline.config.until_end && !progress.finished);
        Step::Fetch {
            events_max: state.room().min(FETCH_EVENTS_MAX),
            idle_request: (asked && state.is_idle()).then_some(state.idle_requested),
        }
    }

    fn answer_idle(&self, request: u64) {
        self.pipeline.progress.send_modify(|progress| {
            progress.idle_answered = request;
            progress.finished |= self.pipeline.config.until_end;
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
                    items, unwanted, ..
                } = &mut self.sorter;
                self.pipeline.deliver(items, unwanted);
            }
            Received::Assigned(scope) => {
                self.sorter.scope(scope);
            }
            Received::Revoked(scope) | Received::Lost(scope) => {
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
        let delay = RETRY_BACKOFF_FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(RETRY_BACKOFF_MAX);
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

/// Where events of one type go.
#[derive(Clone, Copy)]
struct Route {
    handler: usize,
    class: usize,
}

/// Sorts deliveries into lanes.
struct Sorter {
    scopes: Vec<Scope>,
    routes: HashMap<String, Option<Route>>,
    /// The type seen last and its route: events of one type often come together.
    route_last: (String, Option<Route>),
    /// The classes of calls by handler: all single handlers share the first.
    classes: Vec<usize>,
    /// Counts what was received, from 1.
    sequence: u64,
    items: Vec<(LaneKey, usize, Work)>,
    unwanted: Vec<Token>,
}

impl Sorter {
    fn new(pipeline: &Pipeline) -> Self {
        let mut batches = 0;
        let classes = pipeline
            .handlers
            .iter()
            .map(|handler| match handler {
                Handler::Single(_) => 0,
                Handler::Batch(_) => {
                    batches += 1;
                    batches
                }
            })
            .collect();
        Self {
            scopes: Vec::new(),
            routes: HashMap::new(),
            route_last: (String::new(), None),
            classes,
            sequence: 0,
            items: Vec::new(),
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
        let Some(route) = self.route(pipeline, delivery.envelope.event_type()) else {
            self.unwanted.push(delivery.token);
            return;
        };
        let suspect = pipeline
            .known
            .get()
            .is_some_and(|known| known.is_suspect(delivery.position));
        if suspect && self.was_given_up(pipeline, &delivery) {
            self.unwanted.push(delivery.token);
            return;
        }
        self.sequence += 1;
        let lane = LaneKey(match delivery.envelope.key() {
            Some(key) => pipeline.hasher.hash_one(key.as_ref()),
            None => pipeline.hasher.hash_one(self.sequence),
        });
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
        };
        self.items.push((lane, route.class, work));
    }

    /// Whether an earlier run recorded the dead letter of an event and was stopped before it could settle it.
    fn was_given_up(&self, pipeline: &Pipeline, delivery: &Delivery) -> bool {
        let id = dead_letter::fact_id(&delivery.envelope, pipeline.group.as_str(), 0);
        pipeline
            .known
            .get()
            .is_some_and(|known| known.has_id(&id, pipeline.group.as_str()))
    }

    fn route(&mut self, pipeline: &Pipeline, event_type: &EventType) -> Option<Route> {
        let text = event_type.as_str();
        if self.route_last.0 == text {
            return self.route_last.1;
        }
        let route = match self.routes.get(text) {
            Some(route) => *route,
            None => {
                let route = self.find_route(pipeline, event_type);
                if self.routes.len() < ROUTES_MAX {
                    self.routes.insert(text.to_owned(), route);
                }
                route
            }
        };
        self.route_last.0.clear();
        self.route_last.0.push_str(text);
        self.route_last.1 = route;
        route
    }

    fn find_route(&self, pipeline: &Pipeline, event_type: &EventType) -> Option<Route> {
        let handler = pipeline.handlers.iter().position(|handler| {
            handler
                .patterns()
                .iter()
                .any(|pattern| pattern.matches(event_type))
        })?;
        Some(Route {
            handler,
            class: self.classes.get(handler).copied().unwrap_or(0),
        })
    }
}

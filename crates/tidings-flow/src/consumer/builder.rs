//! Building a consumer: what is wrong with it is said here, before it starts.

use super::breaker::Breaker;
use super::error::ConsumerError;
use super::lane::{CallSize, LaneLimits, LaneTable};
use super::observer::Observer;
use super::pipeline::{Handler, Pipeline, PipelineParts, Work};
use super::policy::{OnFailure, Policies, Policy};
use super::retry::Backoff;
use super::running::RunningConsumer;
use crate::handler::{BatchHandler, DeliveryHandler};
use crate::runtime::{SystemChance, SystemClock};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::Pattern;
use tidings_core::broker::{Broker, GroupName, KeyOrder, StartAt, SubscribeRequest};
use tidings_core::extract::States;
use tidings_core::limits::{
    ATTEMPTS_DEFAULT, ATTEMPTS_MAX, BREAKER_OUTCOMES_MAX, BREAKER_PROBE_AFTER_MAX,
    CODE_VERSION_BYTES_MAX, HANDLE_TIMEOUT_DEFAULT, HANDLER_BATCH_EVENTS_MAX,
    IN_FLIGHT_EVENTS_DEFAULT, LATER_DELAY_MAX, LATER_STEPS_MAX, PARALLEL_DEFAULT, PARALLEL_MAX,
    PARKED_DEFAULT, PARKED_OF_KEY_DEFAULT, PATTERNS_MAX, RATE_MAX,
};
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::FailureStore;

/// How a consumer works.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Attempts in place at one event, before it is put off until later or becomes a dead letter.
    pub attempts: u32,
    /// The waits between attempts in place.
    pub backoff: Backoff,
    /// The waits before later attempts; see [`Policy::later`].
    pub later: Vec<Duration>,
    /// How long after its first failure an event is still put off until later.
    pub age_max: Option<Duration>,
    /// Other policies for errors of certain types.
    pub policies: Policies,
    /// What becomes of the later events of a key whose event was given up. Unless given: they wait where the group needs order and has a store, which every instance of it must see; else they are handled.
    pub on_failure: Option<OnFailure>,
    /// Handlings that this instance of the group may start a second, retries included; as many as it can unless given.
    pub rate_max: Option<u32>,
    /// When the group waits because everything fails; `None` for a group that waits only where a [policy](Policy::pause_group) says so.
    pub breaker: Option<Breaker>,
    /// Events of the group that may be parked; beyond that it stops.
    pub parked_max: u64,
    /// Events of one key that may be parked; beyond that the group stops.
    pub parked_of_key_max: u64,
    /// The version of the code, for dead letters to tell; at most [`CODE_VERSION_BYTES_MAX`] bytes.
    pub code_version: String,
    /// How long one handling may take: async code is cancelled at its next await.
    pub time_limit: Duration,
    /// Handlers that run at the same time.
    pub parallel: usize,
    /// Events received and not settled at most. A key that waits with so many events behind it makes the others wait too.
    pub in_flight_max: usize,
    /// Where the group begins if it is new.
    pub start: StartAt,
    /// Whether [`ConsumerHandle::finished`](super::ConsumerHandle::finished) resolves once nothing is left for the group.
    pub until_end: bool,
    /// Declares that the order of keys does not matter; needed on a broker that does not keep it.
    pub unordered: bool,
    /// One process at a time works for the group: needed for order on a broker that keeps it within one instance alone.
    pub single_instance: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            attempts: ATTEMPTS_DEFAULT,
            backoff: Backoff::default(),
            later: Vec::new(),
            age_max: None,
            policies: Policies::default(),
            on_failure: None,
            rate_max: None,
            breaker: None,
            parked_max: PARKED_DEFAULT,
            parked_of_key_max: PARKED_OF_KEY_DEFAULT,
            code_version: String::new(),
            time_limit: HANDLE_TIMEOUT_DEFAULT,
            parallel: PARALLEL_DEFAULT,
            in_flight_max: IN_FLIGHT_EVENTS_DEFAULT,
            start: StartAt::default(),
            until_end: false,
            unordered: false,
            single_instance: false,
        }
    }
}

/// A consumer group's work in this process.
#[derive(Debug)]
pub struct Consumer;

impl Consumer {
    /// Begins to build a consumer of a group.
    pub fn builder(broker: Arc<dyn Broker>, group: GroupName) -> ConsumerBuilder {
        ConsumerBuilder {
            broker,
            group,
            clock: None,
            chance: None,
            handlers: Vec::new(),
            config: ConsumerConfig::default(),
            states: States::default(),
            observer: None,
            failures: None,
        }
    }
}

/// Collects what a consumer needs; [`start`](Self::start) checks it.
pub struct ConsumerBuilder {
    broker: Arc<dyn Broker>,
    group: GroupName,
    clock: Option<Arc<dyn Clock>>,
    chance: Option<Arc<dyn Chance>>,
    handlers: Vec<Handler>,
    config: ConsumerConfig,
    states: States,
    observer: Option<Arc<dyn Observer>>,
    failures: Option<Arc<dyn FailureStore>>,
}

impl std::fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("group", &self.group)
            .field("handlers", &self.handlers)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ConsumerBuilder {
    /// Adds a handler. An event goes to the first handler, in the order added, with a pattern that matches.
    #[must_use]
    pub fn handler(mut self, handler: Arc<dyn DeliveryHandler>) -> Self {
        self.handlers.push(Handler::Single(handler));
        self
    }

    /// Adds a handler that takes several events, each of another key, in one call.
    #[must_use]
    pub fn batch_handler(mut self, handler: Arc<dyn BatchHandler>) -> Self {
        self.handlers.push(Handler::Batch(handler));
        self
    }

    /// Sets how the consumer works.
    #[must_use]
    pub fn config(mut self, config: ConsumerConfig) -> Self {
        self.config = config;
        self
    }

    /// Changes single settings of how the consumer works.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut ConsumerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Shares a value with the handlers, which take it as `State<T>`; it replaces an earlier one of the same type.
    #[must_use]
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Shares several values with the handlers in place of all given so far.
    #[must_use]
    pub fn states(mut self, states: States) -> Self {
        self.states = states;
        self
    }

    /// Tells an observer what the consumer does.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Keeps in this store what cannot be handled yet: attempts, parked deliveries, dead letters. Without one, failures are retried in place, and a dead letter is a fact on the broker.
    #[must_use]
    pub fn failures(mut self, store: Arc<dyn FailureStore>) -> Self {
        self.failures = Some(store);
        self
    }

    /// Takes the time from this clock instead of the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Takes the jitter from here instead of the machine's randomness.
    #[must_use]
    pub fn chance(mut self, chance: Arc<dyn Chance>) -> Self {
        self.chance = Some(chance);
        self
    }

    /// Checks the consumer, joins the group and begins to handle. Needs a tokio runtime.
    ///
    /// **Errors**: [`ConsumerError`]; everything but a broker's transient error is permanent.
    ///
    /// **Cancel**: the group is not joined, or is left at once.
    pub async fn start(self) -> Result<RunningConsumer, ConsumerError> {
        self.check()?;
        let request = SubscribeRequest {
            group: self.group.clone(),
            patterns: self.patterns().cloned().collect(),
            start: self.config.start,
            single_instance: self.config.single_instance && !self.config.unordered,
        };
        let subscription = self.broker.subscribe(&request).await?;
        let classes: Vec<CallSize> = std::iter::once(CallSize::One)
            .chain(self.handlers.iter().filter_map(|handler| match handler {
                Handler::Single(_) => None,
                Handler::Batch(handler) => Some(CallSize::UpTo(handler.events_max())),
            }))
            .collect();
        let limits = LaneLimits {
            parallel: self.config.parallel,
            held_max: self.config.in_flight_max,
        };
        let mut policies = self.config.policies.clone();
        policies.otherwise = Policy {
            attempts: self.config.attempts,
            backoff: self.config.backoff,
            later: self.config.later.clone(),
            age_max: self.config.age_max,
            ..Policy::default()
        };
        let on_failure = self.on_failure();
        let pipeline = Pipeline::new(PipelineParts {
            table: LaneTable::new(limits, &classes, Work::source),
            policies,
            on_failure,
            failures: self.failures,
            workers: worker_count(self.config.parallel),
            group: self.group,
            config: self.config,
            handlers: self.handlers,
            states: self.states,
            observer: self.observer,
            broker: self.broker,
            settle: subscription.settle,
            clock: self
                .clock
                .unwrap_or_else(|| Arc::new(SystemClock::default())),
            chance: self.chance.unwrap_or_else(|| Arc::new(SystemChance)),
        });
        Ok(RunningConsumer::start(
            pipeline,
            subscription.receive,
            subscription.resumed,
        ))
    }

    fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.handlers.iter().flat_map(Handler::patterns)
    }

    fn check(&self) -> Result<(), ConsumerError> {
        let group = || self.group.to_string();
        if self.patterns().next().is_none() {
            return Err(ConsumerError::NoHandler { group: group() });
        }
        self.check_settings()?;
        for (index, handler) in self.handlers.iter().enumerate() {
            for earlier in self.handlers.iter().take(index) {
                if earlier.name() == handler.name() {
                    return Err(ConsumerError::HandlerNameTwice {
                        group: group(),
                        name: handler.name().to_owned(),
                    });
                }
                let same = |pattern: &&Pattern| earlier.patterns().contains(pattern);
                if let Some(pattern) = handler.patterns().iter().find(same) {
                    return Err(ConsumerError::PatternTwice {
                        group: group(),
                        pattern: pattern.to_string(),
                        first: earlier.name().to_owned(),
                        second: handler.name().to_owned(),
                    });
                }
            }
            handler
                .check(&self.states)
                .map_err(|what| ConsumerError::HandlerCheck {
                    group: group(),
                    handler: handler.name().to_owned(),
                    what,
                })?;
        }
        // Before the store: where a broker keeps no order, no store helps.
        self.check_order()?;
        self.check_store()
    }

    /// A group that needs the order of keys is refused where its broker does not keep it.
    fn check_order(&self) -> Result<(), ConsumerError> {
        let group = || self.group.to_string();
        let capabilities = self.broker.capabilities();
        if capabilities.key_order == KeyOrder::None && !self.config.unordered {
            return Err(ConsumerError::KeyOrder {
                group: group(),
                broker: capabilities.name,
            });
        }
        if capabilities.key_order == KeyOrder::OneInstance
            && !self.config.unordered
            && !self.config.single_instance
        {
            return Err(ConsumerError::SingleInstance {
                group: group(),
                broker: capabilities.name,
            });
        }
        Ok(())
    }

    /// What becomes of later events of a key whose event was given up. Whether the store is one that can hold keys makes no difference: order that silently is not kept is worse than a refusal.
    fn on_failure(&self) -> OnFailure {
        let otherwise = match &self.failures {
            Some(_) if !self.config.unordered => OnFailure::Hold,
            _ => OnFailure::Continue,
        };
        self.config.on_failure.unwrap_or(otherwise)
    }

    /// Whether no other instance works for the group at the same time.
    fn is_one_instance(&self) -> bool {
        self.config.single_instance || self.broker.capabilities().group_leased
    }

    /// Retry later and holding keys need a store that every instance of the group sees.
    fn check_store(&self) -> Result<(), ConsumerError> {
        let group = || self.group.to_string();
        let typed = self.config.policies.all().map(|policy| &policy.later);
        let schedules: Vec<&Vec<Duration>> =
            std::iter::once(&self.config.later).chain(typed).collect();
        let later = schedules.iter().any(|later| !later.is_empty());
        let hold = self.on_failure() == OnFailure::Hold;
        for schedule in schedules {
            self.bounded("steps of its schedule", schedule.len(), 0, LATER_STEPS_MAX)?;
            if let Some(delay) = schedule.iter().find(|delay| **delay > LATER_DELAY_MAX) {
                let value = format!("{delay:?}");
                let allowed = format!("at most {LATER_DELAY_MAX:?}");
                return Err(self.out_of_bounds("a retry later of", value, allowed));
            }
        }
        let Some(store) = &self.failures else {
            return match (later, hold) {
                (true, _) => Err(ConsumerError::StoreMissing {
                    group: group(),
                    what: "retries later",
                }),
                (false, true) => Err(ConsumerError::StoreMissing {
                    group: group(),
                    what: "holding the key of what is given up",
                }),
                (false, false) => Ok(()),
            };
        };
        if (later || hold) && !store.is_shared() && !self.is_one_instance() {
            return Err(ConsumerError::StoreLocal {
                group: group(),
                broker: self.broker.capabilities().name,
                store: store.name().to_owned(),
            });
        }
        Ok(())
    }

    fn check_settings(&self) -> Result<(), ConsumerError> {
        let config = &self.config;
        self.bounded("attempts", config.attempts, 1, ATTEMPTS_MAX)?;
        if let Some(rate) = config.rate_max {
            self.bounded("handlings a second", rate, 1, RATE_MAX)?;
        }
        for policy in config.policies.all() {
            self.bounded("attempts", policy.attempts, 1, ATTEMPTS_MAX)?;
        }
        self.bounded("parallel", config.parallel, 1, PARALLEL_MAX)?;
        self.bounded("in_flight_max", config.in_flight_max, 1, u32::MAX as usize)?;
        self.bounded("patterns", self.patterns().count(), 1, PATTERNS_MAX)?;
        let version = config.code_version.len();
        self.bounded(
            "bytes of its code version",
            version,
            0,
            CODE_VERSION_BYTES_MAX,
        )?;
        self.check_breaker()?;
        self.bounded("jitter_percent", config.backoff.jitter_percent, 0, 100)?;
        for handler in &self.handlers {
            if let Handler::Batch(handler) = handler {
                let events = handler.events_max();
                self.bounded("events of one batch", events, 1, HANDLER_BATCH_EVENTS_MAX)?;
            }
        }
        if config.backoff.first > config.backoff.max {
            return Err(self.out_of_bounds(
                "a first back-off of",
                format!("{:?}", config.backoff.first),
                format!("at most the longest, {:?}", config.backoff.max),
            ));
        }
        if config.time_limit.is_zero() {
            let value = "0".to_owned();
            return Err(self.out_of_bounds("time_limit", value, "more than nothing".to_owned()));
        }
        Ok(())
    }

    fn check_breaker(&self) -> Result<(), ConsumerError> {
        let Some(breaker) = &self.config.breaker else {
            return Ok(());
        };
        let Breaker { failures, of, .. } = *breaker;
        self.bounded(
            "outcomes of the circuit breaker",
            of,
            1,
            BREAKER_OUTCOMES_MAX,
        )?;
        self.bounded("failures that open the circuit", failures, 1, of)?;
        for wait in [breaker.probe_after, breaker.probe_max] {
            if wait.is_zero() || wait > BREAKER_PROBE_AFTER_MAX {
                let allowed = format!("more than nothing and at most {BREAKER_PROBE_AFTER_MAX:?}");
                return Err(self.out_of_bounds(
                    "a wait before an event is tried of",
                    format!("{wait:?}"),
                    allowed,
                ));
            }
        }
        Ok(())
    }

    fn bounded<N: PartialOrd + Display + Copy>(
        &self,
        setting: &'static str,
        value: N,
        min: N,
        max: N,
    ) -> Result<(), ConsumerError> {
        if value >= min && value <= max {
            return Ok(());
        }
        Err(self.out_of_bounds(setting, value.to_string(), format!("{min} to {max}")))
    }

    fn out_of_bounds(
        &self,
        setting: &'static str,
        value: String,
        allowed: String,
    ) -> ConsumerError {
        ConsumerError::OutOfBounds {
            group: self.group.to_string(),
            setting,
            value,
            allowed,
        }
    }
}

/// As many workers as the machine has cores, since each can keep one busy; more than run at the same time would be idle.
fn worker_count(parallel: usize) -> usize {
    std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(parallel)
}

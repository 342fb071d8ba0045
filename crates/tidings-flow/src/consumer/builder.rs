//! Building a consumer: what is wrong with it is said here, before it starts.

use super::error::ConsumerError;
use super::lane::{CallSize, LaneLimits, LaneTable};
use super::observer::Observer;
use super::pipeline::{Handler, Pipeline, PipelineParts};
use super::retry::{Backoff, RetryPolicy};
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
    ATTEMPTS_DEFAULT, ATTEMPTS_MAX, HANDLE_TIMEOUT_DEFAULT, HANDLER_BATCH_EVENTS_MAX,
    IN_FLIGHT_EVENTS_DEFAULT, PARALLEL_DEFAULT, PARALLEL_MAX, PATTERNS_MAX,
};
use tidings_core::seam::{Chance, Clock};

/// How a consumer works.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Attempts at one event before it becomes a dead letter.
    pub attempts: u32,
    /// The waits between attempts.
    pub backoff: Backoff,
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
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            attempts: ATTEMPTS_DEFAULT,
            backoff: Backoff::default(),
            time_limit: HANDLE_TIMEOUT_DEFAULT,
            parallel: PARALLEL_DEFAULT,
            in_flight_max: IN_FLIGHT_EVENTS_DEFAULT,
            start: StartAt::default(),
            until_end: false,
            unordered: false,
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
        let retry = RetryPolicy {
            attempts: self.config.attempts,
            backoff: self.config.backoff,
        };
        let pipeline = Pipeline::new(PipelineParts {
            table: LaneTable::new(limits, retry, &classes),
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
        let capabilities = self.broker.capabilities();
        if capabilities.key_order == KeyOrder::None && !self.config.unordered {
            return Err(ConsumerError::KeyOrder {
                group: group(),
                broker: capabilities.name,
            });
        }
        Ok(())
    }

    fn check_settings(&self) -> Result<(), ConsumerError> {
        let config = &self.config;
        self.bounded("attempts", config.attempts, 1, ATTEMPTS_MAX)?;
        self.bounded("parallel", config.parallel, 1, PARALLEL_MAX)?;
        self.bounded("in_flight_max", config.in_flight_max, 1, u32::MAX as usize)?;
        self.bounded("patterns", self.patterns().count(), 1, PATTERNS_MAX)?;
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

//! Building a consumer through the front door: functions in, a handle out.

use crate::{Error, Tidings};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{GroupLag, GroupName, StartAt};
use tidings_core::extract::{DeliveryGuarantee, States};
use tidings_core::limits::DRAIN_TIMEOUT_DEFAULT;
use tidings_core::pattern::{Pattern, PatternError};
use tidings_core::store::{FailureStore, InboxStore};
use tidings_flow::consumer::{
    Backoff, Breaker, Consumer, ConsumerConfig, ConsumerHandle as FlowHandle, ConsumerStats,
    Observer, OnFailure, Policy,
};
use tidings_flow::handler::{
    BatchArguments, BatchHandler, DeliveryHandler, EnvelopeArguments, EventArguments, Handler,
    HandlerFuture, HandlerResult, RawHandler, TypedBatchHandler, TypedHandler,
};
use tidings_flow::inbox::InboxRetention;

/// A consumer group's handlers and how they are called, before it starts.
#[doc = include_str!("docs/consumer.md")]
#[must_use = "a consumer does nothing before `start`"]
pub struct ConsumerBuilder {
    tidings: Tidings,
    group: String,
    handlers: Vec<AnyHandler>,
    states: States,
    config: ConsumerConfig,
    observer: Option<Arc<dyn Observer>>,
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    failures: Option<crate::sql::Failures>,
    inbox: Option<Arc<dyn InboxStore>>,
    inbox_retention: InboxRetention,
    /// What is wrong so far; told by `start`, so that calls can be chained.
    wrong: Option<PatternError>,
}

enum AnyHandler {
    One(Arc<dyn DeliveryHandler>),
    Batch(Arc<dyn BatchHandler>),
}

impl ConsumerBuilder {
    pub(crate) fn new(tidings: Tidings, group: String) -> Self {
        Self {
            tidings,
            group,
            handlers: Vec::new(),
            states: States::default(),
            config: ConsumerConfig::default(),
            observer: None,
            #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
            failures: None,
            inbox: None,
            inbox_retention: InboxRetention::default(),
            wrong: None,
        }
    }

    /// Adds an `async fn` whose first argument is the event it handles, and whose others, at most six, are extractors.
    ///
    /// A consumer may have several, each of another event type.
    pub fn on<F, Arguments>(self, handler: F) -> Self
    where
        F: Handler<Arguments>,
        F::Future: HandlerFuture,
        Arguments: EventArguments,
    {
        self.handler(Arc::new(TypedHandler::new(handler)))
    }

    /// Adds an `async fn` whose first argument is the [`Envelope`](crate::Envelope), for all events that match a pattern such as `order.*` or `**`.
    ///
    /// An event goes to one handler of a consumer: the first added that matches.
    pub fn on_raw<F, Arguments>(mut self, pattern: &str, handler: F) -> Self
    where
        F: Handler<Arguments>,
        F::Future: HandlerFuture,
        Arguments: EnvelopeArguments,
    {
        match pattern.parse::<Pattern>() {
            Ok(pattern) => self.handler(Arc::new(RawHandler::new(pattern, handler))),
            Err(error) => {
                self.wrong.get_or_insert(error);
                self
            }
        }
    }

    /// Adds an `async fn` of several events of one type, each of another key, that answers for each; see [`BatchItem`](crate::handler::BatchItem).
    pub fn on_batch<F, Arguments>(self, handler: F) -> Self
    where
        F: Handler<Arguments>,
        F::Future: Future<Output = Vec<HandlerResult>> + Send + 'static,
        Arguments: BatchArguments,
    {
        self.batch_handler(Arc::new(TypedBatchHandler::new(handler)))
    }

    /// Adds a handler that is no function, such as a command in another language.
    pub fn handler(mut self, handler: Arc<dyn DeliveryHandler>) -> Self {
        self.handlers.push(AnyHandler::One(handler));
        self
    }

    /// Adds a handler of batches that is no function, or a function with fewer events a call.
    pub fn batch_handler(mut self, handler: Arc<dyn BatchHandler>) -> Self {
        self.handlers.push(AnyHandler::Batch(handler));
        self
    }

    /// Shares a value with the handlers, which take a copy of it as `State<T>`; one value of each type.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Gives the handlers an inbox, so that they can take a [`Tx`](crate::sql::Tx): a transaction in which the event is noted as handled. The inbox is looked after while the consumer runs: it forgets what
    /// this group has handled as [`inbox_retention`](Self::inbox_retention) says.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub fn inbox(mut self, inbox: crate::sql::Inbox) -> Self {
        self.states.insert(inbox.clone());
        self.inbox = Some(Arc::new(inbox));
        self
    }

    /// How long the inbox remembers what this group has handled; 14 days unless given. Other groups of the same inbox have settings of their own. What can still be delivered again is remembered
    /// whatever is given, unless [`forget_early`](InboxRetention::forget_early) insists.
    pub fn inbox_retention(mut self, retention: InboxRetention) -> Self {
        self.inbox_retention = retention;
        self
    }

    /// Keeps what the group cannot handle yet in this database: attempts, parked events, dead letters. Unless given, it is kept in `state.db` of the data folder; on a broker of another kind it is kept
    /// nowhere, and a dead letter is a fact on the broker.
    ///
    /// Several instances of a group on one broker need a database that they share. The facts about dead letters in its outbox are carried to the broker of the group by one of them, unless a relay carries the
    /// whole outbox; other events in it are left to that relay.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub fn failures(mut self, store: crate::sql::Failures) -> Self {
        self.failures = Some(store);
        self
    }

    /// Tries an event again later, after the attempts in place: after each of these waits once. Meanwhile it is parked in the store, durably, with everything behind it of its key, and the other
    /// keys go on. Unless given, an event becomes a dead letter after the attempts in place.
    pub fn retry_later(mut self, waits: impl IntoIterator<Item = Duration>) -> Self {
        self.config.later = waits.into_iter().collect();
        self
    }

    /// How long after its first failure an event is still put off until later; then it becomes a dead letter whatever is left of the schedule.
    pub fn retry_age_max(mut self, age: Duration) -> Self {
        self.config.age_max = Some(age);
        self
    }

    /// Gives failures another [`Policy`] in whose chain of causes an error of this type stands.
    pub fn policy_for<E: std::error::Error + 'static>(mut self, policy: Policy) -> Self {
        self.config.policies.set::<E>(policy);
        self
    }

    /// What becomes of the later events of a key whose event was given up. Unless given, they wait until a person decides, where the group needs order and has a store; else they are handled.
    ///
    /// They can wait only where every instance of the group sees the store: on a broker that lets a group have several, [`start`](Self::start) refuses the data folder of one machine unless the group
    /// [declares](Self::single_instance) that one works for it, or goes on.
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.config.on_failure = Some(policy);
        self
    }

    /// Lets the group wait where everything fails, as the [`Breaker`] says: meanwhile no attempt is counted and nothing is parked or given up. Without one the group goes on until every event is
    /// parked or a dead letter, and only a [`Policy`] that says so lets it wait.
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.config.breaker = Some(breaker);
        self
    }

    /// Handlings that this instance of the group starts a second at most, retries included: for a service behind it that cannot take more. Several instances start so many each.
    pub fn rate_max(mut self, per_second: u32) -> Self {
        self.config.rate_max = Some(per_second);
        self
    }

    /// Events that may be parked, of the group and of one key; beyond that the group stops, loudly.
    pub fn parked_max(mut self, of_group: u64, of_key: u64) -> Self {
        self.config.parked_max = of_group;
        self.config.parked_of_key_max = of_key;
        self
    }

    /// The version of the code, which dead letters tell: `env!("CARGO_PKG_VERSION")`, or a commit. It has [`CODE_VERSION_BYTES_MAX`](tidings_core::limits::CODE_VERSION_BYTES_MAX) bytes at most.
    pub fn code_version(mut self, version: impl Into<String>) -> Self {
        self.config.code_version = version.into();
        self
    }

    /// Attempts in place at one event, before it is put off until later or becomes a dead letter; 5 unless given.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.config.attempts = attempts;
        self
    }

    /// The wait before the second attempt, and the longest; it doubles from one to the other, less a random part.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.config.backoff = Backoff {
            first,
            max,
            ..self.config.backoff
        };
        self
    }

    /// How long one handling may take, 30 seconds unless given: async code is cancelled at its next await, and that counts as a failed attempt.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.config.time_limit = limit;
        self
    }

    /// Handlers that run at the same time, each for another key; 64 unless given.
    pub fn parallel(mut self, handlers: usize) -> Self {
        self.config.parallel = handlers;
        self
    }

    /// Events received and not settled at most; 4,096 unless given. A failed event that waits for its next attempt in place, and what waits behind it of its key, count too: a group in which many fail
    /// does no more a second than this number divided by how long they wait. More of them take more memory, and more events are handled again after a crash.
    pub fn in_flight_max(mut self, events: usize) -> Self {
        self.config.in_flight_max = events;
        self
    }

    /// Where the group begins if it is new; at the oldest event unless given. A group that exists goes on where it is.
    pub fn start_at(mut self, start: StartAt) -> Self {
        self.config.start = start;
        self
    }

    /// Lets the consumer end by itself once nothing is left for the group; [`ConsumerHandle::finished`] waits for that.
    pub fn until_end(mut self) -> Self {
        self.config.until_end = true;
        self
    }

    /// Declares that the order of keys does not matter, as needed on a broker that does not keep it.
    pub fn unordered(mut self) -> Self {
        self.config.unordered = true;
        self
    }

    /// Declares that one process at a time works for this group, as needed for the order of keys on a broker that keeps it within one instance alone.
    pub fn single_instance(mut self) -> Self {
        self.config.single_instance = true;
        self
    }

    /// Tells an observer what the consumer does.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Checks the consumer, joins the group and begins to handle events. Needs a tokio runtime.
    ///
    /// The consumer runs until [`Tidings::drain`] or [`Tidings::shutdown`], whether the handle is kept or not.
    ///
    /// **Errors**: what is wrong with the consumer: no handler, two for one type, a missing state, an unknown pattern; permanent.
    /// [`BrokerError::GroupLeased`](tidings_core::broker::BrokerError::GroupLeased) while another process works for the group; transient.
    ///
    /// **Cancel**: the group is not joined, or is left at once.
    pub async fn start(self) -> Result<ConsumerHandle, Error> {
        if let Some(error) = self.wrong {
            return Err(error.into());
        }
        let group: GroupName = self.group.parse()?;
        let inner = self.tidings.inner();
        let failures = self.store().await?;
        let mut builder = Consumer::builder(Arc::clone(&inner.broker), group)
            .clock(Arc::clone(&inner.clock))
            .chance(Arc::clone(&inner.chance))
            .config(self.config)
            .states(self.states);
        for handler in self.handlers {
            builder = match handler {
                AnyHandler::One(handler) => builder.handler(handler),
                AnyHandler::Batch(handler) => builder.batch_handler(handler),
            };
        }
        if let Some(observer) = self.observer {
            builder = builder.observer(observer);
        }
        if let Some(store) = failures {
            builder = builder.failures(store);
        }
        let running = builder.start().await?;
        let consumer = running.handle();
        inner.keep(running);
        if let Some(inbox) = self.inbox {
            inner.look_after(inbox, &self.group, self.inbox_retention);
        }
        Ok(ConsumerHandle {
            consumer,
            tidings: self.tidings.clone(),
        })
    }

    /// Where the group keeps what it cannot handle yet: where it was told to, or in the data folder.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
        expect(clippy::unused_async, reason = "no database is built in")
    )]
    async fn store(&self) -> Result<Option<Arc<dyn FailureStore>>, Error> {
        let inner = self.tidings.inner();
        #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
        if let Some(store) = &self.failures {
            return Ok(Some(Arc::new(crate::facts::relayed(store, inner).await?)));
        }
        Ok(inner.failures.clone())
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("group", &self.group)
            .field("handlers", &self.handlers.len())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A consumer that works. It goes on when the handle is dropped; [`Tidings`] owns it.
#[derive(Debug, Clone)]
pub struct ConsumerHandle {
    consumer: FlowHandle,
    tidings: Tidings,
}

impl ConsumerHandle {
    /// The group that it works for.
    pub fn group(&self) -> &GroupName {
        self.consumer.group()
    }

    /// What may be said of its handlers' effects when an event is delivered more than once, as happens after every crash: the weakest of what they claim.
    ///
    /// A consumer is [`EffectOnce`](DeliveryGuarantee::EffectOnce) only if each of its handlers takes the transaction from its arguments.
    pub fn delivery(&self) -> DeliveryGuarantee {
        self.consumer.delivery()
    }

    /// Starts no further handlings; those that run go on.
    pub fn pause(&self) {
        self.consumer.pause();
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.consumer.resume();
    }

    /// What it has done since it started, and where it stands.
    pub fn stats(&self) -> ConsumerStats {
        self.consumer.stats()
    }

    /// How far the group is behind, in events and in time.
    ///
    /// **Errors**: a broker that cannot tell.
    pub async fn lag(&self) -> Result<GroupLag, Error> {
        Ok(self.consumer.lag().await?)
    }

    /// Waits until everything that has happened is handled, with retries and with what its own handlers emitted for it.
    ///
    /// **Errors**: the consumer stopped by itself, or was drained.
    ///
    /// **Cancel**: no effect.
    pub async fn wait_idle(&self) -> Result<(), Error> {
        Ok(self.consumer.wait_idle().await?)
    }

    /// Waits until nearly everything fails and the group waits for what its handlers need; see [`Breaker`].
    ///
    /// **Errors**: the consumer stopped by itself, or was drained.
    ///
    /// **Cancel**: no effect.
    pub async fn circuit_opened(&self) -> Result<(), Error> {
        Ok(self.consumer.circuit_opened().await?)
    }

    /// Waits until nothing is left for a consumer that was started with [`until_end`](ConsumerBuilder::until_end). Without that it waits for ever.
    ///
    /// **Errors**: the consumer stopped by itself, or was drained before.
    ///
    /// **Cancel**: no effect.
    pub async fn finished(&self) -> Result<(), Error> {
        Ok(self.consumer.finished().await?)
    }

    /// Stops this consumer alone once its handlers in flight are done, 30 seconds at most; the rest waits for the next start of the group. Again, it has no effect.
    ///
    /// **Errors**: handlers that were cancelled because they took longer; their events are handled again.
    ///
    /// **Cancel**: the consumer stops where it is; what is in flight is handled again at the next start.
    pub async fn drain(&self) -> Result<(), Error> {
        match self.tidings.inner().take_consumer(self.group().as_str()) {
            Some(consumer) => Ok(consumer.drain(DRAIN_TIMEOUT_DEFAULT).await?),
            None => Ok(()),
        }
    }
}

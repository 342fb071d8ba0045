//! Why a consumer does not start, stops by itself, or does not drain in time.

use std::time::Duration;
use tidings_core::broker::BrokerError;
use tidings_core::{Code, ErrorClass, codes};

/// Why a consumer cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// Nothing was given that handles events.
    #[error("the consumer {group:?} has no handler; add one with .handler(…)")]
    NoHandler {
        /// The group.
        group: String,
    },
    /// Two handlers have one name.
    #[error(
        "the consumer {group:?} has two handlers named {name:?}; ids of emitted events are made from the name, so give each its own"
    )]
    HandlerNameTwice {
        /// The group.
        group: String,
        /// The name.
        name: String,
    },
    /// Two handlers have one pattern.
    #[error(
        "in the consumer {group:?} the handlers {first:?} and {second:?} both handle {pattern}; one event goes to one handler of a group, so give one of them a group of its own"
    )]
    PatternTwice {
        /// The group.
        group: String,
        /// The pattern.
        pattern: String,
        /// The handler that has it first.
        first: String,
        /// The handler that has it too.
        second: String,
    },
    /// A setting is out of its bounds.
    #[error("the consumer {group:?} has {setting} {value}; allowed is {allowed}")]
    OutOfBounds {
        /// The group.
        group: String,
        /// Which setting.
        setting: &'static str,
        /// What it is set to.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// Something that a handler asks for is not there.
    #[error("the handler {handler:?} of the consumer {group:?} cannot run: {what}")]
    HandlerCheck {
        /// The group.
        group: String,
        /// The handler.
        handler: String,
        /// What is missing and the way out.
        what: String,
    },
    /// The broker keeps no order.
    #[error(
        "{broker} does not keep the order of a key; the consumer {group:?} must declare that it is unordered: .unordered(), or --unordered at the command line"
    )]
    KeyOrder {
        /// The group.
        group: String,
        /// The broker.
        broker: &'static str,
    },
    /// The broker keeps the order of a key within one instance alone, and the consumer has not declared that there is one.
    #[error(
        "{broker} keeps the order of a key for one instance of a group alone; the consumer {group:?} must declare that it is a single instance, or that it is unordered: .single_instance() or .unordered(), at the command line --single-instance or --unordered"
    )]
    SingleInstance {
        /// The group.
        group: String,
        /// The broker.
        broker: &'static str,
    },
    /// What the consumer asks for is kept in a store of failures, and it has none.
    #[error(
        "the consumer {group:?} asks for {what}, which needs a store; give it one with .failures(…), or at the command line with --data DIR or --store URL"
    )]
    StoreMissing {
        /// The group.
        group: String,
        /// What it asks for.
        what: &'static str,
    },
    /// The store of failures is seen by one machine alone, and the group may have instances on others.
    #[error(
        "the consumer {group:?} on {broker} may have several instances, and its store {store} is local: another instance would not know which keys wait there for a later attempt or behind a dead letter; give a store that all share, .failures(…) or at the command line --store URL; declare that it is a single instance, .single_instance() or --single-instance; or let it go on behind its dead letters, without retries later, .on_failure(OnFailure::Continue) or --on-failure continue"
    )]
    StoreLocal {
        /// The group.
        group: String,
        /// The broker.
        broker: &'static str,
        /// The store.
        store: String,
    },
    /// The broker refused.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The consumer stopped by itself.
    #[error("the consumer {group:?} stopped: {reason}")]
    Stopped {
        /// The group.
        group: String,
        /// Why.
        reason: String,
        /// The stable code of the reason.
        code: Code,
    },
}

impl ConsumerError {
    /// What the error means for the caller.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Broker(error) => error.class(),
            Self::Stopped { code, .. } if *code == codes::BUG => ErrorClass::Bug,
            Self::Stopped { code, .. } if *code == codes::CIRCUIT_OPEN => ErrorClass::Transient,
            Self::Stopped { .. } => ErrorClass::Poison,
            _ => ErrorClass::Permanent,
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Broker(error) => error.code(),
            Self::Stopped { code, .. } => *code,
            Self::KeyOrder { .. } | Self::SingleInstance { .. } => codes::CAPABILITY_MISSING,
            Self::StoreMissing { .. } => codes::FAILURE_STORE_MISSING,
            Self::StoreLocal { .. } => codes::FAILURE_STORE_LOCAL,
            Self::OutOfBounds { .. } => codes::LIMIT_EXCEEDED,
            _ => codes::CONSUMER_INVALID,
        }
    }
}

/// Why a consumer did not drain as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// Handlers were still busy at the deadline and were cancelled; their events are handled again when the group starts next.
    #[error(
        "{unfinished} handlings of the consumer {group:?} were still busy after {deadline:?} and were cancelled; their events are handled again at the next start"
    )]
    Unfinished {
        /// The group.
        group: String,
        /// How many events.
        unfinished: usize,
        /// The deadline.
        deadline: Duration,
    },
    /// What was finished could not be made durable; those events may be handled again.
    #[error("what the consumer {group:?} has finished could not be saved: {source}")]
    Broker {
        /// The group.
        group: String,
        /// The cause.
        source: BrokerError,
    },
}

impl DrainError {
    /// What the error means for the caller.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unfinished { .. } => ErrorClass::Transient,
            Self::Broker { source, .. } => source.class(),
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Unfinished { .. } => codes::DRAIN_TIMEOUT,
            Self::Broker { source, .. } => source.code(),
        }
    }
}

//! What alerting sees when it looks: groups, outboxes, and what the store tells of failures.

use std::time::Duration;
use tidings_core::broker::{GroupLag, GroupName, GroupStatus};
use tidings_core::store::Backlog;
use tidings_core::{BoxFuture, Timestamp};

/// A group as it stands.
#[derive(Debug, Clone)]
pub struct GroupSeen {
    /// The group.
    pub group: String,
    /// Events that it has not settled.
    pub lag: u64,
    /// How long ago the oldest of them was appended; zero where that is not known.
    pub age: Duration,
    /// What changes whenever the group settles something; `None` where the broker does not tell.
    pub mark: Option<u64>,
    /// When its cursor last moved, where the broker tells.
    pub moved_at: Option<Timestamp>,
    /// Whether somebody works for it; `None` where the broker does not tell.
    pub is_owned: Option<bool>,
}

impl GroupSeen {
    /// From what a broker tells.
    pub fn new(status: &GroupStatus, lag: GroupLag) -> Self {
        let mark = status.position.map(|position| position.0).or(lag.settled);
        Self {
            mark,
            moved_at: status.moved_at,
            // A broker that does not know how far a group is does not know who works for it either.
            is_owned: match (&status.owner, mark) {
                (Some(_), _) => Some(true),
                (None, Some(_)) => Some(false),
                (None, None) => None,
            },
            ..Self::named(&status.name, lag)
        }
    }

    /// From what a broker tells that cannot list groups.
    pub fn named(group: &GroupName, lag: GroupLag) -> Self {
        Self {
            group: group.to_string(),
            lag: lag.events,
            age: lag.age,
            mark: lag.settled,
            moved_at: None,
            is_owned: None,
        }
    }
}

/// An outbox as it stands.
#[derive(Debug, Clone)]
pub struct OutboxSeen {
    /// Its name, without credentials.
    pub outbox: String,
    /// Events that wait.
    pub pending: u64,
    /// How long the oldest of them waits.
    pub oldest_age: Duration,
}

/// Everything that was seen at one look. What could not be asked is `None`, and nothing is concluded from it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The groups of the broker.
    pub groups: Option<Vec<GroupSeen>>,
    /// The outboxes.
    pub outboxes: Option<Vec<OutboxSeen>>,
    /// What groups could not handle.
    pub backlog: Option<Backlog>,
    /// Why something could not be asked.
    pub problems: Vec<String>,
}

/// Looks at groups, outboxes and stores, wherever they are.
pub trait Sight: Send + Sync {
    /// Looks once.
    ///
    /// **Cancel**: no effect.
    fn look(&self) -> BoxFuture<'_, Seen>;
}

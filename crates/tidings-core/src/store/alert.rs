//! The port of alerting: what a watcher keeps across its end, and how far behind groups are with what they could not handle.

use super::StoreError;
use crate::BoxFuture;
use std::time::Duration;

/// What a row of a watcher is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeptKind {
    /// An alert that is not over.
    Alert,
    /// A message on its way to a channel.
    Message,
    /// A fact that was counted already.
    Fact,
    /// A channel that accepts nothing any more.
    Channel,
}

impl KeptKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Alert, Self::Message, Self::Fact, Self::Channel];

    /// The word for stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Message => "message",
            Self::Fact => "fact",
            Self::Channel => "channel",
        }
    }

    /// Reads what [`as_str`](Self::as_str) has written; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Something that a watcher keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is about.
    pub kind: KeptKind,
    /// Names it within its kind; at most 64 letters and digits.
    pub name: String,
    /// What is known of it, as JSON.
    pub body: String,
}

/// A change of what a watcher keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptChange {
    /// It is there from now on, in the place of one of the same name.
    Put(Kept),
    /// It is not needed any more; that it is gone already is no error.
    Forget {
        /// What it is about.
        kind: KeptKind,
        /// Its name.
        name: String,
    },
}

/// What waits in a group behind a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedBacklog {
    /// The group.
    pub group: String,
    /// Deliveries that wait.
    pub deliveries: u64,
    /// Keys that they belong to.
    pub keys: u64,
    /// How long the oldest of them waits.
    pub oldest_age: Duration,
    /// Keys that are held by a dead letter until a person decides.
    pub held: u64,
    /// How long the one waits that is held longest; zero without any.
    pub held_age: Duration,
}

/// Dead letters of a group with the same failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterBacklog {
    /// The group.
    pub group: String,
    /// The fingerprint of the failure.
    pub cluster: String,
    /// Those that wait for a person, or were handed back and are not handled yet.
    pub open: u64,
    /// All of them, whatever became of them.
    pub total: u64,
    /// How long the oldest open one waits; zero without any.
    pub oldest_age: Duration,
}

/// How far behind groups are with what they could not handle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    /// What waits, by group.
    pub parked: Vec<ParkedBacklog>,
    /// Dead letters, by group and failure.
    pub letters: Vec<LetterBacklog>,
}

/// What alerting needs of a store.
///
/// **Guarantee**: what is answered is durable. Ages count by the store's own clock.
pub trait AlertStore: Send + Sync {
    /// The name of the store for people, without credentials.
    fn name(&self) -> &str;

    /// Everything that a watcher keeps.
    fn kept<'a>(&'a self, watcher: &'a str) -> BoxFuture<'a, Result<Vec<Kept>, StoreError>>;

    /// Makes changes in their order, all of them or none.
    ///
    /// **Errors**: an [ambiguous](StoreError::may_have_happened) one may be answered by making the same changes again.
    ///
    /// **Cancel**: they are made or not.
    fn keep<'a>(
        &'a self,
        watcher: &'a str,
        changes: &'a [KeptChange],
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// How far behind groups are with what they could not handle, as seen at one moment.
    fn backlog(&self) -> BoxFuture<'_, Result<Backlog, StoreError>>;
}

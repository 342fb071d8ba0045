//! Groups as an operator sees them.

use super::{BrokerError, Position, StartAt};
use crate::limits::GROUP_NAME_BYTES_MAX;
use crate::{BoxFuture, Code, Pattern, Timestamp, codes};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The name of a consumer group, safe as a file name and as a name on any broker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for GroupName {
    type Err = GroupNameError;

    fn from_str(text: &str) -> Result<Self, GroupNameError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let valid = !text.is_empty()
            && text.len() <= GROUP_NAME_BYTES_MAX
            && text.chars().all(plain)
            && !text.starts_with(['.', '-']);
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(GroupNameError {
                text: text.to_owned(),
            })
        }
    }
}

/// Why a text is no group name; permanent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the group name {text:?} is not valid: use 1 to {GROUP_NAME_BYTES_MAX} letters, digits, '.', '_' or '-', and begin with a letter, a digit or '_'"
)]
pub struct GroupNameError {
    text: String,
}

impl GroupNameError {
    /// The stable code.
    pub fn code(&self) -> Code {
        codes::GROUP_NAME_INVALID
    }
}

/// A group as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStatus {
    /// Its name.
    pub name: GroupName,
    /// What it subscribes to.
    pub patterns: Vec<Pattern>,
    /// The first position that is not settled.
    pub position: Option<Position>,
    /// When its cursor last moved.
    pub moved_at: Option<Timestamp>,
    /// Who works for it now, if anyone.
    pub owner: Option<String>,
    /// Whether nobody has worked for it for longer than the broker's limit, while events went on coming.
    pub abandoned: bool,
}

/// How far a group is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupLag {
    /// Events of its patterns that it has not settled.
    pub events: u64,
    /// How long ago the oldest of them was appended; zero without any.
    pub age: Duration,
    /// Positions that retention removed before the group settled them; it cannot go on before it is moved.
    pub lost: u64,
    /// How near retention is to what the group has not settled; `None` where retention waits for the group, or removes nothing.
    pub loss: Option<LossAhead>,
    /// A number that grows whenever the group settles something, where a broker without [positions](GroupStatus::position) has one.
    pub settled: Option<u64>,
}

/// How near retention is to events that a group has not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossAhead {
    /// When the oldest of them may be removed for its age; zero once it may.
    pub within: Option<Duration>,
    /// Bytes that may still be appended before the oldest of them is removed for the size of the log; zero once it may.
    pub bytes_left: Option<u64>,
    /// Whether less than a quarter of the time or of the bytes that retention keeps is left.
    pub is_near: bool,
}

/// Administration of groups.
pub trait Admin: Send + Sync {
    /// All groups, by name.
    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupStatus>, BrokerError>>;

    /// How far a group is behind.
    ///
    /// **Errors**: [`BrokerError::GroupUnknown`].
    fn lag<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<GroupLag, BrokerError>>;

    /// Moves a group to another place and answers where that is.
    ///
    /// **Errors**: [`BrokerError::GroupUnknown`], [`BrokerError::GroupLeased`] while somebody works for it.
    fn seek<'a>(
        &'a self,
        group: &'a GroupName,
        start: StartAt,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>>;

    /// Forgets a group.
    ///
    /// **Errors**: [`BrokerError::GroupUnknown`], [`BrokerError::GroupLeased`] while somebody works for it.
    fn remove<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), BrokerError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_names_are_safe_file_names() {
        for good in ["inventory", "order-audit.v2", "a", "_x", "Billing"] {
            assert!(good.parse::<GroupName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".hidden",
            "-flag",
            "a/b",
            "a b",
            "naïve",
            &"x".repeat(121),
        ] {
            assert!(bad.parse::<GroupName>().is_err(), "{bad}");
        }
    }
}

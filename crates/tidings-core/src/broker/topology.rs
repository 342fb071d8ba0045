//! What must exist on a broker before events can pass: topics, exchanges, streams, queues, rules.

use super::SubscribeRequest;

/// What is asked about.
#[derive(Debug, Clone, Copy)]
pub struct TopologyRequest<'a> {
    /// The groups whose part is looked at, besides what publishing needs.
    pub groups: &'a [SubscribeRequest],
    /// Make what is missing; otherwise nothing is changed.
    pub ensure: bool,
}

/// One thing on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyItem {
    /// Kind and name, for example `topic events`.
    pub what: String,
    /// How it stands.
    pub state: TopologyState,
}

/// How one thing on the broker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopologyState {
    /// It is there and as it must be.
    Present,
    /// It was missing and is there now.
    Created,
    /// It is missing; a person makes it with this command.
    Missing {
        /// The broker's own command, ready to be run.
        command: String,
    },
    /// It is there, but not as it must be.
    Wrong {
        /// What was found, and what must be.
        reason: String,
        /// The broker's own command, or what to do.
        way_out: String,
    },
}

impl TopologyState {
    /// Whether events can pass.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Present | Self::Created)
    }
}

//! What can happen next.

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Time passes for everybody, and everybody is told.
    Pass,
    /// A call of a relay is carried out; its answer is on its way.
    Do(usize, usize, Luck),
    /// An answer reaches its relay.
    Deliver(usize, usize),
    /// A relay dies. What it had sent may still arrive.
    Crash(usize),
    /// A relay begins anew.
    Start(usize),
    /// A relay is asked to drain.
    Drain(usize),
    /// A row becomes visible.
    Commit(usize),
    /// The lease ends, whatever its time.
    LeaseEnds,
    /// The next row of something that was sent long ago arrives.
    Arrive(usize),
}

impl Act {
    /// New rows raise the measure.
    pub(super) fn commits(self) -> bool {
        matches!(self, Self::Commit(_))
    }
}

/// How a call fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Luck {
    /// As it should.
    Good,
    /// Done, and the answer is lost.
    AnswerLost,
    /// Not done, and the caller cannot know.
    Lost,
    /// As lost, and it arrives later.
    Late,
    /// The destination is down, and says so.
    Down,
    /// The destination refuses the row with this place in its batch for now.
    Failed(usize),
    /// The destination refuses the row with this place in its batch for ever.
    Rejected(usize),
}

/// What a fair round comes closer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Goal {
    /// Rows are sent, beside a destination in trouble or without one.
    Sent(Option<Trouble>),
    /// Nothing is left to send, and relays end.
    Ended,
}

/// A destination that never does what it should while everything else goes well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Trouble {
    pub(super) destination: &'static str,
    /// What becomes of each batch for it; nothing at all if there is none.
    pub(super) luck: Option<Luck>,
}

impl Trouble {
    /// It is silent, it is down, or it refuses the first event of every batch.
    pub(super) fn all_of(destination: &'static str) -> [Self; 3] {
        [None, Some(Luck::Down), Some(Luck::Failed(0))].map(|luck| Self { destination, luck })
    }
}

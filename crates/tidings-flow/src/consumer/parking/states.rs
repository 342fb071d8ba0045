//! What a parked key goes through, as a table: each change of a lane must be in it, and a test renders the page's drawing from it.

use super::Phase;
use std::fmt;

/// What a key is at, in the words of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Nothing of it is in the store or on its way there.
    Free,
    Resting,
    Fetching,
    Working,
    Emptying,
}

impl State {
    /// The state of a lane in this phase; without one, nothing of it is parked.
    pub(super) fn of(phase: Option<Phase>) -> Self {
        match phase {
            None => Self::Free,
            Some(Phase::Resting) => Self::Resting,
            Some(Phase::Fetching) => Self::Fetching,
            Some(Phase::Working(_)) => Self::Working,
            Some(Phase::Emptying) => Self::Emptying,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "free",
            Self::Resting => "resting",
            Self::Fetching => "fetching",
            Self::Working => "working",
            Self::Emptying => "emptying",
        })
    }
}

/// From a state, by what happens, into another.
type Transition = (State, &'static str, State);

pub(super) const TRANSITIONS: [Transition; 14] = {
    use State::{Emptying, Fetching, Free, Resting, Working};
    [
        (Free, "put off or held", Resting),
        (Free, "found in the store", Resting),
        (Free, "due", Fetching),
        (Resting, "due", Fetching),
        (Resting, "taken away", Free),
        (Fetching, "rows fetched", Working),
        (Fetching, "none is due", Resting),
        (Fetching, "something older is put off", Resting),
        (Fetching, "no row is left", Free),
        (Working, "failed again", Resting),
        (Working, "something older is put off", Resting),
        (Working, "the last one fetched is handled", Emptying),
        (Emptying, "the store knows, rows are left", Resting),
        (Emptying, "the store knows, none is left", Free),
    ]
};

/// Whether a way leads from one state into another.
pub(super) fn is_drawn(from: State, to: State) -> bool {
    from == to || TRANSITIONS.iter().any(|way| (way.0, way.2) == (from, to))
}

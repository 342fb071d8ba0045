//! Dead letters: events that a group gave up, each recorded as the durable fact `tidings.dead_letter.recorded` before the group goes on.
//!
//! An alert is a consumer of that fact like any other.
//!
//! **Source**: seed concept *dead letter*.

mod list;
mod record;

pub use list::{DeadLetters, list};
pub use record::{
    AttemptRecord, DeadLetter, DeadLetterError, DeadLetterRecord, EVENT_TYPE, STATUS_OPEN,
};
pub(crate) use record::{Death, History, fact_id};

//! Dead letters: events that a group gave up, each recorded as the durable fact `tidings.dead_letter.recorded` before the group goes on.
//!
//! An alert is a consumer of that fact like any other.
//!
//! **Source**: seed concept *dead letter*.

mod decision;
pub mod edit;
mod exported;
mod fingerprint;
mod foreign;
mod list;
mod record;
mod redrive;
mod take_over;

pub use decision::{DISCARDED, DecisionRecord, EDITED, REDRIVEN};
pub use exported::exported;
pub use fingerprint::fingerprint;
pub use foreign::{ForeignError, ForeignMessage, ForeignOrigin, HeaderValue, foreign};
pub use list::{DeadLetters, list};
pub use record::{
    AttemptRecord, DeadLetter, DeadLetterError, DeadLetterRecord, EVENT_TYPE, STATUS_OPEN,
};
pub(crate) use record::{Death, History, cut_chain, fact_id};
pub use redrive::{
    DiscardReport, RedriveOptions, RedrivePlan, RedriveReport, discard, plan, plan_discard, redrive,
};
pub use take_over::{TakeOverError, take_over};

/// Names the dead letter of an event in a group; it repeats, and stays the same when the event dies again.
pub fn letter_id(event: &tidings_core::Envelope, group: &str) -> String {
    fact_id(event, group, 0)
}

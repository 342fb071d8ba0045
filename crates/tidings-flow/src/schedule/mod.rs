//! Events that are published later: delayed, at a time, or again and again. They can be cancelled and moved until they fire.
//!
//! A scheduled event is a row; the [`Scheduler`] moves it into the outbox when it is due, in one transaction, and the relay of that outbox carries it on. So it
//! means the same on every broker, and fires once however many schedulers look.
//!
//! **Source**: seed concept *temporal decoupling*.

mod firing;
mod recurrence;
mod scheduler;

pub use firing::SCHEDULED_TIME;
pub use recurrence::{ScheduleError, check, first_due, next_after};
pub use scheduler::{Scheduler, SchedulerStats};

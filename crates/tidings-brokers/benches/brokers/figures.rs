//! How the two figures of each broker are told: events published beside the bare client, and processor time that consuming adds to it.

use crate::measure::{Goal, Outcome, Report, Request, Rounds, progress};

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Bare,
}

/// Events a second beside the bare client's, in rounds that take turns.
pub(crate) fn publish(
    broker: &str,
    request: &Request,
    report: &mut Report,
    measure: impl Fn(Side) -> Outcome<f64>,
) -> Outcome<()> {
    let name = format!("{broker}.publish");
    progress(&name);
    let rounds = Rounds::measure(
        request.full_or_quick(11, 1),
        || measure(Side::Ours),
        || measure(Side::Bare),
    )?;
    report.compared(&name, "events/s", &rounds, Goal::RatioMin(0.9));
    Ok(())
}

/// Brokers whose clients cost so little that what we add can be seen.
const WITH_GOAL: &[&str] = &["kafka", "nats"];

/// Microseconds of processor time an event beyond the bare client's.
pub(crate) fn consume(
    broker: &str,
    request: &Request,
    report: &mut Report,
    measure: impl Fn(Side) -> Outcome<f64>,
) -> Outcome<()> {
    let name = format!("{broker}.consume_cpu");
    progress(&name);
    let mut rounds = Rounds::measure(
        request.full_or_quick(9, 1),
        || measure(Side::Ours),
        || measure(Side::Bare),
    )?;
    for (ours, bare) in rounds.ours.iter_mut().zip(&rounds.bare) {
        *ours -= bare;
    }
    let goal = if WITH_GOAL.contains(&broker) {
        Goal::ValueMax(1.0)
    } else {
        Goal::None
    };
    report.beyond(&name, "us/event", &rounds, goal);
    Ok(())
}

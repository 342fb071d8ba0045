//! What alerts say to people.

use crate::alert::look::{GroupSeen, OutboxSeen};
use crate::alert::message::short;
use crate::alert::options::AlertOptions;
use crate::alert::subject::{Live, Subject};
use crate::explain::word;
use std::time::Duration;
use tidings_core::limits::ALERT_QUIET_AFTER;
use tidings_core::store::ParkedBacklog;

/// A sentence, and the command to look with.
#[derive(Debug, Clone)]
pub(super) struct Saying {
    pub(super) text: String,
    pub(super) next: String,
    /// How many there are.
    pub(super) count: u64,
}

/// Makes sentences.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    messages_per_window: usize,
    window: Duration,
}

impl Said {
    pub(super) fn new(options: &AlertOptions) -> Self {
        Self {
            messages_per_window: options.messages_per_window,
            window: options.window,
        }
    }

    pub(super) fn letters(self, subject: &Subject, live: &Live) -> Saying {
        let (count, total) = (live.count, live.total);
        if let (Subject::DeadLetter { group, cluster }, None) = (subject, &live.sample) {
            let letters = if count == 1 { "letter" } else { "letters" };
            return Saying {
                text: format!("{group} has {count} open dead {letters} of {cluster}"),
                next: format!("tidings dlq ls --consumer {}", word(group)),
                count,
            };
        }
        let (Subject::DeadLetter { group, cluster }, Some(sample)) = (subject, &live.sample) else {
            return Saying {
                text: format!(
                    "{count} further dead letters of failures that have no message of their own, more than {} in {}",
                    self.messages_per_window,
                    span(self.window)
                ),
                next: "tidings dlq ls".to_owned(),
                count,
            };
        };
        let events = if count == 1 { "event" } else { "events" };
        let further = if live.is_told { " more" } else { "" };
        let of = if total > count {
            format!(", {total} in all")
        } else {
            String::new()
        };
        Saying {
            text: format!(
                "{group} gave {count}{further} {events} up{of} ({cluster}, {}): {}",
                sample.event_type, sample.reason
            ),
            next: format!(
                "tidings dlq show {} --consumer {}",
                word(&sample.event_id),
                word(group)
            ),
            count,
        }
    }

    pub(super) fn settled(self, group: &str, cluster: &str) -> Saying {
        Saying {
            text: format!("no dead letter of {cluster} in {group} is open any more"),
            next: format!("tidings dlq ls --consumer {} --all", word(group)),
            count: 0,
        }
    }

    pub(super) fn quiet(self, group: &str, cluster: &str) -> Saying {
        Saying {
            text: format!(
                "no further dead letter of {cluster} in {group} for {}",
                span(ALERT_QUIET_AFTER)
            ),
            next: format!("tidings dlq ls --consumer {}", word(group)),
            count: 0,
        }
    }

    pub(super) fn stalled(self, seen: &GroupSeen, still: Duration) -> Saying {
        let GroupSeen { group, lag, .. } = seen;
        let who = match seen.is_owned {
            Some(true) => "; a consumer works for it",
            Some(false) => "; no consumer works for it",
            None => "",
        };
        let events = if *lag == 1 { "event" } else { "events" };
        // Without a mark it may work, and fall behind all the same.
        let how = match seen.mark {
            Some(_) => "has not moved",
            None => "has not caught up",
        };
        Saying {
            text: format!(
                "{} is {lag} {events} behind and {how} for {}{who}",
                short(group),
                span(still)
            ),
            next: format!("tidings consumer lag {}", word(group)),
            count: *lag,
        }
    }

    pub(super) fn outbox(self, seen: &OutboxSeen) -> Saying {
        Saying {
            text: format!(
                "the oldest of {} unsent events in the outbox {} waits for {}; its relay does not run or cannot publish",
                seen.pending,
                short(&seen.outbox),
                span(seen.oldest_age)
            ),
            next: "tidings outbox status --from URL".to_owned(),
            count: seen.pending,
        }
    }

    pub(super) fn parked(self, seen: &ParkedBacklog) -> Saying {
        let group = &seen.group;
        let held = match seen.held {
            0 => String::new(),
            1 => format!(
                "; 1 key is held by a dead letter for {}",
                span(seen.held_age)
            ),
            held => format!(
                "; {held} keys are held by dead letters, the longest for {}",
                span(seen.held_age)
            ),
        };
        Saying {
            text: format!(
                "{} events of {} keys in {} are parked, the oldest for {}{held}",
                seen.deliveries,
                seen.keys,
                short(group),
                span(seen.oldest_age)
            ),
            next: format!("tidings dlq ls --consumer {}", word(group)),
            count: seen.deliveries,
        }
    }

    /// That a condition does not hold any more.
    pub(super) fn over(self, subject: &Subject) -> Saying {
        let (text, next) = match subject {
            Subject::Stalled { group } => (
                format!("{group} moves again, or has nothing left"),
                format!("tidings consumer lag {}", word(group)),
            ),
            Subject::Outbox { outbox } => (
                format!("the events of the outbox {} go out in time", short(outbox)),
                "tidings outbox status --from URL".to_owned(),
            ),
            Subject::Parked { group } => (
                format!("nothing in {group} is parked for too long"),
                format!("tidings dlq ls --consumer {}", word(group)),
            ),
            Subject::DeadLetter { .. } | Subject::ManyDeadLetters => (
                "every failure has a message of its own again".to_owned(),
                "tidings dlq ls".to_owned(),
            ),
        };
        Saying {
            text,
            next,
            count: 0,
        }
    }
}

/// A length of time for people.
fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

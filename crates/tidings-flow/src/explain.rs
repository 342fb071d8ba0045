//! Where an event is in a group, and why: one sentence for a person who asks at night. Pure; who asks gathers what is known.
//!
//! **Source**: "where did order-123 get stuck?"

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::broker::Position;
use tidings_core::store::OpenCircuit;

/// What is known of an event in one group.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The group.
    pub group: String,
    /// Whether the group's patterns match the event; `None` where the broker does not tell.
    pub subscribed: Option<bool>,
    /// Where the event stands, on a broker with a total order.
    pub position: Option<Position>,
    /// The first position that the group has not settled.
    pub cursor: Option<Position>,
    /// When that last moved.
    pub moved_at: Option<Timestamp>,
    /// Who works for the group now.
    pub owner: Option<String>,
    /// Why a person paused the group.
    pub paused: Option<String>,
    /// The circuit of the group, if it is not closed.
    pub circuit: Option<OpenCircuit>,
    /// When the inbox took the event, where the group has one.
    pub handled_at: Option<Timestamp>,
    /// Where the first event with the same id and source stands, if this is another one.
    pub copy_of: Option<Position>,
    /// What was noted of attempts at the event, while it is neither parked nor settled.
    pub noted: Option<KnownAttempts>,
    /// How often the group tries an event at most, in place and later, unless its error has a policy of its own.
    pub attempts_max: Option<u32>,
    /// Events that are left for the group, where nothing but their number is known.
    pub left: Option<u64>,
    /// Its row among the parked deliveries of the group.
    pub parked: Option<KnownParked>,
    /// Its dead letter.
    pub letter: Option<KnownLetter>,
    /// Events of the group's patterns between its cursor and this event.
    pub before: u64,
    /// The oldest of them with the same key.
    pub before_of_key: Option<String>,
    /// How long after the event the first of what the group emitted because of it was appended, by the clock of the broker that has both.
    pub effect_after: Option<Duration>,
}

/// Attempts in place that failed, as far as they explain something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownAttempts {
    /// How many.
    pub failed: u32,
    /// When the first of them was noted.
    pub first_at: Timestamp,
}

/// A parked delivery as far as it explains something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownParked {
    /// When it is tried; `None` behind another row, and while it is held.
    pub due: Option<Timestamp>,
    /// Attempts that failed so far.
    pub attempts: u32,
    /// Why the last one failed.
    pub error: Option<String>,
    /// The oldest row of its lane, unless it is that itself.
    pub head: Option<String>,
    /// Rows before it in its lane.
    pub rows_before: u64,
}

/// A dead letter as far as it explains something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLetter {
    /// Its name.
    pub id: String,
    /// `open`, `redriven`, `resolved`, `discarded` or `edited`.
    pub status: String,
    /// Why the event was given up.
    pub reason: String,
    /// When it was given up.
    pub died: Timestamp,
    /// Why a person decided as he did.
    pub decided_why: Option<String>,
}

/// Where an event is in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Whereabouts {
    /// The group does not ask for events of its type.
    NotSubscribed,
    /// The group is done with it.
    Handled {
        /// When, if the inbox says so; else not after the last time the group moved on.
        at: Option<Timestamp>,
        /// Whether `at` is exact.
        exact: bool,
        /// How long that took at most, its wait and its retries included, where it left an effect by which that is known.
        within: Option<Duration>,
    },
    /// The group had handled it before, so that this copy of it has no further effect.
    Deduplicated {
        /// When it was handled, as the inbox says.
        at: Timestamp,
        /// Where the first copy stands.
        first: Position,
    },
    /// It waits for its turn.
    Waiting {
        /// Events of the group before it.
        before: u64,
        /// The oldest of them with the same key.
        behind: Option<String>,
        /// Whether anybody works for the group.
        worked_for: bool,
    },
    /// The group is paused by a person, or the event would be handled.
    Paused {
        /// Why.
        reason: String,
    },
    /// Everything that the group handles fails, and it waits.
    CircuitOpen {
        /// Since when.
        since: Timestamp,
        /// When one event is tried; `None` while one is.
        probe_at: Option<Timestamp>,
        /// The last failure.
        error: String,
    },
    /// It failed, and is tried again.
    Retrying {
        /// When; `None` at the next look.
        at: Option<Timestamp>,
        /// Which attempt comes next, from 1.
        attempt: u32,
        /// How many there are at most, where that is known.
        of: Option<u32>,
        /// Why the last one failed.
        error: Option<String>,
    },
    /// It failed, and is tried again at its place, in a moment.
    RetryingInPlace {
        /// Which attempt comes next, from 1.
        attempt: u32,
        /// How many there are at most, where that is known.
        of: Option<u32>,
        /// When the first one failed.
        first_at: Timestamp,
    },
    /// Another event of its key failed and goes first.
    ParkedBehind {
        /// The event that everything waits for.
        head: String,
        /// Events before it in its lane.
        rows_before: u64,
    },
    /// It was given up.
    DeadLettered {
        /// The name of the dead letter.
        letter: String,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// It was handed back by a person, and is handled next.
    Redriven {
        /// The name of the dead letter.
        letter: String,
    },
    /// A person gave it up for good, or put an edited copy in its place.
    Decided {
        /// What: `discarded` or `edited`.
        what: String,
        /// Why.
        reason: Option<String>,
    },
    /// Neither broker nor store says anything about it.
    Unknown {
        /// Events that are left for the group, where that is known.
        left: Option<u64>,
    },
}

/// Says where an event is in a group, by what is known; the strongest word first: what a person decided, what the store keeps, what the cursor says.
pub fn explain(known: &Known) -> Whereabouts {
    if let Some(decided) = known
        .letter
        .as_ref()
        .and_then(|letter| told_by_letter(letter, known.paused.is_some()))
    {
        return decided;
    }
    if let Some(reason) = known.paused.clone().filter(|_| !is_settled(known)) {
        return Whereabouts::Paused { reason };
    }
    if let Some(circuit) = waits_for_circuit(known) {
        return Whereabouts::CircuitOpen {
            since: circuit.since,
            probe_at: circuit.probe_at,
            error: circuit.reason.clone(),
        };
    }
    if let Some(parked) = &known.parked {
        return match &parked.head {
            Some(head) => Whereabouts::ParkedBehind {
                head: head.clone(),
                rows_before: parked.rows_before,
            },
            None => Whereabouts::Retrying {
                at: parked.due,
                attempt: parked.attempts.saturating_add(1),
                of: of(known, parked.attempts),
                error: parked.error.clone(),
            },
        };
    }
    if let (Some(at), Some(first)) = (known.handled_at, known.copy_of) {
        return Whereabouts::Deduplicated { at, first };
    }
    if let Some(at) = known.handled_at {
        return Whereabouts::Handled {
            at: Some(at),
            exact: true,
            within: known.effect_after,
        };
    }
    if known.subscribed == Some(false) {
        return Whereabouts::NotSubscribed;
    }
    if let Some(noted) = known.noted.filter(|_| is_worked_at(known)) {
        return Whereabouts::RetryingInPlace {
            attempt: noted.failed.saturating_add(1),
            of: of(known, noted.failed),
            first_at: noted.first_at,
        };
    }
    match (known.position, known.cursor) {
        (Some(position), Some(cursor)) if position < cursor => Whereabouts::Handled {
            at: known.moved_at,
            exact: false,
            within: known.effect_after,
        },
        (Some(_), Some(_)) => Whereabouts::Waiting {
            before: known.before,
            behind: known.before_of_key.clone(),
            worked_for: known.owner.is_some(),
        },
        _ => Whereabouts::Unknown { left: known.left },
    }
}

/// How many attempts there are at most; what has failed more often follows another policy.
fn of(known: &Known, failed: u32) -> Option<u32> {
    known.attempts_max.filter(|max| *max > failed)
}

/// Whether an event that is not settled may be under way: somebody works for the group, or nobody can tell.
fn is_worked_at(known: &Known) -> bool {
    !is_settled(known) && (known.owner.is_some() || known.cursor.is_none())
}

/// What the newest dead letter of the event says, unless something else is said first.
fn told_by_letter(letter: &KnownLetter, is_paused: bool) -> Option<Whereabouts> {
    match letter.status.as_str() {
        "open" => Some(Whereabouts::DeadLettered {
            letter: letter.id.clone(),
            reason: letter.reason.clone(),
            at: letter.died,
        }),
        "discarded" | "edited" => Some(Whereabouts::Decided {
            what: letter.status.clone(),
            reason: letter.decided_why.clone(),
        }),
        "redriven" if !is_paused => Some(Whereabouts::Redriven {
            letter: letter.id.clone(),
        }),
        _ => None,
    }
}

/// The open circuit that an event waits for; one behind another of its key waits for that first, and where nobody works nobody waits.
fn waits_for_circuit(known: &Known) -> Option<&OpenCircuit> {
    let circuit = known.circuit.as_ref()?;
    let behind = known.parked.as_ref().is_some_and(|row| row.head.is_some());
    let works = known.owner.is_some() && known.subscribed != Some(false);
    (works && !behind && !is_settled(known)).then_some(circuit)
}

/// Whether the group is done with the event, whatever else is true.
fn is_settled(known: &Known) -> bool {
    let passed = match (known.position, known.cursor) {
        (Some(position), Some(cursor)) => position < cursor,
        _ => false,
    };
    known.parked.is_none() && (passed || known.handled_at.is_some())
}

impl Whereabouts {
    /// One word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotSubscribed => "not_subscribed",
            Self::Handled { .. } => "handled",
            Self::Deduplicated { .. } => "deduplicated",
            Self::Waiting { .. } => "waiting",
            Self::Paused { .. } => "paused",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::Retrying { .. } | Self::RetryingInPlace { .. } => "retrying",
            Self::ParkedBehind { .. } => "parked",
            Self::DeadLettered { .. } => "dead_lettered",
            Self::Redriven { .. } => "redriven",
            Self::Decided { .. } => "decided",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// Whether the group is not done with the event yet.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Handled { .. }
            | Self::Deduplicated { .. }
            | Self::NotSubscribed
            | Self::Decided { .. }
            | Self::Unknown { left: Some(0) } => false,
            Self::Waiting { .. }
            | Self::Paused { .. }
            | Self::CircuitOpen { .. }
            | Self::Retrying { .. }
            | Self::RetryingInPlace { .. }
            | Self::ParkedBehind { .. }
            | Self::DeadLettered { .. }
            | Self::Redriven { .. }
            | Self::Unknown { .. } => true,
        }
    }

    /// Whether nothing more happens unless a person does something.
    pub fn is_stuck(&self) -> bool {
        match self {
            Self::DeadLettered { .. } | Self::Paused { .. } => true,
            Self::Waiting { worked_for, .. } => !worked_for,
            _ => false,
        }
    }

    /// The command that a person runs next; `None` where nothing is to be done. Its words are [quoted](word); the flags that say where to look are added by who knows them.
    pub fn next_command(&self, group: &str, event_id: &str) -> Option<String> {
        let (group, event_id) = (word(group), word(event_id));
        match self {
            Self::DeadLettered { .. } => {
                Some(format!("tidings dlq show {event_id} --consumer {group}"))
            }
            Self::ParkedBehind { head, .. } => Some(format!(
                "tidings event explain {} --group {group}",
                word(head)
            )),
            Self::Paused { .. } => Some(format!("tidings consumer resume {group}")),
            Self::Retrying { .. } => {
                Some(format!("tidings retry now {event_id} --consumer {group}"))
            }
            Self::Waiting {
                behind: Some(behind),
                worked_for: true,
                ..
            } => Some(format!(
                "tidings event explain {} --group {group}",
                word(behind)
            )),
            Self::Waiting {
                worked_for: false, ..
            } => Some("tidings consumer ls".to_owned()),
            _ => None,
        }
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSubscribed => f.write_str("not subscribed to events of this type"),
            Self::Handled { at, exact, within } => f.write_str(&handled(*at, *exact, *within)),
            Self::Deduplicated { at, first } => write!(
                f,
                "was handled before, at {at}; this copy of the event at position {first} is dropped"
            ),
            Self::Waiting {
                before,
                behind,
                worked_for,
            } => {
                write!(f, "waits: {before} events of the group come first")?;
                if let Some(behind) = behind {
                    write!(f, ", of its key {behind}")?;
                }
                match worked_for {
                    true => Ok(()),
                    false => f.write_str("; nobody works for the group"),
                }
            }
            Self::CircuitOpen {
                since,
                probe_at,
                error,
            } => {
                write!(f, "waits: the circuit of the group is open since {since}")?;
                match probe_at {
                    Some(at) => write!(f, ", one event is tried at {at}")?,
                    None => f.write_str(", one event is being tried")?,
                }
                write!(f, "; the last failure: {error}")
            }
            Self::Paused { reason } => write!(f, "waits: the group is paused ({reason})"),
            Self::Retrying {
                at,
                attempt,
                of,
                error,
            } => f.write_str(&retrying(*at, &nth(*attempt, *of), error.as_deref())),
            Self::RetryingInPlace {
                attempt,
                of,
                first_at,
            } => write!(
                f,
                "is tried again in place, attempt {}; the first one failed at {first_at}",
                nth(*attempt, *of)
            ),
            Self::ParkedBehind { head, rows_before } => {
                write!(
                    f,
                    "is parked behind {head}; {rows_before} of its key come first"
                )
            }
            Self::DeadLettered { letter, reason, at } => {
                write!(f, "was given up at {at} as {letter}: {reason}")
            }
            Self::Redriven { letter } => {
                write!(f, "was handed back from {letter} and is handled next")
            }
            Self::Decided { what, reason } => match reason {
                Some(reason) => write!(f, "was {what} by a person: {reason}"),
                None => write!(f, "was {what} by a person"),
            },
            Self::Unknown { left } => f.write_str(&unknown(*left)),
        }
    }
}

/// A word of a command that a person may copy: what came with an event must not become more than that.
pub fn word(text: &str) -> Cow<'_, str> {
    shell_words::quote(text)
}

fn handled(at: Option<Timestamp>, exact: bool, within: Option<Duration>) -> String {
    let when = match (at, exact) {
        (Some(at), true) => format!("handled at {at}"),
        (Some(at), false) => format!("handled, not after {at}"),
        (None, _) => "handled".to_owned(),
    };
    match within {
        Some(within) => format!("{when}, within {} of being published", at_most(within)),
        None => when,
    }
}

fn retrying(at: Option<Timestamp>, attempt: &str, error: Option<&str>) -> String {
    let when = match at {
        Some(at) => format!("is tried again at {at}, attempt {attempt}"),
        None => format!("is tried again soon, attempt {attempt}"),
    };
    match error {
        Some(error) => format!("{when}; the last one failed: {error}"),
        None => when,
    }
}

fn unknown(left: Option<u64>) -> String {
    let nobody = "neither the broker nor the store tells";
    match left {
        Some(0) => {
            format!("{nobody}; nothing is left for the group: it was handled, or never was for it")
        }
        Some(left) => format!("{nobody}; {left} events are left for the group"),
        None => nobody.to_owned(),
    }
}

/// Which attempt it is, for people.
fn nth(attempt: u32, of: Option<u32>) -> String {
    match of {
        Some(of) => format!("{attempt} of {of}"),
        None => attempt.to_string(),
    }
}

/// A span for people, rounded up, so that what is said to be the most is.
fn at_most(span: Duration) -> String {
    let millis = span.as_nanos().div_ceil(1_000_000);
    match millis {
        0..10_000 => format!("{millis} ms"),
        _ => format!("{} s", millis.div_ceil(1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn known() -> Known {
        Known {
            group: "shipping".to_owned(),
            subscribed: Some(true),
            position: Some(Position(7)),
            cursor: Some(Position(5)),
            owner: Some("pid 17".to_owned()),
            before: 2,
            before_of_key: Some("evt-5".to_owned()),
            ..Known::default()
        }
    }

    #[test]
    fn what_waits_says_for_whom() {
        let waits = explain(&known());

        assert_eq!(
            waits.to_string(),
            "waits: 2 events of the group come first, of its key evt-5"
        );
        assert_eq!(
            waits.next_command("shipping", "evt-7").unwrap(),
            "tidings event explain evt-5 --group shipping"
        );
        let mut alone = known();
        alone.owner = None;
        assert!(explain(&alone).is_stuck());
        let mut odd = known();
        odd.before_of_key = Some("evt 5; reboot".to_owned());
        assert_eq!(
            explain(&odd).next_command("shipping", "evt-7").unwrap(),
            "tidings event explain 'evt 5; reboot' --group shipping"
        );
    }

    #[test]
    fn the_store_knows_better_than_the_cursor() {
        let mut parked = known();
        parked.cursor = Some(Position(9));
        assert_eq!(explain(&parked).as_str(), "handled");
        parked.parked = Some(KnownParked {
            due: Some(at("2026-11-29T10:00:00Z")),
            attempts: 3,
            error: Some("smtp: 421".to_owned()),
            head: None,
            rows_before: 0,
        });

        assert_eq!(
            explain(&parked).to_string(),
            "is tried again at 2026-11-29T10:00:00Z, attempt 4; the last one failed: smtp: 421"
        );
        if let Some(row) = &mut parked.parked {
            row.head = Some("evt-5".to_owned());
            row.rows_before = 2;
        }
        assert_eq!(
            explain(&parked).to_string(),
            "is parked behind evt-5; 2 of its key come first"
        );
    }

    #[test]
    fn an_attempt_is_told_with_how_many_there_are_where_that_is_known() {
        let mut retried = known();
        retried.noted = Some(KnownAttempts {
            failed: 2,
            first_at: at("2026-11-29T10:00:00Z"),
        });
        retried.attempts_max = Some(5);

        assert_eq!(
            explain(&retried).to_string(),
            "is tried again in place, attempt 3 of 5; the first one failed at 2026-11-29T10:00:00Z"
        );
        assert_eq!(explain(&retried).next_command("shipping", "evt-7"), None);
        // An error with a policy of its own is tried more often.
        retried.attempts_max = Some(2);
        assert!(explain(&retried).to_string().contains("attempt 3;"));
        // Where nobody works, nothing is tried; and what is settled is not.
        retried.owner = None;
        assert_eq!(explain(&retried).as_str(), "waiting");
        retried.cursor = Some(Position(9));
        assert_eq!(explain(&retried).as_str(), "handled");
        // A broker that tells nothing of its groups leaves it to the store.
        retried.position = None;
        retried.cursor = None;
        assert_eq!(explain(&retried).as_str(), "retrying");
    }

    #[test]
    fn a_copy_of_what_the_inbox_knows_is_no_second_handling() {
        let mut copy = known();
        copy.cursor = Some(Position(9));
        copy.copy_of = Some(Position(3));
        assert_eq!(explain(&copy).as_str(), "handled", "there is no inbox");

        copy.handled_at = Some(at("2026-11-29T10:00:00Z"));
        let explained = explain(&copy);
        assert_eq!(explained.as_str(), "deduplicated");
        assert!(!explained.is_open());
        assert_eq!(
            explained.to_string(),
            "was handled before, at 2026-11-29T10:00:00Z; this copy of the event at position 3 is dropped"
        );
    }

    #[test]
    fn what_nobody_tells_is_said_to_be_unknown() {
        let mut unknown = Known {
            left: Some(2),
            ..Known::default()
        };
        assert_eq!(
            explain(&unknown).to_string(),
            "neither the broker nor the store tells; 2 events are left for the group"
        );
        assert!(explain(&unknown).is_open());
        unknown.left = Some(0);
        assert!(!explain(&unknown).is_open());
        unknown.left = None;
        assert_eq!(
            explain(&unknown).to_string(),
            "neither the broker nor the store tells"
        );
    }

    #[test]
    fn how_long_it_took_is_said_where_its_effect_tells_and_never_too_short() {
        let mut handled = known();
        handled.cursor = Some(Position(9));
        assert_eq!(explain(&handled).to_string(), "handled");

        handled.effect_after = Some(Duration::from_micros(12_001));
        assert_eq!(
            explain(&handled).to_string(),
            "handled, within 13 ms of being published"
        );
        handled.effect_after = Some(Duration::from_millis(61_001));
        handled.moved_at = Some(at("2026-11-29T10:00:00Z"));
        assert_eq!(
            explain(&handled).to_string(),
            "handled, not after 2026-11-29T10:00:00Z, within 62 s of being published"
        );
        handled.handled_at = Some(at("2026-11-29T09:59:00Z"));
        assert_eq!(
            explain(&handled).to_string(),
            "handled at 2026-11-29T09:59:00Z, within 62 s of being published"
        );
        // An effect of a handling that is not settled yet does not make it handled.
        handled.handled_at = None;
        handled.cursor = Some(Position(5));
        assert_eq!(explain(&handled).as_str(), "waiting");
    }

    #[test]
    fn what_a_person_decided_comes_first() {
        let mut dead = known();
        dead.cursor = Some(Position(9));
        let letter = |status: &str| KnownLetter {
            id: "dl-1".to_owned(),
            status: status.to_owned(),
            reason: "no such order".to_owned(),
            died: at("2026-11-29T10:00:00Z"),
            decided_why: Some("INC-4711".to_owned()),
        };
        dead.letter = Some(letter("open"));
        let explained = explain(&dead);
        assert!(explained.is_stuck());
        assert_eq!(
            explained.to_string(),
            "was given up at 2026-11-29T10:00:00Z as dl-1: no such order"
        );

        dead.letter = Some(letter("discarded"));
        assert_eq!(
            explain(&dead).to_string(),
            "was discarded by a person: INC-4711"
        );
        dead.letter = Some(letter("resolved"));
        assert_eq!(explain(&dead).as_str(), "handled");
        dead.letter = Some(letter("redriven"));
        assert_eq!(explain(&dead).as_str(), "redriven");
    }

    #[test]
    fn an_open_circuit_explains_what_waits_and_nothing_else() {
        let mut waits = known();
        waits.circuit = Some(OpenCircuit {
            since: at("2026-11-29T10:00:00Z"),
            probe_at: Some(at("2026-11-29T10:00:30Z")),
            reason: "the provider is down".to_owned(),
        });
        let explained = explain(&waits);
        assert_eq!(
            explained.to_string(),
            "waits: the circuit of the group is open since 2026-11-29T10:00:00Z, one event is tried at 2026-11-29T10:00:30Z; the last failure: the provider is down"
        );
        assert!(explained.is_open() && !explained.is_stuck());

        waits.paused = Some("deploying".to_owned());
        assert_eq!(explain(&waits).as_str(), "paused");
        waits.paused = None;
        waits.owner = None;
        assert_eq!(explain(&waits).as_str(), "waiting");
        waits.owner = Some("pid 17".to_owned());
        waits.cursor = Some(Position(9));
        assert_eq!(explain(&waits).as_str(), "handled");
    }

    #[test]
    fn a_pause_explains_what_waits_and_nothing_else() {
        let mut paused = known();
        paused.paused = Some("deploying".to_owned());
        assert_eq!(explain(&paused).as_str(), "paused");

        paused.cursor = Some(Position(9));
        assert_eq!(explain(&paused).as_str(), "handled");
        paused.subscribed = Some(false);
        paused.cursor = Some(Position(5));
        paused.paused = None;
        assert_eq!(explain(&paused), Whereabouts::NotSubscribed);
    }
}

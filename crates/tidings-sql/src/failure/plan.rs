//! Changes, sorted by the statements that make them: each statement is about many rows, and the order among changes does not matter any more. Pure.
//!
//! Two changes of one row or one dead letter do not go into one plan, nor does an event that is parked again after its row was taken away, or one whose first attempt is only known from a count that changes. Lanes may be met by any number of changes: rows are added in their order, those that are done with are taken
//! away, and what is then the head of a lane is made due, which comes to the same as one change after the other.

use super::delivery::{self, columns, number, plain};
use super::hex;
use crate::driver::Bind;
use crate::many::Values;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use tidings_core::store::{DeathRecord, FailureChange, ParkedDelivery, ParkedId, ParkedRow};
use tidings_core::{DedupeKey, Envelope};

/// The number that no attempt goes beyond: what was noted before does not matter beside it.
const ATTEMPTS_LARGEST: u32 = i32::MAX as u32;

/// What some changes come to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Dead letters, new or once more, each with the key of its event.
    pub(super) letters: Vec<(String, Values)>,
    /// Deliveries for the ends of their lanes.
    pub(super) parked: Vec<Values>,
    /// Rows that change.
    pub(super) changed: Vec<RowChange>,
    /// Events whose rows leave: they were handled, or given up and hold nothing.
    pub(super) gone: Vec<String>,
    /// Dead letters whose rows were handled.
    pub(super) handled_letters: Vec<String>,
    /// Lanes whose head may be due now.
    pub(super) lanes: BTreeSet<String>,
    /// Counts of attempts, in an order that is the same for everybody, so that two instances do not wait for each other.
    pub(super) attempts: BTreeMap<String, Count>,
    /// Facts for the outbox, each with the key of the event that it is about.
    facts: Vec<(String, Envelope)>,
    /// The lanes of events whose rows are given up.
    dying: HashMap<String, String>,
    rows: HashSet<i64>,
    deaths: HashSet<DedupeKey>,
    /// Events, by their keys, whose rows are taken away.
    events_gone: HashSet<String>,
}

/// What the store has of a row.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) lane: String,
    pub(super) event: String,
    pub(super) letter: Option<String>,
}

/// What some changes come to, one plan after the other.
#[derive(Debug, Default)]
pub(super) struct Plans {
    pub(super) plans: Vec<Plan>,
    /// The indexes of changes that come to nothing.
    pub(super) nothing: Vec<usize>,
}

/// What becomes of the count of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Whether what was noted before is forgotten.
    pub(super) forgotten: bool,
    /// What is noted.
    pub(super) noted: Option<u32>,
}

/// What becomes of a row.
#[derive(Debug)]
pub(super) struct RowChange {
    id: i64,
    /// The event that it has.
    event: String,
    attempts: u32,
    rounds: u32,
    /// `None`: as it is.
    deaths: Option<u32>,
    history: String,
    /// When it is tried; `None` while its dead letter holds it.
    due_in: Option<Duration>,
    /// `None`: as it is.
    letter: Option<String>,
}

/// The number of the row that a change is about, and the lead under which it was fetched.
fn row_of(change: &FailureChange) -> Option<(i64, u64)> {
    match change {
        FailureChange::Finish { row } | FailureChange::Postpone { row, .. } => {
            Some((row.id.0, row.lead))
        }
        FailureChange::Bury(record) if record.delivery.id != ParkedId(0) => {
            Some((record.delivery.id.0, record.delivery.lead))
        }
        FailureChange::Bury(_)
        | FailureChange::Attempted { .. }
        | FailureChange::Succeeded { .. }
        | FailureChange::Park { .. } => None,
    }
}

/// The row that is not there any more once a change is made.
fn row_that_left(change: &FailureChange) -> Option<i64> {
    let leaves = match change {
        FailureChange::Finish { .. } => true,
        FailureChange::Bury(record) => !record.holds,
        _ => false,
    };
    row_of(change).filter(|_| leaves).map(|(id, _)| id)
}

/// The rows that leave the store, or may.
pub(super) fn leaving<'c>(changes: impl Iterator<Item = &'c FailureChange>) -> Vec<i64> {
    let leaving = changes.filter_map(|change| match change {
        FailureChange::Postpone { .. } => None,
        _ => row_of(change).map(|(id, _)| id),
    });
    leaving.collect()
}

/// Whether a change counts only from who leads the group: that a row was handled counts whoever says so.
pub(super) fn needs_lead(change: &FailureChange) -> Option<u64> {
    match change {
        FailureChange::Finish { .. } => None,
        _ => row_of(change)
            .map(|(_, lead)| lead)
            .filter(|lead| *lead > 0),
    }
}

/// The plans that make changes one after the other: nearly always one. Of the rows that leave the store it is known what they are; those that are not there, or have another event, were
/// done with before: by the same changes whose answer was lost, by another leader, or by a person.
pub(super) fn plans<'c>(
    group: &str,
    changes: impl Iterator<Item = (usize, &'c FailureChange)>,
    mut known: HashMap<i64, Known>,
) -> Plans {
    let mut all = Plans {
        plans: vec![Plan::default()],
        nothing: Vec::new(),
    };
    for (index, change) in changes {
        let meets = all.plans.last().is_some_and(|plan| plan.meets(change));
        if meets {
            all.plans.push(Plan::default());
        }
        if let Some(plan) = all.plans.last_mut()
            && !plan.add(group, change, &known)
        {
            all.nothing.push(index);
        }
        if let Some(row) = row_that_left(change) {
            known.remove(&row);
        } else if let FailureChange::Bury(record) = change
            && let Some(held) = known.get_mut(&record.delivery.id.0)
        {
            held.letter = Some(record.id.clone());
        }
    }
    all
}

impl Plan {
    /// Whether a change is about a row or a dead letter that this plan changes already.
    fn meets(&self, change: &FailureChange) -> bool {
        match change {
            FailureChange::Postpone { row, .. } | FailureChange::Finish { row } => {
                self.rows.contains(&row.id.0)
            }
            FailureChange::Bury(record) => {
                let event = DedupeKey::of(&record.delivery.envelope);
                self.rows.contains(&record.delivery.id.0)
                    || self.deaths.contains(&event)
                    || self.events_gone.contains(&hex(event))
                    || self.must_be_counted_before(&record.delivery)
            }
            FailureChange::Park { deliveries, .. } => {
                !(self.events_gone.is_empty() && self.attempts.is_empty())
                    && deliveries.iter().any(|delivery| {
                        let event = hex(DedupeKey::of(&delivery.envelope));
                        self.must_be_counted_before(delivery) || self.events_gone.contains(&event)
                    })
            }
            FailureChange::Attempted { .. } | FailureChange::Succeeded { .. } => false,
        }
    }

    /// Whether what is noted of the attempts at a delivery changes in this plan, and has the first of them.
    fn must_be_counted_before(&self, delivery: &ParkedDelivery) -> bool {
        !self.attempts.is_empty()
            && delivery::is_late(&delivery.history)
            && self
                .attempts
                .contains_key(&hex(DedupeKey::of(&delivery.envelope)))
    }

    /// Whether it comes to something, as far as is known of its row.
    fn add(&mut self, group: &str, change: &FailureChange, known: &HashMap<i64, Known>) -> bool {
        match change {
            FailureChange::Attempted { event, attempts } => self.note(*event, *attempts),
            FailureChange::Succeeded { event } => self.forget(*event),
            FailureChange::Park { deliveries, due_in } => {
                for (index, delivery) in deliveries.iter().enumerate() {
                    let due_in = due_in.filter(|_| index == 0);
                    self.park(group, delivery, due_in, None);
                    self.forget(DedupeKey::of(&delivery.envelope));
                }
                // Behind nothing, because a person took away what was there, it is next.
                if let (None, Some(first)) = (due_in, deliveries.first()) {
                    self.lanes.insert(first.lane.to_string());
                }
            }
            FailureChange::Postpone {
                row,
                attempts,
                rounds,
                history,
                due_in,
            } => self.change(RowChange {
                id: row.id.0,
                event: hex(row.event),
                attempts: *attempts,
                rounds: *rounds,
                deaths: None,
                history: delivery::history_text(history),
                due_in: Some(*due_in),
                letter: None,
            }),
            FailureChange::Finish { row } => {
                self.rows.insert(row.id.0);
                let Some(known) = still(known, *row) else {
                    return false;
                };
                self.gone.push(known.event.clone());
                self.events_gone.insert(known.event.clone());
                self.lanes.insert(known.lane.clone());
                self.handled_letters.extend(known.letter.clone());
            }
            FailureChange::Bury(record) => {
                let row = record.delivery.row();
                if row.id != ParkedId(0) && still(known, row).is_none() {
                    return false;
                }
                self.bury(group, record);
            }
        }
        true
    }

    /// A person has put an end to events whose rows were being tried: their deaths say nothing any more, and their rows leave.
    pub(super) fn end(&mut self, ended: &HashSet<String>) {
        if ended.is_empty() {
            return;
        }
        self.changed.retain(|change| !ended.contains(&change.event));
        self.facts.retain(|(event, _)| !ended.contains(event));
        for event in ended {
            if let Some(lane) = self.dying.get(event) {
                self.gone.push(event.clone());
                self.lanes.insert(lane.clone());
            }
        }
    }

    /// Facts for the outbox.
    pub(super) fn take_facts(&mut self) -> Vec<Envelope> {
        let facts = std::mem::take(&mut self.facts);
        facts.into_iter().map(|(_, fact)| fact).collect()
    }

    fn note(&mut self, event: DedupeKey, attempts: u32) {
        let count = self.attempts.entry(hex(event)).or_default();
        count.noted = count.noted.max(Some(attempts));
        if count.noted >= Some(ATTEMPTS_LARGEST) {
            count.forgotten = false;
        }
    }

    fn forget(&mut self, event: DedupeKey) {
        let forgotten = Count {
            forgotten: true,
            noted: None,
        };
        self.attempts.insert(hex(event), forgotten);
    }

    fn park(
        &mut self,
        group: &str,
        delivery: &ParkedDelivery,
        due_in: Option<Duration>,
        letter: Option<&str>,
    ) {
        let mut values = columns(delivery);
        values.push(("consumer", Bind::text(group)));
        values.push(("due_in", Bind::IntOrNull(due_in.map(micros))));
        values.push(("letter", Bind::Text(letter.map(str::to_owned))));
        self.parked.push(values);
    }

    fn change(&mut self, change: RowChange) {
        self.rows.insert(change.id);
        self.changed.push(change);
    }

    fn bury(&mut self, group: &str, record: &DeathRecord) {
        let delivery = &record.delivery;
        let event = DedupeKey::of(&delivery.envelope);
        self.deaths.insert(event);
        self.letters.push((hex(event), letter(group, record)));
        self.forget(event);
        let is_parked = delivery.id != ParkedId(0);
        if is_parked {
            self.dying.insert(hex(event), delivery.lane.to_string());
        }
        match (is_parked, record.holds) {
            (true, true) => self.change(RowChange {
                id: delivery.id.0,
                event: hex(event),
                attempts: delivery.attempts,
                rounds: delivery.rounds,
                deaths: Some(delivery.deaths.saturating_add(1)),
                history: delivery::history_text(&delivery.history),
                due_in: None,
                letter: Some(record.id.clone()),
            }),
            (false, true) => {
                let mut held = delivery.clone();
                held.deaths = held.deaths.saturating_add(1);
                self.park(group, &held, None, Some(&record.id));
            }
            (true, false) => {
                self.rows.insert(delivery.id.0);
                self.gone.push(hex(event));
                self.events_gone.insert(hex(event));
                self.lanes.insert(delivery.lane.to_string());
            }
            (false, false) => {}
        }
        self.facts.push((hex(event), record.fact.clone()));
    }
}

impl RowChange {
    /// As the statement reads it.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!([
            self.id,
            self.attempts,
            self.rounds,
            self.deaths,
            self.history,
            self.due_in.map(micros),
            self.letter,
            self.event
        ])
    }

    /// About as many bytes as it takes in a statement.
    pub(super) fn bytes(&self) -> usize {
        self.history.len() + 128
    }
}

/// What is known of a row, if it has the event that it had.
fn still(known: &HashMap<i64, Known>, row: ParkedRow) -> Option<&Known> {
    let event = hex(row.event);
    known.get(&row.id.0).filter(|known| known.event == event)
}

/// A span as the tables count it.
pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 2)
}

/// The columns of a dead letter.
fn letter(group: &str, record: &DeathRecord) -> Values {
    let delivery = &record.delivery;
    let envelope = &delivery.envelope;
    let reasons: Vec<String> = record.reasons.iter().map(|reason| plain(reason)).collect();
    let first_failed = delivery.history.first();
    let first_failed = first_failed.map(|failed| u64::try_from(failed.at.as_micros()).unwrap_or(0));
    let mut values = columns(delivery);
    // The first death counts as one.
    values.retain(|(name, _)| *name != "deaths");
    values.extend([
        ("deaths", Bind::Int(i64::from(delivery.deaths) + 1)),
        ("id", Bind::text(record.id.clone())),
        ("consumer", Bind::text(group)),
        (
            "aggregate_id",
            Bind::Text(envelope.aggregate_id().map(str::to_owned)),
        ),
        ("correlation_id", Bind::text(envelope.correlation_id())),
        ("handler", Bind::text(record.handler.clone())),
        ("code_version", Bind::text(record.code_version.clone())),
        ("cause", Bind::text(record.cause.as_str())),
        (
            "reason",
            Bind::text(reasons.first().cloned().unwrap_or_default()),
        ),
        (
            "reasons",
            Bind::text(serde_json::to_string(&reasons).unwrap_or_default()),
        ),
        ("fingerprint", Bind::text(record.fingerprint.clone())),
        ("holds", Bind::Int(record.holds.into())),
        ("first_failed_us", number(first_failed)),
        ("from_row", Bind::Int((delivery.id != ParkedId(0)).into())),
    ]);
    values
}

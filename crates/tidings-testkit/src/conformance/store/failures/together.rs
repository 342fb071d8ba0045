//! Many changes in one call: the store may make them with few statements, and it must not show.

use super::*;
use std::collections::BTreeMap;
use tidings_core::DedupeKey;

/// The group that is told everything in one call, and the one that is told one change after the other.
const GROUPS: [&str; 2] = [GROUP, "one-by-one"];
const ROUNDS: u64 = 12;
const CHANGES: u64 = 40;
const KEYS: u64 = 4;
const EVENTS: u64 = 30;

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What a change does to which event; each group has rows of its own numbers.
#[derive(Debug, Clone, Copy)]
enum Step {
    Attempted(u64, u32),
    Succeeded(u64),
    Park { event: u64, behind: bool },
    Postpone(u64),
    Finish(u64),
    Bury { event: u64, holds: bool },
}

fn step(numbers: &mut Numbers) -> Step {
    let event = numbers.below(EVENTS);
    match numbers.below(8) {
        0 => Step::Attempted(event, 1 + u32::try_from(numbers.below(4)).unwrap()),
        1 => Step::Succeeded(event),
        2 | 3 => Step::Park {
            event,
            behind: numbers.below(3) > 0,
        },
        4 => Step::Postpone(event),
        5 | 6 => Step::Finish(event),
        _ => Step::Bury {
            event,
            holds: numbers.below(2) == 0,
        },
    }
}

fn id(event: u64) -> String {
    format!("evt-{event}")
}

fn key(event: u64) -> String {
    format!("key-{}", event % KEYS)
}

fn hour() -> Duration {
    Duration::from_secs(3_600)
}

/// The change for a group, whose rows are known by their events.
fn change(
    group: &str,
    step: Step,
    rows: &BTreeMap<String, ParkedDelivery>,
) -> Option<FailureChange> {
    Some(match step {
        Step::Attempted(event, attempts) => FailureChange::Attempted {
            event: DedupeKey::of(&super::event(&id(event), &key(event))),
            attempts,
        },
        Step::Succeeded(event) => FailureChange::Succeeded {
            event: DedupeKey::of(&super::event(&id(event), &key(event))),
        },
        Step::Park { event, behind } => park(
            vec![
                delivery(&id(event), &key(event)),
                delivery(&id(event + EVENTS), &key(event)),
            ],
            (!behind).then(hour),
        ),
        Step::Postpone(event) => FailureChange::Postpone {
            row: rows.get(&id(event))?.row(),
            attempts: 7,
            rounds: 2,
            history: Vec::new(),
            due_in: hour(),
        },
        Step::Finish(event) => FailureChange::Finish {
            row: rows.get(&id(event))?.row(),
        },
        Step::Bury { event, holds } => {
            let row = rows.get(&id(event)).cloned();
            let delivery = row.unwrap_or_else(|| delivery(&id(event), &key(event)));
            death_in(group, delivery, holds)
        }
    })
}

async fn rows(place: &Place, group: &str) -> Vec<ParkedDelivery> {
    let mut rows = Vec::new();
    for number in 0..KEYS {
        let lane = LaneId::of_key(&key(number));
        let mut of_lane = place.failures.rows(group, lane, 1_000).await.unwrap();
        rows.append(&mut of_lane);
    }
    rows
}

fn by_event(rows: Vec<ParkedDelivery>) -> BTreeMap<String, ParkedDelivery> {
    let named = rows.into_iter();
    named
        .map(|row| (row.envelope.event_id().to_owned(), row))
        .collect()
}

/// What a group has, without what differs between two groups: numbers, times, names.
async fn seen(place: &Place, group: &str) -> Vec<String> {
    let mut seen: Vec<String> = rows(place, group)
        .await
        .iter()
        .map(|row| {
            format!(
                "{} attempts {} rounds {} deaths {} history {} due {} letter {}",
                row.envelope.event_id(),
                row.attempts,
                row.rounds,
                row.deaths,
                row.history.len(),
                row.due.is_some(),
                row.letter.is_some()
            )
        })
        .collect();
    let state = place.failures.state(group).await.unwrap();
    let mut attempts: Vec<String> = (state.attempts.iter())
        .map(|(event, attempts)| format!("{event:?} {attempts}"))
        .collect();
    attempts.sort();
    seen.append(&mut attempts);
    let filter = LetterFilter {
        group: Some(group.to_owned()),
        ..LetterFilter::default()
    };
    let letters = place.letters.letters(&filter, i64::MIN, 1_000).await;
    let mut letters: Vec<String> = (letters.unwrap().iter())
        .map(|letter| {
            format!(
                "{} {:?} deaths {} holds {} attempts {}",
                letter.envelope.event_id(),
                letter.status,
                letter.deaths,
                letter.holds,
                letter.attempts
            )
        })
        .collect();
    letters.sort();
    seen.append(&mut letters);
    seen
}

pub(super) async fn same(place: Place) {
    let mut numbers = Numbers(20_261_129);
    for round in 0..ROUNDS {
        let steps: Vec<Step> = (0..CHANGES).map(|_| step(&mut numbers)).collect();
        for group in GROUPS {
            let known = by_event(rows(&place, group).await);
            let changes = steps.iter().filter_map(|step| change(group, *step, &known));
            let changes: Vec<FailureChange> = changes.collect();
            if group == GROUP {
                place.failures.apply(group, &changes).await.unwrap();
                continue;
            }
            for change in changes {
                let one = std::slice::from_ref(&change);
                place.failures.apply(group, one).await.unwrap();
            }
        }

        let together = seen(&place, GROUPS[0]).await;
        let one_by_one = seen(&place, GROUPS[1]).await;
        assert_eq!(together, one_by_one, "round {round}: {steps:?}");
    }
}

//! Compares an outbox with its destination: what is missing, doubled or out of order, and what cannot be known. Pure; who reads both hands over what was read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use tidings_core::store::Settlement;
pub use tidings_core::store::{RowSeen, RowState};

/// Findings, and keys with findings, that are told one by one; the rest is counted.
const TOLD_MAX: usize = 100;

/// An event at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSeen {
    /// Its id.
    pub event_id: String,
    /// What order is kept by.
    pub key: Option<String>,
    /// Its number within its key, where the producer gives one: one more for each event.
    pub sequence: Option<u64>,
}

/// Something that is not as a relay promises, or may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A row is marked as sent, and its event is not at the destination.
    Missing {
        /// Its key.
        key: Option<String>,
        /// The event.
        event_id: String,
    },
    /// Numbers of a key are not at the destination, though smaller and larger ones are.
    Gap {
        /// The key.
        key: String,
        /// How many.
        events: u64,
    },
    /// An event stands more than once at the destination.
    Duplicate {
        /// Its key.
        key: Option<String>,
        /// The event.
        event_id: String,
        /// How often.
        times: u64,
    },
    /// An event stands behind a later one of its key.
    Inversion {
        /// The key.
        key: String,
        /// The event that came too late.
        event_id: String,
    },
}

/// How many findings of each kind a key has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyFindings {
    /// Events that are marked as sent and missing.
    pub missing: u64,
    /// Numbers that are missing between others.
    pub gaps: u64,
    /// Occurrences beyond the first.
    pub duplicates: u64,
    /// First occurrences behind a later event.
    pub inversions: u64,
}

/// What a comparison cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blind {
    /// Rows are deleted once their event is accepted: a lost event leaves no trace in the table.
    RowsDeleted,
    /// No event carries a number within its key.
    NoSequence,
    /// Events before the first number of a key and behind its last one.
    OutsideOfSequence,
    /// Whether the destination never got an event or has removed it since.
    Retention,
    /// Whose the events are that no row names.
    Strangers,
}

impl Blind {
    /// Its name, as programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RowsDeleted => "rows_deleted",
            Self::NoSequence => "no_sequence",
            Self::OutsideOfSequence => "outside_of_sequence",
            Self::Retention => "retention",
            Self::Strangers => "strangers",
        }
    }
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RowsDeleted => {
                "rows are deleted once their event is accepted, so the table cannot tell whether one was lost"
            }
            Self::NoSequence => {
                "the events carry no number within their key, so gaps in a key cannot be seen"
            }
            Self::OutsideOfSequence => {
                "events before the first number seen of a key and behind the last one cannot be missed"
            }
            Self::Retention => {
                "an event that the destination has removed since looks like one that it never got"
            }
            Self::Strangers => {
                "events that no row names come from rows that are gone or from other producers, and nothing tells which"
            }
        })
    }
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayReport {
    /// Rows compared.
    pub rows: u64,
    /// Events compared, doubles included.
    pub events: u64,
    /// Rows that wait. They may be at the destination already: accepted, and not settled yet.
    pub unsent: u64,
    /// Rows that were given up.
    pub dead: u64,
    /// Events at the destination that no row names.
    pub strangers: u64,
    /// Events that are marked as sent and missing.
    pub missing: u64,
    /// Numbers missing within keys.
    pub gaps: u64,
    /// Occurrences beyond the first.
    pub duplicates: u64,
    /// First occurrences behind a later event of their key.
    pub inversions: u64,
    /// The first findings one by one.
    pub findings: Vec<Finding>,
    /// Keys with a finding.
    pub keys_affected: u64,
    /// The first of those keys with their findings counted; `None` is the events without a key.
    pub keys: BTreeMap<Option<String>, KeyFindings>,
    /// What this comparison cannot tell.
    pub blind: BTreeSet<Blind>,
}

impl RelayReport {
    /// Whether the relay's promise holds as far as can be seen: nothing missing, nothing out of order. Duplicates are within it.
    pub fn holds(&self) -> bool {
        self.missing == 0 && self.gaps == 0 && self.inversions == 0
    }
}

/// The report while it is made.
#[derive(Default)]
struct Comparison {
    report: RelayReport,
    /// Keys by what was found of them.
    affected: BTreeMap<Option<String>, KeyFindings>,
    /// Keys as they are read at the destination.
    keys: HashMap<String, Key>,
    seen: HashMap<String, Seen>,
}

/// An event id at the destination.
struct Seen {
    key: Option<String>,
    times: u64,
}

#[derive(Default)]
struct Key {
    /// The largest place of an event seen so far, by rows and by numbers.
    place: Option<u64>,
    sequence: Option<u64>,
    sequence_first: u64,
    numbers: u64,
}

/// Compares rows, in the order of the table, with events, in the order of the destination.
///
/// Read the rows first: an event that is written meanwhile is then seen at the destination and not taken for a missing one.
///
/// **Units**: holds the id and the key of every row and event in memory.
pub fn verify(
    settlement: Settlement,
    rows: impl IntoIterator<Item = RowSeen>,
    events: impl IntoIterator<Item = EventSeen>,
) -> RelayReport {
    let mut comparison = Comparison::default();
    let mut places: HashMap<String, u64> = HashMap::new();
    let mut sent: Vec<RowSeen> = Vec::new();
    let report = &mut comparison.report;
    for row in rows {
        places.insert(row.event_id.clone(), report.rows);
        report.rows += 1;
        match row.state {
            RowState::Unsent => report.unsent += 1,
            RowState::Dead => report.dead += 1,
            RowState::Sent => sent.push(row),
        }
    }
    for event in events {
        comparison.event(event, &places);
    }
    comparison.missing(sent);
    comparison.doubles();
    comparison.gaps();
    comparison.finish(settlement)
}

impl Comparison {
    fn event(&mut self, event: EventSeen, places: &HashMap<String, u64>) {
        self.report.events += 1;
        if let Some(seen) = self.seen.get_mut(&event.event_id) {
            seen.times += 1;
            return;
        }
        let place = places.get(&event.event_id).copied();
        if place.is_none() {
            self.report.strangers += 1;
        }
        let seen = Seen {
            key: event.key.clone(),
            times: 1,
        };
        self.seen.insert(event.event_id.clone(), seen);
        self.first_occurrence(event, place);
    }

    fn first_occurrence(&mut self, event: EventSeen, place: Option<u64>) {
        let Some(name) = event.key else { return };
        let key = self.keys.entry(name.clone()).or_default();
        let behind = place.is_some_and(|place| Some(place) < key.place)
            || event
                .sequence
                .is_some_and(|number| Some(number) < key.sequence);
        key.place = key.place.max(place);
        if let Some(number) = event.sequence {
            key.sequence_first = match key.sequence {
                Some(_) => key.sequence_first.min(number),
                None => number,
            };
            key.sequence = key.sequence.max(Some(number));
            key.numbers += 1;
        }
        if behind {
            self.report.inversions += 1;
            self.of(Some(&name)).inversions += 1;
            self.tell(Finding::Inversion {
                key: name,
                event_id: event.event_id,
            });
        }
    }

    fn missing(&mut self, sent: Vec<RowSeen>) {
        for row in sent {
            if self.seen.contains_key(&row.event_id) {
                continue;
            }
            self.report.missing += 1;
            self.of(row.key.as_deref()).missing += 1;
            self.tell(Finding::Missing {
                key: row.key,
                event_id: row.event_id,
            });
        }
    }

    fn doubles(&mut self) {
        let seen = std::mem::take(&mut self.seen).into_iter();
        let mut doubles: Vec<(String, Seen)> = seen.filter(|(_, seen)| seen.times > 1).collect();
        doubles.sort_by(|a, b| a.0.cmp(&b.0));
        for (event_id, Seen { key, times }) in doubles {
            self.report.duplicates += times - 1;
            self.of(key.as_deref()).duplicates += times - 1;
            self.tell(Finding::Duplicate {
                key,
                event_id,
                times,
            });
        }
    }

    fn gaps(&mut self) {
        let keys = std::mem::take(&mut self.keys).into_iter();
        let mut numbered: Vec<(String, Key)> = keys.filter(|(_, key)| key.numbers > 0).collect();
        numbered.sort_by(|a, b| a.0.cmp(&b.0));
        self.report.blind.insert(match numbered.is_empty() {
            true => Blind::NoSequence,
            false => Blind::OutsideOfSequence,
        });
        for (key, numbers) in numbered {
            let last = numbers.sequence.unwrap_or(numbers.sequence_first);
            let events = (last - numbers.sequence_first)
                .saturating_add(1)
                .saturating_sub(numbers.numbers);
            if events > 0 {
                self.report.gaps = self.report.gaps.saturating_add(events);
                self.of(Some(&key)).gaps += events;
                self.tell(Finding::Gap { key, events });
            }
        }
    }

    fn finish(mut self, settlement: Settlement) -> RelayReport {
        let blind = &mut self.report.blind;
        blind.insert(Blind::Retention);
        if settlement == Settlement::Delete {
            blind.insert(Blind::RowsDeleted);
        }
        if self.report.strangers > 0 {
            blind.insert(Blind::Strangers);
        }
        self.report.keys_affected = self.affected.len() as u64;
        self.report.keys = self.affected.into_iter().take(TOLD_MAX).collect();
        self.report
    }

    fn of(&mut self, key: Option<&str>) -> &mut KeyFindings {
        self.affected.entry(key.map(str::to_owned)).or_default()
    }

    fn tell(&mut self, finding: Finding) {
        if self.report.findings.len() < TOLD_MAX {
            self.report.findings.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(number: usize, state: RowState) -> RowSeen {
        RowSeen {
            event_id: format!("evt-{number}"),
            key: Some(format!("key-{}", number % 3)),
            state,
        }
    }

    fn event(number: usize) -> EventSeen {
        EventSeen {
            event_id: format!("evt-{number}"),
            key: Some(format!("key-{}", number % 3)),
            sequence: Some(number as u64 / 3 + 1),
        }
    }

    fn unnumbered(number: usize) -> EventSeen {
        EventSeen {
            sequence: None,
            ..event(number)
        }
    }

    /// Counted the slow way: pairs of one key, first occurrences only.
    fn inversions(log: &[usize]) -> u64 {
        let mut first: Vec<usize> = Vec::new();
        for number in log {
            if !first.contains(number) {
                first.push(*number);
            }
        }
        let behind = |index: &usize| {
            let number = first[*index];
            first[..*index]
                .iter()
                .any(|other| other % 3 == number % 3 && *other > number)
        };
        (0..first.len()).filter(behind).count() as u64
    }

    proptest! {
        #[test]
        fn what_is_missing_doubled_or_out_of_order_is_counted_as_a_slow_count_does(
            log in proptest::collection::vec(0_usize..20, 0..60), numbered: bool,
        ) {
            let rows = (0..20).map(|number| row(number, RowState::Sent));
            let events = log.iter().map(|number| if numbered { event(*number) } else { unnumbered(*number) });

            let report = verify(Settlement::Mark, rows, events);

            let distinct: BTreeSet<usize> = log.iter().copied().collect();
            prop_assert_eq!(report.missing, 20 - distinct.len() as u64);
            prop_assert_eq!(report.duplicates, (log.len() - distinct.len()) as u64);
            prop_assert_eq!(report.inversions, inversions(&log));
            let mut gaps = 0;
            for key in 0..3 {
                let numbers: Vec<usize> = distinct.iter().filter(|number| **number % 3 == key).map(|number| number / 3).collect();
                if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
                    gaps += last - first + 1 - numbers.len();
                }
            }
            prop_assert_eq!(report.gaps, if numbered { gaps as u64 } else { 0 });
        }
    }

    #[test]
    fn rows_that_wait_or_were_given_up_are_not_missed() {
        let rows = [
            row(0, RowState::Sent),
            row(3, RowState::Dead),
            row(6, RowState::Unsent),
        ];

        let report = verify(Settlement::Mark, rows, [unnumbered(0), unnumbered(0)]);

        assert!(report.holds());
        assert_eq!((report.dead, report.unsent, report.duplicates), (1, 1, 1));
        assert_eq!(
            report.blind,
            BTreeSet::from([Blind::NoSequence, Blind::Retention])
        );
        let doubled = KeyFindings {
            duplicates: 1,
            ..KeyFindings::default()
        };
        let key = Some("key-0".to_owned());
        assert_eq!(report.keys, BTreeMap::from([(key, doubled)]));
    }

    #[test]
    fn where_rows_are_deleted_only_numbers_show_a_loss_and_the_report_says_what_stays_dark() {
        let lost = verify(Settlement::Delete, [], [unnumbered(0), unnumbered(6)]);
        let shown = verify(Settlement::Delete, [], [event(0), event(6)]);

        assert!(lost.holds());
        assert!(lost.blind.contains(&Blind::RowsDeleted));
        assert!(lost.blind.contains(&Blind::NoSequence));
        assert_eq!(shown.gaps, 1);
        assert_eq!(
            shown.findings,
            [Finding::Gap {
                key: "key-0".to_owned(),
                events: 1
            }]
        );
        assert!(!shown.holds());
        assert!(Blind::RowsDeleted.to_string().contains("deleted"));
        assert!(shown.blind.contains(&Blind::Strangers));
    }

    #[test]
    fn a_long_list_of_findings_is_cut_and_counted() {
        let rows = (0..500).map(|number| row(number, RowState::Sent));

        let report = verify(Settlement::Mark, rows, []);

        assert_eq!((report.missing, report.keys_affected), (500, 3));
        assert_eq!(report.findings.len(), TOLD_MAX);
    }
}

//! What a group is: its patterns, when it was made and where it began. A small JSON file that a person can read.

use super::parse_patterns;
use crate::files::{failed, read_whole, write_whole};
use crate::folder::Folder;
use serde::{Deserialize, Serialize};
use std::io;
use tidings_core::broker::{BrokerError, GroupName, StartAt};
use tidings_core::{Pattern, Timestamp};

/// A definition is no longer than its patterns and some words.
const DEFINITION_BYTES_MAX: usize = 131_072;
/// How many letters a name may be off to be named as similar.
const SIMILAR_DISTANCE_MAX: usize = 3;

/// What a group is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    created: String,
    start: Start,
    patterns: Vec<Wanted>,
}

/// Where a group began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Start {
    /// As asked for.
    at: String,
    /// Where that was.
    position: u64,
}

/// A pattern and from where on the group has seen its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wanted {
    pattern: String,
    from: u64,
}

impl Definition {
    /// A new group without patterns.
    pub(crate) fn new(start: StartAt, position: u64, created: Timestamp) -> Self {
        let at = match start {
            StartAt::Earliest => "earliest".to_owned(),
            StartAt::Latest => "latest".to_owned(),
            StartAt::Position(position) => format!("@{position}"),
            StartAt::Time(time) => time.to_string(),
        };
        Self {
            created: created.to_string(),
            start: Start { at, position },
            patterns: Vec::new(),
        }
    }

    /// Reads the definition of a group; `None` if there is no such group.
    pub(crate) fn load(folder: &Folder, group: &GroupName) -> Result<Option<Self>, BrokerError> {
        let path = folder.group_file(group, "json");
        let bytes = match read_whole(&*folder.disk, &path, DEFINITION_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading", &path, error)),
        };
        match serde_json::from_slice(&bytes) {
            Ok(definition) => Ok(Some(definition)),
            Err(error) => {
                // The cursor says where the group is; the patterns come with the next subscription.
                tracing::warn!(path = %path.display(), %error, "the definition of the group cannot be read and is made anew");
                Ok(Some(Self {
                    created: String::new(),
                    start: Start {
                        at: "unknown".to_owned(),
                        position: 0,
                    },
                    patterns: Vec::new(),
                }))
            }
        }
    }

    /// Writes the definition, durably.
    pub(crate) fn save(&self, folder: &Folder, group: &GroupName) -> Result<(), BrokerError> {
        let path = folder.group_file(group, "json");
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        text.and_then(|text| write_whole(&*folder.disk, &path, &text))
            .map_err(|error| failed("writing", &path, error))
    }

    /// The patterns.
    pub(crate) fn patterns(&self) -> Vec<Pattern> {
        parse_patterns(self.patterns.iter().map(|wanted| wanted.pattern.as_str()))
    }

    /// When the group was made; `None` if that is not noted.
    pub(crate) fn created(&self) -> Option<Timestamp> {
        self.created.parse().ok()
    }

    /// The position at which the group began.
    pub(crate) fn start_position(&self) -> u64 {
        self.start.position
    }

    /// Takes over the patterns of a subscription; one that is new begins at `position`. Answers whether anything changed.
    pub(crate) fn want(&mut self, patterns: &[Pattern], position: u64) -> bool {
        let before = self.patterns.clone();
        let is_new_group = before.is_empty();
        let wanted = patterns.iter().map(|pattern| {
            let known = before
                .iter()
                .find(|wanted| wanted.pattern == pattern.as_str());
            let from = known.map_or(
                if is_new_group {
                    self.start.position
                } else {
                    position
                },
                |wanted| wanted.from,
            );
            Wanted {
                pattern: pattern.as_str().to_owned(),
                from,
            }
        });
        self.patterns = wanted.collect();
        self.patterns != before
    }

    /// A group that was moved back sees all its patterns from there on. Answers whether anything changed.
    pub(crate) fn begin_no_later_than(&mut self, position: u64) -> bool {
        let mut changed = false;
        for wanted in self
            .patterns
            .iter_mut()
            .filter(|wanted| wanted.from > position)
        {
            wanted.from = position;
            changed = true;
        }
        changed
    }
}

/// The name that is closest to the one given, if one is close.
pub(crate) fn most_similar<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let scored = names.map(|other| (distance(&name.to_lowercase(), &other.to_lowercase()), other));
    let close = scored.filter(|(distance, other)| {
        *distance <= SIMILAR_DISTANCE_MAX.min(other.len().max(name.len()) / 2)
    });
    close.min().map(|(_, other)| other.to_owned())
}

/// How many letters must be added, removed or replaced to make one text of the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.chars().enumerate() {
        let mut previous = at;
        let mut made = vec![at + 1];
        for (other, above) in right.iter().zip(row.iter().skip(1)) {
            let replaced = previous + usize::from(letter != *other);
            let beside = made.last().copied().unwrap_or(0) + 1;
            made.push(replaced.min(above + 1).min(beside));
            previous = *above;
        }
        row = made;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_similar_name_is_found_and_a_different_one_is_not() {
        let names = ["inventory", "payment", "shipping"];

        assert_eq!(
            most_similar("invetory", names.into_iter()).as_deref(),
            Some("inventory")
        );
        assert_eq!(
            most_similar("Payments", names.into_iter()).as_deref(),
            Some("payment")
        );
        assert_eq!(most_similar("audit", names.into_iter()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_pattern_added_later_begins_where_the_group_is() {
        let pattern = |text: &str| text.parse::<Pattern>().unwrap();
        let mut definition = Definition::new(StartAt::Earliest, 5, Timestamp::from_micros(0));

        assert!(definition.want(&[pattern("order.*")], 5));
        assert!(!definition.want(&[pattern("order.*")], 90));
        assert!(definition.want(&[pattern("order.*"), pattern("payment.*")], 90));
        let from: Vec<u64> = definition
            .patterns
            .iter()
            .map(|wanted| wanted.from)
            .collect();
        assert_eq!(from, vec![5, 90]);

        assert!(definition.begin_no_later_than(40));
        let from: Vec<u64> = definition
            .patterns
            .iter()
            .map(|wanted| wanted.from)
            .collect();
        assert_eq!(from, vec![5, 40]);
    }
}

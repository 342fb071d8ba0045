//! `Results`: what was found, by broker and property, as JSON of a file or of lines.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::STORED;
use crate::failure::Failure;
use crate::house::House;

/// The order of the columns; brokers that are not named come behind.
const BROKERS: &[&str] = &[
    "memory",
    "embedded",
    "kafka",
    "rabbitmq",
    "nats",
    "sns_sqs",
    "sns_sqs_fifo",
    "eventbridge",
];

/// What a broker showed of one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) broker: String,
    pub(super) version: String,
    pub(super) property: String,
    pub(super) title: String,
    pub(super) result: String,
    pub(super) reason: String,
}

/// Everything that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Results {
    pub(super) rows: Vec<Row>,
}

impl Row {
    fn parsed(value: &Value) -> Result<Self, Failure> {
        let text = |name: &str| {
            value[name].as_str().map(str::to_owned).ok_or_else(|| {
                Failure::new(format!(
                    "a result of the suite of brokers has no {name}: {value}"
                ))
            })
        };
        Ok(Self {
            broker: text("broker")?,
            version: text("version")?,
            property: text("property")?,
            title: text("title")?,
            result: text("result")?,
            reason: text("reason")?,
        })
    }

    fn json(&self, with_title: bool) -> Value {
        let mut value = json!({
            "broker": self.broker,
            "version": self.version,
            "property": self.property,
            "result": self.result,
            "reason": self.reason,
        });
        if with_title {
            value["title"] = self.title.clone().into();
        }
        value
    }

    /// Where it stands: by property, `A2` before `A10`.
    fn order(&self) -> (String, usize) {
        property_order(&self.property)
    }
}

/// A letter and a number.
pub(super) fn property_order(property: &str) -> (String, usize) {
    let digits = property.trim_start_matches(char::is_alphabetic);
    let letters = property.trim_end_matches(char::is_numeric);
    (letters.to_owned(), digits.parse().unwrap_or_default())
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<13} {:<4} {:<9} {}",
            self.broker, self.property, self.result, self.reason
        )
    }
}

impl Results {
    /// What the page was made from; nothing before the first run.
    pub(super) fn stored(house: &House) -> Result<Self, Failure> {
        match fs::read_to_string(house.path(STORED)) {
            Ok(text) => Self::parsed(&text),
            Err(_) => Ok(Self::default()),
        }
    }

    /// What a run of tests found, a line each.
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let lines = fs::read_to_string(file).map_err(|cause| {
            Failure::new(format!(
                "no results of the suite of brokers in {}: {cause}; they are written by `cargo xtask test` and `cargo xtask conformance`",
                file.display()
            ))
        })?;
        Self::parsed(&format!("[{}]", lines.trim().replace('\n', ",")))
    }

    pub(super) fn parsed(text: &str) -> Result<Self, Failure> {
        let value: Value = serde_json::from_str(text)
            .map_err(|cause| Failure::new(format!("the results cannot be read: {cause}")))?;
        let rows = value.as_array().into_iter().flatten().map(Row::parsed);
        Ok(Self {
            rows: rows.collect::<Result<_, _>>()?,
        })
    }

    /// One array, a line for each row; for readers without the titles, which are the page's.
    pub(super) fn json(&self, with_title: bool) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| row.json(with_title).to_string())
            .collect();
        format!("[\n{}\n]\n", rows.join(",\n"))
    }

    /// The new results of every broker that has some, and the old ones of the others.
    pub(super) fn merged(self, new: &Self) -> Self {
        let renewed = new.brokers();
        let mut rows = self.rows;
        rows.retain(|row| !renewed.contains(&row.broker.as_str()));
        rows.extend(new.rows.iter().cloned());
        let column = |row: &Row| BROKERS.iter().position(|name| *name == row.broker);
        rows.sort_by_key(|row| {
            (
                column(row).unwrap_or(BROKERS.len()),
                row.broker.clone(),
                row.order(),
            )
        });
        Self { rows }
    }

    /// The columns.
    pub(super) fn brokers(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let all = self.rows.iter().map(|row| row.broker.as_str());
        all.filter(|broker| seen.insert(*broker)).collect()
    }

    pub(super) fn find(&self, broker: &str, property: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.broker == broker && row.property == property)
    }
}

//! `tidings consumer`: groups.

pub(crate) mod lag;
pub(crate) mod ls;
pub(crate) mod reset;
pub(crate) mod rm;
pub(crate) mod run;

use serde::Serialize;
use tidings::broker::{GroupLag, GroupStatus};

/// A group as programs see it.
#[derive(Debug, Serialize)]
struct Row {
    consumer: String,
    patterns: Vec<String>,
    status: &'static str,
    position: u64,
    lag_events: u64,
    lag_seconds: f64,
    owner: Option<String>,
}

impl Row {
    fn new(group: &GroupStatus, lag: GroupLag) -> Self {
        Self {
            consumer: group.name.to_string(),
            patterns: group.patterns.iter().map(ToString::to_string).collect(),
            status: if group.owner.is_some() {
                "running"
            } else {
                "stopped"
            },
            position: group.position.0,
            lag_events: lag.events,
            lag_seconds: lag.age.as_secs_f64(),
            owner: group.owner.clone(),
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.consumer.clone(),
            self.patterns.join(" "),
            self.status.to_owned(),
            self.position.to_string(),
            self.lag_events.to_string(),
            format!("{:.1} s", self.lag_seconds),
        ]
    }
}

/// The header row.
const HEADERS: [&str; 6] = [
    "CONSUMER",
    "SUBSCRIBES",
    "STATUS",
    "POSITION",
    "LAG",
    "BEHIND",
];

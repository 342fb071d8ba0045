//! `tidings consumer`: groups.

pub(crate) mod decide;
pub(crate) mod lag;
pub(crate) mod ls;
pub(crate) mod reset;
pub(crate) mod rm;
pub(crate) mod run;
mod waits;

use crate::failure::Failure;
use serde::Serialize;
use tidings::broker::{Admin, BrokerError, GroupLag, GroupName, GroupStatus};

/// A group as programs see it.
#[derive(Debug, Serialize)]
struct Row {
    consumer: String,
    patterns: Vec<String>,
    status: &'static str,
    /// Why it waits although somebody works for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits: Option<String>,
    position: Option<u64>,
    lag_events: u64,
    lag_seconds: f64,
    owner: Option<String>,
    lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<Loss>,
}

/// A group as its broker lists it; `None` without one of that name, and where the broker cannot list and tells the lag of a group all the same.
async fn listed(admin: &dyn Admin, name: &GroupName) -> Result<Option<GroupStatus>, Failure> {
    let groups = match admin.groups().await {
        Err(BrokerError::Unsupported { .. }) => return Ok(None),
        groups => groups?,
    };
    Ok(groups.into_iter().find(|group| group.name == *name))
}

/// How near retention is to what a group has not handled.
#[derive(Debug, Clone, Copy, Serialize)]
struct Loss {
    within_seconds: Option<f64>,
    bytes_left: Option<u64>,
    is_near: bool,
}

impl Row {
    fn new(group: &GroupStatus, lag: GroupLag, waits: Option<String>) -> Self {
        Self {
            consumer: group.name.to_string(),
            patterns: group.patterns.iter().map(ToString::to_string).collect(),
            status: if group.owner.is_some() {
                "running"
            } else if group.abandoned {
                "abandoned"
            } else {
                "stopped"
            },
            waits,
            position: group.position.map(|position| position.0),
            lag_events: lag.events,
            lag_seconds: lag.age.as_secs_f64(),
            owner: group.owner.clone(),
            lost: lag.lost,
            loss: lag.loss.map(|loss| Loss {
                within_seconds: loss.within.map(|within| within.as_secs_f64()),
                bytes_left: loss.bytes_left,
                is_near: loss.is_near,
            }),
        }
    }

    /// A group of which its broker tells nothing but the lag.
    fn unlisted(name: GroupName, lag: GroupLag) -> Self {
        Self {
            status: "unknown",
            ..Self::new(&nameless(name), lag, None)
        }
    }

    /// What a person should know before the group loses events, or once it has.
    fn warning(&self) -> Option<String> {
        let Self {
            consumer,
            position,
            lost,
            ..
        } = self;
        if *lost > 0 {
            return Some(format!(
                "warning: retention removed {lost} positions before the group {consumer} handled them; to go on without them: tidings consumer reset {consumer} --to earliest"
            ));
        }
        let loss = self.loss.filter(|loss| loss.is_near)?;
        let age = loss
            .within_seconds
            .map(|within| format!("in {within:.0} s"));
        let size = loss
            .bytes_left
            .map(|bytes| format!("after {bytes} more bytes"));
        let when: Vec<String> = [age, size].into_iter().flatten().collect();
        Some(format!(
            "warning: the group {consumer} stands at position {}, which retention may remove {}; start its consumer, or keep more: tidings log retention",
            position.unwrap_or_default(),
            when.join(" or ")
        ))
    }

    /// Why it waits, for a person.
    fn waiting(&self) -> Option<String> {
        let why = self.waits.as_ref()?;
        Some(format!("{} waits, {why}", self.consumer))
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.consumer.clone(),
            self.patterns.join(" "),
            match &self.waits {
                Some(_) => "waiting".to_owned(),
                None => self.status.to_owned(),
            },
            self.position
                .map_or_else(|| "-".to_owned(), |position| position.to_string()),
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

/// A group of which the broker says nothing.
pub(crate) fn nameless(name: GroupName) -> GroupStatus {
    GroupStatus {
        name,
        patterns: Vec::new(),
        position: None,
        moved_at: None,
        owner: None,
        abandoned: false,
    }
}

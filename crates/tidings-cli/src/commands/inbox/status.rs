//! `tidings inbox status`: how many events each group remembers, since when, and whether that is enough.

use super::open;
use crate::arguments::Global;
use crate::failure::Failure;
use crate::inbox_arguments::InboxStatus;
use crate::output::{List, is_terminal, json, talk};
use crate::when::{display, now};
use serde::Serialize;
use tidings::Timestamp;
use tidings::core::store::{self, InboxStore as _};
use tidings::inbox::{self, InboxRetention, InboxWarning};

/// An inbox as programs see it.
#[derive(Debug, Serialize)]
struct Status {
    inbox: String,
    keep_seconds: u64,
    rows_max: u64,
    redelivered_within_seconds: u64,
    groups: Vec<Group>,
    warnings: Vec<String>,
}

/// What is remembered of one group.
#[derive(Debug, Serialize)]
struct Group {
    group: String,
    rows: u64,
    oldest: String,
    newest: String,
    /// From the oldest row to the newest.
    remembers_seconds: u64,
    warning: Option<String>,
}

const HEADERS: [&str; 6] = ["GROUP", "ROWS", "OLDEST", "NEWEST", "KEEPS", ""];

pub(crate) async fn run(global: &Global, arguments: InboxStatus) -> Result<(), Failure> {
    let opened = open(&arguments.inbox).await?;
    let retention = arguments.keep.known(false);
    let groups = opened.status().await?;
    let warnings = inbox::warnings(opened.name(), &groups, &retention, now());
    let status = Status::new(opened.name(), &groups, &retention, &warnings);
    if !global.format().is_table() {
        return crate::output::object(global.format(), &json(&status), String::new);
    }
    let is_local = is_terminal() && !global.utc;
    let time = |time: Timestamp| display(time, is_local);
    let mut list = List::aligned(global.format(), &HEADERS, !global.no_headers);
    for (group, shown) in groups.iter().zip(&status.groups) {
        let cells = || {
            vec![
                group.group.clone(),
                group.rows.to_string(),
                time(group.oldest),
                time(group.newest),
                arguments.keep.keep.to_string(),
                match shown.warning {
                    Some(_) => "WARNING".to_owned(),
                    None => String::new(),
                },
            ]
        };
        list.row(|| json(shown), cells)?;
    }
    list.finish()?;
    for warning in &status.warnings {
        talk(global.quiet, format_args!("warning: {warning}"));
    }
    Ok(())
}

impl Status {
    fn new(
        name: &str,
        groups: &[store::InboxStatus],
        retention: &InboxRetention,
        warnings: &[InboxWarning],
    ) -> Self {
        Self {
            inbox: name.to_owned(),
            keep_seconds: retention.keep.as_secs(),
            rows_max: retention.rows_max,
            redelivered_within_seconds: retention.redelivered_within.as_secs(),
            groups: groups
                .iter()
                .map(|group| Group::new(group, warnings))
                .collect(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Group {
    fn new(status: &store::InboxStatus, warnings: &[InboxWarning]) -> Self {
        let concerns = |warning: &&InboxWarning| match warning {
            InboxWarning::TooShort { .. } => true,
            InboxWarning::TooLarge { group, .. } => *group == status.group,
            _ => false,
        };
        Self {
            group: status.group.clone(),
            rows: status.rows,
            oldest: status.oldest.to_string(),
            newest: status.newest.to_string(),
            remembers_seconds: status.newest.since(status.oldest).as_secs(),
            warning: warnings.iter().find(concerns).map(ToString::to_string),
        }
    }
}

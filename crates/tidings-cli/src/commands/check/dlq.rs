//! `tidings check dlq`: dead letters that wait for a person, and keys that wait with them.

use super::report::{Figure, Limits, Report};
use crate::alert_arguments::CheckDlq;
use crate::commands::alert;
use crate::commands::outbox::source;
use crate::failure::Failure;
use crate::folder;
use std::collections::BTreeMap;
use std::time::Duration;
use tidings::core::codes;
use tidings::core::store::{AlertStore as _, Backlog};
use tidings::sql::Alerts;

const LETTERS: Figure = Figure {
    metric: "tidings_check_dead_letters",
    help: "Dead letters that wait for a person, or were handed back and are not handled yet.",
    unit: "",
};
const AGE: Figure = Figure {
    metric: "tidings_check_dead_letter_seconds",
    help: "How long ago the oldest of them died.",
    unit: "s",
};
const HELD: Figure = Figure {
    metric: "tidings_check_held_keys",
    help: "Keys whose later events wait behind a dead letter.",
    unit: "",
};

/// What is known of a group.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    open: u64,
    oldest: Duration,
    held: u64,
}

pub(super) async fn look(check: &CheckDlq) -> Result<Report, Failure> {
    let backlog = backlog(check).await?;
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for letters in backlog.letters {
        let group = groups.entry(letters.group).or_default();
        group.open += letters.open;
        group.oldest = group.oldest.max(letters.oldest_age);
    }
    for parked in backlog.parked {
        groups.entry(parked.group).or_default().held += parked.held;
    }
    if let Some(wanted) = &check.consumer {
        groups.retain(|name, _| name == wanted.as_str());
        groups.entry(wanted.to_string()).or_default();
    }
    let fallback = (Limits::warn_above(0.0), Limits::default());
    let (of_letters, of_age) = Limits::of(&check.thresholds, fallback);
    let measures = groups.iter().flat_map(|(name, group)| {
        [
            LETTERS.of(name, group.open as f64, of_letters),
            AGE.of(name, group.oldest.as_secs_f64(), of_age),
            HELD.of(name, group.held as f64, Limits::default()),
        ]
    });
    let open: u64 = groups.values().map(|group| group.open).sum();
    let held: u64 = groups.values().map(|group| group.held).sum();
    let summary = format!("{open} dead letters are open, {held} keys are held");
    Ok(Report::new("dlq", summary, measures.collect()))
}

/// What the store knows; it is only read. A folder in which nothing ever needed a database has no dead letters.
async fn backlog(check: &CheckDlq) -> Result<Backlog, Failure> {
    let database = match &check.store.shared.url {
        Some(url) => source::database(url, false).await?,
        None => {
            let folder = &check.data.folder;
            if !folder.exists() {
                return Err(Failure::new(
                    codes::FOLDER_MISSING,
                    format!("there is no data folder {}", folder.display()),
                ));
            }
            if !folder::state(folder).exists() {
                return Ok(Backlog::default());
            }
            alert::in_folder(&check.data).await?
        }
    };
    let backlog = Alerts::open(&database).await?.backlog().await;
    database.close().await;
    Ok(backlog?)
}

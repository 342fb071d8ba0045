//! `tidings dlq`: what groups gave up.

pub(crate) mod actions;
pub(crate) mod clusters;
pub(crate) mod discard;
pub(crate) mod edit;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod ls;
mod message;
mod pointer;
pub(crate) mod redrive;
mod row;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod tables;

use crate::commands::outbox::source;
use crate::dlq_arguments::{LetterFilters, LetterPlace, Signature};
use crate::failure::Failure;
use crate::folder;
#[cfg(feature = "sqlite")]
use crate::rows::behind_damage;
use crate::when::When;
use serde::Serialize;
use std::collections::BTreeMap;
use tidings::Timestamp;
use tidings::broker::StartAt;
use tidings::core::codes;
use tidings::core::store::{DeadLetterStore as _, Letter, LetterFilter, LetterStatus, Operator};
use tidings::dead_letter;
#[cfg(feature = "sqlite")]
use tidings::dead_letter::{DeadLetter, DeadLetters};
use tidings::limits::LETTERS_PAGE_MAX;
use tidings::sql::schema::{self, Part};
use tidings::sql::{Database, Failures};

/// The next dead letter of those on the log; damaged stretches of the log are told and passed over.
#[cfg(feature = "sqlite")]
pub(crate) async fn next(letters: &mut DeadLetters<'_>) -> Result<Option<DeadLetter>, Failure> {
    loop {
        match letters.next().await {
            None => return Ok(None),
            Some(Ok(letter)) => return Ok(Some(letter)),
            Some(Err(error)) => {
                behind_damage(error)?;
            }
        }
    }
}

/// The database in which dead letters are kept; that of a data folder is made where it is missing.
pub(crate) async fn database(place: &LetterPlace) -> Result<Database, Failure> {
    if let Some(url) = &place.store.url {
        return source::database(url, false).await;
    }
    let file = folder::state(&place.data.folder);
    let database = source::file(&file, true).await?;
    schema::migrate(&database, &Part::ALL).await?;
    Ok(database)
}

/// Opens the store, and takes over what an earlier version put on the log of a data folder.
pub(crate) async fn open(place: &LetterPlace) -> Result<Failures, Failure> {
    let reader = match &place.store.url {
        Some(_) => None,
        // A folder that is none is refused before a database is made in it.
        None => Some(folder::read(&place.data.folder)?),
    };
    let failures = Failures::open(&database(place).await?).await?;
    if let Some(reader) = reader {
        dead_letter::take_over(&reader, &failures)
            .await
            .map_err(|error| match error {
                dead_letter::TakeOverError::Broker(error) => Failure::from(error),
                dead_letter::TakeOverError::Store(error) => Failure::from(error),
                other => Failure::new(codes::BUG, other.to_string()),
            })?;
    }
    Ok(failures)
}

/// What the flags mean; `named` are ids, or one cluster.
fn filter(filters: &LetterFilters, named: &[String]) -> Result<LetterFilter, Failure> {
    let (clusters, ids): (Vec<_>, Vec<_>) =
        named.iter().cloned().partition(|name| is_cluster(name));
    let mut clusters = clusters.into_iter().chain(filters.cluster.clone());
    let cluster = clusters.next();
    if clusters.next().is_some() || (cluster.is_some() && !ids.is_empty()) {
        return Err(Failure::usage(
            "name either events or one cluster; several clusters need a command each",
        ));
    }
    Ok(LetterFilter {
        ids,
        group: filters.consumer.as_ref().map(ToString::to_string),
        types: filters.types.clone(),
        cluster,
        key: filters.key.clone(),
        since: filters
            .since
            .map(|when| time(when, "--since"))
            .transpose()?,
        until: filters
            .until
            .map(|when| time(when, "--until"))
            .transpose()?,
        statuses: filters.statuses.clone(),
    })
}

/// Whether a name is that of an error cluster: `dlq-` and hexadecimal digits.
fn is_cluster(name: &str) -> bool {
    let digits = name.strip_prefix("dlq-");
    digits.is_some_and(|digits| {
        !digits.is_empty() && digits.len() <= 16 && digits.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn time(when: When, flag: &str) -> Result<Timestamp, Failure> {
    match when.0 {
        StartAt::Time(time) => Ok(time),
        _ => Err(Failure::usage(format!(
            "{flag} takes a time, or how long ago: 2024-01-15T10:30:00Z, yesterday or 15m"
        ))),
    }
}

/// The statuses that are not settled.
fn unsettled(filter: LetterFilter, all: bool) -> LetterFilter {
    if all || !filter.statuses.is_empty() {
        return filter;
    }
    LetterFilter {
        statuses: vec![LetterStatus::Open, LetterStatus::Redriven],
        ..filter
    }
}

/// Calls `take` with each letter, read page by page, until it says to stop.
async fn each(
    failures: &Failures,
    filter: &LetterFilter,
    mut take: impl FnMut(Letter) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut after = i64::MIN;
    loop {
        let page = failures.letters(filter, after, LETTERS_PAGE_MAX).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.number;
        for letter in page {
            if !take(letter)? {
                return Ok(());
            }
        }
    }
}

/// The one letter of an event; which group's must be told where several gave it up.
async fn one(
    failures: &Failures,
    which: &str,
    consumer: Option<&tidings::broker::GroupName>,
) -> Result<Letter, Failure> {
    let filter = LetterFilter {
        ids: vec![which.to_owned()],
        group: consumer.map(ToString::to_string),
        ..LetterFilter::default()
    };
    let mut found = failures.letters(&filter, i64::MIN, 2).await?;
    if found.len() > 1 {
        let groups: Vec<&str> = found.iter().map(|letter| letter.group.as_str()).collect();
        return Err(Failure::usage(format!(
            "several groups gave the event {which} up: {}; say --consumer GROUP",
            groups.join(", ")
        )));
    }
    found.pop().ok_or_else(|| unknown(failures, which))
}

fn unknown(failures: &Failures, which: &str) -> Failure {
    Failure::new(
        codes::LETTER_UNKNOWN,
        format!(
            "no dead letter of {which:?} in {}; those there are: tidings dlq ls --all",
            failures.database().name()
        ),
    )
}

impl Signature {
    /// Who decides, and why.
    pub(crate) fn operator(&self) -> Operator {
        Operator {
            actor: self
                .actor
                .clone()
                .unwrap_or_else(|| format!("{}@{}", self.user, host())),
            reason: self.reason.clone().unwrap_or_default(),
        }
    }

    /// As [`operator`](Self::operator), where a reason must be given.
    pub(crate) fn operator_with_reason(&self) -> Result<Operator, Failure> {
        let operator = self.operator();
        if operator.reason.trim().is_empty() {
            return Err(Failure::usage(
                "say why, for those who look later: --reason TEXT",
            ));
        }
        Ok(operator)
    }
}

/// The name of this machine.
fn host() -> String {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"].into_iter();
    let mut names = files.filter_map(|path| std::fs::read_to_string(path).ok());
    let name = names.next().unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// What was not decided on, as programs see it.
#[derive(Debug, Serialize)]
struct Skipped {
    reason: String,
    count: u64,
}

fn skipped(reasons: &BTreeMap<String, u64>) -> Vec<Skipped> {
    let each = reasons.iter().map(|(reason, count)| Skipped {
        reason: reason.clone(),
        count: *count,
    });
    each.collect()
}

/// The same for people: a line each.
fn skipped_lines(skipped: &[Skipped]) -> String {
    skipped
        .iter()
        .map(|skipped| format!("\n  {} left alone: {}", skipped.count, skipped.reason))
        .collect()
}

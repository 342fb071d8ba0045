//! `tidings relay check`: everything that would keep a relay from working, all at once and before it runs.

use super::destination::{Open, Target};
use crate::arguments::Global;
use crate::commands::broker;
use crate::commands::outbox::{shape_name, source};
use crate::config;
use crate::failure::Failure;
use crate::outbox_arguments::{RelayCheck, Source};
use crate::output::{List, json};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tidings::core::codes;
use tidings::core::store::{OutboxStore as _, Settlement};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::sql::{Database, OutboxOptions, SqlOutbox, inspect, inspect_relay_tables};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    ok: bool,
    code: Option<String>,
    message: String,
}

impl Check {
    fn new(check: &'static str, result: Result<String, Failure>) -> Self {
        match result {
            Ok(message) => Self {
                check,
                ok: true,
                code: None,
                message,
            },
            Err(failure) => Self {
                check,
                ok: false,
                code: Some(failure.code().to_string()),
                message: failure.message().to_owned(),
            },
        }
    }
}

pub(crate) async fn run(global: &Global, arguments: RelayCheck) -> Result<ExitCode, Failure> {
    let mut checks = Vec::new();
    source_side(&mut checks, &arguments.source).await;
    checks.push(Check::new("destination", destination(&arguments.to).await));
    let headers = ["CHECK", "", "WHAT"];
    let mut list = List::aligned(global.format(), &headers, !global.no_headers);
    for check in &checks {
        let word = if check.ok { "ok" } else { "FAILED" };
        let cells = || {
            vec![
                check.check.to_owned(),
                word.to_owned(),
                check.message.clone(),
            ]
        };
        list.row(|| json(check), cells)?;
    }
    list.finish()?;
    Ok(if checks.iter().all(|check| check.ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(4)
    })
}

/// Everything that the databases are looked at for; only what cannot be looked at without something else is left out.
async fn source_side(checks: &mut Vec<Check>, source: &Source) {
    let mapping = config::mapping(source.config.as_deref());
    let told = |_: &_| "read, or none is needed".to_owned();
    let mapping = keep(checks, "configuration", mapping, told);
    let name = |database: &Database| format!("{} answers", database.name());
    let opened = source::database(&source.from, false).await;
    let database = keep(checks, "database", opened, name);
    let state = match &source.state {
        Some(url) => match source::file_to_make(url) {
            Some(file) => {
                checks.push(Check::new("state", to_be_made(&file)));
                // Stands for a state elsewhere in which nothing is noted.
                database.clone().map(Some)
            }
            None => {
                let opened = source::database(url, false).await;
                keep(checks, "state", opened, name).map(Some)
            }
        },
        None => Some(None),
    };
    let (Some(mapping), Some(database), Some(state)) = (mapping, database, state) else {
        return;
    };
    let options = source::options_with(source, source::Access::LOOK, mapping, state);
    let mut inspections = inspect(&database, &options).await;
    let is_state_to_make = source
        .state
        .as_deref()
        .and_then(source::file_to_make)
        .is_some();
    if !is_state_to_make {
        let state = options.state.as_ref().unwrap_or(&database);
        inspections.extend(inspect_relay_tables(state).await);
    }
    for inspection in inspections {
        let result = inspection.result.map_err(Failure::from);
        checks.push(Check::new(inspection.subject, result));
    }
    if checks.iter().all(|check| check.ok) {
        checks.push(outbox(database, options).await);
    }
}

/// Notes how something stands, and hands it on if it does.
fn keep<T>(
    checks: &mut Vec<Check>,
    check: &'static str,
    result: Result<T, Failure>,
    tell: impl Fn(&T) -> String,
) -> Option<T> {
    match result {
        Ok(kept) => {
            checks.push(Check::new(check, Ok(tell(&kept))));
            Some(kept)
        }
        Err(failure) => {
            checks.push(Check::new(check, Err(failure)));
            None
        }
    }
}

/// How the outbox stands.
async fn outbox(database: Database, options: OutboxOptions) -> Check {
    let clock = Arc::new(SystemClock::new());
    let outbox = SqlOutbox::open(database, options, clock, &SystemChance).await;
    let told = match outbox {
        Ok(outbox) => told(&outbox).await,
        Err(error) => Err(error.into()),
    };
    Check::new("outbox", told)
}

async fn told(outbox: &SqlOutbox) -> Result<String, Failure> {
    let status = outbox.status().await?;
    Ok(format!(
        "{}: shape {}, {} unsent, {} given up; sent rows are {}",
        outbox.name(),
        shape_name(outbox.shape()),
        status.pending,
        status.dead,
        match outbox.settlement() {
            Settlement::Delete => "deleted",
            Settlement::Mark => "marked",
        }
    ))
}

/// A folder that is there is opened as the relay would open it; one that is not is left to the relay to make.
async fn destination(to: &str) -> Result<String, Failure> {
    let target = Target::parse(to)?;
    if let Target::Folder(folder) = &target {
        if !folder.exists() {
            return to_be_made(folder);
        }
        Open::new(&target).await?.close().await?;
    }
    if let Target::Broker(location) = &target {
        let obstacles = broker::obstacles(location).await?;
        if !obstacles.is_empty() {
            return Err(Failure::new(codes::TOPOLOGY_MISSING, obstacles.join("; ")));
        }
    }
    Ok(format!("{}: can be written", target.name()))
}

/// What a relay makes, which needs a folder to be in.
fn to_be_made(path: &Path) -> Result<String, Failure> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    match std::fs::metadata(parent) {
        Ok(found) if found.is_dir() => Ok(format!("{}: will be made", path.display())),
        Ok(_) => Err(Failure::usage(format!(
            "{} is no folder, so {} cannot be made in it",
            parent.display(),
            path.display()
        ))),
        Err(error) => Err(Failure::file("look at", parent.display(), &error)),
    }
}

//! `tidings bridge`: copies events from one broker, or data folder, to another.

use crate::arguments::Global;
use crate::bridge_arguments::Bridge;
use crate::failure::Failure;
use crate::follow;
use crate::interrupt::interrupted;
use crate::output::{json, object, talk};
use crate::place;
use serde::Serialize;
use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidings::core::envelope_json;
use tidings::flow::bridge::{BridgeConfig, BridgeError, BridgeObserver, BridgeReport, bridge};
use tidings::{Durability, Envelope};

/// What was done.
#[derive(Debug, Serialize)]
struct Summary {
    copied: u64,
    unreadable: u64,
    retried: u64,
}

impl From<BridgeReport> for Summary {
    fn from(report: BridgeReport) -> Self {
        Self {
            copied: report.copied,
            unreadable: report.unreadable,
            retried: report.retried,
        }
    }
}

pub(crate) async fn run(global: &Global, arguments: Bridge) -> Result<ExitCode, Failure> {
    let (from, to) = (
        place::location(&arguments.from)?,
        place::location(&arguments.to)?,
    );
    if from == to {
        return Err(Failure::usage(format!(
            "--from and --to are the same, {from}; a bridge would copy its own copies for ever"
        )));
    }
    let observer = Teller::new(global, &arguments)?;
    let source = place::open(&from, Durability::Synced).await?;
    let destination = place::open(&to, Durability::Synced).await?;
    let config = BridgeConfig {
        group: arguments.group.clone(),
        patterns: follow::patterns(&arguments.types, arguments.internal),
        start: arguments.since.0,
        until_end: arguments.until_end,
    };
    let broker = Arc::clone(destination.broker());
    let result = tokio::select! {
        result = bridge(&**source.broker(), &broker, &config, &observer) => result.map(|report| (report, None)),
        interrupt = interrupted() => Ok((observer.report(), Some(interrupt))),
    };
    source.shutdown().await?;
    destination.shutdown().await?;
    let (report, interrupt) = result?;
    let summary = Summary::from(report);
    object(global.format(), &json(&summary), || {
        format!(
            "copied {} events from {from} to {to}, {} messages were no events, {} attempts were repeated",
            summary.copied, summary.unreadable, summary.retried
        )
    })?;
    Ok(interrupt.map_or(ExitCode::SUCCESS, |interrupt| {
        ExitCode::from(interrupt.exit_code())
    }))
}

impl From<BridgeError> for Failure {
    fn from(error: BridgeError) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}

/// Tells of trouble, and writes what is no event to the file of rejects.
struct Teller {
    quiet: bool,
    /// Written from one place at a time; never held across an await.
    rejects: Mutex<Option<File>>,
    report: Mutex<BridgeReport>,
}

impl Teller {
    fn new(global: &Global, arguments: &Bridge) -> Result<Self, Failure> {
        let open = |path: &std::path::PathBuf| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| Failure::file("write the rejects to", path.display(), &error))
        };
        Ok(Self {
            quiet: global.quiet,
            rejects: Mutex::new(arguments.rejects.as_ref().map(open).transpose()?),
            report: Mutex::default(),
        })
    }

    fn report(&self) -> BridgeReport {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BridgeObserver for Teller {
    fn copied(&self, report: &BridgeReport) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = *report;
    }

    fn trouble(&self, reason: &str, delay: Duration) {
        talk(
            self.quiet,
            format_args!("warning: {reason}; again in {delay:?}"),
        );
    }

    fn unreadable(&self, envelope: &Envelope, problem: &str) -> Result<(), String> {
        let mut rejects = self.rejects.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = rejects.as_mut() else {
            return Err("give --rejects FILE to put such messages aside".to_owned());
        };
        let mut line = envelope_json::to_json(envelope);
        line.pop();
        line.push_str(&format!(",\"problem\":{}}}\n", json(&problem)));
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(|error| format!("it could not be written to the file of rejects: {error}"))
    }
}

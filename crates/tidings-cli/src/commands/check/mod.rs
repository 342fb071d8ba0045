//! `tidings check`: for monitoring systems: a state as exit code, one line, figures.

mod dlq;
mod lag;
mod outbox;
mod report;

use crate::alert_arguments::CheckCommand;
use crate::failure::Failure;
use report::Report;
use std::process::ExitCode;

/// The exit code that says that nothing is known.
pub(crate) const UNKNOWN: u8 = 3;

/// Runs a check. What fails is not known, which is a state of its own.
pub(crate) async fn run(command: CheckCommand) -> ExitCode {
    let (name, format, report) = match command {
        CheckCommand::Lag(check) => ("lag", check.thresholds.format, lag::look(&check).await),
        CheckCommand::Dlq(check) => ("dlq", check.thresholds.format, dlq::look(&check).await),
        CheckCommand::Outbox(check) => (
            "outbox",
            check.thresholds.format,
            outbox::look(&check).await,
        ),
    };
    let report = report.unwrap_or_else(|failure| unknown(name, &failure));
    match report.print(format) {
        Ok(()) => ExitCode::from(report.state() as u8),
        Err(failure) => {
            failure.report(false);
            ExitCode::from(UNKNOWN)
        }
    }
}

fn unknown(name: &'static str, failure: &Failure) -> Report {
    let message = failure.message().replace('\n', " ");
    Report::unknown(name, format!("{}: {message}", failure.code()))
}

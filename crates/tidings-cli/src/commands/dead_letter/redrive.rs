//! `tidings dlq redrive`: dead letters go back to the groups that gave them up.

use super::{Skipped, skipped, skipped_lines};
use crate::arguments::Global;
use crate::commands::confirm::confirm;
use crate::dlq_arguments::DlqRedrive;
use crate::failure::Failure;
use crate::output::{hint, json, object, talk};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tidings::core::codes;
use tidings::core::store::LetterFilter;
use tidings::dead_letter::{self, RedriveOptions, RedrivePlan, RedriveReport};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::sql::Failures;

/// Letters after which a line of progress is said.
const PROGRESS_LETTERS: u64 = 10_000;

/// What would happen, as programs see it.
#[derive(Debug, Serialize)]
struct Planned {
    dry_run: bool,
    selected: u64,
    would_redrive: u64,
    skipped: Vec<Skipped>,
    consumers: BTreeMap<String, u64>,
    oldest_at: Option<String>,
    newest_at: Option<String>,
    redriven_before: u64,
    estimated_seconds: Option<f64>,
}

/// What happened, as programs see it.
#[derive(Debug, Serialize)]
struct Done {
    dry_run: bool,
    run: String,
    selected: u64,
    redriven: u64,
    skipped: Vec<Skipped>,
    aborted: Option<String>,
    waiting: u64,
    handled: u64,
    failed_again: u64,
}

pub(crate) async fn run(global: &Global, arguments: DlqRedrive) -> Result<ExitCode, Failure> {
    let filter = super::filter(&arguments.filters, &arguments.which)?;
    if filter == LetterFilter::default() && !arguments.all {
        return Err(Failure::usage(
            "say which: events, a cluster, or a filter such as --consumer GROUP; or --all for every one that is open",
        ));
    }
    let options = RedriveOptions {
        rate: arguments.rate,
        limit: arguments.limit,
        max_failure_ratio: arguments.max_failure_ratio,
        redrives_max: arguments.max_redrives,
        force: arguments.force,
    };
    let failures = super::open(&arguments.place).await?;
    // Every run is planned first where a person is asked; a program goes by what happened.
    let is_asked = std::io::stdin().is_terminal() && !arguments.yes && !global.no_input;
    if arguments.dry_run || is_asked {
        let plan = dead_letter::plan(&failures, &filter, &options).await?;
        if arguments.dry_run || plan.selected == 0 {
            return planned(global, plan, &options);
        }
        let (count, groups) = (plan.would_redrive, named(&plan.groups));
        confirm(
            global,
            false,
            &format!("Hand {count} events back to {groups}?"),
        )?;
    }
    let report = hand_back(global, &failures, &filter, &options, &arguments).await?;
    done(global, report)
}

async fn hand_back(
    global: &Global,
    failures: &Failures,
    filter: &LetterFilter,
    options: &RedriveOptions,
    arguments: &DlqRedrive,
) -> Result<RedriveReport, Failure> {
    let mut told = 0;
    let mut progress = |redriven: u64| {
        if redriven / PROGRESS_LETTERS > told {
            told = redriven / PROGRESS_LETTERS;
            talk(global.quiet, format_args!("{redriven} handed back"));
        }
    };
    let operator = arguments.signature.operator();
    let clock = SystemClock::new();
    let report = dead_letter::redrive(
        failures,
        filter,
        options,
        &operator,
        (&clock, &SystemChance),
        &mut progress,
    );
    Ok(report.await?)
}

fn planned(
    global: &Global,
    plan: RedrivePlan,
    options: &RedriveOptions,
) -> Result<ExitCode, Failure> {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = options.rate.map(|rate| plan.would_redrive as f64 / rate);
    let is_nothing = plan.selected == 0;
    let planned = Planned {
        dry_run: true,
        selected: plan.selected,
        would_redrive: plan.would_redrive,
        skipped: skipped(&plan.skipped),
        consumers: plan.groups,
        oldest_at: plan.oldest.map(|time| time.to_string()),
        newest_at: plan.newest.map(|time| time.to_string()),
        redriven_before: plan.redriven_before,
        estimated_seconds: seconds,
    };
    object(global.format(), &json(&planned), || {
        let mut text = format!(
            "Would redrive {} of {} dead letters to {} only; other groups are not touched.",
            planned.would_redrive,
            planned.selected,
            named(&planned.consumers)
        );
        if let (Some(oldest), Some(newest)) = (&planned.oldest_at, &planned.newest_at) {
            let before = planned.redriven_before;
            text += &format!("\n  oldest {oldest} · newest {newest} · {before} redriven before");
        }
        text += &skipped_lines(&planned.skipped);
        if let Some(seconds) = planned.estimated_seconds {
            text += &format!("\n  est. {seconds:.0} s");
        }
        text + "\n  Run without --dry-run to start."
    })?;
    Ok(nothing(global, is_nothing))
}

fn done(global: &Global, report: RedriveReport) -> Result<ExitCode, Failure> {
    let is_nothing = report.selected == 0;
    let done = Done {
        dry_run: false,
        run: report.run,
        selected: report.selected,
        redriven: report.redriven,
        skipped: skipped(&report.skipped),
        aborted: report.aborted,
        waiting: report.outcome.waiting,
        handled: report.outcome.resolved,
        failed_again: report.outcome.failed,
    };
    object(global.format(), &json(&done), || {
        format!(
            "{} redriven: {} handled, {} failed again, {} not handled yet{}",
            done.redriven,
            done.handled,
            done.failed_again,
            done.waiting,
            skipped_lines(&done.skipped)
        )
    })?;
    if let Some(why) = &done.aborted {
        let message = format!(
            "the redrive stopped after {} events: {why}; the same command goes on with the rest",
            done.redriven
        );
        return Err(Failure::new(codes::REDRIVE_ABORTED, message));
    }
    if done.waiting > 0 {
        hint(
            global.quiet,
            "the rest is handled once its consumer runs: tidings dlq stats",
        );
    }
    Ok(nothing(global, is_nothing))
}

/// The exit code where nothing was selected is that of what is not found.
fn nothing(global: &Global, is_nothing: bool) -> ExitCode {
    if is_nothing {
        talk(
            global.quiet,
            "no dead letter is meant; those there are: tidings dlq ls --all",
        );
        return ExitCode::from(3);
    }
    ExitCode::SUCCESS
}

fn named(groups: &BTreeMap<String, u64>) -> String {
    let names: Vec<&str> = groups.keys().map(String::as_str).collect();
    if names.is_empty() {
        return "nobody".to_owned();
    }
    names.join(", ")
}

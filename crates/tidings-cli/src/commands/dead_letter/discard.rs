//! `tidings dlq discard`: dead letters are given up for good.

use super::{Skipped, skipped, skipped_lines};
use crate::arguments::Global;
use crate::commands::confirm::confirm;
use crate::dlq_arguments::DlqDiscard;
use crate::failure::Failure;
use crate::output::{json, object, talk};
use serde::Serialize;
use std::process::ExitCode;
use tidings::core::store::LetterFilter;
use tidings::dead_letter;
use tidings::flow::runtime::SystemClock;

/// What happened or would happen, as programs see it.
#[derive(Debug, Serialize)]
struct Done {
    dry_run: bool,
    selected: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_discard: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<u64>,
    skipped: Vec<Skipped>,
}

pub(crate) async fn run(global: &Global, arguments: DlqDiscard) -> Result<ExitCode, Failure> {
    let filter = super::filter(&arguments.filters, &arguments.which)?;
    if filter == LetterFilter::default() && !arguments.all {
        return Err(Failure::usage(
            "say which: events, a cluster, or a filter such as --consumer GROUP; or --all for every one that is open",
        ));
    }
    let failures = super::open(&arguments.place).await?;
    let force = arguments.force;
    let plan = dead_letter::plan_discard(&failures, &filter, force).await?;
    let (mut selected, open) = (plan.selected, plan.discarded);
    let done = if arguments.dry_run {
        Done {
            dry_run: true,
            selected,
            would_discard: Some(open),
            discarded: None,
            skipped: skipped(&plan.skipped),
        }
    } else {
        let operator = arguments.signature.operator_with_reason()?;
        // Who names each event and says why has decided already.
        let is_named = !filter.ids.is_empty();
        let question = format!("Give {open} events up for good, never to be handled?");
        confirm(global, arguments.yes || is_named || open == 0, &question)?;
        let clock = SystemClock::new();
        let report = dead_letter::discard(&failures, &filter, force, &operator, &clock).await?;
        selected = report.selected;
        Done {
            dry_run: false,
            selected,
            would_discard: None,
            discarded: Some(report.discarded),
            skipped: skipped(&report.skipped),
        }
    };
    object(global.format(), &json(&done), || {
        let lines = skipped_lines(&done.skipped);
        match done.discarded {
            Some(count) => format!("{count} discarded; what waited behind them goes on{lines}"),
            None => format!("Would discard {open} of {selected} dead letters.{lines}"),
        }
    })?;
    if selected == 0 {
        talk(
            global.quiet,
            "no dead letter is meant; those there are: tidings dlq ls --all",
        );
        return Ok(ExitCode::from(3));
    }
    Ok(ExitCode::SUCCESS)
}

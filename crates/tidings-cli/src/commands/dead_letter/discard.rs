//! `tidings dlq discard`: dead letters are given up for good.

use super::{Skipped, skipped, skipped_lines};
use crate::arguments::Global;
use crate::commands::confirm::confirm;
use crate::dlq_arguments::DlqDiscard;
use crate::failure::Failure;
use crate::output::{json, object, talk};
use serde::Serialize;
use std::process::ExitCode;
use tidings::core::store::{DeadLetterStore as _, LetterFilter, LetterStatus};
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
    let counted = super::unsettled(filter.clone(), !filter.ids.is_empty());
    let (mut selected, mut open) = (0, 0);
    for tally in failures.tally(&counted).await? {
        selected += tally.count;
        let is_free = tally.status == LetterStatus::Open
            || (arguments.force && tally.status == LetterStatus::Redriven);
        open += if is_free { tally.count } else { 0 };
    }
    let done = if arguments.dry_run {
        Done {
            dry_run: true,
            selected,
            would_discard: Some(open),
            discarded: None,
            skipped: Vec::new(),
        }
    } else {
        let operator = arguments.signature.operator_with_reason()?;
        // Who names each event and says why has decided already.
        let is_named = !filter.ids.is_empty();
        let question = format!("Give {open} events up for good, never to be handled?");
        confirm(global, arguments.yes || is_named || open == 0, &question)?;
        let clock = SystemClock::new();
        let force = arguments.force;
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
            None => format!("Would discard {open} of {selected} dead letters."),
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

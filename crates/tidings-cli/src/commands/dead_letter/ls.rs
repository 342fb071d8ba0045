//! `tidings dlq ls`: dead letters, the oldest first.

use super::row::{Row, brief};
use crate::arguments::Global;
use crate::dlq_arguments::DlqLs;
use crate::failure::Failure;
use crate::output::{List, hint, json, talk};

/// Rows of a table, which is aligned and so kept in memory, unless more are asked for.
const TABLE_ROWS: u64 = 1_000;

const HEADERS: [&str; 8] = [
    "EVENT", "TYPE", "KEY", "CONSUMER", "ATTEMPTS", "STATUS", "CLUSTER", "REASON",
];

pub(crate) async fn run(global: &Global, arguments: DlqLs) -> Result<(), Failure> {
    let failures = super::open(&arguments.place).await?;
    let filter = super::filter(&arguments.filters, &[])?;
    let filter = super::unsettled(filter, arguments.all);
    let format = global.format();
    let limit = match arguments.limit {
        Some(limit) => limit,
        None if format.is_table() => TABLE_ROWS,
        None => u64::MAX,
    };
    let mut list = List::aligned(format, &HEADERS, !global.no_headers);
    let (mut shown, mut is_cut) = (0, false);
    super::each(&failures, &filter, |letter| {
        is_cut = shown == limit;
        if is_cut {
            return Ok(false);
        }
        shown += 1;
        let row = Row::new(&letter);
        let cells = || {
            vec![
                letter.envelope.event_id().to_owned(),
                letter.envelope.event_type().to_string(),
                letter.envelope.aggregate_id().unwrap_or("-").to_owned(),
                letter.group.clone(),
                letter.attempts.to_string(),
                letter.status.to_string(),
                letter.fingerprint.clone(),
                brief(row.reason),
            ]
        };
        list.row(|| json(&row), cells)?;
        Ok(true)
    })
    .await?;
    let count = list.finish()?;
    if is_cut && arguments.limit.is_none() {
        talk(global.quiet, "there are more; show them with --limit");
    }
    if count > 0 {
        hint(
            global.quiet,
            "tidings dlq show EVENT shows the attempts and the raw event; tidings dlq redrive EVENT hands it back",
        );
    }
    Ok(())
}

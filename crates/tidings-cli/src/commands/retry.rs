//! `tidings retry`: events that wait to be retried, and those parked behind them.

use super::dead_letter;
use crate::arguments::Global;
use crate::dlq_arguments::{RetryLs, RetryNow, WaitingFilters};
use crate::failure::Failure;
use crate::output::{List, hint, is_terminal, json, object, talk};
use crate::when::display;
use serde::Serialize;
use tidings::core::store::{DeadLetterStore as _, Waiting, WaitingFilter};
use tidings::limits::LETTERS_PAGE_MAX;

/// Rows of a table, which is aligned and so kept in memory, unless more are asked for.
const TABLE_ROWS: u64 = 1_000;

/// An event that waits, as programs see it.
#[derive(Debug, Serialize)]
struct Row<'a> {
    event_id: &'a str,
    event_type: String,
    aggregate_id: Option<&'a str>,
    consumer: &'a str,
    /// `due` at its time, `held` by its dead letter, or `behind` another one of its key.
    state: &'static str,
    due_at: Option<String>,
    attempts: u32,
    rounds: u32,
    deaths: u32,
    last_error: Option<&'a str>,
    letter: Option<&'a str>,
    parked_at: String,
}

impl<'a> Row<'a> {
    fn new(waiting: &'a Waiting) -> Self {
        let delivery = &waiting.delivery;
        let envelope = &delivery.envelope;
        let last = delivery.history.last();
        Self {
            event_id: envelope.event_id(),
            event_type: envelope.event_type().to_string(),
            aggregate_id: envelope.aggregate_id(),
            consumer: &waiting.group,
            state: match (delivery.due, &delivery.letter) {
                (Some(_), _) => "due",
                (None, Some(_)) => "held",
                (None, None) => "behind",
            },
            due_at: delivery.due.map(|due| due.to_string()),
            attempts: delivery.attempts,
            rounds: delivery.rounds,
            deaths: delivery.deaths,
            last_error: last.map(|failed| failed.error.as_str()),
            letter: delivery.letter.as_deref(),
            parked_at: waiting.parked.to_string(),
        }
    }
}

const HEADERS: [&str; 7] = [
    "EVENT", "TYPE", "KEY", "CONSUMER", "STATE", "DUE", "ATTEMPTS",
];

fn filter(filters: &WaitingFilters, due_only: bool) -> WaitingFilter {
    WaitingFilter {
        ids: filters.ids.clone(),
        group: filters.consumer.as_ref().map(ToString::to_string),
        key: filters.key.clone(),
        due_only,
    }
}

pub(super) async fn ls(global: &Global, arguments: RetryLs) -> Result<(), Failure> {
    let failures = dead_letter::open(&arguments.place).await?;
    let filter = filter(&arguments.filters, arguments.due_only);
    let format = global.format();
    let limit = match arguments.limit {
        Some(limit) => limit,
        None if format.is_table() => TABLE_ROWS,
        None => u64::MAX,
    };
    let is_local = is_terminal() && !global.utc;
    let mut list = List::aligned(format, &HEADERS, !global.no_headers);
    let (mut after, mut shown) = (i64::MIN, 0);
    'pages: loop {
        let page = failures.waiting(&filter, after, LETTERS_PAGE_MAX).await?;
        let Some(last) = page.last() else { break };
        after = last.delivery.id.0;
        for waiting in &page {
            if shown == limit {
                if arguments.limit.is_none() {
                    talk(global.quiet, "there are more; show them with --limit");
                }
                break 'pages;
            }
            shown += 1;
            let row = Row::new(waiting);
            let due = waiting.delivery.due;
            let cells = || {
                vec![
                    row.event_id.to_owned(),
                    row.event_type.clone(),
                    row.aggregate_id.unwrap_or("-").to_owned(),
                    row.consumer.to_owned(),
                    row.state.to_owned(),
                    due.map_or_else(|| "-".to_owned(), |due| display(due, is_local)),
                    row.attempts.to_string(),
                ]
            };
            list.row(|| json(&row), cells)?;
        }
    }
    if list.finish()? > 0 {
        hint(global.quiet, "tidings retry now EVENT retries it at once");
    }
    Ok(())
}

/// What was made due, as programs see it.
#[derive(Debug, Serialize)]
struct Retried {
    retried: u64,
}

pub(super) async fn now(global: &Global, arguments: RetryNow) -> Result<(), Failure> {
    let failures = dead_letter::open(&arguments.place).await?;
    let filter = filter(&arguments.filters, true);
    let operator = arguments.signature.operator();
    let retried = failures.retry_now(&filter, &operator).await?;
    object(global.format(), &json(&Retried { retried }), || {
        format!("{retried} events are retried now")
    })
}

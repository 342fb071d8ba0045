//! `tidings outbox prune`: rows that were sent and are still there.

use super::source;
use crate::arguments::Global;
use crate::commands::confirm::confirm;
use crate::failure::Failure;
use crate::outbox_arguments::{OutboxPrune, Source};
use crate::output::{json, object};
use crate::when::now;
use serde::Serialize;
use tidings::broker::StartAt;
use tidings::core::store::OutboxStore as _;
use tidings::sql::Shape;

/// Rows that one statement removes, so that no other waits long for it.
const ROWS: u32 = 1_000;

#[derive(Debug, Serialize)]
struct Pruned {
    outbox: String,
    pruned: u64,
}

pub(crate) async fn run(global: &Global, arguments: OutboxPrune) -> Result<(), Failure> {
    let before = match arguments.older.0 {
        StartAt::Time(time) => time,
        StartAt::Latest => now(),
        StartAt::Earliest | StartAt::Position(_) => {
            return Err(Failure::usage("--older takes a time, or how long ago: 30d"));
        }
    };
    // Sent rows are there only where relays mark them.
    let source = Source {
        mark: true,
        ..arguments.source
    };
    let outbox = source::open(&source, source::Access::DECIDE).await?;
    if outbox.shape() != Shape::Tidings {
        return Err(Failure::usage(format!(
            "{} was made by somebody else, so its rows are left as they are; remove sent rows with your own statement",
            outbox.name()
        )));
    }
    let question = format!(
        "Remove the rows of {} that were sent before {before}?",
        outbox.name()
    );
    confirm(global, arguments.yes, &question)?;
    let mut pruned = 0;
    loop {
        let rows = outbox.prune(before, ROWS).await?;
        pruned += rows;
        if rows < u64::from(ROWS) {
            break;
        }
    }
    let done = Pruned {
        outbox: outbox.name().to_owned(),
        pruned,
    };
    object(global.format(), &json(&done), || {
        format!("{pruned} rows removed")
    })
}

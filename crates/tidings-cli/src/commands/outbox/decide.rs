//! `tidings outbox retry` and `discard`: a person's decision about events that were given up.

use super::source;
use crate::arguments::Global;
use crate::commands::confirm::confirm;
use crate::failure::Failure;
use crate::outbox_arguments::{OutboxDiscard, OutboxRetry};
use crate::output::{json, object};
use serde::Serialize;
use tidings::core::codes;
use tidings::core::store::{OutboxStore, RowId};

/// Events given up that are looked through for the ones that are named.
const SEARCHED: u32 = 1_000_000;

#[derive(Debug, Serialize)]
struct Retried {
    outbox: String,
    retried: u64,
}

#[derive(Debug, Serialize)]
struct Discarded {
    outbox: String,
    discarded: u64,
}

pub(crate) async fn retry(global: &Global, arguments: OutboxRetry) -> Result<(), Failure> {
    let outbox = source::open(&arguments.source, source::Access::DECIDE).await?;
    let rows = named(&outbox, &arguments.ids).await?;
    let retried = outbox.revive(&rows).await?;
    let done = Retried {
        outbox: outbox.name().to_owned(),
        retried,
    };
    object(global.format(), &json(&done), || {
        format!("{retried} events will be sent again, under the same event ids")
    })
}

pub(crate) async fn discard(global: &Global, arguments: OutboxDiscard) -> Result<(), Failure> {
    let outbox = source::open(&arguments.source, source::Access::DECIDE).await?;
    let rows = named(&outbox, &arguments.ids).await?;
    let question = format!(
        "Remove {} events that were given up from {}, never to be sent?",
        rows.len(),
        outbox.name()
    );
    confirm(global, arguments.yes, &question)?;
    let discarded = outbox.discard(&rows).await?;
    let done = Discarded {
        outbox: outbox.name().to_owned(),
        discarded,
    };
    object(global.format(), &json(&done), || {
        format!("{discarded} events will not be sent; what waited behind them goes on")
    })
}

/// The rows of the ids, each of which must have been given up.
async fn named(outbox: &dyn OutboxStore, ids: &[String]) -> Result<Vec<RowId>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let dead = outbox.dead(SEARCHED).await?;
    let mut rows = Vec::new();
    for id in ids {
        let mut found = dead.iter().filter(|row| {
            row.id.to_string().eq_ignore_ascii_case(id) || row.event_id.as_ref() == Some(id)
        });
        let Some(row) = found.next() else {
            return Err(Failure::new(
                codes::EVENT_UNKNOWN,
                format!(
                    "no event {id} was given up in {}; nothing was done, see: tidings outbox ls --dead",
                    outbox.name()
                ),
            ));
        };
        rows.push(row.id);
    }
    Ok(rows)
}

//! `tidings outbox ls`: the events that wait, or those that were given up.

use super::source;
use crate::arguments::Global;
use crate::failure::Failure;
use crate::outbox_arguments::OutboxLs;
use crate::output::{List, is_terminal, json, talk};
use crate::when::display;
use serde::Serialize;
use tidings::Timestamp;
use tidings::core::store::{DeadRow, OutboxRow, OutboxStore as _, Shard, UnsentQuery};
use tidings::sql::Shape;

/// An event that waits.
#[derive(Debug, Serialize)]
struct Waiting {
    id: String,
    event_id: Option<String>,
    event_type: Option<String>,
    aggregate_id: Option<String>,
    destination: String,
    created_at: String,
    attempts: u32,
    fault: Option<String>,
}

/// An event that was given up.
#[derive(Debug, Serialize)]
struct GivenUp {
    id: String,
    event_id: Option<String>,
    event_type: String,
    aggregate_id: Option<String>,
    attempts: u32,
    dead_at: String,
    reason: String,
}

const WAITING: [&str; 6] = ["ROW", "TYPE", "KEY", "CREATED", "ATTEMPTS", "EVENT"];
const GIVEN_UP: [&str; 6] = ["ROW", "TYPE", "KEY", "GIVEN UP", "ATTEMPTS", "REASON"];

pub(crate) async fn run(global: &Global, arguments: OutboxLs) -> Result<(), Failure> {
    let outbox = source::open(&arguments.source, source::Access::LOOK).await?;
    let is_local = is_terminal() && !global.utc;
    let time = |time: Timestamp| display(time, is_local);
    if arguments.dead {
        let mut list = List::aligned(global.format(), &GIVEN_UP, !global.no_headers);
        for dead in outbox.dead(arguments.limit).await? {
            let cells = given_up_cells(&dead, &time);
            let row = given_up(dead);
            list.row(|| json(&row), || cells)?;
        }
        return list.finish().map(drop);
    }
    let query = UnsentQuery {
        shard: Shard::WHOLE,
        floor: None,
        blocked_keys: Vec::new(),
        excluded_rows: Vec::new(),
        excluded_destinations: Vec::new(),
        hold_behind_dead: false,
        limit: arguments.limit,
    };
    let unsent = outbox.unsent(&query).await?;
    let mut list = List::aligned(global.format(), &WAITING, !global.no_headers);
    for row in &unsent.rows {
        let mut shown = waiting(row);
        if !outbox.is_relayed() && outbox.shape() == Shape::Seed {
            // The first relay draws what the ids of such rows are made from.
            shown.event_id = None;
        }
        list.row(|| json(&shown), || waiting_cells(row, &shown, &time))?;
    }
    list.finish()?;
    if unsent.cut {
        talk(global.quiet, "there are more; show them with --limit");
    }
    Ok(())
}

fn waiting(row: &OutboxRow) -> Waiting {
    let envelope = row.content.as_ref().ok();
    Waiting {
        id: row.id.to_string(),
        event_id: envelope.map(|envelope| envelope.event_id().to_owned()),
        event_type: envelope.map(|envelope| envelope.event_type().to_string()),
        aggregate_id: row.key.as_deref().map(str::to_owned),
        destination: row.destination.to_string(),
        created_at: row.created_at.to_string(),
        attempts: row.attempts,
        fault: row.content.as_ref().err().map(ToString::to_string),
    }
}

fn waiting_cells(
    row: &OutboxRow,
    shown: &Waiting,
    time: &impl Fn(Timestamp) -> String,
) -> Vec<String> {
    let event = shown.event_id.clone().or_else(|| shown.fault.clone());
    vec![
        shown.id.clone(),
        shown.event_type.clone().unwrap_or_else(|| "-".to_owned()),
        shown.aggregate_id.clone().unwrap_or_else(|| "-".to_owned()),
        time(row.created_at),
        shown.attempts.to_string(),
        event.unwrap_or_default(),
    ]
}

fn given_up(dead: DeadRow) -> GivenUp {
    GivenUp {
        id: dead.id.to_string(),
        event_id: dead.event_id,
        event_type: dead.event_type,
        aggregate_id: dead.key,
        attempts: dead.attempts,
        dead_at: dead.dead_at.to_string(),
        reason: dead.reason,
    }
}

fn given_up_cells(dead: &DeadRow, time: &impl Fn(Timestamp) -> String) -> Vec<String> {
    vec![
        dead.id.to_string(),
        dead.event_type.clone(),
        dead.key.clone().unwrap_or_else(|| "-".to_owned()),
        time(dead.dead_at),
        dead.attempts.to_string(),
        dead.reason.clone(),
    ]
}

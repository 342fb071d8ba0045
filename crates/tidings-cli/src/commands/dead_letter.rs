//! `tidings dlq`: what groups gave up.

use crate::arguments::{DlqLs, DlqShow, Global};
use crate::failure::Failure;
use crate::folder;
use crate::output::{self, List, hint, json};
use crate::rows::behind_damage;
use serde::Serialize;
use tidings::broker::GroupName;
use tidings::core::codes;
use tidings::dead_letter::{self, DeadLetter, DeadLetters};

/// A dead letter as lists show it.
#[derive(Serialize)]
struct Row<'a> {
    event_id: &'a str,
    event_type: &'a str,
    aggregate_id: Option<&'a str>,
    consumer: &'a str,
    reason: &'a str,
    attempts: u32,
    status: &'a str,
    recorded_at: Option<String>,
    position: Option<u64>,
}

impl<'a> Row<'a> {
    fn new(dead: &'a DeadLetter) -> Self {
        let record = &dead.record;
        Self {
            event_id: &record.event_id,
            event_type: &record.event_type,
            aggregate_id: record.aggregate_id.as_deref(),
            consumer: &record.consumer,
            reason: &record.reason,
            attempts: record.attempts,
            status: &record.status,
            recorded_at: dead.recorded_at.map(|time| time.to_string()),
            position: record.position,
        }
    }
}

pub(super) async fn ls(global: &Global, arguments: DlqLs) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let headers = ["EVENT", "TYPE", "KEY", "CONSUMER", "ATTEMPTS", "REASON"];
    let mut list = List::aligned(global.format(), &headers, !global.no_headers);
    let mut letters = dead_letter::list(&reader);
    while let Some(dead) = next(&mut letters).await? {
        let is_open = dead.record.status == dead_letter::STATUS_OPEN;
        if !is_wanted(&dead, arguments.consumer.as_ref()) || !(arguments.all || is_open) {
            continue;
        }
        let row = Row::new(&dead);
        list.row(|| json(&row), || cells(&row))?;
    }
    if list.finish()? > 0 {
        hint(
            global.quiet,
            "tidings dlq show EVENT shows the attempts and the raw event",
        );
    }
    Ok(())
}

fn cells(row: &Row<'_>) -> Vec<String> {
    let reason: String = row
        .reason
        .chars()
        .take(100)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let key = row.aggregate_id.unwrap_or("-");
    vec![
        row.event_id.to_owned(),
        row.event_type.to_owned(),
        key.to_owned(),
        row.consumer.to_owned(),
        row.attempts.to_string(),
        reason,
    ]
}

pub(super) async fn show(global: &Global, arguments: DlqShow) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let mut letters = dead_letter::list(&reader);
    let mut found = None;
    while let Some(dead) = next(&mut letters).await? {
        if dead.record.event_id == arguments.event_id
            && is_wanted(&dead, arguments.consumer.as_ref())
        {
            found = Some(dead);
            break;
        }
    }
    let Some(found) = found else {
        let message = format!(
            "no dead letter of event {:?} in {}",
            arguments.event_id,
            arguments.data.folder.display()
        );
        return Err(Failure::new(codes::EVENT_UNKNOWN, message));
    };
    let object = json(&found.record);
    output::object(global.format(), &object, || output::attributes(&object))
}

/// The next dead letter; damaged stretches of the log are told and passed over.
pub(crate) async fn next(letters: &mut DeadLetters<'_>) -> Result<Option<DeadLetter>, Failure> {
    loop {
        match letters.next().await {
            None => return Ok(None),
            Some(Ok(letter)) => return Ok(Some(letter)),
            Some(Err(error)) => {
                behind_damage(error)?;
            }
        }
    }
}

fn is_wanted(dead: &DeadLetter, consumer: Option<&GroupName>) -> bool {
    consumer.is_none_or(|consumer| dead.record.consumer == consumer.as_str())
}

//! `tidings schedule ls`: what waits.

use super::{Row, open};
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{List, hint, json};
use crate::schedule_arguments::ScheduleLs;
use tidings::core::store::ScheduleStore as _;

/// Rows read at once.
const PAGE_ROWS: u32 = 256;

pub(super) async fn run(global: &Global, arguments: ScheduleLs) -> Result<(), Failure> {
    let schedules = open(&arguments.store, false).await?;
    let headers = ["NAME", "DUE", "TYPE", "KEY", "EVERY", "FIRED"];
    let mut list = List::aligned(global.format(), &headers, !global.no_headers);
    let mut after: Option<String> = None;
    loop {
        let page = schedules.list(after.as_deref(), PAGE_ROWS).await?;
        for scheduled in &page {
            let row = Row::new(scheduled);
            list.row(|| json(&row), || cells(&row))?;
        }
        match page.last() {
            Some(last) => after = Some(last.id.clone()),
            None => break,
        }
    }
    if list.finish()? > 0 {
        hint(global.quiet, "tidings schedule cancel NAME forgets one");
    }
    Ok(())
}

fn cells(row: &Row<'_>) -> Vec<String> {
    let every = match (row.cron, row.time_zone) {
        (Some(cron), Some(zone)) => format!("{cron} {zone}"),
        _ => "-".to_owned(),
    };
    vec![
        row.name.to_owned(),
        row.due.clone(),
        row.event_type.clone(),
        row.aggregate_id.unwrap_or("-").to_owned(),
        every,
        row.fired.to_string(),
    ]
}

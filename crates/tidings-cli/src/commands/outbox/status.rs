//! `tidings outbox status`: how much waits, since when, and who carries it.

use super::{shape_name, source};
use crate::arguments::Global;
use crate::failure::Failure;
use crate::outbox_arguments::OutboxStatus;
use crate::output::{List, json, talk};
use serde::Serialize;
use std::process::ExitCode;
use tidings::core::store::{self, OutboxStore as _, Settlement};

/// An outbox as programs see it.
#[derive(Debug, Serialize)]
struct Row {
    outbox: String,
    shape: &'static str,
    unsent: u64,
    oldest_unsent_seconds: f64,
    failing: u64,
    dead: u64,
    retained: u64,
    clean_up: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_tuples: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_snapshot: Option<Snapshot>,
    relays: Vec<Owner>,
}

/// Who keeps deleted rows from being cleaned up.
#[derive(Debug, Serialize)]
struct Snapshot {
    pid: u64,
    seconds: f64,
}

/// Who relays a shard.
#[derive(Debug, Serialize)]
struct Owner {
    shard: String,
    owner: String,
    lease_seconds: f64,
}

const HEADERS: [&str; 9] = [
    "OUTBOX",
    "SHAPE",
    "UNSENT",
    "OLDEST",
    "FAILING",
    "DEAD",
    "SENT ROWS",
    "CLEANUP",
    "RELAY",
];

pub(crate) async fn run(global: &Global, arguments: OutboxStatus) -> Result<ExitCode, Failure> {
    let outbox = source::open(&arguments.source, source::Access::LOOK).await?;
    let status = outbox.status().await?;
    let row = Row::new(
        outbox.name(),
        shape_name(outbox.shape()),
        outbox.settlement(),
        &status,
    );
    // One outbox is one object, though its table has a header.
    if global.format().is_table() {
        let mut list = List::aligned(global.format(), &HEADERS, !global.no_headers);
        list.row(|| json(&row), || row.cells())?;
        list.finish()?;
    } else {
        crate::output::object(global.format(), &json(&row), String::new)?;
    }
    let is_over = arguments.max.is_some_and(|max| status.pending > max)
        || arguments
            .max_age
            .is_some_and(|max| status.oldest_unsent_age > max.0);
    if is_over {
        talk(
            global.quiet,
            format_args!("over the limit: {}", outbox.name()),
        );
        return Ok(ExitCode::from(4));
    }
    Ok(ExitCode::SUCCESS)
}

impl Row {
    fn new(
        name: &str,
        shape: &'static str,
        settlement: Settlement,
        status: &store::OutboxStatus,
    ) -> Self {
        let owners = status.owners.iter();
        let dead_tuples = status.dead_tuples.as_ref();
        let holder = dead_tuples.and_then(|dead| dead.oldest_snapshot.as_ref());
        Self {
            outbox: name.to_owned(),
            shape,
            unsent: status.pending,
            oldest_unsent_seconds: status.oldest_unsent_age.as_secs_f64(),
            failing: status.failing,
            dead: status.dead,
            retained: status.retained,
            clean_up: match settlement {
                Settlement::Delete => "delete",
                Settlement::Mark => "mark",
            },
            dead_tuples: dead_tuples.map(|dead| dead.count),
            oldest_snapshot: holder.map(|holder| Snapshot {
                pid: holder.pid,
                seconds: holder.age.as_secs_f64(),
            }),
            relays: owners
                .map(|(shard, owner, left)| Owner {
                    shard: format!("{}/{}", shard.index, shard.count),
                    owner: owner.clone(),
                    lease_seconds: left.as_secs_f64(),
                })
                .collect(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let working = self.relays.iter().filter(|relay| relay.lease_seconds > 0.0);
        let relays: Vec<String> = working
            .map(|relay| format!("{} {}", relay.shard, relay.owner))
            .collect();
        vec![
            self.outbox.clone(),
            self.shape.to_owned(),
            self.unsent.to_string(),
            if self.unsent == 0 {
                "-".to_owned()
            } else {
                format!("{:.1} s", self.oldest_unsent_seconds)
            },
            self.failing.to_string(),
            self.dead.to_string(),
            self.retained.to_string(),
            self.clean_up.to_owned(),
            if relays.is_empty() {
                "none".to_owned()
            } else {
                relays.join(", ")
            },
        ]
    }
}

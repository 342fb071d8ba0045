//! `tidings dlq stats`: how many dead letters stand where.

use crate::arguments::Global;
use crate::dlq_arguments::DlqStats;
use crate::failure::Failure;
use crate::output::{List, json};
use serde::Serialize;
use std::collections::BTreeMap;
use tidings::Timestamp;
use tidings::core::store::{DeadLetterStore as _, LetterStatus};

/// Dead letters of a group that stand alike.
#[derive(Debug, Serialize)]
struct Row {
    consumer: String,
    status: &'static str,
    count: u64,
    redriven: u64,
    oldest_at: String,
    newest_at: String,
}

struct Sum {
    count: u64,
    redriven: u64,
    oldest: Timestamp,
    newest: Timestamp,
}

const HEADERS: [&str; 6] = [
    "CONSUMER", "STATUS", "COUNT", "REDRIVEN", "OLDEST", "NEWEST",
];

pub(crate) async fn run(global: &Global, arguments: DlqStats) -> Result<(), Failure> {
    let failures = super::open(&arguments.place).await?;
    let filter = super::filter(&arguments.filters, &[])?;
    let mut sums: BTreeMap<(String, LetterStatus), Sum> = BTreeMap::new();
    for tally in failures.tally(&filter, i64::MIN).await? {
        let sum = sums.entry((tally.group, tally.status)).or_insert(Sum {
            count: 0,
            redriven: 0,
            oldest: tally.oldest,
            newest: tally.newest,
        });
        sum.count += tally.count;
        if tally.redrives > 0 {
            sum.redriven += tally.count;
        }
        sum.oldest = sum.oldest.min(tally.oldest);
        sum.newest = sum.newest.max(tally.newest);
    }
    let mut list = List::aligned(global.format(), &HEADERS, !global.no_headers);
    for ((consumer, status), sum) in sums {
        let row = Row {
            consumer,
            status: status.as_str(),
            count: sum.count,
            redriven: sum.redriven,
            oldest_at: sum.oldest.to_string(),
            newest_at: sum.newest.to_string(),
        };
        let cells = || {
            vec![
                row.consumer.clone(),
                row.status.to_owned(),
                row.count.to_string(),
                row.redriven.to_string(),
                row.oldest_at.clone(),
                row.newest_at.clone(),
            ]
        };
        list.row(|| json(&row), cells)?;
    }
    list.finish().map(drop)
}

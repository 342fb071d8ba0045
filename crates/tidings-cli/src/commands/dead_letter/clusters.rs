//! `tidings dlq`: dead letters that are alike, the newest death first.

use super::row::brief;
use crate::arguments::Global;
use crate::dlq_arguments::DlqClusters;
use crate::failure::Failure;
use crate::output::{List, hint, is_terminal, json};
use crate::when::{display, now};
use serde::Serialize;
use tidings::core::store::{DeadLetterStore as _, LetterCluster};
use tidings::limits::LETTER_CLUSTERS_MAX;

/// A cluster as programs see it.
#[derive(Debug, Serialize)]
pub(super) struct Cluster<'a> {
    cluster: &'a str,
    consumer: &'a str,
    event_type: &'a str,
    reason: &'a str,
    count: u64,
    first_at: String,
    last_at: String,
    redriven: u32,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(cluster: &'a LetterCluster) -> Self {
        Self {
            cluster: &cluster.fingerprint,
            consumer: &cluster.group,
            event_type: &cluster.event_type,
            reason: &cluster.reason,
            count: cluster.count,
            first_at: cluster.first.to_string(),
            last_at: cluster.last.to_string(),
            redriven: cluster.redrives,
        }
    }
}

const HEADERS: [&str; 8] = [
    "CLUSTER",
    "CONSUMER",
    "EVENT TYPE",
    "ERROR",
    "COUNT",
    "FIRST",
    "LAST",
    "REDRIVEN",
];

pub(crate) async fn run(global: &Global, arguments: DlqClusters) -> Result<(), Failure> {
    let failures = super::open(&arguments.place).await?;
    let filter = super::unsettled(super::filter(&arguments.filters, &[])?, false);
    let clusters = failures.clusters(&filter, LETTER_CLUSTERS_MAX).await?;
    let is_local = is_terminal() && !global.utc;
    let mut list = List::aligned(global.format(), &HEADERS, !global.no_headers);
    for cluster in &clusters {
        let cells = || {
            vec![
                cluster.fingerprint.clone(),
                cluster.group.clone(),
                cluster.event_type.clone(),
                brief(&cluster.reason),
                cluster.count.to_string(),
                display(cluster.first, is_local),
                ago(now().since(cluster.last).as_secs()),
                match cluster.redrives {
                    0 => "0".to_owned(),
                    times => format!("{times}×"),
                },
            ]
        };
        list.row(|| json(&Cluster::new(cluster)), cells)?;
    }
    list.finish()?;
    if let Some(cluster) = clusters.first() {
        let name = &cluster.fingerprint;
        hint(
            global.quiet,
            format_args!("tidings dlq show {name}; tidings dlq redrive {name} --limit 1"),
        );
    }
    Ok(())
}

/// How long ago, in the largest unit.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_largest_unit() {
        let told = [0, 59, 60, 7_199, 172_800].map(ago);

        assert_eq!(told, ["0 s", "59 s", "1 m", "1 h", "2 d"]);
    }
}

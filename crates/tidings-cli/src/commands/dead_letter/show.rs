//! `tidings dlq show`: everything that is known of a dead letter, or of a cluster.

use super::clusters::Cluster;
use super::row::Whole;
use crate::arguments::Global;
use crate::dlq_arguments::DlqShow;
use crate::failure::Failure;
use crate::output::{List, attributes, hint, json, object};
use tidings::core::store::{DeadLetterStore as _, LetterFilter, LetterStatus};
use tidings::limits::{LETTER_ACTIONS_MAX, LETTER_CLUSTERS_MAX};
use tidings::sql::Failures;

pub(crate) async fn run(global: &Global, arguments: DlqShow) -> Result<(), Failure> {
    let failures = super::open(&arguments.place).await?;
    if super::is_cluster(&arguments.which) {
        return cluster(global, &failures, &arguments).await;
    }
    // Of several groups the first is shown; which one is told with it.
    let filter = LetterFilter {
        ids: vec![arguments.which.clone()],
        group: arguments.consumer.as_ref().map(ToString::to_string),
        ..LetterFilter::default()
    };
    let mut found = failures.letters(&filter, i64::MIN, 2).await?.into_iter();
    let Some(letter) = found.next() else {
        return Err(super::unknown(&failures, &arguments.which));
    };
    let actions = failures.actions(&letter.id, LETTER_ACTIONS_MAX).await?;
    let whole = json(&Whole::new(&letter, &actions));
    object(global.format(), &whole, || attributes(&whole))?;
    if let Some(other) = found.next() {
        let group = other.group;
        hint(
            global.quiet,
            format_args!("{group} gave it up, too: --consumer {group}"),
        );
    }
    let event = letter.envelope.event_id();
    let group = &letter.group;
    if letter.status == LetterStatus::Open {
        hint(
            global.quiet,
            format_args!(
                "tidings dlq redrive {event} --consumer {group}; tidings dlq edit {event} --consumer {group}; tidings dlq discard {event} --consumer {group} --reason TEXT"
            ),
        );
    }
    Ok(())
}

async fn cluster(global: &Global, failures: &Failures, arguments: &DlqShow) -> Result<(), Failure> {
    let filter = LetterFilter {
        cluster: Some(arguments.which.clone()),
        group: arguments.consumer.as_ref().map(ToString::to_string),
        ..LetterFilter::default()
    };
    let clusters = failures.clusters(&filter, LETTER_CLUSTERS_MAX).await?;
    if clusters.is_empty() {
        return Err(super::unknown(failures, &arguments.which));
    }
    let format = global.format();
    let mut list = List::streamed(format);
    for cluster in &clusters {
        let row = json(&Cluster::new(cluster));
        list.row(|| row.clone(), || vec![attributes(&row)])?;
    }
    list.finish()?;
    hint(
        global.quiet,
        format_args!(
            "its events: tidings dlq ls --cluster {0}; hand one back: tidings dlq redrive {0} --limit 1",
            arguments.which
        ),
    );
    Ok(())
}

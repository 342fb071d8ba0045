//! `tidings alert test`: a message through each channel, and what came back.

use super::channels;
use crate::alert_arguments::AlertTest;
use crate::arguments::Global;
use crate::failure::Failure;
use crate::folder;
use crate::output::{List, json};
use serde::Serialize;
use std::sync::Arc;
use tidings::core::codes;
use tidings::core::event_id;
use tidings::flow::alert::{Alert, Channel, Handover, Outgoing, Watch};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::sql::Alerts;

/// What one channel answered.
#[derive(Debug, Serialize)]
struct Row {
    channel: String,
    result: &'static str,
    answer: String,
}

const HEADERS: [&str; 3] = ["CHANNEL", "RESULT", "ANSWER"];

pub(crate) async fn run(global: &Global, arguments: AlertTest) -> Result<(), Failure> {
    let channels = channels::open(&arguments.channels, global.quiet)?;
    let now = crate::when::now();
    let alert = Alert::test(now);
    let message = Outgoing {
        id: format!(
            "msg_{}",
            event_id::fresh(&SystemClock::new(), &SystemChance)
        ),
        body: alert.body(now),
        line: alert.line(),
    };
    let mut list = List::aligned(global.format(), &HEADERS, !global.no_headers);
    let (mut failed, mut accepted) = (Vec::new(), Vec::new());
    for channel in channels {
        let (result, answer) = match channel.send(&message).await {
            Handover::Accepted { answer } => {
                accepted.push(Arc::clone(&channel));
                ("accepted", answer)
            }
            Handover::Failed { reason, .. } => ("failed", reason),
            Handover::Closed { reason } => ("closed", reason),
        };
        let row = Row {
            channel: channel.name().to_owned(),
            result,
            answer,
        };
        list.row(
            || json(&row),
            || {
                vec![
                    row.channel.clone(),
                    row.result.to_owned(),
                    row.answer.clone(),
                ]
            },
        )?;
        if row.result != "accepted" {
            failed.push(row.channel);
        }
    }
    list.finish()?;
    reopen(&arguments, &accepted).await?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        codes::ALERT_NOT_ACCEPTED,
        format!("not accepted by: {}", failed.join(", ")),
    ))
}

/// A channel that a receiver closed gets alerts again once it accepts a test.
async fn reopen(arguments: &AlertTest, accepted: &[Arc<dyn Channel>]) -> Result<(), Failure> {
    let folder = &arguments.data.folder;
    let is_there = arguments.store.shared.url.is_some() || folder::state(folder).exists();
    if !is_there {
        // Nobody has watched here yet, so that nothing was closed.
        return Ok(());
    }
    let database = super::store(&arguments.store, &arguments.data).await?;
    let store = Alerts::open(&database).await?;
    for channel in accepted {
        let reopened = Watch::reopen(&store, arguments.group.as_str(), &**channel).await;
        match reopened {
            Ok(()) | Err(tidings::core::store::StoreError::TableMissing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    database.close().await;
    Ok(())
}

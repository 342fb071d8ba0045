//! `tidings check outbox`: how much waits in an outbox, and for how long.

use super::report::{Figure, Limits, Report};
use crate::alert_arguments::CheckOutbox;
use crate::commands::alert;
use crate::commands::outbox::source::Access;
use crate::failure::Failure;
use crate::folder;
use std::sync::Arc;
use std::time::Duration;
use tidings::core::codes;
use tidings::core::store::{OutboxStatus, OutboxStore as _};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::sql::{OutboxOptions, SqlOutbox};

const EVENTS: Figure = Figure {
    metric: "tidings_check_outbox_events",
    help: "Events that wait to be sent.",
    unit: "",
};
const AGE: Figure = Figure {
    metric: "tidings_check_outbox_seconds",
    help: "How long the oldest of them waits.",
    unit: "s",
};
const DEAD: Figure = Figure {
    metric: "tidings_check_outbox_dead",
    help: "Events that were given up and wait for a person.",
    unit: "",
};
const WARN_AGE: Duration = Duration::from_secs(60);
const CRIT_AGE: Duration = Duration::from_secs(600);

pub(super) async fn look(check: &CheckOutbox) -> Result<Report, Failure> {
    let (name, status) = status(check).await?;
    let fallback = (
        Limits::default(),
        Limits::ages(Some(WARN_AGE), Some(CRIT_AGE)),
    );
    let (of_events, of_age) = Limits::of(&check.thresholds, fallback);
    let age = status.oldest_unsent_age.as_secs_f64();
    let measures = vec![
        EVENTS.of(&name, status.pending as f64, of_events),
        AGE.of(&name, age, of_age),
        // One that was given up blocks its key until a person decides, whatever the limits are.
        DEAD.of(&name, status.dead as f64, Limits::warn_above(0.0)),
    ];
    let summary = format!(
        "{} events wait, {} were given up",
        status.pending, status.dead
    );
    Ok(Report::new("outbox", summary, measures))
}

async fn status(check: &CheckOutbox) -> Result<(String, OutboxStatus), Failure> {
    let outbox = match &check.from {
        Some(url) => alert::outbox(url, &check.table, Access::LOOK).await?,
        None => {
            let folder = &check.data.folder;
            if !folder::state(folder).exists() {
                return Err(Failure::new(
                    codes::FOLDER_MISSING,
                    format!(
                        "there is no outbox in {}; name a database with --from",
                        folder.display()
                    ),
                ));
            }
            let database = alert::in_folder(&check.data).await?;
            let options = OutboxOptions {
                table: check.table.clone(),
                unordered: true,
                ..OutboxOptions::default()
            };
            let clock = Arc::new(SystemClock::new());
            SqlOutbox::open(database, options, clock, &SystemChance).await?
        }
    };
    let status = outbox.status().await?;
    Ok((outbox.name().to_owned(), status))
}

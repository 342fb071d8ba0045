//! `tidings check lag`: how far groups are behind.

use super::report::{Figure, Limits, Report};
use crate::alert_arguments::CheckLag;
use crate::failure::Failure;
use std::time::Duration;
use tidings::broker::GroupLag;

const EVENTS: Figure = Figure {
    metric: "tidings_check_lag_events",
    help: "Events that the group has not settled.",
    unit: "",
};
const AGE: Figure = Figure {
    metric: "tidings_check_lag_seconds",
    help: "How long ago the oldest of them was appended.",
    unit: "s",
};
const WARN_AGE: Duration = Duration::from_secs(300);
const CRIT_AGE: Duration = Duration::from_secs(1_800);

pub(super) async fn look(check: &CheckLag) -> Result<Report, Failure> {
    let opened = check.place.groups().await?;
    let admin = opened.admin()?;
    let mut lags: Vec<(String, GroupLag)> = Vec::new();
    match &check.group {
        Some(group) => lags.push((group.to_string(), admin.lag(group).await?)),
        None => {
            for group in admin.groups().await? {
                lags.push((group.name.to_string(), admin.lag(&group.name).await?));
            }
        }
    }
    let fallback = (
        Limits::default(),
        Limits::ages(Some(WARN_AGE), Some(CRIT_AGE)),
    );
    let (of_events, of_age) = Limits::of(&check.thresholds, fallback);
    let measures = lags.iter().flat_map(|(group, lag)| {
        [
            EVENTS.of(group, lag.events as f64, of_events),
            AGE.of(group, lag.age.as_secs_f64(), of_age),
        ]
    });
    let behind = lags.iter().filter(|(_, lag)| lag.events > 0).count();
    let summary = format!("{} groups, {behind} of them behind", lags.len());
    Ok(Report::new("lag", summary, measures.collect()))
}

//! The figures of an embedded log under their names, for Prometheus.

use tidings_flow::metrics::{MetricFamily, MetricKind};
use tidings_log::{LogState, LogStatus};

/// The states of a log, as the label `state` has them.
const STATES: [&str; 5] = ["open", "disk_full", "read_only", "poisoned", "closed"];

/// The figures of a log's status.
pub(crate) fn families(status: &LogStatus) -> Vec<MetricFamily> {
    let gauge = |name, help, number: u64| {
        MetricFamily::new(name, MetricKind::Gauge, help).with(&[], number as f64)
    };
    let counter = |name, help, number: u64| {
        MetricFamily::new(name, MetricKind::Counter, help).with(&[], number as f64)
    };
    let size = &status.size;
    vec![
        state(&status.state),
        counter(
            "tidings_log_damage_total",
            "Stretches of damage that were met since the log was opened; look with tidings verify.",
            status.damage_found,
        ),
        counter(
            "tidings_log_damaged_positions_total",
            "Positions that are lost in them.",
            status.damaged_positions,
        ),
        counter(
            "tidings_log_ends_cut_total",
            "Unfinished ends that the opening set aside; nothing in them was acknowledged.",
            status.ends_cut,
        ),
        counter(
            "tidings_log_writes_refused_full_total",
            "Writes that were refused because the disk was full.",
            status.writes_refused_full,
        ),
        counter(
            "tidings_log_events_removed_total",
            "Events that retention removed.",
            status.events_removed,
        ),
        gauge(
            "tidings_log_earliest_position",
            "The oldest position kept.",
            size.earliest,
        ),
        gauge(
            "tidings_log_end_position",
            "The position behind the newest durable event.",
            size.end,
        ),
        gauge("tidings_log_segments", "Segments.", size.segments),
        gauge(
            "tidings_log_bytes",
            "Bytes of the segments, without what is only reserved.",
            size.bytes,
        ),
    ]
}

fn state(now: &LogState) -> MetricFamily {
    let now = match now {
        LogState::Open => "open",
        LogState::DiskFull => "disk_full",
        LogState::ReadOnly => "read_only",
        LogState::Poisoned { .. } => "poisoned",
        LogState::Closed => "closed",
    };
    let family = MetricFamily::new(
        "tidings_log_state",
        MetricKind::Gauge,
        "1 for the state that the log is in: events are accepted in open alone.",
    );
    STATES.into_iter().fold(family, |family, state| {
        family.with(&[("state", state)], f64::from(u8::from(state == now)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_flow::metrics::render;

    #[test]
    fn a_log_that_accepts_nothing_is_told_by_its_state() {
        let status = LogStatus {
            state: LogState::Poisoned {
                reason: "a flush failed".to_owned(),
            },
            size: tidings_log::LogSize::default(),
            damage_found: 2,
            damaged_positions: 40,
            ends_cut: 1,
            end_bytes_cut: 70,
            writes_refused_full: 3,
            poisonings: 1,
            events_removed: 0,
            segments_removed: 0,
            bytes_removed: 0,
        };

        let text = render(&families(&status));

        for line in [
            "tidings_log_state{state=\"poisoned\"} 1",
            "tidings_log_state{state=\"open\"} 0",
            "tidings_log_damage_total 2",
            "tidings_log_damaged_positions_total 40",
            "tidings_log_ends_cut_total 1",
            "tidings_log_writes_refused_full_total 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}

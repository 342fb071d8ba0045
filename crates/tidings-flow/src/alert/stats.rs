//! What a watcher has done, as figures.

use crate::metrics::{MetricFamily, MetricKind};
use std::collections::BTreeMap;

/// What one channel has done since the watcher started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// Messages that it accepted.
    pub accepted: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Messages given up.
    pub given_up: u64,
    /// Messages that wait for it.
    pub waiting: usize,
    /// Whether it wants no message any more.
    pub closed: bool,
}

/// What a watcher has done since it started, and how it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchStats {
    /// Alerts that are not over.
    pub firing: usize,
    /// Dead letters that were counted.
    pub dead_letters: u64,
    /// Looks at groups, outboxes and stores.
    pub looks: u64,
    /// Why the newest look, or the store, did not do what was asked; `None` if all is well.
    pub trouble: Option<String>,
    /// The channels by name.
    pub channels: BTreeMap<String, ChannelStats>,
}

impl WatchStats {
    /// Messages that wait for any channel.
    pub fn waiting(&self) -> usize {
        self.channels.values().map(|channel| channel.waiting).sum()
    }

    /// The figures under their names, for [`render`](crate::metrics::render).
    pub fn families(&self) -> Vec<MetricFamily> {
        let mut messages = MetricFamily::new(
            "tidings_alert_messages_total",
            MetricKind::Counter,
            "Messages by what became of them: accepted, given up; and attempts that failed.",
        );
        let mut waiting = MetricFamily::new(
            "tidings_alert_messages_waiting",
            MetricKind::Gauge,
            "Messages that wait for a channel.",
        );
        let mut closed = MetricFamily::new(
            "tidings_alert_channel_closed",
            MetricKind::Gauge,
            "1 for a channel that wants no message any more.",
        );
        for (name, channel) in &self.channels {
            for (outcome, number) in [
                ("accepted", channel.accepted),
                ("failed", channel.failed),
                ("given_up", channel.given_up),
            ] {
                let labels = [("channel", name.as_str()), ("outcome", outcome)];
                messages = messages.with(&labels, number as f64);
            }
            let labels = [("channel", name.as_str())];
            waiting = waiting.with(&labels, channel.waiting as f64);
            closed = closed.with(&labels, f64::from(u8::from(channel.closed)));
        }
        let gauge =
            |name, help, number| MetricFamily::new(name, MetricKind::Gauge, help).with(&[], number);
        vec![
            messages,
            waiting,
            closed,
            gauge(
                "tidings_alerts_firing",
                "Alerts that are not over.",
                self.firing as f64,
            ),
            gauge(
                "tidings_alert_trouble",
                "1 while something cannot be looked at, or the store does not answer.",
                f64::from(u8::from(self.trouble.is_some())),
            ),
        ]
    }
}

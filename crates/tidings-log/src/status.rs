//! What a log is like from outside, as plain data: for metrics, health checks and people.

use crate::log::Log;
use crate::poison::LogState;
use crate::retention::kept;
use std::sync::atomic::{AtomicU64, Ordering};
use tidings_core::broker::BrokerError;

/// How much a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogSize {
    /// The oldest position kept.
    pub earliest: u64,
    /// Behind the last durable position.
    pub end: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of their frames, without what is only reserved.
    pub bytes: u64,
}

impl LogSize {
    pub(crate) fn of(log: &Log) -> Result<Self, BrokerError> {
        log.look_at_begin()?;
        let kept = kept(log)?;
        let end = log.end_known().visible;
        Ok(Self {
            earliest: kept.first().map_or(end, |segment| segment.first),
            end,
            segments: kept.len() as u64,
            bytes: kept.iter().map(|segment| segment.bytes).sum(),
        })
    }
}

/// What a log is like, and what happened to it since it was opened. Counts only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// Whether it accepts events, and why not.
    pub state: LogState,
    /// How much it holds.
    pub size: LogSize,
    /// Stretches of damage that the opening or a reader met; each is counted once.
    pub damage_found: u64,
    /// Positions that are lost in them.
    pub damaged_positions: u64,
    /// Unfinished ends that the opening cut: one or none.
    pub ends_cut: u64,
    /// Bytes of them; nothing in there was acknowledged.
    pub end_bytes_cut: u64,
    /// Writes that were refused because the disk was full.
    pub writes_refused_full: u64,
    /// Failures after which nothing is accepted until the log is opened again: one or none.
    pub poisonings: u64,
    /// Events that retention removed.
    pub events_removed: u64,
    /// Segments that retention removed.
    pub segments_removed: u64,
    /// Bytes that retention removed.
    pub bytes_removed: u64,
}

/// Counts of one log since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub ends_cut: AtomicU64,
    pub end_bytes_cut: AtomicU64,
    pub writes_refused_full: AtomicU64,
    pub poisonings: AtomicU64,
    pub events_removed: AtomicU64,
    pub segments_removed: AtomicU64,
    pub bytes_removed: AtomicU64,
}

impl Counts {
    /// Adds to one of the counts.
    pub(crate) fn add(count: &AtomicU64, more: u64) {
        count.fetch_add(more, Ordering::Relaxed);
    }

    /// The counts as they are now, with what else there is to say.
    pub(crate) fn status(
        &self,
        state: LogState,
        size: LogSize,
        (damage_found, damaged_positions): (u64, u64),
    ) -> LogStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LogStatus {
            state,
            size,
            damage_found,
            damaged_positions,
            ends_cut: read(&self.ends_cut),
            end_bytes_cut: read(&self.end_bytes_cut),
            writes_refused_full: read(&self.writes_refused_full),
            poisonings: read(&self.poisonings),
            events_removed: read(&self.events_removed),
            segments_removed: read(&self.segments_removed),
            bytes_removed: read(&self.bytes_removed),
        }
    }
}

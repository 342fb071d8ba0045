//! What a consumer has done since it started.

/// Counters of a consumer since it started, and where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Events handled with success.
    pub handled: u64,
    /// Attempts that failed and were or will be followed by another.
    pub retried: u64,
    /// Events that became dead letters.
    pub dead_lettered: u64,
    /// Events that its handlers emitted, published.
    pub emitted: u64,
    /// Events that the broker delivered and that no handler wants, or that an earlier run had given up.
    pub skipped: u64,
    /// Damaged stretches of the log that were skipped.
    pub damaged: u64,
    /// Events received and not settled.
    pub in_flight: usize,
    /// Events that are being handled.
    pub running: usize,
    /// Whether the user has paused it.
    pub paused: bool,
    /// Why the group waits, while the broker refuses what it has to publish.
    pub trouble: Option<String>,
}

//! How a relay works.

use super::step::{Backoff, Bounds};
use std::time::Duration;
use tidings_core::limits::{
    RELAY_ATTEMPTS_DEFAULT, RELAY_BACKOFF_FIRST, RELAY_BACKOFF_MAX, RELAY_BATCH_BYTES_MAX,
    RELAY_BATCH_ROWS_DEFAULT, RELAY_BATCH_ROWS_MAX, RELAY_BATCHES_MAX,
    RELAY_BATCHES_OF_DESTINATION_MAX, RELAY_BLOCKED_KEYS_MAX, RELAY_FLOOR_INTERVAL,
    RELAY_LEASE_DEFAULT, RELAY_LEASE_MIN, RELAY_LEASE_POLL_INTERVAL, RELAY_POLL_BUSY,
    RELAY_POLL_IDLE_DEFAULT, RELAY_PROBE_ROWS, RELAY_PUBLISH_TIMEOUT_DEFAULT, RELAY_READ_GAP,
    RELAY_RECENT_KEYS_MAX, RELAY_STATUS_INTERVAL_DEFAULT, RELAY_STORE_BACKOFF_MAX,
    RELAY_SWEEP_INTERVAL,
};
use tidings_core::store::Shard;

/// What happens to the later events of a key of which one was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyPolicy {
    /// They wait until a person revives or discards the one that was given up: the order of the key is kept.
    #[default]
    Block,
    /// They go on without it.
    Skip,
}

/// How a relay works; the default suits most.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Which part of the keys it relays. Every relay of an outbox says the same count.
    pub shard: Shard,
    /// Who it is, for people who look at the lease: for example the host. A random part is added.
    pub label: String,
    /// How long its lease lasts; so long the events of a killed relay wait for the next. At least a second.
    pub time_to_live: Duration,
    /// Attempts at an event that its destination refuses, before it is given up. Trouble of the destination itself counts no attempt.
    pub attempts_max: u32,
    /// What happens to a key of which an event was given up.
    pub policy: KeyPolicy,
    /// Rows read at once.
    pub batch_rows: usize,
    /// The longest wait between two reads of an idle outbox.
    pub poll_idle: Duration,
    /// How long to wait for the outcome of a batch; after that it is unknown.
    pub publish_timeout: Duration,
    /// How often to ask how many events wait.
    pub status_interval: Duration,
    /// End by itself once nothing is left that could be sent.
    pub until_empty: bool,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            shard: Shard::WHOLE,
            label: format!("process {}", std::process::id()),
            time_to_live: RELAY_LEASE_DEFAULT,
            attempts_max: RELAY_ATTEMPTS_DEFAULT,
            policy: KeyPolicy::default(),
            batch_rows: RELAY_BATCH_ROWS_DEFAULT,
            poll_idle: RELAY_POLL_IDLE_DEFAULT,
            publish_timeout: RELAY_PUBLISH_TIMEOUT_DEFAULT,
            status_interval: RELAY_STATUS_INTERVAL_DEFAULT,
            until_empty: false,
        }
    }
}

impl RelayOptions {
    /// The lease that is asked for.
    pub(super) fn lease(&self) -> Duration {
        self.time_to_live.max(RELAY_LEASE_MIN)
    }

    pub(super) fn bounds(&self) -> Bounds {
        let batch_rows = self.batch_rows.clamp(1, RELAY_BATCH_ROWS_MAX);
        Bounds {
            time_to_live: self.lease(),
            // A quarter is room for a request that is slow to leave and for a clock that runs slow.
            margin: self.lease() / 4,
            lease_poll: RELAY_LEASE_POLL_INTERVAL,
            poll_busy: RELAY_POLL_BUSY,
            poll_idle: self.poll_idle.max(RELAY_POLL_BUSY),
            read_gap: RELAY_READ_GAP,
            sweep_interval: RELAY_SWEEP_INTERVAL,
            floor_interval: RELAY_FLOOR_INTERVAL,
            backoff: Backoff {
                first: RELAY_BACKOFF_FIRST,
                max: RELAY_BACKOFF_MAX,
            },
            store_backoff: Backoff {
                first: RELAY_BACKOFF_FIRST,
                max: RELAY_STORE_BACKOFF_MAX,
            },
            attempts_max: self.attempts_max.max(1),
            batch_rows,
            batch_bytes: RELAY_BATCH_BYTES_MAX,
            batches: RELAY_BATCHES_MAX,
            batches_of_destination: RELAY_BATCHES_OF_DESTINATION_MAX,
            probe_rows: RELAY_PROBE_ROWS,
            settle_rows: batch_rows * RELAY_BATCHES_OF_DESTINATION_MAX,
            unfinished_rows: batch_rows * RELAY_BATCHES_MAX * 2,
            failing_rows: RELAY_BLOCKED_KEYS_MAX,
            recent_keys: RELAY_RECENT_KEYS_MAX,
            policy: self.policy,
            until_empty: self.until_empty,
        }
    }
}

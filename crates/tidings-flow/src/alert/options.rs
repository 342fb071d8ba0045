//! When alerts fire, and how often they are told.

use std::time::Duration;
use tidings_core::limits::{
    ALERT_LOOK_INTERVAL_DEFAULT, ALERT_MESSAGES_PER_WINDOW_MAX, ALERT_OUTBOX_AGE_DEFAULT,
    ALERT_PARKED_AGE_DEFAULT, ALERT_REMIND_AFTER_DEFAULT, ALERT_STALLED_AFTER_DEFAULT,
    ALERT_WINDOW_DEFAULT,
};

/// When alerts fire, and how often they are told.
#[derive(Debug, Clone)]
pub struct AlertOptions {
    /// Who watches: its alerts are kept apart from those of others, and its own group is not watched.
    pub watcher: String,
    /// Dead letters of one failure are told in one message in so long a time.
    pub window: Duration,
    /// Messages about dead letters in one such time.
    pub messages_per_window: usize,
    /// A group that is behind and has not moved for so long is stalled.
    pub stalled_after: Duration,
    /// An outbox whose oldest event waits longer is told.
    pub outbox_age: Duration,
    /// A delivery that is parked longer is told.
    pub parked_age: Duration,
    /// Trouble that lasts is told again after so long; never if zero.
    pub remind_after: Duration,
    /// How often is looked.
    pub look_every: Duration,
}

impl AlertOptions {
    /// The default for a watcher.
    pub fn new(watcher: impl Into<String>) -> Self {
        Self {
            watcher: watcher.into(),
            window: ALERT_WINDOW_DEFAULT,
            messages_per_window: ALERT_MESSAGES_PER_WINDOW_MAX,
            stalled_after: ALERT_STALLED_AFTER_DEFAULT,
            outbox_age: ALERT_OUTBOX_AGE_DEFAULT,
            parked_age: ALERT_PARKED_AGE_DEFAULT,
            remind_after: ALERT_REMIND_AFTER_DEFAULT,
            look_every: ALERT_LOOK_INTERVAL_DEFAULT,
        }
    }
}

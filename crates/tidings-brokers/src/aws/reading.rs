//! How a queue is read, as a URL says: for how long messages are kept, how long polls wait, how many run ahead.

use crate::BrokerUrl;
use std::time::Duration;
use tidings_core::broker::BrokerError;
use tidings_core::limits::{
    SQS_HELD_MAX, SQS_POLLERS_MAX, SQS_PREFETCH_DEFAULT, SQS_PREFETCH_MAX, SQS_VISIBILITY_DEFAULT,
    SQS_WAIT_DEFAULT, SQS_WAIT_MAX,
};

/// How a queue is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// How long a message is kept from others at once; kept on for as long as it is open.
    pub(crate) visibility: Duration,
    /// The longest wait of one poll, where the visibility leaves room for it.
    pub(crate) wait_max: Duration,
    /// Messages that may wait to be handed out before polling pauses.
    pub(crate) prefetch: usize,
    /// Polls at the same time.
    pub(crate) pollers: usize,
}

/// Parameters of the URL that say how a queue is read.
pub(crate) const PARAMETERS: &[&str] = &["visibility", "wait", "prefetch", "pollers"];
/// The shortest time for which a message is kept from others at once: it is extended three times in it.
const VISIBILITY_SECONDS_MIN: u64 = 3;

impl Reading {
    pub(crate) fn of(url: &BrokerUrl) -> Result<Self, BrokerError> {
        let seconds = |name, least, most: Duration| url.number(name, least, most.as_secs());
        let visibility = seconds("visibility", VISIBILITY_SECONDS_MIN, SQS_HELD_MAX)?;
        let wait = seconds("wait", 0, SQS_WAIT_MAX)?;
        let count = |name, most: usize| -> Result<Option<usize>, BrokerError> {
            let number = url.number(name, 1, most as u64)?;
            Ok(number.and_then(|number| usize::try_from(number).ok()))
        };
        Ok(Self {
            visibility: visibility.map_or(SQS_VISIBILITY_DEFAULT, Duration::from_secs),
            wait_max: wait.map_or(SQS_WAIT_DEFAULT, Duration::from_secs),
            prefetch: count("prefetch", SQS_PREFETCH_MAX)?.unwrap_or(SQS_PREFETCH_DEFAULT),
            pollers: count("pollers", SQS_POLLERS_MAX)?.unwrap_or(1),
        })
    }

    /// What is open is extended each time so long has passed.
    pub(crate) fn turn(&self) -> Duration {
        self.visibility / 3
    }

    /// How long a poll may wait. The time of what it brings counts from its begin, because nobody tells when in the poll a message was handed out: with a
    /// longer wait it could have run out on its way.
    pub(crate) fn wait_max(&self) -> Duration {
        let whole = Duration::from_secs(self.turn().as_secs());
        self.wait_max.min(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_does_not_wait_until_the_time_of_what_it_brings_has_run_out() {
        let waits = |parameters: &str| {
            let url = format!("sns+sqs://?{parameters}").parse().unwrap();
            Reading::of(&url).unwrap().wait_max().as_secs()
        };

        assert_eq!(waits("visibility=30"), 5);
        assert_eq!(waits("visibility=30&wait=20"), 10);
        assert_eq!(waits("visibility=5&wait=20"), 1);
        assert_eq!(waits("visibility=3&wait=0"), 0);
    }
}

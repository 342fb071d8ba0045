//! The waits between attempts in place. Pure.

use std::time::Duration;
use tidings_core::limits::{RETRY_BACKOFF_FIRST, RETRY_BACKOFF_MAX};

/// How long to wait between attempts: it doubles from `first` up to `max`, less a random part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Chance takes away at most this share of a wait, in percent, so that keys that failed together do not come back together.
    pub jitter_percent: u8,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: RETRY_BACKOFF_FIRST,
            max: RETRY_BACKOFF_MAX,
            jitter_percent: 50,
        }
    }
}

impl Backoff {
    /// The wait after so many failures, from 1; `random` are random bits.
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.max);
        whole.saturating_sub(self.jitter(whole, random))
    }

    /// A random part of a wait, at most as much of it as chance may take away.
    pub(crate) fn jitter(&self, whole: Duration, random: u64) -> Duration {
        let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
        let jitter_max = nanos / 100 * u64::from(self.jitter_percent.min(100));
        // The upper half of the product scales the random bits down to 0..jitter_max.
        let jitter = (u128::from(jitter_max) * u128::from(random)) >> 64;
        Duration::from_nanos(u64::try_from(jitter).unwrap_or(jitter_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_stays_between_its_jitter_and_its_maximum(
            failures in 1_u32..2_000, random: u64, jitter_percent in 0_u8..=100,
        ) {
            let backoff = Backoff {
                first: Duration::from_millis(50),
                max: Duration::from_secs(10),
                jitter_percent,
            };

            let delay = backoff.delay(failures, random);

            let whole = Duration::from_millis(50)
                .saturating_mul(2_u32.saturating_pow(failures - 1))
                .min(Duration::from_secs(10));
            prop_assert!(delay <= whole);
            prop_assert!(delay >= whole * u32::from(100 - jitter_percent) / 100);
        }
    }

    #[test]
    fn jitter_spreads_waits() {
        let backoff = Backoff::default();

        assert_eq!(backoff.delay(1, 0), Duration::from_millis(50));
        assert_eq!(backoff.delay(2, 0), Duration::from_millis(100));
        assert!(backoff.delay(1, u64::MAX) < Duration::from_micros(25_001));
        assert!(backoff.delay(1, u64::MAX / 2) > Duration::from_micros(37_000));
    }
}

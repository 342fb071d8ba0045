//! How many handlings a group may start a second: a bucket that fills evenly. Pure.

use std::time::Duration;

/// The share of a second's handlings that may start at once after a quiet time.
const BURST: f64 = 0.1;

/// What a group may start.
#[derive(Debug, Clone)]
pub(crate) struct Ration {
    per_second: f64,
    /// Handlings that may start now; below nothing after a batch that was larger.
    allowance: f64,
    filled_at: Duration,
}

impl Ration {
    /// A full bucket at the time `now`.
    pub(crate) fn new(per_second: u32, now: Duration) -> Self {
        let mut ration = Self {
            per_second: f64::from(per_second.max(1)),
            allowance: 0.0,
            filled_at: now,
        };
        ration.allowance = ration.capacity();
        ration
    }

    fn capacity(&self) -> f64 {
        (self.per_second * BURST).max(1.0)
    }

    /// How many may start at a time.
    pub(crate) fn allows(&mut self, now: Duration) -> usize {
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = now.max(self.filled_at);
        self.allowance = (self.allowance + passed * self.per_second).min(self.capacity());
        if self.allowance < 1.0 {
            return 0;
        }
        // At most what a bucket holds, which is far within a number of this kind.
        self.allowance.floor() as usize
    }

    /// So many have started.
    pub(crate) fn used(&mut self, count: usize) {
        self.allowance -= count as f64;
    }

    /// How long until the next one may start, counted from the last look.
    pub(crate) fn next_in(&self) -> Duration {
        let missing = (1.0 - self.allowance).max(0.0);
        // A little more, so that a look then finds a whole one.
        Duration::from_secs_f64(missing / self.per_second) + Duration::from_micros(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_a_burst_and_never_much_less(
            per_second in 1_u32..5_000, steps in prop::collection::vec((0_u64..200_000, 1_usize..50), 1..200),
        ) {
            let mut now = Duration::ZERO;
            let mut ration = Ration::new(per_second, now);
            let mut started = 0;
            for (micros, wanted) in steps {
                now += Duration::from_micros(micros);
                let allowed = ration.allows(now).min(wanted);
                ration.used(allowed);
                started += allowed;
                let most = f64::from(per_second) * (now.as_secs_f64() + BURST) + 1.0;
                prop_assert!(started as f64 <= most + 1e-6, "{started} of {most}");
            }
            let left = ration.allows(now);
            ration.used(left);
            let next = now + ration.next_in();
            prop_assert!(ration.allows(next) >= 1);
        }
    }
}

//! Time and chance of tests: a clock that is moved by hand, chance that repeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidings_core::seam::{Chance, Clock};
use tidings_core::{BoxFuture, Timestamp};
use tokio::sync::watch;

/// A clock that stands still until it is moved.
pub(crate) struct ManualClock {
    micros: watch::Sender<u64>,
}

impl ManualClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            micros: watch::Sender::new(0),
        })
    }

    pub(crate) fn advance(&self, duration: Duration) {
        self.micros
            .send_modify(|micros| *micros += duration.as_micros() as u64);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000).plus(self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(*self.micros.borrow())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut micros = self.micros.subscribe();
        let until = (self.elapsed() + duration).as_micros() as u64;
        Box::pin(async move {
            let _moved = micros.wait_for(|micros| *micros >= until).await;
        })
    }
}

/// Chance that counts.
#[derive(Default)]
pub(crate) struct CountingChance(AtomicU64);

impl CountingChance {
    pub(crate) fn starting_at(count: u64) -> Self {
        Self(AtomicU64::new(count))
    }

    /// A number below `sides`.
    pub(crate) fn roll(&self, sides: usize) -> usize {
        (self.next_u64() >> 32) as usize % sides
    }
}

impl Chance for CountingChance {
    fn next_u64(&self) -> u64 {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        count.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

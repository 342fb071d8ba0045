//! Time that passes at once: whenever a scenario's runtime has nothing to do but wait, the wait is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidings_core::seam::{Chance, Clock};
use tidings_core::{BoxFuture, Timestamp};
use tokio::time::Instant;

/// 2024-01-15T10:30:00Z: a fixed start, so that a scenario's timestamps repeat.
const START: Timestamp = Timestamp::from_micros(1_705_314_600_000_000);

/// A wait of so long, or longer, never ends: it stands for no limit.
pub(crate) const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// The clock of a tokio runtime whose time is paused.
#[derive(Debug)]
pub(crate) struct VirtualTime {
    origin: Instant,
}

impl VirtualTime {
    /// Begins now; call it inside the runtime.
    #[expect(
        clippy::disallowed_methods,
        reason = "the runtime's time is paused, so this is the scenario's own time"
    )]
    pub(crate) fn begin() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Clock for VirtualTime {
    fn now(&self) -> Timestamp {
        START.plus(self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if duration >= NEVER {
            return Box::pin(std::future::pending());
        }
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Random bits that repeat from run to run.
#[derive(Debug, Default)]
pub(crate) struct RepeatableChance {
    drawn: AtomicU64,
}

impl Chance for RepeatableChance {
    fn next_u64(&self) -> u64 {
        // SplitMix64: each count gives well mixed bits.
        let count = self.drawn.fetch_add(1, Ordering::Relaxed) + 1;
        let mut bits = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

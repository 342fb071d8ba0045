//! The machine's own clock, chance and tasks: the one place that reads the time, draws random bits and spawns.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidings_core::limits::{RETRY_BACKOFF_FIRST, RETRY_BACKOFF_MAX};
use tidings_core::seam::{Chance, Clock};
use tidings_core::{BoxFuture, Timestamp};
use tokio::task::JoinSet;

/// The machine's clock; waiting needs a tokio runtime with its timer enabled.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose [`elapsed`](Clock::elapsed) counts from now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the home of the machine's time"
    )]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the home of the machine's time"
    )]
    fn now(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)
            }
        };
        Timestamp::from_micros(micros)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the home of the machine's time"
    )]
    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// The machine's randomness: good enough for jitter and ids, not for secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the home of the machine's randomness"
    )]
    fn next_u64(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// How long whoever meets trouble of a broker waits before it is asked again: from 50 ms, doubled with each further failure in a row, up to 10 s.
///
/// ```
/// use std::time::Duration;
/// use tidings_flow::runtime::broker_backoff;
/// assert_eq!(broker_backoff(0), Duration::from_millis(50));
/// assert_eq!(broker_backoff(1), Duration::from_millis(100));
/// assert_eq!(broker_backoff(99), Duration::from_secs(10));
/// ```
pub fn broker_backoff(failures: u32) -> Duration {
    // At 16 it is far beyond the maximum; a longer shift would overflow.
    RETRY_BACKOFF_FIRST
        .saturating_mul(1 << failures.min(16))
        .min(RETRY_BACKOFF_MAX)
}

/// Tasks with one owner: they are stopped when the owner is dropped.
#[derive(Debug)]
pub(crate) struct Tasks<T: Send + 'static> {
    set: JoinSet<T>,
}

impl<T: Send + 'static> Tasks<T> {
    /// No tasks yet.
    pub(crate) fn new() -> Self {
        Self {
            set: JoinSet::new(),
        }
    }

    /// Runs a future as a task of its own.
    pub(crate) fn spawn(&mut self, future: impl Future<Output = T> + Send + 'static) {
        self.set.spawn(future);
    }

    /// Waits for all tasks and answers what those returned that ended by themselves.
    ///
    /// **Cancel**: what tasks have returned so far is lost, the tasks go on.
    pub(crate) async fn join_all(&mut self) -> Vec<T> {
        let mut outputs = Vec::new();
        while let Some(joined) = self.set.join_next().await {
            // A panic of ours was reported by the task's own watch; a stopped task has no output.
            if let Ok(output) = joined {
                outputs.push(output);
            }
        }
        outputs
    }

    /// Waits for the next task to end: its output, or nothing of a task that panicked. Without any task it waits for ever.
    ///
    /// **Cancel**: no effect.
    pub(crate) async fn join_next(&mut self) -> Option<T> {
        match self.set.join_next().await {
            Some(joined) => joined.ok(),
            None => std::future::pending().await,
        }
    }

    /// Stops all tasks at their next await, without waiting for it.
    pub(crate) fn abort_all(&mut self) {
        self.set.abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_clock_goes_forward() {
        let clock = SystemClock::new();
        let before = clock.elapsed();

        clock.sleep(Duration::from_millis(1)).await;

        assert!(clock.elapsed() >= before + Duration::from_millis(1));
        assert!(clock.now() > Timestamp::from_micros(1_700_000_000_000_000));
    }

    #[tokio::test]
    async fn tasks_end_with_their_owner() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let mut tasks = Tasks::new();
        tasks.spawn(async move {
            let _kept = sender;
            std::future::pending::<()>().await;
        });

        drop(tasks);

        assert!(receiver.await.is_err(), "the task was dropped");
    }
}

//! The task that fires what is due.

use super::firing::fire;
use crate::runtime::Tasks;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidings_core::limits::{SCHEDULE_BACKOFF_MAX, SCHEDULE_FIRE_MAX, SCHEDULE_TICK};
use tidings_core::seam::Clock;
use tidings_core::store::{Firing, ScheduleStore, ScheduledEvent, StoreError};
use tokio::sync::Notify;

/// Fires scheduled events for as long as it lives; as many as like may work on one store.
///
/// **Guarantee**: an event is fired once, never before it is due by the store's clock, and at most [`SCHEDULE_TICK`] later where store and outbox answer.
#[derive(Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
    /// Guards the task; taken when it is stopped.
    tasks: Mutex<Tasks<()>>,
}

/// What a scheduler has done since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchedulerStats {
    /// Events that it has put into the outbox.
    pub fired: u64,
    /// Why something that is due could not be fired, by the id of its schedule; they are tried again.
    pub failing: HashMap<String, String>,
    /// Why the store does not answer, while it does not.
    pub trouble: Option<String>,
}

struct Shared {
    store: Arc<dyn ScheduleStore>,
    clock: Arc<dyn Clock>,
    wake: Notify,
    fired: AtomicU64,
    /// Guards what does not work; held to look or to change.
    failing: Mutex<(HashMap<String, String>, Option<String>)>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.store.name()).finish()
    }
}

impl Scheduler {
    /// Begins to fire what is due there. Needs a tokio runtime.
    pub fn start(store: Arc<dyn ScheduleStore>, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared {
            store,
            clock,
            wake: Notify::new(),
            fired: AtomicU64::new(0),
            failing: Mutex::default(),
        });
        let mut tasks = Tasks::new();
        let work = Arc::clone(&shared);
        tasks.spawn(async move { work.run().await });
        Self {
            shared,
            tasks: Mutex::new(tasks),
        }
    }

    /// Lets it look at once, because something was scheduled here.
    pub fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Fires nothing more. What it was about to fire is fired by whoever comes next.
    pub fn stop(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
    }

    /// What it has done, and what does not work.
    pub fn stats(&self) -> SchedulerStats {
        let (failing, trouble) = self.shared.failing().clone();
        SchedulerStats {
            fired: self.shared.fired.load(Ordering::Relaxed),
            failing,
            trouble,
        }
    }
}

impl Shared {
    fn failing(&self) -> std::sync::MutexGuard<'_, (HashMap<String, String>, Option<String>)> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self) {
        let mut failures: u32 = 0;
        loop {
            let wait = match self.look().await {
                Ok(wait) => {
                    failures = 0;
                    self.failing().1 = None;
                    wait
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(store = self.store.name(), %error, "scheduled events wait");
                    }
                    self.failing().1 = Some(error.to_string());
                    failures = failures.saturating_add(1);
                    let backoff = SCHEDULE_TICK.saturating_mul(1 << failures.min(16));
                    backoff.min(SCHEDULE_BACKOFF_MAX)
                }
            };
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Fires what is due, and answers how long to wait.
    async fn look(&self) -> Result<Duration, StoreError> {
        let due = self.store.due(SCHEDULE_FIRE_MAX).await?;
        let mut fired_any = false;
        let mut failing = HashMap::new();
        for scheduled in &due.events {
            match self.fire(scheduled, due.now).await {
                Ok(fired) => fired_any |= fired,
                Err(Unfired::Store(error)) if error.class().is_transient() => return Err(error),
                Err(error) => {
                    let reason = error.to_string();
                    if self.failing().0.get(&scheduled.id) != Some(&reason) {
                        tracing::warn!(schedule = scheduled.id, "cannot fire: {reason}");
                    }
                    failing.insert(scheduled.id.clone(), reason);
                }
            }
        }
        self.failing().0 = failing;
        if fired_any {
            // There may be more than was asked for.
            return Ok(Duration::ZERO);
        }
        // What cannot be fired is due all the time, and looked at again at the next tick.
        let next = due.next_in.filter(|next| !next.is_zero());
        Ok(next.unwrap_or(SCHEDULE_TICK).min(SCHEDULE_TICK))
    }

    async fn fire(
        &self,
        scheduled: &ScheduledEvent,
        now: tidings_core::Timestamp,
    ) -> Result<bool, Unfired> {
        let (event, next) = fire(scheduled, now)?;
        let firing = Firing {
            scheduled,
            event: &event,
            next,
        };
        let fired = self.store.fire(&firing).await?;
        if fired {
            self.fired.fetch_add(1, Ordering::Relaxed);
        }
        Ok(fired)
    }
}

/// Why something that is due was not fired.
#[derive(Debug, thiserror::Error)]
enum Unfired {
    #[error(transparent)]
    Schedule(#[from] super::ScheduleError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

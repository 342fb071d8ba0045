//! A watcher at work: its handler for facts, its figures, its end.

use super::handler::FactHandler;
use super::stats::WatchStats;
use crate::handler::DeliveryHandler;
use crate::runtime::Tasks;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::seam::Clock;
use tokio::sync::{Notify, watch};

/// A watcher at work. Dropped, it stops where it is: what was concluded is kept, and goes on at the next start.
pub struct RunningWatch {
    pub(super) handler: Arc<FactHandler>,
    pub(super) stats: watch::Receiver<WatchStats>,
    pub(super) look_now: Arc<Notify>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) tasks: Tasks<()>,
    pub(super) clock: Arc<dyn Clock>,
}

impl RunningWatch {
    /// What a consumer group hands facts of dead letters to. A fact is settled once it is counted durably.
    pub fn handler(&self) -> Arc<dyn DeliveryHandler> {
        Arc::clone(&self.handler) as Arc<dyn DeliveryHandler>
    }

    /// What it has done so far.
    pub fn stats(&self) -> WatchStats {
        self.stats.borrow().clone()
    }

    /// Tells what it has done so far, whenever that changes.
    pub fn watch_stats(&self) -> watch::Receiver<WatchStats> {
        self.stats.clone()
    }

    /// Looks at once, and waits until that look is over and no message waits for a channel.
    ///
    /// **Cancel**: no effect.
    pub async fn settled(&self) {
        let mut stats = self.stats.clone();
        // The first look to end may have begun before this was asked; the second has not.
        for _ in 0..2 {
            let looks = stats.borrow().looks;
            self.look_now.notify_one();
            // It fails only where the watcher has stopped, and then nothing waits for it either.
            let _ = stats.wait_for(|stats| stats.looks > looks).await;
        }
        let _ = stats.wait_for(|stats| stats.waiting() == 0).await;
    }

    /// Stops once the messages on their way have their answer, after a time limit where they are; the others go out at the next start.
    ///
    /// **Cancel**: it stops where it is.
    pub async fn stop(mut self, limit: Duration) {
        // It fails only where the watcher has stopped.
        let _ = self.stop.send(true);
        tokio::select! {
            _ = self.tasks.join_all() => {}
            () = self.clock.sleep(limit) => self.tasks.abort_all(),
        }
    }
}

impl std::fmt::Debug for RunningWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningWatch")
            .field("stats", &*self.stats.borrow())
            .finish_non_exhaustive()
    }
}

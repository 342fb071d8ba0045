//! A running consumer: the handle by which it is paused, awaited and drained.

use super::error::DrainError;
use super::handle::ConsumerHandle;
use super::pipeline::Pipeline;
use super::{fetch, keeper, parker, settling, work};
use crate::runtime::Tasks;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::broker::{Receive, Resumed};

/// A consumer that works. Dropping it stops it where it is, without settling what is in flight; [`drain`](Self::drain) is the gentle way.
///
/// What can be asked of it is asked of its [`ConsumerHandle`].
pub struct RunningConsumer {
    handle: ConsumerHandle,
    fetching: Tasks<Box<dyn Receive>>,
    working: Tasks<()>,
    settling: Tasks<()>,
    timing: Tasks<()>,
    /// The keeper, where there is a store of failures.
    keeping: Tasks<()>,
}

impl std::fmt::Debug for RunningConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningConsumer")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

impl Deref for RunningConsumer {
    type Target = ConsumerHandle;

    fn deref(&self) -> &ConsumerHandle {
        &self.handle
    }
}

impl Drop for RunningConsumer {
    fn drop(&mut self) {
        self.handle.ended();
    }
}

impl RunningConsumer {
    pub(super) fn start(
        pipeline: Arc<Pipeline>,
        receive: Box<dyn Receive>,
        resumed: Option<Resumed>,
    ) -> Self {
        let mut fetching = Tasks::new();
        let mut working = Tasks::new();
        let mut settling = Tasks::new();
        let mut timing = Tasks::new();
        let mut keeping = Tasks::new();
        for worker in 0..pipeline.workers.len() {
            working.spawn(work::work(Arc::clone(&pipeline), worker));
        }
        settling.spawn(settling::settle(Arc::clone(&pipeline)));
        timing.spawn(settling::keep_time(Arc::clone(&pipeline)));
        if let Some(store) = &pipeline.failures {
            keeping.spawn(keeper::keep(Arc::clone(&pipeline), Arc::clone(store)));
            timing.spawn(parker::pick_up(Arc::clone(&pipeline), Arc::clone(store)));
        }
        fetching.spawn(fetch::fetch(Arc::clone(&pipeline), receive, resumed));
        Self {
            handle: ConsumerHandle { pipeline },
            fetching,
            working,
            settling,
            timing,
            keeping,
        }
    }

    /// A view of this consumer for those who do not own it.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    /// Stops fetching, lets the handlers that run finish, settles, makes it durable and leaves the group. At the deadline the rest is cancelled.
    ///
    /// Of what is queued only events older than the newest one started are still handled, for half of the time at most: then the group's place in the log has no
    /// gap, and the next start handles nothing twice. A paused consumer starts nothing at all.
    ///
    /// **Guarantee**: after `Ok` everything handled is settled durably; nothing that is not settled is lost, it is handled at the next start.
    ///
    /// **Errors**: [`DrainError::Unfinished`] if handlers were cancelled, [`DrainError::Broker`] if the broker could not save; the group is left all the same.
    ///
    /// **Cancel**: as dropping the consumer.
    pub async fn drain(mut self, deadline: Duration) -> Result<(), DrainError> {
        let pipeline = Arc::clone(&self.handle.pipeline);
        let mut over = pipeline.clock.sleep(deadline);
        pipeline.begin_drain();
        // The receive half is kept until the group is left: a broker may take its drop for a farewell.
        let receive = tokio::select! {
            biased;
            receive = self.fetching.join_all() => Some(receive),
            () = &mut over => None,
        };
        let in_time = receive.is_some() && self.workers_ended(&mut over, deadline / 2).await;
        let unfinished = if in_time {
            0
        } else {
            pipeline.lock().table.running()
        };
        self.fetching.abort_all();
        self.working.abort_all();
        self.timing.abort_all();
        self.timing.join_all().await;
        pipeline.release_queued();
        // What the store is told last is settled after it.
        pipeline.lock().closing = true;
        pipeline.keeper.notify_one();
        self.keeping.join_all().await;
        parker::give_up_lead(&pipeline).await;
        pipeline.lock().all_told = true;
        pipeline.settler.notify_one();
        self.settling.join_all().await;
        let flushed = pipeline.settle.flush().await;
        if flushed.is_ok() {
            keeper::forget_marks(&pipeline).await;
        }
        pipeline.forget_circuit().await;
        let left = pipeline.settle.leave().await;
        let saved = flushed.and(left);
        drop(receive);
        let group = || pipeline.group.to_string();
        if unfinished > 0 {
            return Err(DrainError::Unfinished {
                group: group(),
                unfinished,
                deadline,
            });
        }
        saved.map_err(|source| DrainError::Broker {
            group: group(),
            source,
        })
    }

    /// Waits for the workers until the deadline; for half of it they may start what is older than the newest event that was started.
    async fn workers_ended(&mut self, over: &mut BoxFuture<'_, ()>, half: Duration) -> bool {
        let half_over = self.handle.pipeline.clock.sleep(half);
        tokio::select! {
            biased;
            _ = self.working.join_all() => return true,
            () = half_over => self.handle.pipeline.stop_starting(),
        }
        tokio::select! {
            biased;
            _ = self.working.join_all() => true,
            () = over => false,
        }
    }
}

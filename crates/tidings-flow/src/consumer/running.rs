//! A running consumer: the handle by which it is paused, awaited and drained.

use super::error::{ConsumerError, DrainError};
use super::pipeline::{Pipeline, Progress};
use super::stats::ConsumerStats;
use super::{fetch, settling, work};
use crate::runtime::Tasks;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{BrokerError, GroupLag, GroupName, Receive, Resumed};

/// A consumer that works. Dropping it stops it where it is, without settling what is in flight; [`drain`](Self::drain) is the gentle way.
pub struct RunningConsumer {
    pipeline: Arc<Pipeline>,
    fetching: Tasks<Box<dyn Receive>>,
    working: Tasks<()>,
    settling: Tasks<()>,
    timing: Tasks<()>,
}

impl std::fmt::Debug for RunningConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningConsumer")
            .field("group", &self.pipeline.group)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
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
        for worker in 0..pipeline.workers.len() {
            working.spawn(work::work(Arc::clone(&pipeline), worker));
        }
        settling.spawn(settling::settle(Arc::clone(&pipeline)));
        timing.spawn(settling::keep_time(Arc::clone(&pipeline)));
        fetching.spawn(fetch::fetch(Arc::clone(&pipeline), receive, resumed));
        Self {
            pipeline,
            fetching,
            working,
            settling,
            timing,
        }
    }

    /// The group that it works for.
    pub fn group(&self) -> &GroupName {
        &self.pipeline.group
    }

    /// Starts no further handlings; those that run go on, and events are fetched until as many wait as may be in flight.
    pub fn pause(&self) {
        self.pipeline.set_paused_by_user(true);
    }

    /// Goes on after [`pause`](Self::pause). A group that waits because the broker refuses its events goes on by itself.
    pub fn resume(&self) {
        self.pipeline.set_paused_by_user(false);
    }

    /// What it has done, and where it stands.
    pub fn stats(&self) -> ConsumerStats {
        self.pipeline.stats()
    }

    /// How far the group is behind, in events and in time.
    ///
    /// **Errors**: [`BrokerError::Unsupported`] on a broker that cannot tell.
    pub async fn lag(&self) -> Result<GroupLag, BrokerError> {
        let broker = &self.pipeline.broker;
        match broker.admin() {
            Some(admin) => admin.lag(&self.pipeline.group).await,
            None => Err(BrokerError::Unsupported {
                broker: broker.capabilities().name,
                what: "tell how far a group is behind".to_owned(),
            }),
        }
    }

    /// Waits until the group has caught up and nothing is in flight: everything that was durable is handled, retries and what its handlers emitted included.
    ///
    /// A paused group with events in flight is not idle.
    ///
    /// **Errors**: [`ConsumerError::Stopped`].
    ///
    /// **Cancel**: no effect.
    pub async fn wait_idle(&self) -> Result<(), ConsumerError> {
        let request = {
            let mut state = self.pipeline.lock();
            state.idle_requested += 1;
            state.idle_requested
        };
        self.pipeline.receiver.notify_one();
        self.wait_for(|progress| progress.idle_answered >= request)
            .await
    }

    /// Waits until nothing is left for a group that was started with `until_end`: it has caught up, nothing is in flight, and what its handlers emitted was
    /// handled or is not for it. Without `until_end` it waits for ever.
    ///
    /// **Errors**: [`ConsumerError::Stopped`].
    ///
    /// **Cancel**: no effect.
    pub async fn finished(&self) -> Result<(), ConsumerError> {
        self.wait_for(|progress| progress.finished).await
    }

    async fn wait_for(
        &self,
        mut reached: impl FnMut(&Progress) -> bool,
    ) -> Result<(), ConsumerError> {
        let mut progress = self.pipeline.progress.subscribe();
        // The sender lives in the pipeline, which outlives this call.
        let Ok(progress) = progress
            .wait_for(|progress| reached(progress) || progress.stopped.is_some())
            .await
        else {
            return Ok(());
        };
        match &progress.stopped {
            Some((reason, code)) if !reached(&progress) => {
                Err(self.pipeline.stopped_error(reason.clone(), *code))
            }
            _ => Ok(()),
        }
    }

    /// Stops fetching, lets the handlers that run finish, settles, makes it durable and leaves the group. At the deadline the rest is cancelled.
    ///
    /// **Guarantee**: after `Ok` everything handled is settled durably; nothing that is not settled is lost, it is handled at the next start.
    ///
    /// **Errors**: [`DrainError::Unfinished`] if handlers were cancelled, [`DrainError::Broker`] if the broker could not save; the group is left all the same.
    ///
    /// **Cancel**: as dropping the consumer.
    pub async fn drain(mut self, deadline: Duration) -> Result<(), DrainError> {
        let pipeline = Arc::clone(&self.pipeline);
        let mut over = pipeline.clock.sleep(deadline);
        pipeline.begin_drain();
        // The receive half is kept until the group is left: a broker may take its drop for a farewell.
        let receive = tokio::select! {
            biased;
            receive = self.fetching.join_all() => Some(receive),
            () = &mut over => None,
        };
        let in_time = receive.is_some()
            && tokio::select! {
                biased;
                _ = self.working.join_all() => true,
                () = &mut over => false,
            };
        let unfinished = if in_time {
            0
        } else {
            pipeline.lock().table.running()
        };
        self.fetching.abort_all();
        self.working.abort_all();
        self.timing.abort_all();
        pipeline.release_queued();
        pipeline.lock().closing = true;
        pipeline.settler.notify_one();
        self.settling.join_all().await;
        let saved = match pipeline.settle.flush().await {
            Ok(()) => pipeline.settle.leave().await,
            Err(error) => pipeline.settle.leave().await.and(Err(error)),
        };
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
}

//! A handle by which a running consumer is looked at, paused and awaited, by whoever does not own it.

use super::error::ConsumerError;
use super::pipeline::{Handler, Pipeline, Progress};
use super::stats::ConsumerStats;
use std::sync::Arc;
use tidings_core::broker::{BrokerError, GroupLag, GroupName};
use tidings_core::codes;
use tidings_core::extract::DeliveryGuarantee;

/// A view of a [`RunningConsumer`](super::RunningConsumer) that can be cloned and handed around; it keeps nothing running.
#[derive(Clone)]
pub struct ConsumerHandle {
    pub(super) pipeline: Arc<Pipeline>,
}

impl std::fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerHandle")
            .field("group", &self.pipeline.group)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl ConsumerHandle {
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

    /// What may be said of the effects of its handlers when events are delivered more than once: the weakest of what they [claim](DeliveryGuarantee).
    pub fn delivery(&self) -> DeliveryGuarantee {
        let claims = self.pipeline.handlers.iter().map(Handler::delivery);
        claims.min().unwrap_or(DeliveryGuarantee::AtLeastOnce)
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

    /// Waits until the circuit of the group is open: nearly everything fails, and it waits. See [`Breaker`](super::Breaker).
    ///
    /// **Errors**: [`ConsumerError::Stopped`].
    ///
    /// **Cancel**: no effect.
    pub async fn circuit_opened(&self) -> Result<(), ConsumerError> {
        self.wait_for(|progress| progress.circuit_open).await
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

    /// Tells those who wait that nothing more comes.
    pub(super) fn ended(&self) {
        self.pipeline.progress.send_modify(|progress| {
            progress
                .stopped
                .get_or_insert_with(|| ("it was drained or dropped".to_owned(), codes::CLOSED));
        });
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
}

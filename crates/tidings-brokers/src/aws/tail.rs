//! Reading along without a group: a queue of its own, from now on, removed when the reading ends.

use std::sync::{Arc, Mutex, PoisonError};
use tidings_core::BoxFuture;
use tidings_core::broker::{
    BrokerError, Received, SettleAction, SettleError, Subscription, Tail, TailPage, Tailed, Token,
};
use tokio::task::JoinHandle;

/// Removes the queue of a tail and what sends to it.
pub(crate) type Remove = Box<dyn FnOnce() -> BoxFuture<'static, Result<(), BrokerError>> + Send>;

/// Removals that are under way, for whoever closes the broker.
pub(crate) type Removals = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// A tail that reads a queue of its own.
pub(crate) struct QueueTail {
    subscription: Option<Subscription>,
    name: Arc<str>,
    remove: Option<Remove>,
    removals: Removals,
    /// Events that were given and are not deleted yet.
    given: Vec<(Token, SettleAction)>,
    told: bool,
}

impl QueueTail {
    pub(crate) fn new(
        subscription: Subscription,
        name: &str,
        remove: Remove,
        removals: Removals,
    ) -> Self {
        Self {
            subscription: Some(subscription),
            name: name.into(),
            remove: Some(remove),
            removals,
            given: Vec::new(),
            told: false,
        }
    }
}

impl Tail for QueueTail {
    fn next(&mut self, events_max: usize) -> BoxFuture<'_, Result<TailPage, BrokerError>> {
        Box::pin(async move {
            if !self.told {
                // It begins behind everything that is there: the end is reached at once.
                self.told = true;
                return Ok(TailPage {
                    events: Vec::new(),
                    at_end: true,
                });
            }
            let Some(subscription) = &mut self.subscription else {
                return Err(BrokerError::Closed);
            };
            loop {
                if !self.given.is_empty() {
                    let deleted = subscription.settle.settle(&self.given).await;
                    let mut deleted = deleted.into_iter();
                    // What could not be deleted is kept from coming again until it can.
                    self.given
                        .retain(|_| matches!(deleted.next(), Some(Err(SettleError::Broker(_)))));
                }
                let Received::Deliveries { deliveries, .. } =
                    subscription.receive.receive(events_max).await?
                else {
                    continue;
                };
                let acks = deliveries
                    .iter()
                    .map(|delivery| (delivery.token, SettleAction::Ack));
                self.given.extend(acks);
                let events = deliveries.into_iter().map(|delivery| Tailed {
                    place: self.name.clone(),
                    position: None,
                    append_time: delivery.append_time,
                    envelope: delivery.envelope,
                    problem: delivery.problem,
                });
                return Ok(TailPage {
                    events: events.collect(),
                    at_end: false,
                });
            }
        })
    }
}

impl Drop for QueueTail {
    // The broker owns the removal and awaits it when it is closed.
    fn drop(&mut self) {
        let (Some(subscription), Some(remove)) = (self.subscription.take(), self.remove.take())
        else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let name = self.name.clone();
        let removal = runtime.spawn(async move {
            // Its messages go with the queue.
            drop(subscription.settle.leave().await);
            if let Err(error) = remove().await {
                tracing::warn!(%error, queue = %name, "the queue of a tail could not be removed");
            }
        });
        let mut removals = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        removals.retain(|removal| !removal.is_finished());
        removals.push(removal);
    }
}

/// Awaits the removals that are under way.
pub(crate) async fn finish(removals: &Removals) {
    let under_way = {
        let mut removals = removals.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *removals)
    };
    for removal in under_way {
        // A removal that panicked has nothing left to end.
        drop(removal.await);
    }
}

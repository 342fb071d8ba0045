//! An instance of a group at the port itself, without the runtime: receives, counts, settles.

use super::ground::Ground;
use std::collections::BTreeSet;
use std::time::Duration;
use tidings_core::Envelope;
use tidings_core::broker::{
    Broker, BrokerError, Delivery, Received, SettleAction, SettleError, Subscription,
};

/// Events asked for at once.
const RECEIVE_EVENTS: usize = 100;

/// An instance of a group.
pub(super) struct Member {
    pub(super) subscription: Subscription,
    /// Scopes that were taken away so far: a cause for deliveries that come again.
    pub(super) losses: usize,
    /// How long it waits for what must come.
    pub(super) idle_max: Duration,
}

impl Member {
    pub(super) async fn join(ground: &Ground, broker: &dyn Broker, group: &str) -> Self {
        Self::of(ground, ground.subscribe(broker, group).await)
    }

    pub(super) fn of(ground: &Ground, subscription: Subscription) -> Self {
        Self {
            subscription,
            losses: 0,
            idle_max: ground.traits.idle_max,
        }
    }

    /// The next deliveries; none if nothing comes for so long. Trouble of the broker is waited out, as the runtime does.
    pub(super) async fn next(&mut self, events_max: usize, patience: Duration) -> Vec<Delivery> {
        let waiting = self.deliveries(events_max);
        tokio::time::timeout(patience, waiting)
            .await
            .unwrap_or_default()
    }

    async fn deliveries(&mut self, events_max: usize) -> Vec<Delivery> {
        loop {
            match self.subscription.receive.receive(events_max).await {
                Ok(Received::Deliveries { deliveries, .. }) if !deliveries.is_empty() => {
                    return deliveries;
                }
                Ok(Received::Lost(_) | Received::Revoked(_)) => self.losses += 1,
                Ok(Received::Deliveries { .. } | Received::Assigned(_)) => {}
                Err(error) if error.class().is_transient() => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("receiving failed: {error}"),
            }
        }
    }

    /// Exactly so many deliveries, unsettled.
    pub(super) async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let more = self.next(count - taken.len(), self.idle_max).await;
            assert!(
                !more.is_empty(),
                "{} of {count} deliveries came, then none for {:?}",
                taken.len(),
                self.idle_max
            );
            taken.extend(more);
        }
        taken
    }

    /// Settles all of them in the same way.
    pub(super) async fn settle(&mut self, deliveries: &[Delivery], action: SettleAction) {
        let outcomes: Vec<_> = deliveries
            .iter()
            .map(|delivery| (delivery.token, action))
            .collect();
        for answer in self.subscription.settle.settle(&outcomes).await {
            match answer {
                Ok(()) => {}
                Err(SettleError::Stale) => self.losses += 1,
                Err(error) => panic!("settling failed: {error}"),
            }
        }
    }

    pub(super) async fn acknowledge(&mut self, deliveries: &[Delivery]) {
        self.settle(deliveries, SettleAction::Ack).await;
    }

    /// Reads and acknowledges until so many different events were seen, and on for a while: every delivery, in order, also what came twice.
    pub(super) async fn read(&mut self, ground: &Ground, expected: usize) -> Vec<Envelope> {
        let mut seen = Vec::new();
        let mut different = BTreeSet::new();
        while different.len() < expected {
            let deliveries = self.next(RECEIVE_EVENTS, self.idle_max).await;
            assert!(
                !deliveries.is_empty(),
                "{} of {expected} events came, then none for {:?}",
                different.len(),
                self.idle_max
            );
            self.acknowledge(&deliveries).await;
            for delivery in deliveries {
                different.insert(delivery.envelope.event_id().to_owned());
                seen.push(delivery.envelope);
            }
        }
        seen.extend(self.read_on(ground).await);
        seen
    }

    /// Reads and acknowledges until nothing comes for the quiet period.
    pub(super) async fn read_on(&mut self, ground: &Ground) -> Vec<Envelope> {
        let mut seen = Vec::new();
        loop {
            let deliveries = self.next(RECEIVE_EVENTS, ground.traits.quiet).await;
            if deliveries.is_empty() {
                return seen;
            }
            self.acknowledge(&deliveries).await;
            seen.extend(deliveries.into_iter().map(|delivery| delivery.envelope));
        }
    }

    pub(super) async fn leave(self) {
        self.subscription
            .settle
            .leave()
            .await
            .unwrap_or_else(|error| panic!("leaving failed: {error}"));
    }
}

/// Whether a group is refused because another instance works for it.
pub(super) async fn is_leased(ground: &Ground, broker: &dyn Broker, group: &str) -> bool {
    let second = broker.subscribe(&ground.request(group)).await;
    matches!(second, Err(BrokerError::GroupLeased { .. }))
}

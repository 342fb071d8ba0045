//! RabbitMQ: a durable topic exchange, a quorum queue with a single active consumer for each group.

mod admin;
mod config;
mod connection;
mod consumer;
mod mapping;
mod producer;
mod tail;

pub use config::RabbitMqConfig;

use crate::BrokerUrl;
use connection::Link;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, KeyOrder, PublishError, PublishOutcome, Reader,
    SubscribeRequest, Subscription, Tail, TailRequest, TopologyItem, TopologyRequest,
};
use tidings_core::limits::PAYLOAD_BYTES_MAX;
use tidings_core::{BoxFuture, Envelope};

/// What the broker is called in messages.
const NAME: &str = "RabbitMQ";

/// A RabbitMQ server as a broker.
///
/// **Guarantee**: an accepted event is in the log of every quorum queue that wants it, synced. Order of a key is kept across instances: one of them is at work,
/// another takes over when it goes. A group gets what is published once its queue is there, and nothing from before.
pub struct RabbitMqBroker {
    link: Arc<Link>,
}

impl std::fmt::Debug for RabbitMqBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitMqBroker")
            .field("config", &self.link.config)
            .finish_non_exhaustive()
    }
}

impl RabbitMqBroker {
    /// Connects to the server that a URL names, and makes the exchange if it is missing and `ensure=false` does not forbid it.
    ///
    /// **Errors**: a URL that cannot be used, no server in bounded time, a refused login or certificate, an exchange that cannot be made.
    pub async fn connect(url: &BrokerUrl) -> Result<Self, BrokerError> {
        Self::with_config(RabbitMqConfig::from_url(url)?).await
    }

    /// Connects as [`connect`](Self::connect) does.
    ///
    /// **Errors**: as there.
    pub async fn with_config(config: RabbitMqConfig) -> Result<Self, BrokerError> {
        let link = Arc::new(Link::new(config));
        link.line().await?;
        if link.config.ensure {
            admin::ready_exchange(&link).await?;
        }
        Ok(Self { link })
    }

    /// How many events were accepted that no queue wanted; success all the same.
    pub fn unrouted(&self) -> u64 {
        self.link.unrouted.load(Ordering::Relaxed)
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        if *self.link.ends.borrow() {
            return Err(BrokerError::Closed);
        }
        Ok(())
    }
}

impl Broker for RabbitMqBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: NAME,
            key_order: KeyOrder::AcrossInstances,
            group_leased: false,
            // One consumer after the other is the active one of a queue, and is not told that it is.
            tells_assignment: false,
            replay: false,
            old_events_for_late_groups: false,
            payload_bytes_max: PAYLOAD_BYTES_MAX.min(self.link.config.message_bytes_max),
            synced: true,
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            if let Err(closed) = self.check_open() {
                let refused = PublishError::refused(&closed);
                return batch.iter().map(|_| Err(refused.clone())).collect();
            }
            producer::publish(&self.link, batch).await
        })
    }

    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async move {
            self.check_open()?;
            consumer::subscribe(&self.link, request).await
        })
    }

    fn reader(&self) -> Option<&dyn Reader> {
        None
    }

    fn tail<'a>(
        &'a self,
        request: TailRequest,
    ) -> BoxFuture<'a, Result<Box<dyn Tail + 'a>, BrokerError>> {
        Box::pin(async move {
            self.check_open()?;
            let tail = tail::open(&self.link, request).await?;
            Ok(Box::new(tail) as Box<dyn Tail>)
        })
    }

    fn topology<'a>(
        &'a self,
        request: TopologyRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<TopologyItem>, BrokerError>> {
        Box::pin(async move {
            self.check_open()?;
            admin::topology(&self.link, request).await
        })
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(&*self.link)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            if !self.link.ends.send_replace(true) {
                self.link.close().await;
            }
            Ok(())
        })
    }
}

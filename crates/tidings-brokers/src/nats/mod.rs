//! NATS JetStream: one stream of events, a durable pull consumer for each group.

mod admin;
mod config;
mod connection;
mod consumer;
mod keeper;
mod mapping;
mod producer;
mod tail;

pub use config::NatsConfig;

use crate::BrokerUrl;
use connection::Link;
use std::sync::Arc;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, KeyOrder, PublishError, PublishOutcome, Reader,
    SubscribeRequest, Subscription, Tail, TailRequest, TopologyItem, TopologyRequest,
};
use tidings_core::{BoxFuture, Envelope};

/// What the broker is called in messages.
const NAME: &str = "NATS JetStream";

/// A NATS server with JetStream as a broker.
///
/// **Guarantee**: an accepted event is in the stream; whether it survives a power cut is for the server's `sync_interval`, two minutes unless it is set.
/// Order of a key is kept for a group with one instance; several instances share the work without order.
pub struct NatsBroker {
    link: Arc<Link>,
}

impl std::fmt::Debug for NatsBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsBroker")
            .field("config", &self.link.config)
            .finish_non_exhaustive()
    }
}

impl NatsBroker {
    /// Connects to the server that a URL names, and makes the stream if it is missing and `ensure=false` does not forbid it.
    ///
    /// **Errors**: a URL that cannot be used, no server in bounded time, a refused login or certificate, a stream that cannot be made.
    pub async fn connect(url: &BrokerUrl) -> Result<Self, BrokerError> {
        Self::with_config(NatsConfig::from_url(url)?).await
    }

    /// Connects as [`connect`](Self::connect) does.
    ///
    /// **Errors**: as there.
    pub async fn with_config(config: NatsConfig) -> Result<Self, BrokerError> {
        let link = Arc::new(Link::open(config).await?);
        if link.config.ensure && link.find_stream().await?.is_none() {
            admin::create_stream(&link).await?;
        }
        Ok(Self { link })
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        if *self.link.ends.borrow() {
            return Err(BrokerError::Closed);
        }
        Ok(())
    }
}

impl Broker for NatsBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: NAME,
            key_order: KeyOrder::OneInstance,
            group_leased: false,
            tells_assignment: true,
            replay: true,
            old_events_for_late_groups: true,
            payload_bytes_max: self.link.payload_bytes_max(),
            synced: false,
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
            if self.link.ends.send_replace(true) {
                return Ok(());
            }
            // What was sent is on its way; a connection that is lost has nothing to flush.
            let _lost = self.link.within("flush", self.link.client.flush()).await;
            Ok(())
        })
    }
}

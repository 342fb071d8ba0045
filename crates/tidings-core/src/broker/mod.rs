//! The ports of a broker: publish, subscribe, read history, administrate. An adapter implements these and nothing else.

mod admin;
mod capabilities;
mod error;
mod publish;
mod reader;
mod redact;
mod subscription;
mod tail;
mod topology;
mod watermark;

pub use admin::{Admin, GroupLag, GroupName, GroupNameError, GroupStatus, LossAhead};
pub use capabilities::{Capabilities, KeyOrder};
pub use error::BrokerError;
pub use publish::{Destination, PublishError, PublishOutcome, Receipt};
pub use reader::{LookUpBy, LookUpRequest, Page, ReadRequest, Reader, Recorded};
pub use redact::without_password;
pub use subscription::{
    Delivery, Receive, Received, Resumed, Scope, Settle, SettleAction, SettleError, StartAt,
    SubscribeRequest, Subscription, Token,
};
pub use tail::{Tail, TailPage, TailRequest, Tailed};
pub use topology::{TopologyItem, TopologyRequest, TopologyState};
pub use watermark::LowWatermark;

use crate::{BoxFuture, Envelope};
use std::fmt;

/// Where an event stands in the total order of a broker that has one; the first is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The position behind this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What carries envelopes from producers to consumer groups.
///
/// **Source**: seed concept *event broker*.
pub trait Broker: Send + Sync + 'static {
    /// What this broker can do; a consumer is checked against it when it is built.
    fn capabilities(&self) -> Capabilities;

    /// Hands over a batch of at most [`BATCH_EVENTS_MAX`](crate::limits::BATCH_EVENTS_MAX) events, in order.
    ///
    /// **Guarantee**: one outcome for each event, in the order of the batch. Success means accepted by the broker with the durability that it declares, whoever
    /// listens. After a failure of one key nothing later of that key in the batch is sent
    /// any more; a broker that keeps no order may have sent some of it at the same time.
    ///
    /// **Cancel**: dropping the future leaves it unknown which events were accepted; none is accepted in part.
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>>;

    /// Joins a group, making it if it does not exist.
    ///
    /// **Errors**: another holder of the group's lease on a broker where a group has one owner, a pattern or start that the broker cannot serve.
    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>>;

    /// History without a group, where the broker has it.
    fn reader(&self) -> Option<&dyn Reader>;

    /// Events from some point on, without a group; from now on alone where the broker has no history.
    ///
    /// **Errors**: [`BrokerError::Unsupported`] for a start that the broker does not have.
    ///
    /// **Cancel**: no effect.
    fn tail<'a>(
        &'a self,
        request: TailRequest,
    ) -> BoxFuture<'a, Result<Box<dyn Tail + 'a>, BrokerError>> {
        Box::pin(tail::by_position(self, request))
    }

    /// What must exist on the broker: looked at, and made where it is missing and that was asked for. Nothing on a broker that keeps itself.
    ///
    /// **Errors**: the broker cannot be reached. What is missing or wrong is no error but stands in the answer.
    ///
    /// **Cancel**: what was made stays.
    fn topology<'a>(
        &'a self,
        _request: TopologyRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<TopologyItem>, BrokerError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Groups, lag and seeking, where the broker has them.
    fn admin(&self) -> Option<&dyn Admin>;

    /// Stops accepting events, flushes what was accepted and lets go of the broker. Calling it again has no effect.
    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>>;
}

//! What a batch handler can ask for beside its events.

use super::{
    DeliveryGuarantee, FromDelivery, HandlerContext, HandlerError, Shutdown, State, States,
};
use std::future::Future;

/// Something that a batch handler can ask for beside the events: what belongs to the batch as a whole, not to one delivery.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a batch handler",
    label = "does not belong to the batch as a whole",
    note = "after the events a batch handler may take State<T>, Shutdown and Tx<Db>; metadata and emit belong to one event and are fields of its BatchItem"
)]
pub trait FromBatch: Sized + Send {
    /// What a handler can claim that takes this; as [`FromDelivery::DELIVERY`].
    const DELIVERY: DeliveryGuarantee = DeliveryGuarantee::AtLeastOnce;

    /// Takes the value from the deliveries of a batch, of which there is at least one.
    ///
    /// An extractor with an inbox behind it notes in the [slot](HandlerContext::work) which of them are new; the handler is given no others.
    ///
    /// **Errors**: count as a failure of every event of the batch.
    fn from_batch(
        deliveries: &[HandlerContext],
    ) -> impl Future<Output = Result<Self, HandlerError>> + Send;

    /// Checks when a consumer starts that the value will be there.
    fn check(_states: &States) -> Result<(), String> {
        Ok(())
    }
}

impl<T: Clone + Send + Sync + 'static> FromBatch for State<T> {
    async fn from_batch(deliveries: &[HandlerContext]) -> Result<Self, HandlerError> {
        Self::from_delivery(first(deliveries)?).await
    }

    fn check(states: &States) -> Result<(), String> {
        <Self as FromDelivery>::check(states)
    }
}

impl FromBatch for Shutdown {
    async fn from_batch(deliveries: &[HandlerContext]) -> Result<Self, HandlerError> {
        Self::from_delivery(first(deliveries)?).await
    }
}

fn first(deliveries: &[HandlerContext]) -> Result<&HandlerContext, HandlerError> {
    deliveries
        .first()
        .ok_or_else(|| HandlerError::permanent_message("the batch is empty"))
}

//! What the consumer runtime calls: one event at a time, or a batch with an outcome for each.

/// Hands a macro each number of arguments behind the first, from none to six, as pairs of a type parameter and a name.
macro_rules! each_count {
    ($write:ident) => {
        $write!();
        $write!(A1 a1);
        $write!(A1 a1, A2 a2);
        $write!(A1 a1, A2 a2, A3 a3);
        $write!(A1 a1, A2 a2, A3 a3, A4 a4);
        $write!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5);
        $write!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5, A6 a6);
    };
}
use each_count;

mod batch;
mod function;
mod outcome;
mod raw;
mod typed;

pub use batch::{BatchArguments, BatchItem, TypedBatchHandler};
pub use function::{Handler, HandlerFuture, Named};
pub use outcome::IntoHandlerResult;
pub use raw::{EnvelopeArguments, RawHandler};
pub use typed::{EventArguments, TypedHandler};

use std::time::Duration;
use tidings_core::extract::{DeliveryGuarantee, HandlerContext, HandlerError, States};
use tidings_core::{BoxFuture, Pattern};

/// What became of one handling.
pub type HandlerResult = Result<(), HandlerError>;

/// Handles one event at a time; typed functions and processes are turned into this.
pub trait DeliveryHandler: Send + Sync + 'static {
    /// Name within its group; the ids of emitted events are made from it, so it must not change between runs.
    fn name(&self) -> &str;

    /// What it handles.
    fn patterns(&self) -> &[Pattern];

    /// Checks when a consumer starts that what the handler needs is there; the message names what is missing and the way out.
    fn check(&self, _states: &States) -> Result<(), String> {
        Ok(())
    }

    /// What it claims: [`EffectOnce`](DeliveryGuarantee::EffectOnce) only if every success leaves a transaction with its inbox row in `context.work`.
    fn delivery(&self) -> DeliveryGuarantee {
        DeliveryGuarantee::AtLeastOnce
    }

    /// Handles one event. What is put into `context.emit` is published if the handling succeeds, or goes into the outbox of its transaction.
    ///
    /// **Cancel**: the future is dropped at the time limit and when draining runs out of time.
    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult>;

    /// The time limit that the handler enforces itself (a process is killed); the runtime then sets none.
    fn own_time_limit(&self) -> Option<Duration> {
        None
    }
}

/// Handles several events in one call, each of another key.
pub trait BatchHandler: Send + Sync + 'static {
    /// Name within its group; the ids of emitted events are made from it, so it must not change between runs.
    fn name(&self) -> &str;

    /// What it handles.
    fn patterns(&self) -> &[Pattern];

    /// Events of one call at most.
    fn events_max(&self) -> usize;

    /// Checks when a consumer starts that what the handler needs is there; the message names what is missing and the way out.
    fn check(&self, _states: &States) -> Result<(), String> {
        Ok(())
    }

    /// What it claims: [`EffectOnce`](DeliveryGuarantee::EffectOnce) only if every success leaves a transaction with its inbox row in `context.work`.
    fn delivery(&self) -> DeliveryGuarantee {
        DeliveryGuarantee::AtLeastOnce
    }

    /// Handles the events and answers for each, in their order. Each context has an `emit` of its own; `work` is one for all.
    ///
    /// A batch with a transaction succeeds or fails as a whole: if one event fails, everything is rolled back, and the events are handled again in batches of one.
    fn handle(&self, contexts: Vec<HandlerContext>) -> BoxFuture<'static, Vec<HandlerResult>>;
}

/// The strongest of what extractors let a handler claim: one of them makes the effect count once.
const fn strongest(claims: &[DeliveryGuarantee]) -> DeliveryGuarantee {
    let mut rest = claims;
    while let [first, others @ ..] = rest {
        if matches!(first, DeliveryGuarantee::EffectOnce) {
            return DeliveryGuarantee::EffectOnce;
        }
        rest = others;
    }
    DeliveryGuarantee::AtLeastOnce
}

#[cfg(test)]
mod tests;

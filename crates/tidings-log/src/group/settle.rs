//! The settle half of a subscription.

use super::state::GroupState;
use std::sync::Arc;
use tidings_core::BoxFuture;
use tidings_core::broker::{BrokerError, Settle, SettleAction, SettleError, Token};

/// Takes outcomes for a group of the log. A token is the position of its event.
pub(crate) struct LogSettle {
    state: Arc<GroupState>,
}

impl LogSettle {
    pub(crate) fn new(state: Arc<GroupState>) -> Self {
        Self { state }
    }
}

impl Settle for LogSettle {
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            self.state
                .settle(outcomes.iter().map(|(token, action)| (token.0, *action)))
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move { self.state.flush_now() })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move { self.state.leave() })
    }
}

//! Alerting as a handler: the facts of dead letters, each settled once it is counted durably.

use super::fact::DeathSeen;
use crate::dead_letter::EVENT_TYPE;
use crate::handler::{DeliveryHandler, HandlerResult};
use std::time::Duration;
use tidings_core::extract::{HandlerContext, HandlerError};
use tidings_core::{BoxFuture, EventType, Pattern};
use tokio::sync::{mpsc, oneshot};

/// A fact on its way to the watcher, and who waits for it to be counted.
pub(super) type Counting = (DeathSeen, oneshot::Sender<()>);

/// How long a fact may wait for the store: the watcher itself tries again, and no attempt is counted meanwhile.
const PATIENCE: Duration = Duration::from_secs(7 * 86_400);

/// Hands facts to the watcher.
#[derive(Debug)]
pub(super) struct FactHandler {
    patterns: [Pattern; 1],
    facts: mpsc::Sender<Counting>,
}

impl FactHandler {
    pub(super) fn new(facts: mpsc::Sender<Counting>) -> Self {
        Self {
            patterns: [Pattern::exact(&EventType::trusted(EVENT_TYPE.to_owned()))],
            facts,
        }
    }

    /// Has a fact counted; the error says that the watcher is gone.
    pub(super) fn count(&self, seen: DeathSeen) -> BoxFuture<'static, HandlerResult> {
        let facts = self.facts.clone();
        Box::pin(async move {
            let gone = || HandlerError::transient_message("the watcher has stopped");
            let (counted, wait) = oneshot::channel();
            facts.send((seen, counted)).await.map_err(|_| gone())?;
            wait.await.map_err(|_| gone())
        })
    }
}

impl DeliveryHandler for FactHandler {
    fn name(&self) -> &str {
        "alert"
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        match DeathSeen::read(&context.envelope) {
            Ok(seen) => self.count(seen),
            Err(error) => {
                // A dead letter about a dead letter that cannot be read would help nobody.
                tracing::warn!(%error, "a fact is passed over");
                Box::pin(async { Ok(()) })
            }
        }
    }

    fn own_time_limit(&self) -> Option<Duration> {
        Some(PATIENCE)
    }
}

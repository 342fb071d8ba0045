//! Work that blocks, away from the caller's runtime.

use tidings_core::broker::BrokerError;

/// Does the work on a thread that may block; `what` names the task if it ends unexpectedly.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, BrokerError> + Send + 'static,
) -> Result<T, BrokerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| BrokerError::Bug { what })?
}

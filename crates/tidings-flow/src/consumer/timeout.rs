//! A time limit over one handling, on the clock of the seam.

use futures_util::future::{Either, select};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tidings_core::extract::HandlerError;
use tidings_core::seam::Clock;

/// Runs a future until the limit, and drops it there. Without a limit it just runs it.
pub(crate) async fn limited<F: Future>(
    clock: &dyn Clock,
    limit: Option<Duration>,
    future: F,
) -> Result<F::Output, HandlerError> {
    let Some(limit) = limit else {
        return Ok(future.await);
    };
    // The future is polled first: what ends at the very limit has ended in time.
    match select(pin!(future), clock.sleep(limit)).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(((), _)) => Err(HandlerError::transient_message(format!(
            "the handler was still busy after its time limit of {limit:?}"
        ))),
    }
}

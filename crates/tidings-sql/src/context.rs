//! What events published in the course of something inherit from it, without every function passing it on.

use std::future::Future;
use tidings_core::Envelope;
use tidings_core::correlation::Inherited;

tokio::task_local! {
    static INHERITED: Inherited;
}

/// Runs a future whose published events are consequences of an event: they inherit its correlation and trace, and name it as their cause.
pub async fn caused_by<F: Future>(cause: &Envelope, future: F) -> F::Output {
    inheriting(Inherited::from(cause), future).await
}

/// Runs a future whose published events inherit what is given, for example by a request to an HTTP server, which has a correlation id and no event as its cause.
///
/// It holds for the task that polls the future, not for tasks that this one spawns. Inside of a handler it counts more than the event being handled.
pub async fn inheriting<F: Future>(inherited: Inherited, future: F) -> F::Output {
    INHERITED.scope(inherited, future).await
}

/// What is inherited here, if anything.
pub(crate) fn current() -> Option<Inherited> {
    INHERITED.try_with(Clone::clone).ok()
}

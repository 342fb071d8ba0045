//! Time as a seam.

use crate::{BoxFuture, Timestamp};
use std::time::Duration;

/// What time it is, and waiting.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. It may jump, also backwards.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary start; it never goes backwards.
    fn elapsed(&self) -> Duration;

    /// Ends once `duration` has passed.
    ///
    /// **Cancel**: dropping the future has no effect.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

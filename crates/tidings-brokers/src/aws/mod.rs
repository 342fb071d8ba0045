//! What SNS with SQS and EventBridge share: the way to the service, its errors, batches in the order of each key, and the queue that a group reads.

pub(crate) mod client;
pub(crate) mod error;
pub(crate) mod group;
pub(crate) mod groups;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod publishing;
pub(crate) mod queue;
pub(crate) mod reading;
pub(crate) mod rounds;
pub(crate) mod session;
mod settling;
pub(crate) mod subscription;
pub(crate) mod tail;

//! The words and the ports of tidings: what an event is, what an envelope carries, what a broker must do. No I/O, no runtime, no clock of its own.
//!
//! A third party implements a broker by depending on this crate alone.

pub mod broker;
pub mod cloudevents;
pub mod codes;
pub mod correlation;
pub mod envelope;
pub mod envelope_json;
pub mod error;
pub mod event;
pub mod event_id;
pub mod event_type;
pub mod extract;
mod json_object;
pub mod limits;
pub mod pattern;
pub mod payload;
pub mod seam;
pub mod store;
pub mod timestamp;

use std::future::Future;
use std::pin::Pin;

/// A boxed future, so that the ports stay object safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub use codes::Code;
pub use correlation::TraceContext;
pub use envelope::{Envelope, EnvelopeParts};
pub use error::ErrorClass;
pub use event::Event;
pub use event_id::DedupeKey;
pub use event_type::EventType;
pub use pattern::Pattern;
pub use payload::Payload;
pub use timestamp::Timestamp;

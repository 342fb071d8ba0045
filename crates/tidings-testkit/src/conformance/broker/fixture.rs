//! What an adapter gives the suite: fresh places, connections, what it declares, and hands on its server.

use crate::proxy::FaultProxy;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::broker::{Broker, BrokerError};
use tidings_core::cloudevents::binding::Binding;
use tidings_core::store::{DeadLetterStore, FailureStore, OutboxStore, ScheduleStore};

/// An adapter under test.
///
/// An *address* is whatever [`connect`](Self::connect) needs to find one place on the broker again, also from another process: a URL with the names of its
/// topics, a folder. Hooks that an adapter does not have answer [`Unavailable`] with the reason, and the properties that need them are *declared*, never passed.
pub trait Fixture: Send + Sync + 'static {
    /// The column of the matrix, for example `kafka` or `sns_sqs_fifo`.
    fn name(&self) -> &'static str;

    /// What carries the events, with its version, for example `Kafka 4.3.1`.
    fn version(&self) -> BoxFuture<'_, String>;

    /// What is declared besides the broker's capabilities.
    fn traits(&self) -> Traits;

    /// The test that runs the suite, as `cargo test -- --exact` names it: it is begun again as a process of its own where one has to be killed.
    fn test(&self) -> &'static str;

    /// A place that nobody has used: the topics, queues or the folder that its address names do not exist, or are empty.
    fn fresh<'a>(&'a self, property: &'a str) -> BoxFuture<'a, String>;

    /// A connection of its own to a place, which makes what is missing there.
    ///
    /// Where one process is the broker, everybody in it gets the one that is open, and a new one after it was closed.
    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Broker>, BrokerError>>;

    /// Removes what a property left at a place.
    fn remove<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Kills the server with SIGKILL; it stays down.
    fn kill_server(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable("there is no server that could be killed")
    }

    /// Starts a server that was killed or stopped, and waits until it answers.
    fn start_server(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable("there is no server that could be started")
    }

    /// Stops the server in good order and starts it again.
    fn restart_server(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable("there is no server that could be restarted")
    }

    /// The address of a place by way of a network that the suite owns.
    fn behind_proxy<'a>(
        &'a self,
        _address: &'a str,
    ) -> BoxFuture<'a, Result<(String, FaultProxy), Unavailable>> {
        unavailable("there is no network between client and broker")
    }

    /// An empty place for what groups cannot handle yet and for what is published later. Its address is whatever [`open_stores`](Self::open_stores) needs, also
    /// in another process.
    fn fresh_stores<'a>(
        &'a self,
        _property: &'a str,
        _sharing: Sharing,
    ) -> BoxFuture<'a, Result<String, Unavailable>> {
        unavailable("the adapter is looked at without a store")
    }

    /// Connections of their own to such a place.
    ///
    /// # Panics
    /// If there is none, or it does not answer.
    fn open_stores<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Stores> {
        panic!("nobody made a store at {address}")
    }

    /// How events are written as messages; `None` where a message is one JSON document, or where there are no messages.
    fn binding(&self) -> Option<Binding> {
        None
    }

    /// Bytes that are no event, as far as messages may have any bytes.
    fn garbage(&self) -> Bytes {
        Bytes::from_static(b"\xff\xfe\x00garbage{\x80")
    }

    /// Sends a message with the broker's own client, as a foreign producer does.
    fn send_raw<'a>(
        &'a self,
        _address: &'a str,
        _message: RawMessage,
    ) -> BoxFuture<'a, Result<(), Unavailable>> {
        unavailable("it takes envelopes only, so nothing foreign gets in")
    }

    /// Begins to listen with the broker's own client: what is published afterwards is seen as it is on the wire.
    fn listen_raw<'a>(
        &'a self,
        _address: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn RawListener>, Unavailable>> {
        unavailable("it has no messages besides envelopes")
    }
}

/// The ports of one database, where a group keeps what it cannot handle yet and where events wait that are published later.
#[derive(Clone)]
pub struct Stores {
    /// As a consumer has it.
    pub failures: Arc<dyn FailureStore>,
    /// As a person has it.
    pub letters: Arc<dyn DeadLetterStore>,
    /// Events that are published later.
    pub schedules: Arc<dyn ScheduleStore>,
    /// Where facts about dead letters and events whose time has come wait for a relay.
    pub outbox: Arc<dyn OutboxStore>,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stores")
            .field(&self.failures.name())
            .finish()
    }
}

/// Who works with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One instance of a group at a time: a file does.
    OneInstance,
    /// Several instances, as on several machines: a database server.
    ManyInstances,
}

/// Sees messages as a foreign consumer does.
pub trait RawListener: Send {
    /// The next message; waits for it.
    fn next(&mut self) -> BoxFuture<'_, Result<RawMessage, String>>;
}

/// A message as a foreign client sends or sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawMessage {
    /// The type in the broker's own terms: what stands in routing key, subject or detail type.
    pub event_type: String,
    /// The broker's own key of order, where it has one.
    pub key: Option<String>,
    /// The content type of the message.
    pub content_type: Option<String>,
    /// The other headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Why an adapter lacks a hook; the properties that need it are declared with this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// The answer of a hook that is not there.
pub fn unavailable<'a, T: Send + 'a>(
    reason: impl Into<String>,
) -> BoxFuture<'a, Result<T, Unavailable>> {
    let answer = Err(Unavailable(reason.into()));
    Box::pin(std::future::ready(answer))
}

/// What an adapter declares besides its capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// Why one instance works for a group at a time; `None` where several share it.
    pub one_instance: Option<&'static str>,
    /// Why nothing outlives the process; `None` where it does.
    pub in_process: Option<&'static str>,
    /// The broker lives in its client's process: to kill the one is to kill the other.
    pub is_embedded: bool,
    /// How soon an event that was released comes again.
    pub redelivery_max: Duration,
    /// How soon another instance is handed what one held that vanished: session time-out, visibility.
    pub takeover_max: Duration,
    /// What was expected counts as missing when nothing happens for so long.
    pub idle_max: Duration,
    /// How long is read on behind the expected end.
    pub quiet: Duration,
    /// A remote or rate-limited service, which gets the short counts always.
    pub slow: bool,
    /// Properties that do not hold, each with the reason.
    pub declined: &'static [(&'static str, &'static str)],
}

impl Default for Traits {
    /// As a broker in this process: everything holds, and at once.
    fn default() -> Self {
        Self {
            one_instance: None,
            in_process: None,
            is_embedded: false,
            redelivery_max: Duration::from_secs(10),
            takeover_max: Duration::from_secs(2),
            idle_max: Duration::from_secs(60),
            quiet: Duration::from_millis(200),
            slow: false,
            declined: &[],
        }
    }
}

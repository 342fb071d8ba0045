//! SNS with SQS, standard and FIFO, and EventBridge pass the suite on moto: a topic or a bus for each place, with its queues.

use super::own_server::proxied;
use super::{OwnServer, SuiteStores, conforms, stores};
use crate::aws::{delete_queues, sqs};
use crate::server::fresh;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use bytes::Bytes;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::broker::{Broker, BrokerError};
use tidings_testkit::conformance::broker::{
    Fixture, RawListener, RawMessage, Sharing, Stores, Traits, Unavailable, unavailable,
};
use tidings_testkit::database::Server;
use tidings_testkit::proxy::FaultProxy;

#[cfg(feature = "eventbridge")]
mod eventbridge;
#[cfg(feature = "sns_sqs")]
mod sns_sqs;

const IN_MEMORY: &str =
    "moto keeps everything in memory and loses it when it ends, which says nothing about AWS";
/// Who has everything on moto.
const ACCOUNT: &str = "123456789012";
/// So long the message of somebody who vanished is kept from the next one; elsewhere the usual time spares a busy machine.
const VISIBILITY_SECS: u64 = 5;
/// Where somebody vanishes, or an answer does on its way.
const VANISHING: &[&str] = &[
    "A13", "D3", "d4", "D6", "e1", "E8", "E11", "E12", "I1", "J3",
];

/// What one of the three has of its own.
trait Kind: Send + Sync + 'static {
    /// The column of the matrix.
    const NAME: &'static str;
    /// The test that runs the suite.
    const TEST: &'static str;
    /// Which of the servers is its own.
    const NUMBER: u16;
    const SCHEME: &'static str;
    /// The parameter that names a place.
    const PLACE: &'static str;
    /// How the names of its topics and queues end.
    const ENDING: &'static str = "";

    fn connect(address: &str) -> BoxFuture<'_, Result<Arc<dyn Broker>, BrokerError>>;

    /// Removes the place itself.
    fn remove(place: Place<'_>) -> BoxFuture<'_, ()>;

    /// Bytes that are no event, as far as it takes any.
    fn garbage() -> Bytes;

    /// Sends as others do.
    fn send(place: Place<'_>, message: RawMessage) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Lets everything go to a queue of somebody else's, which has this full name.
    fn forward(place: Place<'_>, queue: String) -> BoxFuture<'_, ()>;

    /// The event in a message of that queue.
    fn unpacked(body: &str) -> String;
}

/// Where an address leads.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    host: &'a str,
    /// Without its ending.
    name: &'a str,
}

impl<'a> Place<'a> {
    fn of(address: &'a str) -> Self {
        let (_, rest) = address.split_once('@').expect("a user");
        let (host, _) = rest.split_once('?').expect("parameters");
        let (_, name) = rest.rsplit_once('=').expect("a name at the end");
        Self { host, name }
    }
}

struct Aws<K> {
    server: OwnServer,
    stores: SuiteStores,
    kind: PhantomData<K>,
}

impl<K: Kind> Aws<K> {
    async fn conforms() {
        let aws: Self = Self {
            server: OwnServer::number("moto", K::NUMBER, K::NAME),
            stores: SuiteStores::new(K::NAME, Server::MariaDb),
            kind: PhantomData,
        };
        conforms("moto", aws).await;
    }
}

impl<K: Kind> Fixture for Aws<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn version(&self) -> BoxFuture<'_, String> {
        Box::pin(self.server.version("moto"))
    }

    fn traits(&self) -> Traits {
        // Times that a busy machine keeps; usual are a second for what is released, and the visibility for what is not.
        Traits {
            redelivery_max: Duration::from_secs(30),
            takeover_max: Duration::from_secs(VISIBILITY_SECS + 30),
            idle_max: Duration::from_secs(60),
            quiet: Duration::from_millis(600),
            slow: true,
            ..Traits::default()
        }
    }

    fn test(&self) -> &'static str {
        K::TEST
    }

    fn fresh<'a>(&'a self, property: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let url = self.server.url().await;
            let (_, host) = url.split_once("://").expect("a URL");
            let mut url = format!("{}://test:test@{host}?region=us-east-1&wait=0", K::SCHEME);
            if VANISHING.contains(&property) {
                url.push_str(&format!("&visibility={VISIBILITY_SECS}"));
            }
            if !K::ENDING.is_empty() {
                url.push_str("&fifo=true");
            }
            format!("{url}&{}={}", K::PLACE, fresh(property))
        })
    }

    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Broker>, BrokerError>> {
        K::connect(address)
    }

    fn remove<'a>(&'a self, address: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let place = Place::of(address);
            delete_queues(place.host, place.name).await;
            K::remove(place).await;
        })
    }

    fn fresh_stores<'a>(
        &'a self,
        property: &'a str,
        sharing: Sharing,
    ) -> BoxFuture<'a, Result<String, Unavailable>> {
        self.stores.fresh(property, sharing)
    }

    fn open_stores<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Stores> {
        stores::open(address)
    }

    fn kill_server(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable(IN_MEMORY)
    }

    fn restart_server(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        unavailable(IN_MEMORY)
    }

    fn behind_proxy<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<(String, FaultProxy), Unavailable>> {
        Box::pin(async move { Ok(proxied(address)) })
    }

    fn garbage(&self) -> Bytes {
        K::garbage()
    }

    fn send_raw<'a>(
        &'a self,
        address: &'a str,
        message: RawMessage,
    ) -> BoxFuture<'a, Result<(), Unavailable>> {
        K::send(Place::of(address), message)
    }

    fn listen_raw<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn RawListener>, Unavailable>> {
        Box::pin(async move {
            let listener = Listener::<K>::open(Place::of(address)).await;
            Ok(Box::new(listener) as Box<dyn RawListener>)
        })
    }
}

/// Reads a queue of its own.
struct Listener<K> {
    client: Client,
    queue: String,
    kind: PhantomData<K>,
}

impl<K: Kind> Listener<K> {
    async fn open(place: Place<'_>) -> Self {
        let client = sqs(place.host);
        let name = format!("{}-foreign{}", place.name, K::ENDING);
        let mut making = client.create_queue().queue_name(&name);
        if !K::ENDING.is_empty() {
            making = making.attributes(QueueAttributeName::FifoQueue, "true");
        }
        let made = making.send().await.unwrap();
        K::forward(place, format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{name}")).await;
        Self {
            client,
            queue: made.queue_url.expect("a URL"),
            kind: PhantomData,
        }
    }
}

impl<K: Kind> RawListener for Listener<K> {
    fn next(&mut self) -> BoxFuture<'_, Result<RawMessage, String>> {
        Box::pin(async move {
            loop {
                let asking = self.client.receive_message().queue_url(&self.queue);
                let answer = asking.max_number_of_messages(1).wait_time_seconds(1);
                let answer = answer.send().await.map_err(|error| error.to_string())?;
                let Some(message) = answer.messages().first() else {
                    continue;
                };
                return Ok(RawMessage {
                    body: K::unpacked(message.body().unwrap_or_default()).into(),
                    ..RawMessage::default()
                });
            }
        })
    }
}

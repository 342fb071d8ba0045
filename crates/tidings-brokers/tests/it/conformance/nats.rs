//! NATS JetStream passes the suite: a stream for each place.

use super::own_server::proxied;
use super::{OwnServer, SuiteStores, conforms, stores};
use crate::server::{fresh, with};
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tidings_brokers::NatsBroker;
use tidings_core::BoxFuture;
use tidings_core::broker::{Broker, BrokerError};
use tidings_core::cloudevents::binding::Binding;
use tidings_testkit::conformance::broker::{
    Fixture, RawListener, RawMessage, Sharing, Stores, Traits, Unavailable,
};
use tidings_testkit::database::Server;
use tidings_testkit::proxy::FaultProxy;

/// A delivery that nobody extends comes again after so many seconds where somebody vanishes, or an answer does on its way.
const ACK_WAIT_SECS: u64 = 2;
/// Elsewhere a busy machine is spared.
const ACK_WAIT_CALM_SECS: u64 = 10;
const VANISHING: &[&str] = &[
    "A13", "A15", "D3", "d4", "D6", "e1", "E8", "E11", "E12", "e13", "I1", "I2", "I5", "J3",
];

struct Nats {
    server: OwnServer,
    stores: SuiteStores,
}

/// The stream that an address names.
fn stream(address: &str) -> &str {
    let (_, rest) = address.split_once("stream=").expect("a stream");
    rest.split('&').next().unwrap_or(rest)
}

async fn client(address: &str) -> async_nats::Client {
    let server = address.split('?').next().expect("a server");
    async_nats::connect(server).await.unwrap()
}

impl Fixture for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn version(&self) -> BoxFuture<'_, String> {
        Box::pin(self.server.version("NATS"))
    }

    fn traits(&self) -> Traits {
        Traits {
            takeover_max: Duration::from_secs(ACK_WAIT_SECS + 3),
            quiet: Duration::from_millis(600),
            ..Traits::default()
        }
    }

    fn test(&self) -> &'static str {
        "conformance::nats::nats_conforms"
    }

    fn fresh<'a>(&'a self, property: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let stream = fresh(property);
            let wait = match VANISHING.contains(&property) {
                true => ACK_WAIT_SECS,
                false => ACK_WAIT_CALM_SECS,
            };
            let parameters = format!("stream={stream}&ack_wait={wait}");
            with(self.server.url().await, &parameters)
        })
    }

    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Broker>, BrokerError>> {
        Box::pin(async move {
            let broker = NatsBroker::connect(&address.parse()?).await?;
            Ok(Arc::new(broker) as Arc<dyn Broker>)
        })
    }

    fn remove<'a>(&'a self, address: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let context = async_nats::jetstream::new(client(address).await);
            // A place that nobody connected to has no stream.
            let _removed = context.delete_stream(stream(address)).await;
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
        self.server.kill()
    }

    fn start_server(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        self.server.start()
    }

    fn restart_server(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        self.server.restart()
    }

    fn behind_proxy<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<(String, FaultProxy), Unavailable>> {
        Box::pin(async move { Ok(proxied(address)) })
    }

    fn binding(&self) -> Option<Binding> {
        Some(Binding::NATS)
    }

    fn send_raw<'a>(
        &'a self,
        address: &'a str,
        message: RawMessage,
    ) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(async move {
            let context = async_nats::jetstream::new(client(address).await);
            let mut headers = async_nats::HeaderMap::new();
            for (name, value) in &message.headers {
                headers.append(name.as_str(), value.as_str());
            }
            if let Some(content_type) = &message.content_type {
                headers.append("Content-Type", content_type.as_str());
            }
            let subject = format!("{}.{}", stream(address), message.event_type);
            let sent = context.publish_with_headers(subject, headers, message.body);
            sent.await.unwrap().await.unwrap();
            Ok(())
        })
    }

    fn listen_raw<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn RawListener>, Unavailable>> {
        Box::pin(async move {
            let client = client(address).await;
            let subjects = format!("{}.>", stream(address));
            let messages = client.subscribe(subjects).await.unwrap();
            // The server takes what one connection sends in order: once this comes back, it knows the subscription.
            let inbox = client.new_inbox();
            let mut echo = client.subscribe(inbox.clone()).await.unwrap();
            client.publish(inbox, "".into()).await.unwrap();
            echo.next().await.expect("an echo");
            Ok(Box::new(Listener { messages }) as Box<dyn RawListener>)
        })
    }
}

struct Listener {
    messages: async_nats::Subscriber,
}

impl RawListener for Listener {
    fn next(&mut self) -> BoxFuture<'_, Result<RawMessage, String>> {
        Box::pin(async move {
            let message = self.messages.next().await.ok_or("the connection ended")?;
            let headers = message.headers.unwrap_or_default();
            let mut raw = RawMessage {
                event_type: message.subject.to_string(),
                body: message.payload,
                ..RawMessage::default()
            };
            for (name, values) in headers.iter() {
                for value in values {
                    raw.headers.push((name.to_string(), value.to_string()));
                }
            }
            Ok(raw)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_conforms() {
    let nats = Nats {
        server: OwnServer::new("nats"),
        stores: SuiteStores::new("nats", Server::Postgres),
    };
    conforms("nats", nats).await;
}

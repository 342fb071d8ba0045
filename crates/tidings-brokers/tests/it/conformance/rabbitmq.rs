//! RabbitMQ passes the suite: an exchange for each place, with its queues.

use super::own_server::proxied;
use super::{OwnServer, SuiteStores, conforms, stores};
use crate::server::{fresh, with};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use std::sync::Arc;
use std::time::Duration;
use tidings_brokers::RabbitMqBroker;
use tidings_core::BoxFuture;
use tidings_core::broker::{Broker, BrokerError};
use tidings_core::cloudevents::binding::Binding;
use tidings_testkit::conformance::broker::{
    Fixture, RawListener, RawMessage, Sharing, Stores, Traits, Unavailable, unavailable,
};
use tidings_testkit::database::Server;
use tidings_testkit::proxy::FaultProxy;

/// Seen with 3.10.8: "leader call - leader not known" for minutes, until the server is restarted in good order.
const LEADERLESS: &str = "a quorum queue of a single node that was killed may stay without a leader until the server is restarted; looked at with a restart in good order";

struct RabbitMq {
    server: OwnServer,
    stores: SuiteStores,
}

/// The exchange that an address names.
fn exchange(address: &str) -> &str {
    let (_, rest) = address.split_once("exchange=").expect("an exchange");
    rest.split('&').next().unwrap_or(rest)
}

async fn connection(address: &str) -> Connection {
    let server = address.split('?').next().expect("a server");
    let connecting = Connection::connect(server, ConnectionProperties::default());
    connecting.await.unwrap()
}

impl Fixture for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn version(&self) -> BoxFuture<'_, String> {
        Box::pin(self.server.version("RabbitMQ"))
    }

    fn traits(&self) -> Traits {
        Traits {
            redelivery_max: Duration::from_secs(15),
            takeover_max: Duration::from_secs(5),
            quiet: Duration::from_millis(600),
            ..Traits::default()
        }
    }

    fn test(&self) -> &'static str {
        "conformance::rabbitmq::rabbitmq_conforms"
    }

    fn fresh<'a>(&'a self, property: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let parameters = format!("exchange={}", fresh(property));
            with(self.server.url().await, &parameters)
        })
    }

    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Broker>, BrokerError>> {
        Box::pin(async move {
            let broker = RabbitMqBroker::connect(&address.parse()?).await?;
            Ok(Arc::new(broker) as Arc<dyn Broker>)
        })
    }

    fn remove<'a>(&'a self, address: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Ok(broker) = self.connect(address).await
                && let Some(admin) = broker.admin()
            {
                for group in admin.groups().await.unwrap_or_default() {
                    // A group that a test left joined goes with the server.
                    let _removed = admin.remove(&group.name).await;
                }
            }
            let connection = connection(address).await;
            let channel = connection.create_channel().await.unwrap();
            let options = ExchangeDeleteOptions::default();
            let removing = channel.exchange_delete(exchange(address).into(), options);
            let _removed = removing.await;
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
        unavailable(LEADERLESS)
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
        Some(Binding::RABBITMQ)
    }

    fn send_raw<'a>(
        &'a self,
        address: &'a str,
        message: RawMessage,
    ) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(async move {
            let connection = connection(address).await;
            let channel = connection.create_channel().await.unwrap();
            let mut headers = FieldTable::default();
            for (name, value) in message.headers {
                headers.insert(name.into(), AMQPValue::LongString(value.into()));
            }
            let mut properties = BasicProperties::default().with_headers(headers);
            if let Some(content_type) = message.content_type {
                properties = properties.with_content_type(content_type.into());
            }
            let sent = channel.basic_publish(
                exchange(address).into(),
                message.event_type.into(),
                BasicPublishOptions::default(),
                &message.body,
                properties,
            );
            sent.await.unwrap().await.unwrap();
            connection.close(200, "sent".into()).await.unwrap();
            Ok(())
        })
    }

    fn listen_raw<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn RawListener>, Unavailable>> {
        Box::pin(async move {
            let listener = Listener::open(address).await.unwrap();
            Ok(Box::new(listener) as Box<dyn RawListener>)
        })
    }
}

struct Listener {
    messages: Consumer,
    _channel: Channel,
    _connection: Connection,
}

impl Listener {
    async fn open(address: &str) -> lapin::Result<Self> {
        let connection = connection(address).await;
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let declaring =
            channel.queue_declare(ShortString::default(), options, FieldTable::default());
        let queue = declaring.await?.name().clone();
        let binding = channel.queue_bind(
            queue.clone(),
            exchange(address).into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        binding.await?;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let tag = ShortString::default();
        let consuming = channel.basic_consume(queue, tag, options, FieldTable::default());
        Ok(Self {
            messages: consuming.await?,
            _channel: channel,
            _connection: connection,
        })
    }
}

impl RawListener for Listener {
    fn next(&mut self) -> BoxFuture<'_, Result<RawMessage, String>> {
        Box::pin(async move {
            let delivery = self.messages.next().await.ok_or("the connection ended")?;
            let delivery = delivery.map_err(|error| error.to_string())?;
            let properties = &delivery.properties;
            let mut raw = RawMessage {
                event_type: delivery.routing_key.to_string(),
                content_type: properties.content_type().as_ref().map(ToString::to_string),
                body: delivery.data.clone().into(),
                ..RawMessage::default()
            };
            for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
                if let AMQPValue::LongString(value) = value {
                    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    raw.headers.push((name.to_string(), value));
                }
            }
            Ok(raw)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_conforms() {
    let rabbitmq = RabbitMq {
        server: OwnServer::new("rabbitmq"),
        stores: SuiteStores::new("rabbitmq", Server::MariaDb),
    };
    conforms("rabbitmq", rabbitmq).await;
}

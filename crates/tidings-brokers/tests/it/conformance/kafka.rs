//! Kafka passes the suite: a topic for each place, and a prefix for its groups.

use super::{OwnServer, SuiteStores, conforms, stores};
use crate::server::{fresh, with};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tidings_brokers::KafkaBroker;
use tidings_core::BoxFuture;
use tidings_core::broker::{Broker, BrokerError};
use tidings_core::cloudevents::binding::Binding;
use tidings_flow::runtime::SystemClock;
use tidings_testkit::conformance::broker::{
    Fixture, RawListener, RawMessage, Sharing, Stores, Traits, Unavailable,
};
use tidings_testkit::database::Server;
use tidings_testkit::proxy::FaultProxy;

/// The shortest that a broker takes unless it is told otherwise.
const SESSION_SECS: u64 = 6;
/// As long as a property may take that has the proxy's port.
const PROXY_WAIT: Duration = Duration::from_secs(600);
const WAIT: Duration = Duration::from_secs(20);

struct Kafka {
    server: OwnServer,
    stores: SuiteStores,
}

/// The topic that an address names.
fn topic(address: &str) -> &str {
    let (_, rest) = address.split_once("topic=").expect("a topic");
    rest.split('&').next().unwrap_or(rest)
}

fn client(address: &str) -> ClientConfig {
    let (_, rest) = address.split_once("://").expect("a URL");
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", rest.split('?').next().unwrap_or(rest));
    client
}

impl Fixture for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn version(&self) -> BoxFuture<'_, String> {
        Box::pin(self.server.version("Kafka"))
    }

    fn traits(&self) -> Traits {
        Traits {
            takeover_max: Duration::from_secs(SESSION_SECS + 6),
            quiet: Duration::from_millis(800),
            ..Traits::default()
        }
    }

    fn test(&self) -> &'static str {
        "conformance::kafka::kafka_conforms"
    }

    fn fresh<'a>(&'a self, property: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let topic = fresh(property);
            let parameters =
                format!("topic={topic}&group_prefix={topic}.&session_timeout={SESSION_SECS}");
            with(self.server.url().await, &parameters)
        })
    }

    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Broker>, BrokerError>> {
        Box::pin(async move {
            let clock = Arc::new(SystemClock::new());
            let broker = KafkaBroker::connect(&address.parse()?, clock).await?;
            Ok(Arc::new(broker) as Arc<dyn Broker>)
        })
    }

    fn remove<'a>(&'a self, address: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let admin: AdminClient<DefaultClientContext> = client(address).create().unwrap();
            // A place that nobody connected to has no topic.
            let _removed = admin
                .delete_topics(&[topic(address)], &AdminOptions::new())
                .await;
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
        Box::pin(async move { Ok(proxied(address).await) })
    }

    fn binding(&self) -> Option<Binding> {
        Some(Binding::KAFKA)
    }

    fn send_raw<'a>(
        &'a self,
        address: &'a str,
        message: RawMessage,
    ) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(async move {
            let producer: FutureProducer = client(address).create().unwrap();
            let mut headers = OwnedHeaders::new();
            let content_type = message
                .content_type
                .iter()
                .map(|value| ("content-type", value));
            let given = message.headers.iter();
            for (key, value) in given
                .map(|(key, value)| (key.as_str(), value))
                .chain(content_type)
            {
                headers = headers.insert(Header {
                    key,
                    value: Some(value),
                });
            }
            let body = message.body.to_vec();
            let mut record = FutureRecord::to(topic(address))
                .payload(&body)
                .headers(headers);
            if let Some(key) = &message.key {
                record = record.key(key);
            }
            producer.send(record, WAIT).await.unwrap();
            Ok(())
        })
    }

    fn listen_raw<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn RawListener>, Unavailable>> {
        Box::pin(async move {
            let mut settings = client(address);
            settings.set("group.id", "listener");
            let consumer: BaseConsumer = settings.create().unwrap();
            let metadata = consumer.fetch_metadata(Some(topic(address)), WAIT).unwrap();
            let mut list = TopicPartitionList::new();
            for partition in metadata.topics()[0].partitions() {
                let ends = consumer.fetch_watermarks(topic(address), partition.id(), WAIT);
                let end = Offset::Offset(ends.unwrap().1);
                list.add_partition_offset(topic(address), partition.id(), end)
                    .unwrap();
            }
            consumer.assign(&list).unwrap();
            Ok(Box::new(Listener {
                consumer: Arc::new(consumer),
            }) as Box<dyn RawListener>)
        })
    }
}

/// The address by way of a proxy at the place that the server tells clients of its proxied listener: one at a time, so that others are waited for.
async fn proxied(address: &str) -> (String, FaultProxy) {
    let (_, rest) = address.split_once("://").expect("a URL");
    let host = rest.split('?').next().unwrap_or(rest);
    let (_, port) = host.rsplit_once(':').expect("a port");
    let port: u16 = port.parse().expect("a number");
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port + 3));
    let waiting = async {
        loop {
            match FaultProxy::start_at(listen, format!("127.0.0.1:{}", port + 4)) {
                Ok(proxy) => return proxy,
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("no proxy at {listen}: {error}"),
            }
        }
    };
    let proxy = tokio::time::timeout(PROXY_WAIT, waiting).await;
    let proxy = proxy.expect("the proxy's port is free in time");
    (address.replacen(host, &listen.to_string(), 1), proxy)
}

struct Listener {
    consumer: Arc<BaseConsumer>,
}

impl RawListener for Listener {
    fn next(&mut self) -> BoxFuture<'_, Result<RawMessage, String>> {
        Box::pin(async move {
            let consumer = Arc::clone(&self.consumer);
            let next = tokio::task::spawn_blocking(move || next(&consumer));
            next.await.unwrap()
        })
    }
}

fn next(consumer: &BaseConsumer) -> Result<RawMessage, String> {
    let message = match consumer.poll(WAIT) {
        Some(Ok(message)) => message,
        Some(Err(error)) => return Err(error.to_string()),
        None => return Err("nothing came".to_owned()),
    };
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec());
    let mut raw = RawMessage {
        key: message.key().map(|key| text(Some(key)).unwrap()),
        body: message.payload().unwrap_or_default().to_vec().into(),
        ..RawMessage::default()
    };
    for header in message.headers().map(|it| it.iter()).into_iter().flatten() {
        let value = text(header.value).unwrap();
        if header.key == "content-type" {
            raw.content_type = Some(value);
        } else {
            raw.headers.push((header.key.to_owned(), value));
        }
    }
    Ok(raw)
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_conforms() {
    let kafka = Kafka {
        server: OwnServer::new("kafka"),
        stores: SuiteStores::new("kafka", Server::Postgres),
    };
    conforms("kafka", kafka).await;
}

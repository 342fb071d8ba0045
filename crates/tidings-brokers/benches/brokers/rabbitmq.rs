//! RabbitMQ: lapin as it comes next to our adapter, with the same exchange, quorum queue and properties.

use crate::figures::{self, Side};
use crate::measure::{Outcome, Report, Request, processor_time};
use crate::stage::{self, DEADLINE, Ours, Publisher, micros_each};
use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use tidings_brokers::RabbitMqBroker;
use tidings_core::broker::{Broker as _, StartAt, SubscribeRequest, TopologyRequest};
use tidings_core::cloudevents::binding::{Binding, Message};
use tidings_core::{BoxFuture, Envelope, Pattern};
use tokio::runtime::Runtime;

const VARIABLE: &str = "TIDINGS_TEST_RABBITMQ_URL";
/// Kept on the disk of the server.
const PERSISTENT: u8 = 2;
/// As many as our adapter lets the server send ahead.
const PREFETCH: u16 = 1_024;
const GROUP: &str = "bench";

/// The server of the figures.
pub(crate) struct Server {
    url: String,
    channel: Channel,
    _connection: Connection,
}

/// An exchange with the queue of one group.
pub(crate) struct Room {
    exchange: String,
    broker: Arc<RabbitMqBroker>,
}

impl Room {
    fn queue(&self) -> ShortString {
        format!("{}.{GROUP}", self.exchange).into()
    }
}

impl Server {
    pub(crate) async fn find() -> Outcome<Self> {
        let url = stage::server(VARIABLE)?;
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        Ok(Self {
            url,
            channel: connection.create_channel().await?,
            _connection: connection,
        })
    }

    /// An exchange and a queue, made by our adapter.
    pub(crate) async fn room(&self) -> Outcome<Room> {
        let exchange = stage::fresh("rabbitmq");
        let url = stage::with(&self.url, &format!("exchange={exchange}"))?;
        let broker = RabbitMqBroker::connect(&url).await?;
        let group = SubscribeRequest {
            group: GROUP.parse()?,
            patterns: vec![Pattern::everything()],
            start: StartAt::Earliest,
            single_instance: false,
        };
        broker
            .topology(TopologyRequest {
                groups: &[group],
                ensure: true,
            })
            .await?;
        Ok(Room {
            exchange,
            broker: Arc::new(broker),
        })
    }

    pub(crate) async fn remove(&self, room: &Room) -> Outcome<()> {
        room.broker.close().await?;
        self.channel
            .queue_delete(room.queue(), QueueDeleteOptions::default())
            .await?;
        self.channel
            .exchange_delete(
                room.exchange.as_str().into(),
                ExchangeDeleteOptions::default(),
            )
            .await?;
        Ok(())
    }

    pub(crate) async fn bare(&self, room: &Room, events: &[Envelope]) -> Outcome<Bare> {
        // A connection of its own, as our adapter has one.
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Bare {
            channel,
            _connection: connection,
            exchange: room.exchange.as_str().into(),
            records: events.iter().map(Record::of).collect(),
        })
    }
}

/// A message as the bare client is given it: what our adapter would write, written beforehand.
struct Record {
    routing_key: ShortString,
    headers: Vec<(String, String)>,
    id: ShortString,
    correlation_id: Option<ShortString>,
    source: Option<ShortString>,
    seconds: u64,
    body: Bytes,
}

impl Record {
    fn of(envelope: &Envelope) -> Self {
        let Message { headers, body, .. } = Binding::RABBITMQ.write(envelope);
        let short = |text: &str| ShortString::from(text);
        let micros = envelope
            .timestamp()
            .map_or(0, |given| given.instant().as_micros());
        Self {
            routing_key: short(envelope.event_type().as_str()),
            headers,
            id: short(envelope.event_id()),
            correlation_id: envelope.correlation_id_given().map(short),
            source: envelope.source().map(short),
            seconds: u64::try_from(micros / 1_000_000).unwrap_or(0),
            body,
        }
    }

    fn properties(&self) -> BasicProperties {
        let mut table = FieldTable::default();
        for (name, value) in &self.headers {
            let value = AMQPValue::LongString(value.as_str().into());
            table.insert(name.as_str().into(), value);
        }
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_headers(table)
            .with_message_id(self.id.clone())
            .with_type(self.routing_key.clone())
            .with_timestamp(self.seconds);
        if let Some(id) = &self.correlation_id {
            properties = properties.with_correlation_id(id.clone());
        }
        if let Some(source) = &self.source {
            properties = properties.with_app_id(source.clone());
        }
        properties
    }
}

/// One channel with confirms; everything is mandatory.
pub(crate) struct Bare {
    channel: Channel,
    _connection: Connection,
    exchange: ShortString,
    records: Vec<Record>,
}

impl Publisher for Bare {
    fn publish(&self, places: Range<usize>) -> BoxFuture<'_, Outcome<()>> {
        Box::pin(async move {
            let mut on_their_way = Vec::with_capacity(places.len());
            for record in self.records.get(places).unwrap_or_default() {
                let options = BasicPublishOptions {
                    mandatory: true,
                    ..BasicPublishOptions::default()
                };
                let sent = self.channel.basic_publish(
                    self.exchange.clone(),
                    record.routing_key.clone(),
                    options,
                    &record.body,
                    record.properties(),
                );
                on_their_way.push(sent.await?);
            }
            for confirmed in on_their_way {
                match confirmed.await? {
                    Confirmation::Ack(None) => {}
                    other => return Err(format!("not taken into the queue: {other:?}").into()),
                }
            }
            Ok(())
        })
    }
}

/// `rabbitmq.publish`, into one quorum queue.
pub(crate) fn publish(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let events = stage::envelopes(request.full_or_quick(15_000, 1_000))?;
    let server = runtime.block_on(Server::find())?;
    figures::publish("rabbitmq", request, report, |side| {
        runtime.block_on(async {
            let room = server.room().await?;
            let publisher: Box<dyn Publisher> = match side {
                Side::Ours => Box::new(Ours {
                    broker: Arc::clone(&room.broker) as Arc<dyn tidings_core::broker::Broker>,
                    events: Arc::clone(&events),
                }),
                Side::Bare => Box::new(server.bare(&room, &events).await?),
            };
            let rate = stage::publish(&*publisher, events.len(), stage::IN_FLIGHT).await?;
            server.remove(&room).await?;
            Ok(rate)
        })
    })
}

/// `rabbitmq.consume_cpu`: each time a queue that was filled for it.
pub(crate) fn consume(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let events = stage::envelopes(request.full_or_quick(20_000, 1_000))?;
    let server = runtime.block_on(Server::find())?;
    figures::consume("rabbitmq", request, report, |side| {
        runtime.block_on(async {
            let room = server.room().await?;
            stage::fill(&*room.broker, &events).await?;
            let micros = match side {
                Side::Ours => {
                    let broker = Arc::clone(&room.broker);
                    stage::consume(broker, GROUP, events.len()).await?
                }
                Side::Bare => {
                    let bare = consume_bare(&server, room.queue(), events.len());
                    tokio::time::timeout(DEADLINE, bare).await??
                }
            };
            server.remove(&room).await?;
            Ok(micros)
        })
    })
}

/// One loop over the client's own stream of deliveries; each is looked at and acknowledged.
async fn consume_bare(server: &Server, queue: ShortString, events: usize) -> Outcome<f64> {
    let before = processor_time()?;
    let connection = Connection::connect(&server.url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let mut deliveries = channel
        .basic_consume(
            queue,
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    for _ in 0..events {
        let delivery = deliveries.next().await.ok_or("the deliveries ended")??;
        black_box((&delivery.properties, &delivery.data));
        delivery.ack(BasicAckOptions::default()).await?;
    }
    channel.close(200, "OK".into()).await?;
    connection.close(200, "OK".into()).await?;
    Ok(micros_each(processor_time()? - before, events))
}

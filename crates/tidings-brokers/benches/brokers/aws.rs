//! SNS with SQS, and EventBridge: the clients of the SDK as they come next to our adapters, with the same entries, ten in a request and eight requests at a time.
//!
//! The server is moto, which answers a few hundred requests a second whoever asks: the figures say that we do not slow that down, and nothing about AWS.

use crate::figures::{self, Side};
use crate::measure::{Outcome, Report, Request, processor_time};
use crate::stage::{self, DEADLINE, Ours, Publisher, micros_each};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use aws_sdk_sqs::config::Credentials;
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use futures_util::{StreamExt as _, TryStreamExt as _};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use tidings_brokers::{EventBridgeBroker, SnsSqsBroker};
use tidings_core::broker::{Broker, StartAt, SubscribeRequest, TopologyRequest};
use tidings_core::cloudevents::binding::structured;
use tidings_core::{BoxFuture, Envelope, Pattern};
use tidings_flow::runtime::SystemClock;
use tokio::runtime::Runtime;

const VARIABLE: &str = "TIDINGS_TEST_AWS_URL";
/// The most that one request takes.
const ENTRIES_MAX: usize = 10;
/// As many as our adapters have.
const REQUESTS_IN_FLIGHT: usize = 8;
/// Twice what the requests hold, as batches go in pairs.
const IN_FLIGHT: usize = 2 * ENTRIES_MAX * REQUESTS_IN_FLIGHT;
const GROUP: &str = "bench";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Sns,
    EventBridge,
}

impl Service {
    /// Begins the names of its figures.
    fn name(self) -> &'static str {
        match self {
            Service::Sns => "sns_sqs",
            Service::EventBridge => "eventbridge",
        }
    }
}

/// The server of the figures.
struct Server {
    host: String,
    config: SdkConfig,
}

/// A topic or a bus with the queue of one group.
struct Room {
    broker: Arc<dyn Broker>,
    /// Of the topic, or the bus.
    name: String,
    topic_arn: String,
    queue_url: String,
}

impl Server {
    fn find() -> Outcome<Self> {
        let url = stage::server(VARIABLE)?;
        let host = stage::authority(&url).to_owned();
        let credentials = Credentials::new("test", "test", None, None, "bench");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(format!("http://{host}"))
            .credentials_provider(aws_sdk_sqs::config::SharedCredentialsProvider::new(
                credentials,
            ))
            .build();
        Ok(Self { host, config })
    }

    fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }

    /// A room that nobody used before, made by our adapter.
    async fn room(&self, service: Service) -> Outcome<Room> {
        let name = stage::fresh("aws");
        let clock = Arc::new(SystemClock::new());
        let broker: Arc<dyn Broker> = match service {
            Service::Sns => {
                let url = format!("sns+sqs://test:test@{}?topic={name}", self.host).parse()?;
                Arc::new(SnsSqsBroker::connect(&url, clock).await?)
            }
            Service::EventBridge => {
                let url = format!("eventbridge://test:test@{}?bus={name}", self.host).parse()?;
                Arc::new(EventBridgeBroker::connect(&url, clock).await?)
            }
        };
        let group = SubscribeRequest {
            group: GROUP.parse()?,
            patterns: vec![Pattern::everything()],
            start: StartAt::Latest,
            single_instance: false,
        };
        let request = TopologyRequest {
            groups: &[group],
            ensure: true,
        };
        broker.topology(request).await?;
        let prefix = format!("{name}-");
        let queues = self.sqs().list_queues().queue_name_prefix(prefix).send();
        let queue_url = queues.await?.queue_urls().first().cloned();
        Ok(Room {
            broker,
            topic_arn: format!("arn:aws:sns:us-east-1:123456789012:{name}"),
            name,
            queue_url: queue_url.ok_or("the adapter made no queue")?,
        })
    }

    /// The server keeps everything in memory, so that what is done with is removed.
    async fn remove(&self, room: &Room) -> Outcome<()> {
        room.broker.close().await?;
        let removing = self.sqs().delete_queue().queue_url(&room.queue_url).send();
        removing.await?;
        Ok(())
    }

    fn bare(&self, service: Service, room: &Room, events: &[Envelope]) -> Box<dyn Publisher> {
        match service {
            Service::Sns => Box::new(BareSns {
                client: aws_sdk_sns::Client::new(&self.config),
                topic: room.topic_arn.clone(),
                records: events.iter().map(Record::of).collect(),
            }),
            Service::EventBridge => Box::new(BareEventBridge {
                client: aws_sdk_eventbridge::Client::new(&self.config),
                bus: room.name.clone(),
                records: events.iter().map(Record::of).collect(),
            }),
        }
    }
}

/// An entry as the bare client is given it: what our adapters would write, written beforehand.
struct Record {
    body: String,
    event_type: String,
    source: String,
    key: String,
    correlation_id: String,
    seconds: i64,
}

impl Record {
    fn of(envelope: &Envelope) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let micros = envelope
            .timestamp()
            .map_or(0, |given| given.instant().as_micros());
        Self {
            body: String::from_utf8_lossy(&structured(envelope).body).into_owned(),
            event_type: envelope.event_type().as_str().to_owned(),
            source: text(envelope.source()),
            key: text(envelope.aggregate_id()),
            correlation_id: text(envelope.correlation_id_given()),
            seconds: micros.div_euclid(1_000_000),
        }
    }
}

struct BareSns {
    client: aws_sdk_sns::Client,
    topic: String,
    records: Vec<Record>,
}

impl BareSns {
    fn entry(place: usize, record: &Record) -> Outcome<PublishBatchRequestEntry> {
        let mut entry = PublishBatchRequestEntry::builder()
            .id(place.to_string())
            .message(&record.body);
        for (name, value) in [
            ("type", &record.event_type),
            ("source", &record.source),
            ("subject", &record.key),
            ("correlationid", &record.correlation_id),
        ] {
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value);
            entry = entry.message_attributes(name, value.build()?);
        }
        Ok(entry.build()?)
    }

    async fn send(&self, records: &[Record]) -> Outcome<()> {
        let entries = records.iter().enumerate();
        let entries: Outcome<Vec<_>> = entries
            .map(|(place, record)| Self::entry(place, record))
            .collect();
        let request = self.client.publish_batch().topic_arn(&self.topic);
        let request = request.set_publish_batch_request_entries(Some(entries?));
        match request.send().await?.failed() {
            [] => Ok(()),
            failed => Err(format!("SNS refused {failed:?}").into()),
        }
    }
}

impl Publisher for BareSns {
    fn publish(&self, places: Range<usize>) -> BoxFuture<'_, Outcome<()>> {
        let records = self.records.get(places).unwrap_or_default();
        let sending = futures_util::stream::iter(records.chunks(ENTRIES_MAX))
            .map(|records| self.send(records))
            .buffer_unordered(REQUESTS_IN_FLIGHT);
        Box::pin(sending.try_collect())
    }
}

struct BareEventBridge {
    client: aws_sdk_eventbridge::Client,
    bus: String,
    records: Vec<Record>,
}

impl BareEventBridge {
    async fn send(&self, records: &[Record]) -> Outcome<()> {
        let entries = records.iter().map(|record| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.bus)
                .source(&record.source)
                .detail_type(&record.event_type)
                .detail(&record.body)
                .time(DateTime::from_secs(record.seconds))
                .resources(&record.key)
                .build()
        });
        let request = self.client.put_events();
        let answer = request.set_entries(Some(entries.collect())).send().await?;
        match answer.failed_entry_count() {
            0 => Ok(()),
            count => Err(format!("EventBridge refused {count} entries").into()),
        }
    }
}

impl Publisher for BareEventBridge {
    fn publish(&self, places: Range<usize>) -> BoxFuture<'_, Outcome<()>> {
        let records = self.records.get(places).unwrap_or_default();
        let sending = futures_util::stream::iter(records.chunks(ENTRIES_MAX))
            .map(|records| self.send(records))
            .buffer_unordered(REQUESTS_IN_FLIGHT);
        Box::pin(sending.try_collect())
    }
}

/// `sns_sqs.…` and `eventbridge.…`.
pub(crate) fn everything(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    for service in [Service::Sns, Service::EventBridge] {
        let name = service.name();
        if request.wants(&format!("{name}.publish")) {
            publish(service, request, report, runtime)?;
        }
        if request.wants(&format!("{name}.consume_cpu")) {
            consume(service, request, report, runtime)?;
        }
    }
    Ok(())
}

fn publish(
    service: Service,
    request: &Request,
    report: &mut Report,
    runtime: &Runtime,
) -> Outcome<()> {
    let events = stage::envelopes(request.full_or_quick(1_500, 300))?;
    let server = Server::find()?;
    figures::publish(service.name(), request, report, |side| {
        runtime.block_on(async {
            let room = server.room(service).await?;
            let publisher: Box<dyn Publisher> = match side {
                Side::Ours => Box::new(Ours {
                    broker: Arc::clone(&room.broker),
                    events: Arc::clone(&events),
                }),
                Side::Bare => server.bare(service, &room, &events),
            };
            let rate = stage::publish(&*publisher, events.len(), IN_FLIGHT).await?;
            server.remove(&room).await?;
            Ok(rate)
        })
    })
}

fn consume(
    service: Service,
    request: &Request,
    report: &mut Report,
    runtime: &Runtime,
) -> Outcome<()> {
    let events = stage::envelopes(request.full_or_quick(1_000, 200))?;
    let server = Server::find()?;
    figures::consume(service.name(), request, report, |side| {
        runtime.block_on(async {
            let room = server.room(service).await?;
            stage::fill(&*room.broker, &events).await?;
            let micros = match side {
                Side::Ours => stage::consume(Arc::clone(&room.broker), GROUP, events.len()).await?,
                Side::Bare => {
                    let sqs = server.sqs();
                    let bare = consume_bare(&sqs, &room.queue_url, events.len());
                    tokio::time::timeout(DEADLINE, bare).await??
                }
            };
            server.remove(&room).await?;
            Ok(micros)
        })
    })
}

/// One loop that receives ten messages, looks at them and deletes them.
async fn consume_bare(sqs: &aws_sdk_sqs::Client, queue: &str, events: usize) -> Outcome<f64> {
    let before = processor_time()?;
    let mut seen = 0;
    while seen < events {
        let receiving = sqs
            .receive_message()
            .queue_url(queue)
            .max_number_of_messages(10)
            .wait_time_seconds(1)
            .send();
        let received = receiving.await?;
        let mut entries = Vec::new();
        for (place, message) in received.messages().iter().enumerate() {
            black_box(message.body());
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(message.receipt_handle().unwrap_or_default());
            entries.push(entry.build()?);
        }
        if entries.is_empty() {
            continue;
        }
        seen += entries.len();
        let deleting = sqs.delete_message_batch().queue_url(queue);
        deleting.set_entries(Some(entries)).send().await?;
    }
    Ok(micros_each(processor_time()? - before, events))
}

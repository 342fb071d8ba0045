//! Kafka: rdkafka as it comes next to our adapter, with the same settings, topic and records.

use crate::figures::{self, Side};
use crate::measure::{Outcome, Report, Request, processor_time};
use crate::stage::{self, DEADLINE, Ours, Publisher, micros_each};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tidings_brokers::KafkaBroker;
use tidings_core::cloudevents::binding::{Binding, Message};
use tidings_core::seam::Clock as _;
use tidings_core::{BoxFuture, Envelope};
use tidings_flow::runtime::SystemClock;
use tokio::runtime::Runtime;

const VARIABLE: &str = "TIDINGS_TEST_KAFKA_URL";
/// As many as our adapter makes a topic with.
const PARTITIONS: i32 = 6;
/// As often as our adapter commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

/// The server of the figures.
pub(crate) struct Server {
    url: String,
    pub(crate) bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Server {
    pub(crate) fn find() -> Outcome<Self> {
        let url = stage::server(VARIABLE)?;
        let bootstrap = stage::authority(&url).to_owned();
        let admin = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .create()?;
        Ok(Self {
            url,
            bootstrap,
            admin,
        })
    }

    /// A new topic; with `flush_each` every record is flushed to the disk before it is acknowledged.
    pub(crate) async fn topic(&self, flush_each: bool) -> Outcome<String> {
        let name = stage::fresh("kafka");
        let mut topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        if flush_each {
            topic = topic.set("flush.messages", "1");
        }
        for made in self
            .admin
            .create_topics([&topic], &AdminOptions::new())
            .await?
        {
            made.map_err(|(topic, code)| format!("the topic {topic} was not made: {code}"))?;
        }
        Ok(name)
    }

    pub(crate) async fn remove(&self, topic: &str) -> Outcome<()> {
        self.admin
            .delete_topics(&[topic], &AdminOptions::new())
            .await?;
        Ok(())
    }

    async fn broker(&self, topic: &str) -> Outcome<KafkaBroker> {
        let url = stage::with(&self.url, &format!("topic={topic}"))?;
        Ok(KafkaBroker::connect(&url, Arc::new(SystemClock::new())).await?)
    }
}

/// A record as the bare client is given it: what our adapter would write, written beforehand.
struct Record {
    key: String,
    message: Message,
}

/// The producer of the library that tells of each record what became of it.
pub(crate) struct Bare {
    producer: FutureProducer,
    topic: String,
    records: Vec<Record>,
}

impl Bare {
    pub(crate) fn new(bootstrap: &str, topic: &str, events: &[Envelope]) -> Outcome<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("enable.gapless.guarantee", "true")
            .set("batch.size", "1000000")
            .set("linger.ms", "1")
            .set("partitioner", "murmur2_random")
            .create()?;
        let records = events.iter().map(|envelope| Record {
            key: envelope.key().unwrap_or_default().into_owned(),
            message: Binding::KAFKA.write(envelope),
        });
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            records: records.collect(),
        })
    }
}

impl Publisher for Bare {
    fn publish(&self, places: Range<usize>) -> BoxFuture<'_, Outcome<()>> {
        Box::pin(async move {
            let mut on_their_way = Vec::with_capacity(places.len());
            for record in self.records.get(places).unwrap_or_default() {
                let mut headers = OwnedHeaders::new_with_capacity(record.message.headers.len());
                for (key, value) in &record.message.headers {
                    let value = Some(value.as_bytes());
                    headers = headers.insert(Header { key, value });
                }
                let sent = self.producer.send_result(
                    FutureRecord::to(&self.topic)
                        .key(&record.key)
                        .payload(record.message.body.as_ref())
                        .headers(headers),
                );
                on_their_way.push(sent.map_err(|(error, _)| error)?);
            }
            for delivered in on_their_way {
                delivered.await?.map_err(|(error, _)| error)?;
            }
            Ok(())
        })
    }
}

/// `kafka.publish`.
pub(crate) fn publish(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let events = stage::envelopes(request.full_or_quick(60_000, 1_000))?;
    let server = Server::find()?;
    figures::publish("kafka", request, report, |side| {
        runtime.block_on(async {
            let topic = server.topic(false).await?;
            let publisher: Box<dyn Publisher> = match side {
                Side::Ours => Box::new(Ours {
                    broker: server.broker(&topic).await?,
                    events: Arc::clone(&events),
                }),
                Side::Bare => Box::new(Bare::new(&server.bootstrap, &topic, &events)?),
            };
            let rate = stage::publish(&*publisher, events.len(), stage::IN_FLIGHT).await?;
            server.remove(&topic).await?;
            Ok(rate)
        })
    })
}

/// `kafka.consume_cpu`: the same topic again and again, each time by a new group.
pub(crate) fn consume(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let events = stage::envelopes(request.full_or_quick(200_000, 2_000))?;
    let server = Server::find()?;
    let (topic, broker) = runtime.block_on(async {
        let topic = server.topic(false).await?;
        let broker = Arc::new(server.broker(&topic).await?);
        stage::fill(&*broker, &events).await?;
        Outcome::Ok((topic, broker))
    })?;
    figures::consume("kafka", request, report, |side| {
        let group = stage::fresh("group");
        match side {
            Side::Ours => {
                let broker = Arc::clone(&broker);
                runtime.block_on(stage::consume(broker, &group, events.len()))
            }
            Side::Bare => consume_bare(&server.bootstrap, &topic, &group, events.len()),
        }
    })?;
    runtime.block_on(server.remove(&topic))
}

/// One loop that polls, looks at key, headers and payload, and commits as often as our adapter does.
fn consume_bare(bootstrap: &str, topic: &str, group: &str, events: usize) -> Outcome<f64> {
    let before = processor_time()?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "500")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.max.bytes", "8388608")
        .set("fetch.message.max.bytes", "1048576")
        .create()?;
    consumer.subscribe(&[topic])?;
    let clock = SystemClock::new();
    let (mut seen, mut committed_at) = (0, Duration::ZERO);
    while seen < events {
        let now = clock.elapsed();
        if now > DEADLINE {
            return Err(format!("{seen} of {events} events came").into());
        }
        if now - committed_at > COMMIT_INTERVAL {
            committed_at = now;
            let _nothing_stored = consumer.commit_consumer_state(CommitMode::Async);
        }
        for _ in 0..512 {
            let message = match consumer.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => message,
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => continue,
                Some(Err(error)) => return Err(error.into()),
                None => break,
            };
            black_box((message.key(), message.payload()));
            for header in message.headers().into_iter().flat_map(|all| all.iter()) {
                black_box(header);
            }
            consumer.store_offset_from_message(&message)?;
            seen += 1;
            if seen == events {
                break;
            }
        }
    }
    consumer.commit_consumer_state(CommitMode::Sync)?;
    drop(consumer);
    Ok(micros_each(processor_time()? - before, events))
}

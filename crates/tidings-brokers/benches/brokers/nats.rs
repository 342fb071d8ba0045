//! NATS JetStream: async-nats as it comes next to our adapter, with the same stream, headers and message ids.

use crate::figures::{self, Side};
use crate::measure::{Outcome, Report, Request, processor_time};
use crate::stage::{self, DEADLINE, Ours, Publisher, micros_each};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::context::Context;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, StorageType};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tidings_brokers::NatsBroker;
use tidings_core::cloudevents::binding::Binding;
use tidings_core::{BoxFuture, DedupeKey, Envelope};
use tokio::runtime::Runtime;

const VARIABLE: &str = "TIDINGS_TEST_NATS_URL";
/// As long as our adapter's streams know duplicates.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// As many as our adapter has on their way to a group at most.
const ACKS_PENDING_MAX: i64 = 4_096;
/// As many as our adapter asks for at once.
const PULL_EVENTS_MAX: usize = 1_024;

/// The server of the figures.
pub(crate) struct Server {
    url: String,
    jetstream: Context,
}

impl Server {
    pub(crate) async fn find(variable: &str) -> Outcome<Self> {
        let url = stage::server(variable)?;
        let client = async_nats::connect(stage::authority(&url)).await?;
        Ok(Self {
            url,
            jetstream: async_nats::jetstream::new(client),
        })
    }

    /// A new stream, made as our adapter makes one.
    pub(crate) async fn stream(&self) -> Outcome<String> {
        let name = stage::fresh("nats");
        let config = Config {
            name: name.clone(),
            subjects: vec![format!("{name}.>")],
            storage: StorageType::File,
            duplicate_window: DUPLICATE_WINDOW,
            ..Config::default()
        };
        self.jetstream.create_stream(config).await?;
        Ok(name)
    }

    pub(crate) async fn remove(&self, stream: &str) -> Outcome<()> {
        self.jetstream.delete_stream(stream).await?;
        Ok(())
    }

    async fn broker(&self, stream: &str) -> Outcome<NatsBroker> {
        let url = stage::with(&self.url, &format!("stream={stream}"))?;
        Ok(NatsBroker::connect(&url).await?)
    }

    pub(crate) async fn bare(&self, stream: &str, events: &[Envelope]) -> Outcome<Bare> {
        // A connection of its own, as our adapter has one.
        let client = async_nats::connect(stage::authority(&self.url)).await?;
        Ok(Bare::new(
            async_nats::jetstream::new(client),
            stream,
            events,
        ))
    }
}

/// A message as the bare client is given it: what our adapter would write, written beforehand.
struct Record {
    subject: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

/// The client with all messages of a batch on their way.
pub(crate) struct Bare {
    jetstream: Context,
    records: Vec<Record>,
}

impl Bare {
    fn new(jetstream: Context, stream: &str, events: &[Envelope]) -> Self {
        let records = events.iter().map(|envelope| {
            let message = Binding::NATS.write(envelope);
            let mut headers = message.headers;
            let key = DedupeKey::of(envelope);
            let digits = key.as_bytes().iter().map(|byte| format!("{byte:02x}"));
            headers.push(("Nats-Msg-Id".to_owned(), digits.collect()));
            Record {
                subject: format!("{stream}.{}", envelope.event_type()),
                headers,
                body: message.body,
            }
        });
        Self {
            jetstream,
            records: records.collect(),
        }
    }
}

impl Publisher for Bare {
    fn publish(&self, places: Range<usize>) -> BoxFuture<'_, Outcome<()>> {
        Box::pin(async move {
            let mut on_their_way = Vec::with_capacity(places.len());
            for record in self.records.get(places).unwrap_or_default() {
                let mut headers = HeaderMap::new();
                for (name, value) in &record.headers {
                    headers.insert(name.as_str(), value.as_str());
                }
                let message = PublishMessage::build()
                    .headers(headers)
                    .payload(record.body.clone());
                let sent = self.jetstream.send_publish(record.subject.clone(), message);
                on_their_way.push(sent.await?);
            }
            for acknowledged in on_their_way {
                acknowledged.await?;
            }
            Ok(())
        })
    }
}

/// `nats.publish`.
pub(crate) fn publish(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let events = stage::envelopes(request.full_or_quick(40_000, 1_000))?;
    let server = runtime.block_on(Server::find(VARIABLE))?;
    figures::publish("nats", request, report, |side| {
        runtime.block_on(async {
            let stream = server.stream().await?;
            let publisher: Box<dyn Publisher> = match side {
                Side::Ours => Box::new(Ours {
                    broker: server.broker(&stream).await?,
                    events: Arc::clone(&events),
                }),
                Side::Bare => Box::new(server.bare(&stream, &events).await?),
            };
            let rate = stage::publish(&*publisher, events.len(), stage::IN_FLIGHT).await?;
            server.remove(&stream).await?;
            Ok(rate)
        })
    })
}

/// `nats.consume_cpu`: the same stream again and again, each time by a new group.
pub(crate) fn consume(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let events = stage::envelopes(request.full_or_quick(100_000, 2_000))?;
    let server = runtime.block_on(Server::find(VARIABLE))?;
    let (stream, broker) = runtime.block_on(async {
        let stream = server.stream().await?;
        let broker = Arc::new(server.broker(&stream).await?);
        stage::fill(&*broker, &events).await?;
        Outcome::Ok((stream, broker))
    })?;
    figures::consume("nats", request, report, |side| {
        let group = stage::fresh("group");
        runtime.block_on(async {
            match side {
                Side::Ours => stage::consume(Arc::clone(&broker) as _, &group, events.len()).await,
                Side::Bare => {
                    let bare = consume_bare(&server, &stream, &group, events.len());
                    tokio::time::timeout(DEADLINE, bare).await?
                }
            }
        })
    })?;
    runtime.block_on(server.remove(&stream))
}

/// One loop over the client's own stream of messages; each is looked at and acknowledged.
async fn consume_bare(server: &Server, stream: &str, group: &str, events: usize) -> Outcome<f64> {
    let before = processor_time()?;
    let config = pull::Config {
        durable_name: Some(group.to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_deliver: -1,
        max_ack_pending: ACKS_PENDING_MAX,
        filter_subject: format!("{stream}.>"),
        ..pull::Config::default()
    };
    let stream = server.jetstream.get_stream(stream).await?;
    let consumer = stream.create_consumer(config).await?;
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(PULL_EVENTS_MAX)
        .messages()
        .await?;
    for _ in 0..events {
        let message = messages.next().await.ok_or("the messages ended")??;
        black_box((&message.headers, &message.payload));
        message.ack().await?;
    }
    server.jetstream.client().flush().await?;
    drop(messages);
    Ok(micros_each(processor_time()? - before, events))
}

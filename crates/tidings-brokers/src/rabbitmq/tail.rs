//! Reading along without a group: a queue of our own from now on, which the server forgets when nobody reads it.

use super::NAME;
use super::admin;
use super::connection::Link;
use super::mapping;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use std::sync::Arc;
use tidings_core::broker::{BrokerError, StartAt, Tail, TailPage, TailRequest, Tailed};
use tidings_core::limits::RABBITMQ_TAIL_EXPIRES;
use tidings_core::{BoxFuture, Pattern};

/// Events from now on.
pub(super) struct RabbitMqTail {
    link: Arc<Link>,
    queue: ShortString,
    open: Option<Open>,
    /// The newest event that was given; acknowledged when more is asked for.
    given: Option<u64>,
    count: u64,
    end_told: bool,
}

struct Open {
    /// Held, because the channel ends with it.
    _connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

/// Makes the queue and binds it.
pub(super) async fn open(
    link: &Arc<Link>,
    request: TailRequest,
) -> Result<RabbitMqTail, BrokerError> {
    if request.start != StartAt::Latest {
        return Err(no_history("read events from before now"));
    }
    admin::ready_exchange(link).await?;
    let patterns = if request.patterns.is_empty() {
        vec![Pattern::everything()]
    } else {
        request.patterns
    };
    let channel = link.channel().await?;
    let making = async {
        let mut arguments = FieldTable::default();
        let expires = i32::try_from(RABBITMQ_TAIL_EXPIRES.as_millis()).unwrap_or(i32::MAX);
        arguments.insert("x-expires".into(), AMQPValue::LongInt(expires));
        // Named by the server; durable, so that a restart of the server leaves no gap.
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare(ShortString::default(), options, arguments)
            .await?;
        for key in mapping::binding_keys(&patterns) {
            let exchange = link.config.exchange.as_str().into();
            let options = QueueBindOptions::default();
            channel
                .queue_bind(
                    queue.name().clone(),
                    exchange,
                    key,
                    options,
                    FieldTable::default(),
                )
                .await?;
        }
        Ok(queue.name().clone())
    };
    let queue = link.within("make a queue", making).await?;
    Ok(RabbitMqTail {
        link: Arc::clone(link),
        queue,
        open: None,
        given: None,
        count: 0,
        end_told: false,
    })
}

/// A queue forgets what was consumed.
pub(super) fn no_history(what: &str) -> BrokerError {
    BrokerError::Unsupported {
        broker: NAME,
        what: format!("{what}: it keeps no history; begin at the latest"),
    }
}

impl RabbitMqTail {
    async fn begin(&self) -> Result<Open, BrokerError> {
        let connection = self.link.connect().await?;
        let beginning = async {
            let channel = connection.create_channel().await?;
            let prefetch = self.link.config.prefetch;
            channel
                .basic_qos(prefetch, BasicQosOptions::default())
                .await?;
            let options = BasicConsumeOptions::default();
            let consumer = channel
                .basic_consume(
                    self.queue.clone(),
                    ShortString::default(),
                    options,
                    FieldTable::default(),
                )
                .await?;
            Ok((channel, consumer))
        };
        let (channel, consumer) = self.link.within("hand out events", beginning).await?;
        Ok(Open {
            _connection: connection,
            channel,
            consumer,
        })
    }

    fn take(&mut self, delivery: lapin::message::Delivery) -> Tailed {
        let body = Bytes::from(delivery.data);
        let carried = mapping::read(mapping::Found {
            exchange: delivery.exchange.as_str(),
            routing_key: delivery.routing_key.as_str(),
            properties: &delivery.properties,
            body: &body,
        });
        self.given = Some(delivery.delivery_tag);
        self.count += 1;
        Tailed {
            place: format!("{}/{}", self.link.config.exchange, self.count).into(),
            position: None,
            append_time: None,
            envelope: carried.envelope,
            problem: carried.problem,
        }
    }
}

impl Tail for RabbitMqTail {
    fn next(&mut self, events_max: usize) -> BoxFuture<'_, Result<TailPage, BrokerError>> {
        Box::pin(async move {
            if !self.end_told {
                self.end_told = true;
                return Ok(TailPage {
                    events: Vec::new(),
                    at_end: true,
                });
            }
            if self.open.is_none() {
                self.given = None;
                self.open = Some(self.begin().await?);
            }
            let mut events = Vec::new();
            while events.len() < events_max.max(1) {
                let Some(open) = &mut self.open else {
                    break;
                };
                if let Some(tag) = self.given.filter(|_| events.is_empty()) {
                    let acknowledging = open
                        .channel
                        .basic_ack(tag, BasicAckOptions { multiple: true });
                    // A connection that is lost is told of by what follows.
                    let _lost = self
                        .link
                        .within("take an acknowledgement", acknowledging)
                        .await;
                    self.given = None;
                }
                let next = if events.is_empty() {
                    open.consumer.next().await
                } else {
                    match open.consumer.next().now_or_never() {
                        Some(next) => next,
                        None => break,
                    }
                };
                match next {
                    Some(Ok(delivery)) => events.push(self.take(delivery)),
                    failed => {
                        self.open = None;
                        if !events.is_empty() {
                            break;
                        }
                        return Err(match failed {
                            Some(Err(error)) => self.link.meaning("hand out events", &error),
                            _ => self.link.unreachable("the server ended the consumer"),
                        });
                    }
                }
            }
            Ok(TailPage {
                events,
                at_end: false,
            })
        })
    }
}

//! A group on RabbitMQ: a quorum queue with a single active consumer, and the task that keeps a connection to it.

use super::admin;
use super::connection::Link;
use super::mapping;
use crate::incoming::{CAUGHT_UP_FRESH, Incoming, ReceiveHalf};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tidings_core::BoxFuture;
use tidings_core::broker::{
    BrokerError, Delivery, Settle, SettleAction, SettleError, SubscribeRequest, Subscription, Token,
};
use tidings_core::limits::{
    REMOTE_RECONNECT_BACKOFF_FIRST, REMOTE_RECONNECT_BACKOFF_MAX, REMOTE_REQUEST_TIMEOUT,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

/// Deliveries that are taken in at once.
const TAKE_EVENTS_MAX: usize = 1_024;

/// Joins a group, making its queue if it does not exist.
pub(super) async fn subscribe(
    link: &Arc<Link>,
    request: &SubscribeRequest,
) -> Result<Subscription, BrokerError> {
    let queue = admin::queue_name(link, &request.group)?;
    let shared = Arc::new(Shared {
        link: Arc::clone(link),
        request: request.clone(),
        incoming: Arc::new(Incoming::new(queue.as_str(), None, link.ends.subscribe())),
        queue,
        channel: Mutex::new(None),
    });
    let open = shared.open().await?;
    link.note_member(&shared.queue, &shared.incoming);
    let (stop, stopped) = watch::channel(());
    #[expect(
        clippy::disallowed_methods,
        reason = "the subscription owns it: leaving awaits it, and dropping the subscription ends it"
    )]
    let keeper = tokio::spawn(keep(Arc::clone(&shared), open, stopped));
    let incoming = Arc::clone(&shared.incoming);
    let member = Arc::new(Member {
        shared,
        stop: Mutex::new(Some((stop, keeper))),
    });
    Ok(Subscription {
        receive: Box::new(ReceiveHalf {
            incoming,
            _member: Arc::clone(&member) as _,
        }),
        settle: member,
        resumed: None,
    })
}

/// What keeper and halves of a subscription share.
struct Shared {
    link: Arc<Link>,
    request: SubscribeRequest,
    queue: ShortString,
    /// The handle of a delivery is its tag, which is also its place.
    incoming: Arc<Incoming<u64>>,
    /// Where acknowledgements go; guarded, because it changes with the connection.
    channel: Mutex<Option<Channel>>,
}

/// A connection that consumes.
struct Open {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl Shared {
    /// Connects and begins to consume.
    async fn open(&self) -> Result<Open, BrokerError> {
        let link = &self.link;
        admin::ready_exchange(link).await?;
        admin::ready_queue(link, &self.queue, &self.request).await?;
        let connection = link.connect().await?;
        let beginning = async {
            let channel = connection.create_channel().await?;
            let prefetch = link.config.prefetch;
            channel
                .basic_qos(prefetch, BasicQosOptions::default())
                .await?;
            let consumer = channel
                .basic_consume(
                    self.queue.clone(),
                    ShortString::default(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            Ok((channel, consumer))
        };
        let (channel, consumer) = link.within("hand out events", beginning).await?;
        self.set_channel(Some(channel.clone()));
        Ok(Open {
            connection,
            channel,
            consumer,
        })
    }

    fn set_channel(&self, channel: Option<Channel>) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = channel;
    }

    fn channel(&self) -> Option<Channel> {
        let channel = self.channel.lock();
        channel.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps a connection that consumes until it is stopped; what is not settled then goes back to the queue, ahead of everything.
async fn keep(shared: Arc<Shared>, first: Open, mut stopped: watch::Receiver<()>) {
    let mut open = Some(first);
    let mut failures = 0_u32;
    loop {
        let failed = tokio::select! {
            biased;
            // Nothing is ever sent: it ends when the other side is dropped.
            _ = stopped.changed() => break,
            failed = work(&shared, &mut open, &mut failures) => failed,
        };
        if let Some(lost) = open.take() {
            shared.set_channel(None);
            shared.incoming.lose();
            close(lost).await;
        }
        shared.incoming.fail(failed);
        let delay = REMOTE_RECONNECT_BACKOFF_FIRST
            .saturating_mul(1 << failures.min(16))
            .min(REMOTE_RECONNECT_BACKOFF_MAX);
        failures = failures.saturating_add(1);
        tokio::select! {
            biased;
            _ = stopped.changed() => break,
            () = sleep(delay) => {}
        }
    }
    shared.set_channel(None);
    shared.incoming.lose();
    if let Some(left) = open {
        close(left).await;
    }
}

/// Closing the channel gives everything back that is not settled, in its order.
async fn close(open: Open) {
    let closing = async {
        open.channel.close(200, "OK".into()).await?;
        open.connection.close(200, "OK".into()).await
    };
    // A connection that is lost needs no farewell: the server gives back by itself.
    let _lost = tokio::time::timeout(REMOTE_REQUEST_TIMEOUT, closing).await;
}

/// Receives until something fails.
async fn work(shared: &Shared, slot: &mut Option<Open>, failures: &mut u32) -> BrokerError {
    let open = match slot {
        Some(open) => open,
        None => match shared.open().await {
            Ok(open) => slot.insert(open),
            Err(error) => return error,
        },
    };
    let mut answered = false;
    let mut fresh_end: Pin<Box<Sleep>> = Box::pin(sleep(CAUGHT_UP_FRESH));
    loop {
        if shared.incoming.is_asked() {
            match look(shared, open).await {
                Ok(nothing_left) => {
                    shared.incoming.answer(nothing_left);
                    answered = nothing_left;
                    fresh_end = Box::pin(sleep(CAUGHT_UP_FRESH));
                }
                Err(error) => return error,
            }
            continue;
        }
        tokio::select! {
            delivery = open.consumer.next() => match take(shared, open, delivery) {
                Ok(()) => *failures = 0,
                Err(error) => return error,
            },
            () = shared.incoming.work.notified() => {}
            () = &mut fresh_end, if answered => {
                answered = false;
                shared.incoming.forget_answer();
            }
        }
    }
}

/// Takes in a delivery and those that are there already.
fn take(
    shared: &Shared,
    open: &mut Open,
    first: Option<lapin::Result<lapin::message::Delivery>>,
) -> Result<(), BrokerError> {
    let mut next = first;
    let mut taken = Vec::new();
    let result = loop {
        match next {
            Some(Ok(delivery)) => taken.push(decode(delivery)),
            Some(Err(error)) => break Err(shared.link.meaning("hand out events", &error)),
            None => {
                break Err(shared
                    .link
                    .unreachable("the server ended the consumer, or its queue was removed"));
            }
        }
        if taken.len() >= TAKE_EVENTS_MAX {
            break Ok(());
        }
        match open.consumer.next().now_or_never() {
            Some(delivery) => next = delivery,
            None => break Ok(()),
        }
    };
    if !taken.is_empty() {
        shared.incoming.insert(taken);
    }
    result
}

fn decode(delivery: lapin::message::Delivery) -> (u64, Delivery, u64) {
    let body = Bytes::from(delivery.data);
    let carried = mapping::read(mapping::Found {
        exchange: delivery.exchange.as_str(),
        routing_key: delivery.routing_key.as_str(),
        properties: &delivery.properties,
        body: &body,
    });
    let tag = delivery.delivery_tag;
    let delivery = Delivery {
        // Given when it is taken in.
        token: Token(0),
        position: None,
        append_time: None,
        envelope: carried.envelope,
        problem: carried.problem,
        redelivered: delivery.redelivered,
    };
    (tag, delivery, tag)
}

/// Whether the queue has nothing that we have not taken in. The server counts what it has not sent; what it sent before it counted comes before its next answer,
/// so two answers in a row that nothing is left say that nothing is on its way.
async fn look(shared: &Shared, open: &mut Open) -> Result<bool, BrokerError> {
    for _ in 0..2 {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let asking =
            open.channel
                .queue_declare(shared.queue.clone(), options, FieldTable::default());
        let queue = shared.link.within("count events", asking).await?;
        if let Some(delivery) = open.consumer.next().now_or_never() {
            take(shared, open, delivery)?;
            return Ok(false);
        }
        if queue.message_count() > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One instance's part in a group.
struct Member {
    shared: Arc<Shared>,
    /// Ends the keeper when it is dropped; guarded, because leaving takes it once.
    stop: Mutex<Option<(watch::Sender<()>, JoinHandle<()>)>>,
}

impl Member {
    /// Acknowledges deliveries: the run from the oldest open one on by a single message, the others one by one.
    async fn acknowledge(&self, tags: &HashSet<u64>) -> Result<(), BrokerError> {
        if tags.is_empty() {
            return Ok(());
        }
        let link = &self.shared.link;
        let channel = self.shared.channel();
        let channel = channel.ok_or_else(|| link.unreachable("the connection is lost"))?;
        let run_end = self.shared.incoming.lock().table.run_end(tags);
        let acknowledging = async {
            if let Some(end) = run_end {
                let options = BasicAckOptions { multiple: true };
                channel.basic_ack(end, options).await?;
            }
            for tag in tags {
                if run_end.is_none_or(|end| *tag > end) {
                    channel.basic_ack(*tag, BasicAckOptions::default()).await?;
                }
            }
            Ok(())
        };
        link.within("take an acknowledgement", acknowledging).await
    }
}

impl Settle for Member {
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            let mut answers: Vec<Result<(), SettleError>> = Vec::with_capacity(outcomes.len());
            let mut acknowledged = HashSet::new();
            let generation = {
                let mut inner = self.shared.incoming.lock();
                for (token, action) in outcomes {
                    let found = inner.table.find(*token);
                    answers.push(found.map(|(place, tag)| match action {
                        SettleAction::Ack => drop(acknowledged.insert(tag)),
                        SettleAction::Release => inner.table.release(place),
                        // A delivery is ours as long as the channel is.
                        SettleAction::Extend(_) => {}
                    }));
                }
                inner.table.generation()
            };
            let result = self.acknowledge(&acknowledged).await;
            let mut inner = self.shared.incoming.lock();
            // Acknowledgements that a lost connection may have swallowed are not known to have been taken.
            let lost = inner.table.generation() != generation;
            if result.is_ok() && !lost {
                for tag in acknowledged {
                    inner.table.settled(tag);
                }
            }
            drop(inner);
            let reason = result.err().map(|error| error.to_string());
            for (answer, (_, action)) in answers.iter_mut().zip(outcomes) {
                if answer.is_err() || *action != SettleAction::Ack {
                    continue;
                }
                if lost {
                    *answer = Err(SettleError::Stale);
                } else if let Some(reason) = &reason {
                    let error = self.shared.link.unreachable(reason.clone());
                    *answer = Err(SettleError::Broker(error));
                }
            }
            self.shared.incoming.wake();
            answers
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            let Some(channel) = self.shared.channel() else {
                return Ok(());
            };
            // AMQP does not answer acknowledgements; an answer to something later on the same channel says that they have arrived.
            let options = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let asking =
                channel.queue_declare(self.shared.queue.clone(), options, FieldTable::default());
            self.shared.link.within("flush", asking).await.map(drop)
        })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            let stop = self.stop.lock();
            let taken = stop.unwrap_or_else(PoisonError::into_inner).take();
            let Some((stop, keeper)) = taken else {
                return Ok(());
            };
            // What was acknowledged arrives before the channel is closed.
            let _lost = self.flush().await;
            drop(stop);
            keeper.await.map_err(|_| BrokerError::Bug {
                what: "the keeper of a group on RabbitMQ",
            })
        })
    }
}

//! The exchange and the queues of groups as an operator sees them.

use super::NAME;
use super::connection::{Link, is_missing, is_otherwise};
use super::mapping;
use super::tail::no_history;
use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{ExchangeKind, Queue};
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::broker::{
    Admin, BrokerError, GroupLag, GroupName, GroupStatus, Position, StartAt, SubscribeRequest,
    TopologyItem, TopologyRequest, TopologyState,
};
use tidings_core::limits::{RABBITMQ_DELIVERY_LIMIT, REMOTE_REQUEST_TIMEOUT};
use tokio::time::sleep;

/// A queue that seems to be in use is looked at so many times more before it is said to be.
const LEFT_LOOKS: u32 = 20;
/// The wait before each of those looks.
const LEFT_LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What a question about something on the server gave.
enum Found<T> {
    There(T),
    Missing,
    Otherwise(String),
}

/// The queue of a group.
pub(super) fn queue_name(link: &Link, group: &GroupName) -> Result<ShortString, BrokerError> {
    let name = format!("{}{group}", link.config.queue_prefix);
    ShortString::try_new(name).map_err(|error| BrokerError::Unsupported {
        broker: NAME,
        what: format!("hold the group {group}: {error}"),
    })
}

/// Asks on a channel of its own, which an unwelcome answer closes.
async fn ask<T>(
    link: &Link,
    action: &'static str,
    request: impl AsyncFnOnce(lapin::Channel) -> lapin::Result<T>,
) -> Result<Found<T>, BrokerError> {
    let channel = link.channel().await?;
    let asking = request(channel.clone());
    let Ok(answer) = tokio::time::timeout(REMOTE_REQUEST_TIMEOUT, asking).await else {
        return Err(link.unreachable("no answer in time"));
    };
    match answer {
        Ok(found) => {
            // Closed, so that channels do not pile up; one that is gone needs no farewell.
            let _gone = channel.close(200, "OK".into()).await;
            Ok(Found::There(found))
        }
        Err(error) if is_missing(&error) => Ok(Found::Missing),
        Err(error) if is_otherwise(&error) => Ok(Found::Otherwise(error.to_string())),
        Err(error) => Err(link.meaning(action, &error)),
    }
}

async fn declare_exchange(link: &Link, passive: bool) -> Result<Found<()>, BrokerError> {
    let exchange = link.config.exchange.as_str().into();
    let options = ExchangeDeclareOptions {
        passive,
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    ask(link, "declare the exchange", async |channel| {
        channel
            .exchange_declare(
                exchange,
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            )
            .await
    })
    .await
}

async fn declare_queue(
    link: &Link,
    queue: &ShortString,
    passive: bool,
) -> Result<Found<Queue>, BrokerError> {
    let options = QueueDeclareOptions {
        passive,
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let arguments = if passive {
        FieldTable::default()
    } else {
        queue_arguments()
    };
    ask(link, "declare a queue", async |channel| {
        channel
            .queue_declare(queue.clone(), options, arguments)
            .await
    })
    .await
}

/// Attempts are counted by us; the server must never give an event up.
fn queue_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let limit = AMQPValue::LongInt(RABBITMQ_DELIVERY_LIMIT);
    arguments.insert("x-delivery-limit".into(), limit);
    arguments
}

async fn bind(
    link: &Link,
    queue: &ShortString,
    request: &SubscribeRequest,
) -> Result<(), BrokerError> {
    let keys = mapping::binding_keys(&request.patterns);
    let bound = ask(link, "bind a queue", async |channel| {
        for key in keys {
            let exchange = link.config.exchange.as_str().into();
            let options = QueueBindOptions::default();
            channel
                .queue_bind(queue.clone(), exchange, key, options, FieldTable::default())
                .await?;
        }
        Ok(())
    });
    match bound.await? {
        Found::There(()) => Ok(()),
        Found::Missing => Err(queue_missing(link, queue, request)),
        Found::Otherwise(reason) => Err(queue_wrong(queue, reason)),
    }
}

/// The exchange, made if it is missing and may be made.
pub(super) async fn ready_exchange(link: &Link) -> Result<(), BrokerError> {
    match declare_exchange(link, true).await? {
        Found::There(()) => Ok(()),
        Found::Missing if !link.config.ensure => Err(exchange_missing(link)),
        Found::Missing | Found::Otherwise(_) => match declare_exchange(link, false).await? {
            Found::There(()) => Ok(()),
            Found::Missing => Err(exchange_missing(link)),
            Found::Otherwise(reason) => Err(exchange_wrong(link, &reason)),
        },
    }
}

/// The queue of a group with its bindings, made if it is missing and may be made.
pub(super) async fn ready_queue(
    link: &Link,
    queue: &ShortString,
    request: &SubscribeRequest,
) -> Result<(), BrokerError> {
    let found = declare_queue(link, queue, true).await?;
    if !link.config.ensure {
        return match found {
            Found::There(_) => Ok(()),
            Found::Missing => Err(queue_missing(link, queue, request)),
            Found::Otherwise(reason) => Err(queue_wrong(queue, reason)),
        };
    }
    if matches!(found, Found::Missing)
        && request.start != StartAt::Earliest
        && request.start != StartAt::Latest
    {
        return Err(no_history("begin a group at a time or a position"));
    }
    // Again where it exists: the server compares the arguments.
    match declare_queue(link, queue, false).await? {
        Found::There(_) => bind(link, queue, request).await,
        Found::Missing => Err(queue_missing(link, queue, request)),
        Found::Otherwise(reason) => Err(queue_wrong(queue, reason)),
    }
}

/// The error for an exchange that is not there.
pub(super) fn exchange_missing(link: &Link) -> BrokerError {
    BrokerError::TopologyMissing {
        broker: NAME,
        what: format!("the exchange {}", link.config.exchange),
        command: exchange_command(link),
    }
}

fn exchange_wrong(link: &Link, reason: &str) -> BrokerError {
    BrokerError::TopologyWrong {
        broker: NAME,
        what: format!("the exchange {}", link.config.exchange),
        reason: format!("it is no durable topic exchange ({reason})"),
        way_out: "name another exchange, or remove it and make it anew".to_owned(),
    }
}

fn queue_missing(link: &Link, queue: &ShortString, request: &SubscribeRequest) -> BrokerError {
    BrokerError::TopologyMissing {
        broker: NAME,
        what: format!("the queue {queue}"),
        command: queue_command(link, queue, request),
    }
}

fn queue_wrong(queue: &ShortString, reason: String) -> BrokerError {
    BrokerError::TopologyWrong {
        broker: NAME,
        what: format!("the queue {queue}"),
        reason,
        way_out: "it is a quorum queue with a single active consumer and a delivery limit; name another group, or drain the queue, remove it and make it anew".to_owned(),
    }
}

fn exchange_command(link: &Link) -> String {
    let (vhost, exchange) = (&link.config.vhost, &link.config.exchange);
    format!(
        "rabbitmqadmin --vhost '{vhost}' declare exchange name='{exchange}' type=topic durable=true"
    )
}

fn queue_command(link: &Link, queue: &ShortString, request: &SubscribeRequest) -> String {
    let (vhost, exchange) = (&link.config.vhost, &link.config.exchange);
    let mut commands = vec![format!(
        "rabbitmqadmin --vhost '{vhost}' declare queue name='{queue}' durable=true arguments='{{\"x-queue-type\":\"quorum\",\"x-single-active-consumer\":true,\"x-delivery-limit\":{RABBITMQ_DELIVERY_LIMIT}}}'"
    )];
    for key in mapping::binding_keys(&request.patterns) {
        commands.push(format!(
            "rabbitmqadmin --vhost '{vhost}' declare binding source='{exchange}' destination='{queue}' routing_key='{key}'"
        ));
    }
    commands.join(" && ")
}

/// Looks at the exchange and the queues of groups, and makes what is missing if that is asked for.
pub(super) async fn topology(
    link: &Link,
    request: TopologyRequest<'_>,
) -> Result<Vec<TopologyItem>, BrokerError> {
    let missing = TopologyState::Missing {
        command: exchange_command(link),
    };
    let created = match declare_exchange(link, true).await? {
        Found::Missing if !request.ensure => Some(missing),
        Found::Missing => {
            declare_exchange(link, false).await?;
            Some(TopologyState::Created)
        }
        Found::There(()) | Found::Otherwise(_) => None,
    };
    let state = match created {
        Some(state) => state,
        // Once more with what it must be: the server compares, and changes nothing that exists.
        None => match declare_exchange(link, false).await {
            Ok(Found::Otherwise(reason)) => wrong(exchange_wrong(link, &reason)),
            // Who may not declare may still use what is there.
            Ok(_) | Err(BrokerError::Unauthorised { .. }) => TopologyState::Present,
            Err(error) => return Err(error),
        },
    };
    let exchange_is_there = state.is_good();
    let mut items = vec![TopologyItem {
        what: format!("exchange {}", link.config.exchange),
        state,
    }];
    for group in request.groups {
        let queue = queue_name(link, &group.group)?;
        let ensure = request.ensure && exchange_is_there;
        items.push(TopologyItem {
            what: format!("queue {queue}"),
            state: queue_state(link, &queue, group, ensure).await?,
        });
    }
    Ok(items)
}

async fn queue_state(
    link: &Link,
    queue: &ShortString,
    group: &SubscribeRequest,
    ensure: bool,
) -> Result<TopologyState, BrokerError> {
    match declare_queue(link, queue, true).await? {
        Found::Missing if !ensure => {
            return Ok(TopologyState::Missing {
                command: queue_command(link, queue, group),
            });
        }
        Found::Missing => {
            declare_queue(link, queue, false).await?;
            bind(link, queue, group).await?;
            return Ok(TopologyState::Created);
        }
        Found::There(_) | Found::Otherwise(_) => {}
    }
    match declare_queue(link, queue, false).await {
        Ok(Found::Otherwise(reason)) => Ok(wrong(queue_wrong(queue, reason))),
        Ok(_) => {
            if ensure {
                bind(link, queue, group).await?;
            }
            Ok(TopologyState::Present)
        }
        Err(BrokerError::Unauthorised { .. }) => Ok(TopologyState::Present),
        Err(error) => Err(error),
    }
}

fn wrong(error: BrokerError) -> TopologyState {
    match error {
        BrokerError::TopologyWrong {
            reason, way_out, ..
        } => TopologyState::Wrong { reason, way_out },
        other => TopologyState::Wrong {
            reason: other.to_string(),
            way_out: String::new(),
        },
    }
}

fn unknown(group: &GroupName) -> BrokerError {
    BrokerError::GroupUnknown {
        group: group.to_string(),
        similar: None,
    }
}

impl Link {
    /// How many consumers a group's queue has.
    async fn consumers(&self, queue: &ShortString, group: &GroupName) -> Result<u32, BrokerError> {
        match declare_queue(self, queue, true).await? {
            Found::There(found) => Ok(found.consumer_count()),
            Found::Missing | Found::Otherwise(_) => Err(unknown(group)),
        }
    }
}

impl Admin for Link {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupStatus>, BrokerError>> {
        Box::pin(std::future::ready(Err(BrokerError::Unsupported {
            broker: NAME,
            what: "list groups over AMQP; name the group (tidings consumer lag GROUP), or run: rabbitmqctl list_queues name messages consumers"
                .to_owned(),
        })))
    }

    fn lag<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<GroupLag, BrokerError>> {
        Box::pin(async move {
            let queue = queue_name(self, group)?;
            match declare_queue(self, &queue, true).await? {
                // What instances in other processes have received is not told.
                Found::There(found) => Ok(GroupLag {
                    events: u64::from(found.message_count()) + self.unsettled(&queue) as u64,
                    ..GroupLag::default()
                }),
                Found::Missing | Found::Otherwise(_) => Err(unknown(group)),
            }
        })
    }

    fn seek<'a>(
        &'a self,
        _group: &'a GroupName,
        _start: StartAt,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        Box::pin(std::future::ready(Err(no_history("move a group"))))
    }

    fn remove<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move {
            let queue = queue_name(self, group)?;
            let mut consumers = self.consumers(&queue, group).await?;
            // The queue hears a moment later that someone has left.
            for _ in 0..LEFT_LOOKS {
                if consumers == 0 {
                    break;
                }
                sleep(LEFT_LOOK_INTERVAL).await;
                consumers = self.consumers(&queue, group).await?;
            }
            let leased = || BrokerError::GroupLeased {
                group: group.to_string(),
                owner: format!("{consumers} consumers"),
            };
            // Quorum queues do not know the condition "if unused".
            if consumers > 0 {
                return Err(leased());
            }
            let options = QueueDeleteOptions::default();
            let deleted = ask(self, "remove a queue", async |channel| {
                channel.queue_delete(queue.clone(), options).await
            });
            match deleted.await? {
                Found::There(_) => Ok(()),
                Found::Missing => Err(unknown(group)),
                Found::Otherwise(_) => Err(leased()),
            }
        })
    }
}

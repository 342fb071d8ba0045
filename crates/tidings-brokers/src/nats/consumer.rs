//! A group on JetStream: a durable pull consumer with explicit acknowledgement.

use super::NAME;
use super::admin;
use super::connection::{Link, server_time, unreachable};
use super::keeper::{self, Shared};
use super::mapping;
use crate::incoming::{Incoming, ReceiveHalf};
use async_nats::Subject;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, FromConsumer as _, pull};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use std::sync::Arc;
use tidings_core::BoxFuture;
use tidings_core::broker::{
    BrokerError, Settle, SettleAction, SettleError, StartAt, SubscribeRequest, Subscription, Token,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The longest name of a consumer in bytes.
const CONSUMER_NAME_BYTES_MAX: usize = 255;
/// The longest description of a consumer that the server keeps, with room to spare.
const DESCRIPTION_BYTES_MAX: usize = 4_000;
const ACK: Bytes = Bytes::from_static(b"+ACK");

/// Joins a group, making its consumer if it does not exist.
pub(super) async fn subscribe(
    link: &Arc<Link>,
    request: &SubscribeRequest,
) -> Result<Subscription, BrokerError> {
    let stream = match link.find_stream().await? {
        Some(stream) => stream,
        None if link.config.ensure => admin::create_stream(link).await?,
        None => return Err(link.stream_missing()),
    };
    let name = name_of(request)?;
    let found = find(link, &stream, &name).await?;
    let consumer = match &found {
        None if !link.config.ensure => {
            return Err(BrokerError::TopologyMissing {
                broker: NAME,
                what: format!("the consumer {name} of the stream {}", link.config.stream),
                command: command(link, &name, request),
            });
        }
        None => create(link, &stream, new_config(link, &name, request)?).await?,
        Some(info) => {
            let config = changed_config(link, info, request)?;
            if !link.config.ensure {
                check_filters(link, info, request)?;
            }
            if link.config.ensure && config != known_config(info)? {
                create(link, &stream, config).await?
            } else {
                pull_consumer(link, &stream, &name).await?
            }
        }
    };
    // What an instance before us had and did not settle comes only after the wait for its acknowledgement; until then nothing newer may pass it.
    let hold_from = found
        .as_ref()
        .filter(|info| info.num_ack_pending > 0)
        .map(|info| info.delivered.stream_sequence + 1);
    let delivered = found.map_or(0, |info| info.delivered.consumer_sequence);
    let incoming = Arc::new(Incoming::new(
        &link.config.stream,
        hold_from,
        link.ends.subscribe(),
    ));
    let shared = Arc::new(Shared {
        link: Arc::clone(link),
        consumer: name,
        incoming: Arc::clone(&incoming),
    });
    let (stop, stopped) = watch::channel(());
    let alone = request.single_instance.then_some(delivered);
    let keeper = keeper::spawn(Arc::clone(&shared), consumer, alone, stopped);
    let member = Arc::new(Member {
        shared,
        stop: std::sync::Mutex::new(Some((stop, keeper))),
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

/// The name of a group's consumer, if the server can hold it.
pub(super) fn name_of(request: &SubscribeRequest) -> Result<String, BrokerError> {
    let name = mapping::consumer_name(request.group.as_str());
    if name.len() > CONSUMER_NAME_BYTES_MAX {
        return Err(BrokerError::Unsupported {
            broker: NAME,
            what: format!(
                "hold the group {:?}: each dot in it takes three of the {CONSUMER_NAME_BYTES_MAX} bytes of a consumer's name; name it with fewer dots",
                request.group.as_str()
            ),
        });
    }
    Ok(name)
}

/// A consumer as it stands, if it exists.
pub(super) async fn find<I>(
    link: &Link,
    stream: &Stream<I>,
    name: &str,
) -> Result<Option<consumer::Info>, BrokerError> {
    let looking = stream.consumer_info(name);
    match link.within("look at a consumer", looking).await? {
        Ok(info) => Ok(Some(info)),
        Err(error) => match error.kind() {
            ConsumerInfoErrorKind::NotFound => Ok(None),
            _ => Err(link.failed("look at a consumer", &error)),
        },
    }
}

/// Makes a consumer, or gives it a changed configuration.
pub(super) async fn create<I>(
    link: &Link,
    stream: &Stream<I>,
    config: pull::Config,
) -> Result<consumer::PullConsumer, BrokerError> {
    let creating = stream.create_consumer(config);
    let created = link.within("make a consumer", creating).await?;
    created.map_err(|error| link.failed("make a consumer", &error))
}

async fn pull_consumer<I>(
    link: &Link,
    stream: &Stream<I>,
    name: &str,
) -> Result<consumer::PullConsumer, BrokerError> {
    let getting = stream.get_consumer(name);
    let got = link.within("look at a consumer", getting).await?;
    got.map_err(|error| link.failed("look at a consumer", &error))
}

/// The configuration of a group that is new.
pub(super) fn new_config(
    link: &Link,
    name: &str,
    request: &SubscribeRequest,
) -> Result<pull::Config, BrokerError> {
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        name: Some(name.to_owned()),
        deliver_policy: deliver_policy(request.start)?,
        ack_policy: AckPolicy::Explicit,
        // Attempts are counted by us; the server must never give an event up.
        max_deliver: -1,
        ..Default::default()
    };
    Ok(with_request(link, config, request))
}

/// The configuration of a group that exists, with what this request asks for.
pub(super) fn changed_config(
    link: &Link,
    info: &consumer::Info,
    request: &SubscribeRequest,
) -> Result<pull::Config, BrokerError> {
    Ok(with_request(link, known_config(info)?, request))
}

/// The configuration of a consumer, if it is one that we can work with.
pub(super) fn known_config(info: &consumer::Info) -> Result<pull::Config, BrokerError> {
    let wrong = |reason: String| BrokerError::TopologyWrong {
        broker: NAME,
        what: format!("the consumer {}", info.name),
        reason,
        way_out: format!(
            "name another group, or remove it: nats consumer rm {} {}",
            info.stream_name, info.name
        ),
    };
    if info.config.ack_policy != AckPolicy::Explicit {
        return Err(wrong("it does not acknowledge each event".to_owned()));
    }
    if info.config.max_deliver > 0 {
        return Err(wrong(format!(
            "it gives an event up after {} deliveries",
            info.config.max_deliver
        )));
    }
    pull::Config::try_from_consumer_config(info.config.clone())
        .map_err(|error| wrong(format!("it is no pull consumer: {error}")))
}

/// Refuses a consumer with other filters than the patterns need: what they leave out would never come, and without a word.
pub(super) fn check_filters(
    link: &Link,
    info: &consumer::Info,
    request: &SubscribeRequest,
) -> Result<(), BrokerError> {
    let prefix = &link.config.prefix;
    let wanted = mapping::filters(prefix, &request.patterns, link.takes_several_filters());
    let mut given = info.config.filter_subjects.clone();
    if given.is_empty() {
        given.push(match info.config.filter_subject.as_str() {
            "" => format!("{prefix}.>"),
            one => one.to_owned(),
        });
    }
    given.sort_unstable();
    if given == wanted {
        return Ok(());
    }
    let mut command = format!("nats consumer edit {} {}", info.stream_name, info.name);
    for filter in &wanted {
        command.push_str(&format!(" --filter '{filter}'"));
    }
    if let Some(description) = description(request) {
        command.push_str(&format!(" --description '{description}'"));
    }
    command.push_str(" --force");
    Err(BrokerError::TopologyWrong {
        broker: NAME,
        what: format!("the consumer {}", info.name),
        reason: format!(
            "it filters {}, and the patterns of the group need {}",
            given.join(" "),
            wanted.join(" ")
        ),
        way_out: command,
    })
}

/// The patterns as the description of a consumer, where listings find them; none where they do not fit.
fn description(request: &SubscribeRequest) -> Option<String> {
    let patterns: Vec<&str> = request.patterns.iter().map(|one| one.as_str()).collect();
    let description = serde_json::to_string(&patterns).unwrap_or_default();
    (description.len() <= DESCRIPTION_BYTES_MAX).then_some(description)
}

fn with_request(link: &Link, mut config: pull::Config, request: &SubscribeRequest) -> pull::Config {
    let mut filters = mapping::filters(
        &link.config.prefix,
        &request.patterns,
        link.takes_several_filters(),
    );
    config.filter_subject = String::new();
    config.filter_subjects = Vec::new();
    if filters.len() == 1 {
        config.filter_subject = filters.remove(0);
    } else {
        config.filter_subjects = filters;
    }
    config.description = description(request);
    config.ack_wait = link.config.ack_wait;
    config.max_ack_pending = i64::try_from(link.config.in_flight).unwrap_or(i64::MAX);
    config
}

/// Where a new consumer begins.
pub(super) fn deliver_policy(start: StartAt) -> Result<DeliverPolicy, BrokerError> {
    Ok(match start {
        StartAt::Earliest => DeliverPolicy::All,
        StartAt::Latest => DeliverPolicy::New,
        StartAt::Position(position) => DeliverPolicy::ByStartSequence {
            start_sequence: position.0.max(1),
        },
        StartAt::Time(time) => DeliverPolicy::ByStartTime {
            start_time: server_time(time)?,
        },
    })
}

/// What a person runs to make the consumer of a group.
pub(super) fn command(link: &Link, name: &str, request: &SubscribeRequest) -> String {
    let filters = mapping::filters(
        &link.config.prefix,
        &request.patterns,
        link.takes_several_filters(),
    );
    let filters: Vec<String> = filters
        .iter()
        .map(|filter| format!("--filter '{filter}'"))
        .collect();
    let start = match request.start {
        StartAt::Earliest => "all".to_owned(),
        StartAt::Latest => "new".to_owned(),
        StartAt::Position(position) => position.0.max(1).to_string(),
        StartAt::Time(time) => time.to_string(),
    };
    format!(
        "nats consumer add {} {name} --pull --ack explicit --deliver {start} {} --wait {}s --max-deliver=-1 --max-pending {} --defaults",
        link.config.stream,
        filters.join(" "),
        link.config.ack_wait.as_secs(),
        link.config.in_flight,
    )
}

/// One instance's part in a group; what it has not settled goes back with it.
struct Member {
    shared: Arc<Shared>,
    /// Ends the keeper when it is dropped; guarded, because leaving takes it once.
    stop: std::sync::Mutex<Option<(watch::Sender<()>, JoinHandle<()>)>>,
}

impl Member {
    /// Tells the server that events are finished.
    ///
    /// Acknowledgements of one connection are taken in order, so the answer to the last one stands for those before it; unless the connection changed on the
    /// way, which may have swallowed them.
    async fn acknowledge(&self, replies: &[(usize, u64, Subject)]) -> Result<(), BrokerError> {
        let Some(((_, _, last), before)) = replies.split_last() else {
            return Ok(());
        };
        let link = &self.shared.link;
        let connects = link.connects();
        let failed = |error: &dyn std::fmt::Display| link.failed("take an acknowledgement", error);
        for (_, _, reply) in before {
            let sent = link.client.publish(reply.clone(), ACK).await;
            sent.map_err(|error| failed(&error))?;
        }
        let asking = link.client.request(last.clone(), ACK);
        let answered = link.within("take an acknowledgement", asking).await?;
        answered.map_err(|error| failed(&error))?;
        if link.connects() != connects {
            return Err(unreachable(&link.config, "the connection was lost"));
        }
        Ok(())
    }
}

impl Settle for Member {
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            let mut answers: Vec<Result<(), SettleError>> = Vec::with_capacity(outcomes.len());
            let mut acknowledged = Vec::new();
            {
                let mut inner = self.shared.incoming.lock();
                for (index, (token, action)) in outcomes.iter().enumerate() {
                    let found = inner.table.find(*token);
                    answers.push(found.map(|(place, reply)| match action {
                        SettleAction::Ack => {
                            inner.table.settling(place);
                            acknowledged.push((index, place, reply));
                        }
                        SettleAction::Release => inner.table.release(place),
                        // The keeper renews the wait of everything that is open.
                        SettleAction::Extend(_) => {}
                    }));
                }
            }
            let result = self.acknowledge(&acknowledged).await;
            let reason = result.as_ref().err().map(ToString::to_string);
            let mut inner = self.shared.incoming.lock();
            for (index, place, _) in acknowledged {
                match &reason {
                    None => inner.table.settled(place),
                    Some(reason) => {
                        let error = unreachable(&self.shared.link.config, reason);
                        if let Some(answer) = answers.get_mut(index) {
                            *answer = Err(SettleError::Broker(error));
                        }
                    }
                }
            }
            drop(inner);
            self.shared.incoming.wake();
            self.shared.incoming.work.notify_one();
            answers
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        // Each call of settle is answered only when the server has taken it.
        Box::pin(std::future::ready(Ok(())))
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            let stop = self.stop.lock();
            let taken = stop
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
            let Some((stop, keeper)) = taken else {
                return Ok(());
            };
            drop(stop);
            keeper.await.map_err(|_| BrokerError::Bug {
                what: "the keeper of a group on NATS",
            })
        })
    }
}

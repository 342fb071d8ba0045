//! The stream and the groups as an operator sees them.

use super::connection::{Link, timestamp};
use super::{consumer, mapping};
use async_nats::jetstream::consumer::{DeliverPolicy, Info, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use futures_util::StreamExt as _;
use tidings_core::broker::{
    Admin, BrokerError, GroupLag, GroupName, GroupStatus, Position, StartAt, SubscribeRequest,
    TopologyItem, TopologyRequest, TopologyState,
};
use tidings_core::limits::NATS_DUPLICATE_WINDOW;
use tidings_core::{BoxFuture, Pattern};

/// Makes the stream of the events.
pub(super) async fn create_stream(link: &Link) -> Result<Stream, BrokerError> {
    let config = Config {
        name: link.config.stream.clone(),
        subjects: vec![format!("{}.>", link.config.prefix)],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        num_replicas: link.config.replicas,
        duplicate_window: NATS_DUPLICATE_WINDOW,
        allow_atomic_publish: link.knows_batches(),
        ..Default::default()
    };
    let creating = link.jetstream.get_or_create_stream(config);
    let created = link.within("make the stream", creating).await?;
    let stream = created.map_err(|error| link.failed("make the stream", &error))?;
    link.note_batches(stream.cached_info().config.allow_atomic_publish);
    Ok(stream)
}

/// Looks at the stream and the consumers of groups, and makes what is missing if that is asked for.
pub(super) async fn topology(
    link: &Link,
    request: TopologyRequest<'_>,
) -> Result<Vec<TopologyItem>, BrokerError> {
    let mut found = link.find_stream().await?;
    let state = match &found {
        Some(stream) => stream_state(link, stream),
        None if request.ensure => {
            found = Some(create_stream(link).await?);
            TopologyState::Created
        }
        None => TopologyState::Missing {
            command: link.stream_command(),
        },
    };
    let mut items = vec![TopologyItem {
        what: format!("stream {}", link.config.stream),
        state,
    }];
    for group in request.groups {
        items.push(group_item(link, found.as_ref(), group, request.ensure).await?);
    }
    Ok(items)
}

/// Whether the stream takes our subjects and knows duplicates.
fn stream_state(link: &Link, stream: &Stream) -> TopologyState {
    let config = &stream.cached_info().config;
    let name = &link.config.stream;
    let wanted = format!("{}.>", link.config.prefix);
    if !config
        .subjects
        .iter()
        .any(|subject| *subject == wanted || subject == ">")
    {
        return TopologyState::Wrong {
            reason: format!(
                "it takes the subjects {}, not {wanted}",
                config.subjects.join(" ")
            ),
            way_out: format!("nats stream edit {name} --subjects '{wanted}'"),
        };
    }
    if config.duplicate_window < NATS_DUPLICATE_WINDOW {
        return TopologyState::Wrong {
            reason: format!(
                "it knows duplicates for {:?} only, a producer may try again for {NATS_DUPLICATE_WINDOW:?}",
                config.duplicate_window
            ),
            way_out: format!("nats stream edit {name} --dupe-window 2m"),
        };
    }
    if config.no_ack || config.retention != RetentionPolicy::Limits {
        return TopologyState::Wrong {
            reason: "it does not acknowledge, or forgets events once they are consumed".to_owned(),
            way_out: format!("nats stream rm {name}, then {}", link.stream_command()),
        };
    }
    TopologyState::Present
}

async fn group_item(
    link: &Link,
    stream: Option<&Stream>,
    group: &SubscribeRequest,
    ensure: bool,
) -> Result<TopologyItem, BrokerError> {
    let name = consumer::name_of(group)?;
    let what = format!("consumer {name}");
    let missing = TopologyState::Missing {
        command: consumer::command(link, &name, group),
    };
    let Some(stream) = stream else {
        return Ok(TopologyItem {
            what,
            state: missing,
        });
    };
    let state = match consumer::find(link, stream, &name).await? {
        None if ensure => {
            let config = consumer::new_config(link, &name, group)?;
            consumer::create(link, stream, config).await?;
            TopologyState::Created
        }
        None => missing,
        Some(info) => existing_state(link, stream, &info, group, ensure).await?,
    };
    Ok(TopologyItem { what, state })
}

/// Whether a consumer that exists acknowledges as we do and is given what the group wants; its filters are changed if that is asked for.
async fn existing_state(
    link: &Link,
    stream: &Stream,
    info: &Info,
    group: &SubscribeRequest,
    ensure: bool,
) -> Result<TopologyState, BrokerError> {
    let found = match consumer::changed_config(link, info, group) {
        Ok(config) if ensure && consumer::check_filters(link, info, group).is_err() => {
            consumer::create(link, stream, config).await?;
            return Ok(TopologyState::Present);
        }
        Ok(_) => consumer::check_filters(link, info, group),
        Err(error) => Err(error),
    };
    match found {
        Ok(()) => Ok(TopologyState::Present),
        Err(BrokerError::TopologyWrong {
            reason, way_out, ..
        }) => Ok(TopologyState::Wrong { reason, way_out }),
        Err(other) => Err(other),
    }
}

impl Link {
    /// All durable consumers whose names can be groups.
    async fn consumers(&self, stream: &Stream) -> Result<Vec<(GroupName, Info)>, BrokerError> {
        let listing = async {
            let mut consumers = stream.consumers();
            let mut found = Vec::new();
            while let Some(info) = consumers.next().await {
                let info = info.map_err(|error| self.failed("list consumers", &error))?;
                let durable = info.config.durable_name.is_some();
                if let Ok(name) = mapping::group_name(&info.name).parse()
                    && durable
                {
                    found.push((name, info));
                }
            }
            Ok(found)
        };
        let mut found: Vec<(GroupName, Info)> = self.within("list consumers", listing).await??;
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }

    async fn group(&self, stream: &Stream, group: &GroupName) -> Result<Info, BrokerError> {
        let name = mapping::consumer_name(group.as_str());
        if let Some(info) = consumer::find(self, stream, &name).await? {
            return Ok(info);
        }
        Err(BrokerError::GroupUnknown {
            group: group.to_string(),
            similar: None,
        })
    }

    /// When the oldest event was appended that the group has not settled.
    async fn oldest_open(
        &self,
        stream: &Stream,
        info: &Info,
    ) -> Result<Option<tidings_core::Timestamp>, BrokerError> {
        let one = std::slice::from_ref(&info.config.filter_subject);
        let filters = match info.config.filter_subjects.as_slice() {
            [] => one,
            several => several,
        };
        let mut oldest: Option<(u64, tidings_core::Timestamp)> = None;
        for filter in filters {
            let subject = if filter.is_empty() { ">" } else { filter };
            let asking = stream
                .raw_message_builder()
                .next_by_subject(subject)
                .sequence(info.ack_floor.stream_sequence + 1)
                .send();
            // None behind the floor is an answer of its own, and no failure.
            if let Ok(message) = self.within("look for an event", asking).await?
                && oldest.is_none_or(|(sequence, _)| message.sequence < sequence)
            {
                oldest = Some((message.sequence, timestamp(message.time)));
            }
        }
        Ok(oldest.map(|(_, time)| time))
    }

    /// Removes the consumer of a group that nobody works for, and answers what it was.
    async fn take_away(&self, stream: &Stream, group: &GroupName) -> Result<Info, BrokerError> {
        let info = self.group(stream, group).await?;
        if info.num_waiting > 0 {
            return Err(BrokerError::GroupLeased {
                group: group.to_string(),
                owner: format!(
                    "{} requests for events that wait at the server",
                    info.num_waiting
                ),
            });
        }
        let deleting = stream.delete_consumer(&info.name);
        let deleted = self.within("remove a consumer", deleting).await?;
        deleted.map_err(|error| self.failed("remove a consumer", &error))?;
        Ok(info)
    }
}

fn status(name: GroupName, info: &Info) -> GroupStatus {
    let patterns = info.config.description.as_deref().unwrap_or_default();
    let patterns: Vec<String> = serde_json::from_str(patterns).unwrap_or_default();
    let patterns = patterns
        .iter()
        .filter_map(|text| text.parse::<Pattern>().ok());
    GroupStatus {
        name,
        patterns: patterns.collect(),
        position: Some(Position(info.ack_floor.stream_sequence + 1)),
        moved_at: info.ack_floor.last_active.map(timestamp),
        owner: (info.num_waiting > 0)
            .then(|| format!("{} requests that wait at the server", info.num_waiting)),
        abandoned: false,
    }
}

impl Admin for Link {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupStatus>, BrokerError>> {
        Box::pin(async move {
            let stream = self.stream().await?;
            let consumers = self.consumers(&stream).await?;
            let groups = consumers.into_iter();
            Ok(groups.map(|(name, info)| status(name, &info)).collect())
        })
    }

    fn lag<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<GroupLag, BrokerError>> {
        Box::pin(async move {
            let stream = self.stream().await?;
            let info = self.group(&stream, group).await?;
            let events = info.num_pending + info.num_ack_pending as u64;
            let mut lag = GroupLag {
                events,
                ..GroupLag::default()
            };
            if events > 0
                && let Some(oldest) = self.oldest_open(&stream, &info).await?
            {
                // The port hands no clock down, and the server does not say what time it is.
                lag.age = timestamp(async_nats::datetime::now()).since(oldest);
            }
            Ok(lag)
        })
    }

    fn seek<'a>(
        &'a self,
        group: &'a GroupName,
        start: StartAt,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        Box::pin(async move {
            let stream = self.stream().await?;
            let policy = consumer::deliver_policy(start)?;
            let info = self.group(&stream, group).await?;
            let mut config: pull::Config = consumer::known_config(&info)?;
            self.take_away(&stream, group).await?;
            config.deliver_policy = match policy {
                DeliverPolicy::New => DeliverPolicy::ByStartSequence {
                    start_sequence: stream.cached_info().state.last_sequence + 1,
                },
                other => other,
            };
            let made = consumer::create(self, &stream, config).await?;
            let floor = made.cached_info().ack_floor.stream_sequence;
            Ok(Some(Position(floor + 1)))
        })
    }

    fn remove<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move {
            let stream = self.stream().await?;
            self.take_away(&stream, group).await.map(drop)
        })
    }
}

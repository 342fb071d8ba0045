//! Topology and groups: the topic, who works for a group, how far it is, moving and removing it.

use super::KafkaBroker;
use super::client::{Client, RemoveGroupError, Topics};
use super::config::KafkaConfig;
use super::consumer::{CommitError, Cursor};
use super::mapping::NAME;
use rdkafka::groups::GroupInfo;
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::broker::{
    Admin, BrokerError, GroupLag, GroupName, GroupStatus, Position, StartAt, TopologyItem,
    TopologyState,
};
use tidings_core::limits::{KAFKA_MESSAGE_BYTES_MAX, KAFKA_REQUEST_TIMEOUT};

/// How the topic stands; it is made if that is asked for.
pub(super) async fn topology(
    broker: &KafkaBroker,
    ensure: bool,
) -> Result<Vec<TopologyItem>, BrokerError> {
    let config = &broker.config;
    let what = format!("topic {}", config.topic);
    let state = match broker.ask(|client| client.partitions()).await? {
        Some(partitions) => present(config, partitions),
        None if ensure => match Topics::new(config)?.make().await {
            // Somebody else may be allowed to.
            Err(BrokerError::Unauthorised { .. }) => TopologyState::Missing {
                command: create_command(config),
            },
            made => {
                made?;
                broker.await_topic().await?;
                TopologyState::Created
            }
        },
        None => TopologyState::Missing {
            command: create_command(config),
        },
    };
    Ok(vec![TopologyItem { what, state }])
}

fn present(config: &KafkaConfig, partitions: u32) -> TopologyState {
    match config.partitions_wanted {
        Some(wanted) if partitions < wanted => TopologyState::Wrong {
            reason: format!("it has {partitions} partitions, {wanted} are wanted"),
            way_out: format!(
                "run: {} --alter --topic {} --partitions {wanted} (keys move to other partitions then: let the groups finish first)",
                tool(config),
                config.topic
            ),
        },
        _ => TopologyState::Present,
    }
}

/// The command that makes the topic.
pub(super) fn create_command(config: &KafkaConfig) -> String {
    let replicas = config.replicas.map_or_else(String::new, |count| {
        format!(" --replication-factor {count}")
    });
    format!(
        "{} --create --topic {} --partitions {}{replicas} --config max.message.bytes={KAFKA_MESSAGE_BYTES_MAX}",
        tool(config),
        config.topic,
        config.partitions()
    )
}

fn tool(config: &KafkaConfig) -> String {
    let login = if config.is_secured {
        " --command-config client.properties"
    } else {
        ""
    };
    format!(
        "kafka-topics.sh --bootstrap-server {}{login}",
        config.address
    )
}

/// What a topic that cannot be used is as an error.
pub(super) fn topology_error(item: TopologyItem) -> Option<BrokerError> {
    match item.state {
        TopologyState::Present | TopologyState::Created => None,
        TopologyState::Missing { command } => Some(BrokerError::TopologyMissing {
            broker: NAME,
            what: item.what,
            command,
        }),
        TopologyState::Wrong { reason, way_out } => Some(BrokerError::TopologyWrong {
            broker: NAME,
            what: item.what,
            reason,
            way_out,
        }),
    }
}

impl Admin for KafkaBroker {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupStatus>, BrokerError>> {
        Box::pin(self.ask(|client| {
            let partitions = client.partitions()?.unwrap_or(0);
            let list = client.group_list(None)?;
            let mut groups = Vec::new();
            for info in list.groups() {
                let Some(name) = client.config.group_name(info.name()) else {
                    continue;
                };
                let is_ours = if info.members().is_empty() {
                    let cursor = Cursor::open(client, &name)?;
                    !cursor.committed(partitions)?.is_empty()
                } else {
                    works_on(info, &client.config.topic)
                };
                if !is_ours {
                    continue;
                }
                let owner = owner(info);
                groups.push(GroupStatus {
                    name,
                    patterns: Vec::new(),
                    position: None,
                    moved_at: None,
                    owner,
                    abandoned: false,
                });
            }
            groups.sort_by(|left, right| left.name.cmp(&right.name));
            Ok(groups)
        }))
    }

    fn lag<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<GroupLag, BrokerError>> {
        let group = group.clone();
        Box::pin(self.ask(move |client| lag(client, &group)))
    }

    fn seek<'a>(
        &'a self,
        group: &'a GroupName,
        start: StartAt,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        let group = group.clone();
        Box::pin(self.ask(move |client| {
            let partitions = client.partitions()?.unwrap_or(0);
            let cursor = Cursor::open(client, &group)?;
            let owner = known(client, &group, &cursor, partitions)?;
            let in_use = |owner: Option<String>| BrokerError::GroupLeased {
                group: group.to_string(),
                owner: owner.unwrap_or_else(|| "another instance".to_owned()),
            };
            if owner.is_some() {
                return Err(in_use(owner));
            }
            let starts = client.starts(partitions, start)?;
            match cursor.commit(&starts) {
                Ok(()) => Ok(None),
                Err(CommitError::InUse) => Err(in_use(None)),
                Err(CommitError::Other(error)) => Err(error),
            }
        }))
    }

    fn remove<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move {
            let asked = group.clone();
            let owner = self
                .ask(move |client| {
                    let partitions = client.partitions()?.unwrap_or(0);
                    let cursor = Cursor::open(client, &asked)?;
                    known(client, &asked, &cursor, partitions)
                })
                .await?;
            let in_use = |owner: Option<String>| BrokerError::GroupLeased {
                group: group.to_string(),
                owner: owner.unwrap_or_else(|| "another instance".to_owned()),
            };
            if owner.is_some() {
                return Err(in_use(owner));
            }
            let group_id = self.config.group_id(group);
            match Topics::new(&self.config)?.remove_group(&group_id).await {
                Ok(()) => Ok(()),
                Err(RemoveGroupError::InUse) => Err(in_use(None)),
                Err(RemoveGroupError::Unknown) => Err(unknown(group)),
                Err(RemoveGroupError::Other(error)) => Err(error),
            }
        })
    }
}

/// Who works for a group, if anyone.
fn owner(info: &GroupInfo) -> Option<String> {
    let members: Vec<String> = info
        .members()
        .iter()
        .map(|member| {
            let host = member.client_host().trim_start_matches('/');
            format!("{} at {host}", member.client_id())
        })
        .collect();
    (!members.is_empty()).then(|| members.join(", "))
}

/// Whether a member of a group subscribes to a topic, by what it told when it joined.
fn works_on(info: &GroupInfo, topic: &str) -> bool {
    let members = info.members().iter();
    let mut told = members.filter_map(|member| member.metadata());
    info.protocol_type() == "consumer"
        && told.any(|metadata| topics(metadata).is_some_and(|topics| topics.contains(&topic)))
}

/// The topics in the metadata of a member of a consumer group: a version, a count, texts with their lengths.
fn topics(metadata: &[u8]) -> Option<Vec<&str>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk()?;
    let mut topics = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk()?;
        let (text, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
        topics.push(std::str::from_utf8(text).ok()?);
        rest = behind;
    }
    Some(topics)
}

/// Who works for a group that exists: it has members, or offsets on our topic.
fn known(
    client: &Client,
    group: &GroupName,
    cursor: &Cursor<'_>,
    partitions: u32,
) -> Result<Option<String>, BrokerError> {
    let group_id = client.config.group_id(group);
    let list = client.group_list(Some(&group_id))?;
    let found = list.groups().iter().find(|info| info.name() == group_id);
    let owner = found.and_then(owner);
    if owner.is_none() && cursor.committed(partitions)?.is_empty() {
        return Err(unknown(group));
    }
    Ok(owner)
}

fn unknown(group: &GroupName) -> BrokerError {
    BrokerError::GroupUnknown {
        group: group.to_string(),
        similar: None,
    }
}

fn lag(client: &Client, group: &GroupName) -> Result<GroupLag, BrokerError> {
    let partitions = client.partitions()?.unwrap_or(0);
    let cursor = Cursor::open(client, group)?;
    let committed = cursor.committed(partitions)?;
    if committed.is_empty() {
        known(client, group, &cursor, partitions)?;
    }
    let ends = client.ends(partitions)?;
    let mut lag = GroupLag::default();
    for (partition, next) in ends.next {
        let first = ends.first.get(&partition).copied().unwrap_or(0);
        let stands = committed.get(&partition).copied().unwrap_or(first);
        lag.lost += first.saturating_sub(stands);
        lag.settled = Some(lag.settled.unwrap_or(0) + stands);
        let from = stands.max(first);
        let events = next.saturating_sub(from);
        lag.events += events;
        if events > 0
            && let Some(oldest) = cursor.append_time(partition, from, KAFKA_REQUEST_TIMEOUT)
        {
            lag.age = lag.age.max(client.now().since(oldest));
        }
    }
    Ok(lag)
}

/// How long a topic that was made is waited for, before it is said to be missing.
pub(super) const TOPIC_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_a_member_are_read_from_its_metadata() {
        let metadata = b"\x00\x01\x00\x00\x00\x02\x00\x01a\x00\x06eventsrest";

        assert_eq!(topics(metadata), Some(vec!["a", "events"]));
        assert_eq!(topics(&metadata[..12]), None);
        assert_eq!(topics(b""), None);
    }
}

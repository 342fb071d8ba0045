//! What the URL of a Kafka cluster says, and the settings of its client that follow from it.

use crate::BrokerUrl;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{BrokerError, GroupName};
use tidings_core::limits::{
    KAFKA_CONNECT_TIMEOUT, KAFKA_FETCH_AHEAD_KIBIBYTES, KAFKA_PARTITIONS_DEFAULT,
    KAFKA_PARTITIONS_MAX, KAFKA_PUBLISH_TIMEOUT_DEFAULT, KAFKA_PUBLISH_TIMEOUT_MAX,
    KAFKA_QUEUE_BYTES_MAX, KAFKA_QUEUE_EVENTS_MAX, KAFKA_REQUEST_TIMEOUT,
    KAFKA_SESSION_TIMEOUT_DEFAULT, KAFKA_SESSION_TIMEOUT_MAX,
};

/// Every parameter that the URL may have.
const PARAMETERS: &[&str] = &[
    "topic",
    "partitions",
    "replicas",
    "ensure",
    "group_prefix",
    "session_timeout",
    "publish_timeout",
    "compression",
    "tls",
    "ca",
    "cert",
    "key",
    "sasl",
];
const PORT: u16 = 9092;
/// The longest name of a topic that Kafka takes.
const TOPIC_BYTES_MAX: usize = 249;
const MECHANISMS: &[&str] = &["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"];
const COMPRESSIONS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];

/// How a Kafka cluster is used.
#[derive(Clone)]
pub struct KafkaConfig {
    pub(super) topic: Arc<str>,
    /// Partitions that were asked for; a topic that exists may have more, and any number if nothing was asked for.
    pub(super) partitions_wanted: Option<u32>,
    pub(super) replicas: Option<u32>,
    pub(super) ensure: bool,
    pub(super) publish_timeout: Duration,
    pub(super) address: String,
    pub(super) is_secured: bool,
    group_prefix: String,
    session_timeout: Duration,
    compression: String,
    /// Where and how to connect; holds the password.
    connection: Vec<(&'static str, String)>,
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("address", &self.address)
            .field("topic", &self.topic)
            .field("group_prefix", &self.group_prefix)
            .field("ensure", &self.ensure)
            .finish_non_exhaustive()
    }
}

impl KafkaConfig {
    /// Reads a URL `kafka://[USER[:PASSWORD]@]HOST[:PORT][,…][?PARAMETERS]`.
    ///
    /// **Errors**: [`BrokerError::UrlInvalid`], which names the part that is wrong.
    pub fn from_url(url: &BrokerUrl) -> Result<Self, BrokerError> {
        if url.scheme() != "kafka" {
            return Err(url.invalid("a Kafka cluster is named by kafka://HOST:PORT"));
        }
        if url.hosts().is_empty() {
            return Err(url.invalid("it names no host"));
        }
        if !url.path().is_empty() {
            return Err(url.invalid("a topic is named by ?topic=NAME, not by a path"));
        }
        url.check_parameters(PARAMETERS)?;
        let topic = url.text("topic").unwrap_or("events");
        if let Some(reason) = topic_fault(topic) {
            return Err(url.invalid(format!("topic={topic}: {reason}")));
        }
        let group_prefix = url.text("group_prefix").unwrap_or_default();
        if !group_prefix.is_empty() && group_prefix.parse::<GroupName>().is_err() {
            return Err(url.invalid(format!(
                "group_prefix={group_prefix}: use letters, digits, '.', '_' or '-'"
            )));
        }
        let partitions = url.number("partitions", 1, KAFKA_PARTITIONS_MAX.into())?;
        let replicas = url.number("replicas", 1, 100)?;
        let seconds = |name, default, most| Ok(url.seconds(name, most)?.unwrap_or(default));
        Ok(Self {
            topic: topic.into(),
            partitions_wanted: partitions.and_then(|number| u32::try_from(number).ok()),
            replicas: replicas.and_then(|number| u32::try_from(number).ok()),
            ensure: url.text("ensure").is_none() || url.flag("ensure")?,
            publish_timeout: seconds(
                "publish_timeout",
                KAFKA_PUBLISH_TIMEOUT_DEFAULT,
                KAFKA_PUBLISH_TIMEOUT_MAX,
            )?,
            address: url.addresses(PORT).join(","),
            is_secured: url.flag("tls")? || url.user().is_some(),
            group_prefix: group_prefix.to_owned(),
            session_timeout: seconds(
                "session_timeout",
                KAFKA_SESSION_TIMEOUT_DEFAULT,
                KAFKA_SESSION_TIMEOUT_MAX,
            )?,
            compression: one_of(url, "compression", COMPRESSIONS)?.to_owned(),
            connection: connection(url)?,
        })
    }

    /// How many partitions a topic is made with.
    pub(super) fn partitions(&self) -> u32 {
        self.partitions_wanted.unwrap_or(KAFKA_PARTITIONS_DEFAULT)
    }

    /// The group as Kafka knows it.
    pub(super) fn group_id(&self, group: &GroupName) -> String {
        format!("{}{group}", self.group_prefix)
    }

    /// The group of tidings behind a group of Kafka, if it is one of ours.
    pub(super) fn group_name(&self, group_id: &str) -> Option<GroupName> {
        group_id.strip_prefix(&self.group_prefix)?.parse().ok()
    }

    /// A client that publishes nothing and belongs to no group.
    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Warning);
        client.set("client.id", "tidings");
        client.set("bootstrap.servers", &self.address);
        for (name, value) in &self.connection {
            client.set(*name, value);
        }
        let connect_ms = KAFKA_CONNECT_TIMEOUT.as_millis().to_string();
        client.set("socket.connection.setup.timeout.ms", connect_ms);
        let request_ms = KAFKA_REQUEST_TIMEOUT.as_millis().to_string();
        client.set("socket.timeout.ms", request_ms);
        client.set("socket.keepalive.enable", "true");
        // A broker that is back is found within a second.
        client.set("reconnect.backoff.max.ms", "1000");
        client.set("topic.metadata.refresh.interval.ms", "60000");
        client
    }

    /// A client that publishes: nothing is lost, doubled or overtaken as long as it lives.
    pub(super) fn producer(&self, message_bytes_max: u32) -> ClientConfig {
        let mut client = self.client();
        client.set("enable.idempotence", "true");
        client.set("acks", "all");
        // What follows a refused message is not written either.
        client.set("enable.gapless.guarantee", "true");
        // Ours ends first: messages that time out one by one would leave gaps.
        let timeout_ms = self.publish_timeout.as_millis() * 2 + 5_000;
        client.set("message.timeout.ms", timeout_ms.to_string());
        client.set("message.max.bytes", message_bytes_max.to_string());
        let batch_bytes = message_bytes_max.min(1_000_000);
        client.set("batch.size", batch_bytes.to_string());
        client.set("linger.ms", "1");
        client.set(
            "queue.buffering.max.messages",
            KAFKA_QUEUE_EVENTS_MAX.to_string(),
        );
        let queue_kibibytes = KAFKA_QUEUE_BYTES_MAX / 1_024;
        client.set("queue.buffering.max.kbytes", queue_kibibytes.to_string());
        // As the clients in Java do, so that a key has the same partition wherever it comes from.
        client.set("partitioner", "murmur2_random");
        client.set("compression.type", &self.compression);
        client
    }

    /// A client that reads partitions which it is told.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut client = self.client();
        // It never joins: Kafka's client wants a name before it reads at all.
        client.set("group.id", format!("{}tidings-tail", self.group_prefix));
        client.set("enable.partition.eof", "true");
        self.fetching(&mut client);
        client
    }

    /// A client that works for a group.
    pub(super) fn consumer(&self, group: &GroupName) -> ClientConfig {
        let mut client = self.client();
        client.set("group.id", self.group_id(group));
        let session_ms = self.session_timeout.as_millis();
        client.set("session.timeout.ms", session_ms.to_string());
        let heartbeat_ms = (session_ms / 10).clamp(200, 3_000);
        client.set("heartbeat.interval.ms", heartbeat_ms.to_string());
        client.set("partition.assignment.strategy", "cooperative-sticky");
        client.set("enable.partition.eof", "true");
        self.fetching(&mut client);
        client
    }

    fn fetching(&self, client: &mut ClientConfig) {
        client.set("enable.auto.commit", "false");
        client.set("enable.auto.offset.store", "false");
        // A place that is gone is an error, not a leap.
        client.set("auto.offset.reset", "error");
        client.set("allow.auto.create.topics", "false");
        client.set("fetch.wait.max.ms", "500");
        client.set("fetch.queue.backoff.ms", "10");
        client.set("fetch.error.backoff.ms", "100");
        let ahead = KAFKA_FETCH_AHEAD_KIBIBYTES.to_string();
        client.set("queued.max.messages.kbytes", ahead);
        // One answer of a broker brings no more than that either, except for a single message that is larger.
        let answer_bytes = (KAFKA_FETCH_AHEAD_KIBIBYTES * 1_024).to_string();
        client.set("fetch.max.bytes", answer_bytes);
        client.set("fetch.message.max.bytes", "1048576");
    }
}

/// Why a text is no name of a topic.
fn topic_fault(topic: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let valid = !topic.is_empty()
        && topic.len() <= TOPIC_BYTES_MAX
        && topic.chars().all(plain)
        && topic != "."
        && topic != "..";
    (!valid).then_some("a topic has 1 to 249 letters, digits, '.', '_' or '-'")
}

/// A parameter with few values; the first of them unless given.
fn one_of<'a>(
    url: &'a BrokerUrl,
    name: &str,
    values: &'a [&'a str],
) -> Result<&'a str, BrokerError> {
    let first = values.first().copied().unwrap_or_default();
    let value = url.text(name).unwrap_or(first);
    if values.contains(&value) {
        Ok(value)
    } else {
        let values = values.join(", ");
        Err(url.invalid(format!("{name}={value}: it is one of {values}")))
    }
}

fn connection(url: &BrokerUrl) -> Result<Vec<(&'static str, String)>, BrokerError> {
    let mut settings = Vec::new();
    let is_encrypted = url.flag("tls")?;
    let protocol = match (is_encrypted, url.user()) {
        (false, None) => "plaintext",
        (true, None) => "ssl",
        (false, Some(_)) => "sasl_plaintext",
        (true, Some(_)) => "sasl_ssl",
    };
    settings.push(("security.protocol", protocol.to_owned()));
    if let Some(user) = url.user() {
        let mechanism = one_of(url, "sasl", MECHANISMS)?;
        let Some(password) = url.password()? else {
            return Err(url.invalid("a user needs a password, or a parameter password_file"));
        };
        settings.push(("sasl.mechanisms", mechanism.to_owned()));
        settings.push(("sasl.username", user.to_owned()));
        settings.push(("sasl.password", password.reveal().to_owned()));
    } else if url.text("sasl").is_some() {
        return Err(url.invalid("sasl is how a user logs in; it names none"));
    }
    for (name, setting) in [
        ("ca", "ssl.ca.location"),
        ("cert", "ssl.certificate.location"),
        ("key", "ssl.key.location"),
    ] {
        let Some(file) = url.file(name) else {
            continue;
        };
        if !is_encrypted {
            return Err(url.invalid(format!("{name} is for an encrypted connection; add tls")));
        }
        std::fs::File::open(&file)
            .map_err(|error| url.invalid(format!("{name}={}: {error}", file.display())))?;
        settings.push((setting, file.display().to_string()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<KafkaConfig, BrokerError> {
        KafkaConfig::from_url(&text.parse()?)
    }

    #[test]
    fn nothing_but_a_host_is_enough() {
        let config = read("kafka://h").unwrap();

        assert_eq!((&*config.topic, config.partitions()), ("events", 6));
        assert_eq!(config.address, "h:9092");
        assert!(config.ensure && !config.is_secured);
        let client = config.client();
        assert_eq!(client.get("security.protocol"), Some("plaintext"));
    }

    #[test]
    fn a_user_logs_in_and_the_password_is_not_shown() {
        let config = read("kafka://ann:s3cret@h?tls&sasl=SCRAM-SHA-256").unwrap();

        let client = config.client();
        assert_eq!(client.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(client.get("sasl.mechanisms"), Some("SCRAM-SHA-256"));
        assert_eq!(client.get("sasl.password"), Some("s3cret"));
        assert!(!format!("{config:?}").contains("s3cret"));
        let default = read("kafka://ann:x@h").unwrap().client();
        assert_eq!(default.get("sasl.mechanisms"), Some("SCRAM-SHA-512"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("kafka://", "no host"),
            ("amqp://h", "kafka://"),
            ("kafka://h/events", "?topic="),
            ("kafka://h?topics=a", "topics"),
            ("kafka://h?topic=a/b", "249"),
            ("kafka://h?partitions=0", "from 1"),
            ("kafka://h?group_prefix=a/", "group_prefix"),
            ("kafka://h?sasl=PLAIN", "names none"),
            ("kafka://ann@h", "password"),
            ("kafka://ann:x@h?sasl=GSSAPI", "SCRAM-SHA-512"),
            ("kafka://h?ca=/x", "add tls"),
            ("kafka://h?tls&ca=/none", "/none"),
            ("kafka://h?compression=zip", "zstd"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn groups_carry_the_prefix() {
        let config = read("kafka://h?group_prefix=shop.").unwrap();

        let group = "billing".parse().unwrap();
        assert_eq!(config.group_id(&group), "shop.billing");
        assert_eq!(config.group_name("shop.billing"), Some(group));
        assert_eq!(config.group_name("billing"), None);
    }
}

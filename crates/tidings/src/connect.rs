//! Where events are, by URL: a data folder with the embedded broker, or a broker of another kind.

use crate::{Error, Tidings, TidingsBuilder};
use std::fmt;
#[cfg(feature = "sqlite")]
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use tidings_core::broker::{Broker, BrokerError, without_password};

/// The schemes of brokers, the feature that brings each, and what a URL of it looks like.
const BROKERS: [(&str, &str, &str); 5] = [
    ("kafka", "kafka", "kafka://HOST:9092?topic=events"),
    ("amqp", "rabbitmq", "amqp://HOST:5672/VHOST?exchange=events"),
    ("nats", "nats", "nats://HOST:4222?stream=events"),
    (
        "sns+sqs",
        "sns_sqs",
        "sns+sqs://?topic=events&region=REGION",
    ),
    (
        "eventbridge",
        "eventbridge",
        "eventbridge://?bus=events&region=REGION",
    ),
];

/// Where events are.
///
/// ```
/// use tidings::Location;
/// let location: Location = "kafka://127.0.0.1:9092?topic=orders".parse()?;
/// assert!(matches!(location, Location::Broker(_)));
/// let location: Location = "file:///var/lib/shop".parse()?;
/// assert_eq!(location, Location::Folder("/var/lib/shop".into()));
/// # Ok::<(), tidings::broker::BrokerError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A data folder: a plain path, or `file:///DIR`.
    Folder(PathBuf),
    /// A broker: `kafka://…`, `amqp://…`, `amqps://…`, `nats://…`, `tls://…` (NATS), `sns+sqs://…`, `eventbridge://…`.
    Broker(String),
}

impl FromStr for Location {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let invalid = |reason: String| BrokerError::UrlInvalid {
            url: without_password(text),
            reason,
        };
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') {
                Ok(Self::Folder(path.into()))
            } else {
                Err(invalid(
                    "it names no folder of this machine; write file:///DIR with the full path, or DIR"
                        .to_owned(),
                ))
            };
        }
        match text.split_once("://") {
            None if text.is_empty() => Err(invalid(
                "it is empty; write DIR, file:///DIR, or the URL of a broker".to_owned(),
            )),
            None => Ok(Self::Folder(text.into())),
            Some((scheme, _)) => match broker_of(scheme) {
                Some(_) => Ok(Self::Broker(text.to_owned())),
                None => Err(invalid(format!(
                    "there is no broker {scheme}; there are: {}",
                    BROKERS.map(|(_, _, example)| example).join(", ")
                ))),
            },
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Broker(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// Scheme, feature and example of a broker; also under the scheme that says TLS, for RabbitMQ and as NATS itself writes it.
fn broker_of(scheme: &str) -> Option<(&'static str, &'static str, &'static str)> {
    let scheme = match scheme {
        "amqps" => "amqp",
        "tls" => "nats",
        plain => plain,
    };
    BROKERS.into_iter().find(|(name, _, _)| *name == scheme)
}

impl Tidings {
    /// Opens a data folder or connects to a broker, by its URL.
    ///
    /// **Guarantee**, **Errors**, **Cancel**: as [`TidingsBuilder::connect`].
    pub async fn connect(location: &str) -> Result<Self, Error> {
        Self::builder().connect(location).await
    }

    /// Connects to a broker, with a data folder for state beside it.
    ///
    /// **Guarantee**, **Errors**, **Cancel**: as [`TidingsBuilder::connect_with_data`].
    #[cfg(feature = "sqlite")]
    pub async fn connect_with_data(
        location: &str,
        folder: impl AsRef<Path>,
    ) -> Result<Self, Error> {
        Self::builder().connect_with_data(location, folder).await
    }
}

impl TidingsBuilder {
    /// Opens a data folder, or connects to a broker: `DIR`, `file:///DIR`, `kafka://…`, `amqp://…`, `nats://…`, `sns+sqs://…`, `eventbridge://…`. What producers and handlers do
    /// is the same on each; what a broker lacks is refused with a clear error when a consumer starts.
    ///
    /// **Errors**: a URL that cannot be used, or whose broker this program was built without; a broker that cannot be reached or refuses.
    ///
    /// **Cancel**: the connection is let go of.
    pub async fn connect(self, location: &str) -> Result<Tidings, Error> {
        match location.parse()? {
            Location::Folder(folder) => self.open(folder).await,
            Location::Broker(url) => {
                let broker = connect(&url).await?;
                Ok(self.from_broker(broker))
            }
        }
    }

    /// Connects to a broker, with a data folder for state beside it: [`Tidings::database`] and [`Tidings::outbox`] work as on the embedded log, and what is published into a
    /// transaction is carried to the broker soon after its commit. With the URL of a data folder it is [`open`](Self::open), and the folder must be that one.
    ///
    /// **Guarantee**: one process at a time owns the folder. What an earlier owner left in its outbox is carried to the broker now, in the order of its keys. A broker whose history
    /// cannot be looked through may get an event twice after a crash, with the same id: handlers that take their transaction have its effect once all the same. From then on
    /// the folder opens as a log of its own only once its file `broker` is removed, so that nothing for this broker ends there.
    ///
    /// The folder is also where a group keeps what it cannot handle yet. No other machine sees it, so a group that needs order declares that
    /// [one instance](crate::ConsumerBuilder::single_instance) works for it, [goes on](crate::ConsumerBuilder::on_failure) behind its dead letters, or keeps them in a
    /// [database](crate::ConsumerBuilder::failures) that all share.
    ///
    /// **Errors**: as [`connect`](Self::connect); [`BrokerError::FolderOwned`] while another process owns the folder, which is transient; two folders, one to keep events and one
    /// to keep state.
    ///
    /// **Cancel**: folder and connection are let go of.
    ///
    /// ```no_run
    /// # use tidings::prelude::*;
    /// # #[derive(Event, Serialize, Deserialize)]
    /// # #[event(type = "order.placed", key = "order_id")]
    /// # struct OrderPlaced { order_id: String }
    /// # async fn place() -> Result<(), Box<dyn std::error::Error>> {
    /// let tidings = Tidings::connect_with_data("kafka://127.0.0.1:9092?topic=orders", "shop-data").await?;
    /// let outbox = tidings.outbox()?;
    /// outbox.publish_autocommit(&tidings.database().await?, &OrderPlaced { order_id: "order-123".into() }).await?;
    /// tidings.drain().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "sqlite")]
    pub async fn connect_with_data(
        self,
        location: &str,
        folder: impl AsRef<Path>,
    ) -> Result<Tidings, Error> {
        let folder = folder.as_ref();
        match location.parse()? {
            Location::Folder(other) if is_same(folder, &other) => self.open(folder).await,
            Location::Folder(other) => Err(Error::from(BrokerError::Unsupported {
                broker: "the embedded log",
                what: format!(
                    "keep its events in {} and its state in {}: a data folder has both; name one of them",
                    other.display(),
                    folder.display()
                ),
            })),
            Location::Broker(url) => {
                // The folder first: without it there is nothing to connect for.
                let owned = self.own_folder(folder).await?;
                let broker = connect(&url).await?;
                self.with_state(broker, folder, owned, &without_password(&url))
            }
        }
    }
}

/// Whether two paths name one folder, as far as their text says.
#[cfg(feature = "sqlite")]
fn is_same(one: &Path, other: &Path) -> bool {
    let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    full(one) == full(other)
}

/// Connects to the broker of a URL, if this program was built with it.
async fn connect(url: &str) -> Result<Arc<dyn Broker>, BrokerError> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let feature = broker_of(scheme).map_or(scheme, |(_, feature, _)| feature);
    match built_in(feature, url).await? {
        Some(broker) => Ok(broker),
        None => Err(BrokerError::UrlInvalid {
            url: without_password(url),
            reason: format!(
                "this program was built without it; build it with the feature {feature}: cargo install tidings-cli --features {feature}"
            ),
        }),
    }
}

/// Connects to the broker that a feature brings; nothing without the feature.
#[cfg_attr(
    not(any(
        feature = "kafka",
        feature = "nats",
        feature = "rabbitmq",
        feature = "sns_sqs",
        feature = "eventbridge"
    )),
    expect(
        unused_variables,
        clippy::unused_async,
        reason = "no broker is built in"
    )
)]
async fn built_in(feature: &str, url: &str) -> Result<Option<Arc<dyn Broker>>, BrokerError> {
    #[cfg(feature = "kafka")]
    if feature == "kafka" {
        let clock = Arc::new(tidings_flow::runtime::SystemClock::new());
        let broker = tidings_brokers::KafkaBroker::connect(&url.parse()?, clock).await?;
        return Ok(Some(Arc::new(broker)));
    }
    #[cfg(feature = "nats")]
    if feature == "nats" {
        let broker = tidings_brokers::NatsBroker::connect(&url.parse()?).await?;
        return Ok(Some(Arc::new(broker)));
    }
    #[cfg(feature = "rabbitmq")]
    if feature == "rabbitmq" {
        let broker = tidings_brokers::RabbitMqBroker::connect(&url.parse()?).await?;
        return Ok(Some(Arc::new(broker)));
    }
    #[cfg(feature = "sns_sqs")]
    if feature == "sns_sqs" {
        let clock = Arc::new(tidings_flow::runtime::SystemClock::new());
        let broker = tidings_brokers::SnsSqsBroker::connect(&url.parse()?, clock).await?;
        return Ok(Some(Arc::new(broker)));
    }
    #[cfg(feature = "eventbridge")]
    if feature == "eventbridge" {
        let clock = Arc::new(tidings_flow::runtime::SystemClock::new());
        let broker = tidings_brokers::EventBridgeBroker::connect(&url.parse()?, clock).await?;
        return Ok(Some(Arc::new(broker)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_brokers_are_told_apart() {
        let parse = |text: &str| text.parse::<Location>();
        assert_eq!(parse("data").unwrap(), Location::Folder("data".into()));
        for url in ["amqps://h", "tls://h:4222"] {
            assert!(matches!(parse(url).unwrap(), Location::Broker(_)), "{url}");
        }
        for (text, word) in [
            ("", "it is empty"),
            ("file://data", "file:///DIR"),
            ("redis://h", "kafka://HOST:9092"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let location: Location = "nats://ann:secret@h:4222?stream=a".parse().unwrap();
        assert_eq!(location.to_string(), "nats://ann:***@h:4222?stream=a");
        assert!(!format!("{location:?}").contains("secret"));
        let error = "redis://ann:secret@h".parse::<Location>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

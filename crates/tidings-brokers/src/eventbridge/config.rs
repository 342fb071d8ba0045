//! What a URL says: `eventbridge://[KEY_ID:SECRET@][HOST:PORT]?bus=…&source=…&region=…&queue_prefix=…&ensure=…&visibility=…&wait=…&prefetch=…&pollers=…`.

use crate::BrokerUrl;
use crate::aws::client;
use crate::aws::names::{PREFIX_CHARS_MAX, check_name};
use crate::aws::reading::{self, Reading};
use tidings_core::broker::BrokerError;
use tidings_core::limits::SNS_NAME_CHARS_MAX;

const SCHEME: &str = "eventbridge";
const BUS: &str = "events";
/// The source that EventBridge sees of an event whose own it cannot have.
const SOURCE: &str = "tidings";

/// The settings of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventBridgeConfig {
    pub(crate) bus: String,
    pub(crate) source: String,
    /// Begins the names of queues and rules.
    pub(crate) prefix: String,
    pub(crate) ensure: bool,
    pub(crate) reading: Reading,
}

impl EventBridgeConfig {
    pub(crate) fn of(url: &BrokerUrl) -> Result<Self, BrokerError> {
        if url.scheme() != SCHEME {
            return Err(url.invalid(format!("its scheme is {SCHEME}")));
        }
        let own = ["bus", "source", "queue_prefix", "ensure"];
        let known = [&own, client::PARAMETERS, reading::PARAMETERS].concat();
        url.check_parameters(&known)?;
        let bus = url.text("bus").unwrap_or(BUS);
        check_name(url, "bus", bus, SNS_NAME_CHARS_MAX)?;
        let source = url.text("source").unwrap_or(SOURCE);
        if source.is_empty() || source.starts_with("aws.") {
            return Err(url.invalid(format!(
                "source={source}: it is a name that does not begin with \"aws.\""
            )));
        }
        let prefix = match url.text("queue_prefix") {
            Some(prefix) => {
                check_name(url, "queue_prefix", prefix, PREFIX_CHARS_MAX)?;
                prefix.to_owned()
            }
            None => format!("{}-", bus.get(..PREFIX_CHARS_MAX - 1).unwrap_or(bus)),
        };
        Ok(Self {
            bus: bus.to_owned(),
            source: source.to_owned(),
            prefix,
            ensure: url.text("ensure").is_none() || url.flag("ensure")?,
            reading: Reading::of(url)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named_and_the_rest_has_defaults() {
        let config = EventBridgeConfig::of(&"eventbridge://".parse().unwrap()).unwrap();
        assert_eq!(
            (config.bus.as_str(), config.prefix.as_str()),
            ("events", "events-")
        );
        for (text, word) in [
            ("sns+sqs://", "eventbridge"),
            ("eventbridge://?topic=a", "topic"),
            ("eventbridge://?bus=a/b", "bus=a/b"),
            ("eventbridge://?source=aws.x", "aws.x"),
        ] {
            let error = EventBridgeConfig::of(&text.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

//! What a URL says: `sns+sqs://[KEY_ID:SECRET@][HOST:PORT]?topic=…&region=…&fifo=…&queue_prefix=…&ensure=…&visibility=…&wait=…&prefetch=…&pollers=…`.

use crate::BrokerUrl;
use crate::aws::client;
use crate::aws::names::{FIFO, PREFIX_CHARS_MAX, check_name};
use crate::aws::reading::{self, Reading};
use tidings_core::broker::BrokerError;
use tidings_core::limits::SNS_NAME_CHARS_MAX;

const SCHEME: &str = "sns+sqs";
const TOPIC: &str = "events";

/// The settings of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnsSqsConfig {
    /// The name of the topic, with its ending.
    pub(crate) topic: String,
    /// Its full name, where the URL gives that.
    pub(crate) topic_arn: Option<String>,
    pub(crate) fifo: bool,
    pub(crate) queue_prefix: String,
    pub(crate) ensure: bool,
    pub(crate) reading: Reading,
}

impl SnsSqsConfig {
    pub(crate) fn of(url: &BrokerUrl) -> Result<Self, BrokerError> {
        if url.scheme() != SCHEME {
            return Err(url.invalid(format!("its scheme is {SCHEME}")));
        }
        let own = ["topic", "fifo", "queue_prefix", "ensure"];
        let known = [&own, client::PARAMETERS, reading::PARAMETERS].concat();
        url.check_parameters(&known)?;
        let given = url.text("topic").unwrap_or(TOPIC);
        let topic_arn = given.starts_with("arn:").then(|| given.to_owned());
        let name = given.rsplit(':').next().unwrap_or_default();
        let base = name.strip_suffix(FIFO).unwrap_or(name);
        let fifo = match url.text("fifo") {
            None => name.ends_with(FIFO),
            Some(_) => url.flag("fifo")?,
        };
        if !fifo && name.ends_with(FIFO) {
            return Err(url.invalid(format!("fifo=false, but the topic {name} is ordered")));
        }
        check_name(url, "topic", base, SNS_NAME_CHARS_MAX - FIFO.len())?;
        let queue_prefix = match url.text("queue_prefix") {
            Some(prefix) => {
                check_name(url, "queue_prefix", prefix, PREFIX_CHARS_MAX)?;
                prefix.to_owned()
            }
            None => format!("{}-", base.get(..PREFIX_CHARS_MAX - 1).unwrap_or(base)),
        };
        Ok(Self {
            topic: if fifo {
                format!("{base}{FIFO}")
            } else {
                base.to_owned()
            },
            topic_arn,
            fifo,
            queue_prefix,
            ensure: url.text("ensure").is_none() || url.flag("ensure")?,
            reading: Reading::of(url)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn config(text: &str) -> Result<SnsSqsConfig, BrokerError> {
        SnsSqsConfig::of(&text.parse()?)
    }

    #[test]
    fn names_have_defaults_and_follow_the_topic() {
        let plain = config("sns+sqs://").unwrap();
        assert_eq!(
            (plain.topic.as_str(), plain.queue_prefix.as_str()),
            ("events", "events-")
        );
        assert!(plain.ensure && !plain.fifo);
        let ordered =
            config("sns+sqs://?topic=orders&fifo=true&ensure=false&wait=0&visibility=60").unwrap();
        assert_eq!(
            (ordered.topic.as_str(), ordered.queue_prefix.as_str()),
            ("orders.fifo", "orders-")
        );
        assert!(ordered.fifo && !ordered.ensure);
        assert_eq!(ordered.reading.visibility, Duration::from_secs(60));
        assert!(ordered.reading.wait_max.is_zero());
        let full = config("sns+sqs://?topic=arn:aws:sns:eu-west-1:123456789012:shop.fifo").unwrap();
        assert_eq!(full.topic, "shop.fifo");
        assert!(full.fifo && full.topic_arn.is_some());
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, word) in [
            ("sns://h", "sns+sqs"),
            ("sns+sqs://?topics=a", "topics"),
            ("sns+sqs://?topic=a.b", "topic=a.b"),
            ("sns+sqs://?topic=a.fifo&fifo=false", "is ordered"),
            ("sns+sqs://?queue_prefix=a/b", "queue_prefix=a/b"),
            ("sns+sqs://?visibility=1", "from 3 to"),
            ("sns+sqs://?wait=21", "from 0 to 20"),
        ] {
            let error = config(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}

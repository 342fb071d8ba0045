//! What the URL of a RabbitMQ server says.

use crate::{BrokerUrl, Secret};
use std::path::PathBuf;
use tidings_core::broker::BrokerError;
use tidings_core::limits::{
    RABBITMQ_MESSAGE_BYTES_MAX, RABBITMQ_PREFETCH_DEFAULT, REMOTE_IN_FLIGHT_EVENTS_MAX,
};

const PARAMETERS: &[&str] = &[
    "exchange",
    "queue_prefix",
    "ensure",
    "prefetch",
    "message_bytes_max",
    "tls",
    "ca",
    "cert",
    "key",
];
/// Names of AMQP are at most so long, and a queue's name also holds the group.
const NAME_BYTES_MAX: usize = 128;

/// Where RabbitMQ is, who we are there, and through which exchange events pass.
#[derive(Debug, Clone)]
pub struct RabbitMqConfig {
    /// Host and port each.
    pub(super) addresses: Vec<(String, u16)>,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) vhost: String,
    pub(super) tls: bool,
    pub(super) authority: Option<PathBuf>,
    /// Certificate and key of this client.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    pub(super) exchange: String,
    pub(super) queue_prefix: String,
    pub(super) ensure: bool,
    pub(super) prefetch: u16,
    pub(super) message_bytes_max: usize,
}

impl RabbitMqConfig {
    /// Reads `amqp[s]://[USER:PASSWORD@]HOST[:PORT][,…][/VHOST][?exchange=&queue_prefix=&ensure=&prefetch=&message_bytes_max=&tls&ca=&cert=&key=]`.
    ///
    /// **Errors**: a parameter that is unknown or has no legal value, a file that cannot be read.
    pub fn from_url(url: &BrokerUrl) -> Result<Self, BrokerError> {
        url.check_parameters(PARAMETERS)?;
        let exchange = url.text("exchange").unwrap_or("events").to_owned();
        let queue_prefix = match url.text("queue_prefix") {
            Some(prefix) => prefix.to_owned(),
            None => format!("{exchange}."),
        };
        for (name, value) in [("exchange", &exchange), ("queue_prefix", &queue_prefix)] {
            if value.len() > NAME_BYTES_MAX || value.starts_with("amq.") {
                return Err(url.invalid(format!(
                    "{name}={value}: it has at most {NAME_BYTES_MAX} bytes and does not begin with amq."
                )));
            }
        }
        if exchange.is_empty() {
            return Err(url.invalid("exchange=: it has a name"));
        }
        let certificate = match (url.file("cert"), url.file("key")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => return Err(url.invalid("cert and key are given together")),
        };
        let tls = url.flag("tls")? || url.scheme() == "amqps" || url.text("ca").is_some();
        let default_port = if tls { 5671 } else { 5672 };
        let addresses = url.addresses(default_port);
        let prefetch = url.number("prefetch", 1, REMOTE_IN_FLIGHT_EVENTS_MAX as u64)?;
        let bytes_max = url.number("message_bytes_max", 1, RABBITMQ_MESSAGE_BYTES_MAX as u64)?;
        Ok(Self {
            addresses: addresses
                .iter()
                .map(|address| split(address, default_port))
                .collect(),
            user: url.user().unwrap_or("guest").to_owned(),
            password: match url.password()? {
                Some(password) => password,
                None => Secret::new(if url.user().is_some() { "" } else { "guest" }),
            },
            vhost: match url.path() {
                "" => "/".to_owned(),
                path => path.to_owned(),
            },
            tls,
            authority: url.file("ca"),
            certificate,
            exchange,
            queue_prefix,
            ensure: url.text("ensure").is_none() || url.flag("ensure")?,
            prefetch: prefetch
                .and_then(|number| u16::try_from(number).ok())
                .unwrap_or(RABBITMQ_PREFETCH_DEFAULT),
            message_bytes_max: bytes_max
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(RABBITMQ_MESSAGE_BYTES_MAX),
        })
    }

    /// The addresses as one text, for messages.
    pub(super) fn address(&self) -> String {
        let addresses = self.addresses.iter();
        let addresses: Vec<String> = addresses
            .map(|(host, port)| format!("{host}:{port}"))
            .collect();
        addresses.join(",")
    }
}

/// Host and port; an address that was read has a port that is a number.
fn split(address: &str, default_port: u16) -> (String, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.parse().unwrap_or(default_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<RabbitMqConfig, BrokerError> {
        RabbitMqConfig::from_url(&text.parse()?)
    }

    #[test]
    fn names_have_defaults() {
        let plain = config("amqp://h").unwrap();
        assert_eq!(
            (plain.exchange.as_str(), plain.queue_prefix.as_str()),
            ("events", "events.")
        );
        assert_eq!((plain.vhost.as_str(), plain.user.as_str()), ("/", "guest"));
        assert_eq!(plain.addresses, [("h".to_owned(), 5672)]);
        let named =
            config("amqps://u:p@[::1],h:7/shop?exchange=x&queue_prefix=&prefetch=9").unwrap();
        assert_eq!(
            named.addresses,
            [("::1".to_owned(), 5671), ("h".to_owned(), 7)]
        );
        assert_eq!(
            (named.vhost.as_str(), named.queue_prefix.as_str()),
            ("shop", "")
        );
        assert_eq!(named.prefetch, 9);
        assert_eq!(config("amqp://h/%2f").unwrap().vhost, "/");
    }

    #[test]
    fn what_no_server_would_take_is_refused() {
        for (text, word) in [
            ("amqp://h?exchange=amq.topic", "amq."),
            ("amqp://h?exchange=", "has a name"),
            ("amqp://h?prefetch=0", "from 1"),
            ("amqp://h?key=/k", "together"),
            ("amqp://h?topic=x", "topic"),
        ] {
            let error = config(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}

//! What the URL of a NATS server says.

use crate::{BrokerUrl, Secret};
use std::path::PathBuf;
use std::time::Duration;
use tidings_core::broker::BrokerError;
use tidings_core::limits::{
    NATS_ACK_WAIT_DEFAULT, NATS_ACK_WAIT_MAX, NATS_REPLICAS_MAX, REMOTE_IN_FLIGHT_EVENTS_DEFAULT,
    REMOTE_IN_FLIGHT_EVENTS_MAX,
};

const PARAMETERS: &[&str] = &[
    "stream",
    "prefix",
    "ensure",
    "ack_wait",
    "in_flight",
    "replicas",
    "token_file",
    "nkey_file",
    "tls",
    "ca",
    "cert",
    "key",
];

/// Where NATS is, who we are there, and which stream holds the events.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    pub(super) addresses: Vec<String>,
    pub(super) login: Login,
    pub(super) tls: bool,
    pub(super) authority: Option<PathBuf>,
    /// Certificate and key of this client.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    pub(super) stream: String,
    pub(super) prefix: String,
    pub(super) ensure: bool,
    pub(super) ack_wait: Duration,
    pub(super) in_flight: usize,
    pub(super) replicas: usize,
}

/// How we log in.
#[derive(Debug, Clone)]
pub(super) enum Login {
    Nobody,
    Password {
        user: String,
        password: Secret,
    },
    Token(Secret),
    /// The seed of a key pair.
    Nkey(Secret),
}

impl NatsConfig {
    /// Reads `nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT][,…][?stream=&prefix=&ensure=&ack_wait=&in_flight=&replicas=&token_file=&nkey_file=&tls&ca=&cert=&key=]`.
    ///
    /// **Errors**: a parameter that is unknown or has no legal value, a file that cannot be read.
    pub fn from_url(url: &BrokerUrl) -> Result<Self, BrokerError> {
        url.check_parameters(PARAMETERS)?;
        if !url.path().is_empty() {
            return Err(url.invalid("NATS has no path; the stream is named by ?stream=NAME"));
        }
        let stream = url.text("stream").unwrap_or("events").to_owned();
        if !is_token(&stream) || stream.contains(['/', '\\']) {
            return Err(url.invalid(format!(
                "stream={stream}: the name of a stream has no space, dot, slash, * or >"
            )));
        }
        let prefix = url.text("prefix").unwrap_or(&stream).to_owned();
        if !prefix.split('.').all(is_token) || prefix.starts_with('$') {
            return Err(url.invalid(format!(
                "prefix={prefix}: it is one or more words joined by dots, without space, * or >"
            )));
        }
        let certificate = match (url.file("cert"), url.file("key")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => return Err(url.invalid("cert and key are given together")),
        };
        let in_flight = url.number("in_flight", 1, REMOTE_IN_FLIGHT_EVENTS_MAX as u64)?;
        let replicas = url.number("replicas", 1, NATS_REPLICAS_MAX)?;
        Ok(Self {
            addresses: url.addresses(4222),
            login: login(url)?,
            tls: url.flag("tls")? || url.scheme() == "tls" || url.text("ca").is_some(),
            authority: url.file("ca"),
            certificate,
            stream,
            prefix,
            ensure: url.text("ensure").is_none() || url.flag("ensure")?,
            ack_wait: url
                .seconds("ack_wait", NATS_ACK_WAIT_MAX)?
                .unwrap_or(NATS_ACK_WAIT_DEFAULT),
            in_flight: in_flight
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(REMOTE_IN_FLIGHT_EVENTS_DEFAULT),
            replicas: replicas
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(1),
        })
    }

    /// The addresses as one text, for messages.
    pub(super) fn address(&self) -> String {
        self.addresses.join(",")
    }
}

fn login(url: &BrokerUrl) -> Result<Login, BrokerError> {
    let secret = |name: &str| -> Result<Option<Secret>, BrokerError> {
        let Some(file) = url.file(name) else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(&file)
            .map_err(|error| url.invalid(format!("{name} {}: {error}", file.display())))?;
        Ok(Some(Secret::new(text.trim())))
    };
    if let Some(seed) = secret("nkey_file")? {
        return Ok(Login::Nkey(seed));
    }
    if let Some(token) = secret("token_file")? {
        return Ok(Login::Token(token));
    }
    Ok(match (url.user(), url.password()?) {
        (None, _) => Login::Nobody,
        (Some(user), Some(password)) => Login::Password {
            user: user.to_owned(),
            password,
        },
        // As every NATS client reads it: what stands alone before the @ is a token.
        (Some(token), None) => Login::Token(Secret::new(token)),
    })
}

/// Whether a text can be one part of a subject.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && !text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<NatsConfig, BrokerError> {
        NatsConfig::from_url(&text.parse()?)
    }

    #[test]
    fn names_have_defaults() {
        let plain = config("nats://h").unwrap();
        assert_eq!(
            (plain.stream.as_str(), plain.prefix.as_str()),
            ("events", "events")
        );
        assert_eq!(plain.addresses, ["h:4222"]);
        assert!(plain.ensure && !plain.tls);
        let named = config("tls://h:1?stream=shop&ensure=false&ack_wait=5").unwrap();
        assert_eq!(
            (named.stream.as_str(), named.prefix.as_str()),
            ("shop", "shop")
        );
        assert!(!named.ensure && named.tls);
        assert_eq!(named.ack_wait, Duration::from_secs(5));
        assert!(matches!(
            config("nats://t0ken@h").unwrap().login,
            Login::Token(_)
        ));
    }

    #[test]
    fn what_no_server_would_take_is_refused() {
        for (text, word) in [
            ("nats://h?stream=a.b", "stream=a.b"),
            ("nats://h?prefix=a..b", "prefix=a..b"),
            ("nats://h?prefix=a.*", "prefix=a.*"),
            ("nats://h/events", "?stream=NAME"),
            ("nats://h?cert=/c", "together"),
            ("nats://h?nkey_file=/none", "/none"),
            ("nats://h?topic=x", "topic"),
        ] {
            let error = config(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}

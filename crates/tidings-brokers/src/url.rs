//! URLs of brokers: `SCHEME://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…][/PATH][?NAME=VALUE&…]`. A password is never printed.

use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tidings_core::broker::{BrokerError, without_password};

/// A text that must not be seen: a password, a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the client that logs in with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The URL of a broker, taken apart.
///
/// ```
/// use tidings_brokers::BrokerUrl;
/// let url: BrokerUrl = "kafka://ann:s%40fe@127.0.0.1:9092,127.0.0.2:9092?topic=orders".parse()?;
/// assert_eq!(url.scheme(), "kafka");
/// assert_eq!(url.hosts().len(), 2);
/// assert_eq!(url.to_string(), "kafka://ann:***@127.0.0.1:9092,127.0.0.2:9092?topic=orders");
/// # Ok::<(), tidings_core::broker::BrokerError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    scheme: String,
    user: Option<String>,
    password: Option<Secret>,
    hosts: Vec<String>,
    path: String,
    parameters: BTreeMap<String, String>,
}

impl BrokerUrl {
    /// What stands before `://`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Who logs in.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Their password: from the URL, or else from the file that the parameter `password_file` names.
    ///
    /// **Errors**: the file cannot be read.
    pub fn password(&self) -> Result<Option<Secret>, BrokerError> {
        let Some(file) = self.parameters.get("password_file") else {
            return Ok(self.password.clone());
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| self.invalid(format!("the password file {file}: {error}")))?;
        Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
    }

    /// Hosts with their ports, as written.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The first host, with the port if it names none.
    pub fn address(&self, port: u16) -> String {
        let host = self.hosts.first().map_or("127.0.0.1", String::as_str);
        with_port(host, port)
    }

    /// All hosts, each with the port if it names none.
    pub fn addresses(&self, port: u16) -> Vec<String> {
        let hosts = self.hosts.iter();
        hosts.map(|host| with_port(host, port)).collect()
    }

    /// What stands between the hosts and the parameters, decoded, without the slash before it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A parameter as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// A parameter that is a file name.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// A parameter that is yes or no; no unless given. `?tls` alone is a yes.
    ///
    /// **Errors**: another value.
    pub fn flag(&self, name: &str) -> Result<bool, BrokerError> {
        match self.text(name) {
            None | Some("false" | "no" | "0") => Ok(false),
            Some("" | "true" | "yes" | "1") => Ok(true),
            Some(value) => Err(self.invalid(format!("{name}={value}: it is true or false"))),
        }
    }

    /// A parameter that is a number from `least` to `most`.
    ///
    /// **Errors**: no number, or outside.
    pub fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, BrokerError> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(self.invalid(format!(
                "{name}={value}: it is a whole number from {least} to {most}"
            ))),
        }
    }

    /// A parameter that is a time in seconds from 1 to `most`.
    ///
    /// **Errors**: no number, or outside.
    pub fn seconds(&self, name: &str, most: Duration) -> Result<Option<Duration>, BrokerError> {
        let number = self.number(name, 1, most.as_secs())?;
        Ok(number.map(Duration::from_secs))
    }

    /// Refuses parameters that nobody asks for, so that a slip of the pen has no silent effect.
    ///
    /// **Errors**: a parameter that is not among those known.
    pub fn check_parameters(&self, known: &[&str]) -> Result<(), BrokerError> {
        let unknown = self
            .parameters
            .keys()
            .find(|name| !known.contains(&name.as_str()) && name.as_str() != "password_file");
        match unknown {
            None => Ok(()),
            Some(name) => Err(self.invalid(format!(
                "the parameter {name} is not known; there are: {}",
                known.join(", ")
            ))),
        }
    }

    /// An error about this URL, which it shows without its password.
    pub fn invalid(&self, reason: impl Into<String>) -> BrokerError {
        BrokerError::UrlInvalid {
            url: self.to_string(),
            reason: reason.into(),
        }
    }
}

fn with_port(host: &str, port: u16) -> String {
    // A colon outside of brackets is a port.
    let has_port = host.rfind(':') > host.rfind(']');
    if has_port {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    }
}

impl std::str::FromStr for BrokerUrl {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let fault = |reason: &str| BrokerError::UrlInvalid {
            url: without_password(text),
            reason: reason.to_owned(),
        };
        let decoded = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8();
            decoded
                .map(|text| text.into_owned())
                .map_err(|_| fault("a part of it does not decode to UTF-8"))
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| fault("it has the form SCHEME://HOST:PORT?NAME=VALUE"))?;
        if let Some((_, behind)) = rest.split_once(['/', '?'])
            && behind.contains('@')
        {
            return Err(at_sign_behind(scheme));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            Some((user, password)) => (
                Some(decoded(user)?).filter(|user| !user.is_empty()),
                Some(decoded(password)?).filter(|password| !password.is_empty()),
            ),
            None => (None, None),
        };
        let mut parameters = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if parameters.insert(decoded(name)?, decoded(value)?).is_some() {
                return Err(fault(&format!("the parameter {name} is given twice")));
            }
        }
        let hosts: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        for host in &hosts {
            if let Some(port) = port_of(host)
                && port.parse::<u16>().is_err()
            {
                return Err(fault(&format!("the port {port:?} is a number up to 65535")));
            }
        }
        Ok(Self {
            scheme: scheme.to_owned(),
            user,
            password: password.map(Secret),
            hosts: hosts.into_iter().filter(|host| !host.is_empty()).collect(),
            path: decoded(path)?,
            parameters,
        })
    }
}

/// The refusal of an `@` behind the first `/` or `?`: what stands before it may be the rest of a password, so nothing of it is shown.
fn at_sign_behind(scheme: &str) -> BrokerError {
    BrokerError::UrlInvalid {
        url: format!("{scheme}://…"),
        reason: "an @ stands behind its first / or ?; in a user or a password write / as %2F and ? as %3F, elsewhere @ as %40".to_owned(),
    }
}

fn port_of(host: &str) -> Option<&str> {
    let colon = host
        .rfind(':')
        .filter(|&colon| Some(colon) > host.rfind(']'))?;
    host.get(colon + 1..)
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        match &self.user {
            // It stands alone: a token of NATS, unless the password is elsewhere.
            Some(_) if self.password.is_none() && self.text("password_file").is_none() => {
                f.write_str("***")?;
            }
            Some(user) => f.write_str(user)?,
            None => {}
        }
        if self.password.is_some() {
            f.write_str(":***")?;
        }
        if self.user.is_some() || self.password.is_some() {
            f.write_str("@")?;
        }
        f.write_str(&self.hosts.join(","))?;
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            let joint = if index == 0 { '?' } else { '&' };
            write!(f, "{joint}{name}")?;
            if !value.is_empty() {
                write!(f, "={value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> BrokerUrl {
        text.parse()
            .unwrap_or_else(|error: BrokerError| panic!("{text}: {error}"))
    }

    #[test]
    fn the_parts_are_decoded() {
        let url = parse("amqp://us%2Fer:p%40ss@h1:5672,h2/v%2Fhost?tls&ca=/a%20b&prefetch=10");
        assert_eq!(url.user(), Some("us/er"));
        assert_eq!(url.password().unwrap().unwrap().reveal(), "p@ss");
        assert_eq!(url.addresses(5671), ["h1:5672", "h2:5671"]);
        assert_eq!(url.path(), "v/host");
        assert!(url.flag("tls").unwrap() && !url.flag("other").unwrap());
        assert_eq!(url.file("ca"), Some(PathBuf::from("/a b")));
        assert_eq!(url.number("prefetch", 1, 100).unwrap(), Some(10));
        assert_eq!(parse("nats://[::1]").address(4222), "[::1]:4222");
        assert_eq!(parse("sns+sqs://").hosts(), [""; 0]);
    }

    #[test]
    fn a_password_is_never_printed() {
        let url = parse("kafka://ann:secret@h?topic=t");
        for text in [
            url.to_string(),
            format!("{url:?}"),
            url.invalid("x").to_string(),
            "kafka://ann:secret@h:port"
                .parse::<BrokerUrl>()
                .unwrap_err()
                .to_string(),
        ] {
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn nothing_of_a_password_that_is_not_encoded_is_printed() {
        for text in [
            "amqp://bob:s3cr/et@h",
            "nats://bob:s3cr/45@h",
            "nats://bob:12?s3cr@h",
            "sns+sqs://bob:1/s3cr@h?region=eu",
            "amqp://bob:1@s3cr/et@h/v",
            "nats://t0/s3cr@h",
        ] {
            let error = text.parse::<BrokerUrl>().unwrap_err().to_string();
            assert!(error.contains("%2F"), "{error}");
            for part in ["bob", "s3cr", "et@", "45", "12", "t0"] {
                assert!(!error.contains(part), "{part}: {error}");
            }
        }
        let url = parse("amqp://bob:s3cr%2Fet@h/v%40w?ca=/a%40b");
        assert_eq!(url.password().unwrap().unwrap().reveal(), "s3cr/et");
        assert_eq!((url.path(), url.text("ca")), ("v@w", Some("/a@b")));
    }

    #[test]
    fn a_password_can_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "s3\n").unwrap();
        let url = parse(&format!("nats://ann@h?password_file={}", file.display()));
        assert_eq!(url.password().unwrap().unwrap().reveal(), "s3");
        let missing = parse("nats://ann@h?password_file=/none").password();
        assert!(missing.unwrap_err().to_string().contains("/none"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("kafka:h", "SCHEME://HOST"),
            ("kafka://h:99999", "\"99999\""),
            ("kafka://h?a=1&a=2", "given twice"),
            ("kafka://h?a=%ff", "UTF-8"),
        ] {
            let error = text.parse::<BrokerUrl>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let url = parse("kafka://h?topic=t&in_flight=0&tls=maybe");
        let error = url.check_parameters(&["topic"]).unwrap_err().to_string();
        assert!(error.contains("in_flight") && error.contains("topic"));
        let error = url.number("in_flight", 1, 9).unwrap_err().to_string();
        assert!(error.contains("from 1 to 9"), "{error}");
        assert!(url.flag("tls").is_err());
    }
}

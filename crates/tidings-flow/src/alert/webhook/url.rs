//! The URL of a webhook: what of it is needed to send, and what of it may be shown.

use super::WebhookError;
use http::Uri;
use http::uri::{PathAndQuery, Scheme};

/// A URL that a message can be sent to. Only its scheme and host are shown: paths and queries often are secrets.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) is_tls: bool,
    /// The host without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of the header `host`.
    pub(super) authority: String,
    pub(super) path: PathAndQuery,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, WebhookError> {
        let invalid = |reason| WebhookError::UrlInvalid { reason };
        if text.contains('#') {
            return Err(invalid(
                "it has a fragment (#…), which is never sent: leave it out",
            ));
        }
        let uri: Uri = text
            .parse()
            .map_err(|_| invalid("it cannot be read: write https://HOST/PATH"))?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(invalid("its scheme must be https or http")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid(
                "it has a user or a password in it: receivers check the signature instead",
            ));
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(invalid("it names no host"));
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().ends_with(':') || authority.as_str().len() > host.len() => {
                return Err(invalid("its port is no number up to 65535"));
            }
            None => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
        };
        let path = uri.path_and_query().cloned();
        Ok(Self {
            is_tls,
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: path.unwrap_or_else(|| PathAndQuery::from_static("/")),
        })
    }

    /// What may be shown.
    pub(super) fn shown(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}/…", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_its_path_is_not_shown() {
        let target = Target::parse("https://hooks.example.com/T0/secret?token=x").unwrap();

        assert!(target.is_tls);
        assert_eq!(
            (target.host.as_str(), target.port),
            ("hooks.example.com", 443)
        );
        assert_eq!(target.path.as_str(), "/T0/secret?token=x");
        assert_eq!(target.shown(), "https://hooks.example.com/…");
        let target = Target::parse("http://[::1]:8080").unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 8080));
        assert_eq!(target.authority, "[::1]:8080");
        assert_eq!(target.path.as_str(), "/");
    }

    #[test]
    fn what_is_no_url_of_a_webhook_is_refused_and_not_shown() {
        for text in [
            "",
            "/path",
            "example.com/hook",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://user:secret@example.com/",
            "https://example.com/#part",
            "https://example.com:99999/",
            "https://example.com:/",
            "https:///x",
        ] {
            let refused = Target::parse(text);
            let error = refused.err().map(|error| error.to_string());
            assert!(
                error
                    .as_ref()
                    .is_some_and(|error| !error.contains("secret")),
                "{text}: {error:?}"
            );
        }
    }
}

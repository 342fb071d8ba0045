//! The channel that posts to a URL, signed as Standard Webhooks says.
//!
//! A name is resolved anew for each attempt, every address that it has is checked, and the connection goes to a checked one: a name whose addresses change between check and
//! connection leads nowhere else. Redirects are not followed, the body of an answer is not read, and nothing of an answer but its status is told.
//!
//! **Source**: Standard Webhooks 1.0.

mod address;
mod request;
mod secret;
mod url;

pub use address::Inside;
pub use secret::WebhookSecret;

use super::channel::{Channel, Handover, Outgoing};
use request::{Answer, Post};
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::limits::{
    WEBHOOK_SECRET_BYTES_MAX, WEBHOOK_SECRET_BYTES_MIN, WEBHOOK_TIMEOUT_DEFAULT,
};
use tidings_core::seam::Clock;
use tidings_core::{BoxFuture, Code, ErrorClass, codes};
use tokio_rustls::TlsConnector;
use url::Target;

/// Turns the name of a host into addresses.
pub trait Resolve: Send + Sync {
    /// All addresses of a host.
    ///
    /// **Cancel**: no effect.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The resolver of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// What a webhook is built from.
pub struct WebhookConfig {
    /// Where to: `https://HOST/PATH`, or `http://` inside of a network.
    pub url: String,
    /// What messages are signed with.
    pub secret: WebhookSecret,
    /// Whether it may lead to addresses inside of networks.
    pub inside: Inside,
    /// How long one attempt may take.
    pub time_limit: Duration,
    /// How names become addresses.
    pub resolver: Arc<dyn Resolve>,
    /// A file of certificates (PEM) to trust instead of those that the system trusts, for receivers with an authority of their own.
    pub trusted: Option<PathBuf>,
}

impl WebhookConfig {
    /// A configuration with the default bounds.
    pub fn new(url: impl Into<String>, secret: WebhookSecret) -> Self {
        Self {
            url: url.into(),
            secret,
            inside: Inside::default(),
            time_limit: WEBHOOK_TIMEOUT_DEFAULT,
            resolver: Arc::new(SystemResolver),
            trusted: None,
        }
    }
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("inside", &self.inside)
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}

/// Posts alerts to a URL.
pub struct WebhookChannel {
    name: String,
    target: Target,
    /// As given, to tell the channel from others; never shown.
    url: String,
    secret: WebhookSecret,
    inside: Inside,
    time_limit: Duration,
    resolver: Arc<dyn Resolve>,
    tls: Option<Tls>,
    clock: Arc<dyn Clock>,
}

struct Tls {
    connector: TlsConnector,
    server: ServerName<'static>,
}

impl WebhookChannel {
    /// Checks the configuration; nothing is connected yet.
    ///
    /// **Errors**: permanent; what is wrong, without the URL's path and without the secret.
    pub fn new(config: WebhookConfig, clock: Arc<dyn Clock>) -> Result<Self, WebhookError> {
        let target = Target::parse(&config.url)?;
        if let Ok(ip) = target.host.parse::<IpAddr>() {
            let address = SocketAddr::new(ip, target.port);
            if let Some(reason) = address::refusal(address, config.inside) {
                return Err(WebhookError::AddressRefused {
                    reason,
                    may_be_allowed: address::refusal(address, Inside::Allowed).is_none(),
                });
            }
        }
        let trusted = config.trusted.as_deref();
        let tls = target.is_tls.then(|| tls(&target, trusted)).transpose()?;
        Ok(Self {
            name: format!("webhook {}", target.shown()),
            target,
            url: config.url,
            secret: config.secret,
            inside: config.inside,
            time_limit: config.time_limit,
            resolver: config.resolver,
            tls,
            clock,
        })
    }

    /// Posts once, within the time limit.
    async fn post(&self, message: &Outgoing) -> Result<Answer, String> {
        let attempt = self.attempt(message);
        match tokio::time::timeout(self.time_limit, attempt).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {:?}", self.time_limit)),
        }
    }

    async fn attempt(&self, message: &Outgoing) -> Result<Answer, String> {
        let addresses = self.checked_addresses().await?;
        let now_secs = self.clock.now().as_micros().div_euclid(1_000_000);
        let post = Post {
            target: &self.target,
            id: &message.id,
            timestamp_secs: now_secs,
            signature: self.secret.signatures(&message.id, now_secs, &message.body),
            body: &message.body,
        };
        let stream = request::connect(&addresses).await?;
        match &self.tls {
            None => request::send(stream, post).await,
            Some(tls) => {
                let connecting = tls.connector.connect(tls.server.clone(), stream);
                let stream = connecting
                    .await
                    .map_err(|error| format!("no TLS with {}: {error}", self.target.shown()))?;
                request::send(stream, post).await
            }
        }
    }

    /// The addresses of the host, if it has any and all of them may be connected to: one bad address among good ones is not passed over, because whoever put it there
    /// chooses which is taken.
    async fn checked_addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let host = &self.target.host;
        let addresses = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, self.target.port)],
            Err(_) => {
                let resolved = self.resolver.resolve(host, self.target.port).await;
                resolved.map_err(|error| format!("{host} has no address: {error}"))?
            }
        };
        if addresses.is_empty() {
            return Err(format!("{host} has no address"));
        }
        let refusal = addresses
            .iter()
            .find_map(|address| address::refusal(*address, self.inside));
        match refusal {
            None => Ok(addresses),
            Some(reason) => Err(format!(
                "{host} leads where a webhook may not ({}): {reason}",
                codes::WEBHOOK_ADDRESS_REFUSED
            )),
        }
    }

    fn judge(&self, answer: &Answer) -> Handover {
        let status = answer.status;
        let now = self.clock.now();
        let failed = |reason| Handover::Failed {
            reason,
            retry_after: answer.retry_after(now),
        };
        match status {
            200..300 => Handover::Accepted {
                answer: format!("status {status}"),
            },
            300..400 => failed(format!(
                "status {status}: redirects are not followed; give the URL that they lead to"
            )),
            410 => Handover::Closed {
                reason: "status 410: the receiver wants no messages any more".to_owned(),
            },
            _ => failed(format!("status {status}")),
        }
    }
}

impl Channel for WebhookChannel {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> String {
        super::subject::hex(&format!("webhook {}", self.url))
    }

    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Handover> {
        Box::pin(async move {
            match self.post(message).await {
                Ok(answer) => self.judge(&answer),
                Err(reason) => Handover::Failed {
                    reason,
                    retry_after: None,
                },
            }
        })
    }
}

impl fmt::Debug for WebhookChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebhookChannel").field(&self.name).finish()
    }
}

/// TLS with the certificates of a file, or else those that the system trusts.
fn tls(target: &Target, trusted: Option<&Path>) -> Result<Tls, WebhookError> {
    let found = match trusted {
        Some(_) => rustls_native_certs::load_certs_from_paths(trusted, None),
        None => rustls_native_certs::load_native_certs(),
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(WebhookError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| WebhookError::NoRoots)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server =
        ServerName::try_from(target.host.clone()).map_err(|_| WebhookError::UrlInvalid {
            reason: "its host is no name that a certificate can be for",
        })?;
    Ok(Tls {
        connector: TlsConnector::from(Arc::new(config)),
        server,
    })
}

/// Why a webhook cannot be used; permanent, and nothing was connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// The URL cannot be used.
    #[error("the URL of the webhook cannot be used: {reason}")]
    UrlInvalid {
        /// The rule and the way out.
        reason: &'static str,
    },
    /// A secret is none.
    #[error(
        "the secret of the webhook cannot be used: {reason}; write whsec_ and {WEBHOOK_SECRET_BYTES_MIN} to {WEBHOOK_SECRET_BYTES_MAX} random bytes in base64, one secret a line"
    )]
    SecretInvalid {
        /// The rule.
        reason: &'static str,
    },
    /// The URL names an address that it may not lead to.
    #[error("the webhook leads where it may not: {reason}")]
    AddressRefused {
        /// The address and what it is.
        reason: String,
        /// Whether it may with [`Inside::Allowed`].
        may_be_allowed: bool,
    },
    /// There is no certificate to trust.
    #[error(
        "the webhook needs TLS, and there are no certificates to trust; install them (ca-certificates) or name a file of them"
    )]
    NoRoots,
}

impl WebhookError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::UrlInvalid { .. } | Self::NoRoots => codes::WEBHOOK_URL_INVALID,
            Self::SecretInvalid { .. } => codes::WEBHOOK_SECRET_INVALID,
            Self::AddressRefused { .. } => codes::WEBHOOK_ADDRESS_REFUSED,
        }
    }

    /// Always permanent.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Permanent
    }

    /// Never: nothing is sent before the whole configuration is checked.
    pub fn may_have_happened(&self) -> bool {
        false
    }
}

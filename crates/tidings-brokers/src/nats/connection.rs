//! The connection to NATS: logging in, knowing whether it stands, and what its errors mean to us.

use super::NAME;
use super::config::{Login, NatsConfig};
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidings_core::broker::BrokerError;
use tidings_core::limits::{
    NATS_HEADER_BYTES_RESERVED, PAYLOAD_BYTES_MAX, REMOTE_CONNECT_TIMEOUT, REMOTE_PUBLISH_TIMEOUT,
    REMOTE_RECONNECT_BACKOFF_FIRST, REMOTE_RECONNECT_BACKOFF_MAX, REMOTE_REQUEST_TIMEOUT,
};
use tidings_core::{ErrorClass, Timestamp};
use tokio::sync::watch;

/// What all parts of the adapter share.
pub(super) struct Link {
    pub(super) config: NatsConfig,
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    /// Whether the connection stands, as the client last told.
    connected: watch::Receiver<bool>,
    /// What the server last said that we may not do; it says so beside the answer, which never comes.
    forbidden: Arc<Mutex<Option<String>>>,
    /// Whether the stream takes batches, as far as was seen.
    batches: AtomicBool,
    /// Whether the broker was closed: whoever receives is told so.
    pub(super) ends: watch::Sender<bool>,
}

impl Link {
    /// Connects and logs in.
    pub(super) async fn open(config: NatsConfig) -> Result<Self, BrokerError> {
        // Another client in the same program may bring a second provider, so ours is named; an error says that one is named already.
        let _named_already = rustls::crypto::ring::default_provider().install_default();
        let (told, connected) = watch::channel(true);
        let forbidden = Arc::new(Mutex::new(None));
        let options = options(&config, told, Arc::clone(&forbidden));
        let scheme = if config.tls { "tls" } else { "nats" };
        let addresses = config.addresses.iter();
        let addresses = addresses
            .map(|address| format!("{scheme}://{address}").parse())
            .collect::<Result<Vec<async_nats::ServerAddr>, _>>()
            .map_err(|error| unreachable(&config, error))?;
        let connecting = tokio::time::timeout(REMOTE_CONNECT_TIMEOUT, options.connect(addresses));
        let client = match connecting.await {
            Ok(connected) => connected.map_err(|error| connect_error(&config, &error))?,
            Err(_) => {
                let limit = REMOTE_CONNECT_TIMEOUT.as_secs();
                return Err(unreachable(&config, format!("no answer within {limit} s")));
            }
        };
        let mut jetstream = jetstream::ContextBuilder::new()
            .ack_timeout(REMOTE_PUBLISH_TIMEOUT)
            .backpressure_on_inflight(true)
            .build(client.clone());
        jetstream.set_timeout(REMOTE_PUBLISH_TIMEOUT);
        Ok(Self {
            config,
            client,
            jetstream,
            connected,
            forbidden,
            batches: AtomicBool::new(false),
            ends: watch::Sender::new(false),
        })
    }

    /// Waits until the connection stands, within a limit.
    pub(super) async fn wait_connected(&self, limit: Duration) -> Result<(), BrokerError> {
        let mut connected = self.connected.clone();
        let standing = tokio::time::timeout(limit, connected.wait_for(|connected| *connected));
        match standing.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(BrokerError::Closed),
            Err(_) => Err(unreachable(&self.config, "the connection is lost")),
        }
    }

    /// A view of whether the connection stands, to wait for changes.
    pub(super) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// How many connections there were: what was sent on an earlier one may be lost.
    pub(super) fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Acquire)
    }

    /// Waits until there is another connection than the newest of so many.
    pub(super) async fn connected_anew(&self, connects: u64) {
        let mut connected = self.connected.clone();
        while self.connects() == connects {
            if connected.changed().await.is_err() {
                // Nothing connects any more, and the answer has its own limit.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The largest payload: what a message may have, less some room for headers.
    pub(super) fn payload_bytes_max(&self) -> usize {
        let message_bytes_max = self.client.max_payload();
        PAYLOAD_BYTES_MAX.min(message_bytes_max.saturating_sub(NATS_HEADER_BYTES_RESERVED))
    }

    /// Several filters of one consumer came with 2.10.
    pub(super) fn takes_several_filters(&self) -> bool {
        self.client.is_server_compatible(2, 10, 0)
    }

    /// Batches that are taken whole came with 2.12, and know duplicates since 2.12.1.
    pub(super) fn knows_batches(&self) -> bool {
        self.client.is_server_compatible(2, 12, 1)
    }

    /// Whether events may be sent in batches.
    pub(super) fn takes_batches(&self) -> bool {
        self.batches.load(Ordering::Relaxed) && self.knows_batches()
    }

    /// Notes whether the stream allows batches.
    pub(super) fn note_batches(&self, allowed: bool) {
        self.batches.store(allowed, Ordering::Relaxed);
    }

    /// The stream of the events, if it exists.
    pub(super) async fn find_stream(&self) -> Result<Option<Stream>, BrokerError> {
        self.wait_connected(REMOTE_REQUEST_TIMEOUT).await?;
        let looking = self.jetstream.get_stream(&self.config.stream);
        let looked = self.within("look at the stream", looking).await?;
        match looked {
            Ok(stream) => {
                self.note_batches(stream.cached_info().config.allow_atomic_publish);
                Ok(Some(stream))
            }
            Err(error) => match error.kind() {
                jetstream::context::GetStreamErrorKind::JetStream(cause)
                    if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(self.failed("look at the stream", &error)),
            },
        }
    }

    /// The stream, which must exist by now.
    pub(super) async fn stream(&self) -> Result<Stream, BrokerError> {
        let found = self.find_stream().await?;
        found.ok_or_else(|| self.stream_missing())
    }

    pub(super) fn stream_missing(&self) -> BrokerError {
        BrokerError::TopologyMissing {
            broker: NAME,
            what: format!("the stream {}", self.config.stream),
            command: self.stream_command(),
        }
    }

    /// What a person runs to make the stream.
    pub(super) fn stream_command(&self) -> String {
        let NatsConfig {
            stream,
            prefix,
            replicas,
            ..
        } = &self.config;
        let batches = if self.knows_batches() {
            " --allow-batch"
        } else {
            ""
        };
        format!(
            "nats stream add {stream} --subjects '{prefix}.>' --storage file --replicas {replicas} --retention limits --discard old --dupe-window 2m{batches} --defaults"
        )
    }

    /// Bounds a request: the server does not answer what it forbids.
    pub(super) async fn within<T>(
        &self,
        action: &'static str,
        request: impl IntoFuture<Output = T>,
    ) -> Result<T, BrokerError> {
        match tokio::time::timeout(REMOTE_REQUEST_TIMEOUT, request).await {
            Ok(answer) => Ok(answer),
            Err(_) => {
                let limit = REMOTE_REQUEST_TIMEOUT.as_secs();
                Err(self.failed(action, &format!("no answer within {limit} s")))
            }
        }
    }

    /// What a failed request means.
    pub(super) fn failed(
        &self,
        action: &'static str,
        error: &dyn std::fmt::Display,
    ) -> BrokerError {
        let forbidden = self.forbidden.lock();
        let forbidden = forbidden.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reason) = forbidden {
            return BrokerError::Unauthorised {
                broker: NAME,
                address: self.config.address(),
                reason,
            };
        }
        if !*self.connected.borrow() {
            return unreachable(&self.config, error);
        }
        BrokerError::Remote {
            broker: NAME,
            action,
            reason: error.to_string(),
            class: ErrorClass::Transient,
        }
    }
}

fn options(
    config: &NatsConfig,
    told: watch::Sender<bool>,
    forbidden: Arc<Mutex<Option<String>>>,
) -> ConnectOptions {
    let told = Arc::new(told);
    let mut options = ConnectOptions::new()
        .name("tidings")
        .connection_timeout(REMOTE_CONNECT_TIMEOUT)
        .request_timeout(Some(REMOTE_REQUEST_TIMEOUT))
        .require_tls(config.tls)
        .reconnect_delay_callback(|attempts| {
            let doublings = u32::try_from(attempts.min(16)).unwrap_or(16);
            REMOTE_RECONNECT_BACKOFF_FIRST
                .saturating_mul(1 << doublings)
                .min(REMOTE_RECONNECT_BACKOFF_MAX)
        })
        .event_callback(move |event| {
            let told = Arc::clone(&told);
            let forbidden = Arc::clone(&forbidden);
            async move {
                match event {
                    Event::Connected => drop(told.send_replace(true)),
                    Event::Disconnected | Event::Closed => drop(told.send_replace(false)),
                    Event::ServerError(error) => {
                        let text = error.to_string();
                        if text.to_ascii_lowercase().contains("permissions violation") {
                            let mut forbidden =
                                forbidden.lock().unwrap_or_else(PoisonError::into_inner);
                            *forbidden = Some(text);
                        } else {
                            tracing::warn!(error = text, "NATS reports an error");
                        }
                    }
                    Event::ClientError(error) => {
                        tracing::warn!(%error, "the client of NATS reports an error");
                    }
                    Event::LameDuckMode | Event::Draining | Event::SlowConsumer(_) => {
                        tracing::info!(%event, "NATS reports");
                    }
                }
            }
        });
    options = match &config.login {
        Login::Nobody => options,
        Login::Password { user, password } => {
            options.user_and_password(user.clone(), password.reveal().to_owned())
        }
        Login::Token(token) => options.token(token.reveal().to_owned()),
        Login::Nkey(seed) => options.nkey(seed.reveal().to_owned()),
    };
    if let Some(authority) = &config.authority {
        options = options.add_root_certificates(authority.clone());
    }
    if let Some((certificate, key)) = &config.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
}

fn connect_error(config: &NatsConfig, error: &async_nats::ConnectError) -> BrokerError {
    let reason = reason(error);
    let certificate = reason.contains("certificate") || reason.contains("UnknownIssuer");
    match error.kind() {
        ConnectErrorKind::Authentication
        | ConnectErrorKind::AuthorizationViolation
        | ConnectErrorKind::Tls => unauthorised(config, reason),
        _ if certificate => unauthorised(config, reason),
        _ => unreachable(config, reason),
    }
}

/// The whole chain: what is wrong with a certificate stands at its end.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let further = error.to_string();
        if !text.contains(&further) {
            text = format!("{text}: {further}");
        }
        cause = error.source();
    }
    text
}

fn unauthorised(config: &NatsConfig, reason: String) -> BrokerError {
    BrokerError::Unauthorised {
        broker: NAME,
        address: config.address(),
        reason,
    }
}

pub(super) fn unreachable(config: &NatsConfig, reason: impl std::fmt::Display) -> BrokerError {
    BrokerError::Unreachable {
        broker: NAME,
        address: config.address(),
        reason: reason.to_string(),
    }
}

/// A time of the server as ours.
pub(super) fn timestamp(time: async_nats::datetime::DateTime) -> Timestamp {
    let micros = time.unix_timestamp_nanos() / 1_000;
    Timestamp::from_micros(i64::try_from(micros).unwrap_or_default())
}

/// A time of ours as the server's.
pub(super) fn server_time(time: Timestamp) -> Result<async_nats::datetime::DateTime, BrokerError> {
    let nanos = i128::from(time.as_micros()) * 1_000;
    async_nats::datetime::from_nanos(nanos).map_err(|error| BrokerError::Unsupported {
        broker: NAME,
        what: format!("begin at {time}: {error}"),
    })
}

//! Connections to RabbitMQ: logging in, the one that publishes, and what errors mean to us.

use super::NAME;
use super::config::RabbitMqConfig;
use crate::incoming::Incoming;
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::ShortString;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use tidings_core::ErrorClass;
use tidings_core::broker::BrokerError;
use tidings_core::limits::{
    RABBITMQ_HEARTBEAT, REMOTE_CONNECT_TIMEOUT, REMOTE_PUBLISH_TIMEOUT, REMOTE_REQUEST_TIMEOUT,
};
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

/// While the server blocks publishers, it is asked this often whether it still does.
const BLOCKED_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The answer of AMQP for something that does not exist.
const NOT_FOUND: u16 = 404;
/// The answer for something that exists otherwise, or is in use.
const PRECONDITION_FAILED: u16 = 406;

/// What all parts of the adapter share.
pub(super) struct Link {
    pub(super) config: RabbitMqConfig,
    /// The connection that publishes and administrates, made anew when it is lost; guarded so that it is made once.
    line: Mutex<Option<Arc<Line>>>,
    /// Events that were accepted and that no queue wanted.
    pub(super) unrouted: AtomicU64,
    /// What groups of this process have received, by their queues: the server does not tell how much it has sent to whom.
    members: std::sync::Mutex<Vec<(ShortString, Weak<Incoming<u64>>)>>,
    /// Whether the broker was closed: whoever receives is told so.
    pub(super) ends: watch::Sender<bool>,
}

/// A connection with the channel that publishes.
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) channel: Channel,
}

impl Link {
    pub(super) fn new(config: RabbitMqConfig) -> Self {
        Self {
            config,
            line: Mutex::new(None),
            unrouted: AtomicU64::new(0),
            members: std::sync::Mutex::default(),
            ends: watch::Sender::new(false),
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Connection, BrokerError> {
        // Another client in the same program may bring a second provider, so ours is named; an error says that one is named already.
        let _named_already = rustls::crypto::ring::default_provider().install_default();
        let tls = self.tls()?;
        let mut failed = None;
        for (host, port) in &self.config.addresses {
            let connecting = Connection::connect_uri_with_config(
                self.uri(host, *port),
                ConnectionProperties::default().with_connection_name("tidings".into()),
                tls.clone(),
                lapin::runtime::default_runtime()
                    .map_err(|error| self.meaning("connect", &error))?,
            );
            match tokio::time::timeout(REMOTE_CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => failed = Some(self.meaning("connect", &error)),
                Err(_) => {
                    let limit = REMOTE_CONNECT_TIMEOUT.as_secs();
                    failed = Some(self.unreachable(format!("no answer within {limit} s")));
                }
            }
        }
        Err(failed.unwrap_or_else(|| self.unreachable("no host is named")))
    }

    fn uri(&self, host: &str, port: u16) -> AMQPUri {
        AMQPUri {
            scheme: if self.config.tls {
                AMQPScheme::AMQPS
            } else {
                AMQPScheme::AMQP
            },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: self.config.user.clone(),
                    password: self.config.password.reveal().to_owned(),
                },
                host: host.to_owned(),
                port,
            },
            vhost: self.config.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: u16::try_from(RABBITMQ_HEARTBEAT.as_secs()).ok(),
                ..AMQPQueryString::default()
            },
        }
    }

    fn tls(&self) -> Result<OwnedTLSConfig, BrokerError> {
        let read = |file: &Path| {
            std::fs::read(file).map_err(|error| BrokerError::UrlInvalid {
                url: format!("amqps://{}", self.config.address()),
                reason: format!("{}: {error}", file.display()),
            })
        };
        let mut tls = OwnedTLSConfig::default();
        if let Some(authority) = &self.config.authority {
            let pem = read(authority)?;
            tls.cert_chain = Some(String::from_utf8_lossy(&pem).into_owned());
        }
        if let Some((certificate, key)) = &self.config.certificate {
            tls.identity = Some(OwnedIdentity::PKCS8 {
                pem: read(certificate)?,
                key: read(key)?,
            });
        }
        Ok(tls)
    }

    /// The connection that publishes, as long as it stands and its channel does; else a new one.
    pub(super) async fn line(&self) -> Result<Arc<Line>, BrokerError> {
        let mut slot = self.line.lock().await;
        if let Some(line) = slot.as_ref()
            && line.connection.status().connected()
            && line.channel.status().connected()
        {
            return Ok(Arc::clone(line));
        }
        *slot = None;
        let connection = self.connect().await?;
        let opening = async {
            let channel = connection.create_channel().await?;
            let options = lapin::options::ConfirmSelectOptions::default();
            channel.confirm_select(options).await?;
            Ok(channel)
        };
        let channel = self.within("open a channel", opening).await?;
        let line = Arc::new(Line {
            connection,
            channel,
        });
        *slot = Some(Arc::clone(&line));
        Ok(line)
    }

    /// A channel for questions: one that is answered by an error is closed by the server.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        let line = self.line().await?;
        self.within("open a channel", line.connection.create_channel())
            .await
    }

    /// Waits, within a limit, while the server blocks publishers because its memory or its disk is short.
    pub(super) async fn wait_unblocked(&self, line: &Line) -> Result<(), BrokerError> {
        let waiting = async {
            while line.connection.status().blocked() {
                sleep(BLOCKED_LOOK_INTERVAL).await;
            }
        };
        let waited = tokio::time::timeout(REMOTE_PUBLISH_TIMEOUT, waiting).await;
        waited.map_err(|_| BrokerError::Remote {
            broker: NAME,
            action: "take events",
            reason: "it blocks publishers, because its memory or its disk is short".to_owned(),
            class: ErrorClass::Transient,
        })
    }

    /// Notes that a group of this process receives from a queue.
    pub(super) fn note_member(&self, queue: &ShortString, incoming: &Arc<Incoming<u64>>) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|(_, member)| member.strong_count() > 0);
        members.push((queue.clone(), Arc::downgrade(incoming)));
    }

    /// How many events groups of this process have received from a queue and not settled.
    pub(super) fn unsettled(&self, queue: &ShortString) -> usize {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members
            .iter()
            .filter(|(name, _)| name == queue)
            .filter_map(|(_, member)| member.upgrade())
            .map(|incoming| incoming.lock().table.len())
            .sum()
    }

    /// Closes the connection that publishes.
    pub(super) async fn close(&self) {
        if let Some(line) = self.line.lock().await.take() {
            // A connection that is lost needs no farewell.
            let closing = line.connection.close(200, "OK".into());
            let _lost = tokio::time::timeout(REMOTE_REQUEST_TIMEOUT, closing).await;
        }
    }

    /// Bounds a request and says what its failure means.
    pub(super) async fn within<T>(
        &self,
        action: &'static str,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, BrokerError> {
        match tokio::time::timeout(REMOTE_REQUEST_TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.meaning(action, &error)),
            Err(_) => {
                let limit = REMOTE_REQUEST_TIMEOUT.as_secs();
                Err(self.unreachable(format!("no answer within {limit} s")))
            }
        }
    }

    /// What a failure of the client means.
    pub(super) fn meaning(&self, action: &'static str, error: &lapin::Error) -> BrokerError {
        let reason = error.to_string();
        match error.kind() {
            ErrorKind::ProtocolError(answer) => match answer.get_id() {
                // Access refused; not allowed, as for a virtual host that is not there.
                403 | 530 => self.unauthorised(answer.get_message().to_string()),
                // Forced: the server goes down.
                320 => self.unreachable(reason),
                _ => BrokerError::Remote {
                    broker: NAME,
                    action,
                    reason: answer.get_message().to_string(),
                    class: ErrorClass::Transient,
                },
            },
            ErrorKind::IOError(_) if reason.contains("certificate") => self.unauthorised(reason),
            _ => self.unreachable(reason),
        }
    }

    fn unauthorised(&self, reason: String) -> BrokerError {
        BrokerError::Unauthorised {
            broker: NAME,
            address: self.config.address(),
            reason,
        }
    }

    pub(super) fn unreachable(&self, reason: impl Into<String>) -> BrokerError {
        BrokerError::Unreachable {
            broker: NAME,
            address: self.config.address(),
            reason: reason.into(),
        }
    }
}

/// Whether the server says that something does not exist.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(answer) if answer.get_id() == NOT_FOUND)
}

/// Whether the server says that something exists otherwise, or is in use.
pub(super) fn is_otherwise(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(answer) if answer.get_id() == PRECONDITION_FAILED)
}

/// How many bytes the message had for which the server closed the channel, because it takes none of that size.
pub(super) fn refused_bytes(error: &lapin::Error) -> Option<usize> {
    let ErrorKind::ProtocolError(answer) = error.kind() else {
        return None;
    };
    if answer.get_id() != PRECONDITION_FAILED {
        return None;
    }
    // "PRECONDITION_FAILED - message size 200 is larger than configured max size 100"; nothing else tells which message it was.
    let (_, rest) = answer.get_message().as_str().split_once("message size ")?;
    let (bytes, _) = rest.split_once(" is larger than")?;
    bytes.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::protocol::{AMQPError, AMQPSoftError};

    fn closed_by(code: AMQPSoftError, text: &str) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::new(code.into(), text.into())).into()
    }

    #[test]
    fn the_size_that_a_server_refuses_is_read_from_its_answer() {
        let words =
            "PRECONDITION_FAILED - message size 200000 is larger than configured max size 100000";
        let failed = AMQPSoftError::PRECONDITIONFAILED;

        assert_eq!(refused_bytes(&closed_by(failed, words)), Some(200_000));
        let other = "PRECONDITION_FAILED - invalid expiration 'soon'";
        let failed = AMQPSoftError::PRECONDITIONFAILED;
        assert_eq!(refused_bytes(&closed_by(failed, other)), None);
        let missing = AMQPSoftError::NOTFOUND;
        assert_eq!(refused_bytes(&closed_by(missing, words)), None);
    }
}

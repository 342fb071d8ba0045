//! One request on a connection of its own, to an address that was checked.

use super::url::Target;
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidings_core::Timestamp;
use tidings_core::limits::WEBHOOK_ANSWER_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What is posted.
pub(super) struct Post<'a> {
    pub(super) target: &'a Target,
    pub(super) id: &'a str,
    pub(super) timestamp_secs: i64,
    pub(super) signature: String,
    pub(super) body: &'a str,
}

impl Post<'_> {
    fn request(self) -> Result<Request<Full<Bytes>>, String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.target.path.as_str())
            .header(header::HOST, &self.target.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .header(
                header::USER_AGENT,
                concat!("tidings/", env!("CARGO_PKG_VERSION")),
            )
            .header("webhook-id", self.id)
            .header("webhook-timestamp", self.timestamp_secs)
            .header("webhook-signature", self.signature)
            .body(Full::new(Bytes::copy_from_slice(self.body.as_bytes())));
        request.map_err(|error| format!("the request cannot be made: {error}"))
    }
}

/// What is looked at of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The header `retry-after`: seconds or a date.
    asked: Option<String>,
}

impl Answer {
    fn of(response: &Response<Incoming>) -> Self {
        let asked = response.headers().get(header::RETRY_AFTER);
        Self {
            status: response.status().as_u16(),
            asked: asked.and_then(|value| value.to_str().ok().map(str::to_owned)),
        }
    }

    /// How long the receiver asks to wait.
    pub(super) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let asked = self.asked.as_deref()?.trim();
        if let Ok(seconds) = asked.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let at: SystemTime = httpdate::parse_http_date(asked).ok()?;
        let since_1970 = at.duration_since(UNIX_EPOCH).ok()?;
        let at = Timestamp::from_micros(i64::try_from(since_1970.as_micros()).ok()?);
        Some(at.since(now))
    }
}

/// Connects to the first of the addresses that takes a connection.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut reason = "there is no address".to_owned();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => reason = format!("no connection to {address}: {error}"),
        }
    }
    Err(reason)
}

/// Sends the request and reads the head of the answer; its body is not read.
pub(super) async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    post: Post<'_>,
) -> Result<Answer, String> {
    let request = post.request()?;
    let failed = |error: hyper::Error| format!("no answer: {}", chain(&error));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(WEBHOOK_ANSWER_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut connection = pin!(connection);
    let mut answer = pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut answer => response,
        ended = &mut connection => {
            // The end may be that of an answer that has come.
            ended.map_err(failed)?;
            answer.await
        }
    };
    Ok(Answer::of(&response.map_err(failed)?))
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    tidings_core::error::chain(error).join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_asks_for_seconds_or_until_a_date() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let after = |asked: &str| {
            let asked = Some(asked.to_owned());
            Answer { status: 503, asked }.retry_after(now)
        };

        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            after("Tue, 14 Nov 2023 22:14:20 GMT"),
            Some(Duration::from_secs(60))
        );
        let past = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(after(past), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }
}

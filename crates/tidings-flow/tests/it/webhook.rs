//! Webhooks against real servers on this machine: signature, refusals, redirects, slow and endless answers, names that change their address.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure report, and a server of a test is a task of its test"
)]

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::seam::Clock as _;
use tidings_flow::alert::webhook::{
    Inside, Resolve, WebhookChannel, WebhookConfig, WebhookError, WebhookSecret,
};
use tidings_flow::alert::{Channel as _, Handover, Outgoing};
use tidings_flow::runtime::SystemClock;
use tokio::net::TcpListener;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request as the server saw it.
#[derive(Debug, Clone)]
struct Got {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What a server saw.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Got>>>);

impl Seen {
    fn all(&self) -> Vec<Got> {
        self.0.lock().unwrap().clone()
    }
}

/// A server whose answers a function makes from the number of the request.
struct Server {
    address: SocketAddr,
    seen: Seen,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Self {
        let seen = Seen::default();
        let note = move |State(seen): State<Seen>, request: axum::extract::Request| async move {
            let (head, body) = request.into_parts();
            let got = Got {
                path: head.uri.to_string(),
                headers: head.headers,
                body: axum::body::to_bytes(body, 1_000_000).await.unwrap(),
            };
            seen.0.lock().unwrap().push(got);
            answer()
        };
        let router = Router::new().fallback(any(note)).with_state(seen.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            seen,
            task,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/hook/T0?token=abc", self.address)
    }
}

fn config(url: impl Into<String>) -> WebhookConfig {
    WebhookConfig {
        inside: Inside::Allowed,
        ..WebhookConfig::new(url, WebhookSecret::parse(SECRET).unwrap())
    }
}

fn channel(config: WebhookConfig) -> WebhookChannel {
    WebhookChannel::new(config, Arc::new(SystemClock::new())).unwrap()
}

fn message() -> Outgoing {
    Outgoing {
        id: "msg_1".to_owned(),
        body: "{\"type\":\"tidings.alert.test\"}".to_owned(),
        line: String::new(),
    }
}

async fn send(channel: &WebhookChannel) -> Handover {
    let limit = Duration::from_secs(120);
    tokio::time::timeout(limit, channel.send(&message()))
        .await
        .unwrap()
}

fn reason(handover: Handover) -> String {
    match handover {
        Handover::Failed { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

/// HMAC-SHA256 as RFC 2104 writes it, over a hash that is not the product's: what a receiver would do.
fn verified(got: &Got) -> bool {
    let header = |name: &str| got.headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &got.body].concat();
    let key = STANDARD
        .decode(SECRET.strip_prefix("whsec_").unwrap())
        .unwrap();
    let mut padded = [0_u8; 64];
    padded[..key.len()].copy_from_slice(&key);
    let of = |pad: u8, text: &[u8]| {
        let block: Vec<u8> = padded.iter().map(|byte| byte ^ pad).collect();
        ring::digest::digest(&ring::digest::SHA256, &[&block, text].concat())
    };
    let tag = of(0x5c, of(0x36, &signed).as_ref());
    let expected = format!("v1,{}", STANDARD.encode(tag.as_ref()));
    header("webhook-signature")
        .split(' ')
        .any(|given| given == expected)
}

#[tokio::test]
async fn a_message_carries_the_headers_of_standard_webhooks_and_its_signature_holds() {
    let server = Server::start(|| StatusCode::NO_CONTENT.into_response()).await;
    let channel = channel(config(server.url()));

    let before = SystemClock::new().now();
    let handover = send(&channel).await;

    let accepted = Handover::Accepted {
        answer: "status 204".to_owned(),
    };
    assert_eq!(handover, accepted);
    let [got] = &server.seen.all()[..] else {
        panic!("one request");
    };
    assert!(verified(got), "{got:?}");
    let mut forged = got.clone();
    forged.body = Bytes::from_static(b"{}");
    assert!(!verified(&forged));
    assert_eq!(got.path, "/hook/T0?token=abc");
    assert_eq!(got.headers["webhook-id"], "msg_1");
    assert_eq!(got.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(got.headers[header::HOST], server.address.to_string());
    assert_eq!(got.body, message().body);
    let sent: i64 = got.headers["webhook-timestamp"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(sent >= before.as_micros() / 1_000_000, "{sent}");
}

#[tokio::test]
async fn what_is_no_success_is_a_failure_and_gone_closes() {
    for (status, retry_after) in [(500, None), (429, Some("120")), (400, None)] {
        let server = Server::start(move || {
            let mut response = StatusCode::from_u16(status).unwrap().into_response();
            if let Some(asked) = retry_after {
                let value = asked.parse().unwrap();
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
            response
        })
        .await;
        let handover = send(&channel(config(server.url()))).await;
        let asked = retry_after.map(|_| Duration::from_secs(120));
        let failed = Handover::Failed {
            reason: format!("status {status}"),
            retry_after: asked,
        };
        assert_eq!(handover, failed);
    }

    let server = Server::start(|| StatusCode::GONE.into_response()).await;
    let handover = send(&channel(config(server.url()))).await;
    assert!(matches!(handover, Handover::Closed { .. }), "{handover:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = Server::start(|| StatusCode::OK.into_response()).await;
    let location = format!("http://{}/secret", inner.address);
    let server = Server::start(move || {
        (
            StatusCode::TEMPORARY_REDIRECT,
            [(header::LOCATION, location.clone())],
        )
            .into_response()
    })
    .await;

    let reason = reason(send(&channel(config(server.url()))).await);

    assert!(
        reason.contains("307") && reason.contains("not followed"),
        "{reason}"
    );
    assert!(inner.seen.all().is_empty());
    assert!(!reason.contains("secret"), "{reason}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_and_not_told() {
    let server = Server::start(|| {
        let endless = futures_util::stream::repeat_with(|| {
            Ok::<_, io::Error>(Bytes::from_static(b"do not repeat this "))
        });
        Response::builder()
            .status(StatusCode::INTERNAL_SERVER_ERROR)
            .body(Body::from_stream(endless))
            .unwrap()
    })
    .await;

    let reason = reason(send(&channel(config(server.url()))).await);

    assert_eq!(reason, "status 500");
}

#[tokio::test]
async fn a_head_without_end_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        // It ends when the client has had enough.
        while stream.write_all(&[b'a'; 1_024]).await.is_ok() {}
    });

    let reason = reason(send(&channel(config(format!("http://{address}/")))).await);

    assert!(reason.contains("no answer"), "{reason}");
    tokio::time::timeout(Duration::from_secs(60), task)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left_at_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = WebhookConfig {
        time_limit: Duration::from_millis(300),
        ..config(format!("http://{address}/"))
    };

    let reason = reason(send(&channel(silent)).await);

    assert!(reason.contains("no answer within 300ms"), "{reason}");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });

    let reason = reason(send(&channel(config(format!("http://{address}/")))).await);

    assert!(reason.contains("no answer"), "{reason}");
    task.await.unwrap();
}

#[tokio::test]
async fn addresses_inside_of_a_network_are_refused_before_anything_is_connected() {
    let server = Server::start(|| StatusCode::OK.into_response()).await;
    for url in [
        server.url(),
        "http://10.0.0.1/".to_owned(),
        "http://[::ffff:127.0.0.1]/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ] {
        let outside = WebhookConfig {
            inside: Inside::Refused,
            ..config(url.clone())
        };
        let refused = WebhookChannel::new(outside, Arc::new(SystemClock::new())).unwrap_err();
        assert!(
            matches!(refused, WebhookError::AddressRefused { .. }),
            "{url}"
        );
    }
    let link_local = config("http://169.254.169.254/");
    assert!(WebhookChannel::new(link_local, Arc::new(SystemClock::new())).is_err());

    // Spellings that only the system's resolver reads as an address of this machine, and its names.
    for host in ["localhost", "127.1", "0x7f000001", "2130706433"] {
        let outside = WebhookConfig {
            inside: Inside::Refused,
            ..config(format!("http://{host}:{}/", server.address.port()))
        };
        let reason = reason(send(&channel(outside)).await);
        let is_refused = reason.contains("TD0152") || reason.contains("no address");
        assert!(is_refused, "{host}: {reason}");
    }
    assert!(server.seen.all().is_empty());
}

/// A resolver with an answer for each time that it is asked.
struct Changing {
    answers: Vec<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl Changing {
    fn new(answers: Vec<Vec<SocketAddr>>) -> Arc<Self> {
        Arc::new(Self {
            answers,
            asked: AtomicUsize::new(0),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolve for Changing {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[asked.min(self.answers.len() - 1)].clone();
        Box::pin(async move { Ok(answer) })
    }
}

#[tokio::test]
async fn a_name_that_changes_its_address_leads_to_the_one_that_was_checked() {
    let checked = Server::start(|| StatusCode::OK.into_response()).await;
    let other = Server::start(|| StatusCode::OK.into_response()).await;
    let resolver = Changing::new(vec![vec![checked.address], vec![other.address]]);
    let channel = channel(WebhookConfig {
        resolver: resolver.clone(),
        ..config("http://hooks.example:9/")
    });

    let handover = send(&channel).await;

    assert!(
        matches!(handover, Handover::Accepted { .. }),
        "{handover:?}"
    );
    assert_eq!(resolver.asked(), 1, "once for the check and the connection");
    assert_eq!(checked.seen.all().len(), 1);
    assert!(other.seen.all().is_empty());
    assert_eq!(
        checked.seen.all()[0].headers[header::HOST],
        "hooks.example:9"
    );
}

#[tokio::test]
async fn each_attempt_checks_anew_and_one_bad_address_spoils_all() {
    let inner = Server::start(|| StatusCode::OK.into_response()).await;
    let public: SocketAddr = "1.1.1.1:443".parse().unwrap();
    let metadata: SocketAddr = "169.254.169.254:80".parse().unwrap();
    for (inside, answer) in [
        (Inside::Refused, vec![inner.address]),
        (Inside::Refused, vec![public, inner.address]),
        (Inside::Allowed, vec![inner.address, metadata]),
        (
            Inside::Refused,
            vec!["[::ffff:10.0.0.1]:443".parse().unwrap()],
        ),
    ] {
        let resolver = Changing::new(vec![answer.clone()]);
        let channel = channel(WebhookConfig {
            inside,
            resolver: resolver.clone(),
            ..config("http://hooks.example/")
        });
        for asked in 1..=2 {
            let reason = reason(send(&channel).await);
            assert!(reason.contains("TD0152"), "{answer:?}: {reason}");
            assert_eq!(resolver.asked(), asked);
        }
    }
    assert!(inner.seen.all().is_empty());
}

#[tokio::test]
async fn nothing_shows_the_secret_or_the_path() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let channel = channel(config(format!("http://{address}/T0/hidden?token=hidden")));

    let reason = reason(send(&channel).await);

    for text in [
        reason.as_str(),
        channel.name(),
        &format!("{channel:?}"),
        &channel.identity(),
    ] {
        assert!(!text.contains("hidden"), "{text}");
        assert!(!text.contains("MfKQ9"), "{text}");
    }
    assert!(reason.contains("no connection"), "{reason}");
}

/// A server with a certificate for `hooks.example`, which answers one request.
async fn tls_server() -> (SocketAddr, tokio::task::JoinHandle<Option<String>>) {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let chain = CertificateDer::from_pem_slice(include_bytes!("webhook/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("webhook/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.ok()?;
        let mut request = vec![0; 65_536];
        let mut length = 0;
        let body = message().body;
        // The body comes last.
        while !request[..length].ends_with(body.as_bytes()) {
            length += stream.read(&mut request[length..]).await.unwrap();
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        request.truncate(length);
        Some(String::from_utf8(request).unwrap())
    });
    (address, task)
}

fn trusted() -> Option<std::path::PathBuf> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/webhook/ca.pem");
    Some(file.into())
}

#[tokio::test]
async fn tls_is_spoken_with_the_host_of_the_url_and_nobody_else() {
    let (address, task) = tls_server().await;
    let tls = |host: &str, address| WebhookConfig {
        resolver: Changing::new(vec![vec![address]]),
        trusted: trusted(),
        ..config(format!("https://{host}/"))
    };

    let handover = send(&channel(tls("hooks.example", address))).await;
    assert!(
        matches!(handover, Handover::Accepted { .. }),
        "{handover:?}"
    );
    let request = task.await.unwrap().unwrap();
    assert!(request.contains("host: hooks.example\r\n"), "{request}");
    assert!(request.contains("webhook-signature: v1,"), "{request}");

    let (address, task) = tls_server().await;
    let reason = reason(send(&channel(tls("other.example", address))).await);
    assert!(reason.contains("no TLS"), "{reason}");
    assert_eq!(task.await.unwrap(), None, "nothing was sent");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_a_failure() {
    let server = Server::start(|| StatusCode::OK.into_response()).await;
    let tls = WebhookConfig {
        resolver: Changing::new(vec![vec![server.address]]),
        trusted: trusted(),
        ..config("https://hooks.example/")
    };

    let reason = reason(send(&channel(tls)).await);

    assert!(reason.contains("no TLS"), "{reason}");
    assert!(server.seen.all().is_empty());
    let untrusting = WebhookConfig {
        trusted: Some("/no/such/file".into()),
        ..config("https://hooks.example/")
    };
    let error = WebhookChannel::new(untrusting, Arc::new(SystemClock::new())).unwrap_err();
    assert!(error.to_string().contains("no certificates"), "{error}");
}

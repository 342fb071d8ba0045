//! The suite sees what a broker says of events whose answer was lost: a network is planted before the broker in memory.

use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, PublishError, PublishOutcome, Reader,
    SubscribeRequest, Subscription,
};
use tidings_core::{BoxFuture, Envelope, ErrorClass, codes};
use tidings_flow::runtime::SystemClock;
use tidings_testkit::MemoryBroker;
use tidings_testkit::conformance::broker::{Ending, Fixture, Traits, Unavailable, run_some};
use tidings_testkit::proxy::FaultProxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// So long an answer is waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Asks a server for a byte before the broker in memory takes a batch.
struct Remote {
    inner: MemoryBroker,
    server: String,
    lost: PublishError,
}

impl Remote {
    async fn ask(&self) -> std::io::Result<()> {
        let mut server = TcpStream::connect(&self.server).await?;
        server.write_all(b"?").await?;
        server.read_exact(&mut [0]).await.map(drop)
    }
}

impl Broker for Remote {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            match tokio::time::timeout(ANSWER_TIME_MAX, self.ask()).await {
                Ok(Ok(())) => Broker::publish(&self.inner, batch).await,
                _ => batch.iter().map(|_| Err(self.lost.clone())).collect(),
            }
        })
    }

    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        self.inner.subscribe(request)
    }

    fn reader(&self) -> Option<&dyn Reader> {
        self.inner.reader()
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.inner.admin()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        self.inner.close()
    }
}

/// A place for it; its address is that of the server.
struct Planted {
    events: MemoryBroker,
    server: String,
    /// What is said of an event whose answer was lost.
    lost: PublishError,
}

impl Fixture for Planted {
    fn name(&self) -> &'static str {
        "planted"
    }

    fn version(&self) -> BoxFuture<'_, String> {
        Box::pin(async move { format!("{:?}", self.lost) })
    }

    fn traits(&self) -> Traits {
        Traits {
            one_instance: Some("as in memory"),
            in_process: Some("as in memory"),
            ..Traits::default()
        }
    }

    fn test(&self) -> &'static str {
        "planted_network::what_was_sent_must_be_said_to_be_there_perhaps"
    }

    fn fresh<'a>(&'a self, _property: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async { self.server.clone() })
    }

    fn behind_proxy<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<(String, FaultProxy), Unavailable>> {
        let proxy = FaultProxy::start(address).expect("a proxy");
        Box::pin(async move { Ok((proxy.address().to_string(), proxy)) })
    }

    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Broker>, BrokerError>> {
        let remote = Remote {
            inner: self.events.another(),
            server: address.to_owned(),
            lost: self.lost.clone(),
        };
        Box::pin(async { Ok(Arc::new(remote) as Arc<dyn Broker>) })
    }
}

/// Gives every byte back.
async fn echo(listener: TcpListener) {
    let mut echoing = JoinSet::new();
    loop {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        echoing.spawn(async move {
            let (mut from, mut to) = socket.split();
            // How it ends is the client's to say.
            let _ended = tokio::io::copy(&mut from, &mut to).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_must_be_said_to_be_there_perhaps() {
    let unknown = PublishError::Timeout {
        limit: ANSWER_TIME_MAX,
    };
    // Whoever believes this takes other ways for an event that may be there.
    let denied = PublishError::Refused {
        reason: "no answer".to_owned(),
        class: ErrorClass::Transient,
        code: codes::BROKER_FAILED,
    };
    for (lost, ending) in [(unknown, Ending::Pass), (denied, Ending::Fail)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = listener.local_addr().expect("an address").to_string();
        // It ends with this round.
        let mut serving = JoinSet::new();
        serving.spawn(echo(listener));
        let planted = Planted {
            events: MemoryBroker::new(Arc::new(SystemClock::new())),
            server,
            lost,
        };

        let report = run_some(Arc::new(planted), &["D6"]).await;

        assert_eq!(report.results[0].result, ending, "{}", report.results[0]);
    }
}

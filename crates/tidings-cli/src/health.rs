//! `--listen`: figures for Prometheus, and whether the process lives and is ready, over HTTP.

use crate::failure::Failure;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use tidings::core::{BoxFuture, codes};
use tidings::flow::metrics::{CONTENT_TYPE, MetricFamily, MetricKind, render};
use tokio::net::TcpListener;

/// Where to listen: a port of this machine alone, or an address with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = text.strip_prefix(':').unwrap_or(text);
        if let Ok(port) = port.parse() {
            let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
            return Ok(Self(SocketAddr::new(loopback, port)));
        }
        let named = text.replacen("localhost:", "127.0.0.1:", 1);
        named.parse().map(Self).map_err(|_| {
            format!("{text:?} is no address; write PORT, or ADDRESS:PORT like 127.0.0.1:9464")
        })
    }
}

/// What a process tells about itself.
pub(crate) struct Health {
    /// Its figures now.
    pub(crate) metrics: Box<dyn Fn() -> BoxFuture<'static, Vec<MetricFamily>> + Send + Sync>,
    /// Why it does not do its work now; `None` if it does.
    pub(crate) unready: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// A port that is taken, with its server; nothing is answered before [`during`](Self::during).
pub(crate) struct Listening {
    listener: TcpListener,
    router: Router,
}

impl Listening {
    /// Takes the port.
    pub(crate) async fn open(address: Address, health: Health) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(
                codes::ADDRESS_TAKEN,
                format!(
                    "cannot listen on {}: {error}; choose another port with --listen",
                    address.0
                ),
            )
        };
        let listener = TcpListener::bind(address.0).await.map_err(failed)?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(Arc::new(health));
        Ok(Self { listener, router })
    }

    /// Where the figures are.
    pub(crate) fn url(&self) -> String {
        match self.listener.local_addr() {
            Ok(address) => format!("http://{address}/metrics"),
            Err(error) => format!("an address that cannot be told: {error}"),
        }
    }

    /// Answers while something is done.
    async fn serve<T>(self, work: impl Future<Output = T>) -> T {
        let server = axum::serve(self.listener, self.router);
        tokio::select! {
            done = work => done,
            // It never ends by itself.
            _ = server.into_future() => std::future::pending().await,
        }
    }
}

/// Does something, and answers on the port meanwhile where there is one.
pub(crate) async fn during<T>(listening: Option<Listening>, work: impl Future<Output = T>) -> T {
    match listening {
        Some(listening) => listening.serve(work).await,
        None => work.await,
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    let mut families = (health.metrics)().await;
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    families.push(
        MetricFamily::new(
            "tidings_build_info",
            MetricKind::Gauge,
            "1, with the version of the program.",
        )
        .with(&version, 1.0),
    );
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], render(&families)).into_response()
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    match (health.unready)() {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        let address = |text: &str| text.parse::<Address>().map(|address| address.0.to_string());

        assert_eq!(address("9464"), Ok("127.0.0.1:9464".to_owned()));
        assert_eq!(address(":9464"), Ok("127.0.0.1:9464".to_owned()));
        assert_eq!(address("localhost:1"), Ok("127.0.0.1:1".to_owned()));
        assert_eq!(address("0.0.0.0:9464"), Ok("0.0.0.0:9464".to_owned()));
        assert_eq!(address("[::1]:9464"), Ok("[::1]:9464".to_owned()));
        for wrong in ["", "here", "1.2.3.4", "70000", "http://127.0.0.1:1"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}

//! The adapters pass the suite of brokers, each on a server of its own, because the suite kills and restarts it.
#![expect(
    clippy::unwrap_used,
    reason = "a panic of a test is its failure report"
)]

#[allow(dead_code, reason = "each feature needs some of it")]
pub(crate) mod own_server;

#[cfg(any(feature = "sns_sqs", feature = "eventbridge"))]
mod aws;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod stores;

use own_server::OwnServer;
use stores::SuiteStores;
use tidings_testkit::conformance::broker::{self, Fixture};

/// Runs the suite, unless the tests were told to do without the server.
async fn conforms(server: &'static str, fixture: impl Fixture) {
    if own_server::is_left_out(server) {
        eprintln!(
            "SKIPPED: the suite of brokers needs {server}, which TIDINGS_TEST_WITHOUT leaves out"
        );
        return;
    }
    broker::run(std::sync::Arc::new(fixture))
        .await
        .assert_holds();
}

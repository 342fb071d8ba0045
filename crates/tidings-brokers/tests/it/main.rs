//! The adapters against real servers, which the environment names.

#[cfg(any(feature = "sns_sqs", feature = "eventbridge"))]
mod aws;
#[cfg(any(
    feature = "eventbridge",
    feature = "kafka",
    feature = "nats",
    feature = "rabbitmq",
    feature = "sns_sqs"
))]
mod conformance;
#[cfg(feature = "eventbridge")]
mod eventbridge;
mod events;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod server;
#[cfg(feature = "sns_sqs")]
mod sns_sqs;
#[cfg(any(
    feature = "eventbridge",
    feature = "kafka",
    feature = "nats",
    feature = "rabbitmq",
    feature = "sns_sqs"
))]
#[expect(
    clippy::unwrap_used,
    reason = "a panic of a test is its failure report"
)]
#[path = "../../../tidings-testkit/tests/it/sql_stores.rs"]
mod sql_stores;

//! Real brokers behind the port of tidings-core, one feature each: Kafka, RabbitMQ, NATS JetStream, SNS with SQS, EventBridge.
//!
//! Each of the five folders has these files, and a few more of its own: `config` (what the URL says), `producer`, `consumer`, `tail`, `admin` (groups and lag, and topology
//! unless that is a file beside it), `mapping` (envelope and message). What SNS with SQS and EventBridge have in common, which is SQS, is in `aws`.

#[cfg(any(feature = "sns_sqs", feature = "eventbridge"))]
mod aws;
#[cfg(feature = "eventbridge")]
mod eventbridge;
#[cfg(any(feature = "nats", feature = "rabbitmq"))]
mod incoming;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "sns_sqs")]
mod sns_sqs;
#[cfg(any(feature = "nats", feature = "rabbitmq"))]
mod unsettled;
mod url;

#[cfg(feature = "eventbridge")]
pub use eventbridge::EventBridgeBroker;
#[cfg(feature = "kafka")]
pub use kafka::KafkaBroker;
#[cfg(feature = "nats")]
pub use nats::NatsBroker;
#[cfg(feature = "rabbitmq")]
pub use rabbitmq::RabbitMqBroker;
#[cfg(feature = "sns_sqs")]
pub use sns_sqs::SnsSqsBroker;
pub use url::{BrokerUrl, Secret};

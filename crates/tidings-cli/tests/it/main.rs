//! The command line as its users run it: real processes, real files, real kills.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic of a test is its failure report; tests of processes wait by the clock and are told by the environment how often to repeat"
)]

mod actions;
mod alert;
mod beside;
mod breaker;
mod bridge;
#[cfg(all(feature = "nats", feature = "kafka", feature = "rabbitmq"))]
mod brokers;
#[cfg(all(feature = "nats", feature = "kafka", feature = "rabbitmq"))]
mod brokers_bad_input;
#[cfg(all(
    feature = "nats",
    feature = "kafka",
    feature = "rabbitmq",
    feature = "sns_sqs",
    feature = "eventbridge"
))]
mod brokers_bad_input_aws;
#[cfg(all(feature = "nats", feature = "kafka", feature = "rabbitmq"))]
mod brokers_bad_input_kafka;
#[cfg(all(feature = "nats", feature = "kafka", feature = "rabbitmq"))]
mod brokers_groups;
mod check;
mod command;
mod consumer_later;
mod consumer_pause;
mod consumer_run;
mod crash;
mod dead_letters;
mod demo;
#[cfg(all(feature = "nats", feature = "kafka", feature = "rabbitmq"))]
mod demo_on_brokers;
mod documented;
// `cfg(test)` is always set here; it tells clippy that what talks to the test is test code, too.
#[cfg(test)]
#[cfg(all(
    feature = "nats",
    feature = "kafka",
    feature = "rabbitmq",
    feature = "postgres"
))]
mod effects;
mod explain;
#[cfg(all(
    feature = "nats",
    feature = "kafka",
    feature = "rabbitmq",
    feature = "postgres"
))]
mod explain_brokers;
mod failures;
mod foreign_letters;
mod health;
mod import_export;
mod import_once;
mod inbox;
#[cfg(all(feature = "nats", feature = "kafka", feature = "rabbitmq"))]
mod kafka_commands;
#[cfg(all(feature = "nats", feature = "kafka", feature = "rabbitmq"))]
#[path = "../../../tidings-brokers/tests/it/kafka/wire.rs"]
mod kafka_wire;
mod ledger;
mod look_ups;
#[cfg(all(feature = "nats", feature = "kafka", feature = "rabbitmq"))]
mod moving;
#[allow(dead_code, reason = "each feature needs some of it")]
mod own_server;
mod real_data;
mod redrive;
mod relay;
mod relay_failures;
mod relay_flags;
mod relay_load;
mod relay_restored;
mod relay_trouble;
mod relay_verify;
mod retention;
mod schedule;
#[cfg(all(
    feature = "nats",
    feature = "kafka",
    feature = "rabbitmq",
    feature = "postgres"
))]
mod schedule_run;
#[cfg(all(
    feature = "nats",
    feature = "kafka",
    feature = "rabbitmq",
    feature = "postgres"
))]
mod servers_killed;
// As above.
#[cfg(test)]
mod shared_folder;
#[cfg(all(
    feature = "nats",
    feature = "kafka",
    feature = "rabbitmq",
    feature = "postgres"
))]
mod shared_store;
#[cfg(all(
    feature = "nats",
    feature = "kafka",
    feature = "rabbitmq",
    feature = "postgres"
))]
mod stopped;
mod table;
#[cfg(feature = "webhook")]
mod webhook;

//! What our adapters cost: publishing next to the bare client library, processor time that consuming adds to it; and the embedded broker next to its peers.
//!
//! `cargo xtask bench brokers [-o json] [--quick]`, or `cargo bench -p tidings-brokers --all-features --bench brokers -- [FIGURE…]`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::print_stderr,
    reason = "a long run tells what is under way, apart from the figures"
)]

mod aws;
mod embedded;
mod figures;
mod kafka;
// One file for all benchmarks; it measures nothing itself.
#[allow(dead_code, reason = "the other benchmarks use the other part")]
#[path = "../../../tidings-log/benches/log/measure.rs"]
mod measure;
mod nats;
mod peers;
mod rabbitmq;
mod redis;
mod stage;

use measure::{Outcome, Report, Request};
use tokio::runtime::Runtime;

/// Measures the figures of its name.
type Measure = fn(&Request, &mut Report, &Runtime) -> Outcome<()>;

const FIGURES: &[(&str, Measure)] = &[
    ("kafka.publish", kafka::publish),
    ("nats.publish", nats::publish),
    ("rabbitmq.publish", rabbitmq::publish),
    ("kafka.consume_cpu", kafka::consume),
    ("nats.consume_cpu", nats::consume),
    ("rabbitmq.consume_cpu", rabbitmq::consume),
];

fn main() -> Outcome<()> {
    let request = Request::read();
    let runtime = Runtime::new()?;
    let mut report = Report::new(&request);
    for (name, measure) in FIGURES {
        if request.wants(name) {
            measure(&request, &mut report, &runtime)?;
        }
    }
    aws::everything(&request, &mut report, &runtime)?;
    if request.wants("peers") {
        peers::peers(&request, &mut report, &runtime)?;
    }
    report.finish()
}

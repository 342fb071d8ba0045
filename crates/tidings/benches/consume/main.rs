//! How fast events are consumed through the front door, each figure next to a bare loop; how long an event takes from its publisher to its handler; how much memory it takes; and how fast dead letters go back.
//!
//! `cargo xtask bench consume [-o json] [--quick]`, or `cargo bench -p tidings --bench consume -- [FIGURE…]`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::print_stderr,
    reason = "a long run tells what is under way, apart from the figures"
)]

mod failing;
mod latency;
// One file for both benchmarks; it measures nothing itself.
#[allow(dead_code, reason = "the benchmark of the log uses the other part")]
#[path = "../../../tidings-log/benches/log/measure.rs"]
mod measure;
mod memory;
mod redrive;
mod stage;
mod throughput;

use measure::{Outcome, Report, Request};
use tokio::runtime::Runtime;

fn main() -> Outcome<()> {
    let request = Request::read();
    let runtime = Runtime::new()?;
    if let Some(arguments) = &request.child {
        return runtime.block_on(memory::child(arguments));
    }
    let mut report = Report::new(&request);
    if request.wants("consume.raw") {
        throughput::raw(&request, &mut report, &runtime)?;
    }
    if request.wants("consume.typed") {
        throughput::typed(&request, &mut report, &runtime)?;
    }
    if request.wants("consume.store") {
        throughput::with_store(&request, &mut report, &runtime)?;
    }
    if request.wants("consume.groups") {
        throughput::groups(&request, &mut report, &runtime)?;
    }
    if request.wants("consume.failing") {
        failing::failing(&request, &mut report, &runtime)?;
    }
    if request.wants("consume.failing.store") {
        failing::store(&request, &mut report, &runtime)?;
    }
    if request.wants("consume.failing.memory") {
        failing::memory(&request, &mut report)?;
    }
    if request.wants("redrive") {
        redrive::redrive(&request, &mut report, &runtime)?;
    }
    if request.wants("latency") {
        runtime.block_on(latency::latency(&request, &mut report))?;
    }
    if request.wants("memory") {
        memory::memory(&request, &mut report)?;
    }
    report.finish()
}

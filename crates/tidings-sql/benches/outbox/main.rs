//! How fast an outbox is written and relayed, each figure next to the same statements by hand, or to what the database does without.
//!
//! `cargo xtask bench outbox [-o json] [--quick] [--pinned-secs N]`, or `cargo bench -p tidings-sql --all-features --bench outbox -- [FIGURE…]`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::print_stderr,
    reason = "a long run tells what is under way, apart from the figures"
)]

mod drain;
mod engine;
mod idle;
mod lag;
// One file for all benchmarks; it measures nothing itself.
#[allow(dead_code, reason = "the other benchmarks use the other part")]
#[path = "../../../tidings-log/benches/log/measure.rs"]
mod measure;
mod orders;
mod pgbench;
mod pinned;
mod publish;
mod stage;

use engine::Engine;
use measure::{Outcome, Report, Request};
use sqlx::{MySql, Postgres, Sqlite};
use tokio::runtime::Runtime;

fn main() -> Outcome<()> {
    let request = Request::read();
    let runtime = Runtime::new()?;
    let mut report = Report::new(&request);
    everywhere::<Postgres>(&request, &mut report, &runtime)?;
    if request.wants("relay.wake") {
        lag::wake::<Postgres>(&request, &mut report, &runtime)?;
    }
    if request.wants("relay.pinned") {
        pinned::pinned(&request, &mut report, &runtime)?;
    }
    if request.wants("relay.idle_cpu") {
        idle::idle(&request, &mut report, &runtime)?;
    }
    everywhere::<MySql>(&request, &mut report, &runtime)?;
    everywhere::<Sqlite>(&request, &mut report, &runtime)?;
    report.finish()
}

/// The figures of every database.
fn everywhere<E: Engine>(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let wants = |name: &str| request.wants(&format!("{name}{}", E::SUFFIX));
    if wants("outbox.publish") {
        publish::publish::<E>(request, report, runtime)?;
    }
    if wants("outbox.business") {
        publish::business::<E>(request, report, runtime)?;
    }
    if wants("relay.drain") {
        drain::drain::<E>(request, report, runtime)?;
    }
    if wants("relay.lag") {
        lag::lag::<E>(request, report, runtime)?;
    }
    Ok(())
}

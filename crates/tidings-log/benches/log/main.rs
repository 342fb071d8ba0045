//! How fast the log is, each figure next to a bare loop that does the same to the disk and nothing else.
//!
//! `cargo xtask bench log [-o json] [--quick]`, or `cargo bench -p tidings-log --bench log -- [FIGURE…]`. The figures `codec.*` and `look-up.*` run only when they are named.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::print_stderr,
    reason = "a long run tells what is under way, apart from the figures"
)]

mod bare;
mod codecs;
mod events;
mod hand_over;
mod import;
mod look_ups;
#[allow(dead_code, reason = "the benchmark of consuming uses the other part")]
mod measure;
mod publish;
mod reopen;

use measure::{Outcome, Report, Request};

fn main() -> Outcome<()> {
    let request = Request::read();
    if let Some(arguments) = &request.child {
        return reopen::write_until_killed(arguments);
    }
    let mut report = Report::new(&request);
    if request.wants("log.batches") {
        publish::batches(&request, &mut report)?;
    }
    if request.wants("log.batches.one_at_a_time") {
        publish::one_at_a_time(&request, &mut report)?;
    }
    if request.wants("log.publishers") {
        publish::publishers(&request, &mut report)?;
    }
    if request.wants("log.single") {
        publish::single(&request, &mut report)?;
    }
    if request.wants("log.reopen") {
        reopen::reopen(&request, &mut report)?;
    }
    if request.wants("import") {
        import::import(&request, &mut report)?;
    }
    if request.names("look-up") {
        look_ups::look_ups(&request, &mut report)?;
    }
    if request.names("codec") {
        codecs::codecs(&request, &mut report)?;
    }
    report.finish()
}

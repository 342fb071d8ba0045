//! `tidings verify`: looks through a whole data folder and says what is wrong with it.

use crate::arguments::{Global, Verify};
use crate::failure::Failure;
use crate::output::{json, object};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use tidings::flow::runtime::SystemClock;
use tidings::log::{RealDisk, VerifyReport, verify};

pub(crate) fn run(global: &Global, arguments: &Verify) -> Result<ExitCode, Failure> {
    let clock = Arc::new(SystemClock::new());
    let report = verify(&arguments.data.folder, clock, Arc::new(RealDisk))?;
    object(global.format(), &json(&report), || table(&report))?;
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(4)
    })
}

fn table(report: &VerifyReport) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _written = write(&mut text, report);
    text
}

fn write(text: &mut String, report: &VerifyReport) -> std::fmt::Result {
    let VerifyReport {
        events,
        segments,
        bytes,
        earliest,
        end,
        ..
    } = report;
    writeln!(
        text,
        "{events} events hold, positions {earliest} to before {end}, in {segments} segments of {bytes} bytes"
    )?;
    for damage in &report.damage {
        let (from, file) = (damage.from, damage.file.display());
        writeln!(
            text,
            "damaged: {file} at byte {}, {} bytes, {} events from position {from}: {}",
            damage.offset, damage.bytes, damage.events, damage.reason
        )?;
    }
    if report.unfinished_bytes > 0 {
        writeln!(
            text,
            "{} bytes behind the durable end: an append under way, or an unfinished one that the next owner sets aside",
            report.unfinished_bytes
        )?;
    }
    for path in &report.indexes_to_make {
        writeln!(
            text,
            "the index {} is made anew by the next owner",
            path.display()
        )?;
    }
    for path in &report.aside {
        writeln!(
            text,
            "kept aside by an earlier recovery: {}",
            path.display()
        )?;
    }
    writeln!(
        text,
        "{}",
        if report.is_sound() {
            "sound"
        } else {
            "damaged; what is readable is served, and reading goes on behind the damage"
        }
    )
}

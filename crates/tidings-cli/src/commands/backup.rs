//! `tidings backup`: a consistent copy of a data folder while everything runs.

use crate::arguments::{Backup, Global};
use crate::failure::Failure;
use crate::output::{hint, json, object};
use serde::Serialize;
use std::path::Path;

/// What the copy holds.
#[derive(Debug, Serialize)]
struct Copied<'a> {
    folder: &'a Path,
    earliest: u64,
    end: u64,
    segments: u64,
    bytes: u64,
}

pub(crate) async fn run(global: &Global, arguments: &Backup) -> Result<(), Failure> {
    let report = tidings::backup(&arguments.folder, &arguments.to).await?;
    let copied = Copied {
        folder: &arguments.to,
        earliest: report.earliest.0,
        end: report.end.0,
        segments: report.segments,
        bytes: report.bytes,
    };
    object(global.format(), &json(&copied), || {
        format!(
            "{}: positions {} to before {}, {} segments of {} bytes",
            copied.folder.display(),
            copied.earliest,
            copied.end,
            copied.segments,
            copied.bytes
        )
    })?;
    hint(
        global.quiet,
        format_args!(
            "check it with: tidings verify --data {}",
            arguments.to.display()
        ),
    );
    Ok(())
}

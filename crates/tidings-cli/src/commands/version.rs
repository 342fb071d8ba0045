//! `tidings version`.

use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{json, object};
use serde::Serialize;

#[derive(Serialize)]
struct Version {
    version: &'static str,
    log_format: u32,
}

pub(crate) fn run(global: &Global) -> Result<(), Failure> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        log_format: tidings::log::FORMAT_VERSION,
    };
    object(global.format(), &json(&version), || {
        format!(
            "tidings {} (log format {})",
            version.version, version.log_format
        )
    })
}

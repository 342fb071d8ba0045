//! `tidings alert rules`: rules for Prometheus over the figures that tidings serves.

use crate::failure::Failure;
use crate::output::Output;

/// The rules. A test compares their figures with those that are served.
const RULES: &str = include_str!("rules.yml");

/// Prints the rules.
pub(crate) fn print() -> Result<(), Failure> {
    let mut output = Output::new();
    output.bytes(RULES.as_bytes())?;
    output.flush()
}

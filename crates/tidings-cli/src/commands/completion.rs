//! `tidings completion`: a completion script for a shell.

use crate::arguments::{Arguments, Completion};
use crate::failure::Failure;
use crate::output::Output;
use clap::CommandFactory as _;

pub(crate) fn run(arguments: &Completion) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "tidings",
        &mut script,
    );
    let mut output = Output::new();
    output.bytes(&script)?;
    output.flush()
}

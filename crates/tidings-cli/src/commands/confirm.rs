//! Asking before something that cannot be taken back.

use crate::arguments::Global;
use crate::failure::Failure;
use std::io::{BufRead, IsTerminal, Write};

/// Goes on if the person said yes, by flag or at the terminal.
pub(crate) fn confirm(global: &Global, yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let may_ask =
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !global.no_input;
    if !may_ask {
        return Err(Failure::usage(format!(
            "{question} Say --yes to do it, since nobody can be asked here"
        )));
    }
    eprint!("{question} [y/N] ");
    let failed = |error: std::io::Error| Failure::file("ask at", "the terminal", &error);
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(failed)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::usage("nothing was done"))
    }
}

//! `tidings reference`: chapters of the reference documentation, from the definitions in the code.

use crate::arguments::{Arguments, Chapter, Reference};
use crate::failure::{Failure, exit_code};
use crate::output::Output;
use clap::CommandFactory as _;
use std::fmt::Write as _;
use tidings::core::codes;

pub(crate) fn run(arguments: &Reference) -> Result<(), Failure> {
    let text = match arguments.chapter {
        Chapter::Cli => cli(),
        Chapter::Errors => errors(),
        Chapter::Limits => limits(),
    };
    let mut output = Output::new();
    output.bytes(text.as_bytes())?;
    output.flush()
}

fn cli() -> String {
    let mut command = Arguments::command().term_width(100);
    command.build();
    let mut text = "# Command line\n\nGenerated from the definitions of the commands.\n".to_owned();
    chapter(&mut command, &mut text);
    text
}

fn chapter(command: &mut clap::Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or("tidings").to_owned();
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    // Writing to a text cannot fail.
    let _written = write!(text, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n"));
    for inner in command
        .get_subcommands_mut()
        .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
    {
        chapter(inner, text);
    }
}

fn errors() -> String {
    let mut text = "# Error codes\n\nGenerated from the list in the code. The exit code is that of the command line.\n\n".to_owned();
    text.push_str("| code | meaning | exit code |\n|---|---|---|\n");
    for code in codes::ALL {
        // Writing to a text cannot fail.
        let _written = writeln!(
            text,
            "| [{code}](../errors/{code}.md) | {} | {} |",
            code.title(),
            exit_code(*code)
        );
    }
    text
}

/// The limits are constants with their meaning as documentation, so that the chapter is made from the file that declares them.
fn limits() -> String {
    let mut text = "# Limits\n\nGenerated from the file that declares them.\n\n| limit | value | meaning |\n|---|---|---|\n".to_owned();
    let mut meaning = String::new();
    for line in tidings::limits::SOURCE.lines() {
        if let Some(comment) = line.strip_prefix("/// ") {
            meaning.push_str(comment);
            meaning.push(' ');
        } else if line.contains("include_str!") {
            meaning.clear();
        } else if let Some((name, value)) = line
            .strip_prefix("pub const ")
            .and_then(|rest| rest.split_once(": "))
        {
            let value = value
                .split_once("= ")
                .map_or(value, |(_, value)| value)
                .trim_end_matches(';');
            // Writing to a text cannot fail.
            let _written = writeln!(text, "| `{name}` | {value} | {}|", meaning);
            meaning.clear();
        }
    }
    text
}

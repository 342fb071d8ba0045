//! How data reaches standard output: tables for people, JSON, JSON lines and YAML for programs. Talk goes to standard error elsewhere.

use crate::failure::Failure;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::io::{BufWriter, IsTerminal, Stdout, Write};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    Table,
    /// All columns
    Wide,
    /// One JSON document; of commands that stream, one object a line
    Json,
    /// One JSON object a line
    Jsonl,
    /// YAML whose values are JSON, so that numbers stay as they are
    Yaml,
}

impl Format {
    /// Whether people read it.
    pub(crate) fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// Standard output, buffered.
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
}

impl Output {
    /// Opens standard output.
    pub(crate) fn new() -> Self {
        Self {
            stdout: BufWriter::with_capacity(65_536, std::io::stdout()),
        }
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout
            .write_all(bytes)
            .map_err(|error| Failure::file("write to", "standard output", &error))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Hands everything on to whoever reads.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout
            .flush()
            .map_err(|error| Failure::file("write to", "standard output", &error))
    }
}

/// Whether a person looks at standard output.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Says something to the person, unless told to be quiet.
pub(crate) fn talk(quiet: bool, message: impl fmt::Display) {
    if !quiet {
        eprintln!("{message}");
    }
}

/// A hint for a person at a terminal.
pub(crate) fn hint(quiet: bool, message: impl fmt::Display) {
    if !quiet && std::io::stderr().is_terminal() && is_terminal() {
        eprintln!("  hint  {message}");
    }
}

/// The JSON text of a value of ours.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own types are written to memory")
}

/// Prints one object; `table` makes its text for people.
pub(crate) fn object(
    format: Format,
    object: &str,
    table: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let mut output = Output::new();
    match format {
        Format::Table | Format::Wide => output.line(table().trim_end_matches('\n'))?,
        Format::Json | Format::Jsonl => output.line(object)?,
        Format::Yaml => output.bytes(yaml(object, "", "").as_bytes())?,
    }
    output.flush()
}

/// A list that is printed as it comes, so that its length is no matter; tables of a few rows are aligned at the end.
pub(crate) struct List {
    output: Output,
    format: Format,
    table: Table,
    count: u64,
}

/// How the rows of a table are laid out.
enum Table {
    /// All rows are kept and aligned.
    Aligned(Box<comfy_table::Table>),
    /// Rows are printed at once, the cells joined by two blanks.
    Streamed,
}

impl List {
    /// A list whose table rows are aligned.
    pub(crate) fn aligned(format: Format, headers: &[&str], with_headers: bool) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        if with_headers {
            table.set_header(headers);
        }
        Self {
            output: Output::new(),
            format,
            table: Table::Aligned(Box::new(table)),
            count: 0,
        }
    }

    /// A list of any length.
    pub(crate) fn streamed(format: Format) -> Self {
        Self {
            output: Output::new(),
            format,
            table: Table::Streamed,
            count: 0,
        }
    }

    /// Adds a row: its object for programs, its cells for people.
    pub(crate) fn row(
        &mut self,
        object: impl FnOnce() -> String,
        cells: impl FnOnce() -> Vec<String>,
    ) -> Result<(), Failure> {
        match (self.format, &mut self.table) {
            (Format::Table | Format::Wide, Table::Aligned(table)) => {
                table.add_row(cells());
            }
            (Format::Table | Format::Wide, Table::Streamed) => {
                self.output.line(cells().join("  ").trim_end())?
            }
            (Format::Json, _) => {
                self.output
                    .bytes(if self.count == 0 { b"[" } else { b",\n " })?;
                self.output.bytes(object().as_bytes())?;
            }
            (Format::Jsonl, _) => self.output.line(&object())?,
            (Format::Yaml, _) => self.output.bytes(yaml(&object(), "- ", "  ").as_bytes())?,
        }
        self.count += 1;
        Ok(())
    }

    /// Hands everything on to whoever reads.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.output.flush()
    }

    /// Ends the list and tells how many rows it had.
    pub(crate) fn finish(mut self) -> Result<u64, Failure> {
        match (self.format, &self.table) {
            (Format::Json, _) => {
                self.output
                    .bytes(if self.count == 0 { b"[]\n" } else { b"]\n" })?
            }
            (Format::Yaml, _) if self.count == 0 => self.output.bytes(b"[]\n")?,
            (Format::Table | Format::Wide, Table::Aligned(table)) if self.count > 0 => {
                let lines: Vec<String> = table
                    .lines()
                    .map(|line| line.trim_end().to_owned())
                    .collect();
                self.output.line(&lines.join("\n"))?;
            }
            _ => {}
        }
        self.output.flush()?;
        Ok(self.count)
    }
}

/// An object as YAML: names as they are, values as JSON, which YAML includes.
fn yaml(object: &str, first: &str, other: &str) -> String {
    let mut text = String::new();
    for (index, (name, value)) in members(object).into_iter().enumerate() {
        text.push_str(if index == 0 { first } else { other });
        text.push_str(&json(&name));
        text.push_str(": ");
        text.push_str(value.get());
        text.push('\n');
    }
    text
}

/// An object for people: one member a line, texts without their quotes.
pub(crate) fn attributes(object: &str) -> String {
    let members = members(object);
    let width = members
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    let lines = members.iter().map(|(name, value)| {
        let text: Result<String, _> = serde_json::from_str(value.get());
        format!(
            "{name:<width$}  {}\n",
            text.as_deref().unwrap_or(value.get())
        )
    });
    lines.collect()
}

/// The members of an object of ours, in order, values as their text.
fn members(object: &str) -> Vec<(String, Box<RawValue>)> {
    serde_json::from_str::<Members>(object)
        .map(|members| members.0)
        .unwrap_or_default()
}

/// The members of any object, in order, values as their text; `None` if it is none.
pub(crate) fn members_of(object: &str) -> Option<Vec<(String, String)>> {
    let members = serde_json::from_str::<Members>(object).ok()?.0.into_iter();
    let texts = members.map(|(name, value)| (name, value.get().to_owned()));
    Some(texts.collect())
}

struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_keeps_the_order_and_the_text_of_values() {
        let object = r#"{"b":1.50,"a":{"x":[1,2]}}"#;

        assert_eq!(
            yaml(object, "- ", "  "),
            "- \"b\": 1.50\n  \"a\": {\"x\":[1,2]}\n"
        );
    }
}

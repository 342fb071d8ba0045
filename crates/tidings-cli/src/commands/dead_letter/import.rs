//! `tidings dlq import`: dead letters of other products, a message a line.

use super::message::messages;
use crate::arguments::Global;
use crate::dlq_arguments::DlqImport;
use crate::failure::Failure;
use crate::input::{Line, Lines};
use crate::output::{json, object, talk};
use crate::when::now;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use tidings::Timestamp;
use tidings::core::codes;
use tidings::core::store::{DeadLetterStore as _, ForeignLetter, Operator};
use tidings::dead_letter::foreign;
use tidings::limits::{IMPORT_HELD_BYTES_MAX, REDRIVE_BATCH_LETTERS};
use tidings::sql::Failures;

/// What was or would be taken over, as programs see it.
#[derive(Debug, Default, Serialize)]
struct Imported {
    dry_run: bool,
    read: u64,
    imported: u64,
    known: u64,
    rejected: u64,
    consumers: BTreeSet<String>,
}

pub(crate) async fn run(global: &Global, arguments: DlqImport) -> Result<(), Failure> {
    let failures = super::open(&arguments.place).await?;
    let operator = arguments.signature.operator();
    let source = Source::open(&arguments)?;
    if arguments.consumer.is_none() {
        source.refuse_several_groups(&arguments)?;
    }
    let mut lines = source.lines(&arguments)?;
    let mut imported = Imported {
        dry_run: arguments.dry_run,
        ..Imported::default()
    };
    let mut batch = Vec::new();
    while let Some(Read { line, letters }) = next(&mut lines, &arguments)? {
        for letter in letters {
            imported.read += 1;
            match letter {
                Ok(letter) => {
                    imported.consumers.insert(letter.group.clone());
                    batch.push(letter);
                }
                Err(reason) => {
                    imported.rejected += 1;
                    talk(global.quiet, format_args!("line {line}: {reason}"));
                }
            }
        }
        if batch.len() as u64 >= u64::from(REDRIVE_BATCH_LETTERS) {
            take(&failures, &mut batch, &operator, &mut imported).await?;
        }
    }
    take(&failures, &mut batch, &operator, &mut imported).await?;
    object(global.format(), &json(&imported), || {
        let verb = if imported.dry_run { "would be" } else { "are" };
        format!(
            "{} of {} messages {verb} taken over, {} were known, {} are no dead letters",
            imported.imported, imported.read, imported.known, imported.rejected
        )
    })?;
    if imported.rejected > 0 {
        let message = format!("{} messages were not taken over", imported.rejected);
        return Err(Failure::new(codes::FOREIGN_LETTER_UNREADABLE, message));
    }
    Ok(())
}

/// Where messages are read from, once or twice.
enum Source {
    /// A file, or standard input that is read once.
    Stream,
    /// What cannot be read twice, and is.
    Held(Arc<[u8]>),
}

impl Source {
    /// Where no group is told, all messages are looked at before one is stored; a pipe is held for that.
    fn open(arguments: &DlqImport) -> Result<Self, Failure> {
        let is_file = std::fs::metadata(&arguments.file).is_ok_and(|about| about.is_file());
        if arguments.consumer.is_some() || is_file {
            return Ok(Self::Stream);
        }
        let held = Lines::open(&arguments.file)?
            .rest(IMPORT_HELD_BYTES_MAX)
            .map_err(|error| failed(arguments, &error))?;
        match held {
            Some(bytes) => Ok(Self::Held(bytes.into())),
            None => Err(Failure::usage(format!(
                "what is read has more than {} MiB, and is not held to look whose the messages are; say --consumer GROUP, or write it into a file first",
                IMPORT_HELD_BYTES_MAX >> 20
            ))),
        }
    }

    fn lines(&self, arguments: &DlqImport) -> Result<Lines, Failure> {
        match self {
            Self::Stream => Lines::open(&arguments.file),
            Self::Held(bytes) => Ok(Lines::of(Arc::clone(bytes))),
        }
    }

    /// Refuses messages of several groups before one of them is stored.
    fn refuse_several_groups(&self, arguments: &DlqImport) -> Result<(), Failure> {
        let mut lines = self.lines(arguments)?;
        let mut groups = BTreeSet::new();
        while let Some(Read { line, letters }) = next(&mut lines, arguments)? {
            groups.extend(letters.into_iter().flatten().map(|letter| letter.group));
            if groups.len() > 1 {
                return Err(mixed(&groups, line));
            }
        }
        Ok(())
    }
}

fn failed(arguments: &DlqImport, error: &std::io::Error) -> Failure {
    Failure::file("read", arguments.file.display(), error)
}

/// What a line holds.
struct Read {
    /// Its number, from 1.
    line: u64,
    /// Its letters, or the reason in the place of a message that is none.
    letters: Vec<Result<ForeignLetter, String>>,
}

/// Reads the next line that is not empty.
fn next(lines: &mut Lines, arguments: &DlqImport) -> Result<Option<Read>, Failure> {
    loop {
        let line = lines.next(&mut std::io::sink());
        let Some(line) = line.map_err(|error| failed(arguments, &error))? else {
            return Ok(None);
        };
        let number = lines.number;
        let read = match line {
            Line::Whole(text) if text.trim_ascii().is_empty() => continue,
            Line::Whole(text) => {
                let place = format!("{}/{number}", arguments.file.display());
                messages(&text, &place)
            }
            Line::TooLong { bytes } => vec![Err(format!("{bytes} bytes are too long for a line"))],
        };
        let (group, event_type) = (arguments.consumer.as_ref(), arguments.event_type.as_ref());
        let letters = read.into_iter().map(|message| {
            let read = foreign(&message?, group, event_type);
            let (_, mut letter) = read.map_err(|error| error.to_string())?;
            // A message that tells no time died before it was read.
            if letter.died == Timestamp::default() {
                letter.died = now();
            }
            Ok(letter)
        });
        return Ok(Some(Read {
            line: number,
            letters: letters.collect(),
        }));
    }
}

async fn take(
    failures: &Failures,
    batch: &mut Vec<ForeignLetter>,
    operator: &Operator,
    imported: &mut Imported,
) -> Result<(), Failure> {
    let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
    if imported.dry_run {
        imported.imported += count;
    } else if count > 0 {
        let new = failures.take_over(batch, operator).await?;
        imported.imported += new;
        imported.known += count - new;
    }
    batch.clear();
    Ok(())
}

fn mixed(consumers: &BTreeSet<String>, line: u64) -> Failure {
    let names: Vec<&str> = consumers.iter().map(String::as_str).collect();
    Failure::usage(format!(
        "at line {line} the messages are of several groups: {}; import those of one group at a time, or say --consumer GROUP for all",
        names.join(", ")
    ))
}

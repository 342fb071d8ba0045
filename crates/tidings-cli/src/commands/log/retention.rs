//! `tidings log retention`: how much of the history is kept, shown or set, beside the owner too.

use crate::arguments::{Global, HeldBy, LogRetention};
use crate::commands::confirm::confirm;
use crate::failure::Failure;
use crate::folder;
use crate::output::{attributes, json, object};
use crate::quantity::NoLimit;
use serde::Serialize;
use tidings::log::LogReader;
use tidings::{Retention, log};

/// The rule and what it has to do with, as programs see it.
#[derive(Debug, Serialize)]
struct Shown {
    max_age_seconds: Option<f64>,
    max_bytes: Option<u64>,
    held_by: &'static str,
    abandoned_after_seconds: f64,
    earliest: u64,
    end: u64,
    segments: u64,
    bytes: u64,
}

pub(crate) async fn run(global: &Global, arguments: LogRetention) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let rule = if arguments.changes_anything() {
        // A rule that cannot be read is set anew as a whole.
        let before = reader.retention().unwrap_or_default();
        let rule = changed(before, &arguments);
        if rule.may_pass_groups() && rule != before {
            let question = format!(
                "Groups {} will lose events that they have not handled. Set this rule?",
                match rule.held_by {
                    log::HeldBy::ActiveGroups => "that are abandoned",
                    log::HeldBy::NoGroup | log::HeldBy::AllGroups =>
                        "that are slower than the limits",
                }
            );
            confirm(global, arguments.yes, &question)?;
        }
        reader.set_retention(&rule)?;
        rule
    } else {
        reader.retention()?
    };
    print(global, &reader, &rule)
}

fn changed(mut rule: Retention, arguments: &LogRetention) -> Retention {
    if arguments.off {
        return Retention::default();
    }
    if let Some(NoLimit(age)) = arguments.max_age {
        rule.age_max = age.map(|age| age.0);
    }
    if let Some(NoLimit(size)) = arguments.max_size {
        rule.bytes_max = size.map(|size| size.0);
    }
    if let Some(held_by) = arguments.held_by {
        rule.held_by = match held_by {
            HeldBy::All => log::HeldBy::AllGroups,
            HeldBy::Active => log::HeldBy::ActiveGroups,
            HeldBy::None => log::HeldBy::NoGroup,
        };
    }
    if let Some(after) = arguments.abandoned_after {
        rule.abandoned_after = after.0;
    }
    rule
}

fn print(global: &Global, reader: &LogReader, rule: &Retention) -> Result<(), Failure> {
    let size = reader.size()?;
    let shown = Shown {
        max_age_seconds: rule.age_max.map(|age| age.as_secs_f64()),
        max_bytes: rule.bytes_max,
        held_by: match rule.held_by {
            log::HeldBy::AllGroups => "all",
            log::HeldBy::ActiveGroups => "active",
            log::HeldBy::NoGroup => "none",
        },
        abandoned_after_seconds: rule.abandoned_after.as_secs_f64(),
        earliest: size.earliest,
        end: size.end,
        segments: size.segments,
        bytes: size.bytes,
    };
    object(global.format(), &json(&shown), || {
        let first = if rule.is_limited() {
            "removes whole segments from the oldest up, within a minute, while a process owns the folder\n"
        } else {
            "keeps everything\n"
        };
        format!("{first}{}", attributes(&json(&shown)))
    })
}

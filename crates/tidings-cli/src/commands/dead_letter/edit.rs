//! `tidings dlq edit`: an edited copy goes to the group in the place of the event.

use super::pointer;
use crate::arguments::Global;

use crate::dlq_arguments::DlqEdit;
use crate::event_arguments::payload;
use crate::failure::Failure;
use crate::output::{hint, json, object};
use serde::Serialize;
use tidings::core::codes;
use tidings::core::store::Letter;
use tidings::dead_letter::edit::{self, Edit, EditError};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::{EventType, Payload};

/// What was or would be done, as programs see it.
#[derive(Debug, Serialize)]
struct Edited<'a> {
    dry_run: bool,
    event_id: &'a str,
    /// The id of the copy; none where none was made.
    copy: Option<&'a str>,
    consumer: &'a str,
    diff: Vec<String>,
}

pub(crate) async fn run(global: &Global, arguments: DlqEdit) -> Result<(), Failure> {
    let failures = super::open(&arguments.place).await?;
    let letter = super::one(&failures, &arguments.which, arguments.consumer.as_ref()).await?;
    let clock = SystemClock::new();
    let change = change(&arguments, &letter)?;
    let copy = edit::copy(&letter, change, &clock, &SystemChance)?;
    let diff = edit::diff(&letter.envelope, &copy);
    if !arguments.dry_run {
        let operator = arguments.signature.operator_with_reason()?;
        edit::put(&failures, &letter, &copy, &operator, &clock).await?;
    }
    let edited = Edited {
        dry_run: arguments.dry_run,
        event_id: letter.envelope.event_id(),
        copy: (!arguments.dry_run).then(|| copy.event_id()),
        consumer: &letter.group,
        diff,
    };
    object(global.format(), &json(&edited), || {
        let verb = if arguments.dry_run {
            "would go"
        } else {
            "goes"
        };
        format!(
            "{}\n{} {verb} to {} in the place of {}",
            edited.diff.join("\n"),
            edited.copy.unwrap_or("an edited copy"),
            edited.consumer,
            edited.event_id
        )
    })?;
    if arguments.dry_run {
        hint(
            global.quiet,
            "do it without --dry-run and with --reason TEXT",
        );
    }
    Ok(())
}

fn change(arguments: &DlqEdit, letter: &Letter) -> Result<Edit, Failure> {
    let event_type = arguments.event_type.as_deref().map(EventType::carried);
    let event_type = event_type
        .transpose()
        .map_err(|error| Failure::new(error.code(), error.to_string()))?;
    let mut edited = arguments.payload.as_deref().map(payload).transpose()?;
    if !arguments.set.is_empty() {
        let text = std::str::from_utf8(letter.envelope.payload_bytes())
            .map_err(|_| Failure::usage("the payload is no JSON; give another with --payload"))?;
        let mut text = text.to_owned();
        for set in &arguments.set {
            let (pointer, value) = set.split_once('=').ok_or_else(|| {
                Failure::usage(format!("{set:?} has no value; write /POINTER=JSON"))
            })?;
            text = pointer::set(&text, pointer, value).map_err(Failure::usage)?;
        }
        let json = Payload::json(text.into_bytes())
            .map_err(|error| Failure::new(codes::PAYLOAD_INVALID, error.to_string()))?;
        edited = Some(json);
    }
    Ok(Edit {
        payload: edited,
        event_type,
        version: arguments.event_version,
    })
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

//! `tidings consumer reset`: a group goes on from another place.

use super::listed;
use crate::arguments::Global;
use crate::commands::confirm::confirm;
use crate::commands::dead_letter::actions::{Done, Record};
use crate::commands::outbox::source;
use crate::consumer_arguments::ConsumerReset;
use crate::failure::Failure;
use crate::folder;
use crate::output::{json, object, talk};
use crate::place::Groups;
use serde::Serialize;
use std::ops::Range;
use tidings::Tidings;
use tidings::broker::{Admin as _, BrokerError, Position, ReadRequest, Reader as _, TailRequest};
use tidings::core::store::InboxStore as _;
use tidings::limits::RESET_EVENTS_LOOKED_FOR;
use tidings::log::LogReader;
use tidings::sql::Inbox;

/// The move of a group; Kafka, which counts in each partition, has no positions.
#[derive(Serialize)]
struct Reset<'a> {
    consumer: &'a str,
    from: Option<u64>,
    to: Option<u64>,
    dry_run: bool,
}

pub(crate) async fn run(global: &Global, arguments: ConsumerReset) -> Result<(), Failure> {
    let reset = match arguments.place.groups().await? {
        Groups::Folder(reader) => in_folder(global, &arguments, &reader).await?,
        Groups::Broker(tidings) => on_broker(global, &arguments, &tidings).await?,
    };
    object(global.format(), &json(&reset), || {
        let verb = if reset.dry_run { "would go" } else { "goes" };
        let (name, to) = (reset.consumer, target(reset.to, &arguments));
        match reset.from {
            Some(from) => format!("{name} {verb} on from {to} (was {from})"),
            None => format!("{name} {verb} on from {to}"),
        }
    })
}

async fn in_folder<'a>(
    global: &Global,
    arguments: &'a ConsumerReset,
    reader: &LogReader,
) -> Result<Reset<'a>, Failure> {
    let name = &arguments.group;
    let Some(group) = listed(reader, name).await? else {
        // The look-up of the lag knows which group may have been meant.
        return Err(reader.lag(name).await.err().map_or_else(
            || Failure::usage(format!("the group {name} is gone")),
            Failure::from,
        ));
    };
    let aim = arguments.to.position(reader).await?;
    let mut reset = Reset {
        consumer: name.as_str(),
        from: Some(group.position.map_or(0, |position| position.0)),
        to: Some(aim.0),
        dry_run: arguments.dry_run,
    };
    let before = group.position.unwrap_or(aim);
    if aim < before
        && let Some(warning) = forgotten(arguments, reader, aim..before).await?
    {
        talk(global.quiet, format_args!("warning: {warning}"));
    }
    if !arguments.dry_run {
        ask(global, arguments, &reset)?;
        let record = Record::open(&arguments.place, &arguments.store).await?;
        let moved = reader.seek(name, arguments.to.0).await?;
        reset.to = Some(moved.unwrap_or(aim).0);
        note(record, arguments, &reset).await;
    }
    Ok(reset)
}

async fn on_broker<'a>(
    global: &Global,
    arguments: &'a ConsumerReset,
    tidings: &Tidings,
) -> Result<Reset<'a>, Failure> {
    let (admin, name) = (tidings.admin()?, &arguments.group);
    let capabilities = tidings.broker().capabilities();
    if !capabilities.replay {
        let what = format!(
            "move the group {name}: it keeps no history, so there is no other place to go on from"
        );
        let broker = capabilities.name;
        return Err(BrokerError::Unsupported { broker, what }.into());
    }
    admin.lag(name).await?;
    let group = listed(admin, name).await?;
    let mut reset = Reset {
        consumer: name.as_str(),
        from: group.and_then(|group| group.position).map(number),
        to: None,
        dry_run: arguments.dry_run,
    };
    if arguments.dry_run {
        // A place that the broker does not know is refused here as well.
        let request = TailRequest {
            start: arguments.to.0,
            patterns: Vec::new(),
        };
        tidings.broker().tail(request).await?;
        return Ok(reset);
    }
    ask(global, arguments, &reset)?;
    let record = Record::open(&arguments.place, &arguments.store).await?;
    let moved = admin.seek(name, arguments.to.0).await?;
    reset.to = moved.map(number);
    note(record, arguments, &reset).await;
    Ok(reset)
}

async fn note(record: Record, arguments: &ConsumerReset, reset: &Reset<'_>) {
    let detail = serde_json::json!({ "from": reset.from, "to": reset.to });
    let done = Done {
        action: "reset",
        group: reset.consumer,
        detail: detail.to_string(),
    };
    record.note(&done, &arguments.signature).await;
}

fn ask(global: &Global, arguments: &ConsumerReset, reset: &Reset<'_>) -> Result<(), Failure> {
    let (name, to) = (&arguments.group, target(reset.to, arguments));
    let question = match reset.from {
        Some(from) => format!("Move the group {name} from position {from} to {to}?"),
        None => format!("Move the group {name} to {to}?"),
    };
    confirm(global, arguments.yes, &question)
}

/// Where a group goes: the position where there is one, else what was asked for.
fn target(to: Option<u64>, arguments: &ConsumerReset) -> String {
    match to {
        Some(position) => format!("position {position}"),
        None => arguments.to.to_string(),
    }
}

fn number(position: Position) -> u64 {
    position.0
}

/// What is to be told where the inbox of the folder has forgotten what the group would handle again; nothing where the group has no rows in it.
async fn forgotten(
    arguments: &ConsumerReset,
    reader: &LogReader,
    again: Range<Position>,
) -> Result<Option<String>, Failure> {
    let Some(folder) = arguments.place.notes()? else {
        return Ok(None);
    };
    let file = folder::state(&folder);
    let group = arguments.group.as_str();
    if !file.exists() {
        return Ok(None);
    }
    let Ok(inbox) = Inbox::open(&source::file(&file, false).await?).await else {
        // No group has one here.
        return Ok(None);
    };
    let groups = inbox.status().await?;
    let Some(remembered) = groups.iter().find(|status| status.group == group) else {
        return Ok(None);
    };
    let request = ReadRequest {
        from: again.start,
        patterns: &[],
        events_max: RESET_EVENTS_LOOKED_FOR,
    };
    let first = reader.read(request).await?.events;
    for event in first.iter().filter(|event| event.position < again.end) {
        if inbox.handled_at(group, &event.envelope).await?.is_some() {
            return Ok(None);
        }
    }
    Ok(Some(format!(
        "the inbox of {} remembers what {group} has handled since {}, and none of the first events from position {} on; what it handled of them will be handled a second time",
        folder.display(),
        remembered.oldest,
        again.start.0
    )))
}

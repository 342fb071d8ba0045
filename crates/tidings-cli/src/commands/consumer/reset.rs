//! `tidings consumer reset`: a group goes on from another place.

use super::listed;
use crate::arguments::{ConsumerReset, Global};
use crate::commands::confirm::confirm;
use crate::commands::dead_letter::actions;
use crate::failure::Failure;
use crate::output::{json, object};
use crate::place::Groups;
use serde::Serialize;
use tidings::Tidings;
use tidings::broker::{Admin as _, BrokerError, Position, TailRequest};
use tidings::log::LogReader;

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
    if !arguments.dry_run {
        ask(global, arguments, &reset)?;
        let moved = reader.seek(name, arguments.to.0).await?;
        reset.to = Some(moved.unwrap_or(aim).0);
        record(arguments, &reset).await;
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
    let moved = admin.seek(name, arguments.to.0).await?;
    reset.to = moved.map(number);
    record(arguments, &reset).await;
    Ok(reset)
}

async fn record(arguments: &ConsumerReset, reset: &Reset<'_>) {
    let detail = serde_json::json!({ "from": reset.from, "to": reset.to });
    let done = actions::Done {
        action: "reset",
        group: reset.consumer,
        detail: detail.to_string(),
    };
    actions::record(&arguments.place, &done, &arguments.signature).await;
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

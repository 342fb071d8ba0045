//! `tidings consumer reset`: a group goes on from another place.

use crate::arguments::{ConsumerReset, Global};
use crate::commands::confirm::confirm;
use crate::failure::Failure;
use crate::folder;
use crate::output::{json, object};
use serde::Serialize;
use tidings::broker::Admin as _;

#[derive(Serialize)]
struct Reset<'a> {
    consumer: &'a str,
    from: u64,
    to: u64,
    dry_run: bool,
}

pub(crate) async fn run(global: &Global, arguments: ConsumerReset) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let name = &arguments.group;
    let groups = reader.groups().await?;
    let Some(group) = groups.iter().find(|group| group.name == *name) else {
        // The look-up of the lag knows which group may have been meant.
        return Err(reader.lag(name).await.err().map_or_else(
            || Failure::usage(format!("the group {name} is gone")),
            Failure::from,
        ));
    };
    let target = arguments.to.position(&reader).await?;
    let mut reset = Reset {
        consumer: name.as_str(),
        from: group.position.map_or(0, |position| position.0),
        to: target.0,
        dry_run: arguments.dry_run,
    };
    if !arguments.dry_run {
        confirm(
            global,
            arguments.yes,
            &format!(
                "Move the group {name} from position {} to {}?",
                reset.from, reset.to
            ),
        )?;
        let moved = reader.seek(name, arguments.to.0).await?;
        reset.to = moved.map_or(reset.to, |position| position.0);
    }
    object(global.format(), &json(&reset), || {
        let verb = if reset.dry_run { "would go" } else { "goes" };
        format!(
            "{name} {verb} on from position {} (was {})",
            reset.to, reset.from
        )
    })
}

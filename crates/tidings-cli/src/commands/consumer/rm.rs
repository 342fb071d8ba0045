//! `tidings consumer rm`: forget a group.

use crate::arguments::Global;
use crate::commands::confirm::confirm;
use crate::commands::dead_letter::actions::{Done, Record};
use crate::consumer_arguments::ConsumerRm;
use crate::failure::Failure;
use crate::output::talk;

pub(crate) async fn run(global: &Global, arguments: ConsumerRm) -> Result<(), Failure> {
    let opened = arguments.place.groups().await?;
    let admin = opened.admin()?;
    let lag = admin.lag(&arguments.group).await?;
    let question = format!(
        "Forget the group {}, which has {} events left?",
        arguments.group, lag.events
    );
    confirm(global, arguments.yes, &question)?;
    let record = Record::open(&arguments.place, &arguments.store).await?;
    admin.remove(&arguments.group).await?;
    let done = Done {
        action: "rm",
        group: arguments.group.as_str(),
        detail: "{}".to_owned(),
    };
    record.note(&done, &arguments.signature).await;
    talk(
        global.quiet,
        format_args!(
            "the group {} is forgotten; its events stay",
            arguments.group
        ),
    );
    Ok(())
}

//! `tidings consumer rm`: forget a group.

use crate::arguments::{ConsumerRm, Global};
use crate::commands::confirm::confirm;
use crate::failure::Failure;
use crate::folder;
use crate::output::talk;
use tidings::broker::Admin as _;

pub(crate) async fn run(global: &Global, arguments: ConsumerRm) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let lag = reader.lag(&arguments.group).await?;
    let question = format!(
        "Forget the group {}, which has {} events left?",
        arguments.group, lag.events
    );
    confirm(global, arguments.yes, &question)?;
    reader.remove(&arguments.group).await?;
    talk(
        global.quiet,
        format_args!(
            "the group {} is forgotten; its events stay",
            arguments.group
        ),
    );
    Ok(())
}

//! `tidings consumer ls`: all groups.

use super::waits::Waits;
use super::{HEADERS, Row};
use crate::arguments::Global;
use crate::consumer_arguments::ConsumerLs;
use crate::failure::Failure;
use crate::output::{List, hint, json, talk};

pub(crate) async fn run(global: &Global, arguments: ConsumerLs) -> Result<(), Failure> {
    let groups = arguments.place.groups().await?;
    let admin = groups.admin()?;
    let mut list = List::aligned(global.format(), &HEADERS, !global.no_headers);
    let waits = Waits::open(&arguments.place, &arguments.store).await?;
    let (mut abandoned, mut waiting) = (Vec::new(), Vec::new());
    for group in admin.groups().await? {
        let lag = admin.lag(&group.name).await?;
        let row = Row::new(&group, lag, waits.of(&group).await?);
        waiting.extend(row.waiting());
        list.row(|| json(&row), || row.cells())?;
        if group.abandoned {
            abandoned.push(group.name.to_string());
        }
    }
    let (count, abandoned) = (list.finish()?, abandoned.join(", "));
    for waiting in waiting {
        talk(global.quiet, waiting);
    }
    if !abandoned.is_empty() {
        talk(
            global.quiet,
            format_args!(
                "abandoned: {abandoned}; start their consumers, or forget them: tidings consumer rm GROUP"
            ),
        );
    }
    if count == 0 {
        hint(
            global.quiet,
            "no group yet; `tidings consumer run GROUP --type PATTERN --exec CMD` makes one",
        );
    }
    Ok(())
}

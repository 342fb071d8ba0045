//! `tidings consumer ls`: all groups.

use super::{HEADERS, Row};
use crate::arguments::{ConsumerLs, Global};
use crate::failure::Failure;
use crate::folder;
use crate::output::{List, hint, json};
use tidings::broker::Admin as _;

pub(crate) async fn run(global: &Global, arguments: ConsumerLs) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let mut list = List::aligned(global.format(), &HEADERS, !global.no_headers);
    for group in reader.groups().await? {
        let row = Row::new(&group, reader.lag(&group.name).await?);
        list.row(|| json(&row), || row.cells())?;
    }
    if list.finish()? == 0 {
        hint(
            global.quiet,
            "no group yet; `tidings consumer run GROUP --type PATTERN --exec CMD` makes one",
        );
    }
    Ok(())
}

//! `tidings event ls`: events in the order of the log.

use crate::arguments::{EventLs, Global};
use crate::failure::Failure;
use crate::folder;
use crate::output::{List, hint};
use crate::rows::{self, Selection};
use std::ops::ControlFlow;

pub(crate) async fn run(global: &Global, arguments: EventLs) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let selection = Selection::new(&arguments.filter, &reader).await?;
    let mut list = List::streamed(global.format());
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    if left > 0 {
        let take = |recorded| {
            list.row(
                || rows::object(&recorded, arguments.cloudevents),
                || rows::cells(&recorded, global),
            )?;
            left -= 1;
            Ok(if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        };
        selection.each(&reader, take).await?;
    }
    if list.finish()? == 0 {
        hint(
            global.quiet,
            "no event matches; `tidings event count` tells how many there are in all",
        );
    }
    Ok(())
}

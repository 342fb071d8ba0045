//! `tidings event count`.

use crate::arguments::{EventCount, Global};
use crate::failure::Failure;
use crate::folder;
use crate::output::{json, object};
use crate::rows::Selection;
use serde::Serialize;
use std::ops::ControlFlow;

#[derive(Serialize)]
struct Count {
    count: u64,
}

pub(crate) async fn run(global: &Global, arguments: EventCount) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let mut count = 0;
    let take = |_| {
        count += 1;
        Ok(ControlFlow::Continue(()))
    };
    Selection::new(&arguments.filter, &reader)
        .await?
        .each(&reader, take)
        .await?;
    object(global.format(), &json(&Count { count }), || {
        count.to_string()
    })
}

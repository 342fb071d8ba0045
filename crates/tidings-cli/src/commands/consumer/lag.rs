//! `tidings consumer lag`: how far groups are behind, with limits for scripts.

use super::waits::Waits;
use super::{HEADERS, Row, listed};
use crate::arguments::Global;
use crate::consumer_arguments::ConsumerLag;
use crate::failure::Failure;
use crate::output::{List, json, talk};
use std::process::ExitCode;
use tidings::broker::{GroupName, GroupStatus};

pub(crate) async fn run(global: &Global, arguments: ConsumerLag) -> Result<ExitCode, Failure> {
    let opened = arguments.place.groups().await?;
    let admin = opened.admin()?;
    let groups: Vec<(GroupName, Option<GroupStatus>)> = match &arguments.group {
        Some(name) => vec![(name.clone(), listed(admin, name).await?)],
        None => {
            let groups = admin.groups().await?.into_iter();
            groups
                .map(|group| (group.name.clone(), Some(group)))
                .collect()
        }
    };
    let mut list = List::aligned(global.format(), &HEADERS, !global.no_headers);
    let waits = Waits::open(&arguments.place, &arguments.store).await?;
    let (mut over, mut warnings) = (Vec::new(), Vec::new());
    for (name, group) in groups {
        let lag = admin.lag(&name).await?;
        let row = match &group {
            Some(group) => Row::new(group, lag, waits.of(group).await?),
            None => Row::unlisted(name.clone(), lag),
        };
        list.row(|| json(&row), || row.cells())?;
        warnings.extend(row.waiting());
        warnings.extend(row.warning());
        if arguments.max.is_some_and(|max| lag.events > max)
            || arguments.max_age.is_some_and(|max| lag.age > max.0)
        {
            over.push(name.to_string());
        }
    }
    list.finish()?;
    for warning in warnings {
        talk(global.quiet, warning);
    }
    if over.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    talk(
        global.quiet,
        format_args!("over the limit: {}", over.join(", ")),
    );
    Ok(ExitCode::from(4))
}

//! `tidings broker check` and `tidings broker ensure`: what must exist on a broker before events can pass.

use crate::arguments::Global;
use crate::bridge_arguments::BrokerCheck;
use crate::failure::Failure;
use crate::follow;
use crate::output::{List, json, talk};
use crate::place;
use serde::Serialize;
use std::process::ExitCode;
use tidings::broker::{StartAt, SubscribeRequest, TopologyItem, TopologyRequest, TopologyState};
use tidings::{Durability, Location};

/// The header row.
const HEADERS: [&str; 3] = ["WHAT", "STATE", "WAY OUT"];

/// One thing on the broker, as it is printed.
#[derive(Debug, Serialize)]
struct Row<'a> {
    what: &'a str,
    state: &'static str,
    reason: Option<&'a str>,
    way_out: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn of(item: &'a TopologyItem) -> Self {
        let (state, reason, way_out) = match &item.state {
            TopologyState::Present => ("present", None, None),
            TopologyState::Created => ("created", None, None),
            TopologyState::Missing { command } => ("missing", None, Some(command.as_str())),
            TopologyState::Wrong { reason, way_out } => {
                ("wrong", Some(reason.as_str()), Some(way_out.as_str()))
            }
        };
        Self {
            what: &item.what,
            state,
            reason,
            way_out,
        }
    }

    fn cells(&self) -> Vec<String> {
        let state = match self.reason {
            Some(reason) => format!("{}: {reason}", self.state),
            None => self.state.to_owned(),
        };
        vec![
            self.what.to_owned(),
            state,
            self.way_out.unwrap_or("-").to_owned(),
        ]
    }
}

/// Looks, and with `ensure` makes what is missing. Exit code 4 if events cannot pass.
pub(crate) async fn run(
    global: &Global,
    arguments: BrokerCheck,
    ensure: bool,
) -> Result<ExitCode, Failure> {
    let location = place::location(&arguments.url)?;
    let groups: Vec<SubscribeRequest> = arguments
        .group
        .iter()
        .map(|group| SubscribeRequest {
            group: group.clone(),
            patterns: follow::patterns(&arguments.types, false),
            start: StartAt::Earliest,
            single_instance: false,
        })
        .collect();
    let items = look(&location, &groups, ensure).await?;
    let mut list = List::aligned(global.format(), &HEADERS, !global.no_headers);
    for item in &items {
        let row = Row::of(item);
        list.row(|| json(&row), || row.cells())?;
    }
    list.finish()?;
    let bad = items.iter().filter(|item| !item.state.is_good()).count();
    if bad == 0 {
        talk(global.quiet, format_args!("events can pass {location}"));
        return Ok(ExitCode::SUCCESS);
    }
    talk(
        global.quiet,
        format_args!("{bad} of {} are not as they must be", items.len()),
    );
    Ok(ExitCode::from(4))
}

/// What stands in the way of events to a broker, for `relay check`.
pub(super) async fn obstacles(location: &Location) -> Result<Vec<String>, Failure> {
    let items = look(location, &[], false).await?;
    let bad = items.iter().filter(|item| !item.state.is_good());
    Ok(bad
        .map(|item| {
            let row = Row::of(item);
            let reason = row.reason.unwrap_or(row.state);
            format!(
                "{}: {reason}; {}",
                row.what,
                row.way_out.unwrap_or_default()
            )
        })
        .collect())
}

async fn look(
    location: &Location,
    groups: &[SubscribeRequest],
    ensure: bool,
) -> Result<Vec<TopologyItem>, Failure> {
    let tidings = place::open(&as_it_is(location, ensure), Durability::Synced).await?;
    let request = TopologyRequest { groups, ensure };
    let items = tidings.broker().topology(request).await;
    tidings.shutdown().await?;
    Ok(items?)
}

/// Who only looks must not make anything by connecting.
fn as_it_is(location: &Location, ensure: bool) -> Location {
    match location {
        Location::Broker(url) if !ensure && !url.contains("ensure=") => {
            let joint = if url.contains('?') { '&' } else { '?' };
            Location::Broker(format!("{url}{joint}ensure=false"))
        }
        as_given => as_given.clone(),
    }
}

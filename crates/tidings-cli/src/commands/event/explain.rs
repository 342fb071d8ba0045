//! `tidings event explain`: where an event, or what is open of a key, is in each group, and why.

use super::known::{Asked, Sources, scan};
use crate::arguments::{EventExplain, Global};
use crate::failure::Failure;
use crate::output::{List, json, talk};
use crate::place::state_url;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;
use tidings::broker::Position;
use tidings::core::codes;
use tidings::flow::explain::{Whereabouts, explain, word};
use tidings::{Location, Pattern, Timestamp};

/// Where the event is in one group, as programs read it.
#[derive(Serialize)]
struct Row<'a> {
    event_id: &'a str,
    event_type: &'a str,
    /// Where it stands, on a log or a broker that keeps its history.
    position: Option<u64>,
    group: &'a str,
    state: &'a str,
    explanation: String,
    stuck: bool,
    /// Which attempt comes next, from 1, if it failed.
    attempt: Option<u32>,
    /// How many attempts there are at most, where that is known.
    attempts_max: Option<u32>,
    /// How long its handling took at most, where its effect tells.
    within_seconds: Option<f64>,
    caused: Vec<&'a str>,
    next: Option<String>,
}

/// An event that was emitted because of another.
struct Caused {
    event_id: String,
    event_type: String,
    /// How long after its cause it was appended.
    after: Duration,
}

pub(crate) async fn run(global: &Global, arguments: EventExplain) -> Result<(), Failure> {
    let sources = Sources::open(&arguments).await?;
    let what = &arguments.what;
    let events = match (&what.event_id, &what.key) {
        (None, Some(key)) => sources.of_key(key).await?,
        (event_id, _) => {
            let event_id = event_id.as_deref().unwrap_or_default();
            let events = sources.of_id(event_id).await?;
            if events.is_empty() {
                return Err(not_known(&sources, &arguments, event_id).await?);
            }
            events
        }
    };
    let headers: &[&str] = match what.key {
        Some(_) => &["EVENT", "TYPE", "GROUP", "STATE", "EXPLANATION", "NEXT"],
        None => &["GROUP", "STATE", "EXPLANATION", "NEXT"],
    };
    let groups = sources.groups(arguments.group.as_ref(), &events).await?;
    let mut found = Vec::new();
    for asked in &events {
        for status in &groups {
            let known = sources.known(asked, status).await?;
            if what.key.is_none() || arguments.all || explain(&known).is_open() {
                found.push((asked, status.name.as_str(), known));
            }
        }
    }
    let asked: Vec<&Asked> = found.iter().map(|(asked, ..)| *asked).collect();
    let caused = caused(&sources, &asked).await?;
    let mut list = List::aligned(global.format(), headers, !global.no_headers);
    for (asked, group, known) in &mut found {
        let event_id = asked.envelope.event_id();
        let by_group = caused.get(&(event_id, (*group).to_owned()));
        // What an event caused is told once.
        let by_group = by_group.filter(|_| !asked.is_copy());
        let caused = by_group.map(Vec::as_slice).unwrap_or_default();
        known.effect_after = caused.iter().map(|caused| caused.after).min();
        let whereabouts = explain(known);
        let next = next(&arguments, &whereabouts, group, event_id)?;
        let row = row(asked, group, &whereabouts, caused, next);
        list.row(|| json(&row), || cells(&row, caused, what.key.is_some()))?;
    }
    if list.finish()? == 0 {
        talk(
            global.quiet,
            format_args!("{}", nothing(&arguments, &events)),
        );
    }
    if let Some(blind) = sources.blind_spots() {
        talk(global.quiet, blind);
    }
    Ok(())
}

fn row<'a>(
    asked: &'a Asked,
    group: &'a str,
    whereabouts: &Whereabouts,
    caused: &'a [Caused],
    next: Option<String>,
) -> Row<'a> {
    let event_id = asked.envelope.event_id();
    let (attempt, attempts_max) = match whereabouts {
        Whereabouts::Retrying { attempt, of, .. }
        | Whereabouts::RetryingInPlace { attempt, of, .. } => (Some(*attempt), *of),
        _ => (None, None),
    };
    Row {
        event_id,
        event_type: asked.envelope.event_type().as_str(),
        position: asked.position().map(|position| position.0),
        group,
        state: whereabouts.as_str(),
        explanation: whereabouts.to_string(),
        stuck: whereabouts.is_stuck(),
        attempt,
        attempts_max,
        within_seconds: match whereabouts {
            Whereabouts::Handled { within, .. } => within.map(|within| within.as_secs_f64()),
            _ => None,
        },
        caused: caused.iter().map(|caused| &*caused.event_id).collect(),
        next,
    }
}

/// The command to run next, in the place in which this one looked.
fn next(
    arguments: &EventExplain,
    whereabouts: &Whereabouts,
    group: &str,
    event_id: &str,
) -> Result<Option<String>, Failure> {
    let Some(command) = whereabouts.next_command(group, event_id) else {
        return Ok(None);
    };
    let EventExplain {
        typed,
        place,
        store,
        ..
    } = arguments;
    let flags = match whereabouts {
        Whereabouts::DeadLettered { .. }
        | Whereabouts::Paused { .. }
        | Whereabouts::Retrying { .. } => typed.flags_of_letters(place, store)?,
        _ => typed.flags(),
    };
    Ok(Some(command + &flags))
}

/// What an empty list means.
fn nothing(arguments: &EventExplain, events: &[Asked]) -> String {
    let place = place(arguments);
    match &arguments.what.key {
        Some(key) if events.is_empty() => format!(
            "no event in {place} has the key {key:?}; its newest events may wait beside the owner{}",
            look_beside(arguments)
        ),
        Some(key) if !arguments.all => format!(
            "nothing of {key:?} is open: every group is done with each of its {} events; --all shows them",
            events.len()
        ),
        _ => format!(
            "no such group has ever worked here: tidings consumer ls{}",
            arguments.typed.flags()
        ),
    }
}

/// How to look at what waits beside the owner of a folder.
fn look_beside(arguments: &EventExplain) -> String {
    match arguments.place.location() {
        Ok(Location::Folder(folder)) => {
            let url = state_url(&folder);
            format!(": tidings outbox status --from {}", word(&url))
        }
        _ => String::new(),
    }
}

fn cells(row: &Row<'_>, caused: &[Caused], of_key: bool) -> Vec<String> {
    let mut explanation = row.explanation.clone();
    for caused in caused {
        explanation.push_str(&format!(
            "; caused {} {}",
            caused.event_type, caused.event_id
        ));
    }
    let mut cells = vec![
        row.group.to_owned(),
        row.state.to_owned(),
        explanation,
        row.next.clone().unwrap_or_else(|| "-".to_owned()),
    ];
    if of_key {
        cells.splice(0..0, [row.event_id.to_owned(), row.event_type.to_owned()]);
    }
    cells
}

/// Where was looked.
fn place(arguments: &EventExplain) -> String {
    match arguments.place.location() {
        Ok(location) => location.to_string(),
        Err(_) => arguments.place.data.folder.display().to_string(),
    }
}

/// It may be on its way into the log, or on a broker that does not say.
async fn not_known(
    sources: &Sources,
    arguments: &EventExplain,
    event_id: &str,
) -> Result<Failure, Failure> {
    #[cfg(feature = "sqlite")]
    if let Location::Folder(folder) = arguments.place.location()? {
        let waiting = tidings::Waiting::open(&folder).await?.events().await?;
        if waiting.iter().any(|event| event.event_id() == event_id) {
            return Ok(Failure::new(
                codes::EVENT_UNKNOWN,
                format!(
                    "the event {event_id:?} waits in state.db until the owner of {} carries it into the log; if nobody owns the folder, any command that writes does{}",
                    folder.display(),
                    look_beside(arguments)
                ),
            ));
        }
    }
    let mut message = format!(
        "there is no event {event_id:?} in {}; if that is a key, ask with --key {}",
        place(arguments),
        word(event_id)
    );
    if let Some(blind) = sources.blind_spots() {
        message = format!("{message}; {blind}");
    }
    Ok(Failure::new(codes::EVENT_UNKNOWN, message))
}

/// What was emitted because of events, by them and who emitted it.
async fn caused<'a>(
    sources: &Sources,
    asked: &[&'a Asked],
) -> Result<HashMap<(&'a str, String), Vec<Caused>>, Failure> {
    let mut caused: HashMap<_, Vec<Caused>> = HashMap::new();
    let from: Option<Position> = asked.iter().filter_map(|one| one.position()).min();
    let (Some(reader), Some(from)) = (sources.reader(), from) else {
        return Ok(caused);
    };
    let mut causes: HashMap<&'a str, Timestamp> = HashMap::new();
    for one in asked {
        if let Some((_, appended)) = one.place {
            causes.entry(one.envelope.event_id()).or_insert(appended);
        }
    }
    let patterns = [Pattern::everything()];
    scan(reader, &patterns, from, |other| {
        let event = &other.envelope;
        let cause = event.causation_id();
        if let Some((cause, appended)) = cause.and_then(|id| causes.get_key_value(id)) {
            let by = event.source().unwrap_or_default().to_owned();
            caused.entry((*cause, by)).or_default().push(Caused {
                event_id: event.event_id().to_owned(),
                event_type: event.event_type().to_string(),
                after: other.append_time.since(*appended),
            });
        }
        true
    })
    .await?;
    Ok(caused)
}

//! `tidings event explain`: where an event, or what is open of a key, is in each group, and why.

use super::get::find;
use crate::arguments::{EventExplain, Global};
use crate::commands::outbox::source;
use crate::failure::Failure;
use crate::folder;
use crate::output::{List, json, talk};
use crate::rows::behind_damage;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tidings::broker::{
    Admin as _, GroupStatus, LookUpBy, LookUpRequest, Position, ReadRequest, Reader, Recorded,
};
use tidings::core::codes;
use tidings::core::store::{
    DeadLetterStore as _, FailureStore as _, LaneId, LetterFilter, StoreError,
};
use tidings::flow::explain::{Known, KnownLetter, KnownParked, Whereabouts, explain};
use tidings::limits::{EXPLAIN_KEY_EVENTS_MAX, EXPLAIN_LANE_ROWS_MAX, EXPLAIN_SCAN_EVENTS_MAX};
use tidings::sql::{Database, Failures, Inbox};
use tidings::{Envelope, Pattern, Timestamp};

/// Events read at once.
const PAGE_EVENTS: usize = 4_096;

/// Where the event is in one group, as programs read it.
#[derive(Serialize)]
struct Row<'a> {
    event_id: &'a str,
    event_type: &'a str,
    position: u64,
    group: &'a str,
    state: &'a str,
    explanation: String,
    stuck: bool,
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

/// What is looked at.
struct Sources {
    reader: tidings::log::LogReader,
    failures: Option<Failures>,
    inbox: Option<Inbox>,
    paused: HashMap<String, String>,
}

pub(crate) async fn run(global: &Global, arguments: EventExplain) -> Result<(), Failure> {
    let sources = open(&arguments).await?;
    let what = &arguments.what;
    let events = match (&what.event_id, &what.key) {
        (None, Some(key)) => of_key(&sources.reader, key).await?,
        (event_id, _) => {
            let event_id = event_id.as_deref().unwrap_or_default();
            match find(&sources.reader, event_id).await? {
                Some(recorded) => vec![recorded],
                None => return not_on_the_log(&arguments, event_id).await,
            }
        }
    };
    let headers: &[&str] = match what.key {
        Some(_) => &["EVENT", "TYPE", "GROUP", "STATE", "EXPLANATION", "NEXT"],
        None => &["GROUP", "STATE", "EXPLANATION", "NEXT"],
    };
    let mut groups = sources.reader.groups().await?;
    groups.retain(|status| {
        let only = arguments.group.as_ref();
        only.is_none_or(|only| *only == status.name)
    });
    let mut found = Vec::new();
    for recorded in &events {
        for status in &groups {
            let known = known(&sources, recorded, status).await?;
            if what.key.is_none() || arguments.all || explain(&known).is_open() {
                found.push((recorded, status.name.as_str(), known));
            }
        }
    }
    let asked: Vec<&Recorded> = found.iter().map(|(recorded, ..)| *recorded).collect();
    let caused = caused(&sources.reader, &asked).await?;
    let mut list = List::aligned(global.format(), headers, !global.no_headers);
    for (recorded, group, known) in &mut found {
        let event_id = recorded.envelope.event_id();
        let by_group = caused.get(&(event_id, (*group).to_owned()));
        let caused = by_group.map(Vec::as_slice).unwrap_or_default();
        known.effect_after = caused.iter().map(|caused| caused.after).min();
        let whereabouts = explain(known);
        let row = Row {
            event_id,
            event_type: recorded.envelope.event_type().as_str(),
            position: recorded.position.0,
            group,
            state: whereabouts.as_str(),
            explanation: whereabouts.to_string(),
            stuck: whereabouts.is_stuck(),
            within_seconds: match whereabouts {
                Whereabouts::Handled { within, .. } => within.map(|within| within.as_secs_f64()),
                _ => None,
            },
            caused: caused.iter().map(|caused| &*caused.event_id).collect(),
            next: whereabouts.next_command(group, event_id),
        };
        list.row(|| json(&row), || cells(&row, caused, what.key.is_some()))?;
    }
    if list.finish()? == 0 {
        talk(
            global.quiet,
            format_args!("{}", nothing(&arguments, &events)),
        );
    }
    Ok(())
}

/// What an empty list means.
fn nothing(arguments: &EventExplain, events: &[Recorded]) -> String {
    let folder = arguments.data.folder.display();
    match &arguments.what.key {
        Some(key) if events.is_empty() => format!(
            "no event in {folder} has the key {key:?}; its newest events may wait beside the owner: tidings outbox status"
        ),
        Some(key) if !arguments.all => format!(
            "nothing of {key:?} is open: every group is done with each of its {} events; --all shows them",
            events.len()
        ),
        _ => "no such group has ever worked here: tidings consumer ls".to_owned(),
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

/// The newest events of a key, each id once, oldest first.
async fn of_key(reader: &dyn Reader, key: &str) -> Result<Vec<Recorded>, Failure> {
    let patterns = [Pattern::everything()];
    let mut from = reader.earliest().await?;
    let mut events: VecDeque<Recorded> = VecDeque::new();
    loop {
        let request = LookUpRequest {
            by: LookUpBy::Key(key),
            from,
            patterns: &patterns,
            events_max: PAGE_EVENTS,
        };
        let page = match reader.look_up(request).await {
            Ok(page) => page,
            Err(error) => {
                from = behind_damage(error)?;
                continue;
            }
        };
        for recorded in page.events {
            let event_id = recorded.envelope.event_id();
            if events.iter().any(|one| one.envelope.event_id() == event_id) {
                continue;
            }
            events.push_back(recorded);
            if events.len() > EXPLAIN_KEY_EVENTS_MAX {
                events.pop_front();
            }
        }
        if page.at_end {
            return Ok(events.into());
        }
        from = page.next;
    }
}

async fn open(arguments: &EventExplain) -> Result<Sources, Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let file = folder::state(&arguments.data.folder);
    let database: Option<Database> = match &arguments.store.url {
        Some(url) => Some(source::database(url, false).await?),
        None if file.exists() => Some(source::file(&file, false).await?),
        None => None,
    };
    let (mut failures, mut inbox) = (None, None);
    if let Some(database) = &database {
        // A database of an older version, or one without an inbox, knows less.
        failures = Failures::open(database).await.ok();
        inbox = Inbox::open(database).await.ok();
    }
    let mut paused = HashMap::new();
    if let Some(failures) = &failures {
        for one in failures.paused().await? {
            paused.insert(one.group, one.reason);
        }
    }
    Ok(Sources {
        reader,
        failures,
        inbox,
        paused,
    })
}

/// It may be on its way into the log.
async fn not_on_the_log(arguments: &EventExplain, event_id: &str) -> Result<(), Failure> {
    let folder = &arguments.data.folder;
    #[cfg(feature = "sqlite")]
    {
        let waiting = tidings::Waiting::open(folder).await?.events().await?;
        if waiting.iter().any(|event| event.event_id() == event_id) {
            return Err(Failure::new(
                codes::EVENT_UNKNOWN,
                format!(
                    "the event {event_id:?} waits in state.db until the owner of {} carries it into the log; if nobody owns the folder, any command that writes does: tidings outbox status",
                    folder.display()
                ),
            ));
        }
    }
    Err(Failure::new(
        codes::EVENT_UNKNOWN,
        format!(
            "there is no event {event_id:?} in {}; if that is a key, ask with --key {event_id}",
            folder.display()
        ),
    ))
}

async fn known(
    sources: &Sources,
    recorded: &Recorded,
    status: &GroupStatus,
) -> Result<Known, Failure> {
    let group = status.name.as_str();
    let event = &recorded.envelope;
    let subscribed = status
        .patterns
        .iter()
        .any(|pattern| pattern.matches(event.event_type()));
    let mut known = Known {
        group: group.to_owned(),
        subscribed: Some(subscribed),
        position: Some(recorded.position),
        cursor: status.position,
        moved_at: status.moved_at,
        owner: status.owner.clone(),
        paused: sources.paused.get(group).cloned(),
        ..Known::default()
    };
    if let Some(inbox) = &sources.inbox {
        known.handled_at = inbox.handled_at(group, event).await?;
    }
    if let Some(failures) = &sources.failures {
        known.circuit = match failures.circuit(group).await {
            // Tables of an older version have no place for it.
            Err(StoreError::TableMissing { .. }) => None,
            circuit => circuit?,
        };
        known.parked = parked(failures, group, event).await?;
        known.letter = letter(failures, group, event).await?;
    }
    if let Some(cursor) = status.position
        && subscribed
        && cursor <= recorded.position
    {
        (known.before, known.before_of_key) =
            before(&sources.reader, &status.patterns, cursor, recorded).await?;
    }
    Ok(known)
}

async fn parked(
    failures: &Failures,
    group: &str,
    event: &Envelope,
) -> Result<Option<KnownParked>, Failure> {
    let lane = LaneId::of(event);
    let rows = failures.rows(group, lane, EXPLAIN_LANE_ROWS_MAX).await?;
    let is_it = |other: &Envelope| other.event_id() == event.event_id();
    let Some(place) = rows.iter().position(|row| is_it(&row.envelope)) else {
        return Ok(None);
    };
    let (Some(head), Some(row)) = (rows.first(), rows.get(place)) else {
        return Ok(None);
    };
    Ok(Some(KnownParked {
        due: row.due,
        attempts: row.attempts,
        error: row.history.last().map(|failed| failed.error.clone()),
        head: (place > 0).then(|| head.envelope.event_id().to_owned()),
        rows_before: place as u64,
    }))
}

async fn letter(
    failures: &Failures,
    group: &str,
    event: &Envelope,
) -> Result<Option<KnownLetter>, Failure> {
    let filter = LetterFilter {
        ids: vec![event.event_id().to_owned()],
        group: Some(group.to_owned()),
        ..LetterFilter::default()
    };
    let letters = failures.letters(&filter, 0, 1).await?;
    Ok(letters.into_iter().next().map(|letter| KnownLetter {
        status: letter.status.as_str().to_owned(),
        reason: letter.reasons.first().cloned().unwrap_or_default(),
        died: letter.died,
        decided_why: letter.decided_why,
        id: letter.id,
    }))
}

/// How many events of a group come before one, and the oldest of them with its key.
async fn before(
    reader: &dyn Reader,
    patterns: &[Pattern],
    cursor: Position,
    recorded: &Recorded,
) -> Result<(u64, Option<String>), Failure> {
    let (mut count, mut of_key) = (0, None);
    let key = recorded.envelope.key();
    scan(reader, patterns, cursor, |other| {
        if other.position >= recorded.position {
            return false;
        }
        count += 1;
        if of_key.is_none() && key.is_some() && other.envelope.key() == key {
            of_key = Some(other.envelope.event_id().to_owned());
        }
        true
    })
    .await?;
    Ok((count, of_key))
}

/// What was emitted because of events, by them and who emitted it.
async fn caused<'a>(
    reader: &dyn Reader,
    asked: &[&'a Recorded],
) -> Result<HashMap<(&'a str, String), Vec<Caused>>, Failure> {
    let mut caused: HashMap<_, Vec<Caused>> = HashMap::new();
    let Some(from) = asked.iter().map(|recorded| recorded.position).min() else {
        return Ok(caused);
    };
    let causes: HashMap<&'a str, Timestamp> = asked
        .iter()
        .map(|one| (one.envelope.event_id(), one.append_time))
        .collect();
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

/// Looks at events from a position on, for as long as wanted and at most [`EXPLAIN_SCAN_EVENTS_MAX`].
async fn scan(
    reader: &dyn Reader,
    patterns: &[Pattern],
    from: Position,
    mut look: impl FnMut(&Recorded) -> bool,
) -> Result<(), Failure> {
    let (mut next, mut seen) = (from, 0);
    while seen < EXPLAIN_SCAN_EVENTS_MAX {
        let request = ReadRequest {
            from: next,
            patterns,
            events_max: PAGE_EVENTS,
        };
        let page = match reader.read(request).await {
            Ok(page) => page,
            Err(error) => {
                next = behind_damage(error)?;
                continue;
            }
        };
        seen += page.events.len();
        if !page.events.iter().all(&mut look) || page.at_end {
            break;
        }
        next = page.next;
    }
    Ok(())
}

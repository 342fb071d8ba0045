//! `tidings relay verify`: what is missing, doubled or out of order at the destination of an outbox, and what cannot be known.

use super::destination::Target;
use crate::arguments::Global;
use crate::commands::outbox::source;
use crate::failure::Failure;
use crate::folder;
use crate::outbox_arguments::RelayVerify;
use crate::output::{json, object};
use crate::place;
use crate::rows::behind_damage;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use tidings::broker::{ReadRequest, Reader};
use tidings::core::codes;
use tidings::core::store::{OutboxStore as _, Settlement};
use tidings::log::LogReader;
use tidings::outbox::{Blind, EventSeen, Finding, KeyFindings, RelayReport, RowSeen};
use tidings::{Durability, Envelope, Pattern, Tidings};

/// Events that one read asks for.
const PAGE_EVENTS: usize = 1_000;

/// The comparison, as programs see it.
#[derive(Debug, Serialize)]
struct Compared {
    outbox: String,
    destination: String,
    clean_up: &'static str,
    holds: bool,
    rows: u64,
    unsent: u64,
    dead: u64,
    events: u64,
    strangers: u64,
    missing: u64,
    gaps: u64,
    duplicates: u64,
    out_of_order: u64,
    keys_affected: u64,
    keys: Vec<KeyRow>,
    findings: Vec<FindingRow>,
    cannot_know: Vec<Unknown>,
}

/// A key with findings; null is the events without a key.
#[derive(Debug, Serialize)]
struct KeyRow {
    key: Option<String>,
    missing: u64,
    gaps: u64,
    duplicates: u64,
    out_of_order: u64,
}

/// One finding.
#[derive(Debug, Serialize)]
struct FindingRow {
    finding: &'static str,
    key: Option<String>,
    event_id: Option<String>,
    events: u64,
}

/// What this comparison cannot tell.
#[derive(Debug, Serialize)]
struct Unknown {
    what: &'static str,
    why: String,
}

/// What was read at the destination.
#[derive(Default)]
struct Events {
    seen: Vec<EventSeen>,
    damaged: u64,
}

pub(crate) async fn run(global: &Global, arguments: RelayVerify) -> Result<ExitCode, Failure> {
    let target = Target::parse(&arguments.to)?;
    let history = History::open(&target).await?;
    let outbox = source::open(&arguments.source, source::Access::DECIDE).await?;
    // The rows first: what is written meanwhile is then seen at the destination.
    let mut rows: Vec<RowSeen> = Vec::new();
    outbox.rows(&mut |row| rows.push(row)).await?;
    // Asked before the log is: what is carried over meanwhile is in the log then.
    let waiting = history.waiting().await?;
    let events = events(history.reader(&target)?, &waiting, &arguments).await?;
    history.close().await?;
    let report = tidings::outbox::verify(outbox.settlement(), rows, events.seen);
    let compared = Compared::new(
        (outbox.name(), target.name()),
        outbox.settlement(),
        report,
        events.damaged,
    );
    object(global.format(), &json(&compared), || table(&compared))?;
    let too_many = arguments.max_duplicates;
    let too_many = too_many.is_some_and(|max| compared.duplicates > max);
    Ok(if compared.holds && !too_many {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(4)
    })
}

/// What the destination can be asked.
enum History<'a> {
    /// A data folder, which is only read.
    Folder(&'a Path, LogReader),
    /// A broker, which may keep none.
    Broker(Tidings),
}

impl<'a> History<'a> {
    async fn open(target: &'a Target) -> Result<Self, Failure> {
        match target {
            Target::Folder(folder) => Ok(Self::Folder(folder, folder::read(folder)?)),
            Target::Broker(broker) => {
                let opened = Self::Broker(place::open(broker, Durability::Synced).await?);
                opened.reader(target)?;
                Ok(opened)
            }
            Target::StandardOutput => Err(without_history(target)),
        }
    }

    fn reader(&self, target: &Target) -> Result<&dyn Reader, Failure> {
        match self {
            Self::Folder(_, reader) => Ok(reader),
            Self::Broker(tidings) => {
                let reader = tidings.broker().reader();
                reader.ok_or_else(|| without_history(target))
            }
        }
    }

    /// What was accepted, and is not in the log of a folder yet.
    async fn waiting(&self) -> Result<Vec<Envelope>, Failure> {
        match self {
            Self::Folder(folder, _) => waiting(folder).await,
            Self::Broker(_) => Ok(Vec::new()),
        }
    }

    async fn close(self) -> Result<(), Failure> {
        if let Self::Broker(tidings) = self {
            tidings.shutdown().await?;
        }
        Ok(())
    }
}

fn without_history(target: &Target) -> Failure {
    Failure::new(
        codes::DESTINATION_WITHOUT_HISTORY,
        format!(
            "{} cannot be asked what it holds, so nothing can be compared; collect its events in a data folder and compare with that",
            target.name()
        ),
    )
}

/// The events that the destination keeps, and behind them those that wait beside its owner.
async fn events(
    reader: &dyn Reader,
    waiting: &[Envelope],
    arguments: &RelayVerify,
) -> Result<Events, Failure> {
    let patterns = match arguments.types.is_empty() {
        true => vec![Pattern::everything(), Pattern::internal()],
        false => arguments.types.clone(),
    };
    let is_wanted = |envelope: &Envelope| {
        let source = arguments.event_source.as_deref();
        source.is_none_or(|source| envelope.source() == Some(source))
    };
    let seen = |envelope: &Envelope| EventSeen {
        event_id: envelope.event_id().to_owned(),
        key: envelope.key().map(std::borrow::Cow::into_owned),
        sequence: number(envelope, arguments.sequence.as_deref()),
    };
    let mut events = Events::default();
    let mut from = reader.earliest().await?;
    loop {
        let request = ReadRequest {
            from,
            patterns: &patterns,
            events_max: PAGE_EVENTS,
        };
        let page = match reader.read(request).await {
            Ok(page) => page,
            Err(error) => {
                events.damaged += 1;
                from = behind_damage(error)?;
                continue;
            }
        };
        let found = page.events.iter().map(|recorded| &recorded.envelope);
        events
            .seen
            .extend(found.filter(|one| is_wanted(one)).map(seen));
        from = page.next;
        if page.at_end {
            break;
        }
    }
    let known: HashSet<&str> = events
        .seen
        .iter()
        .map(|one| one.event_id.as_str())
        .collect();
    let matches = |one: &&Envelope| {
        let mut patterns = patterns.iter();
        is_wanted(one)
            && !known.contains(one.event_id())
            && patterns.any(|pattern| pattern.matches(one.event_type()))
    };
    let behind: Vec<EventSeen> = waiting.iter().filter(matches).map(seen).collect();
    events.seen.extend(behind);
    Ok(events)
}

#[cfg(feature = "sqlite")]
async fn waiting(folder: &Path) -> Result<Vec<Envelope>, Failure> {
    let waiting = tidings::Waiting::open(folder).await?;
    let events = waiting.events().await;
    waiting.close().await;
    Ok(events?)
}

#[cfg(not(feature = "sqlite"))]
async fn waiting(_: &Path) -> Result<Vec<Envelope>, Failure> {
    Ok(Vec::new())
}

/// The number of an event within its key: an attribute, or a place in the payload.
fn number(envelope: &Envelope, name: Option<&str>) -> Option<u64> {
    let name = name?;
    let value: serde_json::Value = match name.strip_prefix('/') {
        Some(_) => {
            let payload: serde_json::Value =
                serde_json::from_slice(envelope.payload_bytes()).ok()?;
            payload.pointer(name)?.clone()
        }
        None => serde_json::from_str(envelope.extension(name)?).ok()?,
    };
    match value {
        serde_json::Value::Number(number) => number.as_u64(),
        // CloudEvents writes it as a text with zeros in front.
        serde_json::Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

impl Compared {
    fn new(
        (outbox, destination): (&str, String),
        settlement: Settlement,
        report: RelayReport,
        damaged: u64,
    ) -> Self {
        let mut cannot_know: Vec<Unknown> = report.blind.iter().map(Unknown::of).collect();
        if damaged > 0 {
            cannot_know.push(Unknown {
                what: "damage",
                why: format!(
                    "{damaged} stretches of the destination are damaged, and what stood there looks missing: tidings verify"
                ),
            });
        }
        Self {
            outbox: outbox.to_owned(),
            destination,
            clean_up: match settlement {
                Settlement::Delete => "delete",
                Settlement::Mark => "mark",
            },
            holds: report.holds(),
            rows: report.rows,
            unsent: report.unsent,
            dead: report.dead,
            events: report.events,
            strangers: report.strangers,
            missing: report.missing,
            gaps: report.gaps,
            duplicates: report.duplicates,
            out_of_order: report.inversions,
            keys_affected: report.keys_affected,
            keys: report.keys.into_iter().map(KeyRow::of).collect(),
            findings: report.findings.into_iter().map(FindingRow::of).collect(),
            cannot_know,
        }
    }
}

impl KeyRow {
    fn of((key, found): (Option<String>, KeyFindings)) -> Self {
        Self {
            key,
            missing: found.missing,
            gaps: found.gaps,
            duplicates: found.duplicates,
            out_of_order: found.inversions,
        }
    }
}

impl FindingRow {
    fn of(finding: Finding) -> Self {
        let row = |finding, key, event_id, events| Self {
            finding,
            key,
            event_id,
            events,
        };
        match finding {
            Finding::Missing { key, event_id } => row("missing", key, Some(event_id), 1),
            Finding::Gap { key, events } => row("gap", Some(key), None, events),
            Finding::Duplicate {
                key,
                event_id,
                times,
            } => row("duplicate", key, Some(event_id), times),
            Finding::Inversion { key, event_id } => {
                row("out_of_order", Some(key), Some(event_id), 1)
            }
        }
    }
}

impl Unknown {
    fn of(blind: &Blind) -> Self {
        Self {
            what: blind.name(),
            why: blind.to_string(),
        }
    }
}

fn table(compared: &Compared) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _written = write(&mut text, compared);
    text
}

fn write(text: &mut String, compared: &Compared) -> std::fmt::Result {
    writeln!(
        text,
        "{} -> {}: {} rows, {} of them wait and {} were given up; {} events, {} of them of no row",
        compared.outbox,
        compared.destination,
        compared.rows,
        compared.unsent,
        compared.dead,
        compared.events,
        compared.strangers
    )?;
    for row in &compared.keys {
        let key = row.key.as_deref().unwrap_or("(no key)");
        writeln!(
            text,
            "  {key}: {} missing, {} in gaps, {} duplicates, {} out of order",
            row.missing, row.gaps, row.duplicates, row.out_of_order
        )?;
    }
    let more = compared.keys_affected - compared.keys.len() as u64;
    if more > 0 {
        writeln!(text, "  and {more} more keys")?;
    }
    writeln!(
        text,
        "{}: {} lost, {} duplicates (same event id), {} out of order",
        if compared.holds {
            "holds as far as can be seen"
        } else {
            "does not hold"
        },
        compared.missing + compared.gaps,
        compared.duplicates,
        compared.out_of_order
    )?;
    for unknown in &compared.cannot_know {
        writeln!(text, "cannot know: {}", unknown.why)?;
    }
    Ok(())
}

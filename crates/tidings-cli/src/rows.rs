//! Events as rows and objects, and the scan of the log that look-ups share.

use crate::arguments::{Filter, Global};
use crate::failure::Failure;
use crate::output::{is_terminal, talk};
use crate::when::display;
use std::ops::ControlFlow;
use tidings::broker::{
    BrokerError, LookUpBy, LookUpRequest, Page, Position, ReadRequest, Reader, Recorded,
};
use tidings::core::{cloudevents, envelope_json};
use tidings::{Envelope, Pattern, Timestamp};

/// Events that one read asks for.
const PAGE_EVENTS: usize = 1_000;

/// The object of an event for programs: the envelope with its position, or the CloudEvent.
pub(crate) fn object(recorded: &Recorded, as_cloudevent: bool) -> String {
    if as_cloudevent {
        return cloudevents::to_json(&recorded.envelope);
    }
    stored(&recorded.envelope, Some(recorded.position))
}

/// The envelope with its position, which is null for an event that was just published and is not in the log yet.
pub(crate) fn stored(envelope: &Envelope, position: Option<Position>) -> String {
    let position = position.map_or_else(|| "null".to_owned(), |position| position.to_string());
    let mut line = envelope_json::to_json(envelope);
    line.pop();
    line.push_str(&format!(",\"position\":{position}}}"));
    line
}

/// The cells of an event for people.
pub(crate) fn cells(recorded: &Recorded, global: &Global) -> Vec<String> {
    let place = format!("{:>6}", recorded.position.to_string());
    envelope_cells(&recorded.envelope, &place, recorded.append_time, global)
}

/// The cells of an envelope that is at this place; the time of appending stands in for one that it does not give.
pub(crate) fn envelope_cells(
    envelope: &Envelope,
    place: &str,
    append_time: Timestamp,
    global: &Global,
) -> Vec<String> {
    let time = envelope
        .timestamp()
        .map_or(append_time, |given| given.instant());
    let mut cells = vec![
        place.to_owned(),
        display(time, is_terminal() && !global.utc),
        format!(
            "{:<28}",
            format!("{} v{}", envelope.event_type().name(), envelope.version())
        ),
        format!("{:<18}", envelope.aggregate_id().unwrap_or("-")),
        format!("{:<16}", envelope.source().unwrap_or("-")),
    ];
    if global.format() == crate::output::Format::Wide {
        cells.push(envelope.event_id().to_owned());
        cells.push(format!("corr {}", envelope.correlation_id()));
        cells.push(format!("cause {}", envelope.causation_id().unwrap_or("-")));
    }
    cells.push(preview(envelope.payload_bytes()));
    cells
}

/// The beginning of a payload, safe for a terminal.
fn preview(payload: &[u8]) -> String {
    const CHARACTERS: usize = 80;
    let text = String::from_utf8_lossy(payload);
    let mut shown: String = text
        .chars()
        .take(CHARACTERS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}

/// A filter with its points looked up.
pub(crate) struct Selection<'a> {
    filter: &'a Filter,
    patterns: Vec<Pattern>,
    /// Where the selection begins.
    pub(crate) from: Position,
    until: Option<Position>,
}

impl<'a> Selection<'a> {
    /// Looks up where the filter begins and ends.
    pub(crate) async fn new(filter: &'a Filter, reader: &dyn Reader) -> Result<Self, Failure> {
        let from = match filter.since {
            Some(since) => since.position(reader).await?,
            None => reader.earliest().await?,
        };
        let until = match filter.until {
            Some(until) => Some(until.position(reader).await?),
            None => None,
        };
        let mut patterns = filter.types.clone();
        if filter.internal {
            if patterns.is_empty() {
                patterns.push(Pattern::everything());
            }
            patterns.push(Pattern::internal());
        }
        Ok(Self {
            filter,
            patterns,
            from,
            until,
        })
    }

    /// The patterns to read by.
    pub(crate) fn into_patterns(self) -> Vec<Pattern> {
        self.patterns
    }

    fn wants(&self, recorded: &Recorded) -> bool {
        let envelope = &recorded.envelope;
        let source = self.filter.source.as_deref();
        let correlation_id = self.filter.correlation_id.as_deref();
        source.is_none_or(|source| envelope.source() == Some(source))
            && correlation_id.is_none_or(|id| envelope.correlation_id() == id)
    }

    /// The next stretch: of one key if that is asked for, which is looked up, else of everything.
    async fn page(&self, reader: &dyn Reader, from: Position) -> Result<Page, BrokerError> {
        match &self.filter.key {
            Some(key) => {
                let request = LookUpRequest {
                    by: LookUpBy::Key(key),
                    from,
                    patterns: &self.patterns,
                    events_max: PAGE_EVENTS,
                };
                reader.look_up(request).await
            }
            None => {
                let request = ReadRequest {
                    from,
                    patterns: &self.patterns,
                    events_max: PAGE_EVENTS,
                };
                reader.read(request).await
            }
        }
    }

    /// Reads the selection to the end of what is durable, telling damaged stretches and going on behind them.
    pub(crate) async fn each(
        &self,
        reader: &dyn Reader,
        mut take: impl FnMut(Recorded) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let mut from = self.from;
        loop {
            let page = match self.page(reader, from).await {
                Ok(page) => page,
                Err(error) => {
                    from = behind_damage(error)?;
                    continue;
                }
            };
            for recorded in page.events {
                if self.until.is_some_and(|until| recorded.position >= until) {
                    return Ok(());
                }
                if self.wants(&recorded) && take(recorded)?.is_break() {
                    return Ok(());
                }
            }
            from = page.next;
            if page.at_end || self.until.is_some_and(|until| from >= until) {
                return Ok(());
            }
        }
    }
}

/// Where to go on behind a damaged stretch, which is told; any other error is a failure.
pub(crate) fn behind_damage(error: BrokerError) -> Result<Position, Failure> {
    match error {
        BrokerError::Damaged { to, .. } => {
            talk(false, format_args!("warning: {error}; going on behind it"));
            Ok(to.next())
        }
        other => Err(other.into()),
    }
}

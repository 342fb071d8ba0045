//! Going on after an unclean stop: what the stopped run had published of events that are handled again is not published twice.
//!
//! An emitted event is on the log before its cause is settled. A run that is killed between the two leaves suspects: events that will be handled again and
//! whose effects may be there. Their ids repeat, so it is enough to know which are there. Causes stand before their effects, so one pass finds both.

use super::observer::Notice;
use super::pipeline::Pipeline;
use std::collections::HashSet;
use tidings_core::broker::{BrokerError, Page, Position, ReadRequest, Reader, Resumed};
use tidings_core::limits::PAUSE_RETRY_INTERVAL;
use tidings_core::{DedupeKey, Envelope, Pattern};

/// Events read at once.
const PAGE_EVENTS_MAX: usize = 4_096;

/// What an earlier run had published as a consequence of its suspects.
#[derive(Debug)]
pub(super) struct Known {
    before: Position,
    keys: HashSet<DedupeKey>,
}

impl Known {
    /// Whether an earlier run may have handled the event at a position.
    pub(super) fn is_suspect(&self, position: Option<Position>) -> bool {
        position.is_some_and(|position| position < self.before)
    }

    /// Whether an event is on the log.
    pub(super) fn has(&self, envelope: &Envelope) -> bool {
        self.keys.contains(&DedupeKey::of(envelope))
    }

    /// Whether the event with an id from a source is on the log.
    pub(super) fn has_id(&self, event_id: &str, source: &str) -> bool {
        self.keys
            .contains(&DedupeKey::from_id(event_id, Some(source)))
    }
}

/// Learns what an earlier run had published of its suspects, before the first of them is handled. On a broker without history there is nothing to learn from.
pub(super) async fn learn(pipeline: &Pipeline, resumed: Resumed) {
    let Some(reader) = pipeline.broker.reader() else {
        return;
    };
    if resumed.handed_out_before <= resumed.from {
        return;
    }
    let mut suspects: HashSet<String> = HashSet::new();
    let mut keys = HashSet::new();
    let complete = scan(pipeline, reader, resumed.from, |position, envelope| {
        if let Some(cause) = envelope.causation_id()
            && suspects.contains(cause)
        {
            keys.insert(DedupeKey::of(envelope));
        }
        if position < resumed.handed_out_before {
            suspects.insert(envelope.event_id().to_owned());
        }
    })
    .await;
    if complete {
        let before = resumed.handed_out_before;
        // Set once, here, before anything is fetched.
        let _first = pipeline.known.set(Known { before, keys });
    }
}

/// Which of some events are on the log behind their cause.
pub(super) async fn recorded(
    pipeline: &Pipeline,
    cause: Option<Position>,
    wanted: &HashSet<DedupeKey>,
) -> HashSet<DedupeKey> {
    let mut found = HashSet::new();
    let Some(reader) = pipeline.broker.reader() else {
        return found;
    };
    let from = cause.unwrap_or_default();
    scan(pipeline, reader, from, |_, envelope| {
        let key = DedupeKey::of(envelope);
        if wanted.contains(&key) {
            found.insert(key);
        }
    })
    .await;
    found
}

/// Looks at everything from a position to the end as it is now; `false` if draining began before.
async fn scan(
    pipeline: &Pipeline,
    reader: &dyn Reader,
    from: Position,
    mut look: impl FnMut(Position, &Envelope),
) -> bool {
    let patterns = [Pattern::everything(), Pattern::internal()];
    let mut next = from;
    let mut end = None;
    loop {
        if pipeline.lock().draining {
            return false;
        }
        let request = ReadRequest {
            from: next,
            patterns: &patterns,
            events_max: PAGE_EVENTS_MAX,
        };
        let page = match read_page(reader, request, &mut end).await {
            Ok(page) => page,
            Err(BrokerError::Removed { oldest, .. }) if oldest > next => {
                next = oldest;
                continue;
            }
            Err(error) => {
                if let BrokerError::Damaged { to, .. } = &error
                    && to.next() > next
                {
                    pipeline.notice(Notice::Damaged { error: &error });
                    next = to.next();
                    continue;
                }
                let delay = PAUSE_RETRY_INTERVAL;
                let error = &error;
                pipeline.notice(Notice::BrokerFailed { error, delay });
                pipeline.clock.sleep(delay).await;
                continue;
            }
        };
        for recorded in &page.events {
            look(recorded.position, &recorded.envelope);
        }
        let stands = page.next == next;
        next = page.next;
        if page.at_end || stands || end.is_some_and(|end| next >= end) {
            return true;
        }
    }
}

/// Reads a page; the end is asked for once, so that a log that grows faster than it is read does not hold the start up for ever.
async fn read_page(
    reader: &dyn Reader,
    request: ReadRequest<'_>,
    end: &mut Option<Position>,
) -> Result<Page, BrokerError> {
    if end.is_none() {
        *end = Some(reader.end().await?);
    }
    reader.read(request).await
}

//! History without a group: tail, export, look-ups.

use super::{BrokerError, Position};
use crate::event_id::DedupeKey;
use crate::limits::BATCH_EVENTS_MAX;
use crate::{BoxFuture, Envelope, Pattern, Timestamp};
use std::collections::HashMap;

/// An event with its place in history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Where it stands.
    pub position: Position,
    /// When the broker appended it; never earlier than that of an earlier position.
    pub append_time: Timestamp,
    /// The event.
    pub envelope: Envelope,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct ReadRequest<'a> {
    /// The first position of interest.
    pub from: Position,
    /// Only events that match one of these; none given means everything but internal facts.
    pub patterns: &'a [Pattern],
    /// At most so many events.
    pub events_max: usize,
}

/// What events are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookUpBy<'a> {
    /// Their id, whatever their source: ids of foreign events are unique within their source only.
    EventId(&'a str),
    /// Their key, or their aggregate id where the event has another key.
    Key(&'a str),
}

impl LookUpBy<'_> {
    /// Whether an event is one of those.
    pub fn matches(&self, envelope: &Envelope) -> bool {
        match self {
            Self::EventId(id) => envelope.event_id() == *id,
            Self::Key(key) => {
                envelope.aggregate_id() == Some(*key) || envelope.key().as_deref() == Some(*key)
            }
        }
    }
}

/// What to look up.
#[derive(Debug, Clone)]
pub struct LookUpRequest<'a> {
    /// The id or the key.
    pub by: LookUpBy<'a>,
    /// The first position of interest.
    pub from: Position,
    /// Only events that match one of these; none given means everything but internal facts.
    pub patterns: &'a [Pattern],
    /// At most so many events.
    pub events_max: usize,
}

/// A stretch of history.
#[derive(Debug, Clone)]
pub struct Page {
    /// The events that matched, in order.
    pub events: Vec<Recorded>,
    /// Where to go on; all before it was looked at.
    pub next: Position,
    /// Whether `next` is the end of what was durable.
    pub at_end: bool,
}

/// Reads history.
pub trait Reader: Send + Sync {
    /// Reads a stretch of what is durable. It may return fewer events than asked for, also none, before the end.
    ///
    /// **Guarantee**: a prefix of the durable order, never more; each event as it was given.
    ///
    /// **Errors**: [`BrokerError::Removed`] below the oldest position, [`BrokerError::Damaged`] at a damaged stretch; reading goes on behind it when asked from there.
    fn read<'a>(&'a self, request: ReadRequest<'a>) -> BoxFuture<'a, Result<Page, BrokerError>>;

    /// Looks up events by id or by key, a stretch at a time: what it answers is what [`read`](Self::read) would, less the events that are not asked for.
    ///
    /// A broker with an index looks only where such events may be. One without keeps this method as it is: it reads history, and the answer is the same, later.
    ///
    /// **Guarantee**: each event answered was compared with what was asked for; none that can be read is left out.
    ///
    /// **Errors**: as [`read`](Self::read). A damaged stretch is told where it may have held such an event.
    fn look_up<'a>(
        &'a self,
        request: LookUpRequest<'a>,
    ) -> BoxFuture<'a, Result<Page, BrokerError>> {
        Box::pin(async move {
            let LookUpRequest {
                by,
                from,
                patterns,
                events_max,
            } = request;
            let read = ReadRequest {
                from,
                patterns,
                events_max,
            };
            let mut page = self.read(read).await?;
            page.events
                .retain(|recorded| by.matches(&recorded.envelope));
            Ok(page)
        })
    }

    /// For each of these events, the first one in history with the same [dedupe key](DedupeKey), internal facts included; in their order.
    ///
    /// This is how an import that is repeated finds what it need not write again. As with [`look_up`](Self::look_up), a broker without an index reads all of its history for the answer.
    ///
    /// **Guarantee**: an event that was acknowledged before the call is found, unless it was removed or is damaged: what is lost counts as not there.
    ///
    /// **Units**: at most [`BATCH_EVENTS_MAX`] events at once.
    ///
    /// **Errors**: those of the disk.
    fn recorded<'a>(
        &'a self,
        envelopes: &'a [Envelope],
    ) -> BoxFuture<'a, Result<Vec<Option<Recorded>>, BrokerError>> {
        Box::pin(async move {
            let mut places: HashMap<DedupeKey, Vec<usize>> = HashMap::new();
            for (place, envelope) in envelopes.iter().enumerate() {
                let key = DedupeKey::of(envelope);
                places.entry(key).or_default().push(place);
            }
            let mut found = vec![None; envelopes.len()];
            let patterns = [Pattern::everything(), Pattern::internal()];
            let mut from = self.earliest().await?;
            while !places.is_empty() {
                let request = ReadRequest {
                    from,
                    patterns: &patterns,
                    events_max: BATCH_EVENTS_MAX,
                };
                let page = match self.read(request).await {
                    Err(BrokerError::Damaged { to, .. }) => {
                        from = to.next();
                        continue;
                    }
                    read => read?,
                };
                for recorded in page.events {
                    let key = DedupeKey::of(&recorded.envelope);
                    for place in places.remove(&key).into_iter().flatten() {
                        if let Some(answer) = found.get_mut(place) {
                            *answer = Some(recorded.clone());
                        }
                    }
                }
                if page.at_end {
                    break;
                }
                from = page.next;
            }
            Ok(found)
        })
    }

    /// The oldest position kept.
    fn earliest(&self) -> BoxFuture<'_, Result<Position, BrokerError>>;

    /// The position that the next durable event will have or already has; everything before it is durable.
    fn end(&self) -> BoxFuture<'_, Result<Position, BrokerError>>;

    /// The first position appended at `time` or later; the end if there is none.
    fn position_at(&self, time: Timestamp) -> BoxFuture<'_, Result<Position, BrokerError>>;

    /// Waits until the end is beyond `position`.
    ///
    /// **Cancel**: no effect.
    fn wait_beyond(&self, position: Position) -> BoxFuture<'_, Result<(), BrokerError>>;
}

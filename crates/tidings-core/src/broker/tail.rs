//! Events without a group, in a stream: from some point on, to the end as it is now or further. For `tail`, exports and bridges on every broker.

use super::{Broker, BrokerError, Position, ReadRequest, Reader, StartAt};
use crate::{BoxFuture, Envelope, Pattern, Timestamp};
use std::sync::Arc;

/// What to read along.
#[derive(Debug, Clone)]
pub struct TailRequest {
    /// An event must match one of these; an adapter may give more.
    pub patterns: Vec<Pattern>,
    /// Where to begin. A broker without history knows [`StartAt::Latest`] alone.
    pub start: StartAt,
}

/// An event that was read along.
#[derive(Debug, Clone, PartialEq)]
pub struct Tailed {
    /// Where it is, for a person: a position, or a partition and an offset.
    pub place: Arc<str>,
    /// Its position, on a broker with one order of all events.
    pub position: Option<Position>,
    /// When the broker took it, if it says so.
    pub append_time: Option<Timestamp>,
    /// The event; with a problem, an envelope around the raw bytes.
    pub envelope: Envelope,
    /// Why the message is no event.
    pub problem: Option<Arc<str>>,
}

/// Events that were read along, and whether more are there now.
#[derive(Debug, Clone)]
pub struct TailPage {
    /// In the order of each key.
    pub events: Vec<Tailed>,
    /// Everything that was there when reading began was given: where an export ends.
    pub at_end: bool,
}

/// A stream of events that belongs to no group: nothing is settled, others are not concerned.
pub trait Tail: Send {
    /// The next events; waits until there is one, unless the end as it was when reading began is reached, which is told once.
    ///
    /// **Guarantee**: per key in the order of the broker, none left out.
    ///
    /// **Errors**: transient while the broker cannot be reached: the next call goes on where this one stood.
    ///
    /// **Cancel**: nothing is lost.
    fn next(&mut self, events_max: usize) -> BoxFuture<'_, Result<TailPage, BrokerError>>;
}

/// Reads along by position, for brokers with a [`Reader`].
pub(super) async fn by_position<'a, B: Broker + ?Sized>(
    broker: &'a B,
    request: TailRequest,
) -> Result<Box<dyn Tail + 'a>, BrokerError> {
    let Some(reader) = broker.reader() else {
        return Err(BrokerError::Unsupported {
            broker: broker.capabilities().name,
            what: "read events without a group".to_owned(),
        });
    };
    let end = reader.end().await?;
    let from = match request.start {
        StartAt::Earliest => reader.earliest().await?,
        StartAt::Latest => end,
        StartAt::Position(position) => position,
        StartAt::Time(time) => reader.position_at(time).await?,
    };
    Ok(Box::new(ByPosition {
        reader,
        patterns: request.patterns,
        from,
        end,
        told: false,
    }))
}

struct ByPosition<'a> {
    reader: &'a dyn Reader,
    patterns: Vec<Pattern>,
    from: Position,
    /// Where the end was when reading began.
    end: Position,
    told: bool,
}

impl Tail for ByPosition<'_> {
    fn next(&mut self, events_max: usize) -> BoxFuture<'_, Result<TailPage, BrokerError>> {
        Box::pin(async move {
            loop {
                if self.from >= self.end && !self.told {
                    self.told = true;
                    return Ok(TailPage {
                        events: Vec::new(),
                        at_end: true,
                    });
                }
                let request = ReadRequest {
                    from: self.from,
                    patterns: &self.patterns,
                    events_max,
                };
                let page = match self.reader.read(request).await {
                    Err(error @ BrokerError::Damaged { to, .. }) => {
                        self.from = to.next();
                        return Err(error);
                    }
                    read => read?,
                };
                let stood = self.from;
                self.from = page.next;
                if !page.events.is_empty() {
                    let events = page.events.into_iter().map(|recorded| Tailed {
                        place: recorded.position.to_string().into(),
                        position: Some(recorded.position),
                        append_time: Some(recorded.append_time),
                        envelope: recorded.envelope,
                        problem: None,
                    });
                    return Ok(TailPage {
                        events: events.collect(),
                        at_end: false,
                    });
                }
                if page.at_end && (self.told || stood == self.from) {
                    self.reader.wait_beyond(self.from).await?;
                }
            }
        })
    }
}

//! History: what happened, read without a group.

use crate::Error;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use tidings_core::Pattern;
use tidings_core::broker::{
    Broker, BrokerError, LookUpBy, LookUpRequest, Page, Position, ReadRequest, Reader, Recorded,
};

/// Events read at once: a compromise between calls and memory.
const PAGE_EVENTS_MAX: usize = 256;

/// The events of a pattern, oldest first, up to the end as it was when reading began.
///
/// No group is involved: nothing is settled, and reading twice gives the same.
#[must_use = "history is read by calling `next`"]
pub struct History {
    broker: Arc<dyn Broker>,
    patterns: Vec<Pattern>,
    key: Option<String>,
    from: Position,
    end: Position,
    page: VecDeque<Recorded>,
}

impl History {
    /// Begins at the oldest event kept.
    pub(crate) async fn open(
        broker: Arc<dyn Broker>,
        patterns: Vec<Pattern>,
    ) -> Result<Self, Error> {
        let reader = reader_of(&*broker)?;
        let from = reader.earliest().await?;
        let end = reader.end().await?;
        Ok(Self {
            broker,
            patterns,
            key: None,
            from,
            end,
            page: VecDeque::new(),
        })
    }

    /// Goes on at a position instead of the oldest event kept.
    pub fn from(mut self, position: Position) -> Self {
        self.from = position;
        self.page.clear();
        self
    }

    /// Only the events of one key, or of one aggregate where an event has another key. On the embedded log they are looked up, not searched for.
    pub fn of_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self.page.clear();
        self
    }

    /// The next event; `None` at the end.
    ///
    /// **Errors**: [`BrokerError::Damaged`] at a damaged stretch, of one key only where it may have held such an event.
    ///
    /// **Cancel**: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Recorded>, Error> {
        while self.page.is_empty() && self.from < self.end {
            let page = self.read_page().await?;
            let end = self.end;
            self.page = page.events.into();
            self.page.retain(|event| event.position < end);
            self.from = if page.at_end { end } else { page.next };
        }
        Ok(self.page.pop_front())
    }

    async fn read_page(&self) -> Result<Page, Error> {
        let reader = reader_of(&*self.broker)?;
        let (from, patterns, events_max) = (self.from, self.patterns.as_slice(), PAGE_EVENTS_MAX);
        let page = match &self.key {
            Some(key) => {
                let by = LookUpBy::Key(key);
                let request = LookUpRequest {
                    by,
                    from,
                    patterns,
                    events_max,
                };
                reader.look_up(request).await
            }
            None => {
                let request = ReadRequest {
                    from,
                    patterns,
                    events_max,
                };
                reader.read(request).await
            }
        };
        Ok(page?)
    }

    /// All events that are left. For tests and small folders: they are all in memory at once.
    ///
    /// **Errors**: as [`next`](Self::next).
    ///
    /// **Cancel**: what was read is lost; reading again gives the same.
    pub async fn collect(mut self) -> Result<Vec<Recorded>, Error> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("patterns", &self.patterns)
            .field("key", &self.key)
            .field("from", &self.from)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// The first event with an id, internal facts included.
pub(crate) async fn find(reader: &dyn Reader, event_id: &str) -> Result<Option<Recorded>, Error> {
    let patterns = [Pattern::everything(), Pattern::internal()];
    let mut from = reader.earliest().await?;
    let mut damage = None;
    loop {
        let request = LookUpRequest {
            by: LookUpBy::EventId(event_id),
            from,
            patterns: &patterns,
            events_max: 1,
        };
        match reader.look_up(request).await {
            Ok(mut page) if !page.events.is_empty() => return Ok(page.events.pop()),
            Ok(page) if page.at_end => {
                return damage.map_or(Ok(None), |damage| Err(Error::from(damage)));
            }
            Ok(page) => from = page.next,
            Err(BrokerError::Damaged { to, .. }) if damage.is_some() => from = to.next(),
            Err(error) => match &error {
                BrokerError::Damaged { to, .. } => {
                    from = to.next();
                    damage = Some(error);
                }
                _ => return Err(error.into()),
            },
        }
    }
}

/// The broker's reader, or an error that says that it has none.
pub(crate) fn reader_of(broker: &dyn Broker) -> Result<&dyn Reader, Error> {
    broker.reader().ok_or_else(|| {
        let source = BrokerError::Unsupported {
            broker: broker.capabilities().name,
            what: "read history; only consumers that were there see its events".to_owned(),
        };
        Error::from(source)
    })
}

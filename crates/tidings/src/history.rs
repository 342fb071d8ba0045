//! History: what happened, read without a group.

use crate::Error;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use tidings_core::Pattern;
use tidings_core::broker::{Broker, BrokerError, Position, ReadRequest, Reader, Recorded};

/// Events read at once: a compromise between calls and memory.
const PAGE_EVENTS_MAX: usize = 256;

/// The events of a pattern, oldest first, up to the end as it was when reading began.
///
/// No group is involved: nothing is settled, and reading twice gives the same.
#[must_use = "history is read by calling `next`"]
pub struct History {
    broker: Arc<dyn Broker>,
    patterns: Vec<Pattern>,
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

    /// The next event; `None` at the end.
    ///
    /// **Errors**: [`BrokerError::Damaged`] at a damaged stretch.
    ///
    /// **Cancel**: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Recorded>, Error> {
        while self.page.is_empty() && self.from < self.end {
            let request = ReadRequest {
                from: self.from,
                patterns: &self.patterns,
                events_max: PAGE_EVENTS_MAX,
            };
            let page = reader_of(&*self.broker)?.read(request).await?;
            let end = self.end;
            self.page = page.events.into();
            self.page.retain(|event| event.position < end);
            self.from = if page.at_end { end } else { page.next };
        }
        Ok(self.page.pop_front())
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
            .field("from", &self.from)
            .field("end", &self.end)
            .finish_non_exhaustive()
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

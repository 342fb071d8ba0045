//! Dead letters in the order in which they were recorded, read from history as a stream.

use super::record::{DeadLetter, EVENT_TYPE};
use std::collections::{HashSet, VecDeque};
use tidings_core::broker::{BrokerError, Position, ReadRequest, Reader};
use tidings_core::{DedupeKey, EventType, Pattern};

/// Facts read at once.
const PAGE_EVENTS_MAX: usize = 256;

/// All dead letters from the oldest event kept to the end as it is when it is reached, each once.
///
/// ```no_run
/// # async fn show(reader: &dyn tidings_core::broker::Reader) -> Result<(), Box<dyn std::error::Error>> {
/// let mut letters = tidings_flow::dead_letter::list(reader);
/// while let Some(letter) = letters.next().await {
///     let letter = letter?;
///     eprintln!("{} {}", letter.record.event_id, letter.record.reason);
/// }
/// # Ok(())
/// # }
/// ```
pub fn list(reader: &dyn Reader) -> DeadLetters<'_> {
    DeadLetters {
        reader,
        pattern: Pattern::exact(&EventType::trusted(EVENT_TYPE.to_owned())),
        next: None,
        at_end: false,
        page: VecDeque::new(),
        seen: HashSet::new(),
    }
}

/// A stream of dead letters; it keeps 16 bytes of each in memory to tell doubles.
pub struct DeadLetters<'a> {
    reader: &'a dyn Reader,
    pattern: Pattern,
    /// Where to read on; none before the start.
    next: Option<Position>,
    at_end: bool,
    page: VecDeque<DeadLetter>,
    seen: HashSet<DedupeKey>,
}

impl std::fmt::Debug for DeadLetters<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters")
            .field("next", &self.next)
            .field("seen", &self.seen.len())
            .finish_non_exhaustive()
    }
}

impl DeadLetters<'_> {
    /// The next dead letter; `None` at the end. A fact that cannot be read as one is passed over.
    ///
    /// **Errors**: what the reader tells; after [`BrokerError::Damaged`] the next call goes on behind the damage.
    ///
    /// **Cancel**: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<DeadLetter, BrokerError>> {
        loop {
            if let Some(letter) = self.page.pop_front() {
                return Some(Ok(letter));
            }
            if self.at_end {
                return None;
            }
            if let Err(error) = self.read_page().await {
                return Some(Err(error));
            }
        }
    }

    async fn read_page(&mut self) -> Result<(), BrokerError> {
        let from = match self.next {
            Some(next) => next,
            None => self.reader.earliest().await?,
        };
        let request = ReadRequest {
            from,
            patterns: std::slice::from_ref(&self.pattern),
            events_max: PAGE_EVENTS_MAX,
        };
        let page = match self.reader.read(request).await {
            Ok(page) => page,
            Err(error) => {
                if let BrokerError::Damaged { to, .. } = &error {
                    self.next = Some(to.next().max(from.next()));
                }
                return Err(error);
            }
        };
        self.at_end = page.at_end || page.next == from;
        self.next = Some(page.next);
        for recorded in page.events {
            if !self.seen.insert(DedupeKey::of(&recorded.envelope)) {
                continue;
            }
            match DeadLetter::from_envelope(&recorded.envelope) {
                Ok(letter) => self.page.push_back(letter),
                Err(error) => tracing::warn!(%error, "a fact is passed over"),
            }
        }
        Ok(())
    }
}

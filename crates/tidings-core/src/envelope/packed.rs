//! How an envelope lies in memory: all its texts one behind the other in one block, and where each ends.
//!
//! A consumer decodes millions of envelopes on one thread and drops them on another, where each allocation costs more than everything else that happens to an
//! event. So there is one of them for a usual event.

use super::{Envelope, EnvelopeParts};
use crate::limits::{ENVELOPE_PAYLOAD_INLINE_BYTES_MAX, PAYLOAD_SHARED_RATIO_MAX};
use crate::payload::Carriage;
use crate::timestamp::GivenTimestampRef;
use crate::{Payload, Timestamp};
use bytes::Bytes;
use std::cell::RefCell;
use std::sync::Arc;

/// The texts that every envelope has room for, in the order in which they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    EventType,
    EventId,
    AggregateId,
    Timestamp,
    Source,
    CorrelationId,
    CausationId,
    ContentType,
}

const TEXTS: usize = 8;

/// Bits of `given` behind those of the texts.
const TIMESTAMP: u16 = 1 << TEXTS;
const VERSION: u16 = 1 << (TEXTS + 1);
const PAYLOAD: u16 = 1 << (TEXTS + 2);
const PAYLOAD_IS_BINARY: u16 = 1 << (TEXTS + 3);

/// Room for the texts of a usual event.
const SCRATCH_BYTES: usize = 512;
/// More room than this is not kept for the next event.
const SCRATCH_BYTES_MAX: usize = 65_536;

thread_local! {
    /// Where an envelope is put together, before its size is known.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(SCRATCH_BYTES));
}

/// An envelope as it lies in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    /// The texts, those of the extensions, and a short JSON payload.
    block: Arc<str>,
    /// What few events have.
    rest: Option<Arc<Rest>>,
    timestamp_micros: i64,
    /// Where each text ends; a text that is not given is empty.
    ends: [u32; TEXTS],
    version: u32,
    /// Which attributes are given.
    given: u16,
}

#[derive(Debug, PartialEq, Eq)]
struct Rest {
    /// Where the names and the values of the extensions end, in turn.
    extension_ends: Vec<u32>,
    /// A payload that does not lie in the block.
    payload: Option<Bytes>,
}

/// The attributes of an envelope as a store holds them: borrowed bytes.
#[derive(Debug, Clone, Default)]
pub struct StoredEnvelope<'a> {
    /// The type as given.
    pub event_type: &'a [u8],
    /// Unique within its source.
    pub event_id: &'a [u8],
    /// What the fact is about.
    pub aggregate_id: Option<&'a [u8]>,
    /// When it happened, and the text where printing the instant would differ.
    pub timestamp: Option<(Timestamp, Option<&'a [u8]>)>,
    /// Version of the payload's schema.
    pub version: Option<u32>,
    /// Who states it.
    pub source: Option<&'a [u8]>,
    /// What ties it to the other events of one business flow.
    pub correlation_id: Option<&'a [u8]>,
    /// The event whose handling emitted it.
    pub causation_id: Option<&'a [u8]>,
    /// What the payload's bytes are.
    pub content_type: Option<&'a [u8]>,
    /// Further attributes in the order given: name and JSON text of the value.
    pub extensions: Vec<(&'a [u8], &'a [u8])>,
    /// How a JSON envelope carries the payload, and its bytes.
    pub payload: Option<(Carriage, &'a [u8])>,
}

impl<'a> StoredEnvelope<'a> {
    /// The texts that every envelope has room for, in the order of [`Text`].
    fn texts(&self) -> [Option<&'a [u8]>; TEXTS] {
        [
            Some(self.event_type),
            Some(self.event_id),
            self.aggregate_id,
            self.timestamp.and_then(|(_, text)| text),
            self.source,
            self.correlation_id,
            self.causation_id,
            self.content_type,
        ]
    }
}

/// Makes envelopes of what a store holds, one after the other in the same room.
#[derive(Debug, Default)]
pub struct Packer {
    scratch: Vec<u8>,
}

impl Packer {
    /// The envelope of what a store holds; `None` if a text is not UTF-8. No limit is checked again.
    ///
    /// The payload lies in `block`, which may hold much else: a long payload stays a part of it, and nothing is copied for it.
    pub fn pack(&mut self, stored: &StoredEnvelope<'_>, block: &Bytes) -> Option<Envelope> {
        let packed = Packed::of_stored(stored, Some(block), &mut self.scratch)?;
        Some(Envelope { packed })
    }
}

/// The text of a payload that goes into the envelope's own block.
fn inline(carriage: Carriage, bytes: &[u8]) -> Option<&str> {
    (carriage == Carriage::Json && bytes.len() <= ENVELOPE_PAYLOAD_INLINE_BYTES_MAX)
        .then(|| std::str::from_utf8(bytes).ok())?
}

/// Bytes on their own: a part of the block that they lie in, unless that is much longer than they are.
fn apart(bytes: &[u8], block: Option<&Bytes>) -> Bytes {
    let is_worth_it =
        |block: &&Bytes| bytes.len().saturating_mul(PAYLOAD_SHARED_RATIO_MAX) >= block.len();
    match block.filter(is_worth_it) {
        Some(block) => block.slice_ref(bytes),
        None => Bytes::copy_from_slice(bytes),
    }
}

impl Packed {
    pub(super) fn of_parts(parts: &EnvelopeParts) -> Self {
        let stored = StoredEnvelope {
            event_type: parts.event_type.as_str().as_bytes(),
            event_id: parts.event_id.as_bytes(),
            aggregate_id: parts.aggregate_id.as_deref().map(str::as_bytes),
            timestamp: parts
                .timestamp
                .as_ref()
                .map(|given| (given.instant(), given.text().map(str::as_bytes))),
            version: parts.version,
            source: parts.source.as_deref().map(str::as_bytes),
            correlation_id: parts.correlation_id.as_deref().map(str::as_bytes),
            causation_id: parts.causation_id.as_deref().map(str::as_bytes),
            content_type: parts.content_type.as_deref().map(str::as_bytes),
            extensions: parts
                .extensions
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                .collect(),
            payload: parts
                .payload
                .as_ref()
                .map(|payload| (payload.carriage(), payload.bytes().as_ref())),
        };
        Self::of_texts(&stored, parts.payload.as_ref().map(Payload::bytes))
    }

    /// Of attributes that are known to be UTF-8. A long payload stays a part of `whole`, or is copied where nothing is shared.
    pub(super) fn of_texts(stored: &StoredEnvelope<'_>, whole: Option<&Bytes>) -> Self {
        SCRATCH.with_borrow_mut(|scratch| {
            let packed = Self::of_stored(stored, whole, scratch);
            // A large event leaves no large room behind.
            if scratch.capacity() > SCRATCH_BYTES_MAX {
                *scratch = Vec::with_capacity(SCRATCH_BYTES);
            }
            packed.expect("every text is UTF-8")
        })
    }

    fn of_stored(
        stored: &StoredEnvelope<'_>,
        whole: Option<&Bytes>,
        scratch: &mut Vec<u8>,
    ) -> Option<Self> {
        scratch.clear();
        let mut given = 0;
        let mut ends = [0; TEXTS];
        for ((index, text), end) in stored.texts().into_iter().enumerate().zip(&mut ends) {
            if let Some(text) = text {
                scratch.extend_from_slice(text);
                given |= 1 << index;
            }
            *end = offset(scratch);
        }
        let mut extension_ends = Vec::with_capacity(2 * stored.extensions.len());
        for (name, value) in &stored.extensions {
            scratch.extend_from_slice(name);
            extension_ends.push(offset(scratch));
            scratch.extend_from_slice(value);
            extension_ends.push(offset(scratch));
        }
        let texts_end = scratch.len();
        let mut payload_apart = None;
        if let Some((carriage, bytes)) = stored.payload {
            given |= PAYLOAD;
            if carriage == Carriage::Binary {
                given |= PAYLOAD_IS_BINARY;
            }
            match inline(carriage, bytes) {
                Some(text) => scratch.extend_from_slice(text.as_bytes()),
                None => payload_apart = Some(apart(bytes, whole)),
            }
        }
        let block = std::str::from_utf8(scratch).ok()?;
        // The block as a whole is UTF-8; so is each text in it if none begins in the middle of a character.
        let borders = ends.iter().chain(&extension_ends).map(|end| *end as usize);
        let mut borders = borders.chain([texts_end]);
        if !borders.all(|border| block.is_char_boundary(border)) {
            return None;
        }
        if stored.timestamp.is_some() {
            given |= TIMESTAMP;
        }
        if stored.version.is_some() {
            given |= VERSION;
        }
        let rest = (payload_apart.is_some() || !extension_ends.is_empty()).then(|| {
            Arc::new(Rest {
                extension_ends,
                payload: payload_apart,
            })
        });
        Some(Self {
            block: block.into(),
            rest,
            timestamp_micros: stored
                .timestamp
                .map_or(0, |(instant, _)| instant.as_micros()),
            ends,
            version: stored.version.unwrap_or(0),
            given,
        })
    }

    /// The attributes as a store takes them.
    pub(super) fn stored(&self) -> StoredEnvelope<'_> {
        let bytes = self.block.as_bytes();
        let mut from = 0;
        let mut texts = [None; TEXTS];
        for ((index, text), end) in texts.iter_mut().enumerate().zip(self.ends) {
            if self.has(1 << index) {
                *text = bytes.get(from..end as usize);
            }
            from = end as usize;
        }
        let [
            event_type,
            event_id,
            aggregate_id,
            timestamp,
            source,
            rest @ ..,
        ] = texts;
        let [correlation_id, causation_id, content_type] = rest;
        StoredEnvelope {
            event_type: event_type.unwrap_or_default(),
            event_id: event_id.unwrap_or_default(),
            aggregate_id,
            timestamp: self
                .has(TIMESTAMP)
                .then(|| (Timestamp::from_micros(self.timestamp_micros), timestamp)),
            version: self.version(),
            source,
            correlation_id,
            causation_id,
            content_type,
            extensions: self
                .extensions()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                .collect(),
            payload: self
                .payload_carriage()
                .map(|carriage| (carriage, self.payload_bytes())),
        }
    }

    fn has(&self, bit: u16) -> bool {
        self.given & bit != 0
    }

    fn slice(&self, from: u32, to: u32) -> &str {
        self.block
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }

    pub(super) fn text(&self, text: Text) -> &str {
        let index = text as usize;
        let end = |index: usize| self.ends.get(index).copied().unwrap_or(0);
        self.slice(index.checked_sub(1).map_or(0, end), end(index))
    }

    pub(super) fn optional(&self, text: Text) -> Option<&str> {
        self.has(1 << text as u16).then(|| self.text(text))
    }

    pub(super) fn timestamp(&self) -> Option<GivenTimestampRef<'_>> {
        self.has(TIMESTAMP).then(|| {
            let instant = Timestamp::from_micros(self.timestamp_micros);
            GivenTimestampRef::new(instant, self.optional(Text::Timestamp))
        })
    }

    pub(super) fn version(&self) -> Option<u32> {
        self.has(VERSION).then_some(self.version)
    }

    fn extension_ends(&self) -> &[u32] {
        self.rest.as_ref().map_or(&[], |rest| &rest.extension_ends)
    }

    fn fixed_end(&self) -> u32 {
        self.ends.last().copied().unwrap_or(0)
    }

    pub(super) fn extensions(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let ends = self.extension_ends();
        ends.chunks_exact(2).enumerate().map(move |(index, pair)| {
            let before = index.checked_sub(1).and_then(|last| ends.get(2 * last + 1));
            let start = before.copied().unwrap_or_else(|| self.fixed_end());
            let [name_end, value_end] = *pair else {
                return ("", "");
            };
            (self.slice(start, name_end), self.slice(name_end, value_end))
        })
    }

    pub(super) fn payload_carriage(&self) -> Option<Carriage> {
        self.has(PAYLOAD).then_some(if self.has(PAYLOAD_IS_BINARY) {
            Carriage::Binary
        } else {
            Carriage::Json
        })
    }

    fn payload_apart(&self) -> Option<&Bytes> {
        self.rest.as_ref().and_then(|rest| rest.payload.as_ref())
    }

    pub(super) fn payload_text(&self) -> Option<&str> {
        if !self.has(PAYLOAD) || self.payload_apart().is_some() {
            return None;
        }
        let extensions_end = self.extension_ends().last().copied();
        let start = extensions_end.unwrap_or_else(|| self.fixed_end());
        self.block.get(start as usize..)
    }

    pub(super) fn payload_bytes(&self) -> &[u8] {
        match self.payload_apart() {
            Some(bytes) => bytes,
            None => self.payload_text().unwrap_or_default().as_bytes(),
        }
    }

    pub(super) fn payload(&self) -> Option<Payload> {
        let carriage = self.payload_carriage()?;
        let bytes = match self.payload_apart() {
            Some(bytes) => bytes.clone(),
            None => Bytes::copy_from_slice(self.payload_bytes()),
        };
        Some(Payload::trusted(bytes, carriage))
    }
}

/// Where the block ends by now. Records and lines are limited to far less than this can hold.
fn offset(scratch: &[u8]) -> u32 {
    u32::try_from(scratch.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::GivenTimestamp;
    use proptest::option;
    use proptest::prelude::*;

    fn parts() -> impl Strategy<Value = EnvelopeParts> {
        let text = || option::of(any::<String>());
        let payload = option::of((any::<Vec<u8>>(), any::<bool>()));
        (
            (
                any::<String>(),
                any::<String>(),
                text(),
                text(),
                text(),
                text(),
                text(),
            ),
            option::of((any::<i64>(), text())),
            option::of(any::<u32>()),
            proptest::collection::vec((any::<String>(), any::<String>()), 0..4),
            payload,
        )
            .prop_map(|(texts, timestamp, version, extensions, payload)| {
                let mut parts = EnvelopeParts::new(texts.0, texts.1);
                (parts.aggregate_id, parts.source) = (texts.2, texts.3);
                (parts.correlation_id, parts.causation_id) = (texts.4, texts.5);
                parts.content_type = texts.6;
                parts.timestamp = timestamp.map(|(micros, text)| {
                    GivenTimestamp::trusted(Timestamp::from_micros(micros), text.as_deref())
                });
                parts.version = version;
                parts.extensions = extensions;
                parts.payload = payload.map(|(bytes, binary)| {
                    let carriage = if binary {
                        Carriage::Binary
                    } else {
                        Carriage::Json
                    };
                    Payload::trusted(bytes.into(), carriage)
                });
                parts
            })
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_as_it_went_in(parts in parts()) {
            let envelope = Envelope::trusted(parts.clone());

            prop_assert_eq!(envelope.parts(), parts.clone());
            if let Some(text) = envelope.payload_text() {
                prop_assert_eq!(text.as_bytes(), envelope.payload_bytes());
            }
            let again = Packer::default().pack(&envelope.stored(), &envelope.payload().map_or(Bytes::new(), |payload| payload.bytes().clone()));
            prop_assert_eq!(again.as_ref(), Some(&envelope));
            prop_assert_eq!(Envelope::trusted(parts), envelope);
        }
    }

    #[test]
    fn texts_that_are_utf_8_only_together_are_refused() {
        let whole = "ä".as_bytes();
        let stored = StoredEnvelope {
            event_type: &whole[..1],
            event_id: &whole[1..],
            ..StoredEnvelope::default()
        };

        assert_eq!(Packer::default().pack(&stored, &Bytes::new()), None);
    }

    fn stored_in(block: &Bytes, bytes: usize, carriage: Carriage) -> Envelope {
        let stored = StoredEnvelope {
            event_type: b"order.placed",
            event_id: b"1",
            payload: Some((carriage, &block[..bytes])),
            ..StoredEnvelope::default()
        };
        Packer::default().pack(&stored, block).unwrap()
    }

    fn shares(block: &Bytes, envelope: &Envelope) -> bool {
        block
            .as_ptr_range()
            .contains(&envelope.payload_bytes().as_ptr())
    }

    #[test]
    fn keeping_an_event_keeps_no_block_that_is_much_larger() {
        let block = Bytes::from(vec![b' '; 1_000_000]);
        let long = 1_000_000_usize.div_ceil(PAYLOAD_SHARED_RATIO_MAX);

        assert!(shares(&block, &stored_in(&block, long, Carriage::Json)));
        assert!(shares(&block, &stored_in(&block, long, Carriage::Binary)));
        assert!(!shares(
            &block,
            &stored_in(&block, long - 1, Carriage::Json)
        ));
        assert!(!shares(&block, &stored_in(&block, 8, Carriage::Binary)));
        let short = Bytes::from(vec![b' '; ENVELOPE_PAYLOAD_INLINE_BYTES_MAX]);
        assert!(!shares(
            &short,
            &stored_in(&short, short.len(), Carriage::Json)
        ));
    }
}

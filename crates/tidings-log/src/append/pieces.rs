//! Cuts a batch into pieces of a frame's size and encodes them, in the publisher's own time and outside every lock.

use super::outcome::Outcome;
use super::spare::Spare;
use crate::Codec;
use crate::format::frame::{HEAD_BYTES, body_checksum};
use crate::format::{batch, record};
use std::collections::HashSet;
use std::sync::Arc;
use tidings_core::Envelope;
use tidings_core::broker::PublishError;
use tidings_core::envelope::EnvelopeError;
use tidings_core::limits::{FRAME_BODY_BYTES_TARGET, FRAME_EVENTS_MAX, RECORD_BYTES_MAX};

/// A piece at least so long gets a frame of its own; shorter ones share one.
pub(crate) const ALONE_BYTES_MIN: usize = 32_768;

/// Encoded events that go into one frame.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Room for the head, then the body.
    pub frame: Vec<u8>,
    pub codec: Codec,
    /// Bytes of the body once unpacked.
    pub body_bytes: usize,
    /// The checksum of the body, made for pieces that get a frame of their own.
    pub checksum: Option<u32>,
    pub count: u32,
    /// The earliest and the latest timestamp; the first is greater if no event has one.
    pub timestamps: (i64, i64),
    /// The piece before it of the same batch.
    pub after: Option<Arc<Outcome>>,
}

impl Piece {
    /// The body as it is to be stored.
    pub(crate) fn stored(&self) -> &[u8] {
        self.frame.get(HEAD_BYTES..).unwrap_or_default()
    }

    /// Whether it gets a frame of its own.
    pub(crate) fn is_alone(&self) -> bool {
        self.checksum.is_some()
    }
}

/// The one piece of a single event.
pub(crate) fn single(
    envelope: &Envelope,
    codec: Codec,
    spare: &Spare,
) -> Result<Piece, PublishError> {
    let mut pieces = Pieces::new(std::slice::from_ref(envelope), codec, spare);
    pieces.next().ok_or_else(|| {
        let refused = pieces.into_refused().pop();
        refused.map_or(PublishError::NotAttempted, |(_, error)| error)
    })
}

/// Encodes a batch piece by piece.
pub(crate) struct Pieces<'a> {
    batch: &'a [Envelope],
    next: usize,
    codec: Codec,
    spare: &'a Spare,
    /// The piece that was handed over last.
    after: Option<Arc<Outcome>>,
    /// Events that were left out, by their place in the batch.
    refused: Vec<(usize, PublishError)>,
    /// Keys of events that were left out: what follows of them is left out as well.
    refused_keys: HashSet<String>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(batch: &'a [Envelope], codec: Codec, spare: &'a Spare) -> Self {
        Self {
            batch,
            next: 0,
            codec,
            spare,
            after: None,
            refused: Vec::new(),
            refused_keys: HashSet::new(),
        }
    }

    /// The next piece; `None` once every event is in one or left out.
    pub(crate) fn next(&mut self) -> Option<Piece> {
        let mut frame = Vec::new();
        let mut count = 0_u32;
        let mut timestamps = (i64::MAX, i64::MIN);
        while let Some(envelope) = self.batch.get(self.next) {
            let stored = envelope.stored();
            let content_bytes = record::content_bytes(&stored);
            let bytes = record::whole_bytes(content_bytes);
            let body_bytes = frame.len().saturating_sub(HEAD_BYTES);
            let full =
                body_bytes + bytes > FRAME_BODY_BYTES_TARGET || count as usize >= FRAME_EVENTS_MAX;
            if self.is_left_out(envelope, bytes) {
                self.next += 1;
                continue;
            }
            if count > 0 && full {
                break;
            }
            self.next += 1;
            if count == 0 {
                // The rest of the batch is taken to be like its first event; too little only costs a copy.
                let like_this = bytes.saturating_mul(self.batch.len() - self.next + 1);
                if like_this >= ALONE_BYTES_MIN {
                    frame = self.spare.take();
                }
                frame.reserve_exact(HEAD_BYTES + like_this.min(FRAME_BODY_BYTES_TARGET).max(bytes));
                frame.resize(HEAD_BYTES, 0);
            }
            record::encode(&stored, content_bytes, &mut frame);
            count += 1;
            if let Some((instant, _)) = stored.timestamp {
                let micros = instant.as_micros();
                timestamps = (timestamps.0.min(micros), timestamps.1.max(micros));
            }
        }
        if count == 0 {
            return None;
        }
        Some(self.piece(frame, count, timestamps))
    }

    /// What is made from now on may be written only if this was.
    pub(crate) fn go_on_after(&mut self, outcome: Arc<Outcome>) {
        self.after = Some(outcome);
    }

    /// Whether every event is in a piece or left out.
    pub(crate) fn is_done(&self) -> bool {
        self.next >= self.batch.len()
    }

    /// Events that were left out, by their place in the batch.
    pub(crate) fn into_refused(self) -> Vec<(usize, PublishError)> {
        self.refused
    }

    fn piece(&self, mut frame: Vec<u8>, count: u32, timestamps: (i64, i64)) -> Piece {
        let body = frame.get(HEAD_BYTES..).unwrap_or_default();
        let body_bytes = body.len();
        // A piece that follows another has a frame to itself, because it falls with the one before.
        let alone = body_bytes >= ALONE_BYTES_MIN || self.after.is_some();
        let mut codec = Codec::None;
        if let Some(packed) = alone.then(|| batch::pack(body, self.codec)).flatten() {
            frame.truncate(HEAD_BYTES);
            frame.extend_from_slice(&packed);
            codec = self.codec;
        }
        let checksum = alone.then(|| body_checksum(frame.get(HEAD_BYTES..).unwrap_or_default()));
        Piece {
            frame,
            codec,
            body_bytes,
            checksum,
            count,
            timestamps,
            after: self.after.clone(),
        }
    }

    fn is_left_out(&mut self, envelope: &Envelope, bytes: usize) -> bool {
        if bytes <= RECORD_BYTES_MAX && self.refused_keys.is_empty() {
            return false;
        }
        let index = self.next;
        let key = envelope.key();
        if key
            .as_deref()
            .is_some_and(|key| self.refused_keys.contains(key))
        {
            self.refused.push((index, PublishError::NotAttempted));
            return true;
        }
        if bytes <= RECORD_BYTES_MAX {
            return false;
        }
        self.refused_keys.extend(key.map(String::from));
        let source = EnvelopeError::TooLong {
            attribute: "the event as a whole".to_owned(),
            bytes,
            limit: RECORD_BYTES_MAX,
        };
        self.refused.push((index, source.into()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::{EnvelopeParts, Payload};

    fn envelope(key: &str, bytes: usize) -> Envelope {
        let mut parts = EnvelopeParts::new("id", "order.placed");
        parts.aggregate_id = Some(key.to_owned());
        parts.payload = Some(Payload::binary(vec![7; bytes]));
        Envelope::trusted(parts)
    }

    fn counts(batch: &[Envelope]) -> (Vec<u32>, Vec<(usize, PublishError)>) {
        let spare = Spare::default();
        let mut pieces = Pieces::new(batch, Codec::None, &spare);
        let counts = std::iter::from_fn(|| pieces.next())
            .map(|piece| piece.count)
            .collect();
        (counts, pieces.into_refused())
    }

    #[test]
    fn a_batch_is_cut_where_a_frame_is_full_and_a_large_event_stands_alone() {
        let half = FRAME_BODY_BYTES_TARGET / 2 - 100;
        let batch = [
            envelope("a", half),
            envelope("a", half),
            envelope("a", 200),
            envelope("a", 3 * half),
            envelope("a", 10),
        ];

        assert_eq!(counts(&batch).0, vec![2, 1, 1, 1]);
    }

    #[test]
    fn an_event_over_the_limit_is_refused_and_nothing_later_of_its_key_is_sent() {
        let batch = [
            envelope("a", 1),
            envelope("b", RECORD_BYTES_MAX),
            envelope("b", 1),
            envelope("c", 1),
        ];

        let (counts, refused) = counts(&batch);

        assert_eq!(counts, vec![2]);
        assert!(matches!(refused[0], (1, PublishError::Envelope { .. })));
        assert!(matches!(refused[1], (2, PublishError::NotAttempted)));
    }
}

//! A frame that waits to be written: a long piece of one batch, or the short ones of publishers that wait together.

use super::outcome::{Answer, Outcome, Place};
use super::pieces::Piece;
use crate::Codec;
use crate::format::frame::{FrameHead, FrameKind, HEAD_BYTES, body_checksum};
use crate::format::index::IndexEntry;
use crate::format::{Identity, batch};
use std::sync::Arc;
use std::task::Waker;
use tidings_core::broker::PublishError;
use tidings_core::limits::{FRAME_BODY_BYTES_TARGET, FRAME_EVENTS_MAX};

/// Where a frame is to be written, and what it is to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    pub identity: Identity,
    /// The position of the first event.
    pub next: u64,
    /// Everything before this position is synced.
    pub synced: u64,
    pub append_time: i64,
    /// Where in the segment the frame begins.
    pub offset: u64,
    /// How the body of a shared frame is stored.
    pub codec: Codec,
}

/// A frame on its way. One that gets lost, because the writer ended, is answered all the same.
#[derive(Debug)]
pub(crate) struct PendingFrame {
    /// Room for the head, then the body.
    bytes: Vec<u8>,
    codec: Codec,
    /// Bytes of the body once unpacked.
    body_bytes: usize,
    /// The checksum of the body, where its publisher made it.
    checksum: Option<u32>,
    count: u32,
    timestamps: (i64, i64),
    /// Whether further pieces may be added.
    shared: bool,
    /// The frame before it of the same batch.
    after: Option<Arc<Outcome>>,
    /// Its publishers.
    waiting: Vec<Waker>,
    /// Taken by whoever answers.
    outcome: Option<Arc<Outcome>>,
}

impl PendingFrame {
    /// A frame of one piece that shares it with no other, and the place of the piece.
    pub(crate) fn alone(piece: Piece, waker: Waker) -> (Self, Place) {
        let outcome = Arc::new(Outcome::default());
        let frame = Self {
            bytes: piece.frame,
            codec: piece.codec,
            body_bytes: piece.body_bytes,
            checksum: piece.checksum,
            count: piece.count,
            timestamps: piece.timestamps,
            shared: false,
            after: piece.after,
            waiting: vec![waker],
            outcome: Some(outcome.clone()),
        };
        (frame, Place::new(outcome, 0))
    }

    /// An empty frame for short pieces, in a buffer that is used again.
    pub(crate) fn shared(mut buffer: Vec<u8>) -> Self {
        buffer.resize(HEAD_BYTES, 0);
        Self {
            bytes: buffer,
            codec: Codec::None,
            body_bytes: 0,
            checksum: None,
            count: 0,
            timestamps: (i64::MAX, i64::MIN),
            shared: true,
            after: None,
            waiting: Vec::new(),
            outcome: Some(Arc::default()),
        }
    }

    /// Whether a short piece may still be added.
    pub(crate) fn has_room_for(&self, piece: &Piece) -> bool {
        self.shared
            && self.body_bytes + piece.stored().len() <= FRAME_BODY_BYTES_TARGET
            && (self.count + piece.count) as usize <= FRAME_EVENTS_MAX
    }

    /// Adds a short piece behind those that are there; tells its place.
    pub(crate) fn add(&mut self, piece: &Piece, waker: Waker) -> Place {
        let outcome = self.outcome.get_or_insert_default().clone();
        let place = Place::new(outcome, u64::from(self.count));
        self.bytes.extend_from_slice(piece.stored());
        self.body_bytes += piece.stored().len();
        self.count += piece.count;
        self.waiting.push(waker);
        self.timestamps = (
            self.timestamps.0.min(piece.timestamps.0),
            self.timestamps.1.max(piece.timestamps.1),
        );
        place
    }

    /// The frame as it is to be written, or an upper bound of it until it is finished.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the frame before it of the same batch was not accepted.
    pub(crate) fn batch_has_failed(&self) -> bool {
        self.after
            .as_ref()
            .is_some_and(|before| before.has_failed())
    }

    /// Whether `before` is the frame before it of the same batch.
    pub(crate) fn follows(&self, before: &PendingFrame) -> bool {
        match (&self.after, &before.outcome) {
            (Some(after), Some(outcome)) => Arc::ptr_eq(after, outcome),
            _ => false,
        }
    }

    /// Packs a shared body and writes the head; tells the entry in the index, and the position behind the last event.
    pub(crate) fn finish(&mut self, place: Placement) -> (IndexEntry, u64) {
        if self.shared {
            self.pack(place.codec);
        }
        let stored = self.bytes.get(HEAD_BYTES..).unwrap_or_default();
        let checksum = self.checksum.unwrap_or_else(|| body_checksum(stored));
        let head = FrameHead {
            kind: FrameKind::Batch,
            codec: self.codec,
            stored_bytes: stored.len() as u32,
            body_bytes: self.body_bytes as u32,
            count: self.count,
            first: place.next,
            synced: place.synced,
            append_time: place.append_time,
            timestamps: self.timestamps,
        };
        let bytes = head.encode(place.identity, checksum);
        if let Some(room) = self.bytes.first_chunk_mut() {
            *room = bytes;
        }
        let entry = IndexEntry {
            position: head.first,
            append_time: head.append_time,
            offset: place.offset,
        };
        (entry, head.next())
    }

    /// Answers its publishers, once; their wakers are added to `wakers`.
    pub(crate) fn answer(&mut self, answer: Answer, wakers: &mut Vec<Waker>) {
        if let Some(outcome) = self.outcome.take() {
            let mut late = outcome.answer(answer);
            wakers.append(&mut self.waiting);
            wakers.append(&mut late);
        }
    }

    /// Its buffer, to be used again.
    pub(crate) fn into_buffer(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn pack(&mut self, codec: Codec) {
        self.shared = false;
        let body = self.bytes.get(HEAD_BYTES..).unwrap_or_default();
        if let Some(packed) = batch::pack(body, codec) {
            self.bytes.truncate(HEAD_BYTES);
            self.bytes.extend_from_slice(&packed);
            self.codec = codec;
        }
    }
}

impl Drop for PendingFrame {
    fn drop(&mut self) {
        if self.outcome.is_some() {
            let reason = "the writer of the log ended unexpectedly".to_owned();
            let mut wakers = Vec::new();
            self.answer(Err(PublishError::Ambiguous { reason }), &mut wakers);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

//! Puts pieces into frames: short ones that wait together share one. Pure.

use super::pieces::{ALONE_BYTES_MIN, Piece};
use crate::Codec;
use crate::format::frame::{FrameHead, FrameKind, HEAD_BYTES, body_checksum};
use crate::format::index::IndexEntry;
use crate::format::{Identity, batch};
use std::collections::VecDeque;
use tidings_core::limits::{FRAME_BODY_BYTES_TARGET, FRAME_EVENTS_MAX};

/// Where frames are to be written, and what they are to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    pub identity: Identity,
    /// The position of the first event.
    pub next: u64,
    /// Everything before this position is synced.
    pub synced: u64,
    pub append_time: i64,
    /// Where in the segment the first frame begins.
    pub offset: u64,
    pub codec: Codec,
}

/// One frame, made of one piece or of several.
#[derive(Debug)]
pub(crate) struct Group {
    /// The pieces with the position of their first event.
    pub pieces: Vec<(Piece, u64)>,
    /// The entry of the frame in the index.
    pub entry: IndexEntry,
    /// Position behind the last event.
    pub next: u64,
}

/// How many pieces from the front go into the next frame, and how long the frame becomes at most.
pub(crate) fn next_frame(pieces: &VecDeque<Piece>) -> Option<(usize, u64)> {
    let mut taken = 0;
    let (mut bytes, mut events) = (0, 0);
    for piece in pieces {
        let stored = piece.stored().len();
        let alone = stored >= ALONE_BYTES_MIN || piece.codec != Codec::None;
        let full = bytes + stored > FRAME_BODY_BYTES_TARGET
            || events + piece.count as usize > FRAME_EVENTS_MAX;
        if taken > 0 && (alone || full) {
            break;
        }
        taken += 1;
        bytes += stored;
        events += piece.count as usize;
        if alone {
            break;
        }
    }
    (taken > 0).then_some((taken, (HEAD_BYTES + bytes) as u64))
}

/// Makes a frame of the first `count` pieces and appends it to `out`. A lone piece that `out` is empty for is left in place: then its own bytes are the frame.
pub(crate) fn make_frame(
    pieces: &mut VecDeque<Piece>,
    count: usize,
    place: Placement,
    out: &mut Vec<u8>,
) -> Group {
    let mut group = Vec::with_capacity(count);
    let mut next = place.next;
    let mut timestamps = (i64::MAX, i64::MIN);
    for piece in pieces.drain(..count) {
        timestamps = (
            timestamps.0.min(piece.timestamps.0),
            timestamps.1.max(piece.timestamps.1),
        );
        let first = next;
        next += u64::from(piece.count);
        group.push((piece, first));
    }
    let mut head = FrameHead {
        kind: FrameKind::Batch,
        codec: Codec::None,
        stored_bytes: 0,
        body_bytes: 0,
        count: (next - place.next) as u32,
        first: place.next,
        synced: place.synced,
        append_time: place.append_time,
        timestamps,
    };
    if let [(piece, _)] = group.as_mut_slice() {
        pack_lone(piece, place.codec);
        let checksum = piece
            .checksum
            .unwrap_or_else(|| body_checksum(piece.stored()));
        (head.codec, head.stored_bytes, head.body_bytes) = (
            piece.codec,
            piece.stored().len() as u32,
            piece.body_bytes as u32,
        );
        let bytes = head.encode(place.identity, checksum);
        if let Some(room) = piece.frame.first_chunk_mut() {
            *room = bytes;
        }
    } else {
        share_frame(&group, place, &mut head, out);
    }
    let entry = IndexEntry {
        position: head.first,
        append_time: head.append_time,
        offset: place.offset,
    };
    Group {
        pieces: group,
        entry,
        next,
    }
}

/// Appends the frame that several pieces share to `out`.
fn share_frame(group: &[(Piece, u64)], place: Placement, head: &mut FrameHead, out: &mut Vec<u8>) {
    let body_bytes = group
        .iter()
        .map(|(piece, _)| piece.stored().len())
        .sum::<usize>();
    let start = out.len();
    out.reserve(HEAD_BYTES + body_bytes);
    out.resize(start + HEAD_BYTES, 0);
    for (piece, _) in group {
        out.extend_from_slice(piece.stored());
    }
    let packed = out
        .get(start + HEAD_BYTES..)
        .and_then(|body| batch::pack(body, place.codec));
    if let Some(packed) = packed {
        out.truncate(start + HEAD_BYTES);
        out.extend_from_slice(&packed);
        head.codec = place.codec;
    }
    let stored = out.get(start + HEAD_BYTES..).unwrap_or_default();
    (head.stored_bytes, head.body_bytes) = (stored.len() as u32, body_bytes as u32);
    let bytes = head.encode(place.identity, body_checksum(stored));
    if let Some(room) = out.get_mut(start..).and_then(|rest| rest.first_chunk_mut()) {
        *room = bytes;
    }
}

/// A short piece that has a frame to itself after all is packed here; a long one was packed by its publisher.
fn pack_lone(piece: &mut Piece, codec: Codec) {
    if piece.checksum.is_some() {
        return;
    }
    if let Some(packed) = batch::pack(piece.stored(), codec) {
        piece.frame.truncate(HEAD_BYTES);
        piece.frame.extend_from_slice(&packed);
        piece.codec = codec;
    }
}

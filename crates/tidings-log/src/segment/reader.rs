//! Reads frames of one segment, one behind the other, and finds the next one behind damage. No frame leaves here whose checksum does not hold.

use crate::format::Identity;
use crate::format::frame::{self, FrameHead, HEAD_BYTES, MAGIC};
use bytes::{Bytes, BytesMut};
use std::io;
use tidings_core::seam::DiskFile;

/// Bytes read ahead of what is asked for.
const READ_AHEAD_BYTES: usize = 262_144;
/// Bytes looked through at once behind damage: few at first, for the next frame is near as a rule.
const SEARCH_BYTES_FIRST: usize = 1_024;
/// Bytes looked through at once at most.
const SEARCH_BYTES: usize = 1_048_576;
/// Bytes of what looks like a frame and is none, after which no more is tried in a segment: only forged bytes get there.
const TRIED_BYTES_MAX: u64 = 1_073_741_824;

/// Reads one segment.
pub(crate) struct SegmentReader {
    file: Box<dyn DiskFile>,
    identity: Identity,
    /// What was read last, and where in the file it begins.
    window: Bytes,
    window_at: u64,
    /// Bytes that were tried for frames behind damage and are none.
    tried_bytes: u64,
}

/// A frame whose checksum holds.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub head: FrameHead,
    /// Where it begins in the file.
    pub offset: u64,
    /// The body as stored.
    pub stored: Bytes,
}

impl Frame {
    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.head.frame_bytes()
    }
}

/// What stands at a place of a segment.
#[derive(Debug)]
pub(crate) enum FrameRead {
    /// A frame.
    Frame(Frame),
    /// Reserved room that was never written, or the end of what may be looked at.
    Nothing,
    /// Something that is no frame.
    Bad(&'static str),
}

impl SegmentReader {
    pub(crate) fn new(file: Box<dyn DiskFile>, identity: Identity) -> Self {
        Self {
            file,
            identity,
            window: Bytes::new(),
            window_at: 0,
            tried_bytes: 0,
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    /// Reads the frame that begins at `offset`; nothing at or behind `limit` is looked at.
    pub(crate) fn frame_at(&mut self, offset: u64, limit: u64) -> io::Result<FrameRead> {
        let Some(head_bytes) = self.head_at(offset, limit)? else {
            return Ok(if offset >= limit {
                FrameRead::Nothing
            } else {
                FrameRead::Bad("the segment ends inside the head of a frame")
            });
        };
        if head_bytes == [0; HEAD_BYTES] {
            return Ok(FrameRead::Nothing);
        }
        let head = match FrameHead::decode(&head_bytes) {
            Ok(head) => head,
            Err(malformed) => return Ok(FrameRead::Bad(malformed.what)),
        };
        let Some(stored) = self.slice(
            offset + HEAD_BYTES as u64,
            head.stored_bytes as usize,
            limit,
        )?
        else {
            return Ok(FrameRead::Bad(
                "the segment ends inside the body of a frame",
            ));
        };
        if frame::holds(&head_bytes, self.identity, &stored) {
            Ok(FrameRead::Frame(Frame {
                head,
                offset,
                stored,
            }))
        } else {
            Ok(FrameRead::Bad("the checksum of a frame does not hold"))
        }
    }

    /// Finds the first frame behind what is bad at `offset` that carries on from position `expected` or later.
    ///
    /// The length in a damaged frame is tried first; then every place is.
    pub(crate) fn frame_behind(
        &mut self,
        offset: u64,
        limit: u64,
        expected: u64,
    ) -> io::Result<Option<Frame>> {
        if let Some(frame) = self.hop(offset, limit, expected)? {
            return Ok(Some(frame));
        }
        let mut from = offset.saturating_add(1);
        let mut search_bytes = SEARCH_BYTES_FIRST;
        while from.saturating_add(HEAD_BYTES as u64) <= limit {
            let want = usize::try_from(limit - from)
                .unwrap_or(usize::MAX)
                .min(search_bytes);
            let found = self.raw(from, want)?;
            for at in places_of_magic(&found) {
                if self.tried_bytes > TRIED_BYTES_MAX {
                    return Ok(None);
                }
                if let FrameRead::Frame(frame) = self.try_at(from + at as u64, limit)?
                    && frame.head.first >= expected
                {
                    return Ok(Some(frame));
                }
            }
            if found.len() < want || found.len() < MAGIC.len() {
                break;
            }
            // The magic may lie across the border of two reads.
            from += (found.len() - (MAGIC.len() - 1)) as u64;
            search_bytes = (search_bytes * 2).min(SEARCH_BYTES);
        }
        Ok(None)
    }

    /// The frame that the length of a damaged one leads to, if it carries on where the damaged one says it ends: else the length is damaged too, and frames that hold
    /// may lie in between.
    fn hop(&mut self, offset: u64, limit: u64, expected: u64) -> io::Result<Option<Frame>> {
        let damaged = self
            .head_at(offset, limit)?
            .and_then(|bytes| FrameHead::decode(&bytes).ok());
        let Some(damaged) = damaged else {
            return Ok(None);
        };
        let at = offset.saturating_add(damaged.frame_bytes());
        if at >= limit || damaged.next() < expected {
            return Ok(None);
        }
        // Only its head, so that what was read ahead is kept if the length leads astray.
        let bytes = self.raw(at, HEAD_BYTES)?;
        let next = bytes
            .first_chunk()
            .and_then(|bytes| FrameHead::decode(bytes).ok());
        if next.is_none_or(|next| next.first != damaged.next()) {
            return Ok(None);
        }
        match self.frame_at(at, limit)? {
            FrameRead::Frame(frame) => Ok(Some(frame)),
            FrameRead::Nothing | FrameRead::Bad(_) => Ok(None),
        }
    }

    /// Reads what may be a frame, and counts what that costs where it is none.
    fn try_at(&mut self, offset: u64, limit: u64) -> io::Result<FrameRead> {
        let read = self.frame_at(offset, limit)?;
        if !matches!(read, FrameRead::Frame(_)) {
            let head = self.head_at(offset, limit)?;
            let head = head.and_then(|bytes| FrameHead::decode(&bytes).ok());
            self.tried_bytes += head.map_or(0, |head| head.frame_bytes());
        }
        Ok(read)
    }

    /// Copies bytes as they stand in the file.
    pub(crate) fn raw(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        let read = self.file.read_at(&mut buffer, offset)?;
        buffer.truncate(read);
        Ok(buffer)
    }

    /// Where the bytes of the file end, reserved room left out: behind the last byte that is not zero, at `from` or later.
    pub(crate) fn written_end(&self, from: u64) -> io::Result<u64> {
        let bytes = self.bytes()?;
        let (mut end, mut at) = (from, from);
        let left = usize::try_from(bytes.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; left.min(SEARCH_BYTES)];
        while at < bytes {
            let read = self.file.read_at(&mut buffer, at)?;
            if read == 0 {
                break;
            }
            let last = buffer
                .get(..read)
                .unwrap_or_default()
                .iter()
                .rposition(|byte| *byte != 0);
            end = last.map_or(end, |last| at + last as u64 + 1);
            at += read as u64;
        }
        Ok(end)
    }

    fn head_at(&mut self, offset: u64, limit: u64) -> io::Result<Option<[u8; HEAD_BYTES]>> {
        if !self.has(offset, HEAD_BYTES) && !self.fill(offset, HEAD_BYTES, limit)? {
            return Ok(None);
        }
        let at = (offset - self.window_at) as usize;
        Ok(self
            .window
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied())
    }

    fn slice(&mut self, offset: u64, bytes: usize, limit: u64) -> io::Result<Option<Bytes>> {
        if !self.has(offset, bytes) && !self.fill(offset, bytes, limit)? {
            return Ok(None);
        }
        let at = (offset - self.window_at) as usize;
        Ok(Some(self.window.slice(at..at + bytes)))
    }

    fn has(&self, offset: u64, bytes: usize) -> bool {
        offset >= self.window_at
            && offset.saturating_add(bytes as u64) <= self.window_at + self.window.len() as u64
    }

    /// Reads a new window that begins at `offset`; `false` if there are fewer than `bytes` before `limit`.
    fn fill(&mut self, offset: u64, bytes: usize, limit: u64) -> io::Result<bool> {
        let left = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        if left < bytes {
            return Ok(false);
        }
        let want = bytes.max(READ_AHEAD_BYTES).min(left);
        // A window that no payload points into any more is used again.
        let mut buffer = std::mem::take(&mut self.window)
            .try_into_mut()
            .unwrap_or_else(|_| BytesMut::new());
        buffer.resize(want, 0);
        let read = self.file.read_at(&mut buffer, offset)?;
        buffer.truncate(read);
        self.window = buffer.freeze();
        self.window_at = offset;
        Ok(read >= bytes)
    }
}

fn places_of_magic(bytes: &[u8]) -> Vec<usize> {
    bytes
        .windows(MAGIC.len())
        .enumerate()
        .filter(|(_, found)| *found == MAGIC)
        .map(|(at, _)| at)
        .collect()
}

//! The head that every frame of a segment begins with, and its checksum.

use super::fields::{Fields, Malformed};
use super::{CHECKSUM_SEED, Identity};
use crate::Codec;
use tidings_core::limits::{FRAME_BODY_BYTES_MAX, FRAME_EVENTS_MAX, POSITION_END};

/// Bytes of the head.
pub(crate) const HEAD_BYTES: usize = 64;
/// Its first bytes. Two of them never occur in UTF-8, so that a search for a frame inside texts finds nothing.
pub(crate) const MAGIC: [u8; 4] = [0xf5, b'T', b'd', 0xf7];

const FRAME_VERSION: u8 = 1;
const CHECKSUM_AT: usize = 8;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Events.
    Batch,
    /// Nothing but how far the log was synced.
    SyncMark,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub kind: FrameKind,
    /// How the body is stored.
    pub codec: Codec,
    /// Bytes of the body as stored.
    pub stored_bytes: u32,
    /// Bytes of the body once unpacked.
    pub body_bytes: u32,
    /// Events in the body.
    pub count: u32,
    /// Position of the first of them; of a sync mark, the next position of the log.
    pub first: u64,
    /// Everything before this position was synced when the frame was written.
    pub synced: u64,
    /// When it was appended, in microseconds; never earlier than that of an earlier frame.
    pub append_time: i64,
    /// The earliest and the latest timestamp that the events give; the first is greater if none gives one.
    pub timestamps: (i64, i64),
}

impl FrameHead {
    /// Position behind the last event.
    pub(crate) fn next(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.stored_bytes)
    }

    /// The head as bytes, with the checksum of the frame.
    pub(crate) fn encode(&self, identity: Identity, body_checksum: u32) -> [u8; HEAD_BYTES] {
        let kind = match self.kind {
            FrameKind::Batch => 1,
            FrameKind::SyncMark => 2,
        };
        let mut out = Vec::with_capacity(HEAD_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[FRAME_VERSION, kind, self.codec.number(), 0]);
        out.extend_from_slice(&[0; 4]);
        for value in [self.stored_bytes, self.body_bytes, self.count] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        for value in [self.append_time, self.timestamps.0, self.timestamps.1] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        let mut head = [0; HEAD_BYTES];
        head.copy_from_slice(&out);
        let checksum = checksum(&head, identity, body_checksum);
        head.iter_mut()
            .skip(CHECKSUM_AT)
            .zip(checksum.to_le_bytes())
            .for_each(|(to, from)| *to = from);
        head
    }

    /// Reads a head; its lengths are within their limits, its checksum is not compared yet.
    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        if fields.bytes(4, "the magic of a frame")? != MAGIC {
            return Err(Malformed {
                what: "the magic of a frame",
            });
        }
        if fields.u8("the version of a frame")? != FRAME_VERSION {
            return Err(Malformed {
                what: "the version of a frame",
            });
        }
        let kind = match fields.u8("the kind of a frame")? {
            1 => FrameKind::Batch,
            2 => FrameKind::SyncMark,
            _ => {
                return Err(Malformed {
                    what: "the kind of a frame",
                });
            }
        };
        let codec = Codec::from_number(fields.u8("the codec of a frame")?).ok_or(Malformed {
            what: "the codec of a frame",
        })?;
        fields.bytes(1 + 4, "the checksum of a frame")?;
        let head = Self {
            kind,
            codec,
            stored_bytes: fields.u32("the length of a frame")?,
            body_bytes: fields.u32("the length of a frame")?,
            count: fields.u32("the count of a frame")?,
            first: fields.u64("the position of a frame")?,
            synced: fields.u64("the synced position of a frame")?,
            append_time: fields.i64("the append time of a frame")?,
            timestamps: (
                fields.i64("the timestamps of a frame")?,
                fields.i64("the timestamps of a frame")?,
            ),
        };
        head.check()?;
        Ok(head)
    }

    fn check(&self) -> Result<(), Malformed> {
        let bytes_max = FRAME_BODY_BYTES_MAX as u32;
        if self.stored_bytes > bytes_max || self.body_bytes > bytes_max {
            return Err(Malformed {
                what: "the length of a frame",
            });
        }
        if self.codec == Codec::None && self.stored_bytes != self.body_bytes {
            return Err(Malformed {
                what: "the length of a frame",
            });
        }
        let count_fits = match self.kind {
            FrameKind::Batch => self.count > 0 && self.count <= FRAME_EVENTS_MAX as u32,
            FrameKind::SyncMark => self.count == 0 && self.stored_bytes == 0,
        };
        if !count_fits || self.next() >= POSITION_END {
            return Err(Malformed {
                what: "the count of a frame",
            });
        }
        if self.synced > self.first {
            return Err(Malformed {
                what: "the synced position of a frame",
            });
        }
        Ok(())
    }
}

/// The checksum of a body as stored; it can be made before the frame's place is known.
pub(crate) fn body_checksum(stored: &[u8]) -> u32 {
    crc32c::crc32c_append(CHECKSUM_SEED, stored)
}

/// Whether the checksum in `head` is that of the frame in this segment.
pub(crate) fn holds(head: &[u8; HEAD_BYTES], identity: Identity, stored: &[u8]) -> bool {
    let given = head
        .get(CHECKSUM_AT..CHECKSUM_AT + 4)
        .and_then(|bytes| bytes.first_chunk());
    let made = checksum(head, identity, body_checksum(stored));
    given.is_some_and(|given| u32::from_le_bytes(*given) == made)
}

/// Over the body, the head around its checksum, and the identity. The body comes first, so that its part can be made outside the writer.
fn checksum(head: &[u8; HEAD_BYTES], identity: Identity, body_checksum: u32) -> u32 {
    let (before, from_checksum) = head.split_at(CHECKSUM_AT);
    let (_, behind) = from_checksum.split_at(4);
    let sum = crc32c::crc32c_append(body_checksum, before);
    let sum = crc32c::crc32c_append(sum, behind);
    crc32c::crc32c_append(sum, &identity.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        log: 7,
        segment: 40,
    };

    fn head() -> FrameHead {
        FrameHead {
            kind: FrameKind::Batch,
            codec: Codec::Lz4,
            stored_bytes: 5,
            body_bytes: 1_000,
            count: 3,
            first: 41,
            synced: 40,
            append_time: -5,
            timestamps: (1, 9),
        }
    }

    #[test]
    fn a_head_comes_back() {
        let bytes = head().encode(IDENTITY, body_checksum(b"hello"));

        assert_eq!(FrameHead::decode(&bytes), Ok(head()));
        assert!(holds(&bytes, IDENTITY, b"hello"));
    }

    #[test]
    fn every_changed_bit_of_head_and_body_is_seen() {
        let bytes = head().encode(IDENTITY, body_checksum(b"hello"));

        for bit in 0..HEAD_BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!holds(&changed, IDENTITY, b"hello"), "bit {bit}");
        }
        for bit in 0..5 * 8 {
            let mut body = *b"hello";
            body[bit / 8] ^= 1 << (bit % 8);
            assert!(!holds(&bytes, IDENTITY, &body), "bit {bit} of the body");
        }
    }

    #[test]
    fn a_frame_of_another_segment_or_log_does_not_hold() {
        let bytes = head().encode(IDENTITY, body_checksum(b"hello"));

        assert!(!holds(
            &bytes,
            Identity {
                segment: 41,
                ..IDENTITY
            },
            b"hello"
        ));
        assert!(!holds(&bytes, Identity { log: 8, ..IDENTITY }, b"hello"));
    }

    #[test]
    fn zeroes_are_no_frame() {
        assert!(FrameHead::decode(&[0; HEAD_BYTES]).is_err());
        assert!(!holds(
            &[0; HEAD_BYTES],
            Identity { log: 0, segment: 0 },
            b""
        ));
    }

    #[test]
    fn lengths_and_counts_over_their_limits_are_malformed() {
        for wrong in [
            FrameHead {
                stored_bytes: u32::MAX,
                ..head()
            },
            FrameHead {
                body_bytes: FRAME_BODY_BYTES_MAX as u32 + 1,
                ..head()
            },
            FrameHead { count: 0, ..head() },
            FrameHead {
                count: FRAME_EVENTS_MAX as u32 + 1,
                ..head()
            },
            FrameHead {
                first: u64::MAX,
                ..head()
            },
            FrameHead {
                first: POSITION_END - 3,
                ..head()
            },
            FrameHead {
                synced: 42,
                ..head()
            },
        ] {
            assert!(
                FrameHead::decode(&wrong.encode(IDENTITY, 0)).is_err(),
                "{wrong:?}"
            );
        }
    }
}

//! Looks through a whole segment: which frames hold, and what stands between them. It decides nothing.

use super::reader::{Frame, FrameRead, SegmentReader};
use crate::format::frame::{FrameHead, FrameKind};
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use std::io;

/// What stands in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Survey {
    /// The frames that hold, in order.
    pub frames: Vec<Seen>,
    /// What is not a frame, in order.
    pub bad: Vec<Stretch>,
    /// Where what was written ends; behind it, reserved room at most.
    pub end: u64,
}

/// A frame that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub kind: FrameKind,
    pub offset: u64,
    pub end: u64,
    pub first: u64,
    pub next: u64,
    pub synced: u64,
    pub append_time: i64,
}

/// Bytes that are no frame, or positions that no frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub offset: u64,
    pub end: u64,
    /// The position that should have followed.
    pub expected: u64,
    /// The position that the next frame holds, if there is one.
    pub next: Option<u64>,
    pub reason: &'static str,
}

/// Looks through the segment that begins at position `first`; frames from position `bound` on are not its own any more, and nothing from `limit` on is looked at.
pub(crate) fn survey(
    reader: &mut SegmentReader,
    first: u64,
    bound: u64,
    limit: u64,
) -> io::Result<Survey> {
    let mut survey = Survey {
        end: (SEGMENT_HEADER_BYTES as u64).min(limit),
        ..Survey::default()
    };
    let (mut offset, mut expected) = (survey.end, first);
    // Looked for once: for each stretch of damage anew, many of them would cost the square of their number.
    let mut written_end = None;
    loop {
        let frame = match reader.frame_at(offset, limit)? {
            FrameRead::Frame(frame)
                if frame.head.first >= expected && !reaches_over(&frame.head, bound) =>
            {
                frame
            }
            found => {
                let end = match written_end {
                    Some(end) => end,
                    None => *written_end.insert(reader.written_end(offset)?),
                };
                let written = end.min(limit).max(offset);
                if written == offset {
                    break;
                }
                let (stretch, behind) =
                    stretch_at(reader, found, (offset, written), limit, expected)?;
                let end = stretch.end;
                survey.bad.push(stretch);
                survey.end = end;
                let Some(frame) = behind else { break };
                expected = frame.head.first;
                frame
            }
        };
        if frame.head.first >= bound && frame.head.kind == FrameKind::Batch {
            break;
        }
        if frame.head.first > expected {
            let next = Some(frame.head.first);
            survey.bad.push(Stretch {
                offset,
                end: offset,
                expected,
                next,
                reason: "frames are missing before it",
            });
        }
        let (head, end) = (frame.head, frame.end());
        let (first, next) = (head.first, head.next());
        survey.frames.push(Seen {
            kind: head.kind,
            offset: frame.offset,
            end,
            first,
            next,
            synced: head.synced,
            append_time: head.append_time,
        });
        (offset, expected) = (end, next);
        survey.end = end;
    }
    Ok(survey)
}

/// The stretch of no frame that begins at an offset, and the frame behind it; without one, it goes on to where what was written ends.
fn stretch_at(
    reader: &mut SegmentReader,
    found: FrameRead,
    (offset, written): (u64, u64),
    limit: u64,
    expected: u64,
) -> io::Result<(Stretch, Option<Frame>)> {
    let behind = reader.frame_behind(offset, limit, expected)?;
    let reason = match found {
        FrameRead::Bad(reason) => reason,
        FrameRead::Nothing => "there is nothing where a frame should be",
        FrameRead::Frame(frame) if frame.head.first >= expected => {
            "a frame reaches beyond the end of its segment"
        }
        FrameRead::Frame(_) => "the positions of frames go backwards",
    };
    let stretch = Stretch {
        offset,
        end: behind.as_ref().map_or(written, |frame| frame.offset),
        expected,
        next: behind.as_ref().map(|frame| frame.head.first),
        reason,
    };
    Ok((stretch, behind))
}

/// Whether a frame begins before `bound`, where the next segment does, and ends behind it: none that was written here does.
fn reaches_over(head: &FrameHead, bound: u64) -> bool {
    head.first < bound && head.next() > bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;
    use crate::format::Identity;
    use crate::format::frame::body_checksum;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tidings_core::seam::DiskFile;

    const IDENTITY: Identity = Identity { log: 7, segment: 0 };

    /// A file in memory that counts the bytes that are read of it.
    struct Counted {
        bytes: Vec<u8>,
        read: Arc<AtomicU64>,
    }

    impl DiskFile for Counted {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = self.bytes.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.read.fetch_add(count as u64, Ordering::Relaxed);
            Ok(count)
        }

        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn bytes(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn set_bytes(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn reserve(&self, _: u64, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn frame(first: u64, body: &[u8]) -> Vec<u8> {
        let head = FrameHead {
            kind: FrameKind::Batch,
            codec: Codec::None,
            stored_bytes: body.len() as u32,
            body_bytes: body.len() as u32,
            count: 1,
            first,
            synced: 0,
            append_time: 0,
            timestamps: (1, 0),
        };
        let mut bytes = head.encode(IDENTITY, body_checksum(body)).to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn many_stretches_of_damage_cost_no_more_than_their_number() {
        // What is damaged: the body, the magic, or the length, which then leads anywhere.
        for (at, flip) in [(70, 1), (0, 1), (14, 8)] {
            let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
            for number in 0..6_000 {
                let mut frame = frame(number, &[b'x'; 100]);
                if number % 2 == 1 {
                    frame[at] ^= flip;
                }
                bytes.extend_from_slice(&frame);
            }
            let length = bytes.len() as u64;
            let read = Arc::new(AtomicU64::new(0));
            let file = Counted {
                bytes,
                read: read.clone(),
            };
            let mut reader = SegmentReader::new(Box::new(file), IDENTITY);

            let survey = survey(&mut reader, 0, u64::MAX, length).unwrap();

            assert_eq!((survey.frames.len(), survey.bad.len()), (3_000, 3_000));
            let read = read.load(Ordering::Relaxed);
            assert!(read < 40 * length, "{read} bytes of {length}");
        }
    }
}

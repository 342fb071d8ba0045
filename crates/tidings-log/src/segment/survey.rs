//! Looks through a whole segment: which frames hold, and what stands between them. It decides nothing.

use super::reader::{FrameRead, SegmentReader};
use crate::format::frame::FrameKind;
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
    loop {
        let frame = match reader.frame_at(offset, limit)? {
            FrameRead::Frame(frame) if frame.head.first >= expected => frame,
            found => {
                let written = reader.written_end(offset)?.min(limit).max(offset);
                if written == offset {
                    break;
                }
                let behind = reader.frame_behind(offset, limit, expected)?;
                let end = behind.as_ref().map_or(written, |frame| frame.offset);
                let next = behind.as_ref().map(|frame| frame.head.first);
                let reason = match found {
                    FrameRead::Bad(reason) => reason,
                    FrameRead::Nothing => "there is nothing where a frame should be",
                    FrameRead::Frame(_) => "the positions of frames go backwards",
                };
                survey.bad.push(Stretch {
                    offset,
                    end,
                    expected,
                    next,
                    reason,
                });
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

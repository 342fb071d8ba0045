//! The door of the fuzz targets to the stored format. It is there with the feature `fuzzing` alone and promises nothing to anybody else.

use crate::format::frame::{FrameHead, HEAD_BYTES, body_checksum, holds};
use crate::format::{Identity, batch, record};
use bytes::Bytes;
use tidings_core::Envelope;

/// A frame whose checksum held.
#[derive(Debug)]
pub struct CheckedFrame {
    /// Its head, written anew from what was read.
    pub head: [u8; HEAD_BYTES],
    /// Events that its head counts.
    pub count: u32,
    /// The events in its body, up to the first that is malformed.
    pub events: Vec<Envelope>,
    /// The first thing that is malformed in the body.
    pub malformed: Option<&'static str>,
}

/// Reads the frame that `bytes` begin with as one of this log and segment; `None` if there is none whose checksum holds.
pub fn read_frame(bytes: &[u8], log: u64, segment: u64) -> Option<CheckedFrame> {
    let identity = Identity { log, segment };
    let (head_bytes, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let head = FrameHead::decode(head_bytes).ok()?;
    let stored = rest.get(..head.stored_bytes as usize)?;
    if !holds(head_bytes, identity, stored) {
        return None;
    }
    let mut frame = CheckedFrame {
        head: head.encode(identity, body_checksum(stored)),
        count: head.count,
        events: Vec::new(),
        malformed: None,
    };
    frame.malformed = batch::unpack(&head, Bytes::copy_from_slice(stored))
        .and_then(|body| read_records(&body, &mut frame.events))
        .err()
        .map(|malformed| malformed.what);
    Some(frame)
}

fn read_records(
    body: &Bytes,
    events: &mut Vec<Envelope>,
) -> Result<(), crate::format::fields::Malformed> {
    let mut offset = 0;
    while let Some(range) = record::next(body, offset)? {
        offset = range.end;
        events.push(record::decode(body, range)?);
    }
    Ok(())
}

/// The records of events, as they stand in a body.
pub fn write_records(events: &[Envelope]) -> Vec<u8> {
    let mut out = Vec::new();
    events
        .iter()
        .for_each(|event| record::encode(event, record::content_bytes(event.parts()), &mut out));
    out
}

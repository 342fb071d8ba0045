//! The door of the fuzz targets to the stored format. It is there with the feature `fuzzing` alone and promises nothing to anybody else.

use crate::format::frame::{FrameHead, HEAD_BYTES, body_checksum, holds};
use crate::format::{Identity, batch, look_up, record};
use bytes::Bytes;
use tidings_core::Envelope;
use tidings_core::envelope::Packer;

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
    let (mut offset, mut packer) = (0, Packer::default());
    while let Some(range) = record::next(body, offset)? {
        offset = range.end;
        events.push(record::decode(body, range, &mut packer)?);
    }
    Ok(())
}

/// The records of events, as they stand in a body.
pub fn write_records(events: &[Envelope]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        let stored = event.stored();
        record::encode(&stored, record::content_bytes(&stored), &mut out);
    }
    out
}

/// The fingerprint of an event id.
pub fn fingerprint_of_id(log: u64, event_id: &str) -> u64 {
    look_up::fingerprint(log, look_up::Kind::EventId, event_id)
}

/// The blocks that a look-up table gives for a fingerprint; `None` if the table, or the bucket of the fingerprint, does not hold.
pub fn look_up(bytes: &[u8], log: u64, segment: u64, fingerprint: u64) -> Option<Vec<usize>> {
    let identity = Identity { log, segment };
    let (head, rest) = bytes.split_first_chunk()?;
    let head = look_up::TableHead::decode(head, identity).ok()?;
    let table = look_up::Table::decode(&head, rest.get(..head.lists_bytes())?).ok()?;
    let bucket = bytes
        .get(table.entries_at()..)?
        .get(table.bucket(fingerprint))?;
    let mut blocks = Vec::new();
    table.add_blocks_of(fingerprint, bucket, &mut blocks).ok()?;
    Some(blocks)
}

/// The look-up table of a segment with so many blocks of one event, with these fingerprints and blocks.
pub fn write_table(log: u64, segment: u64, pairs: &[(u64, usize)], blocks: usize) -> Vec<u8> {
    let mut entries: Vec<u64> = pairs
        .iter()
        .map(|(fingerprint, block)| look_up::entry(*fingerprint, *block))
        .collect();
    entries.sort_unstable();
    entries.dedup();
    let blocks: Vec<look_up::Block> = (0..blocks as u64)
        .map(|number| look_up::Block {
            first: segment + number,
            suspect: false,
        })
        .collect();
    let covered = look_up::Covered::new(0, &[], &[]);
    let next = segment + blocks.len() as u64;
    look_up::encode(Identity { log, segment }, next, covered, &blocks, &entries)
}

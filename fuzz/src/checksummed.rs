//! Records of the log with a checksum, written and judged here without asking the log: this is what its answers are compared with.

/// The log that all inputs belong to.
pub const LOG: u64 = 0x5eed;

/// Bytes of the head of a frame.
pub const HEAD_BYTES: usize = 64;
/// Bytes of the header of a segment.
pub const SEGMENT_HEADER_BYTES: usize = 64;

const CHECKSUM_SEED: u32 = 0x7469_6469;
const MAGIC: [u8; 4] = [0xf5, b'T', b'd', 0xf7];

/// A frame whose checksum holds.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// Where it begins.
    pub offset: usize,
    /// Position of its first event.
    pub first: u64,
    /// Events in it.
    pub count: u32,
    /// Everything before this position was synced, says its head.
    pub synced: u64,
    /// How its body is stored; zero is as it is.
    pub codec: u8,
    /// Its body as stored.
    pub stored: &'a [u8],
}

impl Held<'_> {
    /// Position behind its last event; `None` if there is no such position.
    pub fn next(&self) -> Option<u64> {
        self.first.checked_add(u64::from(self.count))
    }

    /// Whether the event at `position` is in it, as its head says.
    pub fn has(&self, position: u64) -> bool {
        position >= self.first && position - self.first < u64::from(self.count)
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(room) = bytes.get_mut(at..at + value.len()) {
        room.copy_from_slice(value);
    }
}

/// The bytes of the frame that begins at `offset`, if it has the magic and all of its body is there.
fn extent(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    let rest = bytes.get(offset..)?;
    let stored_bytes = u32::from_le_bytes(number(rest, 12)) as usize;
    (rest.len() >= HEAD_BYTES && rest.starts_with(&MAGIC))
        .then(|| rest.get(..HEAD_BYTES.checked_add(stored_bytes)?))?
}

/// Over the body, the head around its checksum, the log and the segment.
fn checksum(frame: &[u8], segment: u64) -> u32 {
    let (head, body) = frame.split_at(HEAD_BYTES);
    let parts: [&[u8]; 5] = [
        body,
        &head[..8],
        &head[12..],
        &LOG.to_le_bytes(),
        &segment.to_le_bytes(),
    ];
    parts
        .iter()
        .fold(CHECKSUM_SEED, |sum, part| crc32c::crc32c_append(sum, part))
}

/// The frame that begins at `offset`, if its checksum holds.
pub fn frame_at(bytes: &[u8], offset: usize, segment: u64) -> Option<Held<'_>> {
    let frame = extent(bytes, offset)?;
    let given = u32::from_le_bytes(number(frame, 8));
    (given == checksum(frame, segment)).then(|| Held {
        offset,
        first: u64::from_le_bytes(number(frame, 24)),
        count: u32::from_le_bytes(number(frame, 20)),
        synced: u64::from_le_bytes(number(frame, 32)),
        codec: frame[6],
        stored: &frame[HEAD_BYTES..],
    })
}

/// All frames of a segment whose checksum holds, wherever they stand.
pub fn frames(bytes: &[u8], segment: u64) -> Vec<Held<'_>> {
    memchr::memmem::find_iter(bytes, &MAGIC)
        .filter_map(|offset| frame_at(bytes, offset, segment))
        .collect()
}

/// Gives the frame that begins at `offset` the right checksum. Answers where it ends; `None` if there is none.
pub fn repair_frame(bytes: &mut [u8], offset: usize, segment: u64) -> Option<usize> {
    let frame = extent(bytes, offset)?;
    let (sum, end) = (checksum(frame, segment), offset + frame.len());
    put(bytes, offset + 8, &sum.to_le_bytes());
    Some(end)
}

/// Gives every frame of a segment the right checksum, one behind the other; where there is none, the next one is looked for.
pub fn repair_frames(bytes: &mut [u8], segment: u64) {
    let mut offset = SEGMENT_HEADER_BYTES;
    while let Some(at) = bytes
        .get(offset..)
        .and_then(|rest| memchr::memmem::find(rest, &MAGIC))
    {
        offset = repair_frame(bytes, offset + at, segment).unwrap_or(offset + at + 1);
    }
}

/// Makes a frame as long as its body is.
pub fn fit_frame(bytes: &mut [u8]) {
    let body_bytes = (bytes.len().saturating_sub(HEAD_BYTES) as u32).to_le_bytes();
    put(bytes, 12, &body_bytes);
    if bytes.get(6) == Some(&0) {
        put(bytes, 16, &body_bytes);
    }
}

/// A frame of a batch that is stored as it is.
pub fn batch_frame(body: &[u8], first: u64, count: u32, synced: u64, segment: u64) -> Vec<u8> {
    let mut frame = vec![0; HEAD_BYTES];
    put(&mut frame, 0, &MAGIC);
    put(&mut frame, 4, &[1, 1]);
    put(&mut frame, 20, &count.to_le_bytes());
    put(&mut frame, 24, &first.to_le_bytes());
    put(&mut frame, 32, &synced.to_le_bytes());
    frame.extend_from_slice(body);
    fit_frame(&mut frame);
    repair_frame(&mut frame, 0, segment);
    frame
}

/// Appends the checksum that small records end with.
fn closed(mut record: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c_append(CHECKSUM_SEED, &record);
    record.extend_from_slice(&sum.to_le_bytes());
    record
}

/// The header of a segment.
pub fn segment_header(segment: u64) -> Vec<u8> {
    let mut header = b"tidseg\xf5\xf7".to_vec();
    header.extend_from_slice(&1_u64.to_le_bytes());
    for value in [LOG, segment, 0] {
        header.extend_from_slice(&value.to_le_bytes());
    }
    header.resize(SEGMENT_HEADER_BYTES - 4, 0);
    closed(header)
}

/// The owner's word: how far the log may be read and is synced, the segment of its end and the offset there.
pub fn durable(visible: u64, synced: u64, segment: u64, offset: u64) -> Vec<u8> {
    let mut record = b"tiddur\xf5\xf7".to_vec();
    for value in [LOG, visible, synced, segment, offset] {
        record.extend_from_slice(&value.to_le_bytes());
    }
    record.resize(60, 0);
    closed(record)
}

/// The index of a segment: position, append time and offset of each entry.
pub fn index(segment: u64, covered_bytes: u64, entries: &[[u64; 3]]) -> Vec<u8> {
    let mut record = b"tididx\xf5\xf7".to_vec();
    for value in [LOG, segment, covered_bytes, entries.len() as u64]
        .iter()
        .chain(entries.as_flattened())
    {
        record.extend_from_slice(&value.to_le_bytes());
    }
    closed(record)
}

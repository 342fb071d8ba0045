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

const TABLE_HEAD_BYTES: usize = 64;
const TABLE_BLOCKS_MAX: usize = 4_096;
const TABLE_ENTRIES_MAX: usize = 3 * 1_048_576;

/// What the look-up table of a segment says of it.
#[derive(Debug)]
pub struct Covered {
    next: u64,
    bytes: u64,
    ends: u32,
}

impl Covered {
    /// What is said of a segment of these bytes, before the segment that begins at `next`.
    pub fn of(next: u64, segment: &[u8]) -> Self {
        let ends = [&segment[..64], &segment[segment.len() - 64..]];
        Self {
            next,
            bytes: segment.len() as u64,
            ends: ends
                .iter()
                .fold(CHECKSUM_SEED, |sum, part| crc32c::crc32c_append(sum, part)),
        }
    }
}

/// Makes a table one of the first segment of the log, if it is long enough to be one at all.
pub fn claim_table(table: &mut [u8], covered: &Covered) {
    put(table, 0, b"tidlkp\xf5\xf7");
    put(table, 8, &LOG.to_le_bytes());
    put(table, 16, &0_u64.to_le_bytes());
    put(table, 24, &covered.next.to_le_bytes());
    put(table, 32, &covered.bytes.to_le_bytes());
    put(table, 40, &covered.ends.to_le_bytes());
}

/// Where the lists of a table lie: the buckets, and the entries behind them.
fn lists(table: &[u8]) -> Option<(usize, usize)> {
    let blocks = u32::from_le_bytes(number(table, 44)) as usize;
    let buckets = u32::from_le_bytes(number(table, 48)) as usize;
    let sizes_are_ours = blocks <= TABLE_BLOCKS_MAX && buckets <= TABLE_ENTRIES_MAX / 256;
    let buckets_at = TABLE_HEAD_BYTES + 8 * blocks;
    let entries_at = buckets_at + 8 * buckets;
    (sizes_are_ours && table.len() >= entries_at).then_some((buckets_at, entries_at))
}

/// The entries of the bucket whose end stands at `at`.
fn bucket(table: &[u8], lists: (usize, usize), at: usize) -> Option<&[u8]> {
    let (buckets_at, entries_at) = lists;
    let end = u32::from_le_bytes(number(table, at)) as usize;
    let start = if at == buckets_at {
        0
    } else {
        u32::from_le_bytes(number(table, at - 8)) as usize
    };
    table.get(entries_at + 4 * start..entries_at + 4 * end)
}

fn sum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(CHECKSUM_SEED, bytes)
}

/// Gives a look-up table the right checksums.
pub fn repair_table(table: &mut [u8]) {
    if let Some((buckets_at, entries_at)) = lists(table) {
        for at in (buckets_at..entries_at).step_by(8) {
            if let Some(checksum) = bucket(table, (buckets_at, entries_at), at).map(sum) {
                put(table, at + 4, &checksum.to_le_bytes());
            }
        }
        let checksum = sum(&table[TABLE_HEAD_BYTES..entries_at]);
        put(table, 56, &checksum.to_le_bytes());
    }
    if let Some(head) = table.get(..TABLE_HEAD_BYTES - 4) {
        let checksum = sum(head);
        put(table, TABLE_HEAD_BYTES - 4, &checksum.to_le_bytes());
    }
}

/// Whether the head and the lists of a look-up table hold, whatever its buckets are. Answers where the lists lie.
pub fn table_lists(table: &[u8], segment: u64) -> Option<(usize, usize)> {
    let head = table.get(..TABLE_HEAD_BYTES)?;
    let (buckets_at, entries_at) = lists(table)?;
    let mut named = b"tidlkp\xf5\xf7".to_vec();
    named.extend_from_slice(&LOG.to_le_bytes());
    named.extend_from_slice(&segment.to_le_bytes());
    let u64_at = |at: usize| u64::from_le_bytes(number(table, at));
    let u32_at = |at: usize| u32::from_le_bytes(number(table, at));
    let firsts: Vec<u64> = (TABLE_HEAD_BYTES..buckets_at)
        .step_by(8)
        .map(|at| u64_at(at) & !(1 << 63))
        .collect();
    let ends: Vec<u32> = (buckets_at..entries_at).step_by(8).map(u32_at).collect();
    let holds = head.starts_with(&named)
        && sum(&head[..60]) == u32_at(60)
        && sum(&table[TABLE_HEAD_BYTES..entries_at]) == u32_at(56)
        && firsts.is_sorted()
        && firsts.first().is_none_or(|first| *first >= segment)
        && firsts.last().is_none_or(|last| *last <= u64_at(24))
        && ends.is_sorted()
        && ends
            .last()
            .is_none_or(|last| *last as usize <= TABLE_ENTRIES_MAX);
    holds.then_some((buckets_at, entries_at))
}

/// The blocks that a look-up table gives for a fingerprint; `None` if it does not hold.
pub fn table_blocks(table: &[u8], segment: u64, fingerprint: u64) -> Option<Vec<usize>> {
    let (buckets_at, entries_at) = table_lists(table, segment)?;
    let u32_at = |at: usize| u32::from_le_bytes(number(table, at));
    let buckets = (entries_at - buckets_at) / 8;
    if buckets == 0 {
        return Some(Vec::new());
    }
    let at = ((u128::from(fingerprint >> 32) * buckets as u128) >> 32) as usize;
    let bucket_at = buckets_at + 8 * at;
    let entries = bucket(table, (buckets_at, entries_at), bucket_at)?;
    if sum(entries) != u32_at(bucket_at + 4) {
        return None;
    }
    let entries = entries
        .as_chunks::<4>()
        .0
        .iter()
        .map(|entry| u32::from_le_bytes(*entry));
    let same = entries.filter(|entry| entry >> 12 == fingerprint as u32 >> 12);
    Some(same.map(|entry| (entry & 0xfff) as usize).collect())
}

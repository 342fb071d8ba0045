//! The look-up table beside a closed segment: which of its blocks may hold an event id or a key. It is a hint: whoever follows it compares the events themselves.
//!
//! An entry is a fingerprint and the number of a block. Entries lie in buckets by the high bits of the fingerprint, each bucket with a checksum of its own, so that one look-up reads the lists and one bucket.

use super::fields::{Fields, Malformed};
use super::{CHECKSUM_SEED, Identity};
use tidings_core::limits::SEGMENT_EVENTS_MAX;

const MAGIC: &[u8; 8] = b"tidlkp\xf5\xf7";
/// Bytes of the head of a table.
pub(crate) const TABLE_HEAD_BYTES: usize = 64;
const BLOCK_BYTES: usize = 8;
const BUCKET_BYTES: usize = 8;
const ENTRY_BYTES: usize = 4;
/// Bits of an entry that number the block.
const BLOCK_BITS: u32 = 12;
/// Blocks of one table.
pub(crate) const BLOCKS_MAX: usize = 1 << BLOCK_BITS;
/// Entries of a bucket, on average.
const BUCKET_ENTRIES: usize = 256;
/// Entries of one table: an event has an id, a key, and an aggregate id where that is another one. There is room for a segment that is twice as full.
pub(crate) const ENTRIES_MAX: usize = 2 * 3 * SEGMENT_EVENTS_MAX as usize;
const BUCKETS_MAX: usize = ENTRIES_MAX / BUCKET_ENTRIES;
/// Set in the first position of a block that every look-up has to read.
const SUSPECT: u64 = 1 << 63;

/// What a fingerprint is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    EventId,
    Key,
}

/// The fingerprint of an event id or a key, with room for the number of a block in its lowest bits.
///
/// It depends on the log, so that nobody outside it can make ids that fall together. If they could, look-ups would become slow, never wrong.
pub(crate) fn fingerprint(log: u64, kind: Kind, text: &str) -> u64 {
    const MULTIPLIER: u64 = 0x9fb2_1c65_1e98_df25;
    let seed = match kind {
        Kind::EventId => 0x6964,
        Kind::Key => 0x006b_6579,
    };
    let mut hash = mix(log ^ seed) ^ (text.len() as u64).wrapping_mul(MULTIPLIER);
    for piece in text.as_bytes().chunks(8) {
        let mut bytes = [0; 8];
        if let Some(room) = bytes.get_mut(..piece.len()) {
            room.copy_from_slice(piece);
        }
        hash = mix(hash ^ u64::from_le_bytes(bytes)).wrapping_mul(MULTIPLIER);
    }
    mix(hash) >> BLOCK_BITS << BLOCK_BITS
}

/// Spreads every bit over all of them (the finalizer of MurmurHash3).
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A fingerprint together with a block.
pub(crate) fn entry(fingerprint: u64, block: usize) -> u64 {
    fingerprint | block as u64
}

/// The block of an entry.
pub(crate) fn block_of(entry: u64) -> usize {
    (entry & (BLOCKS_MAX as u64 - 1)) as usize
}

/// The same entry once two neighbouring blocks are one.
pub(crate) fn coarser(entry: u64) -> u64 {
    let block = entry & (BLOCKS_MAX as u64 - 1);
    (entry - block) | (block / 2)
}

/// Events in a row that are looked at together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Position of the first event; the block ends where the next one begins.
    pub first: u64,
    /// Whether something in it could not be read: then it may hold any event.
    pub suspect: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// Entries up to the end of this bucket.
    end: u32,
    checksum: u32,
}

/// The segment that a table was made of: another file of its name is told by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Covered {
    /// Its length.
    pub bytes: u64,
    /// A checksum of its first and its last bytes, which say when it was begun and closed.
    pub ends: u32,
}

impl Covered {
    /// Bytes at either end that are looked at.
    pub(crate) const END_BYTES: usize = 64;

    /// What is remembered of a segment of so many bytes that begins and ends so.
    pub(crate) fn new(bytes: u64, first: &[u8], last: &[u8]) -> Self {
        let ends = crc32c::crc32c_append(CHECKSUM_SEED, first);
        Self {
            bytes,
            ends: crc32c::crc32c_append(ends, last),
        }
    }
}

/// What is known of a table before its lists are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableHead {
    first: u64,
    next: u64,
    covered: Covered,
    blocks: usize,
    buckets: usize,
    lists_checksum: u32,
}

impl TableHead {
    /// Reads the head of the table of this segment and no other.
    pub(crate) fn decode(
        bytes: &[u8; TABLE_HEAD_BYTES],
        identity: Identity,
    ) -> Result<Self, Malformed> {
        let what = "the head of a look-up table";
        let (covered, checksum) = bytes.split_last_chunk::<4>().ok_or(Malformed { what })?;
        if crc32c::crc32c_append(CHECKSUM_SEED, covered) != u32::from_le_bytes(*checksum) {
            return Err(Malformed { what });
        }
        let mut fields = Fields::new(covered);
        let magic = fields.bytes(MAGIC.len(), what)?;
        let found = Identity {
            log: fields.u64(what)?,
            segment: fields.u64(what)?,
        };
        let head = Self {
            first: found.segment,
            next: fields.u64(what)?,
            covered: Covered {
                bytes: fields.u64(what)?,
                ends: fields.u32(what)?,
            },
            blocks: fields.u32(what)? as usize,
            buckets: fields.u32(what)? as usize,
            lists_checksum: {
                fields.bytes(4, what)?;
                fields.u32(what)?
            },
        };
        let sizes_are_ours = head.blocks <= BLOCKS_MAX && head.buckets <= BUCKETS_MAX;
        if magic == MAGIC && found == identity && sizes_are_ours {
            Ok(head)
        } else {
            Err(Malformed { what })
        }
    }

    /// Bytes of the lists behind the head.
    pub(crate) fn lists_bytes(&self) -> usize {
        self.blocks * BLOCK_BYTES + self.buckets * BUCKET_BYTES
    }
}

/// A table without its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Position behind the last event.
    pub next: u64,
    pub covered: Covered,
    blocks: Vec<Block>,
    buckets: Vec<Bucket>,
}

impl Table {
    /// Reads the lists that follow a head.
    pub(crate) fn decode(head: &TableHead, lists: &[u8]) -> Result<Self, Malformed> {
        let what = "the lists of a look-up table";
        let checksum = crc32c::crc32c_append(CHECKSUM_SEED, lists);
        if lists.len() != head.lists_bytes() || checksum != head.lists_checksum {
            return Err(Malformed { what });
        }
        let mut fields = Fields::new(lists);
        let blocks = (0..head.blocks)
            .map(|_| {
                let first = fields.u64(what)?;
                Ok(Block {
                    first: first & !SUSPECT,
                    suspect: first & SUSPECT != 0,
                })
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        let buckets = (0..head.buckets)
            .map(|_| {
                Ok(Bucket {
                    end: fields.u32(what)?,
                    checksum: fields.u32(what)?,
                })
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        let sound = blocks.is_sorted_by_key(|block| block.first)
            && blocks.first().is_none_or(|first| first.first >= head.first)
            && blocks.last().is_none_or(|last| last.first <= head.next)
            && buckets.is_sorted_by_key(|bucket| bucket.end)
            && buckets
                .last()
                .is_none_or(|last| last.end as usize <= ENTRIES_MAX);
        if !sound {
            return Err(Malformed { what });
        }
        Ok(Self {
            next: head.next,
            covered: head.covered,
            blocks,
            buckets,
        })
    }

    /// The blocks, in order.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Bytes of the lists in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.blocks.as_slice()) + size_of_val(self.buckets.as_slice())
    }

    /// Bytes of all entries.
    pub(crate) fn entries_bytes(&self) -> usize {
        self.buckets
            .last()
            .map_or(0, |last| last.end as usize * ENTRY_BYTES)
    }

    /// Where the entries begin in the file.
    pub(crate) fn entries_at(&self) -> usize {
        TABLE_HEAD_BYTES + self.blocks.len() * BLOCK_BYTES + self.buckets.len() * BUCKET_BYTES
    }

    /// Which bytes of the entries are the bucket of a fingerprint.
    pub(crate) fn bucket(&self, fingerprint: u64) -> std::ops::Range<usize> {
        let at = bucket_of(fingerprint, self.buckets.len());
        let end = |at: usize| self.buckets.get(at).map_or(0, |bucket| bucket.end as usize);
        let start = at.checked_sub(1).map_or(0, end);
        start * ENTRY_BYTES..end(at) * ENTRY_BYTES
    }

    /// Adds the blocks that may hold what the fingerprint is of, read from its bucket.
    pub(crate) fn add_blocks_of(
        &self,
        fingerprint: u64,
        bucket: &[u8],
        blocks: &mut Vec<usize>,
    ) -> Result<(), Malformed> {
        let what = "a bucket of a look-up table";
        let at = bucket_of(fingerprint, self.buckets.len());
        let Some(known) = self.buckets.get(at) else {
            return Ok(());
        };
        if crc32c::crc32c_append(CHECKSUM_SEED, bucket) != known.checksum {
            return Err(Malformed { what });
        }
        let tag = fingerprint as u32 >> BLOCK_BITS;
        let (entries, _) = bucket.as_chunks::<ENTRY_BYTES>();
        for entry in entries.iter().map(|bytes| u32::from_le_bytes(*bytes)) {
            if entry >> BLOCK_BITS == tag {
                blocks.push(block_of(u64::from(entry)));
            }
        }
        Ok(())
    }
}

/// The table of a segment as bytes. The entries are sorted, and none stands twice.
pub(crate) fn encode(
    identity: Identity,
    next: u64,
    covered: Covered,
    blocks: &[Block],
    entries: &[u64],
) -> Vec<u8> {
    let buckets = entries.len().div_ceil(BUCKET_ENTRIES);
    let lists_bytes = blocks.len() * BLOCK_BYTES + buckets * BUCKET_BYTES;
    let entries_at = TABLE_HEAD_BYTES + lists_bytes;
    let mut out = vec![0; entries_at];
    out.reserve_exact(entries.len() * ENTRY_BYTES);
    let mut lists = Vec::with_capacity(lists_bytes);
    for block in blocks {
        let flag = if block.suspect { SUSPECT } else { 0 };
        lists.extend_from_slice(&(block.first | flag).to_le_bytes());
    }
    let mut end = 0;
    for bucket in 0..buckets {
        let start = out.len();
        while let Some(entry) = entries
            .get(end)
            .filter(|entry| bucket_of(**entry, buckets) == bucket)
        {
            // What is left out is what the number of the bucket says.
            out.extend_from_slice(&(*entry as u32).to_le_bytes());
            end += 1;
        }
        let stored = out.get(start..).unwrap_or_default();
        let checksum = crc32c::crc32c_append(CHECKSUM_SEED, stored);
        lists.extend_from_slice(&(end as u32).to_le_bytes());
        lists.extend_from_slice(&checksum.to_le_bytes());
    }
    let mut head = Vec::with_capacity(TABLE_HEAD_BYTES);
    head.extend_from_slice(MAGIC);
    for field in [identity.log, identity.segment, next, covered.bytes] {
        head.extend_from_slice(&field.to_le_bytes());
    }
    for field in [covered.ends, blocks.len() as u32, buckets as u32, 0] {
        head.extend_from_slice(&field.to_le_bytes());
    }
    let checksum = crc32c::crc32c_append(CHECKSUM_SEED, &lists);
    head.extend_from_slice(&checksum.to_le_bytes());
    let checksum = crc32c::crc32c_append(CHECKSUM_SEED, &head);
    head.extend_from_slice(&checksum.to_le_bytes());
    head.extend_from_slice(&lists);
    if let Some(room) = out.get_mut(..entries_at) {
        room.copy_from_slice(&head);
    }
    out
}

/// In which of so many buckets an entry lies: they share the range of the high bits evenly, in its order.
fn bucket_of(entry: u64, buckets: usize) -> usize {
    (((entry >> 32) * buckets as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const IDENTITY: Identity = Identity {
        log: 7,
        segment: 100,
    };

    const COVERED: Covered = Covered {
        bytes: 9_999,
        ends: 5,
    };

    fn blocks(count: u64) -> Vec<Block> {
        (0..count)
            .map(|number| Block {
                first: 100 + 10 * number,
                suspect: number % 5 == 4,
            })
            .collect()
    }

    fn read(bytes: &[u8], identity: Identity) -> Result<Table, Malformed> {
        let (head, rest) = bytes.split_first_chunk().unwrap();
        let head = TableHead::decode(head, identity)?;
        Table::decode(&head, rest.get(..head.lists_bytes()).unwrap_or_default())
    }

    fn look_up(table: &Table, bytes: &[u8], fingerprint: u64) -> Result<Vec<usize>, Malformed> {
        let entries = &bytes[table.entries_at()..];
        let mut blocks = Vec::new();
        let bucket = &entries[table.bucket(fingerprint)];
        table.add_blocks_of(fingerprint, bucket, &mut blocks)?;
        Ok(blocks)
    }

    fn sample() -> Vec<u8> {
        let fingerprints = (0..600).map(|n| fingerprint(7, Kind::EventId, &format!("evt-{n}")));
        let mut entries: Vec<u64> = fingerprints
            .enumerate()
            .map(|(n, print)| entry(print, n / 60))
            .collect();
        entries.sort_unstable();
        encode(IDENTITY, 700, COVERED, &blocks(10), &entries)
    }

    #[test]
    fn a_table_comes_back_and_finds_what_is_in_it() {
        let bytes = sample();
        let table = read(&bytes, IDENTITY).unwrap();

        assert_eq!((table.next, table.covered), (700, COVERED));
        assert_eq!(table.blocks(), blocks(10));
        assert_eq!(table.entries_at() + table.entries_bytes(), bytes.len());
        for n in 0..600 {
            let print = fingerprint(7, Kind::EventId, &format!("evt-{n}"));
            assert!(
                look_up(&table, &bytes, print).unwrap().contains(&(n / 60)),
                "{n}"
            );
        }
        let absent = (600..2_600).filter(|n| {
            let print = fingerprint(7, Kind::EventId, &format!("evt-{n}"));
            !look_up(&table, &bytes, print).unwrap().is_empty()
        });
        assert!(absent.count() < 10, "absent ids are seldom taken for there");
    }

    #[test]
    fn every_changed_bit_is_seen_and_a_table_of_another_segment_or_log_too() {
        let bytes = sample();
        let prints: Vec<u64> = (0..600)
            .map(|n| fingerprint(7, Kind::EventId, &format!("evt-{n}")))
            .collect();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let seen = match read(&changed, IDENTITY) {
                Err(_) => true,
                Ok(table) => {
                    let at = (bit / 8 - table.entries_at()) / ENTRY_BYTES;
                    let probe = prints
                        .iter()
                        .find(|print| table.bucket(**print).contains(&(at * ENTRY_BYTES)));
                    look_up(&table, &changed, *probe.unwrap()).is_err()
                }
            };
            assert!(seen, "bit {bit}");
        }
        for other in [
            Identity { log: 8, ..IDENTITY },
            Identity {
                segment: 99,
                ..IDENTITY
            },
        ] {
            assert!(read(&bytes, other).is_err());
        }
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let bytes = encode(IDENTITY, 100, COVERED, &[], &[]);
        let table = read(&bytes, IDENTITY).unwrap();

        assert_eq!(
            look_up(&table, &bytes, fingerprint(7, Kind::Key, "a")),
            Ok(vec![])
        );
    }

    #[test]
    fn fingerprints_differ_by_text_kind_and_log() {
        let prints: BTreeSet<u64> = (0..10_000)
            .flat_map(|n| {
                let text = format!("order-{n}");
                [
                    fingerprint(1, Kind::EventId, &text),
                    fingerprint(1, Kind::Key, &text),
                    fingerprint(2, Kind::Key, &text),
                ]
            })
            .collect();

        assert_eq!(prints.len(), 30_000);
        assert!(prints.iter().all(|print| block_of(*print) == 0));
        assert_ne!(
            fingerprint(1, Kind::Key, ""),
            fingerprint(1, Kind::Key, "\0")
        );
    }

    proptest! {
        /// The model is a plain list of fingerprint and block.
        #[test]
        fn it_agrees_with_a_plain_list(pairs in proptest::collection::vec((0_u32..40, 0_usize..20), 0..400)) {
            let print = |number: &u32| fingerprint(7, Kind::Key, &format!("k{number}"));
            let mut entries: Vec<u64> = pairs.iter().map(|(number, block)| entry(print(number), *block)).collect();
            entries.sort_unstable();
            entries.dedup();
            let bytes = encode(IDENTITY, 300, COVERED, &blocks(20), &entries);
            let table = read(&bytes, IDENTITY).unwrap();
            for number in 0..40 {
                let expected: BTreeSet<usize> = pairs.iter().filter(|pair| pair.0 == number).map(|pair| pair.1).collect();
                let found: BTreeSet<usize> = look_up(&table, &bytes, print(&number)).unwrap().into_iter().collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}

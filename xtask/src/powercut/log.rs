//! `WriteLog`: what reached a disk, in order, read from the dm-log-writes format as qemu's `blklogwrites` writes it.
//!
//! A first sector with magic, version, entry count and sector size; then for each entry one sector with its head, four
//! numbers of 64 bits, and the bytes that were written. All numbers are little-endian.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::failure::Failure;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// Where in the first sector the number of entries stands.
const COUNT_OFFSET: u64 = 16;
/// The head of an entry and of the log: four numbers.
const HEAD_BYTES: usize = 32;

const FLAG_FLUSH: u64 = 1;
const FLAG_FUA: u64 = 2;
const FLAG_DISCARD: u64 = 4;
const FLAGS_KNOWN: u64 = FLAG_FLUSH | FLAG_FUA | FLAG_DISCARD;

/// One thing that was asked of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Everything before it is durable.
    pub(super) is_flush: bool,
    /// It is durable by itself (forced unit access).
    pub(super) is_forced: bool,
    /// The range holds nothing any more.
    pub(super) is_discard: bool,
    /// Where on the disk, in bytes.
    pub(super) offset: u64,
    /// How much of the disk, in bytes.
    pub(super) bytes: u64,
    /// Where in the log what was written stands; empty for a flush and a discard.
    written: Range<usize>,
}

/// All that was asked of a disk.
#[derive(Debug)]
pub(super) struct WriteLog {
    bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

impl WriteLog {
    pub(super) fn read(path: &Path) -> Result<WriteLog, Failure> {
        let bytes = std::fs::read(path).map_err(|cause| Failure::file("read", path, &cause))?;
        WriteLog::parse(bytes)
            .map_err(|why| Failure::new(format!("{} is no log of writes: {why}", path.display())))
    }

    pub(super) fn parse(bytes: Vec<u8>) -> Result<WriteLog, String> {
        let [magic, version, count, sizes] = numbers(&bytes, 0)?;
        // The last of the four is a number of 32 bits, with padding behind.
        let sector_bytes = sizes & 0xffff_ffff;
        if magic != MAGIC || version != VERSION {
            return Err(format!("magic {magic:#x}, version {version}"));
        }
        if !(512..=65_536).contains(&sector_bytes) || !sector_bytes.is_power_of_two() {
            return Err(format!("sectors of {sector_bytes} bytes"));
        }
        let sector = usize::try_from(sector_bytes).map_err(|_| "sectors too large")?;
        let mut entries = Vec::new();
        let mut at = sector;
        for number in 0..count {
            let (entry, next) =
                entry(&bytes, at, sector).map_err(|why| format!("entry {number}: {why}"))?;
            entries.push(entry);
            at = next;
        }
        Ok(WriteLog { bytes, entries })
    }

    /// What an entry wrote.
    pub(super) fn written(&self, entry: &Entry) -> &[u8] {
        self.bytes.get(entry.written.clone()).unwrap_or_default()
    }

    /// Of the first `count` entries, so many are certain to be on the disk: those up to the last flush.
    pub(super) fn flushed(&self, count: usize) -> usize {
        let known = self.entries.get(..count).unwrap_or(&self.entries);
        known
            .iter()
            .rposition(|entry| entry.is_flush)
            .map_or(0, |last| last + 1)
    }
}

/// How many entries a log has that is still being written. Its first sector comes with its first entry.
pub(super) fn count_now(log: &File) -> std::io::Result<usize> {
    let mut bytes = [0; 8];
    if log.read_at(&mut bytes, COUNT_OFFSET)? < bytes.len() {
        return Ok(0);
    }
    Ok(usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX))
}

fn entry(bytes: &[u8], at: usize, sector: usize) -> Result<(Entry, usize), String> {
    let [first, sectors, flags, _] = numbers(bytes, at)?;
    if flags & !FLAGS_KNOWN != 0 {
        return Err(format!("unknown flags {flags:#x}"));
    }
    let offset = first.checked_mul(sector as u64).ok_or("it lies nowhere")?;
    let length = sectors.checked_mul(sector as u64).ok_or("it is endless")?;
    let is_discard = flags & FLAG_DISCARD != 0;
    let start = at + sector;
    let written = match is_discard {
        true => start..start,
        false => {
            let length = usize::try_from(length).map_err(|_| "it is too long")?;
            start..start.checked_add(length).ok_or("it is too long")?
        }
    };
    if written.end > bytes.len() {
        return Err(format!("the log ends within it, at {}", bytes.len()));
    }
    let next = written.end;
    let entry = Entry {
        is_flush: flags & FLAG_FLUSH != 0,
        is_forced: flags & FLAG_FUA != 0,
        is_discard,
        offset,
        bytes: length,
        written,
    };
    Ok((entry, next))
}

fn numbers(bytes: &[u8], at: usize) -> Result<[u64; 4], String> {
    let head = bytes
        .get(at..at.saturating_add(HEAD_BYTES))
        .ok_or("the log ends before it")?;
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(head.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*bytes);
    }
    Ok(numbers)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A log of 512-byte sectors; each entry: first sector, flags, bytes.
    pub(crate) fn log_of(entries: &[(u64, u64, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = sector_of([MAGIC, VERSION, entries.len() as u64, 512]);
        for (first, flags, written) in entries {
            let sectors = written.len() as u64 / 512;
            bytes.extend(sector_of([*first, sectors, *flags, 0]));
            if flags & FLAG_DISCARD == 0 {
                bytes.extend(written);
            }
        }
        bytes
    }

    fn sector_of(numbers: [u64; 4]) -> Vec<u8> {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes
    }

    #[test]
    fn writes_flushes_and_discards_are_read_in_order() {
        let bytes = log_of(&[
            (8, 0, vec![7; 1024]),
            (0, FLAG_FLUSH, Vec::new()),
            (4, FLAG_DISCARD, vec![0; 512]),
            (9, FLAG_FUA, vec![3; 512]),
        ]);

        let log = WriteLog::parse(bytes).expect("parses");

        let [write, flush, discard, forced] = &log.entries[..] else {
            panic!("{:?}", log.entries);
        };
        assert_eq!((write.offset, log.written(write)), (4096, &[7; 1024][..]));
        assert!(flush.is_flush && flush.bytes == 0);
        assert!(discard.is_discard && discard.bytes == 512);
        assert!(log.written(discard).is_empty());
        assert!(forced.is_forced && log.written(forced) == [3; 512]);
    }

    #[test]
    fn what_is_flushed_ends_with_the_last_flush() {
        let log = WriteLog::parse(log_of(&[
            (8, 0, vec![7; 512]),
            (0, FLAG_FLUSH, Vec::new()),
            (9, 0, vec![7; 512]),
        ]))
        .expect("parses");

        assert_eq!([0, 1, 2, 3].map(|count| log.flushed(count)), [0, 0, 2, 2]);
    }

    #[test]
    fn bytes_behind_the_counted_entries_are_left_alone() {
        let mut bytes = log_of(&[(8, 0, vec![7; 512])]);
        bytes.extend([1; 100]);

        assert_eq!(WriteLog::parse(bytes).expect("parses").entries.len(), 1);
    }

    #[test]
    fn what_is_no_log_is_refused_with_the_reason() {
        let good = log_of(&[(8, 0, vec![7; 512])]);
        let mut foreign = good.clone();
        foreign[0] ^= 1;
        let mut no_sectors = good.clone();
        no_sectors[24..32].fill(0);
        let mut unknown = good.clone();
        unknown[512 + 16] = 64;

        let why = |bytes: &[u8]| WriteLog::parse(bytes.to_vec()).expect_err("refused");

        assert!(why(&foreign).contains("magic"));
        assert!(why(&no_sectors).contains("sectors of 0 bytes"));
        assert!(why(&unknown).contains("entry 0: unknown flags 0x40"));
        assert!(why(&good[..good.len() - 1]).contains("ends within it"));
        assert!(why(&good[..600]).contains("entry 0"));
        assert!(why(&[]).contains("ends before it"));
    }
}

//! The look-up table of a closed segment as it lies on the disk: reading it, making it, and not believing it.

use super::collected::{Collected, Halt};
use crate::files::is_full;
use crate::format::Identity;
use crate::format::look_up::{Covered, TABLE_HEAD_BYTES, Table, TableHead};
use crate::log::Log;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidings_core::limits::{DISK_RESERVE_BYTES, LOOK_UP_KEPT_BYTES_MAX};
use tidings_core::seam::{DiskFile, OpenMode};

/// What is known of the table of a segment.
#[derive(Debug, Default)]
pub(crate) enum TableState {
    /// Nothing yet, or it is not there.
    #[default]
    Unread,
    /// It was read and fits its segment.
    Kept(Arc<KeptTable>),
    /// The segment has too many entries for a table.
    Impossible,
}

/// A table in memory: its lists, and the entries where there is room for them.
#[derive(Debug)]
pub(crate) struct KeptTable {
    pub table: Table,
    entries: Option<Box<[u8]>>,
    bytes: u64,
    budget: Budget,
}

/// Bytes of tables that are kept in memory, together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget(Arc<AtomicU64>);

impl Budget {
    /// Takes room for so many bytes, if there is any.
    fn take(&self, bytes: u64) -> bool {
        let taken = self
            .0
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                Some(taken + bytes).filter(|taken| *taken <= LOOK_UP_KEPT_BYTES_MAX)
            });
        taken.is_ok()
    }
}

impl Drop for KeptTable {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A segment that is closed: where it begins, and where the next one does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    pub first: u64,
    pub next: u64,
}

/// Why there is no table to go by.
#[derive(Debug)]
pub(crate) enum NoTable {
    /// There is no file.
    Missing,
    /// There is one, and it does not hold or is of another segment.
    Wrong(&'static str),
}

/// Reads the table of a segment; the entries too if `whole` and there is room for them.
pub(crate) fn read(
    log: &Log,
    closed: Closed,
    budget: &Budget,
    whole: bool,
) -> Result<KeptTable, NoTable> {
    let file = log
        .folder
        .disk
        .open(&log.folder.look_up(closed.first), OpenMode::Read)
        .map_err(|_| NoTable::Missing)?;
    let identity = Identity {
        log: log.number,
        segment: closed.first,
    };
    let head = read_exact(&*file, 0, TABLE_HEAD_BYTES)?;
    let head = head
        .first_chunk()
        .ok_or(NoTable::Wrong("it is too short"))?;
    let head = TableHead::decode(head, identity).map_err(|wrong| NoTable::Wrong(wrong.what))?;
    let lists = read_exact(&*file, TABLE_HEAD_BYTES, head.lists_bytes())?;
    let table = Table::decode(&head, &lists).map_err(|wrong| NoTable::Wrong(wrong.what))?;
    let covered = covered(log, closed).map_err(|_| NoTable::Missing)?;
    if table.next != closed.next || table.covered != covered {
        return Err(NoTable::Wrong("the segment is not what it was"));
    }
    let mut kept = KeptTable {
        entries: None,
        bytes: table.bytes() as u64,
        budget: budget.clone(),
        table,
    };
    if !budget.take(kept.bytes) {
        kept.bytes = 0;
    }
    if whole {
        kept.read_entries(&*file)?;
    }
    Ok(kept)
}

impl KeptTable {
    /// Whether its entries are read from the disk each time, though there may be room for them.
    pub(crate) fn may_grow(&self) -> bool {
        self.entries.is_none()
            && self.budget.0.load(Ordering::Relaxed) + (self.table.entries_bytes() as u64)
                <= LOOK_UP_KEPT_BYTES_MAX
    }

    /// Whether there was no room to keep even its lists.
    pub(crate) fn is_passing(&self) -> bool {
        self.bytes == 0 && self.table.bytes() > 0
    }

    fn read_entries(&mut self, file: &dyn DiskFile) -> Result<(), NoTable> {
        let bytes = self.table.entries_bytes();
        if !self.is_passing() && self.budget.take(bytes as u64) {
            // Counted at once, so that it is given back whatever becomes of the reading.
            self.bytes += bytes as u64;
            let entries = read_exact(file, self.table.entries_at(), bytes)?;
            self.entries = Some(entries.into_boxed_slice());
        }
        Ok(())
    }

    /// Adds the blocks that may hold what one of the fingerprints is of.
    pub(crate) fn add_blocks_of(
        &self,
        log: &Log,
        closed: Closed,
        fingerprints: &[u64],
        blocks: &mut Vec<usize>,
    ) -> Result<(), NoTable> {
        let wrong = |malformed: crate::format::fields::Malformed| NoTable::Wrong(malformed.what);
        if let Some(entries) = &self.entries {
            for &fingerprint in fingerprints {
                let bucket = entries.get(self.table.bucket(fingerprint));
                self.table
                    .add_blocks_of(fingerprint, bucket.unwrap_or_default(), blocks)
                    .map_err(wrong)?;
            }
            return Ok(());
        }
        let path = log.folder.look_up(closed.first);
        let file = log.folder.disk.open(&path, OpenMode::Read);
        let file = file.map_err(|_| NoTable::Missing)?;
        for &fingerprint in fingerprints {
            let range = self.table.bucket(fingerprint);
            let bucket = read_exact(&*file, self.table.entries_at() + range.start, range.len())?;
            self.table
                .add_blocks_of(fingerprint, &bucket, blocks)
                .map_err(wrong)?;
        }
        Ok(())
    }
}

/// What tells a segment from another one of its name.
fn covered(log: &Log, closed: Closed) -> io::Result<Covered> {
    let path = log.folder.segment(closed.first);
    let file = log.folder.disk.open(&path, OpenMode::Read)?;
    let bytes = file.bytes()?;
    let mut ends = [[0; Covered::END_BYTES]; 2];
    let [first, last] = &mut ends;
    let read = [
        file.read_at(first, 0)?,
        file.read_at(last, bytes.saturating_sub(Covered::END_BYTES as u64))?,
    ];
    let [first, last] = &ends;
    Ok(Covered::new(
        bytes,
        first.get(..read[0]).unwrap_or_default(),
        last.get(..read[1]).unwrap_or_default(),
    ))
}

fn read_exact(file: &dyn DiskFile, at: usize, bytes: usize) -> Result<Vec<u8>, NoTable> {
    let mut buffer = vec![0; bytes];
    match file.read_at(&mut buffer, at as u64) {
        Ok(read) if read == bytes => Ok(buffer),
        Ok(_) => Err(NoTable::Wrong("it is too short")),
        Err(_) => Err(NoTable::Missing),
    }
}

/// Makes the table of a segment by reading the segment, and writes it. An error leaves what is wrong by its checksums.
///
/// It is not flushed: a table that does not hold is made anew.
pub(crate) fn make(log: &Arc<Log>, closed: Closed, stop: &dyn Fn() -> bool) -> Result<(), Halt> {
    let identity = Identity {
        log: log.number,
        segment: closed.first,
    };
    let mut collected = Collected::new(identity);
    collected.read_to(log, closed.next, stop)?;
    if stop() {
        return Err(Halt::Stopped);
    }
    // Behind damage at the end of a segment there is nothing that could be read further.
    collected.next = closed.next;
    let path = log.folder.look_up(closed.first);
    let written = (|| {
        let disk = &*log.folder.disk;
        let table = collected.into_table(covered(log, closed)?);
        // The last room of the disk is for cursors.
        let free = disk.free_bytes(&log.folder.log()).unwrap_or(u64::MAX);
        if free < DISK_RESERVE_BYTES + table.len() as u64 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let file = disk.open(&path, OpenMode::Create)?;
        // Nobody may take the head of an older one for that of the entries that are about to come.
        file.set_bytes(0)?;
        file.write_all_at(&table, 0)
    })();
    written.map_err(|error| {
        if is_full(&error)
            && let Err(error) = log.folder.disk.remove(&path)
        {
            tracing::debug!(%error, path = %path.display(), "half of a look-up table was left behind");
        }
        Halt::Failed(crate::files::failed("writing", &path, error))
    })
}

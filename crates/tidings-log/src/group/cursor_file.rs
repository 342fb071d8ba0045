//! The file of a group's cursor: two slots written in turn, so that there is always one that was flushed whole.

use crate::format::cursor::{CURSOR_FILE_BYTES, CursorSlot, SLOT_BYTES, SLOT_OFFSETS};
use std::io;
use std::path::{Path, PathBuf};
use tidings_core::seam::{Disk, DiskFile, OpenMode};

/// The open cursor of a group.
pub(crate) struct CursorFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    slot: CursorSlot,
    /// The slot that was flushed last; the other one is written.
    flushed: usize,
    dirty: bool,
}

/// What a cursor file holds.
pub(crate) enum CursorRead {
    /// The cursor.
    Held(CursorSlot, CursorFile),
    /// No cursor of this group: why.
    Lost(&'static str),
}

impl CursorFile {
    /// Makes the file with all the room that it will ever need.
    pub(crate) fn create(disk: &dyn Disk, path: &Path, slot: CursorSlot) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Create)?;
        let mut bytes = vec![0; CURSOR_FILE_BYTES];
        bytes
            .iter_mut()
            .zip(slot.encode())
            .for_each(|(to, from)| *to = from);
        file.write_all_at(&bytes, 0)?;
        file.set_bytes(CURSOR_FILE_BYTES as u64)?;
        file.sync_data()?;
        if let Some(directory) = path.parent() {
            disk.sync_directory(directory)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            slot,
            flushed: 0,
            dirty: false,
        })
    }

    /// Opens the file for writing.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        log: u64,
        group: u32,
    ) -> io::Result<CursorRead> {
        let file = match disk.open(path, OpenMode::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(CursorRead::Lost("the file is gone"));
            }
            Err(error) => return Err(error),
        };
        let slots = read_slots(&*file)?;
        let newest = slots
            .iter()
            .flatten()
            .max_by_key(|slot| slot.number)
            .copied();
        let Some(slot) = newest else {
            return Ok(CursorRead::Lost("neither of its slots holds"));
        };
        if slot.log != log || slot.group != group {
            return Ok(CursorRead::Lost(
                "it is the cursor of another group or of another log",
            ));
        }
        // It may be in the page cache only, and the other slot is about to be overwritten.
        file.sync_data()?;
        let flushed = usize::from(slots.first().copied().flatten() != Some(slot));
        let cursor = Self {
            path: path.to_owned(),
            file,
            slot,
            flushed,
            dirty: false,
        };
        Ok(CursorRead::Held(slot, cursor))
    }

    /// Looks at the cursor without opening it for writing; `None` if there is none of this group.
    pub(crate) fn look(
        disk: &dyn Disk,
        path: &Path,
        log: u64,
        group: u32,
    ) -> io::Result<Option<CursorSlot>> {
        let file = match disk.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let newest = read_slots(&*file)?
            .into_iter()
            .flatten()
            .max_by_key(|slot| slot.number);
        Ok(newest.filter(|slot| slot.log == log && slot.group == group))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What was written last.
    pub(crate) fn slot(&self) -> CursorSlot {
        self.slot
    }

    /// Writes the cursor; it is durable after the next [`sync`](Self::sync).
    pub(crate) fn write(&mut self, slot: CursorSlot) -> io::Result<()> {
        self.slot = CursorSlot {
            number: self.slot.number + 1,
            ..slot
        };
        self.dirty = true;
        self.put()
    }

    /// Makes the cursor durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if !self.dirty {
            return Ok(());
        }
        if let Err(error) = self.file.sync_data() {
            // The pages may count as clean now although the disk does not hold them: put there again, they are flushed the next time.
            self.slot.number += 1;
            self.put()?;
            return Err(error);
        }
        self.dirty = false;
        self.flushed = 1 - self.flushed;
        Ok(())
    }

    fn put(&self) -> io::Result<()> {
        let offset = SLOT_OFFSETS.get(1 - self.flushed).copied().unwrap_or(0);
        self.file.write_all_at(&self.slot.encode(), offset)
    }
}

fn read_slots(file: &dyn DiskFile) -> io::Result<[Option<CursorSlot>; 2]> {
    let read = |offset: u64| -> io::Result<Option<CursorSlot>> {
        let mut bytes = [0; SLOT_BYTES];
        let read = file.read_at(&mut bytes, offset)?;
        Ok(CursorSlot::decode(bytes.get(..read).unwrap_or_default()).ok())
    };
    let [first, second] = SLOT_OFFSETS;
    Ok([read(first)?, read(second)?])
}

//! The bare loops' file: written with the flags and the preallocation of a segment, and nothing else.

use crate::measure::Outcome;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tidings_core::limits::{SEGMENT_BYTES_DEFAULT, SEGMENT_RESERVE_BYTES};

/// Bytes that a segment begins with.
pub(crate) const HEADER_BYTES: usize = 64;

/// A file that is written like a segment: opened the same way, room reserved in the same steps, a new one begun at the same length with its directory flushed.
pub(crate) struct BareFile {
    folder: PathBuf,
    file: File,
    number: u64,
    offset: u64,
    reserved: u64,
}

impl BareFile {
    pub(crate) fn create(folder: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(folder)?;
        let mut bare = Self {
            folder: folder.to_owned(),
            file: open(folder, 0)?,
            number: 0,
            offset: 0,
            reserved: 0,
        };
        bare.begin()?;
        Ok(bare)
    }

    /// Writes behind what is there and flushes it.
    pub(crate) fn append_synced(&mut self, bytes: &[u8]) -> Outcome<()> {
        let end = self.offset + bytes.len() as u64;
        if end > SEGMENT_BYTES_DEFAULT {
            self.file.set_len(self.offset)?;
            self.file.sync_data()?;
            self.number += 1;
            self.file = open(&self.folder, self.number)?;
            self.begin()?;
        }
        self.write(bytes)?;
        self.file.sync_data()?;
        Ok(())
    }

    fn begin(&mut self) -> Outcome<()> {
        (self.offset, self.reserved) = (0, 0);
        self.write(&[1; HEADER_BYTES])?;
        self.file.sync_data()?;
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        let end = self.offset + bytes.len() as u64;
        if end > self.reserved {
            let step = SEGMENT_RESERVE_BYTES.max(end - self.reserved);
            fallocate(&self.file, FallocateFlags::empty(), self.reserved, step)?;
            self.reserved += step;
        }
        self.file.write_all_at(bytes, self.offset)?;
        self.offset = end;
        Ok(())
    }
}

fn open(folder: &Path, number: u64) -> Outcome<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(folder.join(number.to_string()))?;
    Ok(file)
}

/// What the log wrote into its segments, headers and reserved room left out: the very bytes that the bare loop writes.
pub(crate) fn stored_bytes(folder: &Path) -> Outcome<Vec<u8>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder.join("log/main"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    paths.sort();
    let mut stored = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path)?;
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        stored.extend_from_slice(bytes.get(HEADER_BYTES.min(end)..end).unwrap_or_default());
    }
    Ok(stored)
}

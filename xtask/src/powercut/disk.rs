//! `DiskState`: the content of a disk in memory, so that it can be rebuilt as of any instant and written to an image.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::failure::Failure;

/// What is kept together; a block of nothing but zeros is not kept at all.
const BLOCK_BYTES: usize = 4096;
/// Blocks that follow each other are written to an image together, up to so many bytes.
const RUN_BYTES_MAX: usize = 1_048_576;

/// Blocks are shared between states until one of them changes.
#[derive(Debug, Clone)]
pub(super) struct DiskState {
    bytes: u64,
    blocks: BTreeMap<u64, Arc<[u8; BLOCK_BYTES]>>,
}

impl DiskState {
    /// Reads an image.
    pub(super) fn load(path: &Path) -> Result<DiskState, Failure> {
        let failed = |cause| Failure::file("read", path, &cause);
        let mut file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut disk = DiskState::empty(bytes);
        let mut block = [0; BLOCK_BYTES];
        for number in 0..bytes / BLOCK_BYTES as u64 {
            file.read_exact(&mut block).map_err(failed)?;
            if block != [0; BLOCK_BYTES] {
                disk.blocks.insert(number, Arc::new(block));
            }
        }
        Ok(disk)
    }

    pub(super) fn empty(bytes: u64) -> DiskState {
        DiskState {
            bytes,
            blocks: BTreeMap::new(),
        }
    }

    /// Changes a range; a write may begin and end anywhere.
    pub(super) fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let start = usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or(0);
            let length = bytes.len().min(BLOCK_BYTES - start);
            let (now, later) = bytes.split_at(length);
            let block = self
                .blocks
                .entry(offset / BLOCK_BYTES as u64)
                .or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            if let Some(range) = Arc::make_mut(block).get_mut(start..start + length) {
                range.copy_from_slice(now);
            }
            offset += length as u64;
            bytes = later;
        }
    }

    /// Makes a range read as zeros.
    pub(super) fn discard(&mut self, offset: u64, bytes: u64) {
        let zeros = [0; BLOCK_BYTES];
        let mut left = bytes.min(self.bytes.saturating_sub(offset));
        let mut at = offset;
        while left > 0 {
            let length = left.min(BLOCK_BYTES as u64);
            let zeros = zeros.get(..usize::try_from(length).unwrap_or(0));
            self.write(at, zeros.unwrap_or_default());
            at += length;
            left -= length;
        }
    }

    /// Writes a new image; a file of this name is replaced, so that who still holds the old one is not disturbed.
    pub(super) fn store(&self, path: &Path) -> Result<(), Failure> {
        let failed = |cause| Failure::file("write", path, &cause);
        match std::fs::remove_file(path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(cause));
            }
            _ => {}
        }
        let file = File::create(path).map_err(failed)?;
        file.set_len(self.bytes).map_err(failed)?;
        let mut run: Vec<u8> = Vec::with_capacity(RUN_BYTES_MAX);
        let mut start = 0;
        for (number, block) in &self.blocks {
            let follows = start + (run.len() / BLOCK_BYTES) as u64 == *number;
            if !follows || run.len() >= RUN_BYTES_MAX {
                file.write_all_at(&run, start * BLOCK_BYTES as u64)
                    .map_err(failed)?;
                run.clear();
                start = *number;
            }
            run.extend_from_slice(block.as_slice());
        }
        file.write_all_at(&run, start * BLOCK_BYTES as u64)
            .map_err(failed)
    }

    #[cfg(test)]
    pub(super) fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        (offset..offset + bytes as u64)
            .map(|at| {
                let block = self.blocks.get(&(at / BLOCK_BYTES as u64));
                block.map_or(0, |block| block[(at % BLOCK_BYTES as u64) as usize])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_across_blocks_changes_its_range_and_nothing_else() {
        let mut disk = DiskState::empty(16_384);

        disk.write(4_000, &[9; 200]);

        assert_eq!(disk.read(3_999, 1), [0]);
        assert_eq!(disk.read(4_000, 200), [9; 200]);
        assert_eq!(disk.read(4_200, 1), [0]);
    }

    #[test]
    fn a_copy_does_not_see_later_writes() {
        let mut disk = DiskState::empty(8_192);
        disk.write(0, &[1; 512]);
        let before = disk.clone();

        disk.write(0, &[2; 512]);
        disk.discard(256, 4_096);

        assert_eq!(before.read(0, 512), [1; 512]);
        assert_eq!(disk.read(0, 256), [2; 256]);
        assert_eq!(disk.read(256, 256), [0; 256]);
    }

    #[test]
    fn an_image_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("image");
        let mut disk = DiskState::empty(4_194_304);
        disk.write(0, &[1; 5_000]);
        disk.write(4_190_208, &[2; 4_096]);
        disk.write(2_000_000, &[3; 1_200_000]);

        disk.store(&path).expect("stored");
        disk.store(&path).expect("replaced");
        let again = DiskState::load(&path).expect("loaded");

        assert_eq!(again.read(0, 4_194_304), disk.read(0, 4_194_304));
    }
}

//! The file system as a seam, as small as the log needs it. All calls block.

use std::io;
use std::path::{Path, PathBuf};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading only; the file must exist.
    Read,
    /// Reading and writing; the file must exist.
    Write,
    /// Reading and writing; the file is made with mode 0600 if it does not exist.
    Create,
    /// Reading and writing; the file is made with mode 0600 and must not exist.
    CreateNew,
}

/// What is known of a path without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// Length in bytes.
    pub bytes: u64,
    /// Unix permission bits, for example `0o700`.
    pub mode: u32,
    /// Whether the path is a directory.
    pub is_directory: bool,
}

/// A file system.
///
/// **Guarantee**: nothing is durable until the matching sync returned: bytes by [`DiskFile::sync_data`], names by [`Disk::sync_directory`].
pub trait Disk: Send + Sync + 'static {
    /// Makes a directory and its parents; new ones get mode 0700.
    fn create_directories(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// What is known of a path.
    fn info(&self, path: &Path) -> io::Result<FileInfo>;

    /// Takes away every permission of group and others.
    fn make_private(&self, path: &Path) -> io::Result<()>;

    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Bytes that can still be written to the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Takes the exclusive lock on a file, making it if needed; `None` if another process (or another holder in this one) has it. It ends with the value or with the process.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`; after an error any prefix may be in the file.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the bytes written so far durable, and the length if it changed (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;

    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// Cuts or extends the file.
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;

    /// Reserves room for bytes `offset..offset + bytes` and extends the length to it; they read as zero.
    fn reserve(&self, offset: u64, bytes: u64) -> io::Result<()>;
}

/// A held lock. The lock file's text names the owner.
pub trait DiskLock: Send + Sync {
    /// Replaces the text of the lock file.
    fn write_owner(&self, text: &str) -> io::Result<()>;
}

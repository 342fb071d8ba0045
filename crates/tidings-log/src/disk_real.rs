//! The real file system behind the disk seam.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tidings_core::seam::{Disk, DiskFile, DiskLock, FileInfo, OpenMode};

/// The file system of this machine. Private by default: new directories get mode 0700, new files 0600.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_directories(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().into()))
            .collect()
    }

    fn info(&self, path: &Path) -> io::Result<FileInfo> {
        let found = fs::metadata(path)?;
        Ok(FileInfo {
            bytes: found.len(),
            mode: found.permissions().mode() & 0o7777,
            is_directory: found.is_dir(),
        })
    }

    fn make_private(&self, path: &Path) -> io::Result<()> {
        let mode = fs::metadata(path)?.permissions().mode() & 0o7700;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(open(path, mode)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        loop {
            let file = open(path, OpenMode::Create)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
            // Its last holder may have removed the file between our open and our lock; a lock on a nameless file guards nothing.
            let held = file.metadata()?.ino();
            match fs::metadata(path) {
                Ok(named) if named.ino() == held => return Ok(Some(Box::new(RealLock(file)))),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).mode(0o600);
    match mode {
        OpenMode::Read => {}
        OpenMode::Write => {
            options.write(true);
        }
        OpenMode::Create => {
            options.write(true).create(true);
        }
        OpenMode::CreateNew => {
            options.write(true).create_new(true);
        }
    }
    options.open(path)
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, offset: u64, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), offset, bytes) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn reserve(&self, _offset: u64, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct RealLock(File);

impl Drop for RealLock {
    /// A child that is just being started has the file as well, until it is another program: closing ours alone would not end the lock.
    fn drop(&mut self) {
        // The file is closed in any case.
        let _ = self.0.unlock();
    }
}

impl DiskLock for RealLock {
    fn write_owner(&self, text: &str) -> io::Result<()> {
        self.0.write_all_at(text.as_bytes(), 0)?;
        self.0.set_len(text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_makes_is_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");

        RealDisk.create_directories(&folder).unwrap();
        let file = RealDisk
            .open(&folder.join("f"), OpenMode::CreateNew)
            .unwrap();
        file.write_all_at(b"hello", 3).unwrap();

        assert_eq!(RealDisk.info(&folder).unwrap().mode, 0o700);
        let found = RealDisk.info(&folder.join("f")).unwrap();
        assert_eq!(
            (found.mode, found.bytes, found.is_directory),
            (0o600, 8, false)
        );
        assert_eq!(RealDisk.list(&folder).unwrap(), vec![PathBuf::from("f")]);
    }

    #[test]
    fn a_short_read_is_the_end_of_the_file() {
        let root = tempfile::tempdir().unwrap();
        let file = RealDisk
            .open(&root.path().join("f"), OpenMode::Create)
            .unwrap();
        file.write_all_at(b"hello", 0).unwrap();
        let mut buffer = [0; 8];

        assert_eq!(file.read_at(&mut buffer, 2).unwrap(), 3);
        assert_eq!(&buffer[..3], b"llo");
        assert_eq!(file.read_at(&mut buffer, 9).unwrap(), 0);
    }

    #[test]
    fn a_lock_has_one_holder_and_ends_with_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let held = RealDisk.lock(&path).unwrap().unwrap();
        held.write_owner("a long text of a first owner").unwrap();
        held.write_owner("me").unwrap();

        assert!(RealDisk.lock(&path).unwrap().is_none());
        assert_eq!(fs::read_to_string(&path).unwrap(), "me");
        drop(held);
        assert!(RealDisk.lock(&path).unwrap().is_some());
    }

    /// As it is between the fork and the exec of a child that another thread starts.
    #[test]
    fn a_lock_ends_with_its_holder_also_while_a_child_has_its_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let file = open(&path, OpenMode::Create).unwrap();
        file.try_lock().unwrap();
        let of_child = file.try_clone().unwrap();

        drop(RealLock(file));

        assert!(RealDisk.lock(&path).unwrap().is_some());
        drop(of_child);
    }
}

//! Whole files through the disk seam, and what their errors mean.

use std::io;
use std::path::{Path, PathBuf};
use tidings_core::broker::BrokerError;
use tidings_core::seam::{Disk, OpenMode};

/// Bytes of a text that names an owner.
const OWNER_TEXT_BYTES_MAX: usize = 1_024;

/// The error of a broker for an error of the disk.
pub(crate) fn failed(action: &'static str, path: &Path, source: io::Error) -> BrokerError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BrokerError::DiskFull { path },
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            BrokerError::ReadOnly { path, source }
        }
        _ => BrokerError::Io {
            action,
            path,
            source,
        },
    }
}

/// The bytes of a file.
pub(crate) fn read_whole(disk: &dyn Disk, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let bytes = file.bytes()?;
    if bytes > bytes_max as u64 {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{bytes} bytes, at most {bytes_max} were expected"),
        ));
    }
    let mut buffer = vec![0; bytes as usize];
    let read = file.read_at(&mut buffer, 0)?;
    buffer.truncate(read);
    Ok(buffer)
}

/// A short text that names an owner; `None` if there is none.
pub(crate) fn read_text(disk: &dyn Disk, path: &Path) -> Option<String> {
    let bytes = read_whole(disk, path, OWNER_TEXT_BYTES_MAX).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Replaces a file, durably and as a whole: after a crash it is the old one or the new one.
pub(crate) fn write_whole(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = fresh_name(path);
    let file = disk.open(&fresh, OpenMode::Create)?;
    file.set_bytes(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&fresh, path)?;
    match path.parent() {
        Some(directory) => disk.sync_directory(directory),
        None => Ok(()),
    }
}

/// Where a file is written before it takes its name.
pub(crate) fn fresh_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Whether the disk has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

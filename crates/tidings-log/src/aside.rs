//! Keeps aside what recovery takes out of the log: bytes of unfinished ends and of damage. Nothing is ever deleted by us.

use crate::files::failed;
use crate::folder::Folder;
use crate::segment::reader::SegmentReader;
use std::io;
use std::ops::Range;
use tidings_core::broker::BrokerError;
use tidings_core::seam::OpenMode;

/// Bytes copied at once.
const COPY_BYTES: u64 = 1_048_576;

/// Copies bytes of a segment. What is copied is of no use to the log, so an error is told and changes nothing.
pub(crate) fn keep_bytes(folder: &Folder, reader: &SegmentReader, range: Range<u64>, why: &str) {
    let name = format!("{:020}-{}.{why}", reader.identity().segment, range.start);
    let path = folder.aside().join(name);
    let kept = (|| -> io::Result<()> {
        folder.disk.create_directories(&folder.aside())?;
        let file = folder.disk.open(&path, OpenMode::Create)?;
        let mut at = range.start;
        while at < range.end {
            let bytes = reader.raw(at, (range.end - at).min(COPY_BYTES) as usize)?;
            if bytes.is_empty() {
                break;
            }
            file.write_all_at(&bytes, at - range.start)?;
            at += bytes.len() as u64;
        }
        file.sync_data()?;
        folder.disk.sync_directory(&folder.aside())
    })();
    match kept {
        Ok(()) => tracing::info!(path = %path.display(), "kept aside"),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "bytes could not be kept aside")
        }
    }
}

/// Moves a whole segment out of the log.
pub(crate) fn keep_file(folder: &Folder, first: u64) -> Result<(), BrokerError> {
    let path = folder.segment(first);
    let mut name = crate::segment::file_name(first);
    name.push_str(".unfinished");
    let moved = (|| -> io::Result<()> {
        folder.disk.create_directories(&folder.aside())?;
        folder.disk.rename(&path, &folder.aside().join(name))?;
        folder.disk.sync_directory(&folder.aside())?;
        folder.disk.sync_directory(&folder.log())
    })();
    moved.map_err(|error| failed("moving aside", &path, error))
}

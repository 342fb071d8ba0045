//! Appends frames to one segment. Room is reserved ahead of them, so that a flush need not store a new length, and so that a full disk is seen before anything is half written.

use crate::files::is_full;
use crate::folder::Folder;
use crate::format::Identity;
use crate::format::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use std::io;
use tidings_core::limits::{DISK_RESERVE_BYTES, SEGMENT_RESERVE_BYTES};
use tidings_core::seam::{DiskFile, OpenMode};

/// Where room is short, it is reserved in steps of this instead.
const SHORT_RESERVE_BYTES: u64 = 65_536;

/// The end of a segment that is being written.
pub(crate) struct SegmentWriter {
    folder: Folder,
    identity: Identity,
    file: Box<dyn DiskFile>,
    /// Where the next frame begins.
    offset: u64,
    /// Up to where room was reserved, or found to be free where the file system cannot reserve.
    reserved: u64,
    segment_bytes: u64,
}

/// Why nothing was written.
#[derive(Debug)]
pub(crate) enum WriteFault {
    /// There is no room. Nothing is left behind; it may be tried again.
    Full,
    /// The file system is read-only. Nothing was written; it may be tried again.
    ReadOnly(io::Error),
    /// It is not known what the disk holds now.
    Failed(&'static str, io::Error),
}

impl WriteFault {
    fn of(action: &'static str, error: io::Error) -> Self {
        match error.kind() {
            _ if is_full(&error) => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(error),
            _ => Self::Failed(action, error),
        }
    }
}

impl SegmentWriter {
    /// Makes a segment. Its header and its name are durable before a frame can be written.
    pub(crate) fn create(
        folder: &Folder,
        identity: Identity,
        append_time: i64,
        segment_bytes: u64,
    ) -> Result<Self, WriteFault> {
        let path = folder.segment(identity.segment);
        // A segment of this name can only be what an earlier attempt left behind: no frame was ever written to it.
        let file = folder
            .disk
            .open(&path, OpenMode::Create)
            .map_err(|error| WriteFault::of("making", error))?;
        let mut writer = Self {
            folder: folder.clone(),
            identity,
            file,
            offset: 0,
            reserved: 0,
            segment_bytes,
        };
        let header = SegmentHeader {
            identity,
            append_time,
        };
        let made = writer.append(&header.encode()).and_then(|()| writer.sync());
        let named = made.and_then(|()| {
            folder
                .disk
                .sync_directory(&folder.log())
                .map_err(|error| WriteFault::Failed("flushing", error))
        });
        if let Err(fault) = named {
            // What is left of it is cleared away by the next opening, if not now.
            if let Err(error) = folder.disk.remove(&path) {
                tracing::debug!(%error, path = %path.display(), "a segment that could not be made was left behind");
            }
            return Err(fault);
        }
        Ok(writer)
    }

    /// Goes on in a segment, behind its last frame.
    pub(crate) fn open(
        folder: &Folder,
        identity: Identity,
        offset: u64,
        segment_bytes: u64,
    ) -> io::Result<Self> {
        let file = folder
            .disk
            .open(&folder.segment(identity.segment), OpenMode::Write)?;
        let reserved = file.bytes()?.max(offset);
        Ok(Self {
            folder: folder.clone(),
            identity,
            file,
            offset,
            reserved,
            segment_bytes,
        })
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Where the next frame begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether so many bytes fit before the segment is to be closed. An empty segment takes any frame.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        self.offset <= SEGMENT_HEADER_BYTES as u64
            || self.offset.saturating_add(bytes) <= self.segment_bytes
    }

    /// Writes frames behind the last one.
    pub(crate) fn append(&mut self, frames: &[u8]) -> Result<(), WriteFault> {
        let end = self.offset + frames.len() as u64;
        if end > self.reserved {
            self.reserve(end)?;
        }
        if let Err(error) = self.file.write_all_at(frames, self.offset) {
            let fault = WriteFault::of("writing", error);
            return Err(match fault {
                // Half a frame must not stay: the next ones may be shorter and leave its end behind them.
                WriteFault::Full => self.cut_back(),
                other => other,
            });
        }
        self.offset = end;
        Ok(())
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> Result<(), WriteFault> {
        // Whatever the reason is: after a failed flush it is not known what the disk holds.
        self.file
            .sync_data()
            .map_err(|error| WriteFault::Failed("flushing", error))
    }

    /// Gives back the room that was reserved and not used.
    pub(crate) fn trim(&self) -> io::Result<()> {
        self.file.set_bytes(self.offset)
    }

    fn reserve(&mut self, end: u64) -> Result<(), WriteFault> {
        let free = self
            .folder
            .disk
            .free_bytes(&self.folder.log())
            .unwrap_or(u64::MAX);
        let step = self
            .reserved
            .saturating_add(SEGMENT_RESERVE_BYTES)
            .min(self.segment_bytes.max(end))
            .max(end);
        let short = end.next_multiple_of(SHORT_RESERVE_BYTES);
        let fits = |to: &u64| free >= (to - self.reserved).saturating_add(DISK_RESERVE_BYTES);
        let to = [step, short, end]
            .into_iter()
            .find(fits)
            .ok_or(WriteFault::Full)?;
        match self.file.reserve(self.reserved, to - self.reserved) {
            Ok(()) => {}
            // The file grows with each write instead, and free room is looked at in the same steps.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(WriteFault::of("reserving room in", error)),
        }
        self.reserved = to;
        Ok(())
    }

    fn cut_back(&mut self) -> WriteFault {
        self.reserved = self.offset;
        match self.file.set_bytes(self.offset) {
            Ok(()) => WriteFault::Full,
            Err(error) => WriteFault::Failed("cutting", error),
        }
    }
}

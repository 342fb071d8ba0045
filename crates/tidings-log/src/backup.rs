//! A copy of a data folder while its owner works: cursors first, then whatever stands between, then events, as far as they went when the end was marked; so that the copy never lacks an
//! event that its own notes speak of.

use crate::files::{failed, write_whole};
use crate::folder::Folder;
use crate::format::durable::Durable;
use crate::log::{End, Log, list_segments};
use crate::log_reader::LogReader;
use crate::retention::{read_first, record_first};
use crate::segment;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings_core::broker::{BrokerError, Position};
use tidings_core::seam::{Clock, Disk, DiskFile, OpenMode};

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1_048_576;

/// A copy in the making: its groups are there, its events are not. Only [`finish`](Self::finish) makes it a data folder.
pub struct Backup {
    reader: LogReader,
    /// Where the copy is made; it takes its name when it is whole.
    to: Folder,
    target: PathBuf,
    /// How far events are copied; up to what is durable in the end, if it was not marked.
    end: Option<End>,
}

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The oldest event's position.
    pub earliest: Position,
    /// The position behind the last event.
    pub end: Position,
    /// Segments.
    pub segments: u64,
    /// Bytes of events as stored.
    pub bytes: u64,
}

impl Backup {
    /// Begins a copy: makes the target and copies what groups there are and where they stand. It blocks.
    ///
    /// What the caller has to copy of its own (a database whose rows say what was handled, or wait to become events) is copied between this and [`finish`](Self::finish):
    /// then no event is missing that a cursor or such a row speaks of, and at worst an event is handled or relayed twice under one id. With
    /// [`mark_end`](Self::mark_end) no event is there that states a change which the caller's copy lacks.
    ///
    /// **Errors**: as [`LogReader::open`]; [`BrokerError::FolderForeign`] if the target is there and not empty, or if an earlier copy was left unfinished beside it.
    pub fn begin(
        folder: impl Into<PathBuf>,
        to: impl Into<PathBuf>,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, BrokerError> {
        let reader = LogReader::open(folder, clock, disk.clone())?;
        let target = to.into();
        Folder::new(&target, disk.clone()).check_vacant()?;
        let to = Folder::new(unfinished_name(&target), disk);
        to.check_vacant()?;
        to.create()?;
        let copy = Self {
            reader,
            to,
            target,
            end: None,
        };
        let from = &copy.log().folder;
        copy.small_files(&from.log(), &copy.to.log(), |name| {
            segment::first_of(name).is_none()
                && name.extension().is_none_or(|extension| extension != "new")
                && name != Path::new("durable")
                && name != Path::new("first")
                && !is_side_file(name)
        })?;
        copy.small_files(&from.groups(), &copy.to.groups(), |name| {
            name.extension()
                .is_some_and(|extension| extension == "json" || extension == "cursor")
        })?;
        Ok(copy)
    }

    /// Lets the copy end where the log ends now. It blocks.
    ///
    /// Called while nobody can commit to the database that the caller copies, and before anybody can again, it makes events and rows those of one moment.
    ///
    /// **Errors**: of the disk.
    pub fn mark_end(&mut self) -> Result<(), BrokerError> {
        self.end = Some(self.log().end()?);
        Ok(())
    }

    /// Copies the events that are durable now, or were when the end was [marked](Self::mark_end), and makes the target a data folder. It blocks.
    ///
    /// **Guarantee**: a copy that is not whole never stands at the target.
    ///
    /// **Errors**: of the disk; what was copied so far is left at [`folder`](Self::folder) and may be removed.
    pub fn finish(self) -> Result<BackupReport, BrokerError> {
        let log = self.log();
        let end = match self.end {
            Some(end) => end,
            None => log.end()?,
        };
        let mut report = BackupReport {
            earliest: Position(end.visible),
            end: Position(end.visible),
            segments: 0,
            bytes: 0,
        };
        // From the newest down: retention may remove the oldest meanwhile, and what is older than a removed one is gone too.
        let firsts = list_segments(&log.folder)?;
        for first in firsts.into_iter().rev() {
            if first > end.segment {
                continue;
            }
            let limit = (first == end.segment).then_some(end.offset);
            let Some(bytes) =
                self.copy_file(&log.folder.segment(first), &self.to.segment(first), limit)?
            else {
                break;
            };
            report.earliest = Position(first);
            report.segments += 1;
            report.bytes += bytes;
        }
        // Retention may have gone on since; what is copied all the same is not said to be removed.
        let removed = read_first(&log.folder, log.number)?.unwrap_or(0);
        let begin = removed.min(report.earliest.0);
        if begin > 0 {
            record_first(&self.to, log.number, begin)?;
        }
        let durable = Durable {
            log: log.number,
            visible: end.visible,
            synced: end.visible,
            segment: end.segment,
            offset: end.offset,
        };
        if report.segments > 0 {
            let path = self.to.durable();
            write_whole(&*self.to.disk, &path, &durable.encode())
                .map_err(|error| failed("writing", &path, error))?;
        }
        self.to.write_format(log.number)?;
        self.sync_names()?;
        self.take_name()?;
        Ok(report)
    }

    /// Where the copy is made until it is whole: the target's name with `.unfinished` behind it.
    pub fn folder(&self) -> &Path {
        self.to.root()
    }

    fn take_name(&self) -> Result<(), BrokerError> {
        let disk = &*self.to.disk;
        disk.rename(self.to.root(), &self.target)
            .map_err(|error| failed("renaming", self.to.root(), error))?;
        let parent = self
            .target
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        disk.sync_directory(parent)
            .map_err(|error| failed("flushing", parent, error))
    }

    fn log(&self) -> &Log {
        self.reader.log()
    }

    /// Copies the files of a directory that are wanted.
    fn small_files(
        &self,
        from: &Path,
        to: &Path,
        wanted: impl Fn(&Path) -> bool,
    ) -> Result<(), BrokerError> {
        let disk = &*self.to.disk;
        disk.create_directories(to)
            .map_err(|error| failed("making", to, error))?;
        let names = match disk.list(from) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("listing", from, error)),
        };
        for name in names.iter().filter(|name| wanted(name)) {
            let path = from.join(name);
            let is_directory = disk.info(&path).is_ok_and(|info| info.is_directory);
            if !is_directory {
                self.copy_file(&path, &to.join(name), None)?;
            }
        }
        Ok(())
    }

    /// Copies a file, up to a limit, durably, and answers its bytes; `None` if it is gone.
    fn copy_file(
        &self,
        from: &Path,
        to: &Path,
        limit: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        let disk = &*self.to.disk;
        let source = match disk.open(from, OpenMode::Read) {
            Ok(source) => source,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("opening", from, error)),
        };
        let target = disk
            .open(to, OpenMode::CreateNew)
            .map_err(|error| failed("making", to, error))?;
        let bytes = copy_bytes(&*source, &*target, limit.unwrap_or(u64::MAX))
            .and_then(|bytes| target.sync_data().map(|()| bytes))
            .map_err(|error| failed("copying", from, error))?;
        Ok(Some(bytes))
    }

    fn sync_names(&self) -> Result<(), BrokerError> {
        let directories = [
            self.to.groups(),
            self.to.log(),
            self.to.root().join("log"),
            self.to.root().to_owned(),
        ];
        for path in directories {
            self.to
                .disk
                .sync_directory(&path)
                .map_err(|error| failed("flushing", &path, error))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup")
            .field("from", &self.reader)
            .field("to", &self.to.root())
            .finish()
    }
}

fn unfinished_name(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

/// Whether a file stands beside a segment, named by the same digits, and is made anew from it.
fn is_side_file(name: &Path) -> bool {
    let stem = name.to_str().and_then(|name| name.split('.').next());
    stem.is_some_and(|stem| !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit()))
}

fn copy_bytes(from: &dyn DiskFile, to: &dyn DiskFile, limit: u64) -> io::Result<u64> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut copied = 0_u64;
    while copied < limit {
        let wanted =
            usize::try_from(limit - copied).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
        let room = buffer.get_mut(..wanted).unwrap_or_default();
        let read = from.read_at(room, copied)?;
        let Some(bytes) = room.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        to.write_all_at(bytes, copied)?;
        copied += read as u64;
    }
    Ok(copied)
}

//! The data folder: what lies where, who may open it, who owns it. The log's own files are the business of `log.rs` and `segment/`.

use crate::files::{failed, read_text, read_whole, write_whole};
use crate::format::FORMAT_VERSION;
use crate::segment;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings_core::broker::{BrokerError, GroupName};
use tidings_core::seam::{Clock, Disk, DiskLock};

/// What may lie in a data folder before its log was made: locks and what other parts of tidings keep there.
const KNOWN: &[&str] = &[
    "lock",
    "format",
    "format.new",
    "log",
    "broker",
    "broker.new",
    "tidings.toml",
    "lost+found",
];
/// The names of the store's files begin so.
const STORE_PREFIX: &str = "state.db";
/// A longer `format` file is not one of ours.
const FORMAT_FILE_BYTES_MAX: usize = 4_096;
/// More than a URL takes; a longer `broker` file is not one of ours.
const BROKER_FILE_BYTES_MAX: usize = 65_536;

/// Where the parts of a data folder lie.
#[derive(Clone)]
pub(crate) struct Folder {
    root: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
}

/// What a directory is to us.
enum Kind {
    Missing,
    Empty,
    Data,
    Foreign,
}

impl Folder {
    pub(crate) fn new(root: impl Into<PathBuf>, disk: Arc<dyn Disk>) -> Self {
        Self {
            root: root.into(),
            disk,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the log.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log").join("main")
    }

    /// Where damaged and cut bytes are kept.
    pub(crate) fn aside(&self) -> PathBuf {
        self.log().join("aside")
    }

    pub(crate) fn durable(&self) -> PathBuf {
        self.log().join("durable")
    }

    /// Where the log begins, once retention removed something.
    pub(crate) fn first(&self) -> PathBuf {
        self.log().join("first")
    }

    /// The rule of retention.
    pub(crate) fn retention(&self) -> PathBuf {
        self.log().join("retention.json")
    }

    pub(crate) fn segment(&self, first: u64) -> PathBuf {
        self.log().join(segment::file_name(first))
    }

    pub(crate) fn index(&self, first: u64) -> PathBuf {
        self.segment(first).with_extension("idx")
    }

    pub(crate) fn look_up(&self, first: u64) -> PathBuf {
        self.segment(first).with_extension("lkp")
    }

    pub(crate) fn groups(&self) -> PathBuf {
        self.log().join("groups")
    }

    pub(crate) fn group_file(&self, group: &GroupName, extension: &str) -> PathBuf {
        // Not `with_extension`: a group's name may hold dots.
        self.groups().join(format!("{group}.{extension}"))
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    fn format_file(&self) -> PathBuf {
        self.root.join("format")
    }

    /// Says on which broker the events are, where they are not here.
    pub(crate) fn broker_file(&self) -> PathBuf {
        self.root.join("broker")
    }

    /// Makes the folder or checks it, and takes the lock of its owner.
    ///
    /// Nothing is written into a folder that is not ours, not private, of a newer format or owned by somebody else.
    pub(crate) fn own(
        &self,
        program: &str,
        clock: &dyn Clock,
    ) -> Result<Box<dyn DiskLock>, BrokerError> {
        match self.kind()? {
            Kind::Foreign => return Err(self.foreign()),
            Kind::Missing => self.create()?,
            Kind::Empty => {
                self.disk
                    .make_private(&self.root)
                    .map_err(|error| failed("making private", &self.root, error))?;
                // Whoever made it may have ended before its name was durable.
                self.sync_names(1)?;
            }
            Kind::Data => {
                self.check_private()?;
                self.format()?;
            }
        }
        let path = self.lock_file();
        let lock = self
            .disk
            .lock(&path)
            .map_err(|error| failed("locking", &path, error))?;
        let Some(lock) = lock else {
            let owner = self.owner().unwrap_or_else(|| "another process".to_owned());
            return Err(BrokerError::FolderOwned {
                path: self.root.clone(),
                owner,
            });
        };
        lock.write_owner(&owner_text(program, clock))
            .map_err(|error| failed("writing", &path, error))?;
        Ok(lock)
    }

    /// As [`own`](Self::own), for who wants the events to be here; whoever owns the folder, that they are elsewhere says more.
    pub(crate) fn own_with_events(
        &self,
        program: &str,
        clock: &dyn Clock,
    ) -> Result<Box<dyn DiskLock>, BrokerError> {
        let owned = self.own(program, clock);
        if matches!(owned, Ok(_) | Err(BrokerError::FolderOwned { .. })) {
            self.check_events_are_here()?;
        }
        owned
    }

    /// Refuses a folder that keeps state only, and names the broker that has its events.
    pub(crate) fn check_events_are_here(&self) -> Result<(), BrokerError> {
        let path = self.broker_file();
        let bytes = match read_whole(&*self.disk, &path, BROKER_FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("reading", &path, error)),
        };
        let text = String::from_utf8_lossy(&bytes);
        Err(BrokerError::EventsElsewhere {
            path: self.root.clone(),
            url: text.lines().next().unwrap_or_default().to_owned(),
        })
    }

    /// Checks that nothing is here, so that a copy may go here.
    pub(crate) fn check_vacant(&self) -> Result<(), BrokerError> {
        match self.kind()? {
            Kind::Missing | Kind::Empty => Ok(()),
            Kind::Data | Kind::Foreign => Err(self.foreign()),
        }
    }

    /// Checks the folder for reading beside an owner.
    pub(crate) fn check_readable(&self) -> Result<(), BrokerError> {
        match self.kind()? {
            Kind::Foreign => Err(self.foreign()),
            Kind::Missing | Kind::Empty => Err(BrokerError::FolderMissing {
                path: self.root.clone(),
            }),
            Kind::Data => {
                self.check_private()?;
                self.format().map(|_| ())
            }
        }
    }

    /// Who owns the folder, as the lock file says; `None` if it says nothing.
    pub(crate) fn owner(&self) -> Option<String> {
        read_text(&*self.disk, &self.lock_file())
    }

    /// The number of the log, from the `format` file; `None` if there is none that can be read.
    pub(crate) fn format(&self) -> Result<Option<u64>, BrokerError> {
        let path = self.format_file();
        let bytes = match read_whole(&*self.disk, &path, FORMAT_FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading", &path, error)),
        };
        let text = String::from_utf8_lossy(&bytes);
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let version = field("format ").and_then(|text| text.parse::<u32>().ok());
        match version {
            Some(found) if found > FORMAT_VERSION => Err(BrokerError::FormatNewer {
                path: self.root.clone(),
                found,
                supported: FORMAT_VERSION,
            }),
            Some(_) => Ok(field("log ").and_then(|text| u64::from_str_radix(text, 16).ok())),
            None => Ok(None),
        }
    }

    /// Writes the `format` file.
    pub(crate) fn write_format(&self, log: u64) -> Result<(), BrokerError> {
        let text = format!(
            "format {FORMAT_VERSION}\nlog {log:016x}\n\nThe first line is the format of this data folder, the second the number of its log. Do not edit.\n"
        );
        let path = self.format_file();
        write_whole(&*self.disk, &path, text.as_bytes())
            .map_err(|error| failed("writing", &path, error))
    }

    /// Makes the folder and the directories above it, durably.
    pub(crate) fn create(&self) -> Result<(), BrokerError> {
        let above = self.root.ancestors().skip(1);
        let missing = above
            .take_while(|path| self.disk.info(or_here(path)).is_err())
            .count();
        self.disk
            .create_directories(&self.root)
            .map_err(|error| failed("making", &self.root, error))?;
        self.sync_names(missing + 1)
    }

    /// Makes the name of the folder durable, and those of so many directories above it less one.
    fn sync_names(&self, count: usize) -> Result<(), BrokerError> {
        for path in self.root.ancestors().skip(1).take(count).map(or_here) {
            self.disk
                .sync_directory(path)
                .map_err(|error| failed("flushing", path, error))?;
        }
        Ok(())
    }

    fn kind(&self) -> Result<Kind, BrokerError> {
        let names = match self.disk.info(&self.root) {
            Ok(info) if !info.is_directory => return Ok(Kind::Foreign),
            Ok(_) => self
                .disk
                .list(&self.root)
                .map_err(|error| failed("listing", &self.root, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kind::Missing),
            Err(error) => return Err(failed("opening", &self.root, error)),
        };
        let is = |name: &str| names.iter().any(|found| found == Path::new(name));
        let known = |found: &PathBuf| {
            found
                .to_str()
                .is_some_and(|found| KNOWN.contains(&found) || found.starts_with(STORE_PREFIX))
        };
        Ok(if is("format") || is("log") {
            Kind::Data
        } else if names.is_empty() {
            Kind::Empty
        } else if names.iter().all(known) {
            // A crash while the folder was made, or another part of tidings was here first.
            Kind::Data
        } else {
            Kind::Foreign
        })
    }

    fn check_private(&self) -> Result<(), BrokerError> {
        let info = self
            .disk
            .info(&self.root)
            .map_err(|error| failed("opening", &self.root, error))?;
        if info.mode & 0o077 == 0 {
            Ok(())
        } else {
            Err(BrokerError::FolderNotPrivate {
                path: self.root.clone(),
                mode: info.mode & 0o777,
            })
        }
    }

    fn foreign(&self) -> BrokerError {
        BrokerError::FolderForeign {
            path: self.root.clone(),
        }
    }
}

/// The directory of a relative path without a parent is the current one.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// A number for a new log: it need not be secret, only unlikely to come twice.
pub(crate) fn fresh_log_number(clock: &dyn Clock) -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_i64(clock.now().as_micros());
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// How an owner is named to others.
pub(crate) fn owner_text(program: &str, clock: &dyn Clock) -> String {
    format!(
        "process {} ({program}), since {}",
        std::process::id(),
        clock.now()
    )
}

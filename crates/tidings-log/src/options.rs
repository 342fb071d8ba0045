//! What is chosen when a log is opened for writing.

use crate::retention::rule::Retention;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tidings_core::limits::SEGMENT_BYTES_DEFAULT;
use tidings_core::seam::{Clock, Disk};

/// A segment smaller than this could not hold a frame and its marks.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 4_096;

/// When an event counts as accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After `fdatasync`: it survives a power cut.
    #[default]
    Synced,
    /// Once it is in the page cache: it survives the process, not a power cut.
    Written,
}

/// How the bodies of frames are stored. Any is read, whatever is written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// As they are.
    None,
    /// LZ4 blocks: business events become about four times smaller, for a tenth of a microsecond each.
    #[default]
    Lz4,
    /// Zstandard: about eight times smaller; packing and unpacking cost more than with LZ4.
    Zstd,
}

impl Codec {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// What [`LogBroker::open`](crate::LogBroker::open) is told.
#[derive(Clone)]
pub struct OpenOptions {
    /// The data folder; it is made if it does not exist.
    pub folder: PathBuf,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// When an event counts as accepted.
    pub durability: Durability,
    /// How new frames are stored.
    pub codec: Codec,
    /// Bytes after which a segment is closed and the next one begun.
    pub segment_bytes: u64,
    /// Whether tables for look-ups by event id and by key are made in the background. Without them, looking something up reads the log.
    pub look_up_tables: bool,
    /// How much is kept. Given, it becomes the rule of the folder, which later owners keep; `None` goes by the rule that the folder has.
    pub retention: Option<Retention>,
    /// Who opens it, for the message that another process gets.
    pub program: String,
}

impl OpenOptions {
    /// The defaults: synced, packed with LZ4, segments of [`SEGMENT_BYTES_DEFAULT`], with look-up tables.
    pub fn new(folder: impl Into<PathBuf>, clock: Arc<dyn Clock>, disk: Arc<dyn Disk>) -> Self {
        Self {
            folder: folder.into(),
            clock,
            disk,
            durability: Durability::default(),
            codec: Codec::default(),
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            look_up_tables: true,
            retention: None,
            program: "tidings".to_owned(),
        }
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions")
            .field("folder", &self.folder)
            .field("durability", &self.durability)
            .field("codec", &self.codec)
            .field("segment_bytes", &self.segment_bytes)
            .field("look_up_tables", &self.look_up_tables)
            .field("retention", &self.retention)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

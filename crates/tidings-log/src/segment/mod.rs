//! Segments: the files that a log consists of. Writing, reading and recovering one.

pub(crate) mod reader;
pub(crate) mod recovery;
pub(crate) mod survey;
pub(crate) mod writer;

use crate::format::index::Index;
use crate::look_up::TableState;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use tidings_core::limits::POSITION_END;

const EXTENSION: &str = "seg";
const DIGITS: usize = 20;

/// The name of the segment that begins at a position.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:0DIGITS$}.{EXTENSION}")
}

/// The first position of the segment with this file name; `None` for other files.
pub(crate) fn first_of(name: &Path) -> Option<u64> {
    let stem = name.to_str()?.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    (stem.len() == DIGITS && stem.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| stem.parse().ok())?
        .filter(|first| *first < POSITION_END)
}

/// A segment as readers know it.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Position of its first event.
    pub first: u64,
    /// Guards what is known of where frames begin: held for a look-up or to add an entry, and once for a segment while its index is loaded or rebuilt, so that this is done by one reader only.
    pub index: Mutex<Option<Index>>,
    /// Guards what is known of its look-up table: held while the table is read, or made, so that this is done by one reader only.
    pub look_up: Mutex<TableState>,
    /// No frame in it was appended earlier; read from its header when first asked for.
    pub append_time: OnceLock<i64>,
}

impl Segment {
    /// A segment whose index is not loaded.
    pub(crate) fn unread(first: u64) -> Self {
        Self {
            first,
            index: Mutex::new(None),
            look_up: Mutex::default(),
            append_time: OnceLock::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_positions_do_and_come_back() {
        assert_eq!(file_name(42), "00000000000000000042.seg");
        assert_eq!(
            first_of(Path::new(&file_name(POSITION_END - 1))),
            Some(POSITION_END - 1)
        );
        assert_eq!(first_of(Path::new(&file_name(POSITION_END))), None);
        for other in [
            "42.seg",
            "00000000000000000042.idx",
            "0000000000000000004x.seg",
            "durable",
            "99999999999999999999.seg",
        ] {
            assert_eq!(first_of(Path::new(other)), None, "{other}");
        }
    }
}

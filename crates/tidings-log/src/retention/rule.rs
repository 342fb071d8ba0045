//! The rule of retention: how much a log keeps, and for whom. It lies with the log, so that every later owner keeps it.

use crate::files::{failed, read_whole, write_whole};
use crate::folder::Folder;
use crate::format::CHECKSUM_SEED;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use tidings_core::broker::BrokerError;
use tidings_core::limits::ABANDONED_AFTER_DEFAULT;

/// A longer file is no rule of ours.
const RULE_BYTES_MAX: usize = 4_096;

/// How much a log keeps, and for whom. The default keeps everything.
///
/// **Guarantee**: whole segments are removed, oldest first; never the one that is written, never an event that is not flushed.
///
/// ```
/// use std::time::Duration;
/// use tidings_log::{HeldBy, Retention};
///
/// let month = Retention { age_max: Some(Duration::from_secs(30 * 86_400)), ..Retention::default() };
/// assert_eq!(month.held_by, HeldBy::AllGroups);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// A segment is removed once its newest event was appended longer ago than this.
    pub age_max: Option<Duration>,
    /// The oldest segments are removed while the log takes more bytes than this.
    pub bytes_max: Option<u64>,
    /// Which groups keep what they have not settled.
    pub held_by: HeldBy,
    /// A group is abandoned when nobody has worked for it for so long, while events went on coming.
    pub abandoned_after: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age_max: None,
            bytes_max: None,
            held_by: HeldBy::default(),
            abandoned_after: ABANDONED_AFTER_DEFAULT,
        }
    }
}

impl Retention {
    /// Whether anything is ever removed.
    pub fn is_limited(&self) -> bool {
        self.age_max.is_some() || self.bytes_max.is_some()
    }

    /// Whether the rule may remove events that a group has not settled.
    pub fn may_pass_groups(&self) -> bool {
        self.is_limited() && self.held_by != HeldBy::AllGroups
    }
}

/// Which groups keep what they have not settled from being removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// Every group, however long nobody has worked for it.
    #[default]
    AllGroups,
    /// Every group that is not abandoned; an abandoned one loses events.
    ActiveGroups,
    /// No group: who is slower than the limits loses events.
    NoGroup,
}

/// The rule as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    age_max_ms: Option<u64>,
    bytes_max: Option<u64>,
    held_by: HeldBy,
    abandoned_after_ms: u64,
}

/// The file: the rule, and a checksum over its text, because a rule with a flipped digit would remove what it should keep.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    rule: Stored,
    checksum: String,
}

fn checksum(rule: &Stored) -> io::Result<String> {
    let text = serde_json::to_vec(rule).map_err(io::Error::from)?;
    Ok(format!(
        "{:08x}",
        crc32c::crc32c_append(CHECKSUM_SEED, &text)
    ))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads the rule of a folder; one that has none keeps everything.
pub(crate) fn load(folder: &Folder) -> Result<Retention, BrokerError> {
    let path = folder.retention();
    let bytes = match read_whole(&*folder.disk, &path, RULE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Retention::default()),
        Err(error) => return Err(failed("reading", &path, error)),
    };
    let invalid = |reason: String| BrokerError::RetentionInvalid {
        path: path.clone(),
        reason,
    };
    let file: File = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    let made = checksum(&file.rule).map_err(|error| invalid(error.to_string()))?;
    if made != file.checksum {
        return Err(invalid("its checksum does not hold".to_owned()));
    }
    let Stored {
        age_max_ms,
        bytes_max,
        held_by,
        abandoned_after_ms,
    } = file.rule;
    Ok(Retention {
        age_max: age_max_ms.map(Duration::from_millis),
        bytes_max,
        held_by,
        abandoned_after: Duration::from_millis(abandoned_after_ms),
    })
}

/// Writes the rule of a folder, durably and as a whole.
pub(crate) fn save(folder: &Folder, rule: &Retention) -> Result<(), BrokerError> {
    let path = folder.retention();
    let stored = Stored {
        age_max_ms: rule.age_max.map(millis),
        bytes_max: rule.bytes_max,
        held_by: rule.held_by,
        abandoned_after_ms: millis(rule.abandoned_after),
    };
    let text = checksum(&stored).and_then(|checksum| {
        let file = File {
            rule: stored,
            checksum,
        };
        serde_json::to_vec_pretty(&file).map_err(io::Error::from)
    });
    text.and_then(|mut text| {
        text.push(b'\n');
        write_whole(&*folder.disk, &path, &text)
    })
    .map_err(|error| failed("writing", &path, error))
}

//! Looks through a whole log and says what is wrong with it. Nothing is written.

use crate::files::failed;
use crate::folder::Folder;
use crate::format::Identity;
use crate::format::frame::FrameKind;
use crate::format::index::Index;
use crate::format::segment_header::{HeaderRead, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::log::Log;
use crate::log_reader::LogReader;
use crate::segment::recovery::classify;
use crate::segment::survey::{Survey, survey};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use tidings_core::broker::BrokerError;
use tidings_core::seam::{Clock, Disk};

/// A longer index belongs to no segment of ours.
const INDEX_FILE_BYTES_MAX: usize = 16_777_216;

/// What a look through a whole log found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct VerifyReport {
    /// The oldest position kept.
    pub earliest: u64,
    /// Behind the last durable position.
    pub end: u64,
    /// Events that are there and hold.
    pub events: u64,
    /// Segments looked through.
    pub segments: u64,
    /// Bytes looked through.
    pub bytes: u64,
    /// What was flushed once and does not hold any more.
    pub damage: Vec<DamageRange>,
    /// Bytes behind the durable end: an append under way, or an unfinished end that the next owner cuts. Never acknowledged.
    pub unfinished_bytes: u64,
    /// Indexes that are missing or do not hold; they are made anew by themselves.
    pub indexes_to_make: Vec<PathBuf>,
    /// What earlier recoveries kept aside.
    pub aside: Vec<PathBuf>,
}

/// A stretch of damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamageRange {
    /// The file.
    pub file: PathBuf,
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes of it; zero where frames are missing.
    pub bytes: u64,
    /// The first position that is lost.
    pub from: u64,
    /// Positions that are lost from there on; zero if no event is.
    pub events: u64,
    /// What is wrong.
    pub reason: String,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Looks through the whole log of a folder, also beside its owner. It blocks.
///
/// **Errors**: as [`LogReader::open`]; damage is no error but part of the report.
pub fn verify(
    folder: impl Into<PathBuf>,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
) -> Result<VerifyReport, BrokerError> {
    let reader = LogReader::open(folder, clock, disk)?;
    let log = reader.log();
    let end = log.end()?;
    let segments = log.segments();
    let mut report = VerifyReport {
        earliest: segments
            .first()
            .map_or(end.visible, |segment| segment.first),
        end: end.visible,
        aside: kept_aside(&log.folder)?,
        ..VerifyReport::default()
    };
    let begin = log.recorded_first();
    if report.earliest > begin {
        report.damage.push(DamageRange {
            file: log.folder.segment(begin),
            offset: 0,
            bytes: 0,
            from: begin,
            events: report.earliest - begin,
            reason: "the files of these positions are missing".to_owned(),
        });
    }
    for (at, segment) in segments.iter().enumerate() {
        let bound = segments
            .get(at + 1)
            .map_or(end.visible, |next| next.first)
            .min(end.visible);
        if segment.first < bound || segment.first == end.segment {
            verify_segment(log, segment.first, bound, &mut report)?;
        }
    }
    Ok(report)
}

fn verify_segment(
    log: &Log,
    first: u64,
    bound: u64,
    report: &mut VerifyReport,
) -> Result<(), BrokerError> {
    let path = log.folder.segment(first);
    let io_failed = |error| failed("reading", &path, error);
    let mut reader = log.open(first)?;
    let end = log.end_known();
    let bytes = reader.bytes().map_err(io_failed)?;
    let limit = if first == end.segment {
        end.offset.min(bytes)
    } else {
        bytes
    };
    let header = reader.raw(0, SEGMENT_HEADER_BYTES).map_err(io_failed)?;
    let surveyed = survey(&mut reader, first, bound, limit).map_err(io_failed)?;
    let mut note = |offset: u64, bytes: u64, lost: std::ops::Range<u64>, reason: &str| {
        report.damage.push(DamageRange {
            file: path.clone(),
            offset,
            bytes,
            from: lost.start,
            events: lost.end.saturating_sub(lost.start),
            reason: reason.to_owned(),
        });
    };
    let identity = Identity {
        log: log.number,
        segment: first,
    };
    if !matches!(SegmentHeader::decode(&header), HeaderRead::Valid(header) if header.identity == identity)
    {
        note(
            0,
            SEGMENT_HEADER_BYTES as u64,
            first..first,
            "the header of the segment does not hold",
        );
    }
    let (damage, _) = classify(&surveyed, bound);
    for damage in &damage {
        note(
            damage.offset,
            damage.end - damage.offset,
            damage.lost.start..damage.lost.end.min(bound),
            damage.reason,
        );
    }
    let reached = surveyed.frames.last().map_or(first, |frame| frame.next);
    let told = damage.last().is_some_and(|damage| damage.lost.end >= bound);
    if reached < bound && !told {
        note(
            surveyed.end,
            0,
            reached..bound,
            "frames that were flushed are missing at the end",
        );
    }
    report.segments += 1;
    report.bytes += limit;
    report.events += events(&surveyed, bound);
    if first == end.segment {
        report.unfinished_bytes += reader.written_end(limit).map_err(io_failed)? - limit;
    } else if !index_holds(&log.folder, identity) {
        report.indexes_to_make.push(log.folder.index(first));
    }
    Ok(())
}

fn events(surveyed: &Survey, bound: u64) -> u64 {
    let batches = surveyed
        .frames
        .iter()
        .filter(|frame| frame.kind == FrameKind::Batch && frame.next <= bound);
    batches.map(|frame| frame.next - frame.first).sum()
}

fn index_holds(folder: &Folder, identity: Identity) -> bool {
    let bytes = crate::files::read_whole(
        &*folder.disk,
        &folder.index(identity.segment),
        INDEX_FILE_BYTES_MAX,
    );
    bytes.is_ok_and(|bytes| Index::decode(&bytes, identity).is_ok())
}

fn kept_aside(folder: &Folder) -> Result<Vec<PathBuf>, BrokerError> {
    let path = folder.aside();
    let mut kept = match folder.disk.list(&path) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed("listing", &path, error)),
    };
    kept.sort();
    Ok(kept.into_iter().map(|name| path.join(name)).collect())
}

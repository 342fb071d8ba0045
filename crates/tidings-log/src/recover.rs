//! Opens a log for writing: finds its number, carries out what `segment/recovery.rs` decides about the last segment, and says what was done.
//!
//! Each step can be cut off by a crash and is done again by the next opening. Nothing is removed before what replaces it is durable.

use crate::aside;
use crate::files::{failed, fresh_name};
use crate::folder::{Folder, fresh_log_number};
use crate::format::frame::{FrameHead, FrameKind, body_checksum};
use crate::format::index::{Index, IndexEntry};
use crate::format::segment_header::{HeaderRead, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{FORMAT_VERSION, Identity, sync_mark};
use crate::log::{End, extend, list_segments, note, read_durable};
use crate::retention::{clear_before, read_first};
use crate::segment::reader::{FrameRead, SegmentReader};
use crate::segment::recovery::{Carry, Damage, Plan, plan};
use crate::segment::survey::{Survey, survey};
use crate::segment::writer::{SegmentWriter, WriteFault};
use crate::verify::DamageRange;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use tidings_core::broker::BrokerError;
use tidings_core::seam::{Clock, OpenMode};

/// Bytes of frames that are written at once when an end is written anew.
const CARRY_BUFFER_BYTES: usize = 1_048_576;

/// What an opening found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Bytes of an unfinished end that were cut and kept aside; nothing in them was ever acknowledged.
    pub cut_bytes: u64,
    /// Events that held but were not known to be flushed, and were written anew.
    pub rewritten_events: u64,
    /// Positions that were flushed once and are lost.
    pub damaged: Vec<Range<u64>>,
    /// Where in which file they were.
    pub stretches: Vec<DamageRange>,
}

impl RecoveryReport {
    fn lose(&mut self, lost: Range<u64>, file: PathBuf, bytes: Range<u64>, reason: &str) {
        self.stretches.push(DamageRange {
            file,
            offset: bytes.start,
            bytes: bytes.end - bytes.start,
            from: lost.start,
            events: lost.end - lost.start,
            reason: reason.to_owned(),
        });
        self.damaged.push(lost);
    }
}

/// A log that is ready to be written.
pub(crate) struct Opened {
    pub number: u64,
    pub recorded_first: u64,
    pub firsts: Vec<u64>,
    /// The segment to go on with; `None` if there was no room to make one.
    pub segment: Option<SegmentWriter>,
    pub index: Index,
    pub end: End,
    pub append_time: i64,
    /// Whether a sync mark or a header says that everything is synced.
    pub marked: bool,
    pub report: RecoveryReport,
}

/// Opens the log of a folder that this process owns.
pub(crate) fn open(
    folder: &Folder,
    clock: &dyn Clock,
    segment_bytes: u64,
) -> Result<Opened, BrokerError> {
    make_directories(folder)?;
    clear_unfinished(folder)?;
    let number = number_for_writing(folder, clock)?;
    let recorded_first = begin(folder, number)?;
    let mut firsts = list_segments(folder)?;
    let mut report = RecoveryReport::default();
    let told = read_durable(folder, number)?.map_or(0, |durable| durable.synced);
    while let Some(&first) = firsts.last() {
        let identity = Identity {
            log: number,
            segment: first,
        };
        let (reader, surveyed) = look_through(folder, identity)?;
        if told <= first
            && surveyed.frames.is_empty()
            && !has_header(folder, &reader, first, identity)?
        {
            // Its making was cut off: no frame was written before its header was durable.
            aside::keep_file(folder, first)?;
            firsts.pop();
            continue;
        }
        let decided = plan(&surveyed, first, told);
        return go_on(
            folder,
            clock,
            segment_bytes,
            Found {
                number,
                recorded_first,
                firsts,
                reader,
                surveyed,
                decided,
                report,
            },
        );
    }
    let time = clock.now().as_micros();
    let next = told.max(recorded_first);
    if next > recorded_first {
        let file = folder.segment(recorded_first);
        let reason = "the files of these positions are missing";
        report.lose(recorded_first..next, file, 0..0, reason);
    }
    finish(
        folder,
        segment_bytes,
        Unfinished {
            number,
            recorded_first,
            firsts,
            next,
            append_time: time,
            segment: None,
            index: Index::default(),
            end_of_last: 0,
            marked: true,
            report,
        },
    )
}

/// Carries on a removal that was cut off, and answers where the log begins.
fn begin(folder: &Folder, number: u64) -> Result<u64, BrokerError> {
    let Some(first) = read_first(folder, number)? else {
        return Ok(0);
    };
    // What it says is removed only if the log goes on there: else files were lost, and nothing more may be.
    if list_segments(folder)?.iter().any(|kept| *kept >= first) {
        clear_before(folder, first)?;
    }
    Ok(first)
}

/// Opens a segment and looks at all of its frames.
fn look_through(
    folder: &Folder,
    identity: Identity,
) -> Result<(SegmentReader, Survey), BrokerError> {
    let path = folder.segment(identity.segment);
    let file = folder
        .disk
        .open(&path, OpenMode::Read)
        .map_err(|error| failed("opening", &path, error))?;
    let mut reader = SegmentReader::new(file, identity);
    let surveyed = reader
        .bytes()
        .and_then(|bytes| survey(&mut reader, identity.segment, u64::MAX, bytes))
        .map_err(|error| failed("reading", &path, error))?;
    Ok((reader, surveyed))
}

struct Found {
    number: u64,
    recorded_first: u64,
    firsts: Vec<u64>,
    reader: SegmentReader,
    surveyed: Survey,
    decided: Plan,
    report: RecoveryReport,
}

/// Carries out the plan for the last segment.
fn go_on(
    folder: &Folder,
    clock: &dyn Clock,
    segment_bytes: u64,
    found: Found,
) -> Result<Opened, BrokerError> {
    let Found {
        number,
        recorded_first,
        mut firsts,
        mut reader,
        surveyed,
        decided,
        mut report,
    } = found;
    let identity = reader.identity();
    let path = folder.segment(identity.segment);
    set_aside(folder, &reader, &decided, &mut report);
    let append_time = decided.append_time.max(if surveyed.frames.is_empty() {
        clock.now().as_micros()
    } else {
        i64::MIN
    });
    let last = surveyed
        .frames
        .iter()
        .rfind(|frame| Some(frame.end) == decided.offset);
    let marked = last.is_none_or(|frame| frame.kind == FrameKind::SyncMark);
    let (mut index, mut segment, mut end_of_last) = (Index::default(), None, surveyed.end);
    if let Some(carry) = decided.carry {
        let fresh = Identity {
            log: number,
            segment: carry.first,
        };
        let offset = write_anew(folder, &mut reader, fresh, carry, &mut index, &mut report)?;
        if carry.first != identity.segment {
            cut(folder, identity.segment, carry.offset)?;
            firsts.push(carry.first);
        }
        segment = Some(open_segment(folder, fresh, offset, segment_bytes)?);
        index.covered_bytes = offset;
    } else if let Some(offset) = decided.offset {
        if decided.cut.is_some() {
            cut(folder, identity.segment, offset)?;
        }
        extend(&mut index, &mut reader, offset).map_err(|error| failed("reading", &path, error))?;
        segment = Some(open_segment(folder, identity, offset, segment_bytes)?);
    } else if let Some((from, _)) = decided.cut {
        cut(folder, identity.segment, from)?;
        end_of_last = from;
    }
    finish(
        folder,
        segment_bytes,
        Unfinished {
            number,
            recorded_first,
            firsts,
            next: decided.next,
            append_time,
            segment,
            index,
            end_of_last,
            marked,
            report,
        },
    )
}

/// Keeps aside and reports what is damaged and what is to be cut.
fn set_aside(folder: &Folder, reader: &SegmentReader, decided: &Plan, report: &mut RecoveryReport) {
    for damage in &decided.damage {
        tell_damage(folder, reader, damage, report);
    }
    if let Some((from, to)) = decided.cut {
        let path = folder.segment(reader.identity().segment);
        report.cut_bytes = to - from;
        tracing::warn!(path = %path.display(), offset = from, bytes = to - from, "an unfinished end is cut; nothing in it was acknowledged");
        aside::keep_bytes(folder, reader, from..to, "cut");
    }
}

struct Unfinished {
    number: u64,
    recorded_first: u64,
    firsts: Vec<u64>,
    next: u64,
    append_time: i64,
    segment: Option<SegmentWriter>,
    index: Index,
    end_of_last: u64,
    marked: bool,
    report: RecoveryReport,
}

/// Begins a new segment where the last one cannot be gone on with.
fn finish(
    folder: &Folder,
    segment_bytes: u64,
    unfinished: Unfinished,
) -> Result<Opened, BrokerError> {
    let Unfinished {
        number,
        recorded_first,
        mut firsts,
        next,
        append_time,
        mut segment,
        mut index,
        end_of_last,
        marked,
        report,
    } = unfinished;
    if segment.is_none() {
        let identity = Identity {
            log: number,
            segment: next,
        };
        match SegmentWriter::create(folder, identity, append_time, segment_bytes) {
            Ok(made) => {
                firsts.push(next);
                index = Index {
                    entries: Vec::new(),
                    covered_bytes: made.offset(),
                };
                segment = Some(made);
            }
            // It is made once there is room; until then the log is read.
            Err(WriteFault::Full) if !firsts.is_empty() => {}
            Err(fault) => return Err(write_failed(folder, fault)),
        }
    }
    let end = match &segment {
        Some(segment) => End {
            visible: next,
            segment: segment.identity().segment,
            offset: segment.offset(),
        },
        None => End {
            visible: next,
            segment: firsts.last().copied().unwrap_or(0),
            offset: end_of_last,
        },
    };
    Ok(Opened {
        number,
        recorded_first,
        firsts,
        segment,
        index,
        end,
        append_time,
        marked,
        report,
    })
}

/// The error of a broker for a fault of a segment's writer.
pub(crate) fn write_failed(folder: &Folder, fault: WriteFault) -> BrokerError {
    let path = folder.log();
    match fault {
        WriteFault::Full => BrokerError::DiskFull { path },
        WriteFault::ReadOnly(source) => BrokerError::ReadOnly { path, source },
        WriteFault::Failed(action, source) => BrokerError::Io {
            action,
            path,
            source,
        },
    }
}

fn open_segment(
    folder: &Folder,
    identity: Identity,
    offset: u64,
    segment_bytes: u64,
) -> Result<SegmentWriter, BrokerError> {
    let path = folder.segment(identity.segment);
    SegmentWriter::open(folder, identity, offset, segment_bytes)
        .map_err(|error| failed("opening", &path, error))
}

fn tell_damage(
    folder: &Folder,
    reader: &SegmentReader,
    damage: &Damage,
    report: &mut RecoveryReport,
) {
    let path = folder.segment(reader.identity().segment);
    tracing::error!(path = %path.display(), offset = damage.offset, from = damage.lost.start, to = damage.lost.end, reason = damage.reason, "the log is damaged");
    if damage.end > damage.offset {
        aside::keep_bytes(folder, reader, damage.offset..damage.end, "damaged");
    }
    if !damage.lost.is_empty() {
        let bytes = damage.offset..damage.end;
        report.lose(damage.lost.clone(), path, bytes, damage.reason);
    }
}

/// Writes frames that may be in the page cache only into a file of their own, and makes that durable under its name. Answers where it ends.
fn write_anew(
    folder: &Folder,
    reader: &mut SegmentReader,
    identity: Identity,
    carry: Carry,
    index: &mut Index,
    report: &mut RecoveryReport,
) -> Result<u64, BrokerError> {
    let path = folder.segment(identity.segment);
    let fresh = fresh_name(&path);
    let written = (|| -> io::Result<u64> {
        let file = folder.disk.open(&fresh, OpenMode::Create)?;
        file.set_bytes(0)?;
        let (mut from, mut at, mut to) = (carry.offset, 0, 0);
        let mut buffer = Vec::new();
        let (mut next, mut time) = (carry.first, i64::MIN);
        while from < carry.end {
            let FrameRead::Frame(frame) = reader.frame_at(from, carry.end)? else {
                break;
            };
            from = frame.end();
            if to == 0 {
                buffer.extend_from_slice(
                    &SegmentHeader {
                        identity,
                        append_time: frame.head.append_time,
                    }
                    .encode(),
                );
                to = buffer.len() as u64;
            }
            note(
                index,
                &IndexEntry {
                    position: frame.head.first,
                    append_time: frame.head.append_time,
                    offset: to,
                },
            );
            let head = FrameHead {
                synced: carry.first,
                ..frame.head
            };
            buffer.extend_from_slice(&head.encode(identity, body_checksum(&frame.stored)));
            buffer.extend_from_slice(&frame.stored);
            to += head.frame_bytes();
            (next, time) = (head.next(), head.append_time);
            report.rewritten_events += u64::from(head.count);
            if buffer.len() >= CARRY_BUFFER_BYTES {
                file.write_all_at(&buffer, at)?;
                at = to;
                buffer.clear();
            }
        }
        // True as soon as the file has its name, for it is synced before.
        buffer.extend_from_slice(&sync_mark::encode(next, time, identity));
        file.write_all_at(&buffer, at)?;
        file.sync_data()?;
        folder.disk.rename(&fresh, &path)?;
        folder.disk.sync_directory(&folder.log())?;
        Ok(at + buffer.len() as u64)
    })();
    written.map_err(|error| failed("writing", &path, error))
}

fn cut(folder: &Folder, first: u64, offset: u64) -> Result<(), BrokerError> {
    let path = folder.segment(first);
    let cut = folder
        .disk
        .open(&path, OpenMode::Write)
        .and_then(|file| file.set_bytes(offset).and_then(|()| file.sync_data()));
    cut.map_err(|error| failed("cutting", &path, error))
}

fn make_directories(folder: &Folder) -> Result<(), BrokerError> {
    let disk = &*folder.disk;
    for path in [folder.log(), folder.groups()] {
        disk.create_directories(&path)
            .map_err(|error| failed("making", &path, error))?;
    }
    let log = folder.log();
    let parents = [Some(folder.root()), log.parent(), Some(&*log)];
    for path in parents.into_iter().flatten() {
        disk.sync_directory(path)
            .map_err(|error| failed("flushing", path, error))?;
    }
    Ok(())
}

/// Removes files that never got their name.
fn clear_unfinished(folder: &Folder) -> Result<(), BrokerError> {
    for directory in [folder.log(), folder.groups()] {
        let names = folder
            .disk
            .list(&directory)
            .map_err(|error| failed("listing", &directory, error))?;
        for name in names
            .iter()
            .filter(|name| name.extension().is_some_and(|extension| extension == "new"))
        {
            let path = directory.join(name);
            folder
                .disk
                .remove(&path)
                .map_err(|error| failed("removing", &path, error))?;
        }
    }
    Ok(())
}

fn number_for_writing(folder: &Folder, clock: &dyn Clock) -> Result<u64, BrokerError> {
    let noted = folder.format()?;
    let number = log_number(folder, noted)?.unwrap_or_else(|| fresh_log_number(clock));
    if noted != Some(number) {
        folder.write_format(number)?;
    }
    Ok(number)
}

/// The number of a log: what the `format` file says if a segment agrees, else what a segment says, because a header has a checksum and the `format` file has none.
pub(crate) fn log_number(folder: &Folder, noted: Option<u64>) -> Result<Option<u64>, BrokerError> {
    let mut said = None;
    for first in list_segments(folder)? {
        let path = folder.segment(first);
        let file = folder
            .disk
            .open(&path, OpenMode::Read)
            .map_err(|error| failed("opening", &path, error))?;
        let reader = SegmentReader::new(
            file,
            Identity {
                log: 0,
                segment: first,
            },
        );
        let bytes = reader
            .raw(0, SEGMENT_HEADER_BYTES)
            .map_err(|error| failed("reading", &path, error))?;
        match SegmentHeader::decode(&bytes) {
            HeaderRead::Valid(header) if noted.is_none_or(|noted| noted == header.identity.log) => {
                return Ok(Some(header.identity.log));
            }
            HeaderRead::Valid(header) => said = said.or(Some(header.identity.log)),
            HeaderRead::Newer(found) => {
                return Err(BrokerError::FormatNewer {
                    path,
                    found,
                    supported: FORMAT_VERSION,
                });
            }
            HeaderRead::Invalid(_) => {}
        }
    }
    Ok(said.or(noted))
}

fn has_header(
    folder: &Folder,
    reader: &SegmentReader,
    first: u64,
    identity: Identity,
) -> Result<bool, BrokerError> {
    let path = folder.segment(first);
    let bytes = reader
        .raw(0, SEGMENT_HEADER_BYTES)
        .map_err(|error| failed("reading", &path, error))?;
    match SegmentHeader::decode(&bytes) {
        HeaderRead::Valid(header) => Ok(header.identity == identity),
        HeaderRead::Newer(found) => Err(BrokerError::FormatNewer {
            path,
            found,
            supported: FORMAT_VERSION,
        }),
        HeaderRead::Invalid(_) => Ok(false),
    }
}

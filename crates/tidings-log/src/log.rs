//! One log as its readers see it: its segments in order, and how far it may be read. The owner moves the end; beside an owner it is learnt from the `durable` file.

use crate::damage::DamageBook;
use crate::files::{failed, read_whole};
use crate::folder::Folder;
use crate::format::Identity;
use crate::format::durable::{DURABLE_BYTES, Durable};
use crate::format::index::{Index, IndexEntry};
use crate::format::segment_header::{HeaderRead, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::retention::read_first;
use crate::segment::reader::{FrameRead, SegmentReader};
use crate::segment::{self, Segment};
use crate::status::Counts;
use crate::verify::DamageRange;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Waker;
use tidings_core::broker::{BrokerError, Position};
use tidings_core::limits::INDEX_INTERVAL_BYTES;
use tidings_core::seam::{Clock, OpenMode};

/// A longer index belongs to no segment of ours.
const INDEX_FILE_BYTES_MAX: usize = 16_777_216;
/// The owner may be writing the `durable` file at this very moment; so often it is read again.
const DURABLE_READS_MAX: usize = 16;

/// How far a log may be read, and where that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct End {
    /// Everything before this position may be read.
    pub visible: u64,
    /// The segment in which the next event will stand, by its first position.
    pub segment: u64,
    /// Where in that segment the next frame will begin.
    pub offset: u64,
}

/// A log that can be read.
pub(crate) struct Log {
    pub folder: Folder,
    pub clock: Arc<dyn Clock>,
    /// The number that all its frames carry in their checksum.
    pub number: u64,
    /// Whether this process owns the log.
    pub owned: bool,
    /// Guards the list of segments: replaced as a whole when one is added, so that readers hold the lock for a clone only.
    segments: RwLock<Arc<[Arc<Segment>]>>,
    /// Guards the end and who waits for it: held for a copy.
    end: Mutex<EndState>,
    /// Where the log begins by the record of retention; what is missing behind it is damage.
    recorded_first: AtomicU64,
    /// What is damaged, as far as that is known.
    pub damage: DamageBook,
    /// What happened since it was opened.
    pub counts: Counts,
    /// Guards against a group that is made or moved back while retention decides whom to wait for: held for that decision, or while a group is placed.
    gate: Mutex<()>,
}

#[derive(Default)]
struct EndState {
    end: End,
    closed: bool,
    wakers: Vec<Waker>,
}

impl Log {
    pub(crate) fn new(
        folder: Folder,
        clock: Arc<dyn Clock>,
        number: u64,
        owned: bool,
        (recorded_first, firsts): (u64, &[u64]),
        end: End,
    ) -> Self {
        let segments = firsts
            .iter()
            .map(|first| Arc::new(Segment::unread(*first)))
            .collect();
        Self {
            folder,
            clock,
            number,
            owned,
            segments: RwLock::new(segments),
            end: Mutex::new(EndState {
                end,
                closed: false,
                wakers: Vec::new(),
            }),
            recorded_first: AtomicU64::new(recorded_first),
            damage: DamageBook::default(),
            counts: Counts::default(),
            gate: Mutex::new(()),
        }
    }

    /// Notes that positions are lost in a segment.
    pub(crate) fn note_damage(&self, segment: u64, offset: u64, lost: &Range<u64>, reason: &str) {
        let damage = DamageRange {
            file: self.folder.segment(segment),
            offset,
            bytes: 0,
            from: lost.start,
            events: lost.end.saturating_sub(lost.start),
            reason: reason.to_owned(),
        };
        self.damage.note(&self.folder, self.owned, damage);
    }

    /// Keeps retention from deciding, or groups from being placed, until it is dropped.
    pub(crate) fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the log begins by the record of retention.
    pub(crate) fn recorded_first(&self) -> u64 {
        self.recorded_first.load(Ordering::Acquire)
    }

    /// The first position of the oldest segment; `None` without any.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.segments().first().map(|segment| segment.first)
    }

    /// Everything before `first` is removed, or is about to be.
    pub(crate) fn begin_at(&self, first: u64) {
        let mut segments = self
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *segments = segments
            .iter()
            .filter(|segment| segment.first >= first)
            .cloned()
            .collect();
        self.recorded_first.fetch_max(first, Ordering::AcqRel);
    }

    /// Beside an owner, looks where the log begins now.
    pub(crate) fn look_at_begin(&self) -> Result<(), BrokerError> {
        if !self.owned
            && let Some(first) = read_first(&self.folder, self.number)?
            && first > self.recorded_first()
        {
            self.list_anew()?;
        }
        Ok(())
    }

    /// Beside an owner, lists the segments again; what is known of those that stay is kept.
    fn list_anew(&self) -> Result<(), BrokerError> {
        let recorded_first = read_first(&self.folder, self.number)?.unwrap_or(0);
        let firsts = list_segments(&self.folder)?;
        let mut segments = self
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let begun = firsts.into_iter().filter(|first| *first >= recorded_first);
        let fresh = begun.map(|first| {
            let same = segments.iter().find(|segment| segment.first == first);
            same.cloned()
                .unwrap_or_else(|| Arc::new(Segment::unread(first)))
        });
        *segments = fresh.collect();
        self.recorded_first
            .fetch_max(recorded_first, Ordering::AcqRel);
        Ok(())
    }

    /// Where the log ends now. Beside an owner, this looks.
    pub(crate) fn end(&self) -> Result<End, BrokerError> {
        if !self.owned {
            self.look()?;
        }
        Ok(self.end_state().end)
    }

    /// Where the log ended when it was looked at last.
    pub(crate) fn end_known(&self) -> End {
        self.end_state().end
    }

    /// Moves the end and answers who waits for that, to be woken outside every lock.
    pub(crate) fn move_end(&self, end: End) -> Vec<Waker> {
        let mut state = self.end_state();
        state.end = end;
        std::mem::take(&mut state.wakers)
    }

    /// Ends all waiting: nothing will be appended here any more.
    pub(crate) fn close(&self) {
        let wakers = {
            let mut state = self.end_state();
            state.closed = true;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.end_state().closed
    }

    /// Notes who waits for the end to move beyond `position`; `false` if it is beyond already or the log is closed.
    pub(crate) fn wait_beyond(&self, position: u64, waker: &Waker) -> bool {
        let mut state = self.end_state();
        if state.end.visible > position || state.closed {
            return false;
        }
        if !state.wakers.iter().any(|known| known.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        true
    }

    /// The segments in order; there is at least one unless the log is empty beside its owner.
    pub(crate) fn segments(&self) -> Arc<[Arc<Segment>]> {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds the segment that follows the last one.
    pub(crate) fn add_segment(&self, segment: Segment) -> Arc<Segment> {
        let segment = Arc::new(segment);
        let mut segments = self
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *segments = segments.iter().cloned().chain([segment.clone()]).collect();
        segment
    }

    /// Opens a segment for reading.
    pub(crate) fn open(&self, first: u64) -> Result<SegmentReader, BrokerError> {
        let path = self.folder.segment(first);
        let file = self
            .folder
            .disk
            .open(&path, OpenMode::Read)
            .map_err(|error| self.gone(first, "opening", error))?;
        Ok(SegmentReader::new(
            file,
            Identity {
                log: self.number,
                segment: first,
            },
        ))
    }

    /// The error of a segment that cannot be read: retention may have removed it under the reader.
    fn gone(&self, first: u64, action: &'static str, error: io::Error) -> BrokerError {
        if error.kind() == io::ErrorKind::NotFound
            && self.look_at_begin().is_ok()
            && first < self.recorded_first()
        {
            return BrokerError::Removed {
                position: Position(first),
                oldest: Position(self.recorded_first()),
            };
        }
        failed(action, &self.folder.segment(first), error)
    }

    /// The last known frame of a segment that begins at `position` or before.
    pub(crate) fn place_of(
        &self,
        segment: &Segment,
        position: u64,
    ) -> Result<Option<IndexEntry>, BrokerError> {
        self.with_index(segment, |index| index.at_or_before(position))
    }

    /// The last known frame of a segment that was appended before `time`.
    pub(crate) fn place_before(
        &self,
        segment: &Segment,
        time: i64,
    ) -> Result<Option<IndexEntry>, BrokerError> {
        self.with_index(segment, |index| index.before_time(time))
    }

    /// A time that no frame of the segment was appended before; the header says, or the first frame where the header is damaged.
    pub(crate) fn append_time(&self, segment: &Segment) -> Result<i64, BrokerError> {
        if let Some(time) = segment.append_time.get() {
            return Ok(*time);
        }
        let reader = self.open(segment.first)?;
        let path = self.folder.segment(segment.first);
        let bytes = reader
            .raw(0, SEGMENT_HEADER_BYTES)
            .map_err(|error| failed("reading", &path, error))?;
        let time = match SegmentHeader::decode(&bytes) {
            HeaderRead::Valid(header) => header.append_time,
            HeaderRead::Newer(_) | HeaderRead::Invalid(_) => self
                .with_index(segment, |index| {
                    index.entries.first().map(|entry| entry.append_time)
                })?
                .unwrap_or(i64::MIN),
        };
        Ok(*segment.append_time.get_or_init(|| time))
    }

    /// When the newest event was appended, in microseconds; `None` without any.
    pub(crate) fn newest_append_time(&self) -> Result<Option<i64>, BrokerError> {
        let end = self.end()?;
        let segments = self.segments();
        let Some(last) = segments.last() else {
            return Ok(None);
        };
        let mut newest = self.append_time(last)?;
        let Some(entry) = self.place_of(last, u64::MAX)? else {
            return Ok((newest != i64::MIN).then_some(newest));
        };
        let limit = if last.first == end.segment {
            end.offset
        } else {
            u64::MAX
        };
        let mut reader = self.open(last.first)?;
        let mut offset = entry.offset;
        // Damage behind the last place that the index knows hides a few events at most.
        while let FrameRead::Frame(frame) = reader
            .frame_at(offset, limit)
            .map_err(|error| self.gone(last.first, "reading", error))?
        {
            newest = newest.max(frame.head.append_time);
            offset = frame.end();
        }
        Ok(Some(newest))
    }

    fn with_index<T>(
        &self,
        segment: &Segment,
        look: impl FnOnce(&Index) -> T,
    ) -> Result<T, BrokerError> {
        let end = self.end_known();
        let mut index = segment.index.lock().unwrap_or_else(PoisonError::into_inner);
        let is_last = segment.first == end.segment;
        if index.is_none() || (is_last && !self.owned) {
            let loaded = self.load_index(segment, index.take(), is_last.then_some(end.offset));
            *index = Some(loaded.map_err(|error| self.gone(segment.first, "reading", error))?);
        }
        Ok(look(index.get_or_insert_default()))
    }

    /// The index of a segment: from its file where that holds, else made anew; carried on to the end in either case.
    fn load_index(
        &self,
        segment: &Segment,
        known: Option<Index>,
        end: Option<u64>,
    ) -> io::Result<Index> {
        let path = self.folder.index(segment.first);
        let identity = Identity {
            log: self.number,
            segment: segment.first,
        };
        let disk = &*self.folder.disk;
        let stored = || {
            let bytes = read_whole(disk, &path, INDEX_FILE_BYTES_MAX).ok()?;
            let index = Index::decode(&bytes, identity);
            if index.is_err() {
                tracing::warn!(path = %path.display(), "the index does not hold and is made anew");
            }
            index.ok()
        };
        let mut reader = SegmentReader::new(
            disk.open(&self.folder.segment(segment.first), OpenMode::Read)?,
            identity,
        );
        let limit = end.unwrap_or(reader.bytes()?);
        let mut index = known
            .or_else(stored)
            .filter(|index| index.covered_bytes <= limit)
            .unwrap_or_default();
        let before = index.covered_bytes;
        extend(&mut index, &mut reader, limit)?;
        if self.owned && end.is_none() && index.covered_bytes != before {
            // Only a hint that saves the next reader the work: an error changes nothing for this one.
            if let Err(error) = write_index(&self.folder, identity, &index) {
                tracing::debug!(%error, "an index was not written");
            }
        }
        Ok(index)
    }

    /// Looks how far the owner got.
    fn look(&self) -> Result<(), BrokerError> {
        let Some(durable) = read_durable(&self.folder, self.number)? else {
            return Ok(());
        };
        let known = self.end_known();
        if durable.visible <= known.visible {
            return Ok(());
        }
        let listed = self.segments().last().map(|segment| segment.first);
        if listed.is_none_or(|last| last < durable.segment) {
            self.list_anew()?;
        }
        let end = End {
            visible: durable.visible,
            segment: durable.segment,
            offset: durable.offset,
        };
        self.move_end(end).into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn end_state(&self) -> MutexGuard<'_, EndState> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds what lies behind the covered part of a segment to its index.
pub(crate) fn extend(index: &mut Index, reader: &mut SegmentReader, limit: u64) -> io::Result<()> {
    let mut offset = index.covered_bytes.max(SEGMENT_HEADER_BYTES as u64);
    let mut expected = index.entries.last().map_or(0, |entry| entry.position);
    loop {
        let frame = match reader.frame_at(offset, limit)? {
            FrameRead::Frame(frame) => frame,
            FrameRead::Nothing | FrameRead::Bad(_) if offset < limit => {
                match reader.frame_behind(offset, limit, expected)? {
                    Some(frame) => frame,
                    None => break,
                }
            }
            FrameRead::Nothing | FrameRead::Bad(_) => break,
        };
        note(
            index,
            &IndexEntry {
                position: frame.head.first,
                append_time: frame.head.append_time,
                offset: frame.offset,
            },
        );
        expected = frame.head.next();
        offset = frame.end();
    }
    index.covered_bytes = offset.max(index.covered_bytes);
    Ok(())
}

/// Adds an entry if the last one is far enough away.
pub(crate) fn note(index: &mut Index, entry: &IndexEntry) {
    let far = index
        .entries
        .last()
        .is_none_or(|last| entry.offset >= last.offset.saturating_add(INDEX_INTERVAL_BYTES));
    if far {
        index.entries.push(*entry);
    }
}

/// Writes the index of a closed segment. It is not synced: who reads it checks it.
pub(crate) fn write_index(folder: &Folder, identity: Identity, index: &Index) -> io::Result<()> {
    let file = folder
        .disk
        .open(&folder.index(identity.segment), OpenMode::Create)?;
    let bytes = index.encode(identity);
    file.write_all_at(&bytes, 0)?;
    file.set_bytes(bytes.len() as u64)
}

/// The first positions of all segments of a log, in order.
pub(crate) fn list_segments(folder: &Folder) -> Result<Vec<u64>, BrokerError> {
    let path = folder.log();
    let names = match folder.disk.list(&path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("listing", &path, error)),
    };
    let mut firsts: Vec<u64> = names
        .iter()
        .filter_map(|name| segment::first_of(name))
        .collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// What the owner says of its end; `None` if it says nothing, or nothing that holds.
pub(crate) fn read_durable(folder: &Folder, log: u64) -> Result<Option<Durable>, BrokerError> {
    let path = folder.durable();
    let file = match folder.disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("opening", &path, error)),
    };
    let mut bytes = [0; DURABLE_BYTES];
    for _ in 0..DURABLE_READS_MAX {
        let read = file
            .read_at(&mut bytes, 0)
            .map_err(|error| failed("reading", &path, error))?;
        if let Ok(durable) = Durable::decode(bytes.get(..read).unwrap_or_default()) {
            return Ok((durable.log == log).then_some(durable));
        }
    }
    Ok(None)
}

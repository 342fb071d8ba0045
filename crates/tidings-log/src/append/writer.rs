//! The one thread that writes: it takes everything that waits, writes once, flushes once, tells readers, acknowledges.

use super::outcome::Answer;
use super::pending::{PendingFrame, Placement};
use super::pieces;
use super::queue::{Queue, Work};
use crate::damage;
use crate::files::{failed, is_full};
use crate::format::durable::Durable;
use crate::format::frame::HEAD_BYTES;
use crate::format::index::{Index, IndexEntry};
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::{Identity, sync_mark};
use crate::log::{End, Log, note, write_index};
use crate::look_up::Background;
use crate::options::SEGMENT_BYTES_MIN;
use crate::poison::{LogState, StateCell};
use crate::recover::write_failed;
use crate::retention::Retainer;
use crate::segment::Segment;
use crate::segment::writer::{SegmentWriter, WriteFault};
use crate::status::Counts;
use crate::{Codec, Durability};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tidings_core::broker::{BrokerError, PublishError};
use tidings_core::limits::{RETENTION_INTERVAL, SEGMENT_EVENTS_MAX};
use tidings_core::seam::DiskFile;

/// Without work for so long, the log is idle and gets a sync mark.
const IDLE: Duration = Duration::from_millis(50);
/// Whoever comes back within this is likely to do so again: the writer does not go to sleep then, because to wake it takes longer.
const SOON: Duration = Duration::from_micros(150);
/// The buffer for shared frames is given back above this size.
const BUFFER_BYTES_KEPT: usize = 4_194_304;
/// Frames written and flushed together hold about so many bytes at most, so that the first of a long queue need not wait for the last.
const COMMIT_BYTES_MAX: u64 = 8_388_608;

/// Writes a log.
pub(crate) struct Writer {
    pub log: Arc<Log>,
    pub queue: Arc<Queue>,
    pub state: Arc<StateCell>,
    pub retainer: Arc<Retainer>,
    /// Where it appends; `None` while there is no room to begin a segment.
    pub segment: Option<SegmentWriter>,
    /// What readers know of that segment.
    pub shared: Arc<Segment>,
    /// Makes look-up tables of the segments that are closed here.
    pub background: Option<Background>,
    pub durable: Box<dyn DiskFile>,
    pub durability: Durability,
    pub codec: Codec,
    pub segment_bytes: u64,
    pub next: u64,
    pub synced: u64,
    pub append_time: i64,
    /// When the segment was begun, in microseconds.
    pub segment_begun: i64,
    /// Whether a sync mark, or a segment's header, says that everything is synced.
    pub marked: bool,
    pub buffer: Vec<u8>,
}

impl Writer {
    /// Works until the queue is closed.
    pub(crate) fn run(mut self) {
        let ended = Ended {
            queue: self.queue.clone(),
            state: self.state.clone(),
            log: self.log.clone(),
        };
        let (mut spare, mut wanted) = (VecDeque::new(), 0);
        let mut last_work = self.log.clock.elapsed();
        let several = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
        let mut soon = false;
        loop {
            // After the answers, so that nobody waits for it.
            self.state_damage();
            if self.retainer.is_due() {
                self.retainer.look_by_itself();
            }
            let idle = if self.marked {
                RETENTION_INTERVAL
            } else {
                IDLE
            };
            match self.queue.take(idle, wanted, soon, spare) {
                Work::Write(mut frames, pieces) => {
                    let waited = self.log.clock.elapsed().saturating_sub(last_work);
                    soon = several && waited < SOON && pieces == 1;
                    wanted = pieces;
                    self.write(&mut frames);
                    spare = frames;
                    last_work = self.log.clock.elapsed();
                }
                Work::Idle => {
                    (spare, wanted) = (VecDeque::new(), 0);
                    if self.log.clock.elapsed().saturating_sub(last_work) >= IDLE {
                        self.mark();
                    }
                }
                Work::Close => break,
            }
        }
        self.mark();
        self.close_index();
        if let Some(background) = self.background.take() {
            background.end();
        }
        self.state.set(LogState::Closed);
        drop(ended);
    }

    fn write(&mut self, frames: &mut VecDeque<PendingFrame>) {
        let mut wakers = Vec::new();
        while !frames.is_empty() {
            if let Some(error) = self.state.poisoned() {
                let error = PublishError::refused(&error);
                self.refuse(frames.drain(..), &error, &mut wakers);
                break;
            }
            let failed = take_failed(frames);
            self.refuse(failed.into_iter(), &PublishError::NotAttempted, &mut wakers);
            if frames.is_empty() {
                break;
            }
            if let Err(fault) = self.make_room(frames) {
                self.fail(fault, frames.drain(..), &mut wakers);
                break;
            }
            let (tried, written) = self.append(frames);
            match written.and_then(|()| self.sync(tried.next)) {
                Ok(()) => self.accept(tried, &mut wakers),
                Err(fault) => {
                    let tried = tried.frames.into_iter().map(|(frame, _)| frame);
                    self.fail(fault, tried, &mut wakers);
                }
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
    }

    /// Begins a new segment if the next frame does not fit into this one.
    fn make_room(&mut self, frames: &VecDeque<PendingFrame>) -> Result<(), WriteFault> {
        let bytes = frames.front().map_or(0, |frame| frame.bytes().len() as u64);
        // One mark more must fit as well, or the segment would outgrow its limit when it is closed.
        let needed = bytes + HEAD_BYTES as u64;
        let has_room = |segment: &SegmentWriter| {
            segment.has_room_for(needed)
                && self.next - segment.identity().segment < SEGMENT_EVENTS_MAX
                && !self.is_overdue(segment, needed)
        };
        if self.segment.as_ref().is_some_and(has_room) {
            return Ok(());
        }
        self.close_segment()?;
        self.retainer.look_soon();
        let identity = Identity {
            log: self.log.number,
            segment: self.next,
        };
        let made = SegmentWriter::create(
            &self.log.folder,
            identity,
            self.append_time,
            self.segment_bytes,
        )?;
        self.segment_begun = self.append_time.max(self.log.clock.now().as_micros());
        let index = Index {
            entries: Vec::new(),
            covered_bytes: made.offset(),
        };
        let shared = Segment {
            index: Mutex::new(Some(index)),
            ..Segment::unread(self.next)
        };
        self.shared = self.log.add_segment(shared);
        if let Some(background) = &self.background {
            background.wake();
        }
        self.segment = Some(made);
        // The new header says that everything before it is synced.
        self.marked = true;
        Ok(())
    }

    /// Whether retention wants a segment closed that has room: what is in it can only go once it is.
    fn is_overdue(&self, segment: &SegmentWriter, bytes: u64) -> bool {
        if segment.offset() <= SEGMENT_HEADER_BYTES as u64 {
            return false;
        }
        let bytes_max = self.retainer.segment_bytes_max().max(SEGMENT_BYTES_MIN);
        let age_max = self.retainer.segment_age_max();
        let age = |now: i64| now.saturating_sub(self.segment_begun);
        segment.offset().saturating_add(bytes) > bytes_max
            || (age_max < i64::MAX && age(self.log.clock.now().as_micros()) > age_max)
    }

    /// States damage that was met as facts on the log, once each. What cannot be written now is stated after the next opening.
    fn state_damage(&mut self) {
        while let Some(damage) = self.log.damage.next_to_state() {
            let log = self.log.clone();
            let fact = damage::fact(&log.folder, log.number, &damage, log.clock.now());
            let piece =
                fact.and_then(|fact| pieces::single(&fact, self.codec, &self.queue.spare).ok());
            let Some(piece) = piece else { continue };
            let (frame, mut place) = PendingFrame::alone(piece, Waker::noop().clone());
            self.write(&mut VecDeque::from([frame]));
            let answer = place.poll(&Context::from_waker(Waker::noop()));
            if matches!(answer, Poll::Ready(Ok(_)))
                && let Err(error) = damage::mark_stated(&log.folder, &damage)
            {
                tracing::debug!(%error, "a stretch of damage may be stated again, under the same id");
            }
        }
    }

    /// Marks the end of a full segment, gives back what it did not use, and writes its index.
    fn close_segment(&mut self) -> Result<(), WriteFault> {
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        if self.durability == Durability::Written {
            segment.sync()?;
        }
        let mark = sync_mark::encode(self.next, self.append_time, segment.identity());
        segment.append(&mark)?;
        segment.sync()?;
        self.synced = self.next;
        if let Err(error) = segment.trim() {
            tracing::warn!(%error, "room that a closed segment does not need was not given back");
        }
        self.close_index();
        self.segment = None;
        Ok(())
    }

    fn close_index(&self) {
        let Some(segment) = &self.segment else { return };
        let index = self
            .shared
            .index
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = index.as_ref()
            && let Err(error) = write_index(&self.log.folder, segment.identity(), index)
        {
            tracing::debug!(%error, "an index was not written; it will be made anew");
        }
    }

    /// Writes as many frames as fit, with one call of the disk.
    fn append(&mut self, frames: &mut VecDeque<PendingFrame>) -> (Tried, Result<(), WriteFault>) {
        let mut tried = Tried {
            frames: Vec::with_capacity(1),
            next: self.next,
        };
        let Some(segment) = &mut self.segment else {
            return (tried, Err(WriteFault::Full));
        };
        self.append_time = self.append_time.max(self.log.clock.now().as_micros());
        self.buffer.clear();
        let mut bytes = 0;
        while let Some(mut frame) = frames.pop_front() {
            let with_it = bytes + frame.bytes().len() as u64;
            let fits = segment.has_room_for(with_it + HEAD_BYTES as u64)
                && tried.next - segment.identity().segment < SEGMENT_EVENTS_MAX
                && with_it <= COMMIT_BYTES_MAX;
            if !tried.frames.is_empty() && !fits {
                frames.push_front(frame);
                break;
            }
            if let [(alone, _)] = tried.frames.as_slice() {
                // It is not alone any more.
                self.buffer.extend_from_slice(alone.bytes());
            }
            let (entry, next) = frame.finish(Placement {
                identity: segment.identity(),
                next: tried.next,
                synced: self.synced,
                append_time: self.append_time,
                offset: segment.offset() + bytes,
                codec: self.codec,
            });
            if !tried.frames.is_empty() {
                self.buffer.extend_from_slice(frame.bytes());
            }
            bytes += frame.bytes().len() as u64;
            tried.next = next;
            tried.frames.push((frame, entry));
        }
        let together = match tried.frames.as_slice() {
            [(alone, _)] => alone.bytes(),
            _ => &self.buffer,
        };
        self.marked = false;
        let written = segment.append(together);
        (tried, written)
    }

    /// Flushes everything before `next` if that is promised, and looks whether the file system still stands.
    fn sync(&self, next: u64) -> Result<(), WriteFault> {
        match (&self.segment, self.durability) {
            (Some(segment), Durability::Synced) => {
                segment.sync()?;
                self.tell_durable(next, next)
            }
            _ => self.tell_durable(next, self.synced),
        }
    }

    /// Tells readers and publishers what was written.
    fn accept(&mut self, written: Tried, wakers: &mut Vec<Waker>) {
        self.next = written.next;
        if self.durability == Durability::Synced {
            self.synced = self.next;
        }
        if let Some(segment) = &self.segment {
            let mut index = self
                .shared
                .index
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = index.as_mut() {
                let entries = written.frames.iter().map(|(_, entry)| entry);
                entries.for_each(|entry| note(index, entry));
                index.covered_bytes = segment.offset();
            }
        }
        self.tell_readers(wakers);
        self.state.set(LogState::Open);
        for (frame, entry) in written.frames {
            self.answer(frame, Ok(entry.position), wakers);
        }
    }

    /// Tells readers beside the owner that everything before `next` is durable.
    ///
    /// It is also the look at the file system that a flush alone is not: when its journal was given up, because a flush of somebody else failed, ext4 drops what it still had to
    /// note about our bytes and answers our flush as if all were well; a write it refuses from then on. So nothing is acknowledged if this fails.
    fn tell_durable(&self, next: u64, synced: u64) -> Result<(), WriteFault> {
        let Some(segment) = &self.segment else {
            return Ok(());
        };
        let durable = Durable {
            log: self.log.number,
            visible: next,
            synced,
            segment: segment.identity().segment,
            offset: segment.offset(),
        };
        match self.durable.write_all_at(&durable.encode(), 0) {
            Err(error) if is_full(&error) => {
                // Readers beside us lag until the next one; nothing that was acknowledged hangs on it.
                tracing::warn!(%error, "the durable position was not told to readers beside the owner");
                Ok(())
            }
            other => other.map_err(|error| WriteFault::Failed("writing after the flush of", error)),
        }
    }

    fn tell_readers(&self, wakers: &mut Vec<Waker>) {
        let Some(segment) = &self.segment else { return };
        wakers.extend(self.log.move_end(End {
            visible: self.next,
            segment: segment.identity().segment,
            offset: segment.offset(),
        }));
    }

    /// Refuses what was tried, and poisons the log if it is not known what the disk holds.
    fn fail(
        &mut self,
        fault: WriteFault,
        tried: impl Iterator<Item = PendingFrame>,
        wakers: &mut Vec<Waker>,
    ) {
        let error = match fault {
            WriteFault::Full => {
                Counts::add(&self.log.counts.writes_refused_full, 1);
                self.state.set(LogState::DiskFull);
                PublishError::refused(&BrokerError::DiskFull {
                    path: self.log.folder.log(),
                })
            }
            WriteFault::ReadOnly(source) => {
                self.state.set(LogState::ReadOnly);
                PublishError::refused(&failed("writing", &self.log.folder.log(), source))
            }
            WriteFault::Failed(action, source) => {
                let reason =
                    write_failed(&self.log.folder, WriteFault::Failed(action, source)).to_string();
                tracing::error!(reason, "the log is poisoned");
                Counts::add(&self.log.counts.poisonings, 1);
                self.state.set(LogState::Poisoned {
                    reason: reason.clone(),
                });
                PublishError::Ambiguous { reason }
            }
        };
        self.refuse(tried, &error, wakers);
    }

    fn refuse(
        &self,
        frames: impl Iterator<Item = PendingFrame>,
        error: &PublishError,
        wakers: &mut Vec<Waker>,
    ) {
        for frame in frames {
            // A batch is refused once; what follows in it was not tried.
            let answer = if frame.batch_has_failed() {
                PublishError::NotAttempted
            } else {
                error.clone()
            };
            self.answer(frame, Err(answer), wakers);
        }
    }

    fn answer(&self, mut frame: PendingFrame, answer: Answer, wakers: &mut Vec<Waker>) {
        frame.answer(answer, wakers);
        self.queue.spare.put_back(frame.into_buffer());
    }

    /// Writes a sync mark, so that the last acknowledged frame is known to have been synced.
    fn mark(&mut self) {
        if self.marked || self.state.poisoned().is_some() {
            return;
        }
        let Some(segment) = &mut self.segment else {
            return;
        };
        let mark = sync_mark::encode(self.next, self.append_time, segment.identity());
        let first = if self.durability == Durability::Written {
            segment.sync()
        } else {
            Ok(())
        };
        // If there is no room for it, the next one will do.
        self.marked = true;
        let written = first
            .and_then(|()| segment.append(&mark))
            .and_then(|()| segment.sync());
        match written.and_then(|()| self.tell_durable(self.next, self.next)) {
            Ok(()) => {
                self.synced = self.next;
                let mut wakers = Vec::new();
                self.tell_readers(&mut wakers);
                wakers.into_iter().for_each(Waker::wake);
            }
            Err(fault) => self.fail(fault, std::iter::empty(), &mut Vec::new()),
        }
    }
}

/// Frames that were written together.
struct Tried {
    frames: Vec<(PendingFrame, IndexEntry)>,
    /// Position behind their last event.
    next: u64,
}

/// Takes out what may not be written because an earlier frame of the same batch was not, be that answered already or taken out here.
fn take_failed(frames: &mut VecDeque<PendingFrame>) -> Vec<PendingFrame> {
    if !frames.iter().any(PendingFrame::batch_has_failed) {
        return Vec::new();
    }
    let (mut failed, mut kept) = (Vec::<PendingFrame>::new(), VecDeque::new());
    for frame in frames.drain(..) {
        if frame.batch_has_failed() || failed.iter().any(|before| frame.follows(before)) {
            failed.push(frame);
        } else {
            kept.push_back(frame);
        }
    }
    *frames = kept;
    failed
}

/// Lets everyone go who waits for the writer, also if it panics.
struct Ended {
    queue: Arc<Queue>,
    state: Arc<StateCell>,
    log: Arc<Log>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.state.set(LogState::Poisoned {
                reason: "the writer of the log ended unexpectedly".to_owned(),
            });
        }
        self.queue.finish();
        self.log.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::append::outcome::Place;
    use crate::append::spare::Spare;
    use tidings_core::{Envelope, EnvelopeParts, Payload};

    /// The frames of a batch of three events that get one each.
    fn batch_of_three() -> (VecDeque<PendingFrame>, Vec<Place>) {
        let mut parts = EnvelopeParts::new("id", "order.placed");
        parts.payload = Some(Payload::binary(vec![7; 700_000]));
        let batch = [parts.clone(), parts.clone(), parts].map(Envelope::trusted);
        let spare = Spare::default();
        let mut pieces = pieces::Pieces::new(&batch, Codec::None, &spare);
        let (mut frames, mut places) = (VecDeque::new(), Vec::new());
        while let Some(piece) = pieces.next() {
            let (frame, place) = PendingFrame::alone(piece, Waker::noop().clone());
            pieces.go_on_after(place.outcome().clone());
            frames.push_back(frame);
            places.push(place);
        }
        (frames, places)
    }

    #[test]
    fn what_follows_a_refused_frame_goes_with_it_to_the_end_of_its_batch_and_nothing_else_does() {
        let (mut frames, places) = batch_of_three();
        let (others, _other_places) = batch_of_three();
        let mut first = frames.pop_front().unwrap();
        first.answer(Err(PublishError::NotAttempted), &mut Vec::new());
        frames.extend(others);

        let failed = take_failed(&mut frames);

        assert_eq!((failed.len(), frames.len()), (2, 3));
        // Each that is dropped without an answer answers its publisher all the same.
        drop(failed);
        assert!(places.iter().all(|place| place.outcome().has_failed()));
        assert!(!frames.iter().any(PendingFrame::batch_has_failed));
    }
}

//! The one thread that writes: it takes everything that waits, writes once, flushes once, tells readers, acknowledges.

use super::commit::{Group, Placement, make_frame, next_frame};
use super::pieces::Piece;
use super::queue::{Queue, Work};
use crate::files::failed;
use crate::format::durable::Durable;
use crate::format::frame::HEAD_BYTES;
use crate::format::index::Index;
use crate::format::{Identity, sync_mark};
use crate::log::{End, Log, note, write_index};
use crate::poison::{LogState, StateCell};
use crate::recover::write_failed;
use crate::segment::Segment;
use crate::segment::writer::{SegmentWriter, WriteFault};
use crate::{Codec, Durability};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;
use tidings_core::broker::{BrokerError, PublishError};
use tidings_core::seam::DiskFile;

/// Without work for so long, the log is idle and gets a sync mark.
const IDLE: Duration = Duration::from_millis(50);
/// The buffer for shared frames is given back above this size.
const BUFFER_BYTES_KEPT: usize = 4_194_304;
/// Frames written and flushed together hold about so many bytes at most, so that the first of a long queue need not wait for the last.
const COMMIT_BYTES_MAX: u64 = 8_388_608;

/// Writes a log.
pub(crate) struct Writer {
    pub log: Arc<Log>,
    pub queue: Arc<Queue>,
    pub state: Arc<StateCell>,
    /// Where it appends; `None` while there is no room to begin a segment.
    pub segment: Option<SegmentWriter>,
    /// What readers know of that segment.
    pub shared: Arc<Segment>,
    pub durable: Box<dyn DiskFile>,
    pub durability: Durability,
    pub codec: Codec,
    pub segment_bytes: u64,
    pub next: u64,
    pub synced: u64,
    pub append_time: i64,
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
        loop {
            let idle = (!self.marked).then_some(IDLE);
            match self.queue.take(idle, wanted, spare) {
                Work::Write(mut pieces) => {
                    wanted = pieces.len();
                    self.write(&mut pieces);
                    spare = pieces;
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
        self.state.set(LogState::Closed);
        drop(ended);
    }

    fn write(&mut self, pieces: &mut VecDeque<Piece>) {
        let mut wakers = Vec::new();
        while !pieces.is_empty() {
            if let Some(error) = self.state.poisoned() {
                refuse(
                    pieces.drain(..),
                    &PublishError::refused(&error),
                    &mut wakers,
                );
                break;
            }
            refuse(
                take_failed(pieces),
                &PublishError::NotAttempted,
                &mut wakers,
            );
            if pieces.is_empty() {
                break;
            }
            if let Err(fault) = self.make_room(pieces) {
                self.fail(fault, pieces.drain(..), &mut wakers);
                break;
            }
            let (groups, written) = self.append(pieces);
            match written.and_then(|()| self.sync()) {
                Ok(()) => self.accept(groups, &mut wakers),
                Err(fault) => {
                    let tried = groups
                        .into_iter()
                        .flat_map(|group| group.pieces)
                        .map(|(piece, _)| piece);
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
    fn make_room(&mut self, pieces: &VecDeque<Piece>) -> Result<(), WriteFault> {
        let bytes = next_frame(pieces).map_or(0, |(_, bytes)| bytes);
        // One mark more must fit as well, or the segment would outgrow its limit when it is closed.
        let needed = bytes + HEAD_BYTES as u64;
        if self
            .segment
            .as_ref()
            .is_some_and(|segment| segment.has_room_for(needed))
        {
            return Ok(());
        }
        self.close_segment()?;
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
        let index = Index {
            entries: Vec::new(),
            covered_bytes: made.offset(),
        };
        let shared = Segment {
            index: Mutex::new(Some(index)),
            ..Segment::unread(self.next)
        };
        self.shared = self.log.add_segment(shared);
        self.segment = Some(made);
        // The new header says that everything before it is synced.
        self.marked = true;
        Ok(())
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

    /// Writes as many pieces as fit, with one call of the disk.
    fn append(&mut self, pieces: &mut VecDeque<Piece>) -> (Vec<Group>, Result<(), WriteFault>) {
        let Some(segment) = &mut self.segment else {
            return (Vec::new(), Err(WriteFault::Full));
        };
        self.append_time = self.append_time.max(self.log.clock.now().as_micros());
        self.buffer.clear();
        let mut groups: Vec<Group> = Vec::new();
        let (mut bytes, mut next) = (0, self.next);
        while let Some((count, frame_bytes)) = next_frame(pieces) {
            let fits = segment.has_room_for(bytes + frame_bytes + HEAD_BYTES as u64)
                && bytes + frame_bytes <= COMMIT_BYTES_MAX;
            if !groups.is_empty() && !fits {
                break;
            }
            if let [first] = groups.as_slice()
                && let [(alone, _)] = first.pieces.as_slice()
            {
                // It is not alone any more.
                self.buffer.extend_from_slice(&alone.frame);
            }
            let place = Placement {
                identity: segment.identity(),
                next,
                synced: self.synced,
                append_time: self.append_time,
                offset: segment.offset() + bytes,
                codec: self.codec,
            };
            let before = self.buffer.len();
            let group = make_frame(pieces, count, place, &mut self.buffer);
            if let ([(piece, _)], false) = (group.pieces.as_slice(), groups.is_empty()) {
                self.buffer.extend_from_slice(&piece.frame);
            }
            bytes += match group.pieces.as_slice() {
                [(piece, _)] => piece.frame.len() as u64,
                _ => (self.buffer.len() - before) as u64,
            };
            next = group.next;
            groups.push(group);
        }
        let frames = match groups.as_slice() {
            [Group { pieces, .. }] if pieces.len() == 1 => {
                pieces.first().map_or(&[][..], |(piece, _)| &piece.frame)
            }
            _ => &self.buffer,
        };
        self.marked = false;
        let written = segment.append(frames);
        (groups, written)
    }

    fn sync(&self) -> Result<(), WriteFault> {
        match (&self.segment, self.durability) {
            (Some(segment), Durability::Synced) => segment.sync(),
            _ => Ok(()),
        }
    }

    /// Tells readers and publishers what was written.
    fn accept(&mut self, groups: Vec<Group>, wakers: &mut Vec<Waker>) {
        self.next = groups.last().map_or(self.next, |group| group.next);
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
                groups.iter().for_each(|group| note(index, &group.entry));
                index.covered_bytes = segment.offset();
            }
        }
        self.tell_readers(wakers);
        self.state.set(LogState::Open);
        for (piece, first) in groups.into_iter().flat_map(|group| group.pieces) {
            wakers.extend(piece.answer(Ok(first)));
        }
    }

    fn tell_readers(&self, wakers: &mut Vec<Waker>) {
        let Some(segment) = &self.segment else { return };
        let end = End {
            visible: self.next,
            segment: segment.identity().segment,
            offset: segment.offset(),
        };
        let durable = Durable {
            log: self.log.number,
            visible: end.visible,
            synced: self.synced,
            segment: end.segment,
            offset: end.offset,
        };
        if let Err(error) = self.durable.write_all_at(&durable.encode(), 0) {
            // Readers beside us lag until the next one; nothing that was acknowledged hangs on it.
            tracing::warn!(%error, "the durable position was not told to readers beside the owner");
        }
        wakers.extend(self.log.move_end(end));
    }

    /// Refuses what was tried, and poisons the log if it is not known what the disk holds.
    fn fail(
        &mut self,
        fault: WriteFault,
        tried: impl Iterator<Item = Piece>,
        wakers: &mut Vec<Waker>,
    ) {
        let error = match fault {
            WriteFault::Full => {
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
                self.state.set(LogState::Poisoned {
                    reason: reason.clone(),
                });
                PublishError::Ambiguous { reason }
            }
        };
        refuse(tried, &error, wakers);
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
        match first
            .and_then(|()| segment.append(&mark))
            .and_then(|()| segment.sync())
        {
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

fn refuse(pieces: impl Iterator<Item = Piece>, error: &PublishError, wakers: &mut Vec<Waker>) {
    for piece in pieces {
        // A batch is refused once; what follows in it was not tried.
        let answer = if piece.batch_has_failed() {
            PublishError::NotAttempted
        } else {
            error.clone()
        };
        wakers.extend(piece.answer(Err(answer)));
    }
}

/// Takes out what may not be written because an earlier piece of the same batch was not.
fn take_failed(pieces: &mut VecDeque<Piece>) -> std::vec::IntoIter<Piece> {
    if !pieces.iter().any(Piece::batch_has_failed) {
        return Vec::new().into_iter();
    }
    let (gone, kept): (Vec<_>, Vec<_>) = pieces.drain(..).partition(Piece::batch_has_failed);
    pieces.extend(kept);
    gone.into_iter()
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

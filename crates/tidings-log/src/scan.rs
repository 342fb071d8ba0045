//! Reads a log in order across its segments, from a position on: what is wanted is handed out, damage is told, the end is where the log says.

use crate::files::failed;
use crate::filter::Filter;
use crate::format::fields::Malformed;
use crate::format::frame::FrameKind;
use crate::format::record::Names;
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::{batch, record};
use crate::log::{End, Log};
use crate::segment::reader::{Frame, FrameRead, SegmentReader};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use tidings_core::Timestamp;
use tidings_core::broker::{BrokerError, Position, Recorded};
use tidings_core::envelope::Packer;

/// A place in a log that moves forward.
pub(crate) struct Scanner {
    log: Arc<Log>,
    /// The next position to hand out; everything before it was looked at.
    position: u64,
    /// How far the log may be read, when last looked.
    end: End,
    place: Option<Place>,
    batch: Option<Batch>,
    packer: Packer,
    /// Damage that a peek met and that is still to be told.
    untold: Option<BrokerError>,
}

/// Where in which segment the next frame is.
struct Place {
    reader: SegmentReader,
    segment: u64,
    offset: u64,
    /// The position that the next frame should begin at.
    expected: u64,
}

/// A frame that is being handed out.
struct Batch {
    body: Bytes,
    /// Where the next record begins, and its position.
    offset: usize,
    position: u64,
    /// Position behind the last record.
    next: u64,
    append_time: Timestamp,
    /// Where the frame stands, for a message.
    segment: u64,
    frame_offset: u64,
}

/// Why a scan stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// As many events as asked for were found.
    Full,
    /// So much was looked at that others should have a turn.
    Paused,
    /// Nothing more may be read now.
    AtEnd,
    /// Events are lost here; the scan goes on behind them.
    Damage(BrokerError),
}

/// How much one scan may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub events_max: usize,
    /// Bytes of frames after which it pauses.
    pub bytes_max: u64,
}

impl Scanner {
    /// A scanner from `position` on.
    pub(crate) fn new(log: Arc<Log>, position: u64) -> Self {
        let end = log.end_known();
        Self {
            log,
            position,
            end,
            place: None,
            batch: None,
            packer: Packer::default(),
            untold: None,
        }
    }

    /// The next position to hand out; everything before it was looked at.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Leaves out what is left of the frame at the scanner's position.
    pub(crate) fn skip_batch(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.position = self.position.max(batch.next);
        }
    }

    /// Drops damage that is still to be told, for who does not read events.
    pub(crate) fn forget_damage(&mut self) {
        self.untold = None;
    }

    /// Whether damage was met that is still to be told.
    pub(crate) fn has_untold_damage(&self) -> bool {
        self.untold.is_some()
    }

    /// When the event at the scanner's position was appended; `None` at the end. Looks into the log if need be.
    pub(crate) fn peek_append_time(&mut self) -> Result<Option<Timestamp>, BrokerError> {
        loop {
            if let Some(batch) = self
                .batch
                .as_ref()
                .filter(|batch| batch.position < batch.next)
            {
                return Ok(Some(batch.append_time));
            }
            if self.untold.is_some() {
                return Ok(None);
            }
            match self.next_batch(&mut 0)? {
                None => return Ok(None),
                Some(Err(damage)) => self.untold = Some(damage),
                Some(Ok(batch)) => self.batch = Some(batch),
            }
        }
    }

    /// Scans on and appends what the filter wants to `events`.
    pub(crate) fn scan(
        &mut self,
        filter: &mut Filter,
        bounds: Bounds,
        events: &mut Vec<Recorded>,
    ) -> Result<Stop, BrokerError> {
        self.scan_with(filter, bounds, &mut |found| {
            events.push(found.recorded()?);
            Ok(())
        })
    }

    /// Scans on and hands what the filter wants to `take`, which decides whether to decode it.
    pub(crate) fn scan_with(
        &mut self,
        filter: &mut Filter,
        bounds: Bounds,
        take: Take<'_>,
    ) -> Result<Stop, BrokerError> {
        if let Some(damage) = self.untold.take() {
            return Ok(Stop::Damage(damage));
        }
        let mut bytes = 0;
        let mut left = bounds.events_max;
        loop {
            if let Some(batch) = &mut self.batch {
                let handed = hand_out(
                    batch,
                    filter,
                    self.position,
                    &mut left,
                    &mut self.packer,
                    take,
                );
                self.position = self.position.max(batch.position);
                match handed {
                    Ok(true) => self.batch = None,
                    Ok(false) => return Ok(Stop::Full),
                    Err(malformed) => return Ok(Stop::Damage(self.give_up_batch(malformed))),
                }
            }
            if left == 0 {
                return Ok(Stop::Full);
            }
            if bytes >= bounds.bytes_max {
                return Ok(Stop::Paused);
            }
            match self.next_batch(&mut bytes)? {
                None => return Ok(Stop::AtEnd),
                Some(Err(damage)) => return Ok(Stop::Damage(damage)),
                Some(Ok(batch)) => self.batch = Some(batch),
            }
        }
    }

    /// The records of a frame whose checksum held are malformed: what is left of it is lost.
    fn give_up_batch(&mut self, malformed: Malformed) -> BrokerError {
        let batch = self.batch.take();
        let (segment, offset, next) = batch.map_or((0, 0, self.position), |batch| {
            (batch.segment, batch.frame_offset, batch.next)
        });
        let damage = self.damage(segment, offset, self.position..next, malformed.to_string());
        self.position = self.position.max(next);
        damage
    }

    /// The next frame with events at or behind the scanner's position, damage on the way to it, or `None` at the end.
    fn next_batch(
        &mut self,
        bytes: &mut u64,
    ) -> Result<Option<Result<Batch, BrokerError>>, BrokerError> {
        loop {
            if self.place.is_none() {
                match self.seek()? {
                    Sought::Found => {}
                    Sought::End => return Ok(None),
                    Sought::Missing(damage) => return Ok(Some(Err(damage))),
                }
            }
            let Some(bound) = self.bound()? else {
                return Ok(None);
            };
            let Some(place) = &mut self.place else {
                return Ok(None);
            };
            let segment = place.segment;
            if place.expected >= bound.position {
                self.place = None;
                self.position = self.position.max(bound.position);
                continue;
            }
            let offset = place.offset;
            let read = place.reader.frame_at(offset, bound.limit);
            match read
                .map_err(|error| failed("reading", &self.log.folder.segment(segment), error))?
            {
                FrameRead::Frame(frame)
                    if frame.head.first == place.expected
                        && frame.head.next() <= bound.position =>
                {
                    *bytes += frame.head.frame_bytes();
                    place.offset = frame.end();
                    place.expected = frame.head.next();
                    if let Some(batch) = open_batch(frame, segment, self.position) {
                        return Ok(Some(batch.map_err(|(next, malformed)| {
                            let lost = self.position..next;
                            self.position = next;
                            self.damage(segment, offset, lost, malformed.to_string())
                        })));
                    }
                }
                bad => {
                    if let Some(damage) = self.pass_by(bad, &bound)? {
                        return Ok(Some(Err(damage)));
                    }
                }
            }
        }
    }

    /// Goes on behind what is not the frame that should stand where the scanner is.
    fn pass_by(
        &mut self,
        bad: FrameRead,
        bound: &Bound,
    ) -> Result<Option<BrokerError>, BrokerError> {
        let Some(place) = &mut self.place else {
            return Ok(None);
        };
        let reason = match bad {
            FrameRead::Frame(frame) if frame.head.first > place.expected => {
                let next = frame.head.first.min(bound.position);
                return Ok(self.jump(frame.offset, next, "frames are missing before it"));
            }
            FrameRead::Frame(frame) if frame.head.first < place.expected => {
                let next = bound.position;
                return Ok(self.jump(frame.offset, next, "the positions of frames go backwards"));
            }
            FrameRead::Frame(_) => "a frame reaches beyond the end of its segment",
            FrameRead::Bad(reason) => reason,
            FrameRead::Nothing => "there is nothing where a frame should be",
        };
        let offset = place.offset;
        let behind = place
            .reader
            .frame_behind(offset, bound.limit, place.expected);
        let segment = place.segment;
        let behind =
            behind.map_err(|error| failed("reading", &self.log.folder.segment(segment), error))?;
        let (at, next) = behind.map_or((bound.limit, bound.position), |frame| {
            (frame.offset, frame.head.first.min(bound.position))
        });
        Ok(self.jump(at, next, reason))
    }

    /// Goes on at `offset`, where the frame of position `next` begins. What is left out is damage if somebody asked for it.
    fn jump(&mut self, offset: u64, next: u64, reason: &str) -> Option<BrokerError> {
        let place = self.place.as_mut()?;
        let (segment, bad_offset) = (place.segment, place.offset);
        let (whole, lost) = (
            place.expected..next,
            place.expected.max(self.position)..next,
        );
        place.offset = offset;
        place.expected = next;
        if lost.is_empty() {
            return None;
        }
        self.position = next;
        // Also what nobody asked for of the same stretch.
        self.log.note_damage(segment, bad_offset, &whole, reason);
        Some(self.damage(segment, bad_offset, lost, reason.to_owned()))
    }

    fn damage(&self, segment: u64, offset: u64, lost: Range<u64>, reason: String) -> BrokerError {
        let path = self.log.folder.segment(segment);
        self.log.note_damage(segment, offset, &lost, &reason);
        tracing::warn!(path = %path.display(), offset, from = lost.start, to = lost.end.saturating_sub(1), reason, "the log is damaged");
        BrokerError::Damaged {
            path,
            offset,
            from: Position(lost.start),
            to: Position(lost.end.saturating_sub(1)),
            reason,
        }
    }

    /// Opens the segment of the scanner's position at the last frame known before it.
    fn seek(&mut self) -> Result<Sought, BrokerError> {
        loop {
            match self.find_place() {
                // The list of segments was old and is not any more.
                Err(BrokerError::Removed { oldest, .. }) if oldest.0 <= self.position => {}
                Err(BrokerError::Removed { oldest, .. }) => return self.before(oldest.0),
                found => return found,
            }
        }
    }

    fn find_place(&mut self) -> Result<Sought, BrokerError> {
        if self.position >= self.end.visible {
            self.end = self.log.end()?;
        }
        if self.position >= self.end.visible {
            return Ok(Sought::End);
        }
        let segments = self.log.segments();
        let behind = segments.partition_point(|segment| segment.first <= self.position);
        let Some(segment) = behind.checked_sub(1).and_then(|at| segments.get(at)) else {
            let oldest = segments
                .first()
                .map_or(self.end.visible, |segment| segment.first);
            return self.before(oldest);
        };
        let mut reader = self.log.open(segment.first)?;
        let (mut offset, mut expected) = (SEGMENT_HEADER_BYTES as u64, segment.first);
        if self.position > segment.first
            && let Some(entry) = self.log.place_of(segment, self.position)?
        {
            let path = self.log.folder.segment(segment.first);
            // What lies behind the durable end may be overwritten any moment, so that it must not be read ahead.
            let limit = if segment.first == self.end.segment {
                self.end.offset
            } else {
                reader
                    .bytes()
                    .map_err(|error| failed("reading", &path, error))?
            };
            let read = reader
                .frame_at(entry.offset, limit)
                .map_err(|error| failed("reading", &path, error))?;
            // The index is a hint: an entry that points to no such frame is not used.
            if matches!(read, FrameRead::Frame(frame) if frame.head.first == entry.position) {
                (offset, expected) = (entry.offset, entry.position);
            }
        }
        self.place = Some(Place {
            reader,
            segment: segment.first,
            offset,
            expected,
        });
        Ok(Sought::Found)
    }

    /// The scanner stands before the oldest event: what retention removed is an error, what is missing behind that is damage.
    fn before(&mut self, oldest: u64) -> Result<Sought, BrokerError> {
        let removed = self.log.recorded_first();
        if self.position < removed {
            return Err(BrokerError::Removed {
                position: Position(self.position),
                oldest: Position(oldest.max(removed)),
            });
        }
        let lost = self.position..oldest;
        self.position = oldest;
        Ok(Sought::Missing(self.damage(
            lost.start,
            0,
            lost,
            "the files of these positions are missing".to_owned(),
        )))
    }

    /// Up to where the current segment may be read; `None` if that is where the scanner stands.
    fn bound(&mut self) -> Result<Option<Bound>, BrokerError> {
        let Some(place) = &self.place else {
            return Ok(None);
        };
        if place.segment == self.end.segment && place.expected >= self.end.visible {
            self.end = self.log.end()?;
            if place.segment == self.end.segment && place.expected >= self.end.visible {
                return Ok(None);
            }
        }
        if place.segment == self.end.segment {
            return Ok(Some(Bound {
                limit: self.end.offset,
                position: self.end.visible,
            }));
        }
        let segments = self.log.segments();
        if segments
            .first()
            .is_some_and(|oldest| oldest.first > place.segment)
        {
            // Retention removed it under the reader: what stands next cannot be told from here.
            return Ok(Some(Bound {
                limit: 0,
                position: place.expected,
            }));
        }
        let behind = segments.partition_point(|segment| segment.first <= place.segment);
        let position = segments
            .get(behind)
            .map_or(self.end.visible, |segment| segment.first);
        let path = self.log.folder.segment(place.segment);
        let limit = place
            .reader
            .bytes()
            .map_err(|error| failed("reading", &path, error))?;
        Ok(Some(Bound { limit, position }))
    }
}

/// Where a scanner stands after it was placed.
enum Sought {
    /// In a segment.
    Found,
    /// At the end of the log.
    End,
    /// Behind positions whose files are missing.
    Missing(BrokerError),
}

struct Bound {
    limit: u64,
    position: u64,
}

/// Unpacks a frame; `None` if nothing in it is at or behind `position`.
fn open_batch(
    frame: Frame,
    segment: u64,
    position: u64,
) -> Option<Result<Batch, (u64, Malformed)>> {
    let Frame {
        head,
        offset,
        stored,
    } = frame;
    if head.kind == FrameKind::SyncMark || head.next() <= position {
        return None;
    }
    let body = match batch::unpack(&head, stored) {
        Ok(body) => body,
        Err(malformed) => return Some(Err((head.next(), malformed))),
    };
    Some(Ok(Batch {
        body,
        offset: 0,
        position: head.first,
        next: head.next(),
        append_time: Timestamp::from_micros(head.append_time),
        segment,
        frame_offset: offset,
    }))
}

/// An event that the filter wants, not decoded yet.
pub(crate) struct Found<'a> {
    pub position: u64,
    /// When it was appended.
    pub append_time: Timestamp,
    body: &'a Bytes,
    range: Range<usize>,
    packer: &'a mut Packer,
}

impl Found<'_> {
    /// By what it is looked up.
    pub(crate) fn names(&self) -> Result<Names<'_>, Malformed> {
        record::names(self.body.get(self.range.clone()).unwrap_or_default())
    }

    /// Bytes of the event, unpacked.
    pub(crate) fn bytes(&self) -> usize {
        self.range.len()
    }

    /// The event.
    pub(crate) fn recorded(self) -> Result<Recorded, Malformed> {
        Ok(Recorded {
            position: Position(self.position),
            append_time: self.append_time,
            envelope: record::decode(self.body, self.range, self.packer)?,
        })
    }
}

/// What becomes of an event that the filter wants.
pub(crate) type Take<'a> = &'a mut dyn FnMut(Found<'_>) -> Result<(), Malformed>;

/// Hands out records until the batch is done (`true`) or nothing is left to ask for (`false`).
fn hand_out(
    batch: &mut Batch,
    filter: &mut Filter,
    from: u64,
    left: &mut usize,
    packer: &mut Packer,
    take: Take<'_>,
) -> Result<bool, Malformed> {
    while batch.position < batch.next {
        if *left == 0 {
            return Ok(false);
        }
        let range = record::next(&batch.body, batch.offset)?.ok_or(Malformed {
            what: "the count of a frame",
        })?;
        let bytes = batch.body.get(range.clone()).unwrap_or_default();
        let end = range.end;
        if batch.position >= from && filter.wants(record::event_type(bytes)?) {
            take(Found {
                position: batch.position,
                append_time: batch.append_time,
                body: &batch.body,
                range,
                packer,
            })?;
            *left -= 1;
        }
        batch.offset = end;
        batch.position += 1;
    }
    Ok(true)
}

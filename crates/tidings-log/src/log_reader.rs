//! A log opened beside its owner, or without one: its events are read, never written.

use crate::folder::Folder;
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::group::Groups;
use crate::history::History;
use crate::log::{End, Log, list_segments, read_durable};
use crate::recover::log_number;
use crate::retention::read_first;
use crate::retention::rule::{self, Retention};
use crate::segment::reader::FrameRead;
use crate::status::LogSize;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tidings_core::broker::{
    Admin, BrokerError, GroupLag, GroupName, GroupStatus, LookUpRequest, Page, Position,
    ReadRequest, Reader, Recorded, StartAt, SubscribeRequest, Subscription,
};
use tidings_core::seam::{Clock, Disk};
use tidings_core::{BoxFuture, Envelope, Timestamp};

/// How this program is named in the lease of a group that it moves or removes.
const PROGRAM: &str = "tidings, beside the owner";

/// A log opened for reading, at any time and by any number of processes, whether another process owns it or nobody does.
///
/// **Guarantee**: exactly what is durable is seen, in order; never more than the owner acknowledged or flushed.
pub struct LogReader {
    history: History,
    groups: Groups,
}

impl LogReader {
    /// Opens the log of a folder for reading. It blocks. Nothing is written.
    ///
    /// **Errors**: [`BrokerError::FolderMissing`], [`BrokerError::FolderForeign`], [`BrokerError::FolderNotPrivate`], [`BrokerError::FormatNewer`],
    /// [`BrokerError::EventsElsewhere`] of a folder that never had a log; all permanent.
    pub fn open(
        folder: impl Into<PathBuf>,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, BrokerError> {
        let folder = Folder::new(folder, disk);
        folder.check_readable()?;
        let format = folder.format()?;
        if format.is_none() {
            folder.check_events_are_here()?;
        }
        let number = log_number(&folder, format)?.unwrap_or(0);
        let durable = read_durable(&folder, number)?;
        let recorded_first = read_first(&folder, number)?.unwrap_or(0);
        let mut firsts = list_segments(&folder)?;
        firsts.retain(|first| *first >= recorded_first);
        let last = firsts.last().copied().unwrap_or(0);
        let told = match durable {
            Some(durable) => End {
                visible: durable.visible,
                segment: durable.segment,
                offset: durable.offset,
            },
            None => End {
                visible: last,
                segment: last,
                offset: SEGMENT_HEADER_BYTES as u64,
            },
        };
        let log = Log::new(
            folder,
            clock,
            number,
            false,
            (recorded_first, &firsts),
            told,
        );
        if !firsts.is_empty() {
            log.move_end(prove(&log, told, &firsts)?);
        }
        let log = Arc::new(log);
        Ok(Self {
            history: History::new(log.clone()),
            groups: Groups::new(log, PROGRAM.to_owned()),
        })
    }

    /// Joins a group beside the owner: the events are read here, and the cursor is written under the group's lease, which only one process holds.
    ///
    /// **Guarantee**: as for a group in the owner; every delivery is durable already.
    ///
    /// **Errors**: [`BrokerError::GroupLeased`] while another process works for the group; a folder that cannot be written.
    pub fn subscribe(&self, request: &SubscribeRequest) -> Result<Subscription, BrokerError> {
        self.groups.subscribe(request, &self.history)
    }

    /// How much the log holds.
    ///
    /// **Errors**: of the disk.
    pub fn size(&self) -> Result<LogSize, BrokerError> {
        let log = self.log();
        log.end()?;
        LogSize::of(log)
    }

    /// The rule of retention that lies with the log.
    ///
    /// **Errors**: [`BrokerError::RetentionInvalid`]: then the owner removes nothing.
    pub fn retention(&self) -> Result<Retention, BrokerError> {
        rule::load(&self.log().folder)
    }

    /// Makes this the rule of retention. The owner goes by it within a minute, a later owner from its opening on.
    ///
    /// **Errors**: of the disk; the rule is the old one or the new one.
    pub fn set_retention(&self, rule: &Retention) -> Result<(), BrokerError> {
        rule::save(&self.log().folder, rule)
    }

    pub(crate) fn log(&self) -> &Log {
        &self.history.log
    }

    /// Who owns the log for writing, as the lock file says; it may be stale.
    pub fn owner(&self) -> Option<String> {
        self.history.log.folder.owner()
    }
}

/// Carries the end on over frames that later frames prove to be synced: after a power cut the owner's last word may be lost.
fn prove(log: &Log, told: End, firsts: &[u64]) -> Result<End, BrokerError> {
    let mut proven = told;
    for &first in firsts.iter().filter(|first| **first >= told.segment) {
        let mut reader = log.open(first)?;
        let path = log.folder.segment(first);
        let failed = |error| crate::files::failed("reading", &path, error);
        let limit = reader.bytes().map_err(failed)?;
        let mut offset = if first == told.segment {
            told.offset
        } else {
            SEGMENT_HEADER_BYTES as u64
        };
        // A segment is begun only once everything before it is synced; whether this one was really begun its first frame shows.
        let mut ends = if first == told.segment {
            vec![]
        } else {
            vec![End {
                visible: first,
                segment: first,
                offset,
            }]
        };
        while let FrameRead::Frame(frame) = reader.frame_at(offset, limit).map_err(failed)? {
            offset = frame.end();
            let synced = frame.head.synced;
            ends.push(End {
                visible: frame.head.next(),
                segment: first,
                offset,
            });
            let known = ends.partition_point(|end| end.visible <= synced);
            if let Some(end) = ends
                .drain(..known)
                .next_back()
                .filter(|end| end.visible >= proven.visible)
            {
                proven = end;
            }
        }
    }
    Ok(proven)
}

impl Reader for LogReader {
    fn read<'a>(&'a self, request: ReadRequest<'a>) -> BoxFuture<'a, Result<Page, BrokerError>> {
        Box::pin(async move { self.history.read(&request) })
    }

    fn look_up<'a>(
        &'a self,
        request: LookUpRequest<'a>,
    ) -> BoxFuture<'a, Result<Page, BrokerError>> {
        Box::pin(async move { self.history.look_ups.look_up(&request) })
    }

    fn recorded<'a>(
        &'a self,
        envelopes: &'a [Envelope],
    ) -> BoxFuture<'a, Result<Vec<Option<Recorded>>, BrokerError>> {
        Box::pin(async move { self.history.look_ups.recorded(envelopes) })
    }

    fn earliest(&self) -> BoxFuture<'_, Result<Position, BrokerError>> {
        Box::pin(async move { self.history.earliest() })
    }

    fn end(&self) -> BoxFuture<'_, Result<Position, BrokerError>> {
        Box::pin(async move { self.history.end() })
    }

    fn position_at(&self, time: Timestamp) -> BoxFuture<'_, Result<Position, BrokerError>> {
        Box::pin(async move { self.history.position_at(time) })
    }

    fn wait_beyond(&self, position: Position) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(self.history.wait_beyond(position))
    }
}

impl Admin for LogReader {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupStatus>, BrokerError>> {
        Box::pin(async move { self.groups.list() })
    }

    fn lag<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<GroupLag, BrokerError>> {
        Box::pin(self.groups.lag(group))
    }

    fn seek<'a>(
        &'a self,
        group: &'a GroupName,
        start: StartAt,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        Box::pin(async move { Ok(Some(self.groups.seek(group, start, &self.history)?)) })
    }

    fn remove<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move { self.groups.remove(group) })
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader")
            .field("folder", &self.history.log.folder.root())
            .finish_non_exhaustive()
    }
}

//! The embedded broker: a log that this process owns, behind the ports of a broker.

use crate::append::pieces::Pieces;
use crate::append::queue::Queue;
use crate::append::ticket::{Answer, Ticket};
use crate::append::writer::Writer;
use crate::files::failed;
use crate::folder::Folder;
use crate::format::durable::Durable;
use crate::group::Groups;
use crate::history::History;
use crate::log::Log;
use crate::options::{Codec, Durability, OpenOptions};
use crate::poison::{LogState, StateCell};
use crate::recover::{self, Opened, RecoveryReport};
use crate::segment::Segment;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, GroupLag, GroupName, GroupStatus, KeyOrder, Page,
    Position, PublishError, PublishOutcome, ReadRequest, Reader, Receipt, StartAt,
    SubscribeRequest, Subscription,
};
use tidings_core::limits::{PAYLOAD_BYTES_MAX, SEGMENT_RESERVE_BYTES};
use tidings_core::seam::{DiskLock, OpenMode};
use tidings_core::{BoxFuture, Envelope, Timestamp};

/// A segment smaller than this could not hold a frame and its marks.
const SEGMENT_BYTES_MIN: u64 = 4_096;

/// The embedded broker: one durable log in a folder, owned by this process.
///
/// **Guarantee**: with [`Durability::Synced`] an acknowledged event survives the end of the process and a power cut, as far as the disk keeps what it flushed. All events stand in one order. Dropping the broker closes it and waits for its thread.
pub struct LogBroker {
    history: History,
    groups: Groups,
    queue: Arc<Queue>,
    state: Arc<StateCell>,
    durability: Durability,
    codec: Codec,
    report: RecoveryReport,
    /// Guards what ends with the broker: taken once, by whoever closes it.
    owned: Mutex<Option<Owned>>,
}

/// What this process holds while it owns the log.
struct Owned {
    writer: JoinHandle<()>,
    _lock: Box<dyn DiskLock>,
}

impl LogBroker {
    /// Opens the log of a folder for writing, making it if need be, and recovers what an unclean end left. It blocks.
    ///
    /// **Guarantee**: nothing that was acknowledged is cut; what recovery did is in [`recovery`](Self::recovery).
    ///
    /// **Errors**: [`BrokerError::FolderOwned`] while another process owns it, [`BrokerError::FormatNewer`], [`BrokerError::FolderNotPrivate`], [`BrokerError::FolderForeign`], [`BrokerError::ReadOnly`]: nothing was written then; [`BrokerError::DiskFull`] for a new folder; [`BrokerError::Io`].
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use tidings_core::seam::Clock;
    /// use tidings_log::{LogBroker, OpenOptions, RealDisk};
    /// # fn open(clock: Arc<dyn Clock>) -> Result<(), tidings_core::broker::BrokerError> {
    /// let broker = LogBroker::open(OpenOptions::new("shop-data", clock, Arc::new(RealDisk)))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(options: OpenOptions) -> Result<Self, BrokerError> {
        let OpenOptions {
            folder,
            clock,
            disk,
            durability,
            codec,
            segment_bytes,
            program,
        } = options;
        let folder = Folder::new(folder, disk);
        let lock = folder.own(&program, &*clock)?;
        let segment_bytes = segment_bytes.max(SEGMENT_BYTES_MIN);
        let opened = recover::open(&folder, &*clock, segment_bytes)?;
        let durable = tell_durable(&folder, &opened)?;
        let Opened {
            number,
            firsts,
            segment,
            index,
            end,
            append_time,
            marked,
            report,
        } = opened;
        let log = Arc::new(Log::new(folder.clone(), clock, number, true, &firsts, end));
        let shared = log
            .segments()
            .last()
            .cloned()
            .unwrap_or_else(|| Arc::new(Segment::unread(end.segment)));
        if segment.is_some() {
            *shared.index.lock().unwrap_or_else(PoisonError::into_inner) = Some(index);
        }
        let queue = Arc::new(Queue::default());
        let state = Arc::new(StateCell::new(folder.log()));
        let writer = Writer {
            log: log.clone(),
            queue: queue.clone(),
            state: state.clone(),
            segment,
            shared,
            durable,
            durability,
            codec,
            segment_bytes,
            next: end.visible,
            synced: end.visible,
            append_time,
            marked,
            buffer: Vec::new(),
        };
        let writer = start(writer, &folder)?;
        Ok(Self {
            history: History::new(log.clone()),
            groups: Groups::new(log, program),
            queue,
            state,
            durability,
            codec,
            report,
            owned: Mutex::new(Some(Owned {
                writer,
                _lock: lock,
            })),
        })
    }

    /// What state the log is in.
    pub fn state(&self) -> LogState {
        self.state.get()
    }

    /// What the opening found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    async fn append(&self, batch: &[Envelope]) -> Vec<PublishOutcome> {
        let ticket = Arc::new(Ticket::default());
        let mut pieces = Pieces::new(batch, self.codec, ticket.clone());
        let mut pushed = Vec::with_capacity(1);
        while let Some(piece) = pieces.next() {
            pushed.push(piece.count);
            let mut piece = Some(piece);
            if !poll_fn(|context| self.queue.poll_push(&mut piece, context)).await {
                let error = self.refusal();
                // Nobody waits for the ticket yet, so that there is nobody to wake.
                drop(piece.take().and_then(|piece| piece.answer(Err(error))));
                break;
            }
        }
        let answers = poll_fn(|context| ticket.poll_answers(pushed.len(), context)).await;
        outcomes(batch.len(), &pushed, answers, pieces.into_refused())
    }

    fn refusal(&self) -> PublishError {
        PublishError::refused(&self.state.poisoned().unwrap_or(BrokerError::Closed))
    }

    fn end_writer(&self) -> Option<Owned> {
        self.queue.close();
        self.owned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Starts the one thread that writes.
fn start(writer: Writer, folder: &Folder) -> Result<JoinHandle<()>, BrokerError> {
    std::thread::Builder::new()
        .name("tidings-log".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| failed("starting the writer of", &folder.log(), error))
}

/// Writes the `durable` file and leaves it open for the writer.
fn tell_durable(
    folder: &Folder,
    opened: &Opened,
) -> Result<Box<dyn tidings_core::seam::DiskFile>, BrokerError> {
    let path = folder.durable();
    let Opened { number, end, .. } = opened;
    let durable = Durable {
        log: *number,
        visible: end.visible,
        synced: end.visible,
        segment: end.segment,
        offset: end.offset,
    };
    let file = folder
        .disk
        .open(&path, OpenMode::Create)
        .map_err(|error| failed("opening", &path, error))?;
    file.write_all_at(&durable.encode(), 0)
        .map_err(|error| failed("writing", &path, error))?;
    Ok(file)
}

/// Spreads the answers for pieces over the events of a batch.
fn outcomes(
    events: usize,
    pushed: &[u32],
    answers: Vec<Answer>,
    refused: Vec<(usize, PublishError)>,
) -> Vec<PublishOutcome> {
    let mut given = answers.into_iter().zip(pushed).flat_map(|(answer, count)| {
        (0..u64::from(*count)).map(move |at| match &answer {
            Ok(first) => Ok(Receipt {
                position: Some(Position(first + at)),
            }),
            Err(error) => Err(error.clone()),
        })
    });
    let mut refused = refused.into_iter().peekable();
    (0..events)
        .map(|at| match refused.next_if(|(place, _)| *place == at) {
            Some((_, error)) => Err(error),
            None => given.next().unwrap_or(Err(PublishError::NotAttempted)),
        })
        .collect()
}

impl Broker for LogBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "the embedded log",
            key_order: KeyOrder::AcrossInstances,
            replay: true,
            old_events_for_late_groups: true,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            synced: self.durability == Durability::Synced,
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(self.append(batch))
    }

    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async move { self.groups.subscribe(request, &self.history) })
    }

    fn reader(&self) -> Option<&dyn Reader> {
        Some(self)
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            let owned = self.end_writer();
            poll_fn(|context| self.queue.poll_closed(context)).await;
            if let Some(Owned { writer, .. }) = owned {
                // It has let everyone go already, so that this does not wait; a panic of it shows in the state.
                drop(writer.join());
            }
            self.state.poisoned().map_or(Ok(()), Err)
        })
    }
}

impl Drop for LogBroker {
    fn drop(&mut self) {
        if let Some(Owned { writer, .. }) = self.end_writer() {
            // A panic of the writer shows in the state, and there is nobody left to tell.
            drop(writer.join());
        }
    }
}

impl Reader for LogBroker {
    fn read<'a>(&'a self, request: ReadRequest<'a>) -> BoxFuture<'a, Result<Page, BrokerError>> {
        Box::pin(async move { self.history.read(&request) })
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

impl Admin for LogBroker {
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
    ) -> BoxFuture<'a, Result<Position, BrokerError>> {
        Box::pin(async move { self.groups.seek(group, start, &self.history) })
    }

    fn remove<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move { self.groups.remove(group) })
    }
}

impl fmt::Debug for LogBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogBroker")
            .field("folder", &self.history.log.folder.root())
            .field("durability", &self.durability)
            .field("codec", &self.codec)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

const _: () = assert!(SEGMENT_BYTES_MIN < SEGMENT_RESERVE_BYTES);

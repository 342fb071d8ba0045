//! The embedded broker: a log that this process owns, behind the ports of a broker.

use crate::append::outcome::{Answer, Place};
use crate::append::pieces::{self, Piece, Pieces};
use crate::append::queue::Queue;

use crate::append::writer::Writer;
use crate::files::failed;
use crate::folder::Folder;
use crate::format::durable::Durable;
use crate::format::index::Index;
use crate::group::Groups;
use crate::history::History;
use crate::log::Log;
use crate::look_up::Background;
use crate::options::{Codec, Durability, OpenOptions, SEGMENT_BYTES_MIN};
use crate::poison::{LogState, StateCell};
use crate::recover::{self, Opened, RecoveryReport};
use crate::retention::rule::Retention;
use crate::retention::{Removal, Retainer};
use crate::segment::Segment;
use crate::status::{Counts, LogSize, LogStatus};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, GroupLag, GroupName, GroupStatus, KeyOrder,
    LookUpRequest, Page, Position, PublishError, PublishOutcome, ReadRequest, Reader, Receipt,
    Recorded, StartAt, SubscribeRequest, Subscription,
};
use tidings_core::limits::{PAYLOAD_BYTES_MAX, SEGMENT_RESERVE_BYTES};
use tidings_core::seam::{Clock, DiskLock, OpenMode};
use tidings_core::{BoxFuture, Envelope, Timestamp};

/// The embedded broker: one durable log in a folder, owned by this process.
///
/// **Guarantee**: with [`Durability::Synced`] an acknowledged event survives the end of the process and a power cut, as far as the disk keeps what it flushed. All events stand in one order. Dropping the broker closes it and waits for its thread.
pub struct LogBroker {
    history: History,
    groups: Arc<Groups>,
    retainer: Arc<Retainer>,
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
    /// **Errors**: [`BrokerError::FolderOwned`] while another process owns it, [`BrokerError::FormatNewer`], [`BrokerError::FolderNotPrivate`], [`BrokerError::FolderForeign`], [`BrokerError::ReadOnly`], [`BrokerError::EventsElsewhere`]: nothing was written then; [`BrokerError::DiskFull`] for a new folder; [`BrokerError::Io`].
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
            look_up_tables,
            retention,
            program,
        } = options;
        let folder = Folder::new(folder, disk);
        let lock = folder.own_with_events(&program, &*clock)?;
        let segment_bytes = segment_bytes.max(SEGMENT_BYTES_MIN);
        let opened = recover::open(&folder, &*clock, segment_bytes)?;
        let durable = tell_durable(&folder, &opened)?;
        let log = log_of(&folder, clock, &opened);
        let Opened {
            segment,
            index,
            end,
            append_time,
            marked,
            report,
            ..
        } = opened;
        let shared = last_segment(&log, segment.is_some().then_some(index));
        let groups = Arc::new(Groups::new(log.clone(), program));
        let retainer = Arc::new(Retainer::open(log.clone(), groups.clone(), retention)?);
        let queue = Arc::new(Queue::default());
        let state = Arc::new(StateCell::new(folder.log()));
        let history = History::new(log.clone());
        let background = look_up_tables
            .then(|| start_look_ups(&history, &folder))
            .transpose()?;
        let writer = Writer {
            log: log.clone(),
            background,
            queue: queue.clone(),
            state: state.clone(),
            retainer: retainer.clone(),
            segment,
            segment_begun: log.append_time(&shared)?,
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
        Ok(Self {
            history,
            groups,
            retainer,
            queue,
            state,
            durability,
            codec,
            report,
            owned: Mutex::new(Some(Owned {
                writer: start(writer, &folder)?,
                _lock: lock,
            })),
        })
    }

    /// What state the log is in.
    pub fn state(&self) -> LogState {
        self.state.get()
    }

    /// What the log is like, and what happened to it since it was opened.
    ///
    /// **Errors**: of the disk.
    pub fn status(&self) -> Result<LogStatus, BrokerError> {
        let log = &self.history.log;
        let size = LogSize::of(log)?;
        Ok(log.counts.status(self.state(), size, log.damage.counts()))
    }

    /// What the opening found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// The rule of retention.
    pub fn retention(&self) -> Retention {
        self.retainer.rule()
    }

    /// Makes this the rule of the folder, which later owners keep. It is carried out within a minute, or by [`retain`](Self::retain).
    ///
    /// **Errors**: [`BrokerError::Io`] and its kin; the rule is the old one or the new one.
    pub fn set_retention(&self, rule: Retention) -> Result<(), BrokerError> {
        self.retainer.set_rule(rule)
    }

    /// Removes now what the rule of retention says; by itself that is done after each closed segment and once a minute. It blocks.
    ///
    /// **Guarantee**: after a crash in between, the log begins where it began before or where it was to begin, without a hole.
    ///
    /// **Errors**: [`BrokerError::RetentionInvalid`], [`BrokerError::Io`]; what is left of a removal is done by the next one.
    pub fn retain(&self) -> Result<Removal, BrokerError> {
        self.retainer.look()
    }

    async fn append(&self, batch: &[Envelope]) -> Vec<PublishOutcome> {
        let mut pieces = Pieces::new(batch, self.codec, &self.queue.spare);
        let mut earlier = Vec::new();
        let mut last = None;
        while let Some(piece) = pieces.next() {
            let count = piece.count;
            if pieces.is_done() {
                last = Some((count, self.push_and_wait(piece).await));
                break;
            }
            let mut piece = Some(piece);
            let Some(place) = poll_fn(|context| self.queue.poll_push(&mut piece, context)).await
            else {
                last = Some((count, Err(self.refusal())));
                break;
            };
            pieces.go_on_after(place.outcome().clone());
            earlier.push((count, place));
        }
        let mut answers = Vec::with_capacity(earlier.len() + 1);
        for (count, mut place) in earlier {
            answers.push((count, poll_fn(|context| place.poll(context)).await));
        }
        answers.extend(last);
        outcomes(batch.len(), answers, pieces.into_refused())
    }

    /// Publishes a batch of one event: nothing is made that only several need.
    async fn append_one(&self, envelope: &Envelope) -> Vec<PublishOutcome> {
        let answer = match pieces::single(envelope, self.codec, &self.queue.spare) {
            Ok(piece) => self.push_and_wait(piece).await,
            Err(error) => Err(error),
        };
        vec![answer.map(|position| Receipt {
            position: Some(Position(position)),
        })]
    }

    /// Adds the last piece of a batch and waits for its answer.
    async fn push_and_wait(&self, piece: Piece) -> Answer {
        let (mut piece, mut place) = (Some(piece), None);
        poll_fn(|context| {
            if let Some(place) = &mut place {
                return Place::poll(place, context);
            }
            match self.queue.poll_push(&mut piece, context) {
                Poll::Ready(None) => Poll::Ready(Err(self.refusal())),
                // It is noted who waits: there is nothing to look at before the answer.
                Poll::Ready(added) => {
                    place = added;
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
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

/// Starts the thread that makes look-up tables.
fn start_look_ups(history: &History, folder: &Folder) -> Result<Background, BrokerError> {
    let own = history.log.end_known().visible;
    Background::start(history.look_ups.clone(), own)
        .map_err(|error| failed("starting the look-ups of", &folder.log(), error))
}

/// The log that an opening found, as readers see it.
fn log_of(folder: &Folder, clock: Arc<dyn Clock>, opened: &Opened) -> Arc<Log> {
    let begin = (opened.recorded_first, opened.firsts.as_slice());
    let log = Log::new(
        folder.clone(),
        clock,
        opened.number,
        true,
        begin,
        opened.end,
    );
    for damage in &opened.report.stretches {
        log.damage.note(folder, true, damage.clone());
    }
    let cut_bytes = opened.report.cut_bytes;
    Counts::add(&log.counts.ends_cut, u64::from(cut_bytes > 0));
    Counts::add(&log.counts.end_bytes_cut, cut_bytes);
    Arc::new(log)
}

/// The segment that is written, with what is known of where its frames begin.
fn last_segment(log: &Log, index: Option<Index>) -> Arc<Segment> {
    let last = log.segments().last().cloned();
    let last = last.unwrap_or_else(|| Arc::new(Segment::unread(log.end_known().segment)));
    if index.is_some() {
        *last.index.lock().unwrap_or_else(PoisonError::into_inner) = index;
    }
    last
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
    answers: Vec<(u32, Answer)>,
    refused: Vec<(usize, PublishError)>,
) -> Vec<PublishOutcome> {
    let mut refused = refused.into_iter().peekable();
    let mut outcomes: Vec<PublishOutcome> = Vec::with_capacity(events);
    for (count, answer) in answers {
        for at in 0..u64::from(count) {
            while let Some((_, error)) = refused.next_if(|(place, _)| *place == outcomes.len()) {
                outcomes.push(Err(error));
            }
            outcomes.push(match &answer {
                Ok(first) => Ok(Receipt {
                    position: Some(Position(first + at)),
                }),
                Err(error) => Err(error.clone()),
            });
        }
    }
    while outcomes.len() < events {
        let own = refused.next_if(|(place, _)| *place == outcomes.len());
        let error = own.map_or(PublishError::NotAttempted, |(_, error)| error);
        outcomes.push(Err(error));
    }
    outcomes
}

impl Broker for LogBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "the embedded log",
            key_order: KeyOrder::AcrossInstances,
            group_leased: true,
            tells_assignment: true,
            replay: true,
            old_events_for_late_groups: true,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            synced: self.durability == Durability::Synced,
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        match batch {
            [envelope] => Box::pin(self.append_one(envelope)),
            _ => Box::pin(self.append(batch)),
        }
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
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        Box::pin(async move { Ok(Some(self.groups.seek(group, start, &self.history)?)) })
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

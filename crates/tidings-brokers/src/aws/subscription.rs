//! Reading one queue: polls that run ahead, deliveries that are kept from others until they are settled, settling by token.

use super::error::{Failure, Fault, Speaker};
use super::open::{Open, sent_at, was_received};
use super::queue::{Poll, Queue, count};
use super::reading::Reading;
use super::settling::Settling;
use aws_sdk_sqs::types::Message;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tidings_core::broker::{BrokerError, Delivery, Receive, Received, Subscription};
use tidings_core::cloudevents::binding::Carried;
use tidings_core::limits::{
    AWS_REQUEST_TIMEOUT, AWS_RETRY_BACKOFF_FIRST, AWS_RETRY_BACKOFF_MAX, SQS_COUNT_FRESH,
    SQS_POLL_PAUSE, SQS_WAIT_FIRST,
};
use tidings_core::seam::Clock;
use tidings_core::{BoxFuture, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Makes the event of a message.
pub(crate) type Read = Arc<dyn Fn(&Message) -> Carried + Send + Sync>;
/// Makes again what the group needs, where it is gone and may be made.
pub(crate) type Rejoin = Arc<dyn Fn() -> BoxFuture<'static, Result<(), BrokerError>> + Send + Sync>;

/// What a subscription consists of.
pub(crate) struct Parts {
    pub(crate) queue: Queue,
    pub(crate) reading: Reading,
    pub(crate) speaker: Speaker,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) read: Read,
    pub(crate) rejoin: Option<Rejoin>,
    /// Whether the broker was closed: a subscription ends with it.
    pub(crate) closed: watch::Receiver<bool>,
}

pub(super) struct Shared {
    pub(super) parts: Parts,
    /// Guards what is open; held for moments, never over a request.
    state: Mutex<State>,
    /// Something to hand out or to tell.
    pub(super) changed: Notify,
    /// Room for further messages.
    pub(super) room: Notify,
    /// Somebody wants to know whether messages are elsewhere.
    asked: Notify,
    stopped: watch::Sender<bool>,
    /// Held while extensions are under way: what shows messages to others waits for them, because one that came behind would hide them again.
    pub(super) extending: tokio::sync::Mutex<()>,
    /// Guards the tasks, for whoever awaits their end.
    pub(super) tasks: Mutex<Vec<JoinHandle<()>>>,
}

pub(super) struct State {
    pub(super) open: Open,
    /// Told once by the receive half.
    failure: Option<BrokerError>,
    /// The last poll found nothing, and nothing has happened since that could have brought something.
    pub(super) quiet: bool,
    /// When it was last counted that nobody else held anything.
    alone_at: Option<Duration>,
    /// How often something was settled.
    pub(super) settled: u64,
}

/// Begins to read.
pub(crate) fn subscribe(parts: Parts) -> Subscription {
    let pollers = parts.reading.pollers;
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            open: Open::new(&parts.queue.name),
            failure: None,
            quiet: false,
            alone_at: None,
            settled: 0,
        }),
        parts,
        changed: Notify::new(),
        room: Notify::new(),
        asked: Notify::new(),
        stopped: watch::Sender::new(false),
        extending: tokio::sync::Mutex::new(()),
        tasks: Mutex::new(Vec::new()),
    });
    for _ in 0..pollers {
        shared.own(poll(shared.clone()));
    }
    shared.own(keep(Arc::downgrade(&shared)));
    shared.own(look_around(shared.clone()));
    Subscription {
        receive: Box::new(Receiving(shared.clone())),
        settle: Arc::new(Settling(shared)),
        resumed: None,
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the subscription owns its tasks: they end when it is left or dropped, and leave awaits them"
    )]
    fn own(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(tokio::spawn(task));
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
        self.room.notify_waiters();
        self.changed.notify_waiters();
    }

    /// Waits for so long, or until reading is stopped.
    async fn pause(&self, time: Duration) {
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            () = self.parts.clock.sleep(time) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    /// Whether what was counted at a time is all ours; notes it for whoever asked.
    fn is_all(&self, messages: u64, at: Duration) -> bool {
        let mut state = self.lock();
        let is_all = messages <= state.open.held() as u64;
        state.alone_at = is_all.then_some(at);
        is_all
    }

    /// How many messages may be received now; `None` once reading is stopped.
    async fn room(&self) -> Option<usize> {
        loop {
            let freed = self.room.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.is_stopped() {
                return None;
            }
            let waiting = self.lock().open.waiting();
            let room = self.parts.reading.prefetch.saturating_sub(waiting);
            if room > 0 {
                return Some(room);
            }
            freed.await;
        }
    }

    /// Takes the messages of a poll; those that come too late go back.
    async fn take(&self, messages: Vec<Message>, asked: Asked) {
        let visibility = self.parts.reading.visibility;
        let late: Vec<_> = {
            let mut state = self.lock();
            if self.is_stopped() {
                let receipts = messages.iter().filter_map(Message::receipt_handle);
                receipts
                    .map(|receipt| (receipt.to_owned(), Duration::ZERO))
                    .collect()
            } else {
                state.quiet = messages.is_empty() && state.settled == asked.settled;
                state.open.add(messages, asked.at, visibility);
                Vec::new()
            }
        };
        self.changed.notify_waiters();
        // If that fails, they come again when their time is over.
        drop(self.parts.queue.hide(&late).await);
    }

    /// Gives messages that are not open any more back to others, behind any extension that is under way.
    pub(super) async fn give_back(&self, receipts: Vec<String>) -> Vec<Result<(), Failure>> {
        drop(self.extending.lock().await);
        let receipts: Vec<_> = receipts
            .into_iter()
            .map(|receipt| (receipt, Duration::ZERO))
            .collect();
        self.parts.queue.hide(&receipts).await
    }

    /// Gives up everything that is open, where the time of something has run out: its order is not ours any more.
    async fn lose(&self) {
        let now = self.parts.clock.elapsed();
        let receipts = self.lock().open.lose(now);
        self.changed.notify_waiters();
        self.room.notify_waiters();
        // If that fails, they come again when their time is over.
        drop(self.give_back(receipts).await);
    }

    async fn lose_what_ran_out(&self) {
        let now = self.parts.clock.elapsed();
        if self.lock().open.has_run_out(now) {
            self.lose().await;
        }
    }

    /// Tells the receive half, after an attempt to make again what is gone.
    async fn failed(&self, failure: Failure) {
        let is_gone = failure.fault == Fault::Missing;
        let mut error = failure.into_error(&self.parts.speaker, "receive messages");
        if let Some(rejoin) = self.parts.rejoin.as_ref().filter(|_| is_gone) {
            match rejoin().await {
                Ok(()) => {
                    tracing::warn!(queue = %self.parts.queue.name, "the queue was gone and was made again");
                    return;
                }
                Err(reason) => error = reason,
            }
        }
        self.lock().failure = Some(error);
        self.changed.notify_waiters();
    }

    /// Keeps from others what is open and has little time left. An answer that does not come within the turn has another one after it.
    async fn extend_all(&self) {
        if self.extend_some().await {
            self.lose().await;
        }
        self.lose_what_ran_out().await;
    }

    /// Whether something is not ours any more.
    async fn extend_some(&self) -> bool {
        let Reading { visibility, .. } = self.parts.reading;
        let limit = self.parts.reading.turn().min(AWS_REQUEST_TIMEOUT);
        let _extending = self.extending.lock().await;
        let now = self.parts.clock.elapsed();
        let due = self.lock().open.running_out(now, now + visibility);
        let receipts: Vec<_> = due
            .iter()
            .map(|(_, receipt)| (receipt.clone(), visibility))
            .collect();
        let kept = self.parts.queue.hide_within(&receipts, limit).await;
        let answered = self.parts.clock.elapsed();
        let mut is_lost = false;
        for ((place, _), outcome) in due.iter().zip(kept) {
            match outcome {
                Ok(()) => {
                    let mut state = self.lock();
                    state.open.extended(*place, answered, now + visibility);
                }
                // It may have been settled in the meantime; then it is nobody's loss.
                Err(failure) if matches!(failure.fault, Fault::Receipt | Fault::Missing) => {
                    is_lost |= self.lock().open.holds(*place);
                }
                // The next turn comes before its time is over.
                Err(_) => {}
            }
        }
        is_lost
    }
}

/// When a poll began, and how much had been settled then.
#[derive(Debug, Clone, Copy)]
struct Asked {
    at: Duration,
    settled: u64,
}

async fn poll(shared: Arc<Shared>) {
    let reading = shared.parts.reading;
    let mut wait = SQS_WAIT_FIRST.min(reading.wait_max());
    let mut backoff = AWS_RETRY_BACKOFF_FIRST;
    while let Some(messages_max) = shared.room().await {
        let asked = Asked {
            at: shared.parts.clock.elapsed(),
            settled: shared.lock().settled,
        };
        let poll = Poll {
            wait,
            messages_max,
            visibility: reading.visibility,
        };
        match shared.parts.queue.receive(poll).await {
            Ok(messages) => {
                backoff = AWS_RETRY_BACKOFF_FIRST;
                let is_empty = messages.is_empty();
                shared.take(messages, asked).await;
                // Short at first, so that a group that is left soon does not wait for its poll.
                wait = if is_empty { wait * 2 } else { SQS_WAIT_FIRST };
                wait = wait.min(reading.wait_max());
                if is_empty && wait.is_zero() {
                    shared.pause(SQS_POLL_PAUSE).await;
                }
            }
            Err(failure) => {
                shared.failed(failure).await;
                shared.pause(backoff).await;
                backoff = (backoff * 2).min(AWS_RETRY_BACKOFF_MAX);
            }
        }
    }
}

/// Extends what is open three times before its time is over.
async fn keep(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let clock = &shared.parts.clock;
        let began = clock.elapsed();
        shared.extend_all().await;
        if shared.is_stopped() {
            return;
        }
        let took = clock.elapsed().saturating_sub(began);
        // By the clock, not so long after the last answer: slow answers must not eat up what is left.
        let rest = shared.parts.reading.turn().saturating_sub(took);
        shared.pause(rest).await;
    }
}

/// Counts, when somebody asks, whether the queue has messages beside ours: an instance that was killed may hold some, and then they come to us once their
/// time is over.
async fn look_around(shared: Arc<Shared>) {
    let mut stopped = shared.stopped.subscribe();
    loop {
        tokio::select! {
            () = shared.asked.notified() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        let at = shared.parts.clock.elapsed();
        let queue = &shared.parts.queue;
        match count(&queue.client, &queue.url).await {
            Ok(messages) if shared.is_all(messages, at) => {}
            Ok(_) => shared.pause(SQS_POLL_PAUSE).await,
            // The poll that finds it missing makes it again.
            Err(failure) if failure.fault == Fault::Missing => {}
            Err(failure) => {
                shared.failed(failure).await;
                shared.pause(AWS_RETRY_BACKOFF_FIRST).await;
            }
        }
    }
}

struct Receiving(Arc<Shared>);

impl Receive for Receiving {
    fn receive(&mut self, events_max: usize) -> BoxFuture<'_, Result<Received, BrokerError>> {
        Box::pin(async move {
            let shared = &self.0;
            let mut closed = shared.parts.closed.clone();
            loop {
                if *closed.borrow_and_update() {
                    shared.stop();
                }
                let changed = shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                shared.lose_what_ran_out().await;
                if let Some(told) = shared.tell(events_max)? {
                    return Ok(told);
                }
                if shared.is_stopped() {
                    return Err(BrokerError::Closed);
                }
                tokio::select! {
                    () = changed => {}
                    Ok(_) = closed.changed() => {}
                }
            }
        })
    }

    fn is_caught_up(&self) -> bool {
        let mut state = self.0.lock();
        // Behind a message that is handed out, others of its key may be locked.
        let may_hide = self.0.parts.queue.fifo && state.open.handed_out() > 0;
        if !state.quiet || state.open.waiting() > 0 || may_hide {
            state.alone_at = None;
            return false;
        }
        let now = self.0.parts.clock.elapsed();
        let is_fresh = |at: &Duration| now.saturating_sub(*at) <= SQS_COUNT_FRESH;
        if state.alone_at.take().as_ref().is_some_and(is_fresh) {
            return true;
        }
        drop(state);
        self.0.asked.notify_one();
        false
    }

    fn behind(&self, now: Timestamp) -> Option<Duration> {
        let oldest = self.0.lock().open.oldest_waiting()?;
        Some(now.since(oldest))
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Shared {
    fn tell(&self, events_max: usize) -> Result<Option<Received>, BrokerError> {
        let (scope, given) = {
            let mut state = self.lock();
            if let Some(news) = state.open.news() {
                return Ok(Some(news));
            }
            let given = state.open.hand_out(events_max);
            if given.is_empty() {
                return state.failure.take().map_or(Ok(None), Err);
            }
            (state.open.scope(), given)
        };
        self.room.notify_waiters();
        let deliveries = given.into_iter().map(|(token, message)| {
            let Carried { envelope, problem } = (self.parts.read)(&message);
            Delivery {
                token,
                position: None,
                append_time: sent_at(&message),
                envelope,
                problem,
                redelivered: was_received(&message),
            }
        });
        Ok(Some(Received::Deliveries {
            scope,
            deliveries: deliveries.collect(),
        }))
    }
}

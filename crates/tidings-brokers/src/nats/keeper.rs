//! The task behind a group on JetStream: it asks for events, keeps those at work from being delivered again, and gives back what is left at the end.

use super::NAME;
use super::connection::{Link, timestamp};
use super::{consumer, mapping};
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::message::Message;
use async_nats::{StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{BrokerError, Delivery, Position, Token};
use tidings_core::limits::{
    NATS_PULL_BYTES_MAX, NATS_PULL_EVENTS_MAX, NATS_PULL_EXPIRES, REMOTE_IN_FLIGHT_BYTES_MAX,
    REMOTE_RECONNECT_BACKOFF_FIRST, REMOTE_RECONNECT_BACKOFF_MAX, REMOTE_REQUEST_TIMEOUT,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, interval, sleep};

use crate::incoming::{CAUGHT_UP_FRESH, Incoming};

/// The server is asked this often whether what an instance before us had is with us.
const HOLD_LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The wait for an acknowledgement is renewed so many times before it would end.
const RENEWALS: u32 = 3;
const IN_PROGRESS: Bytes = Bytes::from_static(b"+WPI");
const NOT_FINISHED: Bytes = Bytes::from_static(b"-NAK");

/// What keeper and halves of a subscription share.
pub(super) struct Shared {
    pub(super) link: Arc<Link>,
    pub(super) consumer: String,
    pub(super) incoming: Arc<Incoming<Subject>>,
}

impl Shared {
    /// How many more events fit.
    fn room(&self) -> usize {
        let inner = self.incoming.lock();
        if inner.table.bytes() >= REMOTE_IN_FLIGHT_BYTES_MAX {
            return 0;
        }
        self.link.config.in_flight.saturating_sub(inner.table.len())
    }
}

/// Starts the keeper of a subscription; it ends when `stopped` closes. `alone` is the number of the last delivery so far, where nobody else should get any.
pub(super) fn spawn(
    shared: Arc<Shared>,
    consumer: PullConsumer,
    alone: Option<u64>,
    stopped: watch::Receiver<()>,
) -> JoinHandle<()> {
    let keeper = Keeper {
        connects: shared.link.connects(),
        hold_end: Box::pin(sleep(hold_time(&shared.link))),
        shared,
        consumer,
        inbox: None,
        asked_for: 0,
        alone,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the subscription owns it: leaving awaits it, and dropping the subscription ends it"
    )]
    let task = tokio::spawn(keeper.run(stopped));
    task
}

struct Keeper {
    shared: Arc<Shared>,
    consumer: PullConsumer,
    /// Where the server sends events to.
    inbox: Option<(Subject, Subscriber)>,
    /// Events that were asked for and did not come yet.
    asked_for: usize,
    /// The number of the connection, as far as it was looked at.
    connects: u64,
    /// The number of the last delivery that came here, where nobody else should get any.
    alone: Option<u64>,
    /// When what is held back goes on, come what may.
    hold_end: Pin<Box<Sleep>>,
}

/// How long events are held back at most: what was lost comes again after the wait for its acknowledgement.
fn hold_time(link: &Link) -> Duration {
    link.config.ack_wait + REMOTE_REQUEST_TIMEOUT
}

impl Keeper {
    async fn run(mut self, mut stopped: watch::Receiver<()>) {
        let mut failures = 0_u32;
        loop {
            let failed = tokio::select! {
                biased;
                // Nothing is ever sent: it ends when the other side is dropped.
                _ = stopped.changed() => break,
                failed = self.work(failures) => failed,
            };
            self.shared.incoming.fail(failed);
            let delay = REMOTE_RECONNECT_BACKOFF_FIRST
                .saturating_mul(1 << failures.min(16))
                .min(REMOTE_RECONNECT_BACKOFF_MAX);
            failures = failures.saturating_add(1);
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                () = sleep(delay) => {}
            }
        }
        // A server that does not answer delivers what is left after its own wait.
        let _unanswered = tokio::time::timeout(REMOTE_REQUEST_TIMEOUT, self.give_back()).await;
    }

    /// Receives until something fails.
    async fn work(&mut self, failures: u32) -> BrokerError {
        match self.keep(failures).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn keep(&mut self, failures: u32) -> Result<std::convert::Infallible, BrokerError> {
        let shared = Arc::clone(&self.shared);
        shared.link.wait_connected(REMOTE_REQUEST_TIMEOUT).await?;
        if failures > 0 {
            self.check_consumer().await?;
        }
        self.asked_for = 0;
        let mut connected = shared.link.connected();
        connected.mark_unchanged();
        let ack_wait = shared.link.config.ack_wait;
        let mut renewal = interval(ack_wait / RENEWALS);
        let mut hold_look = interval(HOLD_LOOK_INTERVAL);
        let mut pull_end: Pin<Box<Sleep>> = Box::pin(sleep(Duration::ZERO));
        let mut answered = false;
        let mut fresh_end: Pin<Box<Sleep>> = Box::pin(sleep(Duration::ZERO));
        loop {
            self.notice_reconnect();
            if self.pull().await? {
                pull_end = Box::pin(sleep(NATS_PULL_EXPIRES + REMOTE_REQUEST_TIMEOUT));
            }
            if shared.incoming.is_asked() {
                let nothing_left = self.look().await?;
                shared.incoming.answer(nothing_left);
                answered = nothing_left;
                fresh_end = Box::pin(sleep(CAUGHT_UP_FRESH));
                continue;
            }
            let holding = shared.incoming.lock().hold_from.is_some();
            let Some((_, subscriber)) = &mut self.inbox else {
                continue;
            };
            tokio::select! {
                message = subscriber.next() => self.take(message)?,
                () = shared.incoming.work.notified() => {}
                _ = renewal.tick() => self.renew().await?,
                _ = hold_look.tick(), if holding => { self.look().await?; }
                () = &mut self.hold_end, if holding => {
                    tracing::warn!(group = shared.consumer, "what another instance had did not come back in time; newer events go on");
                    shared.incoming.stop_holding();
                }
                _ = connected.changed() => {
                    // The requests of the connection before are gone.
                    self.asked_for = 0;
                    shared.link.wait_connected(REMOTE_REQUEST_TIMEOUT).await?;
                }
                () = &mut pull_end, if self.asked_for > 0 => self.asked_for = 0,
                () = &mut fresh_end, if answered => {
                    answered = false;
                    shared.incoming.forget_answer();
                }
            }
        }
    }

    /// A connection that breaks swallows what was on its way to us. The server delivers it again after its wait; until then nothing newer may pass it.
    fn notice_reconnect(&mut self) {
        let link = &self.shared.link;
        let connects = link.connects();
        if connects != self.connects {
            self.connects = connects;
            self.asked_for = 0;
            self.hold_end = Box::pin(sleep(hold_time(link)));
            self.shared.incoming.hold();
        }
    }

    /// Asks for as many events as fit, once enough of those asked for have come; whether it asked.
    async fn pull(&mut self) -> Result<bool, BrokerError> {
        let link = &self.shared.link;
        if self.inbox.is_none() {
            let subject = Subject::from(link.client.new_inbox());
            let subscribing = link.client.subscribe(subject.clone()).await;
            let subscriber = subscribing.map_err(|error| link.failed("ask for events", &error))?;
            self.inbox = Some((subject, subscriber));
        }
        let most = self.shared.room().min(NATS_PULL_EVENTS_MAX);
        // Below half, so that requests are few and events do not stop coming between two of them.
        if self.asked_for >= most.div_ceil(2) {
            return Ok(false);
        }
        let batch = most - self.asked_for;
        let Some((subject, _)) = &self.inbox else {
            return Ok(false);
        };
        let request = BatchConfig {
            batch,
            expires: Some(NATS_PULL_EXPIRES),
            max_bytes: NATS_PULL_BYTES_MAX.max(link.client.max_payload()),
            ..Default::default()
        };
        let asked = self.consumer.request_batch(request, subject.clone()).await;
        asked.map_err(|error| link.failed("ask for events", &error))?;
        self.asked_for += batch;
        Ok(true)
    }

    /// Takes in a message and those that are there already.
    fn take(&mut self, first: Option<async_nats::Message>) -> Result<(), BrokerError> {
        let mut next = first;
        let mut result = Ok(());
        let mut taken = Vec::new();
        loop {
            let Some(message) = next else {
                self.inbox = None;
                break;
            };
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.asked_for = self.asked_for.saturating_sub(1);
                    taken.push(message);
                }
                Some(status) => {
                    result = self.take_status(status, &message);
                    if result.is_err() {
                        break;
                    }
                }
            }
            let Some((_, subscriber)) = &mut self.inbox else {
                break;
            };
            match subscriber.next().now_or_never() {
                Some(message) if taken.len() < NATS_PULL_EVENTS_MAX => next = message,
                Some(Some(message)) => {
                    taken.push(message);
                    break;
                }
                _ => break,
            }
        }
        if !taken.is_empty() {
            self.notice_reconnect();
            self.insert(taken);
        }
        result
    }

    fn insert(&mut self, messages: Vec<async_nats::Message>) {
        let link = Arc::clone(&self.shared.link);
        let mut taken = Vec::new();
        for message in messages {
            let Some((number, delivery)) = decode(&link, message) else {
                continue;
            };
            self.notice_gap(number);
            taken.push(delivery);
        }
        self.shared.incoming.insert(taken);
    }

    /// Deliveries are numbered by the server, whoever gets them. One that did not come here went to an instance before this one, which stands still or is gone without a word, as long as what it
    /// had asked for is open. It is delivered again after its wait; until then nothing newer may pass it.
    fn notice_gap(&mut self, number: u64) {
        let Some(last) = self.alone.replace(number) else {
            self.alone = None;
            return;
        };
        if number > last + 1 {
            tracing::debug!(
                group = self.shared.consumer,
                number,
                last,
                "deliveries went elsewhere"
            );
            self.hold_end = Box::pin(sleep(hold_time(&self.shared.link)));
            // It may be older than what came here again.
            self.shared.incoming.hold_all();
        }
    }

    /// A message of the server about one of our requests.
    fn take_status(
        &mut self,
        status: StatusCode,
        message: &async_nats::Message,
    ) -> Result<(), BrokerError> {
        let description = message.description.as_deref().unwrap_or_default();
        if status == StatusCode::IDLE_HEARTBEAT {
            return Ok(());
        }
        let unused = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Pending-Messages"))
            .and_then(|value| value.as_str().parse::<usize>().ok());
        if let Some(unused) = unused {
            self.asked_for = self.asked_for.saturating_sub(unused);
            return Ok(());
        }
        self.asked_for = 0;
        if status == StatusCode::TIMEOUT {
            return Ok(());
        }
        Err(self.shared.link.failed(
            "hand out events",
            &format!("{} {description}", u16::from(status)),
        ))
    }

    /// Asks the server how the group stands; whether nothing is left.
    async fn look(&mut self) -> Result<bool, BrokerError> {
        let link = &self.shared.link;
        let asking = self.consumer.get_info();
        let answered = link.within("look at a consumer", asking).await?;
        let info = answered.map_err(|error| link.failed("look at a consumer", &error))?;
        let all_here = info.num_ack_pending <= self.shared.incoming.lock().table.surely_unsettled();
        if all_here {
            self.shared.incoming.stop_holding();
        }
        Ok(all_here && info.num_pending == 0)
    }

    /// Tells the server that everything open is at work.
    async fn renew(&self) -> Result<(), BrokerError> {
        let link = &self.shared.link;
        let replies = self.shared.incoming.lock().table.handles();
        for reply in replies {
            let told = link.client.publish(reply, IN_PROGRESS).await;
            told.map_err(|error| link.failed("renew a delivery", &error))?;
        }
        Ok(())
    }

    /// After trouble: a consumer that was removed meanwhile took its deliveries with it.
    async fn check_consumer(&mut self) -> Result<(), BrokerError> {
        let shared = &self.shared;
        let link = &shared.link;
        let stream = link.stream().await?;
        if consumer::find(link, &stream, &shared.consumer)
            .await?
            .is_some()
        {
            return Ok(());
        }
        if shared.incoming.lock().table.len() > 0 {
            shared.incoming.lose();
        }
        Err(BrokerError::TopologyMissing {
            broker: NAME,
            what: format!("the consumer {}", shared.consumer),
            command: "stop this consumer and start it again".to_owned(),
        })
    }

    /// Gives back everything that is not settled, in order, so that it comes to others at once.
    async fn give_back(mut self) {
        let link = Arc::clone(&self.shared.link);
        if let Some((_, mut subscriber)) = self.inbox.take() {
            // First, so that nothing given back is sent here again.
            let _disconnected = subscriber.unsubscribe().await;
            let _disconnected = link.client.flush().await;
            let left: Vec<_> = std::iter::from_fn(|| subscriber.next().now_or_never().flatten())
                .filter(|message| message.status.is_none_or(|status| status == StatusCode::OK))
                .collect();
            self.insert(left);
        }
        let replies = {
            let mut inner = self.shared.incoming.lock();
            let replies = inner.table.handles();
            inner.table.lose();
            replies
        };
        let Some((last, before)) = replies.split_last() else {
            return;
        };
        for reply in before {
            let _disconnected = link.client.publish(reply.clone(), NOT_FINISHED).await;
        }
        let _disconnected = link.client.request(last.clone(), NOT_FINISHED).await;
    }
}

/// The number of a delivery; its place, what it is, and where to settle it; nothing if it is no message of a stream.
fn decode(link: &Link, message: async_nats::Message) -> Option<(u64, (u64, Delivery, Subject))> {
    let reply = message.reply.clone()?;
    let message = Message {
        message,
        context: link.jetstream.clone(),
    };
    let (number, sequence, published, times) = {
        let info = message.info().ok()?;
        (
            info.consumer_sequence,
            info.stream_sequence,
            timestamp(info.published),
            info.delivered,
        )
    };
    let carried = mapping::read(
        &link.config.stream,
        &link.config.prefix,
        mapping::Found {
            subject: &message.subject,
            headers: message.headers.as_ref(),
            payload: &message.payload,
            sequence,
            timestamp: Some(published),
        },
    );
    let delivery = Delivery {
        // Given when it is taken in.
        token: Token(0),
        position: Some(Position(sequence)),
        append_time: Some(published),
        envelope: carried.envelope,
        problem: carried.problem,
        redelivered: times > 1,
    };
    Some((number, (sequence, delivery, reply)))
}

//! The watcher at work: one task that counts facts, looks, keeps what follows, and hands messages to channels.

use super::book::{Book, Counted, Effects};
use super::channel::{Channel, Handover};
use super::handler::Counting;
use super::look::Seen;
use super::queue::{Next, Queue, Waiting};
use super::stats::WatchStats;
use super::subject::{self, Subject};
use super::watch::{Watch, WatchNotice};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::limits::{
    ALERT_FACTS_PER_STEP_MAX, ALERT_FACTS_REMEMBERED_MAX, ALERT_LOOK_TIMEOUT, ALERT_RETRY_FIRST,
};
use tidings_core::store::{Kept, KeptChange, KeptKind};
use tidings_core::{BoxFuture, Timestamp, event_id};
use tokio::sync::{Notify, mpsc, watch};

/// One channel with its messages.
struct Line {
    channel: Arc<dyn Channel>,
    identity: String,
    queue: Queue,
    is_closed: bool,
}

/// The task.
pub(super) struct Watcher {
    watch: Watch,
    book: Book,
    counted: Counted,
    lines: Vec<Line>,
    /// Rows that this run has no use for: facts that are too many, messages of channels that are not there.
    useless: Vec<KeptChange>,
    made: u64,
    stats: WatchStats,
    told: watch::Sender<WatchStats>,
}

impl Watcher {
    pub(super) fn new(watch: Watch, kept: Vec<Kept>, told: watch::Sender<WatchStats>) -> Self {
        let mut lines: Vec<Line> = watch
            .channels
            .iter()
            .map(|channel| Line {
                channel: Arc::clone(channel),
                identity: channel.identity(),
                queue: Queue::default(),
                is_closed: false,
            })
            .collect();
        let mut alerts = BTreeMap::new();
        let mut counted = Counted::default();
        let mut useless = Vec::new();
        // Facts are forgotten in the order in which they were counted.
        let mut kept = kept;
        kept.sort_by_key(|row| row.body.parse::<i64>().unwrap_or_default());
        for row in kept {
            let read = match row.kind {
                KeptKind::Alert => subject::read(&row.body).map(|(subject, live)| {
                    alerts.insert(subject, live);
                }),
                KeptKind::Fact => subject::key_of(&row.name).map(|fact| {
                    let forgotten = counted.note(fact, ALERT_FACTS_REMEMBERED_MAX);
                    useless.extend(forgotten.into_iter().flatten().map(forget_fact));
                }),
                KeptKind::Channel => {
                    let line = lines.iter_mut().find(|line| line.identity == row.name);
                    if let Some(line) = line {
                        line.is_closed = true;
                    }
                    Some(())
                }
                KeptKind::Message => to_line(&mut lines, &row.body),
            };
            if read.is_none() {
                useless.push(KeptChange::Forget {
                    kind: row.kind,
                    name: row.name,
                });
            }
        }
        for line in &mut lines {
            line.queue.sort();
            if line.is_closed {
                useless.extend(line.queue.close().iter().map(forget_message));
            }
        }
        let book = Book::new(watch.options.clone(), alerts);
        Self {
            watch,
            book,
            counted,
            lines,
            useless,
            made: 0,
            stats: WatchStats::default(),
            told,
        }
    }

    pub(super) async fn run(
        &mut self,
        mut facts: mpsc::Receiver<Counting>,
        mut stopped: watch::Receiver<bool>,
        look_now: Arc<Notify>,
    ) {
        for line in self.lines.iter().filter(|line| line.is_closed) {
            let channel = line.channel.name();
            let reason = "it said so in an earlier run; a test that it accepts opens it again";
            (self.watch.observe)(&WatchNotice::Closed { channel, reason });
        }
        let useless = std::mem::take(&mut self.useless);
        if !self.keep(&useless, &mut stopped).await {
            return;
        }
        let mut sends: FuturesUnordered<BoxFuture<'static, (usize, Handover)>> =
            FuturesUnordered::new();
        let mut look: Option<BoxFuture<'static, (Seen, Timestamp)>> = None;
        let mut look_due = Duration::ZERO;
        let mut is_asked = false;
        loop {
            let elapsed = self.watch.clock.elapsed();
            if look.is_none() && (elapsed >= look_due || std::mem::take(&mut is_asked)) {
                look = Some(self.begin_look());
            }
            self.send_due(&mut sends, elapsed);
            self.tell();
            let wake = self
                .watch
                .clock
                .sleep(self.next_wake(elapsed, look_due, look.is_none()));
            let going_on = tokio::select! {
                received = facts.recv() => match received {
                    Some(first) => self.count(first, &mut facts, &mut stopped).await,
                    // Nobody can hand facts over any more, and nobody can stop it either: its owner is gone.
                    None => false,
                },
                (seen, asked) = pending(look.as_mut()) => {
                    look = None;
                    look_due = self.watch.clock.elapsed() + self.watch.options.look_every;
                    self.see(&seen, asked, &mut stopped).await
                }
                Some((line, handover)) = sends.next(), if !sends.is_empty() => {
                    self.answered(line, handover, &mut stopped).await
                }
                () = look_now.notified() => {
                    is_asked = true;
                    look_due = Duration::ZERO;
                    true
                }
                () = wake => {
                    let mut effects = Effects::default();
                    self.book.tick(self.watch.clock.now(), &mut effects);
                    self.conclude(effects, Vec::new(), &mut stopped).await
                }
                () = asked_to_stop(&mut stopped) => false,
            };
            if !going_on {
                break;
            }
        }
        while let Some((line, handover)) = sends.next().await {
            self.answered_at_end(line, handover).await;
        }
        self.tell();
    }

    fn begin_look(&self) -> BoxFuture<'static, (Seen, Timestamp)> {
        let asked = self.watch.clock.now();
        let sight = Arc::clone(&self.watch.sight);
        let limit = self.watch.clock.sleep(ALERT_LOOK_TIMEOUT);
        Box::pin(async move {
            let seen = tokio::select! {
                seen = sight.look() => seen,
                () = limit => Seen {
                    problems: vec![format!("looking took longer than {ALERT_LOOK_TIMEOUT:?}")],
                    ..Seen::default()
                },
            };
            (seen, asked)
        })
    }

    fn send_due(
        &mut self,
        sends: &mut FuturesUnordered<BoxFuture<'static, (usize, Handover)>>,
        elapsed: Duration,
    ) {
        for (index, line) in self.lines.iter_mut().enumerate() {
            if line.is_closed {
                continue;
            }
            if let Some(message) = line.queue.take_due(elapsed) {
                let channel = Arc::clone(&line.channel);
                sends.push(Box::pin(
                    async move { (index, channel.send(&message).await) },
                ));
            }
        }
    }

    fn next_wake(&self, elapsed: Duration, look_due: Duration, may_look: bool) -> Duration {
        let look = may_look.then(|| look_due.saturating_sub(elapsed));
        let tick = self.book.next_tick(self.watch.clock.now());
        let open = self.lines.iter().filter(|line| !line.is_closed);
        let message = open.filter_map(|line| line.queue.next_in(elapsed)).min();
        let next = [look, tick, message].into_iter().flatten().min();
        next.unwrap_or(self.watch.options.look_every)
    }

    /// Counts what has come, keeps what follows, and lets the facts be settled. Answers whether to go on.
    async fn count(
        &mut self,
        first: Counting,
        facts: &mut mpsc::Receiver<Counting>,
        stopped: &mut watch::Receiver<bool>,
    ) -> bool {
        let mut batch = vec![first];
        while batch.len() < ALERT_FACTS_PER_STEP_MAX {
            match facts.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        let now = self.watch.clock.now();
        let mut effects = Effects::default();
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        for (seen, counted) in batch {
            // One that was delivered again is in the store already.
            if let Some(forgotten) = self.counted.note(seen.fact, ALERT_FACTS_REMEMBERED_MAX) {
                self.stats.dead_letters += 1;
                self.book.dead(&seen, now, &mut effects);
                changes.push(KeptChange::Put(Kept {
                    kind: KeptKind::Fact,
                    name: subject::hex_of(seen.fact),
                    body: now.as_micros().to_string(),
                }));
                changes.extend(forgotten.into_iter().map(forget_fact));
            }
            waiting.push(counted);
        }
        if !self.conclude(effects, changes, stopped).await {
            return false;
        }
        for counted in waiting {
            // Its handling was cancelled: the fact comes again, and is known then.
            let _ = counted.send(());
        }
        true
    }

    async fn see(
        &mut self,
        seen: &Seen,
        asked: Timestamp,
        stopped: &mut watch::Receiver<bool>,
    ) -> bool {
        self.stats.trouble = seen.problems.first().cloned();
        for reason in &seen.problems {
            (self.watch.observe)(&WatchNotice::Unseen { reason });
        }
        let mut effects = Effects::default();
        let now = self.watch.clock.now();
        self.book.look(seen, asked, now, &mut effects);
        self.book.tick(now, &mut effects);
        let going_on = self.conclude(effects, Vec::new(), stopped).await;
        self.stats.looks += 1;
        going_on
    }

    /// Keeps what follows from a step, with the messages to send, before any is sent.
    async fn conclude(
        &mut self,
        effects: Effects,
        mut changes: Vec<KeptChange>,
        stopped: &mut watch::Receiver<bool>,
    ) -> bool {
        for subject in &effects.changed {
            changes.push(self.kept_alert(subject));
        }
        let now = self.watch.clock.now();
        let mut given_up = Vec::new();
        for alert in &effects.alerts {
            let id = format!(
                "msg_{}",
                event_id::fresh(&*self.watch.clock, &*self.watch.chance)
            );
            for (index, line) in self.lines.iter_mut().enumerate() {
                if line.is_closed {
                    continue;
                }
                self.made += 1;
                let message = Waiting {
                    channel: line.identity.clone(),
                    id: id.clone(),
                    body: alert.body(now),
                    line: alert.line(),
                    attempts: 0,
                    made_us: now.as_micros(),
                    place: self.made,
                };
                changes.push(KeptChange::Put(message.kept()));
                let lost = line.queue.push(message);
                given_up.extend(lost.into_iter().map(|lost| (index, lost)));
            }
        }
        changes.extend(given_up.iter().map(|(_, lost)| forget_message(lost)));
        if !self.keep(&changes, stopped).await {
            return false;
        }
        for (index, _) in given_up {
            self.give_up(index, "too many messages wait for it");
        }
        for alert in &effects.alerts {
            (self.watch.observe)(&WatchNotice::Alerted(alert));
        }
        true
    }

    fn kept_alert(&self, subject: &Subject) -> KeptChange {
        match self.book.get(subject) {
            Some(live) => KeptChange::Put(subject::kept(subject, live)),
            None => KeptChange::Forget {
                kind: KeptKind::Alert,
                name: subject.key(),
            },
        }
    }

    /// A channel has answered.
    async fn answered(
        &mut self,
        index: usize,
        handover: Handover,
        stopped: &mut watch::Receiver<bool>,
    ) -> bool {
        let changes = self.settle(index, handover);
        self.keep(&changes, stopped).await
    }

    /// As [`answered`](Self::answered), with one try at the store: what is not kept is sent again at the next start.
    async fn answered_at_end(&mut self, index: usize, handover: Handover) {
        let changes = self.settle(index, handover);
        let store = Arc::clone(&self.watch.store);
        if let Err(error) = store.keep(&self.watch.options.watcher, &changes).await {
            tracing::warn!(%error, "a message may be sent again");
        }
    }

    fn settle(&mut self, index: usize, handover: Handover) -> Vec<KeptChange> {
        let now = self.watch.clock.now();
        let elapsed = self.watch.clock.elapsed();
        let Some(line) = self.lines.get_mut(index) else {
            return Vec::new();
        };
        let name = line.channel.name().to_owned();
        let stats = self.stats.channels.entry(name.clone()).or_default();
        match handover {
            Handover::Accepted { .. } => {
                stats.accepted += 1;
                let accepted = line.queue.accepted();
                (self.watch.observe)(&WatchNotice::Accepted { channel: &name });
                accepted.iter().map(forget_message).collect()
            }
            Handover::Failed {
                reason,
                retry_after,
            } => {
                stats.failed += 1;
                let next = line
                    .queue
                    .failed(retry_after, elapsed, now, &*self.watch.chance);
                match next {
                    Some(Next::Again(message, delay)) => {
                        (self.watch.observe)(&WatchNotice::Failed {
                            channel: &name,
                            reason: &reason,
                            delay,
                        });
                        vec![KeptChange::Put(message.kept())]
                    }
                    Some(Next::GivenUp(message)) => {
                        self.give_up(index, &reason);
                        vec![forget_message(&message)]
                    }
                    None => Vec::new(),
                }
            }
            Handover::Closed { reason } => {
                line.is_closed = true;
                let mut changes: Vec<KeptChange> =
                    line.queue.close().iter().map(forget_message).collect();
                changes.push(KeptChange::Put(Kept {
                    kind: KeptKind::Channel,
                    name: line.identity.clone(),
                    body: now.as_micros().to_string(),
                }));
                (self.watch.observe)(&WatchNotice::Closed {
                    channel: &name,
                    reason: &reason,
                });
                changes
            }
        }
    }

    fn give_up(&mut self, index: usize, reason: &str) {
        let Some(line) = self.lines.get(index) else {
            return;
        };
        let channel = line.channel.name();
        let stats = self.stats.channels.entry(channel.to_owned()).or_default();
        stats.given_up += 1;
        (self.watch.observe)(&WatchNotice::GivenUp { channel, reason });
    }

    /// Keeps changes, again and again until it is done or the watcher is to stop: then it answers false.
    async fn keep(&mut self, changes: &[KeptChange], stopped: &mut watch::Receiver<bool>) -> bool {
        if changes.is_empty() {
            return true;
        }
        let mut delay = ALERT_RETRY_FIRST;
        loop {
            let store = Arc::clone(&self.watch.store);
            let reason = match store.keep(&self.watch.options.watcher, changes).await {
                Ok(()) => return true,
                Err(error) => error.to_string(),
            };
            (self.watch.observe)(&WatchNotice::StoreFailed {
                reason: &reason,
                delay,
            });
            self.stats.trouble = Some(reason);
            self.tell();
            tokio::select! {
                () = self.watch.clock.sleep(delay) => {}
                () = asked_to_stop(stopped) => return false,
            }
            delay = (delay * 2).min(ALERT_LOOK_TIMEOUT);
        }
    }

    /// Tells the figures to whoever asks.
    fn tell(&mut self) {
        self.stats.firing = self.book.len();
        for line in &self.lines {
            let name = line.channel.name().to_owned();
            let stats = self.stats.channels.entry(name).or_default();
            stats.waiting = line.queue.len();
            stats.closed = line.is_closed;
        }
        let stats = &self.stats;
        self.told.send_if_modified(|told| {
            let has_changed = told != stats;
            if has_changed {
                told.clone_from(stats);
            }
            has_changed
        });
    }
}

/// Puts a message that was kept to its channel; nothing if that is not there any more.
fn to_line(lines: &mut [Line], body: &str) -> Option<()> {
    let message: Waiting = serde_json::from_str(body).ok()?;
    let line = lines
        .iter_mut()
        .find(|line| line.identity == message.channel)?;
    // No more than fit were kept.
    let _ = line.queue.push(message);
    Some(())
}

fn forget_message(message: &Waiting) -> KeptChange {
    KeptChange::Forget {
        kind: KeptKind::Message,
        name: message.name(),
    }
}

fn forget_fact(fact: tidings_core::DedupeKey) -> KeptChange {
    KeptChange::Forget {
        kind: KeptKind::Fact,
        name: subject::hex_of(fact),
    }
}

/// Ends when the watcher is asked to stop, or nobody can ask it any more.
async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    // It fails only where whoever may ask is gone.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// The future, or one that never ends.
async fn pending<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

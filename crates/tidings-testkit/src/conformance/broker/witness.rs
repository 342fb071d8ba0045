//! Sees handlers start and end where they run: the order of each key, overlaps, and how many run at once.

use super::ground::{IDLE_MAX, number_of};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidings_core::extract::HandlerContext;
use tidings_core::seam::Clock as _;
use tidings_core::{BoxFuture, Envelope, Pattern};
use tidings_flow::handler::{DeliveryHandler, HandlerResult};
use tidings_flow::runtime::SystemClock;
use tokio::sync::Notify;

/// What a test lets a handler do.
pub(super) type Act =
    Arc<dyn Fn(HandlerContext) -> BoxFuture<'static, HandlerResult> + Send + Sync>;

/// What handlers did, of all instances of a property.
#[derive(Default)]
pub(super) struct Witness {
    /// Guards what was seen; held for a look or a push, never across an await.
    seen: Mutex<Seen>,
    changed: Notify,
    clock: SystemClock,
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct Seen {
    /// Every handling in the order in which they began.
    pub(super) begun: Vec<Handling>,
    /// Every handling that came to its end, in the order in which they ended.
    pub(super) ended: Vec<Ended>,
    /// Handlings that ended with success, by event, with how often.
    pub(super) done: BTreeMap<String, usize>,
    /// Handlings that were dropped before they ended.
    pub(super) cancelled: usize,
    /// Handlings that run now, by key.
    running: BTreeMap<String, usize>,
    /// So many ran at once.
    pub(super) running_max: usize,
    /// Two handlings of one key at once.
    pub(super) overlaps: Vec<String>,
}

/// One handling.
#[derive(Debug, Clone)]
pub(super) struct Handling {
    pub(super) attempt: u32,
    pub(super) envelope: Envelope,
    /// When it began, by the clock of the witness.
    pub(super) at: Duration,
}

/// The end of a handling.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) event_id: String,
    /// When, by the clock of the witness.
    pub(super) at: Duration,
    pub(super) success: bool,
}

impl Seen {
    /// How many different events were handled.
    pub(super) fn handled(&self) -> usize {
        self.done.len()
    }

    pub(super) fn running(&self) -> usize {
        self.running.values().sum()
    }

    /// The handlings of one event, as they began.
    pub(super) fn attempts_at(&self, event: &Envelope) -> Vec<&Handling> {
        let of_event = |it: &&Handling| it.envelope.event_id() == event.event_id();
        self.begun.iter().filter(of_event).collect()
    }

    /// When the handlings of one event ended, each with whether it succeeded.
    pub(super) fn ends_of(&self, event: &Envelope) -> Vec<(Duration, bool)> {
        let ended = self.ended.iter();
        let of_event = ended.filter(|it| it.event_id == event.event_id());
        of_event.map(|it| (it.at, it.success)).collect()
    }
}

impl Witness {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handler that tells this witness.
    pub(super) fn handler(self: &Arc<Self>, pattern: Pattern, act: Act) -> Arc<WitnessHandler> {
        Arc::new(WitnessHandler {
            name: "witness",
            patterns: vec![pattern],
            witness: Arc::clone(self),
            act,
        })
    }

    /// The same, where a server may need so long to come back.
    pub(super) async fn until_handled_patiently(&self, count: usize, patience: Duration) {
        let what = format!("{count} events to be handled");
        self.wait(&what, patience, |seen| seen.handled() >= count)
            .await;
    }

    /// Waits until it is so, as long as anything goes on.
    pub(super) async fn until(&self, what: &str, done: impl Fn(&Seen) -> bool) {
        self.wait(what, IDLE_MAX, done).await;
    }

    async fn wait(&self, what: &str, patience: Duration, done: impl Fn(&Seen) -> bool) {
        loop {
            let changed = self.changed.notified();
            if done(&self.seen()) {
                return;
            }
            if tokio::time::timeout(patience, changed).await.is_err() {
                let seen = self.seen();
                panic!(
                    "waiting for {what}: nothing happened for {patience:?}; begun {}, handled {}, running {}",
                    seen.begun.len(),
                    seen.handled(),
                    seen.running()
                );
            }
        }
    }

    /// Waits until so many different events were handled.
    pub(super) async fn until_handled(&self, count: usize) {
        let what = format!("{count} events to be handled");
        self.until(&what, |seen| seen.handled() >= count).await;
    }

    pub(super) fn enter(self: &Arc<Self>, context: &HandlerContext) -> Inside {
        let key = context.envelope.key().unwrap_or_default().into_owned();
        let mut seen = self.seen();
        let of_key = seen.running.entry(key.clone()).or_default();
        *of_key += 1;
        if *of_key > 1 && !key.is_empty() {
            let id = context.envelope.event_id();
            seen.overlaps
                .push(format!("{id} began while another of its key ran"));
        }
        seen.running_max = seen.running_max.max(seen.running());
        seen.begun.push(Handling {
            attempt: context.attempt,
            envelope: context.envelope.clone(),
            at: self.clock.elapsed(),
        });
        drop(seen);
        self.changed.notify_waiters();
        Inside {
            witness: Arc::clone(self),
            key,
            event_id: context.envelope.event_id().to_owned(),
            ended: None,
        }
    }
}

/// Tells when a handling ends, whatever way.
pub(super) struct Inside {
    witness: Arc<Witness>,
    key: String,
    event_id: String,
    /// Whether it succeeded, if it came to its end.
    ended: Option<bool>,
}

impl Inside {
    /// The handling came to its end.
    pub(super) fn end(&mut self, success: bool) {
        self.ended = Some(success);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut seen = self.witness.seen();
        if let Some(running) = seen.running.get_mut(&self.key) {
            *running -= 1;
        }
        if let Some(success) = self.ended {
            seen.ended.push(Ended {
                event_id: self.event_id.clone(),
                at: self.witness.clock.elapsed(),
                success,
            });
        }
        match self.ended {
            Some(true) => *seen.done.entry(self.event_id.clone()).or_default() += 1,
            Some(false) => {}
            None => seen.cancelled += 1,
        }
        drop(seen);
        self.witness.changed.notify_waiters();
    }
}

/// A handler whose every call is seen.
pub(super) struct WitnessHandler {
    pub(super) name: &'static str,
    patterns: Vec<Pattern>,
    witness: Arc<Witness>,
    act: Act,
}

impl DeliveryHandler for WitnessHandler {
    fn name(&self) -> &str {
        self.name
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        let mut inside = self.witness.enter(&context);
        let acting = (self.act)(context);
        Box::pin(async move {
            let result = acting.await;
            inside.end(result.is_ok());
            result
        })
    }
}

/// A handler that is content with everything.
pub(super) fn content() -> Act {
    Arc::new(|_| Box::pin(std::future::ready(Ok(()))))
}

/// A handler that lets other tasks run in between, so that an overlap has a chance to show.
pub(super) fn yielding() -> Act {
    Arc::new(|_| {
        Box::pin(async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            Ok(())
        })
    })
}

/// No two handlings of a key ran at once.
pub(super) fn assert_no_overlap(seen: &Seen) {
    assert!(
        seen.overlaps.is_empty(),
        "{} overlaps: {:?}",
        seen.overlaps.len(),
        &seen.overlaps[..seen.overlaps.len().min(3)]
    );
}

/// No event of a key was begun before the ones published before it of that key had succeeded, those apart that were given up.
pub(super) fn assert_effects_in_order(seen: &Seen, published: &[Envelope], given_up: &[&str]) {
    let mut succeeded: BTreeMap<&str, Duration> = BTreeMap::new();
    for end in seen.ended.iter().filter(|it| it.success) {
        succeeded.entry(&end.event_id).or_insert(end.at);
    }
    for (index, later) in published.iter().enumerate() {
        let Some(began) = seen.attempts_at(later).first().map(|first| first.at) else {
            continue;
        };
        let before = published[..index].iter().rev();
        let before = before
            .filter(|it| it.key() == later.key() && !given_up.contains(&it.event_id()))
            .find(|it| succeeded.get(it.event_id()).is_none_or(|at| *at > began));
        let Some(before) = before else { continue };
        panic!(
            "{} was begun before {} had succeeded; of their key:\n{}",
            later.event_id(),
            before.event_id(),
            story_between(seen, before, later)
        );
    }
}

/// What was seen of a key from the first attempt at one event on until another one was handled, for whoever looks into it.
fn story_between(seen: &Seen, first: &Envelope, last: &Envelope) -> String {
    let of_key = |id: &str| {
        let of_event = |it: &&Handling| it.envelope.event_id() == id;
        let begun = seen.begun.iter().find(of_event);
        begun.is_some_and(|it| it.envelope.key() == first.key())
    };
    let begun = seen.begun.iter().map(|it| {
        let (id, attempt) = (it.envelope.event_id(), it.attempt);
        (it.at, id, format!("attempt {attempt} at {id}"))
    });
    let ended = seen.ended.iter().map(|it| {
        let how = if it.success { "handled" } else { "failed" };
        let id = it.event_id.as_str();
        (it.at, id, format!("{id} {how}"))
    });
    let from = seen.attempts_at(first).first().map(|it| it.at);
    let until = seen.ends_of(last).last().map(|(at, _)| *at);
    let is_between =
        |at| from.is_none_or(|from| at >= from) && until.is_none_or(|until| at <= until);
    let mut lines: Vec<_> = begun.chain(ended).collect();
    lines.retain(|(at, id, _)| is_between(*at) && of_key(id));
    lines.sort();
    let lines = lines.into_iter();
    let lines: Vec<String> = lines
        .map(|(at, _, what)| format!("{at:?}: {what}"))
        .collect();
    lines.join("\n")
}

/// Per key, events were begun for the first time in the order in which they were published.
pub(super) fn assert_order(begun: &[Handling]) {
    let mut first_seen = BTreeSet::new();
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for handling in begun {
        let key = handling.envelope.key().unwrap_or_default().into_owned();
        let number = number_of(&handling.envelope);
        if !first_seen.insert(handling.envelope.event_id().to_owned()) {
            continue;
        }
        if let Some(before) = last.insert(key.clone(), number) {
            assert!(
                before < number,
                "of the key {key} the event {number} was begun after {before} (attempt {})",
                handling.attempt
            );
        }
    }
}

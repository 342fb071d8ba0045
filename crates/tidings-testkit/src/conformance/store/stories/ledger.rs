//! What was published, what took effect and what was tried, in a story: the plain model, and what it is held against.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidings_core::Envelope;

/// Clones are the same ledger; it outlives every process.
#[derive(Clone, Default)]
pub(super) struct Ledger {
    /// Guards the pages; held for a look or a push.
    pages: Arc<Mutex<Pages>>,
}

#[derive(Default)]
struct Pages {
    /// The events of each key in the order of their publication.
    published: BTreeMap<String, Vec<String>>,
    /// The effects of each key in their order.
    effects: BTreeMap<String, Vec<String>>,
    /// Which process is at work, from 1.
    process: u32,
    /// The attempt that began last at each event, and in which process.
    tried: BTreeMap<String, (u32, u32)>,
    /// Attempts that began.
    begun: usize,
    /// Attempts that are counted wrongly.
    wrong: Vec<String>,
}

impl Ledger {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn published(&self, event: &Envelope) {
        let (key, id) = names(event);
        self.pages().published.entry(key).or_default().push(id);
    }

    pub(super) fn next_process(&self) {
        self.pages().process += 1;
    }

    pub(super) fn has_effect(&self, event: &Envelope) -> bool {
        let (key, id) = names(event);
        let pages = self.pages();
        pages.effects.get(&key).is_some_and(|it| it.contains(&id))
    }

    pub(super) fn take_effect(&self, event: &Envelope) {
        let (key, id) = names(event);
        self.pages().effects.entry(key).or_default().push(id);
    }

    /// An attempt begins: never with a smaller number than the one before, and with the same only if that one's process has ended.
    pub(super) fn begin(&self, event: &Envelope, attempt: u32) {
        let (_, id) = names(event);
        let mut pages = self.pages();
        pages.begun += 1;
        let process = pages.process;
        let before = pages.tried.insert(id.clone(), (attempt, process));
        let Some((last, by)) = before else { return };
        if attempt < last || (attempt == last && by == process) {
            let wrong = format!(
                "{id} was at attempt {last} in process {by} and then at {attempt} in process {process}"
            );
            pages.wrong.push(wrong);
        }
    }

    /// A person hands an event back: its attempts begin anew.
    pub(super) fn handed_back(&self, event_id: &str) {
        self.pages().tried.remove(event_id);
    }

    pub(super) fn begun(&self) -> usize {
        self.pages().begun
    }

    /// Whether every event that was not discarded has its effect.
    pub(super) fn is_complete(&self, discarded: &BTreeSet<String>) -> bool {
        let pages = self.pages();
        pages.published.iter().all(|(key, published)| {
            let effects = pages.effects.get(key);
            let mut wanted = published.iter().filter(|id| !discarded.contains(*id));
            wanted.all(|id| effects.is_some_and(|it| it.contains(id)))
        })
    }

    pub(super) fn check(&self, seed: u64, discarded: &BTreeSet<String>) {
        let pages = self.pages();
        for (key, published) in &pages.published {
            let effects = pages.effects.get(key).cloned().unwrap_or_default();
            let kept = |ids: &[String]| -> Vec<String> {
                let kept = ids.iter().filter(|id| !discarded.contains(*id));
                kept.cloned().collect()
            };
            assert_eq!(
                kept(&effects),
                kept(published),
                "seed {seed}: effects of {key} beside what was published; discarded: {discarded:?}"
            );
        }
        assert!(pages.wrong.is_empty(), "seed {seed}: {:?}", pages.wrong);
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = self.pages();
        write!(
            f,
            "published {:?}, effects {:?}",
            pages.published, pages.effects
        )
    }
}

fn names(event: &Envelope) -> (String, String) {
    let key = event.key().unwrap_or_default().into_owned();
    (key, event.event_id().to_owned())
}

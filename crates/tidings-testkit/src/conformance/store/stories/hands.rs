//! What a person does in a story, and the clock of its processes.

use super::ledger::Ledger;
use super::mortal::Dice;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::seam::Clock;
use tidings_core::store::{
    DeadLetterStore, Letter, LetterFilter, LetterStatus, Operator, WaitingFilter,
};
use tidings_core::{BoxFuture, Timestamp};
use tidings_flow::dead_letter::{RedriveOptions, discard, redrive};
use tidings_flow::runtime::{SystemChance, SystemClock};

/// More letters and rows than any story has.
const ROWS_MAX: u32 = 1_000;

/// The person, with a connection that lives as long as the story.
pub(super) struct Person {
    group: String,
    letters: Arc<dyn DeadLetterStore>,
    /// Events that were given up for good.
    pub(super) discarded: BTreeSet<String>,
}

impl Person {
    pub(super) fn new(group: &str, letters: Arc<dyn DeadLetterStore>) -> Self {
        Self {
            group: group.to_owned(),
            letters,
            discarded: BTreeSet::new(),
        }
    }

    /// Hands back whatever is open.
    pub(super) async fn redrives(&mut self, ledger: &Ledger) {
        let open = self.open().await;
        if open.is_empty() {
            return;
        }
        let ids: Vec<String> = open.iter().map(event_id).collect();
        for id in &ids {
            ledger.handed_back(id);
        }
        let (clock, filter) = (SystemClock::new(), self.those(ids));
        let options = RedriveOptions {
            redrives_max: u32::MAX,
            ..RedriveOptions::default()
        };
        let (operator, mut progress) = (operator(), |_| {});
        let seams = (&clock as &dyn Clock, &SystemChance as _);
        let done = redrive(
            &*self.letters,
            &filter,
            &options,
            &operator,
            seams,
            &mut progress,
        );
        assert_eq!(done.await.unwrap().redriven, open.len() as u64);
    }

    /// Gives one of those that are open up for good.
    pub(super) async fn discards_one(&mut self, dice: &mut Dice) {
        let open = self.open().await;
        if open.is_empty() {
            return;
        }
        let id = event_id(&open[dice.roll(open.len())]);
        let filter = self.those(vec![id.clone()]);
        let clock = SystemClock::new();
        let done = discard(&*self.letters, &filter, false, &operator(), &clock).await;
        assert_eq!(done.unwrap().discarded, 1);
        self.discarded.insert(id);
    }

    /// Whether nothing of the group is parked or open.
    pub(super) async fn has_nothing_left(&self) -> bool {
        let filter = WaitingFilter {
            group: Some(self.group.clone()),
            ..WaitingFilter::default()
        };
        let waiting = self.letters.waiting(&filter, 0, ROWS_MAX).await.unwrap();
        waiting.is_empty() && self.open().await.is_empty()
    }

    /// Every letter has come to an end: its event was handled, or discarded.
    pub(super) async fn check(&self, seed: u64) {
        for letter in self.letters_of(Vec::new()).await {
            let id = event_id(&letter);
            let expected = match self.discarded.contains(&id) {
                true => LetterStatus::Discarded,
                false => LetterStatus::Resolved,
            };
            assert_eq!(letter.status, expected, "seed {seed}: the letter of {id}");
        }
    }

    async fn open(&self) -> Vec<Letter> {
        self.letters_of(vec![LetterStatus::Open]).await
    }

    async fn letters_of(&self, statuses: Vec<LetterStatus>) -> Vec<Letter> {
        let filter = LetterFilter {
            group: Some(self.group.clone()),
            statuses,
            ..LetterFilter::default()
        };
        self.letters
            .letters(&filter, i64::MIN, ROWS_MAX)
            .await
            .unwrap()
    }

    fn those(&self, ids: Vec<String>) -> LetterFilter {
        LetterFilter {
            ids,
            group: Some(self.group.clone()),
            ..LetterFilter::default()
        }
    }
}

fn event_id(letter: &Letter) -> String {
    letter.envelope.event_id().to_owned()
}

fn operator() -> Operator {
    Operator {
        actor: "anna@desk".to_owned(),
        reason: "INC-4711".to_owned(),
    }
}

/// A clock that runs twenty times as fast, so that the pauses between looks at a store pass quickly.
pub(super) fn quick_clock() -> Arc<dyn Clock> {
    Arc::new(QuickClock(SystemClock::new()))
}

const FACTOR: u32 = 20;

struct QuickClock(SystemClock);

impl Clock for QuickClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed() * FACTOR
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration / FACTOR)
    }
}

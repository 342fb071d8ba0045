//! What a property has besides a broker: a store of what its groups could not handle, the hands of a person on it, and the relay of its outbox.

use super::fixture::{Sharing, Stores};
use super::ground::{END_MAX, Ground, declared};
use super::report::Verdict;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{Broker, Destination, GroupName};
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::{
    LaneId, Letter, LetterFilter, Operator, ParkedDelivery, StoreError, WaitingFilter,
};
use tidings_flow::dead_letter::{RedriveOptions, RedriveReport, discard, redrive};
use tidings_flow::outbox::{Relay, RelayOptions, RunningRelay};
use tidings_flow::runtime::{SystemChance, SystemClock};

/// How often the store is asked whether it is so far.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Rows and letters read at once: more than any property makes.
const ROWS_MAX: u32 = 1_000;

/// The store of one property.
pub(super) struct Store {
    pub(super) address: String,
    pub(super) stores: Stores,
    patience: Duration,
}

impl Store {
    /// A fresh one; where the fixture has none, that is declared.
    pub(super) async fn fresh(
        ground: &Ground,
        property: &str,
        sharing: Sharing,
    ) -> Result<Self, Verdict> {
        let made = ground.fixture.fresh_stores(property, sharing).await;
        let address = made.map_err(|reason| declared(&reason))?;
        Ok(Self::open(ground, &address).await)
    }

    /// One that was made before, maybe by another process.
    pub(super) async fn open(ground: &Ground, address: &str) -> Self {
        Self {
            stores: ground.fixture.open_stores(address).await,
            address: address.to_owned(),
            patience: ground.traits.idle_max * 2,
        }
    }

    /// What of a key is parked for a group, oldest first.
    pub(super) async fn rows(&self, group: &GroupName, key: &str) -> Vec<ParkedDelivery> {
        let lane = LaneId::of_key(key);
        answered(
            self.stores
                .failures
                .rows(group.as_str(), lane, ROWS_MAX)
                .await,
        )
    }

    /// Waits until so many events of a key are parked, as long as anything goes on.
    pub(super) async fn until_parked(&self, group: &GroupName, key: &str, count: usize) {
        let clock = SystemClock::new();
        let (mut found, mut since) = (usize::MAX, Duration::ZERO);
        loop {
            let rows = self.rows(group, key).await.len();
            if rows == count {
                return;
            }
            if rows != found {
                (found, since) = (rows, clock.elapsed());
            }
            assert!(
                clock.elapsed() - since < self.patience,
                "{found} events of {key} are parked for {group} in place of {count}"
            );
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The dead letters of a group.
    pub(super) async fn letters(&self, group: &GroupName) -> Vec<Letter> {
        let filter = of_group(group);
        answered(
            self.stores
                .letters
                .letters(&filter, i64::MIN, ROWS_MAX)
                .await,
        )
    }

    /// Waits for the dead letter of a group to be so.
    pub(super) async fn until_letter(
        &self,
        group: &GroupName,
        what: &str,
        is_so: impl Fn(&Letter) -> bool,
    ) -> Letter {
        let clock = SystemClock::new();
        loop {
            let letters = self.letters(group).await;
            assert!(letters.len() <= 1, "more than one dead letter: {letters:?}");
            if let Some(letter) = letters.into_iter().find(|letter| is_so(letter)) {
                return letter;
            }
            assert!(
                clock.elapsed() < self.patience,
                "no dead letter of {group} is {what}"
            );
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Hands the dead letters of a group back to it.
    pub(super) async fn redrive(
        &self,
        group: &GroupName,
        options: &RedriveOptions,
    ) -> RedriveReport {
        let clock = SystemClock::new();
        let (filter, operator) = (of_group(group), operator());
        let mut progress = |_| {};
        let seams = (&clock as &dyn Clock, &SystemChance as &dyn Chance);
        let letters = &*self.stores.letters;
        let done = redrive(letters, &filter, options, &operator, seams, &mut progress);
        answered(done.await)
    }

    /// Gives the dead letters of a group up for good; answers how many.
    pub(super) async fn discard(&self, group: &GroupName) -> u64 {
        let clock = SystemClock::new();
        let (filter, operator) = (of_group(group), operator());
        let done = discard(&*self.stores.letters, &filter, false, &operator, &clock);
        answered(done.await).discarded
    }

    /// Lets what waits for its time be tried at once; answers how many.
    pub(super) async fn retry_now(&self, group: &GroupName) -> u64 {
        let filter = WaitingFilter {
            group: Some(group.to_string()),
            due_only: true,
            ..WaitingFilter::default()
        };
        answered(self.stores.letters.retry_now(&filter, &operator()).await)
    }

    /// Carries what is in the outbox to the broker.
    pub(super) fn relay(&self, broker: &Arc<dyn Broker>) -> RunningRelay {
        let destination: Arc<dyn Destination> = Arc::new(Arc::clone(broker));
        let options = RelayOptions {
            poll_idle: LOOK_INTERVAL,
            ..RelayOptions::default()
        };
        Relay::new(
            Arc::clone(&self.stores.outbox),
            destination,
            Arc::new(SystemClock::new()),
            Arc::new(SystemChance),
            options,
        )
        .start()
    }
}

/// Stops a relay; what it has on its way must end in time.
pub(super) async fn drain_relay(relay: RunningRelay) {
    let drained = relay.drain(END_MAX).await;
    drained.unwrap_or_else(|error| panic!("the relay does not end: {error}"));
}

fn of_group(group: &GroupName) -> LetterFilter {
    LetterFilter {
        group: Some(group.to_string()),
        ..LetterFilter::default()
    }
}

fn operator() -> Operator {
    Operator {
        actor: "conformance".to_owned(),
        reason: "looked at".to_owned(),
    }
}

/// The answer of a store that is there all the time.
pub(super) fn answered<T>(answer: Result<T, StoreError>) -> T {
    answer.unwrap_or_else(|error| panic!("the store does not answer: {error}"))
}

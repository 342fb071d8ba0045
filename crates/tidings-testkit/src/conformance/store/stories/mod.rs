//! Whole stories of a group over a real store, against a plain model: the sequence in which the events of each key were published. Handlers fail by chance, the store loses answers, a person hands dead
//! letters back and discards some, and time and again everything that works is dropped without a word, before or after any change of the store and any effect, and opened anew.
//!
//! In the end each key has its effects once and in its order, discarded events aside; nothing is left; and no attempt was counted less than before, unless a person handed the event back. The broker is
//! in memory, and so is the inbox, which takes an event together with its effect.

mod hands;
mod ledger;
mod mortal;

use self::hands::{Person, quick_clock};
use self::ledger::Ledger;
use self::mortal::{Dice, Fate, MortalStore};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{Broker, BrokerError, GroupName};
use tidings_core::extract::HandlerContext;
use tidings_core::store::{DeadLetterStore, FailureStore};
use tidings_core::{BoxFuture, Envelope, Pattern};
use tidings_flow::consumer::{
    Backoff, Consumer, ConsumerConfig, ConsumerError, OnFailure, RunningConsumer,
};
use tidings_flow::handler::{DeliveryHandler, HandlerResult};
use tidings_flow::runtime::{SystemChance, SystemClock};

use crate::MemoryBroker;

/// Keys of a story, and events of all of them.
const KEYS: usize = 3;
const EVENTS: usize = 18;
/// Times that everything that works is dropped in a story.
pub const KILLS_OF_A_STORY: u64 = 6;
/// How often a person looks, and how often he looks at most before he ends a process that does not come to its end.
const LOOK_INTERVAL: Duration = Duration::from_millis(4);
const LOOKS_MAX: u32 = 40;
/// How long nothing may change before a story counts as stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// A store as a process opens it.
pub struct Opened {
    /// As a consumer has it.
    pub failures: Arc<dyn FailureStore>,
    /// As a person has it.
    pub letters: Arc<dyn DeadLetterStore>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("name", &self.letters.name())
            .finish_non_exhaustive()
    }
}

/// Opens the same store once more, with connections of its own.
pub type Open = Arc<dyn Fn() -> BoxFuture<'static, Opened> + Send + Sync>;

/// Tells the stories of these seeds at the same time, each in a group of its own.
///
/// # Panics
/// With the seed of a story that does not end as it must.
pub async fn failure_stories(open: Open, seeds: std::ops::Range<u64>) {
    let mut stories = tokio::task::JoinSet::new();
    for seed in seeds {
        stories.spawn(tell(Arc::clone(&open), seed));
    }
    while let Some(told) = stories.join_next().await {
        if let Err(error) = told {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

struct Story {
    seed: u64,
    group: GroupName,
    broker: MemoryBroker,
    open: Open,
    ledger: Ledger,
}

async fn tell(open: Open, seed: u64) {
    let story = Story {
        seed,
        group: format!("story-{seed}").parse().unwrap(),
        broker: MemoryBroker::new(Arc::new(SystemClock::new())),
        open,
        ledger: Ledger::default(),
    };
    let mut dice = Dice::of(seed);
    let mut person = Person::new(story.group.as_str(), (story.open)().await.letters);
    let mut published = 0;
    for _ in 0..KILLS_OF_A_STORY {
        published = story.publish(published, 1 + dice.roll(5)).await;
        let fate = Fate::after(1 + dice.roll(60));
        story.live(&fate, &mut person, &mut dice).await;
    }
    story.publish(published, EVENTS).await;
    story.come_to_the_end(&mut person).await;

    story.ledger.check(seed, &person.discarded);
    person.check(seed).await;
}

impl Story {
    /// Publishes so many more; answers how many there are then.
    async fn publish(&self, from: usize, more: usize) -> usize {
        let to = (from + more).min(EVENTS);
        let events: Vec<Envelope> = (from..to).map(event).collect();
        for (event, outcome) in events.iter().zip(self.broker.publish(&events).await) {
            outcome.unwrap();
            self.ledger.published(event);
        }
        to
    }

    /// Works until its fate ends it, or a person is tired of looking. Then all is dropped where it stands.
    async fn live(&self, fate: &Arc<Fate>, person: &mut Person, dice: &mut Dice) {
        self.ledger.next_process();
        let opened = (self.open)().await;
        let chance = Dice::of(self.seed ^ (dice.roll(1 << 30) as u64));
        let store = MortalStore::new(opened.failures, Arc::clone(fate), Some(chance));
        let consumer = self.start(Arc::new(store), fate, true).await;
        for _ in 0..LOOKS_MAX {
            tokio::select! {
                () = fate.came() => break,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            match dice.roll(12) {
                0 | 1 => person.redrives(&self.ledger).await,
                2 => person.discards_one(dice).await,
                _ => {}
            }
        }
        fate.come();
        drop(consumer);
    }

    /// Nothing fails any more, and a person hands back what was given up.
    async fn come_to_the_end(&self, person: &mut Person) {
        self.ledger.next_process();
        let opened = (self.open)().await;
        let fate = Fate::never();
        let store = MortalStore::new(opened.failures, Arc::clone(&fate), None);
        let consumer = self.start(Arc::new(store), &fate, false).await;
        let mut unchanged = Duration::ZERO;
        let mut before = 0;
        while !(self.ledger.is_complete(&person.discarded) && person.has_nothing_left().await) {
            person.redrives(&self.ledger).await;
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = self.ledger.begun();
            unchanged = if now == before {
                unchanged + LOOK_INTERVAL
            } else {
                Duration::ZERO
            };
            before = now;
            assert!(
                unchanged < PATIENCE,
                "seed {}: events are lost: {}",
                self.seed,
                self.ledger
            );
        }
        let idle = tokio::time::timeout(PATIENCE, consumer.wait_idle()).await;
        idle.unwrap_or_else(|_| panic!("seed {}: the group does not come to rest", self.seed))
            .unwrap();
        // A lane of which nobody knows whether it is empty is looked at once more.
        let free = async {
            loop {
                let stats = consumer.stats();
                if (stats.parked, stats.parked_keys, stats.in_flight) == (0, 0, 0) {
                    return;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let free = tokio::time::timeout(PATIENCE, free).await;
        free.unwrap_or_else(|_| panic!("seed {}: the group holds a key", self.seed));
        consumer.drain(PATIENCE).await.unwrap();
    }

    /// Starts a consumer; the one before may not be gone altogether.
    async fn start(
        &self,
        store: Arc<MortalStore>,
        fate: &Arc<Fate>,
        fails: bool,
    ) -> RunningConsumer {
        let handler = Arc::new(StoryHandler {
            patterns: vec![Pattern::everything()],
            ledger: self.ledger.clone(),
            fate: Arc::clone(fate),
            fails: fails.then_some(self.seed),
        });
        let config = ConsumerConfig {
            parallel: 3,
            attempts: 2,
            later: vec![Duration::from_millis(10), Duration::from_millis(30)],
            on_failure: Some(OnFailure::Hold),
            single_instance: true,
            backoff: Backoff {
                first: Duration::from_millis(20),
                max: Duration::from_millis(80),
                jitter_percent: 50,
            },
            ..ConsumerConfig::default()
        };
        loop {
            let store = Arc::clone(&store) as Arc<dyn FailureStore>;
            let starting = Consumer::builder(Arc::new(self.broker.clone()), self.group.clone())
                .clock(quick_clock())
                .chance(Arc::new(SystemChance))
                .config(config.clone())
                .handler(Arc::clone(&handler) as _)
                .failures(store)
                .start();
            match starting.await {
                Ok(consumer) => return consumer,
                Err(ConsumerError::Broker(BrokerError::GroupLeased { .. })) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("seed {}: the group does not start: {error}", self.seed),
            }
        }
    }
}

fn event(number: usize) -> Envelope {
    let line = format!(
        r#"{{"event_id":"evt-{number}","event_type":"order.placed","aggregate_id":"k{}","payload":{{}}}}"#,
        number % KEYS
    );
    Envelope::from_json(line).unwrap()
}

/// Has an effect once for each event, and fails as the dice say, the same in every run.
struct StoryHandler {
    patterns: Vec<Pattern>,
    ledger: Ledger,
    fate: Arc<Fate>,
    /// The seed by which it fails, if it does.
    fails: Option<u64>,
}

impl StoryHandler {
    fn outcome(&self, context: &HandlerContext) -> HandlerResult {
        let Some(seed) = self.fails else {
            return Ok(());
        };
        let mut dice = Dice::of_attempt(seed, context.envelope.event_id(), context.attempt);
        mortal::outcome(&mut dice, context.envelope.event_id())
    }
}

impl DeliveryHandler for StoryHandler {
    fn name(&self) -> &str {
        "story"
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        let (ledger, fate, outcome) = (
            self.ledger.clone(),
            Arc::clone(&self.fate),
            self.outcome(&context),
        );
        Box::pin(async move {
            if ledger.has_effect(&context.envelope) {
                return Ok(());
            }
            ledger.begin(&context.envelope, context.attempt);
            fate.step().await;
            outcome?;
            ledger.take_effect(&context.envelope);
            fate.step().await;
            Ok(())
        })
    }
}

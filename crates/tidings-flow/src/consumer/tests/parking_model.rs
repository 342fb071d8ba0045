//! A group with a store against a plain model, the published sequence of each key: random failures, kills of the consumer at any step, events handed back by a person. Whatever happens, each
//! key has its effects once and in its order, and no attempt is counted twice or forgotten. A failure prints its seed.

use super::*;
use crate::fakes::database::FakeDatabase;
use crate::fakes::failures::FakeFailures;
use std::collections::HashMap;
use tidings_core::store::StoreError;

const KEYS: usize = 3;
const EVENTS: usize = 18;

/// Repeats for a seed, and looks random enough.
#[derive(Clone, Copy)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// What a handling of an event at an attempt comes to, the same in every run.
    fn of(seed: u64, id: &str, attempt: u32) -> Self {
        let mut dice = Self(seed ^ (u64::from(attempt) << 32));
        for byte in id.bytes() {
            dice.0 = dice.0.wrapping_add(u64::from(byte));
            dice.roll(2);
        }
        dice
    }
}

/// One story: what survives the kills.
struct Story {
    seed: u64,
    stage: Stage,
    store: FakeFailures,
    database: FakeDatabase,
    /// Attempts that began, by event.
    begun: Seen,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut broker = FakeBroker::new();
        broker.yields = true;
        broker.eager_cursor = seed.is_multiple_of(3);
        let mut stage = Stage::on(broker);
        stage.config.parallel = 3;
        stage.config.attempts = 2;
        stage.config.later = vec![Duration::from_millis(400), Duration::from_millis(900)];
        let mut store = FakeFailures::new(&stage.clock);
        store.yields = true;
        let mut database = FakeDatabase::default();
        database.yields = true;
        Self {
            seed,
            stage,
            store,
            database,
            begun: Seen::default(),
        }
    }

    /// A consumer whose handlings fail as the dice say, or never.
    async fn start(&self, fails: bool) -> RunningConsumer {
        let (seed, begun, database) = (self.seed, self.begun.clone(), self.database.clone());
        let handler = TestHandler::of("**", move |context| {
            let (begun, database) = (begun.clone(), database.clone());
            async move {
                let mut tx = database.begin(&context).await?;
                let id = context.envelope.event_id();
                begun.note(format!("{id} {}", context.attempt));
                tx.write(&format!(
                    "{} {id}",
                    context.envelope.aggregate_id().unwrap()
                ));
                tokio::task::yield_now().await;
                match Dice::of(seed, id, context.attempt).roll(10) {
                    0..=3 if fails => Err(HandlerError::transient_message(format!("no {id}"))),
                    4 if fails => Err(HandlerError::permanent_message(format!("never {id}"))),
                    _ => Ok(()),
                }
            }
        })
        .transactional();
        let builder = self.stage.builder("group").handler(Arc::new(handler));
        let store = Arc::new(self.store.clone());
        builder.failures(store).start().await.unwrap()
    }

    fn publish(&self, from: usize, to: usize) {
        let events = (from..to).map(|number| {
            let key = format!("k{}", number % KEYS);
            event("a.b", Some(&key), number)
        });
        self.stage.broker.append(events);
    }

    /// Runs for so many steps, with a fault of the store now and then.
    async fn run(&self, steps: u64, dice: &mut Dice) {
        for _ in 0..steps {
            tokio::task::yield_now().await;
            if dice.roll(4) == 0 {
                self.stage.clock.advance(Duration::from_millis(15));
            }
            if dice.roll(60) == 0 {
                let lost = StoreError::Ambiguous {
                    database: "fake".to_owned(),
                    reason: "connection reset".to_owned(),
                };
                let applied = dice.roll(2) == 0;
                self.store.lock().faults.push_back((lost, applied));
            }
        }
    }

    fn check(&self) {
        let seed = self.seed;
        let effects = self.database.lock().effects.clone();
        for key in 0..KEYS {
            let name = format!("k{key} ");
            let mine: Vec<String> = effects
                .iter()
                .filter_map(|effect| effect.strip_prefix(&name).map(str::to_owned))
                .collect();
            let expected: Vec<String> = (0..EVENTS)
                .filter(|number| number % KEYS == key)
                .map(|number| format!("evt-{number}"))
                .collect();
            assert_eq!(mine, expected, "seed {seed}, key {key}");
        }
    }

    /// No count goes back but where a person handed the event back, which begins anew.
    fn check_attempts(&self) {
        let mut last: HashMap<String, u32> = HashMap::new();
        for line in self.begun.all() {
            let Some((id, attempt)) = line.split_once(' ') else {
                last.clear();
                continue;
            };
            let attempt: u32 = attempt.parse().unwrap();
            let before = last.insert(id.to_owned(), attempt).unwrap_or(0);
            assert!(
                attempt >= before,
                "seed {}: {id} was at attempt {before} and then at {attempt}",
                self.seed
            );
        }
    }
}

async fn tell(seed: u64) {
    let story = Story::new(seed);
    let mut dice = Dice(seed);
    let mut published = 0;
    for _ in 0..7 {
        let more = (published + 1 + dice.roll(5) as usize).min(EVENTS);
        story.publish(published, more);
        published = more;
        let consumer = story.start(true).await;
        let steps = 40 + dice.roll(400);
        story.run(steps, &mut dice).await;
        if dice.roll(3) == 0 {
            story.begun.note("redriven");
            story.store.redrive_held();
            story.run(steps, &mut dice).await;
        }
        drop(consumer);
        story.stage.settle_down().await;
    }
    story.publish(published, EVENTS);
    story.store.lock().faults.clear();
    let consumer = story.start(false).await;
    story.begun.note("redriven");
    let done = || {
        story.store.redrive_held();
        story.database.lock().effects.len() >= EVENTS && story.store.lock().parked.is_empty()
    };
    story
        .stage
        .until(&format!("seed {seed} is done"), done)
        .await;
    story.stage.idle(&consumer).await;
    let free = || {
        let stats = consumer.stats();
        (stats.parked, stats.parked_keys, stats.in_flight) == (0, 0, 0)
    };
    story
        .stage
        .until(&format!("seed {seed}: all keys are free"), free)
        .await;
    story.stage.drain(consumer).await;

    story.check();
    story.check_attempts();
    let end = story.stage.broker.lock().log.len() as u64;
    assert_eq!(story.stage.broker.lock().durable_of("group"), end);
}

#[tokio::test]
async fn whatever_fails_and_is_killed_each_key_keeps_its_order_and_loses_nothing() {
    for seed in 0..120 {
        tell(seed).await;
    }
}

//! Several instances of a group that share a store, on a queue that moves keys from one to the other without telling: they come, leave and are killed while events are parked, and looks at the store fail. Whatever happens, no event
//! of a key begins before those ahead of it have succeeded, and no two are handled at once. A failure prints its seed.

use super::*;
use crate::fakes::failures::FakeFailures;
use crate::fakes::queue::FifoQueue;
use std::collections::{HashMap, HashSet};
use tidings_core::seam::Chance;

const KEYS: usize = 3;
const EVENTS: usize = 60;
/// So many attempts at an event that recovers fail.
const FAILURES: u32 = 2;
/// Instances at once.
const INSTANCES_MAX: usize = 3;

/// What was seen of the effects.
#[derive(Default)]
struct Effects {
    running: HashMap<String, usize>,
    done: HashSet<usize>,
    wrong: Vec<String>,
    told: Vec<String>,
}

impl Effects {
    fn begin(&mut self, key: &str, number: usize) {
        self.told.push(format!("{key}: {number} begins"));
        if let Some(other) = self.running.insert(key.to_owned(), number) {
            self.wrong.push(format!("{number} begins beside {other}"));
        }
        let mut before = (0..number).filter(|it| it % KEYS == number % KEYS);
        if let Some(left) = before.find(|it| !self.done.contains(it)) {
            self.wrong.push(format!("{number} begins before {left}"));
        }
    }

    fn end(&mut self, key: &str, number: usize, is_done: bool) {
        self.told.push(format!("{key}: {number} ends, {is_done}"));
        self.running.remove(key);
        if is_done {
            self.done.insert(number);
        }
    }
}

/// Ends a handling also where its instance is killed.
struct Handling {
    effects: Arc<Mutex<Effects>>,
    key: String,
    number: usize,
    is_done: bool,
}

impl Handling {
    fn succeeded(mut self) {
        self.is_done = true;
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let mut effects = self.effects.lock().unwrap();
        effects.end(&self.key, self.number, self.is_done);
    }
}

struct Story {
    seed: u64,
    stage: Stage,
    queue: FifoQueue,
    store: FakeFailures,
    chance: Arc<CountingChance>,
    effects: Arc<Mutex<Effects>>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut stage = Stage::new();
        stage.config.attempts = 1;
        stage.config.later = vec![Duration::from_millis(20); 6];
        let chance = Arc::new(CountingChance::starting_at(seed << 20));
        let mut store = FakeFailures::new(&stage.clock);
        store.slowness = 12;
        store.uneven = Some(Arc::clone(&chance));
        // In every second story.
        store.shaky = (seed % 2 == 1).then(|| (Arc::clone(&chance), 4));
        Self {
            seed,
            stage,
            queue: FifoQueue::new(),
            store,
            chance,
            effects: Arc::default(),
        }
    }

    async fn start(&self) -> RunningConsumer {
        let (effects, chance) = (Arc::clone(&self.effects), Arc::clone(&self.chance));
        let handler = TestHandler::of("**", move |context| {
            let number: usize = context.envelope.event_id()[4..].parse().unwrap();
            let key = context.envelope.key().unwrap().into_owned();
            let fails = (number / KEYS).is_multiple_of(3) && context.attempt <= FAILURES;
            effects.lock().unwrap().begin(&key, number);
            let handling = Handling {
                effects: Arc::clone(&effects),
                key,
                number,
                is_done: false,
            };
            let turns = chance.roll(20);
            async move {
                let handling = handling;
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                if fails {
                    return Err(HandlerError::transient_message("not yet"));
                }
                handling.succeeded();
                Ok(())
            }
        });
        let chance = CountingChance::starting_at(self.chance.next_u64());
        Consumer::builder(Arc::new(self.queue.clone()), "group".parse().unwrap())
            .clock(Arc::clone(&self.stage.clock) as _)
            .chance(Arc::new(chance))
            .config(self.stage.config.clone())
            .handler(Arc::new(handler))
            .failures(Arc::new(self.store.clone()))
            .start()
            .await
            .unwrap()
    }

    async fn run(&self, turns: usize) {
        for _ in 0..turns {
            tokio::task::yield_now().await;
            if self.chance.roll(4) == 0 {
                self.stage.clock.advance(Duration::from_millis(5));
            }
        }
    }

    fn check(&self) {
        let (wrong, told) = {
            let effects = self.effects.lock().unwrap();
            (effects.wrong.clone(), effects.told.join("\n"))
        };
        assert!(wrong.is_empty(), "seed {}: {wrong:?}\n{told}", self.seed);
    }
}

async fn tell(seed: u64) {
    let story = Story::new(seed);
    let mut running: Vec<RunningConsumer> = vec![story.start().await];
    let mut published = 0;
    while published < EVENTS {
        let more = (published + 1 + story.chance.roll(9)).min(EVENTS);
        let key = |number| format!("k{}", number % KEYS);
        let events = (published..more).map(|number| event("a.b", Some(&key(number)), number));
        story.queue.append(events);
        published = more;
        story.run(story.chance.roll(300)).await;
        match story.chance.roll(4) {
            0 | 1 if running.len() < INSTANCES_MAX => running.push(story.start().await),
            2 if running.len() > 1 => {
                let leaving = running.remove(0);
                story.stage.drain(leaving).await;
            }
            3 if running.len() > 1 => drop(running.remove(0)),
            _ => {}
        }
        story.check();
    }
    let done = || story.queue.is_empty() && story.store.lock().parked.is_empty();
    let what = format!("seed {seed}: everything is handled");
    story.stage.until(&what, done).await;
    for consumer in running {
        story.stage.drain(consumer).await;
    }
    story.check();
    assert_eq!(story.effects.lock().unwrap().done.len(), EVENTS);
}

#[tokio::test]
async fn whoever_comes_and_goes_each_key_keeps_its_order() {
    for seed in 0..200 {
        tell(seed).await;
    }
}

//! Properties of the lanes against a plain model: a list of items for each key.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Op {
    Deliver {
        key: u64,
        class: usize,
    },
    DeliverAhead {
        key: u64,
        classes: Vec<usize>,
    },
    Start {
        items_max: usize,
    },
    Finish {
        pick: usize,
    },
    Fail {
        pick: usize,
        millis: u64,
        noted: bool,
    },
    Noted {
        pick: usize,
    },
    TakeBehind {
        key: u64,
        modulus: u32,
    },
    EndCall,
    Advance {
        millis: u64,
    },
    Pause(bool),
    Withdraw {
        modulus: u32,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0_u64..6, 0_usize..2).prop_map(|(key, class)| Op::Deliver { key, class }),
        6 => (1_usize..6).prop_map(|items_max| Op::Start { items_max }),
        6 => any::<usize>().prop_map(|pick| Op::Finish { pick }),
        4 => (any::<usize>(), 0_u64..50, any::<bool>())
            .prop_map(|(pick, millis, noted)| Op::Fail { pick, millis, noted }),
        4 => any::<usize>().prop_map(|pick| Op::Noted { pick }),
        2 => (0_u64..6, prop::collection::vec(0_usize..2, 1..4))
            .prop_map(|(key, classes)| Op::DeliverAhead { key, classes }),
        2 => (0_u64..6, 1_u32..4).prop_map(|(key, modulus)| Op::TakeBehind { key, modulus }),
        6 => Just(Op::EndCall),
        3 => (0_u64..60).prop_map(|millis| Op::Advance { millis }),
        1 => any::<bool>().prop_map(Op::Pause),
        1 => (2_u32..5).prop_map(|modulus| Op::Withdraw { modulus }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Item {
    number: u32,
    class: usize,
    failures: u32,
    waits_until: Duration,
    /// Whether its last failure is still to be noted.
    noting: bool,
}

const PARALLEL: usize = 3;
const HELD_MAX: usize = 12;
const BATCH: usize = 2;

struct Model {
    keys: BTreeMap<u64, VecDeque<Item>>,
    running: BTreeMap<u64, Running<u32>>,
    /// How many items of each call still run, and calls whose items have all ended.
    calls: usize,
    now: Duration,
    paused: bool,
    delivered: u32,
}

impl Model {
    fn startable(&self) -> Vec<u64> {
        self.keys
            .iter()
            .filter(|(key, items)| {
                !self.running.contains_key(*key)
                    && items
                        .front()
                        .is_some_and(|item| item.waits_until <= self.now && !item.noting)
            })
            .map(|(key, _)| *key)
            .collect()
    }

    fn held(&self) -> usize {
        self.keys.values().map(VecDeque::len).sum()
    }

    fn took(&mut self, running: Running<u32>) -> Result<(), TestCaseError> {
        let key = running.lane.0;
        prop_assert!(self.startable().contains(&key), "key {key} may not start");
        let head = self.keys[&key][0];
        prop_assert_eq!(head.number, running.item, "out of order");
        prop_assert_eq!(head.class, running.class);
        prop_assert_eq!(head.failures + 1, running.attempt);
        self.running.insert(key, running);
        Ok(())
    }

    fn new_item(&mut self, class: usize) -> Item {
        self.delivered += 1;
        Item {
            number: self.delivered,
            class,
            failures: 0,
            waits_until: Duration::ZERO,
            noting: false,
        }
    }

    /// Items go ahead of all that were not begun.
    fn deliver_ahead(&mut self, key: u64, older: &[Item]) {
        let is_running = self.running.contains_key(&key);
        let items = self.keys.entry(key).or_default();
        let begun = items
            .front()
            .is_some_and(|head| is_running || head.failures > 0);
        for item in older.iter().rev() {
            items.insert(usize::from(begun), *item);
        }
    }

    fn pop(&mut self, key: u64) {
        let items = self.keys.get_mut(&key).unwrap();
        items.pop_front();
        if items.is_empty() {
            self.keys.remove(&key);
        }
    }
}

fn start(
    table: &mut LaneTable<u32>,
    model: &mut Model,
    items_max: usize,
) -> Result<(), TestCaseError> {
    let startable = model.startable().len();
    let free = PARALLEL - model.calls;
    let mut calls = Vec::new();
    table.start(items_max, &mut calls);
    let mut items = 0;
    for call in &calls {
        items += match call {
            Call::One(_) => 1,
            Call::Many(taken) => {
                prop_assert!(!taken.is_empty() && taken.len() <= BATCH);
                let keys: std::collections::HashSet<_> = taken.iter().map(|one| one.lane).collect();
                prop_assert_eq!(keys.len(), taken.len(), "a key twice in one call");
                taken.len()
            }
        };
    }
    prop_assert!(calls.len() <= free, "more calls than may run");
    prop_assert!(!model.paused || calls.is_empty(), "started while paused");
    let stopped_early = items < items_max && calls.len() < free && items < startable;
    prop_assert!(
        model.paused || !stopped_early,
        "a key that could start did not"
    );
    model.calls += calls.len();
    for call in calls {
        match call {
            Call::One(running) => model.took(running)?,
            Call::Many(taken) => {
                for running in taken {
                    model.took(running)?;
                }
            }
        }
    }
    Ok(())
}

fn fail(table: &mut LaneTable<u32>, model: &mut Model, pick: usize, delay: Duration, noted: bool) {
    let Some(key) = model
        .running
        .keys()
        .nth(pick % model.running.len().max(1))
        .copied()
    else {
        return;
    };
    let running = model.running.remove(&key).unwrap();
    let head = &mut model.keys.get_mut(&key).unwrap()[0];
    head.failures = running.attempt;
    head.waits_until = model.now + delay;
    head.noting = !noted;
    table.wait(running, model.now + delay, noted);
    if delay.is_zero() {
        table.advance_to(model.now);
    }
}

fn noted(table: &mut LaneTable<u32>, model: &mut Model, pick: usize) {
    let mut noting = model.keys.iter_mut().filter(|(_, items)| items[0].noting);
    let Some((key, items)) = noting.nth(pick % 3) else {
        return;
    };
    // What is told of another attempt changes nothing.
    table.noted(LaneKey(*key), items[0].failures + 1);
    table.noted(LaneKey(*key), items[0].failures);
    items[0].noting = false;
    table.advance_to(model.now);
}

fn take_behind(
    table: &mut LaneTable<u32>,
    model: &mut Model,
    key: u64,
    modulus: u32,
) -> Result<(), TestCaseError> {
    let taken = table.take_behind(LaneKey(key), |item| item % modulus == 0);
    let mut expected = Vec::new();
    if let Some(items) = model.keys.get_mut(&key) {
        let head = items.pop_front();
        let wanted = |item: &Item| item.number.is_multiple_of(modulus);
        let taken = items.iter().filter(|item| wanted(item));
        expected.extend(taken.map(|item| (item.number, item.failures)));
        items.retain(|item| !wanted(item));
        items.extend(head);
        items.rotate_right(1);
    }
    prop_assert_eq!(taken, expected);
    Ok(())
}

fn withdraw(
    table: &mut LaneTable<u32>,
    model: &mut Model,
    modulus: u32,
) -> Result<(), TestCaseError> {
    let mut withdrawn = table.withdraw(|item| item % modulus == 0);
    withdrawn.sort_unstable();
    let mut expected = Vec::new();
    for (key, items) in &mut model.keys {
        let running = usize::from(model.running.contains_key(key));
        let kept: Vec<Item> = items.drain(running..).collect();
        for item in kept {
            if item.number % modulus == 0 {
                expected.push(item.number);
            } else {
                items.push_back(item);
            }
        }
    }
    model.keys.retain(|_, items| !items.is_empty());
    expected.sort_unstable();
    prop_assert_eq!(withdrawn, expected);
    Ok(())
}

fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let limits = LaneLimits {
        parallel: PARALLEL,
        held_max: HELD_MAX,
    };
    let mut table = LaneTable::new(limits, &[CallSize::One, CallSize::UpTo(BATCH)], |_| 0);
    let mut model = Model {
        keys: BTreeMap::new(),
        running: BTreeMap::new(),
        calls: 0,
        now: Duration::ZERO,
        paused: false,
        delivered: 0,
    };
    for op in ops {
        match op {
            Op::Deliver { key, class } => {
                prop_assert_eq!(table.room(), HELD_MAX - model.held());
                if table.room() > 0 {
                    let item = model.new_item(class);
                    table.deliver(LaneKey(key), class, 0, item.number);
                    model.keys.entry(key).or_default().push_back(item);
                }
            }
            Op::DeliverAhead { key, classes } => {
                if table.room() >= classes.len() {
                    let items: Vec<Item> =
                        classes.iter().map(|class| model.new_item(*class)).collect();
                    let ahead = items.iter().map(|item| (item.class, 0, item.number));
                    table.deliver_ahead(LaneKey(key), ahead);
                    model.deliver_ahead(key, &items);
                }
            }
            Op::Start { items_max } => start(&mut table, &mut model, items_max)?,
            Op::Finish { pick } => {
                let count = model.running.len().max(1);
                if let Some(key) = model.running.keys().nth(pick % count).copied() {
                    model.running.remove(&key);
                    model.pop(key);
                    table.finished(LaneKey(key));
                }
            }
            Op::Fail {
                pick,
                millis,
                noted,
            } => {
                let delay = Duration::from_millis(millis);
                fail(&mut table, &mut model, pick, delay, noted);
            }
            Op::Noted { pick } => noted(&mut table, &mut model, pick),
            Op::TakeBehind { key, modulus } => {
                take_behind(&mut table, &mut model, key, modulus)?;
            }
            // A place may be freed only when fewer items run than calls hold places.
            Op::EndCall if model.calls > model.running.len() => {
                model.calls -= 1;
                table.call_ended();
            }
            Op::EndCall => {}
            Op::Advance { millis } => {
                model.now += Duration::from_millis(millis);
                table.advance_to(model.now);
            }
            Op::Pause(paused) => {
                model.paused = paused;
                table.set_paused(paused);
            }
            Op::Withdraw { modulus } => withdraw(&mut table, &mut model, modulus)?,
        }
        prop_assert_eq!(table.held(), model.held());
        prop_assert_eq!(table.running(), model.running.len());
        prop_assert_eq!(table.ready_lanes(), model.startable().len());
        let waits = |items: &VecDeque<Item>| items[0].waits_until;
        let due = model
            .keys
            .values()
            .filter(|items| !items[0].noting)
            .map(waits)
            .filter(|until| *until > model.now)
            .min();
        // A timer left over from a withdrawn item may make the table look earlier, never later.
        prop_assert!(due.is_none_or(|due| table.due_next().is_some_and(|set| set <= due)));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// No overlap within a key, order after retries and withdrawals, no attempt before the last failure is noted, never more calls than may run, and no key that could start
    /// waits for another.
    #[test]
    fn lanes_behave_like_one_list_for_each_key(ops in prop::collection::vec(op(), 1..120)) {
        run(ops)?;
    }
}

#[test]
fn the_oldest_ready_lane_starts_first_and_a_lane_goes_to_the_back() {
    let limits = LaneLimits {
        parallel: 1,
        held_max: 10,
    };
    let mut table = LaneTable::new(limits, &[CallSize::One], |_| 0);
    for (key, item) in [(1, "a1"), (1, "a2"), (2, "b1"), (3, "c1"), (1, "a3")] {
        table.deliver(LaneKey(key), 0, 0, item);
    }

    let mut order = Vec::new();
    let mut calls = Vec::new();
    while table.may_start() {
        table.start(1, &mut calls);
        for call in calls.drain(..) {
            if let Call::One(running) = call {
                order.push(running.item);
                table.finished(running.lane);
                table.call_ended();
            }
        }
    }

    assert_eq!(order, ["a1", "b1", "c1", "a2", "a3"]);
}

#[test]
fn where_an_item_came_from_is_known_while_it_waits_and_while_it_is_at_work() {
    let limits = LaneLimits {
        parallel: 1,
        held_max: 10,
    };
    let mut table = LaneTable::new(limits, &[CallSize::One], |item| *item);
    table.deliver(LaneKey(1), 0, 0, 7);
    table.deliver(LaneKey(1), 0, 0, 8);
    assert!(table.has_from(LaneKey(1), 7) && table.has_from(LaneKey(1), 8));
    assert!(!table.has_from(LaneKey(1), 9) && !table.has_from(LaneKey(2), 7));
    let mut calls = Vec::new();

    table.start(1, &mut calls);
    assert!(table.has_from(LaneKey(1), 7), "it is at work");
    let taken = table.take_behind(LaneKey(1), |_| true);
    assert_eq!(taken, [(8, 0)]);
    assert!(!table.has_from(LaneKey(1), 8));
    table.finished(LaneKey(1));

    assert!(!table.has_from(LaneKey(1), 7));
}

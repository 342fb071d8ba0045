//! Every state that two relays, a database and a destination can reach in a small scope, with crashes, late and lost messages, and leases that end at any time.
//!
//! In each state the invariants of `invariants.rs` hold. Time may pass while calls are on their way, so that a lease ends at any moment between a call and its
//! answer. That everything is sent in the end is shown by a measure, the number of rows that may still be sent: no step ever raises it, and from every state an
//! undisturbed round of fair steps lowers it. That a destination in trouble delays nobody else is shown by the same measure without its rows: it falls in rounds in
//! which that destination never does what it should, and not later.

mod act;
mod database;
mod destination;
mod invariants;
mod scope;
mod time;
mod world;

use act::{Act, Trouble};
use scope::Scope;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use world::World;

/// Steps of an undisturbed round after which the measure must have fallen.
const ROUND_MAX: u32 = 400;

/// A test run without optimisation looks at smaller scopes.
const LARGE: bool = !cfg!(debug_assertions);

type Print = u128;

/// 128 bits that stand for a state.
fn print_of(world: &World) -> Print {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        world.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    (half(1) << 64) | half(2)
}

/// Seconds of such a round at most: a lease of somebody else that ends, a wait before a lane is tried again, one before a read, and one before the lease is asked for.
const ROUND_SECS_MAX: u32 = 6;

struct Explored {
    states: usize,
    edges: usize,
    longest_round: Round,
}

/// What an undisturbed round takes until the measure falls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Round {
    seconds: u32,
    steps: u32,
}

struct Explorer {
    /// How each state was reached.
    seen: HashMap<Print, (Print, Option<Act>)>,
    /// What it takes until the measure falls, with a destination in trouble or without.
    rounds: HashMap<(Print, Option<Trouble>), Round>,
    edges: usize,
}

/// Explores a scope; panics with the way to the first state in which something does not hold.
fn explore(name: &str, scope: Scope) -> Explored {
    let first = World::new(scope);
    let mut explorer = Explorer {
        seen: HashMap::from([(print_of(&first), (0, None))]),
        rounds: HashMap::new(),
        edges: 0,
    };
    let mut open = vec![first];
    let mut longest_round = Round::default();
    let troubles = troubles(scope);
    while let Some(world) = open.pop() {
        let print = print_of(&world);
        for trouble in &troubles {
            longest_round = longest_round.max(explorer.round(print, &world, *trouble));
        }
        let measure = world.measure(None);
        for act in world.acts() {
            explorer.edges += 1;
            let mut next = world.clone();
            let outcome = next.act(act).and_then(|()| next.check());
            let next_print = print_of(&next);
            let risen = next.measure(None) > measure && !act.commits();
            if let Err(broken) = outcome {
                panic!("{broken}\n{}\n{act:?}\n{next:?}", explorer.way(print));
            }
            assert!(
                !risen,
                "the measure rose\n{}\n{act:?}\n{next:?}",
                explorer.way(print)
            );
            if let Entry::Vacant(free) = explorer.seen.entry(next_print) {
                free.insert((print, Some(act)));
                open.push(next);
            }
        }
    }
    let explored = Explored {
        states: explorer.seen.len(),
        edges: explorer.edges,
        longest_round,
    };
    println!(
        "{name}: {} states, {} steps between them, the measure falls within {} s, which are {} fair steps",
        explored.states,
        explored.edges,
        explored.longest_round.seconds,
        explored.longest_round.steps
    );
    explored
}

/// None at all; and where there are several destinations, each of them in every trouble.
fn troubles(scope: Scope) -> Vec<Option<Trouble>> {
    let destinations = scope.all_destinations();
    let mut troubles = vec![None];
    if destinations.len() > 1 {
        let each = destinations.into_iter().flat_map(Trouble::all_of);
        troubles.extend(each.map(Some));
    }
    troubles
}

impl Explorer {
    /// How long it takes until the measure falls; nothing where nothing is left.
    fn round(&mut self, print: Print, world: &World, trouble: Option<Trouble>) -> Round {
        let measure = world.measure(trouble);
        if measure == 0 {
            return Round::default();
        }
        let mut walked = Vec::new();
        let (mut at, mut print_at) = (world.clone(), print);
        let tail = loop {
            if let Some(known) = self.rounds.get(&(print_at, trouble)) {
                break *known;
            }
            let act = at.fair_act(trouble);
            walked.push((print_at, act));
            assert!(
                walked.len() < ROUND_MAX as usize,
                "{}: the measure stays at {measure}, {trouble:?}\n{}\n{at:?}",
                if trouble.is_some() { "I6" } else { "I2" },
                self.way(print)
            );
            if let Err(broken) = at.act(act).and_then(|()| at.check()) {
                panic!(
                    "{broken} in a fair round\n{}\n{act:?}\n{at:?}",
                    self.way(print)
                );
            }
            print_at = print_of(&at);
            if at.measure(trouble) < measure {
                break Round::default();
            }
        };
        let mut round = tail;
        for (print, act) in walked.iter().rev() {
            round.steps += 1;
            round.seconds += u32::from(*act == Act::Pass);
            self.rounds.insert((*print, trouble), round);
        }
        assert!(
            round.seconds <= ROUND_SECS_MAX,
            "I6: the measure falls after {} s only, {trouble:?}\n{}\n{world:?}",
            round.seconds,
            self.way(print)
        );
        round
    }

    /// The steps that lead to a state.
    fn way(&self, mut print: Print) -> String {
        let mut acts = Vec::new();
        while let Some((before, Some(act))) = self.seen.get(&print) {
            acts.push(format!("{act:?}"));
            print = *before;
        }
        acts.reverse();
        acts.join("\n")
    }
}

#[test]
fn two_relays_of_which_one_crashes_and_whose_leases_end_at_any_time() {
    let scope = Scope {
        relays: 2,
        keys: &["a", "a"],
        crashes: 1,
        jumps: 1,
        ..Scope::default()
    };

    assert!(explore("two relays, a crash, a lease that ends early", scope).states > 1_000);
}

#[test]
fn publishes_that_fail_are_late_or_lost_while_events_of_the_key_follow() {
    let scope = Scope {
        keys: &["a", "b", "a"],
        hidden: &[2],
        publish_faults: 2,
        ..Scope::default()
    };

    assert!(explore("faults of the destination", scope).states > 1_000);
}

#[test]
fn a_destination_that_fails_while_a_relay_crashes() {
    let scope = Scope {
        keys: &["a", "a"],
        hidden: &[1],
        crashes: if LARGE { 2 } else { 1 },
        publish_faults: 1,
        ..Scope::default()
    };

    assert!(explore("faults of the destination and crashes", scope).states > 1_000);
}

#[test]
fn two_relays_and_a_destination_that_fails() {
    let scope = Scope {
        relays: 2,
        keys: &["a", "a"],
        publish_faults: 1,
        drains: 1,
        ..Scope::default()
    };

    assert!(explore("two relays, a fault of the destination, a drain", scope).states > 1_000);
}

#[test]
fn a_database_that_loses_calls_and_answers() {
    let scope = Scope {
        keys: &["a", "a"],
        store_faults: 2,
        publish_faults: 1,
        drains: 1,
        ..Scope::default()
    };

    assert!(explore("faults of the database", scope).states > 1_000);
}

#[test]
fn rows_that_become_visible_late_are_above_the_floor() {
    let scope = Scope {
        keys: if LARGE { &["a", "b", "c"] } else { &["a", "b"] },
        hidden: if LARGE { &[0, 1] } else { &[0] },
        horizon: true,
        crashes: 1,
        ..Scope::default()
    };

    assert!(explore("rows that become visible late, with a floor", scope).states > 1_000);
}

#[test]
fn a_lease_that_ends_at_any_time_between_a_call_and_its_answer() {
    let scope = Scope {
        relays: 2,
        keys: &["a", "a"],
        waits: if LARGE { 5 } else { 3 },
        ..Scope::default()
    };

    assert!(
        explore(
            "two relays, time passes while calls are on their way",
            scope
        )
        .states
            > 1_000
    );
}

#[test]
fn a_destination_in_trouble_delays_nobody_else() {
    let scope = Scope {
        // The first two fill every read, unless what cannot be sent is left out.
        keys: &["a", "b", "c"],
        destinations: &["x", "x", "y"],
        batch_rows: 1,
        batches_of_destination: 1,
        crashes: usize::from(LARGE),
        publish_faults: 1,
        ..Scope::default()
    };

    assert!(explore("two destinations, of which one is in trouble", scope).states > 1_000);
}

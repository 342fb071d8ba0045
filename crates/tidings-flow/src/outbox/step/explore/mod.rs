//! Every state that two relays, a database and a destination can reach in a small scope, with crashes, late and lost messages, and leases that end at any time.
//!
//! In each state the invariants of `invariants.rs` hold. Time may pass while calls are on their way, so that a lease ends at any moment between a call and its
//! answer. That everything is sent in the end is shown by a measure, the number of rows that may still be sent: no step ever raises it, and from every state an
//! undisturbed round of fair steps lowers it. That a destination in trouble delays nobody else is shown by the same measure without its rows: it falls in rounds in
//! which that destination never does what it should, and not later. A relay that ends by itself has seen that nothing could be sent, and once nothing can, it ends.

mod act;
mod database;
mod destination;
mod invariants;
mod scope;
mod time;
mod world;

use super::KeyPolicy;
use act::{Act, Goal, Trouble};
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
    /// What it takes until a measure falls.
    rounds: HashMap<(Print, Goal), Round>,
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
    let goals = goals(scope);
    while let Some(world) = open.pop() {
        let print = print_of(&world);
        for goal in &goals {
            longest_round = longest_round.max(explorer.round(print, &world, *goal));
        }
        let measure = world.measure(Goal::Sent(None));
        for act in world.acts() {
            explorer.edges += 1;
            let mut next = world.clone();
            let outcome = next.act(act).and_then(|()| next.check());
            let next_print = print_of(&next);
            let risen = next.measure(Goal::Sent(None)) > measure && !act.commits();
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

/// That everything is sent without trouble; where there are several destinations, with each of them in every trouble; and that relays end, where they do so.
fn goals(scope: Scope) -> Vec<Goal> {
    let destinations = scope.all_destinations();
    let mut goals = vec![Goal::Sent(None)];
    if destinations.len() > 1 {
        let each = destinations.into_iter().flat_map(Trouble::all_of);
        goals.extend(each.map(Some).map(Goal::Sent));
    }
    if scope.until_empty {
        goals.push(Goal::Ended);
    }
    goals
}

impl Explorer {
    /// How long it takes until the measure falls; nothing where nothing is left.
    fn round(&mut self, print: Print, world: &World, goal: Goal) -> Round {
        let measure = world.measure(goal);
        if measure == 0 {
            return Round::default();
        }
        let mut walked = Vec::new();
        let (mut at, mut print_at) = (world.clone(), print);
        let tail = loop {
            if let Some(known) = self.rounds.get(&(print_at, goal)) {
                break *known;
            }
            let act = at.fair_act(goal);
            walked.push((print_at, act));
            assert!(
                walked.len() < ROUND_MAX as usize,
                "{}: the measure stays at {measure}, {goal:?}\n{}\n{at:?}",
                if matches!(goal, Goal::Sent(Some(_))) {
                    "I6"
                } else {
                    "I2"
                },
                self.way(print)
            );
            if let Err(broken) = at.act(act).and_then(|()| at.check()) {
                panic!(
                    "{broken} in a fair round\n{}\n{act:?}\n{at:?}",
                    self.way(print)
                );
            }
            print_at = print_of(&at);
            if at.measure(goal) < measure {
                break Round::default();
            }
        };
        let mut round = tail;
        for (print, act) in walked.iter().rev() {
            round.steps += 1;
            round.seconds += u32::from(*act == Act::Pass);
            self.rounds.insert((*print, goal), round);
        }
        assert!(
            round.seconds <= ROUND_SECS_MAX,
            "I6: the measure falls after {} s only, {goal:?}\n{}\n{world:?}",
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

/// Everything at once: two relays, one that crashes, publishes that fail, are late or lost, and a lease that ends at any time.
fn everything_at_once(policy: KeyPolicy, until_empty: bool) -> Scope {
    Scope {
        relays: 2,
        keys: &["a", "a"],
        crashes: 1,
        jumps: usize::from(LARGE),
        publish_faults: 1,
        policy,
        until_empty,
        ..Scope::default()
    }
}

#[test]
fn two_relays_of_which_one_crashes_while_publishes_fail_are_late_or_lost() {
    let scope = Scope {
        jumps: 1,
        ..everything_at_once(KeyPolicy::Block, false)
    };

    assert!(
        explore(
            "two relays, a crash, a fault of publishing, a lease that ends",
            scope
        )
        .states
            > 1_000
    );
}

#[test]
fn two_relays_of_which_one_crashes_and_whose_keys_go_on_without_what_was_given_up() {
    let scope = everything_at_once(KeyPolicy::Skip, false);

    assert!(explore("the same, keys go on behind what was given up", scope).states > 1_000);
}

#[test]
fn two_relays_that_end_by_themselves_of_which_one_crashes() {
    let scope = everything_at_once(KeyPolicy::Block, true);

    assert!(explore("the same, relays end by themselves", scope).states > 1_000);
}

#[test]
fn two_relays_that_end_by_themselves_and_whose_keys_go_on() {
    let scope = everything_at_once(KeyPolicy::Skip, true);

    assert!(explore("the same, relays end by themselves and keys go on", scope).states > 1_000);
}

#[test]
fn a_relay_that_ends_by_itself_behind_a_destination_in_trouble() {
    let scope = Scope {
        keys: &["a", "b", "a"],
        hidden: &[2],
        publish_faults: 2,
        policy: KeyPolicy::Skip,
        until_empty: true,
        restarts: 1,
        ..Scope::default()
    };

    assert!(
        explore(
            "a relay that ends by itself, faults of the destination",
            scope
        )
        .states
            > 1_000
    );
}

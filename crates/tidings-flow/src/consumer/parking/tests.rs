//! The parked lanes against the page that draws them, and against a plain model of a store.

use super::states::TRANSITIONS;
use super::*;
use proptest::prelude::*;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The page that draws what a parked lane goes through.
const PAGE: &str = include_str!("../../../../../docs/concepts/when_handling_fails.md");

fn lane() -> LaneId {
    LaneId::of_key("k")
}

fn told(rows: u64) -> ParkedLane {
    ParkedLane {
        lane: lane(),
        rows,
        held: false,
        oldest: None,
    }
}

fn state(lanes: &ParkedLanes) -> State {
    State::of(lanes.lanes.get(&lane()).map(|lane| lane.phase))
}

type Act = fn(&mut ParkedLanes);

/// What can happen, by the words of the table.
const ACTS: [(&str, Act); 12] = [
    ("put off or held", |lanes| {
        lanes.park(lane(), 2);
        lanes.arrived(lane(), 2);
    }),
    ("found in the store", |lanes| {
        lanes.reconcile(&[told(2)], lanes.turn());
    }),
    ("due", |lanes| {
        // Whether it is, shows in the state.
        let _fetch = lanes.due(&told(2), lanes.turn());
    }),
    ("taken away", |lanes| {
        lanes.reconcile(&[], lanes.turn());
    }),
    ("rows fetched", |lanes| {
        // Whether they are taken shows in the state.
        let _taken = lanes.fetched(lane(), 2);
    }),
    ("none is due", |lanes| {
        lanes.fetched_nothing(lane(), false, lanes.turn());
    }),
    ("no row is left", |lanes| {
        lanes.fetched_nothing(lane(), true, lanes.turn());
    }),
    ("failed again", |lanes| lanes.put_back(lane())),
    ("something older is put off", |lanes| {
        // Only what is older than what was fetched can be; of what is handled already nothing is.
        if state(lanes) != State::Emptying {
            lanes.drop_fetched(lane());
        }
    }),
    ("the last one fetched is handled", |lanes| {
        lanes.leaves(lane());
        lanes.leaves(lane());
    }),
    ("the store knows, rows are left", |lanes| {
        lanes.changed(lane(), true);
        lanes.changed(lane(), false);
    }),
    ("the store knows, none is left", |lanes| {
        lanes.changed(lane(), true);
        lanes.changed(lane(), true);
    }),
];

fn after(acts: &[Act]) -> ParkedLanes {
    let mut lanes = ParkedLanes::default();
    acts.iter().for_each(|act| act(&mut lanes));
    lanes
}

/// Every way that leads from one state into another, found by trying everything in every state that is reached.
fn ways() -> BTreeSet<(State, &'static str, State)> {
    let mut ways = BTreeSet::new();
    let mut paths = BTreeMap::from([(State::Free, Vec::new())]);
    let mut untried = vec![State::Free];
    while let Some(from) = untried.pop() {
        for (what, act) in ACTS {
            let mut path: Vec<Act> = paths[&from].clone();
            path.push(act);
            let to = state(&after(&path));
            if to != from {
                ways.insert((from, what, to));
            }
            if let Entry::Vacant(unknown) = paths.entry(to) {
                unknown.insert(path);
                untried.push(to);
            }
        }
    }
    ways
}

/// The part of the page that the table makes.
fn drawing() -> String {
    let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> free\n".to_owned();
    for (from, what, to) in TRANSITIONS {
        text += &format!("    {from} --> {to}: {what}\n");
    }
    text += "```\n";
    text
}

#[test]
fn the_table_has_every_way_that_lanes_go_and_no_other() {
    let drawn: BTreeSet<_> = TRANSITIONS.into_iter().collect();

    assert_eq!(drawn, ways());
    assert_eq!(drawn.len(), TRANSITIONS.len(), "nothing is there twice");
}

#[test]
fn the_page_draws_the_table() {
    let drawing = drawing();

    assert!(
        PAGE.contains(&drawing),
        "the drawing in docs/concepts/when_handling_fails.md is to be:\n{drawing}"
    );
}

#[derive(Debug, Clone)]
enum Op {
    /// So many deliveries fail or arrive behind.
    Park(u64),
    /// The store has made the oldest change that waits.
    Tell,
    /// The parker looks and fetches at most so many.
    Look(u64),
    /// The first fetched row is handled.
    Handle,
    /// The first fetched row fails and is put off, due at once.
    PutBack,
    /// A person takes the head away.
    Discard,
    /// What is parked is compared as a whole.
    Compare,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1_u64..4).prop_map(Op::Park),
        6 => Just(Op::Tell),
        4 => (1_u64..4).prop_map(Op::Look),
        5 => Just(Op::Handle),
        1 => Just(Op::PutBack),
        1 => Just(Op::Discard),
        1 => Just(Op::Compare),
    ]
}

/// A change on its way to the store.
#[derive(Debug)]
enum Pending {
    Park(Vec<u64>),
    Finish(u64),
    Postpone,
}

/// The store, what is on its way there, and what was fetched.
#[derive(Default)]
struct Model {
    rows: Vec<u64>,
    pending: Vec<Pending>,
    fetched: Vec<u64>,
    next: u64,
    /// What was handled, in order.
    handled: Vec<u64>,
    discarded: BTreeMap<u64, ()>,
}

fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut lanes = ParkedLanes::default();
    let mut model = Model::default();
    for op in ops {
        match op {
            Op::Park(count) => {
                // What arrives for a lane that is not parked is handled at once, unless it fails; here it fails.
                lanes.park(lane(), count);
                let numbers: Vec<u64> = (0..count).map(|step| model.next + step).collect();
                model.next += count;
                model.pending.push(Pending::Park(numbers));
            }
            Op::Tell if !model.pending.is_empty() => match model.pending.remove(0) {
                Pending::Park(numbers) => {
                    lanes.arrived(lane(), numbers.len() as u64);
                    model.rows.extend(numbers);
                }
                Pending::Finish(number) => {
                    model.rows.retain(|row| *row != number);
                    lanes.changed(lane(), true);
                }
                Pending::Postpone => {
                    lanes.changed(lane(), false);
                }
            },
            Op::Tell => {}
            Op::Look(limit) if !model.rows.is_empty() => {
                let turn = lanes.turn();
                let one = told(model.rows.len() as u64);
                if lanes.due(&one, turn) {
                    prop_assert!(model.fetched.is_empty(), "fetched twice");
                    let first = model.rows.iter().take(limit as usize);
                    model.fetched = first.copied().collect();
                    prop_assert!(lanes.fetched(lane(), model.fetched.len()));
                }
            }
            Op::Look(_) => {}
            Op::Handle if !model.fetched.is_empty() => {
                let number = model.fetched.remove(0);
                model.handled.push(number);
                lanes.leaves(lane());
                model.pending.push(Pending::Finish(number));
            }
            Op::Handle => {}
            Op::PutBack if !model.fetched.is_empty() => {
                model.fetched.clear();
                lanes.put_back(lane());
                model.pending.push(Pending::Postpone);
            }
            Op::PutBack => {}
            Op::Discard => {
                // A person decides about what is at rest.
                if model.fetched.is_empty() && model.pending.is_empty() && !model.rows.is_empty() {
                    model.discarded.insert(model.rows.remove(0), ());
                }
            }
            Op::Compare => {
                let turn = lanes.turn();
                let known: Vec<ParkedLane> = match model.rows.len() {
                    0 => Vec::new(),
                    rows => vec![told(rows as u64)],
                };
                // Nothing happens in between here.
                assert!(lanes.reconcile(&known, turn).is_empty());
            }
        }
        let on_way = model
            .pending
            .iter()
            .any(|one| matches!(one, Pending::Park(_)));
        if !model.rows.is_empty() || on_way {
            prop_assert!(lanes.has(lane()), "a lane with rows is not parked");
        }
        prop_assert_eq!(lanes.rows(), lanes.rows_of(lane()));
    }
    // In the order in which they were parked, each once.
    let mut sorted = model.handled.clone();
    sorted.sort_unstable();
    sorted.dedup();
    prop_assert_eq!(&model.handled, &sorted);
    Ok(())
}

#[test]
fn what_the_store_says_of_lanes_counts_from_the_start() {
    let mut lanes = ParkedLanes::default();
    lanes.set_now(Duration::from_secs(5));
    let held = ParkedLane {
        held: true,
        oldest: Some(Duration::from_secs(60)),
        ..told(2)
    };
    let other = ParkedLane {
        lane: LaneId::of_key("other"),
        oldest: Some(Duration::from_secs(2)),
        ..told(1)
    };

    lanes.reconcile(&[held, other.clone()], lanes.turn());
    lanes.set_now(Duration::from_secs(15));

    assert_eq!(lanes.held(), 1);
    assert_eq!(lanes.oldest(), Some(Duration::from_secs(70)));

    // The held one was decided about by somebody else.
    lanes.reconcile(&[other], lanes.turn());

    assert_eq!(lanes.held(), 0);
    assert_eq!(lanes.oldest(), Some(Duration::from_secs(2)));
}

#[test]
fn a_lane_is_as_old_as_its_first_row() {
    let mut lanes = ParkedLanes::default();
    assert_eq!(lanes.oldest(), None);
    lanes.set_now(Duration::from_secs(10));

    lanes.park(lane(), 1);
    lanes.set_now(Duration::from_secs(13));
    lanes.park(lane(), 1);

    assert_eq!(lanes.oldest(), Some(Duration::from_secs(3)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// A lane is parked as long as something of it is in the store or on its way there, nothing is fetched twice, and the order holds.
    #[test]
    fn parked_lanes_know_what_the_store_has(ops in prop::collection::vec(op(), 1..100)) {
        run(ops)?;
    }
}

/// Instances share a store: while this one tells the store that it has handled a row, the store says that there is one, which is another's.
#[test]
fn a_lane_of_which_the_store_told_while_it_changed_is_looked_at_before_it_is_forgotten() {
    let mut lanes = after(&[|lanes| {
        lanes.park(lane(), 1);
        lanes.arrived(lane(), 1);
        assert!(lanes.due(&told(1), lanes.turn()));
        assert!(lanes.fetched(lane(), 1));
        lanes.leaves(lane());
    }]);

    lanes.reconcile(&[told(1)], lanes.turn());

    assert!(lanes.changed(lane(), true), "somebody is to look");
    assert!(lanes.has(lane()), "what arrives waits behind the other's");
    assert!(lanes.due(&told(0), lanes.turn()));
    lanes.fetched_nothing(lane(), true, lanes.turn());
    assert!(lanes.is_empty());
}

#[test]
fn an_older_answer_of_the_store_does_not_free_what_a_newer_one_told_of() {
    let mut lanes = after(&[|lanes| {
        lanes.reconcile(&[told(1)], lanes.turn());
    }]);
    let earlier = lanes.turn();
    lanes.reconcile(&[told(1)], earlier);

    lanes.reconcile(&[], earlier);
    assert!(lanes.has(lane()), "compared as a whole");

    assert!(lanes.due(&told(0), lanes.turn()));
    lanes.reconcile(&[told(1)], earlier);
    lanes.fetched_nothing(lane(), true, earlier);
    assert!(lanes.has(lane()), "looked at by itself");
}

#[test]
fn rows_are_left_where_they_are_if_something_older_was_put_off_while_they_were_fetched() {
    let mut lanes = ParkedLanes::default();
    assert!(lanes.due(&told(1), lanes.turn()));

    lanes.drop_fetched(lane());

    assert!(!lanes.fetched(lane(), 1));
    assert!(lanes.has(lane()), "what arrives waits behind them");
    assert_eq!(lanes.busy(), 0);
}

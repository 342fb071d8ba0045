//! The parked lanes against the page that draws them, and against a plain model of a store.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The page with the table of what a parked lane goes through.
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

/// The name of the state of the lane.
fn state(lanes: &ParkedLanes) -> &'static str {
    match lanes.lanes.get(&lane()).map(|lane| lane.phase) {
        None => "free",
        Some(Phase::Resting) => "resting",
        Some(Phase::Fetching) => "fetching",
        Some(Phase::Working(_)) => "working",
        Some(Phase::Emptying) => "emptying",
    }
}

type Act = fn(&mut ParkedLanes);

fn due(lanes: &mut ParkedLanes) {
    let turn = lanes.turn();
    // Whether it is, shows in the state.
    let _fetch = lanes.due(&told(2), turn);
}

/// What can happen, by the words of the page.
const ACTS: [(&str, Act); 8] = [
    ("put off or held", |lanes| {
        lanes.park(lane(), 2);
        lanes.arrived(lane(), 2);
    }),
    ("due", due),
    ("rows fetched", |lanes| lanes.fetched(lane(), 2, false)),
    ("none is due", |lanes| {
        lanes.fetched_nothing(lane(), false, lanes.turn())
    }),
    ("no row is left", |lanes| {
        lanes.fetched_nothing(lane(), true, lanes.turn());
    }),
    ("failed again", |lanes| lanes.put_back(lane())),
    ("the last one fetched is handled", |lanes| {
        lanes.leaves(lane());
        lanes.leaves(lane());
    }),
    ("the store knows", |lanes| {
        lanes.changed(lane(), true);
        lanes.changed(lane(), true);
    }),
];

/// How each state is reached.
fn reach(state: &str) -> ParkedLanes {
    let steps: &[&str] = match state {
        "free" => &[],
        "resting" => &["put off or held"],
        "fetching" => &["put off or held", "due"],
        "working" => &["put off or held", "due", "rows fetched"],
        "emptying" => &[
            "put off or held",
            "due",
            "rows fetched",
            "the last one fetched is handled",
        ],
        other => panic!("the page names a state that is none: {other}"),
    };
    let mut lanes = ParkedLanes::default();
    for step in steps {
        let (_, act) = ACTS.iter().find(|(name, _)| name == step).unwrap();
        act(&mut lanes);
    }
    lanes
}

#[test]
fn the_page_draws_what_the_code_does() {
    let mut drawn = BTreeSet::new();
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    for row in rows {
        let cells: Vec<&str> = row
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        let (from, what, to) = (cells[0], cells[1], cells[2]);
        let mut lanes = reach(from);
        assert_eq!(state(&lanes), from);
        let (_, act) = ACTS
            .iter()
            .find(|(name, _)| *name == what)
            .unwrap_or_else(|| panic!("the page tells of something unknown: {what}"));
        act(&mut lanes);
        assert_eq!(state(&lanes), to, "{from}, {what}");
        drawn.insert((from, what));
    }
    // Whatever changes a state is drawn.
    for from in ["free", "resting", "fetching", "working", "emptying"] {
        for (what, act) in ACTS {
            let mut lanes = reach(from);
            act(&mut lanes);
            let changes = state(&lanes) != from;
            assert_eq!(changes, drawn.contains(&(from, what)), "{from}, {what}");
        }
    }
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
                    lanes.fetched(lane(), model.fetched.len(), false);
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
            prop_assert!(lanes.takes(lane()), "a lane with rows is not parked");
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

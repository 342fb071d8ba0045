//! The circuit breaker alone, with times that a test names.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn failed(lane: u64, now: Duration) -> Failed<'static> {
    Failed {
        lane: LaneKey(lane),
        reason: "the provider is down",
        pauses_group: false,
        asked: None,
        now,
        at: Timestamp::from_micros(1_800_000_000_000_000).plus(now),
        random: 0,
    }
}

/// A circuit that opens with so many failures of so many outcomes, after each of which it waits ten seconds and then twice as long, up to a minute.
fn circuit(failures: usize, of: usize) -> Circuit {
    Circuit::new(Some(Breaker {
        failures,
        of,
        probe_after: 10 * SECOND,
        probe_max: 60 * SECOND,
        on_open: OnOpen::Wait,
    }))
}

fn opened(failures: usize, of: usize) -> Circuit {
    let mut circuit = circuit(failures, of);
    for lane in 0..failures as u64 {
        let _judgement = circuit.failed(failed(lane, Duration::ZERO));
    }
    assert!(!circuit.is_closed());
    circuit
}

#[test]
fn it_opens_with_the_failure_that_makes_enough_of_them() {
    let mut circuit = circuit(3, 4);

    assert_eq!(circuit.failed(failed(1, SECOND)), Judgement::Counts);
    assert_eq!(circuit.succeeded(LaneKey(2), SECOND), None);
    assert_eq!(circuit.failed(failed(3, SECOND)), Judgement::Counts);
    let opens = circuit.failed(failed(4, SECOND));

    let probe_in = 10 * SECOND;
    let again = false;
    assert_eq!(opens, Judgement::Opens { probe_in, again });
    assert_eq!(circuit.failed(failed(5, SECOND)), Judgement::Excused);
    assert_eq!(circuit.openings(), 1);
    let stats = circuit.stats().unwrap();
    assert_eq!(stats.state, CircuitState::Open);
    assert_eq!(stats.reason, "the provider is down");
    assert_eq!(stats.probe_at, Some(stats.since.plus(probe_in)));
}

#[test]
fn old_outcomes_make_room_for_new_ones() {
    let mut circuit = circuit(3, 4);
    for lane in [1, 2] {
        assert_eq!(circuit.failed(failed(lane, SECOND)), Judgement::Counts);
    }
    for lane in [3, 4, 5] {
        assert_eq!(circuit.succeeded(LaneKey(lane), SECOND), None);
    }

    let judged = [6, 7].map(|lane| circuit.failed(failed(lane, SECOND)));

    assert_eq!(judged, [Judgement::Counts, Judgement::Counts]);
}

#[test]
fn one_key_counts_once_however_often_it_fails() {
    let mut circuit = circuit(2, 10);

    for _ in 0..100 {
        assert_eq!(circuit.failed(failed(1, SECOND)), Judgement::Counts);
    }

    assert!(circuit.is_closed());
}

#[test]
fn a_retry_that_succeeds_takes_its_failure_back() {
    let mut circuit = circuit(2, 10);
    assert_eq!(circuit.failed(failed(1, SECOND)), Judgement::Counts);

    assert_eq!(circuit.succeeded(LaneKey(1), SECOND), None);

    assert_eq!(circuit.failed(failed(2, SECOND)), Judgement::Counts);
}

#[test]
fn one_event_is_tried_and_its_success_closes_the_circuit() {
    let mut circuit = opened(3, 3);
    assert!(circuit.holds());
    assert!(!circuit.advance_to(9 * SECOND));
    assert!(circuit.advance_to(10 * SECOND));
    assert!(circuit.wants_probe() && !circuit.holds());

    circuit.probe(LaneKey(9));

    assert!(circuit.holds() && !circuit.wants_probe());
    let begun_before = circuit.succeeded(LaneKey(2), 11 * SECOND);
    assert_eq!(begun_before, None);
    assert_eq!(circuit.stats().unwrap().state, CircuitState::HalfOpen);
    assert_eq!(
        circuit.succeeded(LaneKey(9), 12 * SECOND),
        Some(12 * SECOND)
    );
    assert!(circuit.is_closed());
    assert_eq!(circuit.stats(), None);
    // It begins anew: what failed before counts no more.
    assert_eq!(circuit.failed(failed(1, 13 * SECOND)), Judgement::Counts);
}

#[test]
fn each_event_tried_in_vain_doubles_the_wait_up_to_a_limit() {
    let mut circuit = opened(3, 3);
    let mut now = 10 * SECOND;

    for expected in [20, 40, 60, 60, 60] {
        assert!(circuit.advance_to(now));
        circuit.probe(LaneKey(7));
        let probe_in = expected * SECOND;
        let again = true;
        let judged = circuit.failed(failed(7, now));
        assert_eq!(judged, Judgement::Opens { probe_in, again });
        now += probe_in;
    }

    assert_eq!(circuit.openings(), 1);
    assert_eq!(circuit.stats().unwrap().probes_failed, 5);
}

#[test]
fn a_handler_that_asks_for_a_longer_wait_gets_it() {
    let mut circuit = circuit(1, 1);
    let asked = Some(120 * SECOND);

    let judged = circuit.failed(Failed {
        asked,
        ..failed(1, SECOND)
    });

    let probe_in = 120 * SECOND;
    let again = false;
    assert_eq!(judged, Judgement::Opens { probe_in, again });
}

#[test]
fn an_event_that_tells_nothing_lets_another_be_tried() {
    let mut circuit = opened(3, 3);
    assert!(circuit.advance_to(10 * SECOND));
    circuit.probe(LaneKey(9));

    circuit.probe_told_nothing();

    assert!(circuit.wants_probe());
    assert_eq!(circuit.probing(), None);
}

#[test]
fn keys_that_did_not_fail_are_tried_first() {
    let mut circuit = opened(3, 3);

    assert!(circuit.is_failing(LaneKey(0)) && circuit.is_failing(LaneKey(2)));
    assert!(!circuit.is_failing(LaneKey(3)));
    assert!(circuit.advance_to(10 * SECOND));
    circuit.probe(LaneKey(3));
    let _judgement = circuit.failed(failed(3, 10 * SECOND));
    assert!(circuit.is_failing(LaneKey(3)));
}

#[test]
fn what_was_counted_before_the_opening_is_taken_back_once() {
    let mut circuit = circuit(3, 3);
    for lane in [1, 2] {
        assert_eq!(circuit.failed(failed(lane, SECOND)), Judgement::Counts);
        circuit.counted(LaneKey(lane));
        circuit.counted(LaneKey(lane));
    }
    circuit.left(LaneKey(2));
    let _judgement = circuit.failed(failed(3, SECOND));

    assert_eq!(circuit.to_forgive(), [(LaneKey(1), 2)]);
    assert_eq!(circuit.forgiven(LaneKey(1)), 2);
    assert_eq!(circuit.forgiven(LaneKey(1)), 0);
}

#[test]
fn a_policy_opens_a_circuit_that_judges_nothing() {
    let mut circuit = Circuit::new(None);
    for lane in 0..100 {
        assert_eq!(circuit.failed(failed(lane, SECOND)), Judgement::Counts);
    }

    let judged = circuit.failed(Failed {
        pauses_group: true,
        ..failed(7, SECOND)
    });

    assert!(
        matches!(judged, Judgement::Opens { again: false, .. }),
        "{judged:?}"
    );
}

#[test]
fn a_circuit_that_stops_its_group_never_tries() {
    let mut circuit = Circuit::new(Some(Breaker {
        failures: 1,
        of: 1,
        on_open: OnOpen::Stop,
        ..Breaker::default()
    }));

    let _judgement = circuit.failed(failed(1, SECOND));

    assert_eq!(circuit.due_next(), None);
    assert!(!circuit.advance_to(Duration::MAX));
}

proptest! {
    #[test]
    fn it_is_open_exactly_if_enough_of_the_last_outcomes_of_different_keys_failed(
        outcomes in prop::collection::vec(any::<bool>(), 0..60), failures in 1_usize..6, more in 0_usize..4,
    ) {
        let of = failures + more;
        let mut circuit = circuit(failures, of);
        let mut before = Vec::new();
        for (lane, fails) in outcomes.into_iter().enumerate() {
            before.push(fails);
            let last = before.iter().rev().take(of);
            let expected = fails && last.filter(|fails| **fails).count() >= failures;
            if fails {
                let judgement = circuit.failed(failed(lane as u64, SECOND));
                prop_assert_eq!(judgement != Judgement::Counts, expected);
            } else {
                prop_assert_eq!(circuit.succeeded(LaneKey(lane as u64), SECOND), None);
            }
            if expected {
                break;
            }
        }
    }
}

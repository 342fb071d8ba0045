//! What is handed out of partitions, and what is committed of that.

use super::*;
use tidings_core::cloudevents::binding::Carried;
use tidings_core::{Envelope, EnvelopeParts};

fn stand(position: u64, handed_below: u64) -> Stand {
    Stand {
        partition: 0,
        position,
        handed_below,
    }
}

fn records(offsets: std::ops::Range<u64>) -> Vec<(Incomer, bool)> {
    let record = |offset: u64| Incomer {
        partition: 0,
        offset,
        append_time: None,
        bytes: 1,
        carried: Carried {
            envelope: Envelope::new(EnvelopeParts::new(offset.to_string(), "a.b")).unwrap(),
            problem: None,
        },
    };
    offsets.map(|offset| (record(offset), true)).collect()
}

/// The next events: their ids, and whether each may have been handed out before.
fn handed_out(state: &mut State) -> Vec<(String, bool, Token)> {
    loop {
        match state.receive(100) {
            Some(Ok(Received::Deliveries { deliveries, .. })) => {
                let told = deliveries.into_iter().map(|it| {
                    let id = it.envelope.event_id().to_owned();
                    (id, it.redelivered, it.token)
                });
                return told.collect();
            }
            Some(Ok(_)) => {}
            other => {
                assert!(other.is_none(), "{other:?}");
                return Vec::new();
            }
        }
    }
}

#[test]
fn nothing_is_handed_out_before_it_is_committed_that_it_may_be() {
    let mut state = State::default();
    state.assign(&"t".into(), stand(5, 5), true);
    state.take_in(records(5..8));
    assert!(handed_out(&mut state).is_empty());

    let raised = state.to_raise();
    assert_eq!(raised, [stand(5, 8 + KAFKA_HANDED_OUT_AHEAD_FIRST)]);
    state.raised(&raised);

    let told = handed_out(&mut state);
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|(_, redelivered, _)| !redelivered));
    assert!(state.to_raise().is_empty());
}

#[test]
fn what_was_handed_out_before_a_process_died_is_told() {
    let mut state = State::default();
    state.assign(&"t".into(), stand(5, 7), true);
    state.take_in(records(5..9));
    let raised = state.to_raise();
    state.raised(&raised);

    let told: Vec<bool> = handed_out(&mut state).iter().map(|it| it.1).collect();

    assert_eq!(told, [true, true, false, false]);
}

#[test]
fn who_leaves_in_good_order_leaves_nothing_to_suspect_but_what_is_open() {
    let mut state = State::default();
    state.assign(&"t".into(), stand(0, 0), true);
    state.take_in(records(0..4));
    let raised = state.to_raise();
    state.raised(&raised);
    let told = handed_out(&mut state);
    for (_, _, token) in &told[..2] {
        state.settle(*token, SettleAction::Ack).unwrap();
    }
    state.settle(told[3].2, SettleAction::Ack).unwrap();

    assert_eq!(state.take_last(None), [stand(2, 3)]);
    assert!(state.take_last(None).is_empty());
    state.settle(told[2].2, SettleAction::Ack).unwrap();
    assert_eq!(state.take_last(None), [stand(4, 4)]);
}

//! What a consumer relies on: lanes in order, nothing early, nothing twice, all or nothing.

use super::*;
use tidings_core::DedupeKey;
use tidings_core::store::FailureState;

pub(super) async fn order(place: Place) {
    let first = park(
        vec![delivery("a", "k"), delivery("b", "k")],
        Some(Duration::ZERO),
    );
    place.apply(&[first]).await;
    place.apply(&[park(vec![delivery("c", "k")], None)]).await;

    let rows = place.lane("k").await;
    assert_eq!(ids(&rows), ["a", "b", "c"]);
    assert_eq!(rows[0].envelope, event("a", "k"), "the event is as it was");
    assert_eq!(rows[0].history.len(), 1);
    assert_eq!((rows[0].position, rows[0].attempts), (Some(17), 3));
    assert_eq!(place.due(GROUP).await, ["a"], "the head alone is due");
    assert!(place.due("other").await.is_empty());
    place.finish("k").await;
    assert_eq!(place.due(GROUP).await, ["b"], "the next is due at once");
    let state = place.failures.state(GROUP).await.unwrap();
    assert_eq!(state.lanes.len(), 1);
    assert_eq!(state.lanes[0].rows, 2);
}

pub(super) async fn once(place: Place) {
    let hour = Some(Duration::from_secs(3_600));
    place.apply(&[park(vec![delivery("a", "k")], hour)]).await;

    // The broker delivers again what was parked before it was settled.
    let again = park(vec![delivery("a", "k")], Some(Duration::ZERO));
    place.apply(&[again]).await;

    assert_eq!(place.lane("k").await.len(), 1);
    assert!(place.due(GROUP).await.is_empty(), "it is no sooner due");
}

pub(super) async fn never_early(place: Place) {
    let minute = Duration::from_secs(60);
    place
        .apply(&[park(vec![delivery("a", "k")], Some(minute))])
        .await;

    let due = place.failures.due(GROUP, 10).await.unwrap();
    assert!(due.lanes.is_empty());
    let next = due.next_in.expect("something waits for a time");
    assert!(next <= minute && next > minute / 2, "{next:?}");
    let head = place.lane("k").await.remove(0);
    let postponed = FailureChange::Postpone {
        row: head.row(),
        attempts: 4,
        rounds: 2,
        history: Vec::new(),
        due_in: minute * 10,
    };
    place.apply(&[postponed]).await;
    let due = place.failures.due(GROUP, 10).await.unwrap();
    assert!(due.next_in.is_some_and(|next| next > minute * 5));
    let head = place.lane("k").await.remove(0);
    assert_eq!((head.attempts, head.rounds), (4, 2));
}

pub(super) async fn finished_twice(place: Place) {
    let rows = vec![delivery("a", "k"), delivery("b", "k"), delivery("c", "k")];
    place.apply(&[park(rows, Some(Duration::ZERO))]).await;
    let head = place.lane("k").await.remove(0).row();

    place.apply(&[FailureChange::Finish { row: head }]).await;
    // Its answer was lost.
    place.apply(&[FailureChange::Finish { row: head }]).await;

    assert_eq!(ids(&place.lane("k").await), ["b", "c"]);
    assert_eq!(place.due(GROUP).await, ["b"]);
}

pub(super) async fn held(place: Place) {
    let behind = park(vec![delivery("b", "k")], None);
    place
        .apply(&[death(delivery("a", "k"), true), behind])
        .await;

    assert_eq!(ids(&place.lane("k").await), ["a", "b"]);
    let due = place.failures.due(GROUP, 10).await.unwrap();
    assert!(due.lanes.is_empty() && due.next_in.is_none(), "{due:?}");
    let letter = place.letter("a").await;
    assert_eq!(letter.status, LetterStatus::Open);
    assert!(letter.holds);
    assert_eq!((letter.deaths, letter.attempts), (1, 3));
    assert_eq!(letter.envelope, event("a", "k"));
    assert_eq!(letter.code_version, "1.2.3");
    let head = place.lane("k").await.remove(0);
    assert_eq!(head.letter, Some(letter.id), "the letter holds the row");
    let facts = (place.facts)().await;
    assert_eq!(facts.len(), 1, "{facts:?}");
    assert_eq!(facts[0].0, "tidings.dead_letter.recorded");
    let key = DedupeKey::of(&event("a", "k"));
    assert_eq!(place.failures.deaths(GROUP, &[key]).await.unwrap(), [1]);
}

pub(super) async fn found(place: Place) {
    let waits = park(vec![delivery("c", "later")], Some(Duration::from_secs(60)));
    place.apply(&[death(delivery("a", "k"), true), waits]).await;

    let lane = |state: FailureState, key: &str| {
        let mut lanes = state.lanes.into_iter();
        lanes.find(|lane| lane.lane == LaneId::of_key(key))
    };
    let state = place.failures.state(GROUP).await.unwrap();
    let held = lane(state.clone(), "k").unwrap();
    assert!(held.held, "its dead letter waits for a decision");
    let oldest = held.oldest.expect("the store tells how old a lane is");
    assert!(oldest < Duration::from_secs(3_600), "{oldest:?}");
    assert!(!lane(state, "later").unwrap().held, "it waits for a time");
    place.redrive("a").await;
    let state = place.failures.state(GROUP).await.unwrap();
    assert!(!lane(state, "k").unwrap().held, "it was handed back");
}

pub(super) async fn let_go(place: Place) {
    place.apply(&[death(delivery("free", "f"), false)]).await;
    assert!(place.lane("f").await.is_empty());

    let rows = vec![delivery("a", "k"), delivery("b", "k")];
    place.apply(&[park(rows, Some(Duration::ZERO))]).await;
    let head = place.lane("k").await.remove(0);
    place.apply(&[death(head, false)]).await;

    assert_eq!(place.due(GROUP).await, ["b"], "the next is due at once");
    assert_eq!(place.letters().await.len(), 2);
}

pub(super) async fn attempts(place: Place) {
    let [a, b] = ["a", "b"].map(|id| DedupeKey::of(&event(id, "k")));
    let noted = |event, attempts| FailureChange::Attempted { event, attempts };
    place.apply(&[noted(a, 2), noted(b, 1)]).await;
    place.apply(&[noted(a, 1)]).await;
    let state = place.failures.state(GROUP).await.unwrap();
    assert_eq!(state.attempts.get(&a), Some(&2));

    place.apply(&[FailureChange::Succeeded { event: a }]).await;
    let state = place.failures.state(GROUP).await.unwrap();
    assert_eq!(state.attempts.len(), 1);
    place.apply(&[death(delivery("b", "k"), false)]).await;
    let state = place.failures.state(GROUP).await.unwrap();
    assert!(state.attempts.is_empty(), "a death ends the count");
}

pub(super) async fn atomic(place: Place) {
    let FailureChange::Bury(mut twin) = death(delivery("b", "k"), true) else {
        panic!("it is a death");
    };
    // The letter of another event has this id.
    twin.id = letter_id(GROUP, &delivery("a", "k"));
    let changes = [
        park(vec![delivery("c", "other")], Some(Duration::ZERO)),
        death(delivery("a", "k"), true),
        FailureChange::Bury(twin),
    ];

    let refused = place.failures.apply(GROUP, &changes).await;

    assert!(refused.is_err(), "two letters have one id");
    assert!(place.lane("k").await.is_empty(), "nothing is held");
    assert!(place.lane("other").await.is_empty(), "nothing is parked");
    assert!(place.letters().await.is_empty(), "nobody is dead");
    assert!((place.facts)().await.is_empty(), "nothing is stated");
}

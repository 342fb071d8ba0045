//! What a person relies on who decides: once, in order, for the right group, and what waits behind goes on.

use super::*;
use tidings_core::DedupeKey;
use tidings_core::store::Decision;

/// A held event with two behind it.
async fn held_lane(place: &Place) {
    let behind = park(vec![delivery("b", "k"), delivery("c", "k")], None);
    place
        .apply(&[death(delivery("a", "k"), true), behind])
        .await;
}

pub(super) async fn head_first(place: Place) {
    held_lane(&place).await;

    assert_eq!(place.redrive("a").await.len(), 1);

    assert_eq!(place.status("a").await, LetterStatus::Redriven);
    assert_eq!(place.due(GROUP).await, ["a"]);
    let rows = place.lane("k").await;
    assert_eq!(ids(&rows), ["a", "b", "c"], "it keeps its place");
    assert_eq!((rows[0].attempts, rows[0].rounds), (0, 0), "it begins anew");
    assert_eq!(rows[0].deaths, 1, "deaths are not forgotten");
    let outcome = place.letters.outcome("rd-1").await.unwrap();
    assert_eq!((outcome.waiting, outcome.resolved), (1, 0));
    place.finish("k").await;
    assert_eq!(place.status("a").await, LetterStatus::Resolved);
    assert_eq!(place.due(GROUP).await, ["b"]);
    let outcome = place.letters.outcome("rd-1").await.unwrap();
    assert_eq!((outcome.waiting, outcome.resolved), (0, 1));
    place.finish("k").await;
    place.finish("k").await;
    assert!(place.lane("k").await.is_empty());
}

pub(super) async fn twice(place: Place) {
    place.apply(&[death(delivery("a", "k"), false)]).await;
    let found = [verdict(&place.letter("a").await)];

    let one = place.letters.redrive(&found, "rd-1", &operator()).await;
    let other = place.beside.redrive(&found, "rd-2", &operator()).await;

    assert_eq!(one.unwrap().len(), 1);
    assert!(other.unwrap().is_empty());
    assert_eq!(place.lane("k").await.len(), 1);
    place.finish("k").await;
    let late = place.beside.redrive(&found, "rd-3", &operator()).await;
    assert!(late.unwrap().is_empty(), "it was handled");
    assert!(place.lane("k").await.is_empty());
    let letter = place.letter("a").await;
    assert_eq!(letter.redrives, 1);
    let facts = (place.facts)().await;
    let redriven = facts
        .iter()
        .filter(|(event_type, _)| event_type == "tidings.dead_letter.redriven");
    assert_eq!(redriven.count(), 1, "{facts:?}");
    let actions = place.letters.actions(&letter.id, 10).await.unwrap();
    assert_eq!(actions.len(), 1, "{actions:?}");
}

pub(super) async fn at_once(place: Place) {
    let mut deaths = Vec::new();
    for number in 0..60 {
        let (id, key) = (format!("e{number}"), format!("k{}", number % 7));
        deaths.push(death(delivery(&id, &key), false));
    }
    place.apply(&deaths).await;
    let found: Vec<Verdict> = place.letters().await.iter().map(verdict).collect();
    assert_eq!(found.len(), 60);
    let mut reversed = found.clone();
    reversed.reverse();

    let operator = operator();
    let (one, other) = tokio::join!(
        stubborn(&*place.letters, &found, "rd-1", &operator),
        stubborn(&*place.beside, &reversed, "rd-2", &operator),
    );

    let mut done = [one, other].concat();
    done.sort();
    let all = done.len();
    done.dedup();
    assert_eq!((all, done.len()), (60, 60), "each once");
    let state = place.failures.state(GROUP).await.unwrap();
    let rows: u64 = state.lanes.iter().map(|lane| lane.rows).sum();
    assert_eq!(rows, 60);
    assert_eq!(place.due(GROUP).await.len(), 7, "the head of each lane");
    let facts = (place.facts)().await;
    assert_eq!(facts.len(), 120, "each death and each redrive once");
}

/// Asks again where another transaction was in the way.
async fn stubborn(
    store: &dyn DeadLetterStore,
    verdicts: &[Verdict],
    run: &str,
    operator: &Operator,
) -> Vec<String> {
    for _ in 0..50 {
        match store.redrive(verdicts, run, operator).await {
            Ok(done) => return done,
            Err(error) => assert_eq!(
                error.class(),
                tidings_core::ErrorClass::Transient,
                "{error}"
            ),
        }
    }
    panic!("it is never let through");
}

pub(super) async fn one_group(place: Place) {
    let other = [death_in("email", delivery("a", "k"), false)];
    place.failures.apply("email", &other).await.unwrap();
    place.apply(&[death(delivery("a", "k"), false)]).await;
    let filter = LetterFilter {
        group: Some(GROUP.to_owned()),
        ..LetterFilter::default()
    };
    let found = place.letters.letters(&filter, i64::MIN, 10).await.unwrap();
    assert_eq!(found.len(), 1);

    let verdicts = [verdict(&found[0])];
    let done = place.letters.redrive(&verdicts, "rd-1", &operator()).await;

    assert_eq!(done.unwrap().len(), 1);
    assert_eq!(place.due(GROUP).await, ["a"]);
    let state = place.failures.state("email").await.unwrap();
    assert!(state.lanes.is_empty(), "the other group gets nothing");
    let letters = place.letters().await;
    let of_other = letters.iter().find(|letter| letter.group == "email");
    assert_eq!(of_other.unwrap().status, LetterStatus::Open);
}

pub(super) async fn behind(place: Place) {
    place.apply(&[death(delivery("a", "k"), false)]).await;
    let hour = Some(Duration::from_secs(3_600));
    place.apply(&[park(vec![delivery("b", "k")], hour)]).await;

    place.redrive("a").await;

    assert_eq!(ids(&place.lane("k").await), ["b", "a"]);
    assert!(place.due(GROUP).await.is_empty(), "the lane waits");
    place.finish("k").await;
    assert_eq!(place.due(GROUP).await, ["a"]);
    place.finish("k").await;
    assert_eq!(place.status("a").await, LetterStatus::Resolved);
}

pub(super) async fn died_again(place: Place) {
    for holds in [true, false] {
        let (id, key) = if holds { ("a", "held") } else { ("b", "free") };
        place.apply(&[death(delivery(id, key), holds)]).await;
        let first = place.letter(id).await;
        place.redrive(id).await;
        let head = place.lane(key).await.remove(0);
        assert_eq!(head.deaths, 1);
        place.apply(&[death(head, holds)]).await;

        let letter = place.letter(id).await;
        assert_eq!(letter.status, LetterStatus::Open, "{holds}");
        assert_eq!((letter.deaths, letter.redrives), (2, 1));
        assert_eq!(letter.number, first.number, "it is the same letter");
        assert!(place.due(GROUP).await.is_empty());
        let stale = [verdict(&first)];
        let done = place.letters.redrive(&stale, "rd-2", &operator()).await;
        assert!(done.unwrap().is_empty(), "it was found another time");
        assert_eq!(place.redrive(id).await.len(), 1);
        assert_eq!(place.due(GROUP).await, [id]);
        place.finish(key).await;
    }
    let outcome = place.letters.outcome("rd-1").await.unwrap();
    assert_eq!((outcome.resolved, outcome.failed), (2, 0));
}

pub(super) async fn discarded(place: Place) {
    held_lane(&place).await;
    let verdicts = [verdict(&place.letter("a").await)];
    let before = place.failures.due(GROUP, 1).await.unwrap().decided;

    let done = place.letters.discard(&verdicts, &operator()).await.unwrap();
    let again = place.beside.discard(&verdicts, &operator()).await.unwrap();

    assert_eq!((done.len(), again.len()), (1, 0));
    assert_eq!(ids(&place.lane("k").await), ["b", "c"]);
    assert_eq!(place.due(GROUP).await, ["b"]);
    let letter = place.letter("a").await;
    assert_eq!(letter.status, LetterStatus::Discarded);
    assert_eq!(letter.decided_by.as_deref(), Some("anna@desk"));
    assert_eq!(letter.decided_why.as_deref(), Some("INC-4711"));
    let state = place.failures.state(GROUP).await.unwrap();
    let key = DedupeKey::of(&event("a", "k"));
    assert_eq!(state.decisions.get(&key), Some(&Decision::Discarded));
    let due = place.failures.due(GROUP, 1).await.unwrap();
    assert_ne!(due.decided, before, "who runs learns that it is so");
    assert_eq!(due.decided, state.decided);
    let decisions = place.failures.decisions(GROUP).await.unwrap();
    assert_eq!(decisions, state.decisions);
}

pub(super) async fn edited(place: Place) {
    held_lane(&place).await;
    place.apply(&[death(delivery("free", "f"), false)]).await;
    for (id, key) in [("a", "k"), ("free", "f")] {
        let copy = event(&format!("{id}-copy"), key);
        let found = verdict(&place.letter(id).await);
        let before = place.failures.due(GROUP, 1).await.unwrap().decided;

        let done = place.letters.edit(&found, &copy, &operator()).await;
        let again = place.beside.edit(&found, &copy, &operator()).await;

        assert!(done.unwrap() && !again.unwrap());
        let letter = place.letter(id).await;
        assert_eq!(letter.status, LetterStatus::Edited);
        assert_eq!(letter.envelope, event(id, key), "both are kept");
        assert_eq!(letter.edited, Some(copy.clone()));
        let head = place.lane(key).await.remove(0);
        assert_eq!(head.envelope, copy, "it stands in the place");
        assert_eq!((head.attempts, head.letter), (0, None));
        let state = place.failures.state(GROUP).await.unwrap();
        assert_ne!(state.decided, before, "who runs learns that it is so");
        let of_event = state.decisions.get(&DedupeKey::of(&event(id, key)));
        assert_eq!(of_event, Some(&Decision::Edited(Box::new(copy))));
    }
    assert_eq!(ids(&place.lane("k").await), ["a-copy", "b", "c"]);
    assert_eq!(place.due(GROUP).await.len(), 2);
    // The copy dies: it has a letter of its own.
    let head = place.lane("k").await.remove(0);
    place.apply(&[death(head, true)]).await;
    assert_eq!(place.status("a-copy").await, LetterStatus::Open);
    assert_eq!(place.status("a").await, LetterStatus::Edited);
    assert_eq!(place.redrive("a-copy").await.len(), 1);
    place.finish("k").await;
    assert_eq!(place.due(GROUP).await.len(), 2);
}

/// A person decides by force about an event that was handed back and is being tried: what comes of the trial is about what is not there any more.
pub(super) async fn decided_meanwhile(place: Place) {
    for discards in [true, false] {
        let (id, key) = if discards { ("a", "k") } else { ("x", "m") };
        let after = format!("{id}-after");
        let rows = vec![delivery(&after, key)];
        place
            .apply(&[death(delivery(id, key), true), park(rows, None)])
            .await;
        assert_eq!(place.redrive(id).await.len(), 1);
        let tried = place.lane(key).await.remove(0);
        let found = verdict(&place.letter(id).await);
        let copy = event(&format!("{id}-copy"), key);
        let (decided, left) = if discards {
            let done = place.letters.discard(&[found], &operator()).await;
            assert_eq!(done.unwrap().len(), 1);
            (LetterStatus::Discarded, vec![after])
        } else {
            let done = place.letters.edit(&found, &copy, &operator()).await;
            assert!(done.unwrap());
            (LetterStatus::Edited, vec![format!("{id}-copy"), after])
        };

        let postponed = FailureChange::Postpone {
            row: tried.row(),
            attempts: 9,
            rounds: 9,
            history: Vec::new(),
            due_in: Duration::from_secs(3_600),
        };
        for change in [
            postponed,
            death(tried.clone(), true),
            death(tried.clone(), false),
            FailureChange::Finish { row: tried.row() },
        ] {
            place.apply(&[change]).await;

            assert_eq!(place.status(id).await, decided);
            assert_eq!(ids(&place.lane(key).await), left);
            let head = place.lane(key).await.remove(0);
            assert!(head.attempts < 9 && head.letter.is_none());
            assert_eq!(place.due(GROUP).await, left[..1]);
        }
        for _ in left {
            place.finish(key).await;
        }
    }
}

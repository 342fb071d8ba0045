//! What a person relies on who looks: everything is found, counted exactly, and told with who and why.

use super::*;
use tidings_core::store::{ForeignLetter, OpenCircuit, WaitingFilter};

fn foreign(id: &str, deaths: u32) -> ForeignLetter {
    let mut delivery = delivery(id, "k");
    delivery.deaths = deaths;
    ForeignLetter {
        id: format!("foreign-{id}"),
        group: GROUP.to_owned(),
        delivery,
        handler: String::new(),
        reasons: vec!["java.lang.Exception: no".to_owned()],
        fingerprint: "dlq-00ff".to_owned(),
        cause: "attempts".to_owned(),
        died: Timestamp::from_micros(1_700_000_000_000_000),
    }
}

pub(super) async fn taken_over(place: Place) {
    let letters = [foreign("a", 0), foreign("b", 0)];

    let new = place.letters.take_over(&letters, &operator()).await;
    let again = place.beside.take_over(&letters, &operator()).await;

    assert_eq!((new.unwrap(), again.unwrap()), (2, 0));
    let letter = place.letter("a").await;
    assert_eq!((letter.deaths, letter.status), (1, LetterStatus::Open));
    assert_eq!(letter.died.as_micros(), 1_700_000_000_000_000);
    assert_eq!(letter.envelope, event("a", "k"));
    assert_eq!(place.redrive("a").await.len(), 1);
    assert_eq!(place.due(GROUP).await, ["a"]);
    place.finish("k").await;
    let newer = [foreign("a", 1)];
    let died = place.letters.take_over(&newer, &operator()).await.unwrap();
    assert_eq!(died, 1, "it died once more elsewhere");
    let letter = place.letter("a").await;
    assert_eq!((letter.deaths, letter.status), (2, LetterStatus::Open));
    assert_eq!(place.letters.taken_up_to("log").await.unwrap(), None);
    place.letters.note_taken("log", 7).await.unwrap();
    place.beside.note_taken("log", 5).await.unwrap();
    let up_to = place.letters.taken_up_to("log").await.unwrap();
    assert_eq!(up_to, Some(7), "it never goes back");
}

pub(super) async fn filters(place: Place) {
    for (id, key) in [("a", "k1"), ("b", "k1"), ("c", "k2")] {
        place.apply(&[death(delivery(id, key), false)]).await;
    }
    let other = [death_in("email", delivery("a", "k1"), false)];
    place.failures.apply("email", &other).await.unwrap();
    let foreign = [foreign("d", 0)];
    let taken = place.letters.take_over(&foreign, &operator()).await;
    taken.unwrap();
    place.redrive("c").await;

    for (filter, expected) in wanted() {
        let found = place.letters.letters(&filter, i64::MIN, 100).await.unwrap();
        let found = found.iter().map(|one| one.envelope.event_id());
        let found: String = found.collect();
        assert_eq!(found, expected, "{filter:?}");
        let tally = place.letters.tally(&filter, i64::MIN).await.unwrap();
        let count: u64 = tally.iter().map(|tally| tally.count).sum();
        assert_eq!(usize::try_from(count), Ok(expected.len()), "{filter:?}");
    }
    let all = LetterFilter::default();
    let page = place.letters.letters(&all, i64::MIN, 2).await.unwrap();
    let behind = page[1].number;
    let next = place.letters.letters(&all, behind, 2).await.unwrap();
    assert_eq!(next[0].envelope.event_id(), "c", "pages follow each other");
}

/// Filters, and the events that each means, one letter an event.
fn wanted() -> Vec<(LetterFilter, &'static str)> {
    let text = |text: &str| Some(text.to_owned());
    let time = |micros| Some(Timestamp::from_micros(micros));
    let with = |change: &dyn Fn(&mut LetterFilter)| {
        let mut filter = LetterFilter::default();
        change(&mut filter);
        filter
    };
    let of_email = letter_id("email", &delivery("a", "k1"));
    let pattern = |text: &str| vec![text.parse().unwrap()];
    vec![
        (with(&|_| {}), "abcad"),
        (with(&|f| f.ids = vec!["b".into(), "d".into()]), "bd"),
        (with(&|f| f.ids = vec![of_email.clone()]), "a"),
        (with(&|f| f.group = text("email")), "a"),
        (with(&|f| f.key = text("k1")), "aba"),
        (with(&|f| f.cluster = text("dlq-00ff")), "d"),
        (with(&|f| f.types = pattern("order.*")), "abcad"),
        (with(&|f| f.types = pattern("payment.*")), ""),
        (with(&|f| f.statuses = vec![LetterStatus::Redriven]), "c"),
        (with(&|f| f.since = time(1_800_000_000_000_000_000)), ""),
        (with(&|f| f.until = time(1_700_000_000_000_001)), "d"),
    ]
}

pub(super) async fn counts(place: Place) {
    for id in ["a", "b", "c"] {
        place.apply(&[death(delivery(id, "k"), false)]).await;
    }
    let foreign = [foreign("d", 0)];
    place
        .letters
        .take_over(&foreign, &operator())
        .await
        .unwrap();
    place.redrive("b").await;

    let clusters = place.letters.clusters(&LetterFilter::default(), 10).await;
    let clusters = clusters.unwrap();

    assert_eq!(clusters.len(), 2, "{clusters:?}");
    let (first, second) = (&clusters[0], &clusters[1]);
    assert_eq!((first.fingerprint.as_str(), first.count), ("dlq-0001", 3));
    assert_eq!((first.redrives, second.redrives), (1, 0));
    assert!(first.reason.starts_with("refused"), "{}", first.reason);
    assert_eq!((first.group.as_str(), second.count), (GROUP, 1));
    assert_eq!(first.event_type, "order.placed.v2");
    assert!(second.last < first.first);
    let tally = place
        .letters
        .tally(&LetterFilter::default(), i64::MIN)
        .await
        .unwrap();
    let told: Vec<(LetterStatus, u32, u64)> = tally
        .iter()
        .map(|tally| (tally.status, tally.redrives, tally.count))
        .collect();
    assert_eq!(
        told,
        [(LetterStatus::Open, 0, 3), (LetterStatus::Redriven, 1, 1)]
    );
}

pub(super) async fn history(place: Place) {
    place.apply(&[death(delivery("a", "k"), true)]).await;
    let letter = place.letter("a").await;
    place.redrive("a").await;
    let head = place.lane("k").await.remove(0);
    place.apply(&[death(head, true)]).await;
    let verdicts = [verdict(&place.letter("a").await)];
    place.letters.discard(&verdicts, &operator()).await.unwrap();

    let actions = place.letters.actions(&letter.id, 10).await.unwrap();

    let told: Vec<&str> = actions.iter().map(|one| one.action.as_str()).collect();
    assert_eq!(told, ["redrive", "discard"]);
    assert_eq!(actions[0].actor, "anna@desk");
    assert_eq!(actions[0].reason, "INC-4711");
    assert_eq!(actions[0].group.as_deref(), Some(GROUP));
    assert!(actions[0].detail.contains("rd-1"), "{}", actions[0].detail);
    assert!(actions[0].at <= actions[1].at);
}

pub(super) async fn retried_now(place: Place) {
    let hour = Some(Duration::from_secs(3_600));
    let rows = vec![delivery("a", "k1"), delivery("b", "k1")];
    place.apply(&[park(rows, hour)]).await;
    place.apply(&[park(vec![delivery("c", "k2")], hour)]).await;
    place.apply(&[death(delivery("d", "k3"), true)]).await;
    let waiting = |filter: WaitingFilter| {
        let letters = Arc::clone(&place.letters);
        async move {
            let found = letters.waiting(&filter, i64::MIN, 100).await.unwrap();
            let ids = found
                .iter()
                .map(|one| one.delivery.envelope.event_id().to_owned());
            ids.collect::<Vec<_>>()
        }
    };
    let all = WaitingFilter::default;
    assert_eq!(waiting(all()).await, ["a", "b", "c", "d"]);
    assert_eq!(
        waiting(WaitingFilter {
            due_only: true,
            ..all()
        })
        .await,
        ["a", "c"]
    );
    let key = WaitingFilter {
        key: Some("k2".to_owned()),
        ..all()
    };
    assert_eq!(waiting(key.clone()).await, ["c"]);

    assert_eq!(place.letters.retry_now(&key, &operator()).await.unwrap(), 1);
    assert_eq!(place.due(GROUP).await, ["c"]);
    let rest = WaitingFilter {
        group: Some(GROUP.to_owned()),
        ..all()
    };
    assert_eq!(
        place.letters.retry_now(&rest, &operator()).await.unwrap(),
        1
    );
    let mut due = place.due(GROUP).await;
    due.sort();
    assert_eq!(due, ["a", "c"], "what its letter holds stays");
    let actions = place.letters.actions("c", 10).await.unwrap();
    assert_eq!(actions[0].action, "retry_now");
}

pub(super) async fn paused(place: Place) {
    let operator = operator();
    assert!(
        place
            .letters
            .set_paused(GROUP, true, &operator)
            .await
            .unwrap()
    );

    let due = place.failures.due(GROUP, 10).await.unwrap();
    assert_eq!(due.paused.as_deref(), Some("INC-4711"));
    let due = place.failures.due("other", 10).await.unwrap();
    assert_eq!(due.paused, None);
    let paused = place.beside.paused().await.unwrap();
    assert_eq!(paused.len(), 1);
    assert_eq!(paused[0].group, GROUP);
    assert!(
        place
            .beside
            .set_paused(GROUP, false, &operator)
            .await
            .unwrap()
    );
    assert!(
        !place
            .beside
            .set_paused(GROUP, false, &operator)
            .await
            .unwrap()
    );
    let due = place.failures.due(GROUP, 10).await.unwrap();
    assert_eq!(due.paused, None);
    let actions = place.letters.actions(GROUP, 10).await.unwrap();
    let told: Vec<&str> = actions.iter().map(|one| one.action.as_str()).collect();
    assert_eq!(told, ["pause", "resume"]);
}

pub(super) async fn circuit(place: Place) {
    assert_eq!(place.beside.circuit(GROUP).await.unwrap(), None);
    let mut told = OpenCircuit {
        since: Timestamp::from_micros(1_800_000_000_000_001),
        probe_at: Some(Timestamp::from_micros(1_800_000_030_000_002)),
        reason: "the provider's \u{201e}door\u{201c} is closed".to_owned(),
    };

    for probe_at in [told.probe_at, None, told.probe_at] {
        told.probe_at = probe_at;
        place
            .failures
            .tell_circuit(GROUP, Some(&told))
            .await
            .unwrap();
        let seen = place.beside.circuit(GROUP).await.unwrap();
        assert_eq!(seen.as_ref(), Some(&told));
    }
    assert_eq!(place.beside.circuit("other").await.unwrap(), None);
    for _ in 0..2 {
        place.failures.tell_circuit(GROUP, None).await.unwrap();
        assert_eq!(place.beside.circuit(GROUP).await.unwrap(), None);
    }
}

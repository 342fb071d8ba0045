//! What a person decides of an event, as the group meets it: in its store, in its lanes, and when history is read again.

use super::*;
use tidings_core::Envelope;

#[tokio::test]
async fn a_discarded_event_frees_its_key_and_a_replay_passes_over_it() {
    let mut parked = Parked::new();
    parked.stage.config.later.clear();
    parked.publish([1, 2]);
    let consumer = parked.start(&[("evt-1", 9)]).await;
    parked.stage.idle(&consumer).await;

    parked.store.discard("evt-1");
    let done = || parked.store.lock().parked.is_empty();
    parked.stage.until("the key is free", done).await;
    parked.stage.drain(consumer).await;
    parked.stage.broker.append([event("a.b", Some("k"), 1)]);
    let consumer = parked.start(&[("evt-1", 9)]).await;
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.seen.all(), ["evt-1 at 1 fails", "evt-2 at 1 ok"]);
    assert_eq!(consumer.stats().skipped, 1);
}

/// It waits in memory behind one that is being handled when a person decides.
#[tokio::test]
async fn an_event_that_is_skipped_ahead_of_a_running_group_is_passed_over() {
    let parked = Parked::new();
    parked.publish([1, 2]);
    let gate = Arc::new(tokio::sync::Notify::new());
    let (seen, opened) = (parked.seen.clone(), Arc::clone(&gate));
    let handler = TestHandler::of("**", move |context| {
        seen.note(context.envelope.event_id());
        let opened = Arc::clone(&opened);
        async move {
            opened.notified().await;
            Ok(())
        }
    });
    let builder = parked.stage.builder("group").handler(Arc::new(handler));
    let store = Arc::new(parked.store.clone());
    let consumer = builder.failures(store).start().await.unwrap();
    parked
        .stage
        .until("the first is being handled", || parked.seen.len() == 1)
        .await;

    for number in [2, 3] {
        let skipped = DedupeKey::of(&event("a.b", Some("k"), number));
        let decisions = &mut parked.store.lock().decisions;
        decisions.insert(skipped, Decision::Discarded);
    }
    parked
        .stage
        .until("it is passed over", || consumer.stats().skipped == 1)
        .await;
    // One that comes later is known by then.
    parked.publish([3]);
    gate.notify_one();
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.seen.all(), ["evt-1"]);
    assert_eq!(consumer.stats().skipped, 2);
    assert_eq!(parked.stage.broker.lock().acked.len(), 3);
}

/// It was handed back, or parked, when the group had other handlers.
#[tokio::test]
async fn a_row_that_no_handler_wants_is_given_up_and_not_taken_for_handled() {
    let parked = Parked::new();
    park_unwanted(&parked.store).await;
    let seen = parked.seen.clone();
    let handler = TestHandler::of("a.b", move |context| {
        seen.note(context.envelope.event_id());
        async { Ok(()) }
    });
    let builder = parked.stage.builder("group").handler(Arc::new(handler));
    let store = Arc::new(parked.store.clone());
    let consumer = builder.failures(store).start().await.unwrap();
    parked
        .stage
        .until("it is given up", || consumer.stats().dead_lettered == 1)
        .await;
    parked.publish([8]);
    parked.stage.idle(&consumer).await;

    assert!(parked.seen.all().is_empty(), "its key waits");
    assert_eq!(parked.store.parked_ids(), ["evt-7", "evt-8"]);
    let state = parked.store.lock();
    let letter = &state.letters[0];
    assert_eq!(letter.reasons, ["no handler of the group wants c.d"]);
    assert_eq!(letter.cause, DeathCause::Unwanted);
    assert_eq!((letter.handler.as_str(), letter.delivery.attempts), ("", 0));
}

#[tokio::test]
async fn an_edited_copy_is_handled_in_the_place_of_the_original() {
    let parked = Parked::new();
    let copy = event("a.b", Some("k"), 100);
    parked.store.lock().decisions.insert(
        DedupeKey::of(&event("a.b", Some("k"), 1)),
        Decision::Edited(Box::new(copy)),
    );
    parked.publish([1, 2]);
    let consumer = parked.start(&[]).await;
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.seen.all(), ["evt-100 at 1 ok", "evt-2 at 1 ok"]);
}

/// Lets an edited copy stand for an event.
fn edited(parked: &Parked, original: usize, copy: Envelope) {
    let original = DedupeKey::of(&event("a.b", Some("k"), original));
    let decision = Decision::Edited(Box::new(copy));
    parked.store.lock().decisions.insert(original, decision);
}

#[tokio::test]
async fn an_edited_copy_of_another_type_goes_to_the_handler_of_that_type() {
    let parked = Parked::new();
    edited(&parked, 1, event("c.d", Some("k"), 100));
    parked.publish([1, 2]);
    let noting = |name: &'static str, pattern: &str| {
        let seen = parked.seen.clone();
        let handler = TestHandler::of(pattern, move |context| {
            seen.note(format!("{name}: {}", context.envelope.event_id()));
            async { Ok(()) }
        });
        Arc::new(handler.named(name))
    };
    let consumer = parked
        .stage
        .builder("group")
        .handler(noting("b", "a.b"))
        .handler(noting("d", "c.d"))
        .failures(Arc::new(parked.store.clone()))
        .start()
        .await
        .unwrap();
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.seen.all(), ["d: evt-100", "b: evt-2"]);
}

#[tokio::test]
async fn an_edited_copy_of_a_type_that_nobody_wants_is_passed_over() {
    let parked = Parked::new();
    edited(&parked, 1, event("c.d", Some("k"), 100));
    parked.publish([1, 2]);
    let seen = parked.seen.clone();
    let handler = TestHandler::of("a.b", move |context| {
        seen.note(context.envelope.event_id());
        async { Ok(()) }
    });
    let builder = parked.stage.builder("group").handler(Arc::new(handler));
    let store = Arc::new(parked.store.clone());
    let consumer = builder.failures(store).start().await.unwrap();
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.seen.all(), ["evt-2"]);
    assert_eq!(consumer.stats().skipped, 1);
    assert_eq!(parked.stage.broker.lock().acked.len(), 2);
}

/// A copy may die and be decided about as well; a replay of the original meets none of it.
#[tokio::test]
async fn of_a_copy_that_was_edited_or_discarded_itself_the_last_word_counts() {
    let parked = Parked::new();
    edited(&parked, 1, event("a.b", Some("k"), 100));
    edited(&parked, 100, event("a.b", Some("k"), 101));
    edited(&parked, 2, event("a.b", Some("k"), 102));
    let copy = DedupeKey::of(&event("a.b", Some("k"), 102));
    let discarded = (copy, Decision::Discarded);
    parked.store.lock().decisions.extend([discarded]);
    parked.publish([1, 2, 3]);
    let consumer = parked.start(&[]).await;
    parked.stage.idle(&consumer).await;

    assert_eq!(parked.seen.all(), ["evt-101 at 1 ok", "evt-3 at 1 ok"]);
    assert_eq!(consumer.stats().skipped, 1);
}

#[tokio::test]
async fn attempts_at_a_copy_count_on_across_the_end_of_the_process() {
    let mut parked = Parked::new();
    parked.stage.config.attempts = 4;
    edited(&parked, 1, event("a.b", Some("k"), 100));
    parked.publish([1]);
    let consumer = parked.start(&[("evt-100", 9)]).await;
    let tried = || parked.seen.len() == 2;
    parked.stage.until("two attempts failed", tried).await;
    drop(consumer);
    parked.stage.settle_down().await;

    let consumer = parked.start(&[("evt-100", 9)]).await;
    let tried = || parked.seen.len() > 2;
    parked.stage.until("it is tried again", tried).await;

    let again = &parked.seen.all()[2];
    assert!(again != "evt-100 at 1 fails", "{again}");
    drop(consumer);
}

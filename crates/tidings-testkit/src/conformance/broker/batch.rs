//! A batch whose events come to different ends: E9.

use super::consumer::{drain, kept_in, start, without_handler};
use super::fixture::Sharing;
use super::ground::{Ground, event, number_of, pattern, publish};
use super::parking::{KEY, assert_kept};
use super::report::Verdict;
use super::stores::Store;
use super::witness::Witness;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidings_core::broker::KeyOrder;
use tidings_core::extract::{HandlerContext, HandlerError};
use tidings_core::store::LetterStatus;
use tidings_core::{BoxFuture, Envelope, Pattern};
use tidings_flow::handler::{BatchHandler, HandlerResult};

const GROUP: &str = "e9";
/// Keys beside the one that fails for good; every third has an event that fails for a while.
const KEYS: usize = 12;
const EVENTS_OF_KEY: usize = 3;
/// So many attempts at an event that recovers fail: those in place and a later one.
const FAILURES: u32 = 3;
const LATER: [Duration; 2] = [Duration::from_millis(20); 2];
const BATCH_EVENTS_MAX: usize = 8;

/// Takes events of several keys at once and answers for each by itself.
struct Batches {
    patterns: [Pattern; 1],
    witness: Arc<Witness>,
    /// Calls in which some succeeded and some failed.
    mixed: Arc<AtomicUsize>,
}

impl BatchHandler for Batches {
    fn name(&self) -> &str {
        "batches"
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn events_max(&self) -> usize {
        BATCH_EVENTS_MAX
    }

    fn handle(&self, contexts: Vec<HandlerContext>) -> BoxFuture<'static, Vec<HandlerResult>> {
        let entered = contexts.iter().map(|context| self.witness.enter(context));
        let entered: Vec<_> = entered.collect();
        let mixed = Arc::clone(&self.mixed);
        Box::pin(async move {
            tokio::task::yield_now().await;
            let answers: Vec<HandlerResult> = contexts.iter().map(answer).collect();
            for (mut inside, answer) in entered.into_iter().zip(&answers) {
                inside.end(answer.is_ok());
            }
            let failed = answers.iter().filter(|answer| answer.is_err()).count();
            if failed > 0 && failed < answers.len() {
                mixed.fetch_add(1, Ordering::AcqRel);
            }
            answers
        })
    }
}

fn answer(context: &HandlerContext) -> HandlerResult {
    let envelope = &context.envelope;
    if envelope.key().as_deref() == Some(KEY) {
        return Err(HandlerError::permanent_message("never"));
    }
    match recovers(envelope) && context.attempt <= FAILURES {
        true => Err(HandlerError::transient_message("not yet")),
        false => Ok(()),
    }
}

/// The first event of every third key.
fn recovers(envelope: &Envelope) -> bool {
    let number = number_of(envelope);
    number < KEYS && number.is_multiple_of(3)
}

/// E9: of a batch, what succeeded is done, what failed is tried again by itself, later as well, and what is given up is a dead letter that holds its key alone.
pub(super) async fn outcomes(ground: Arc<Ground>) -> Verdict {
    let store = match Store::fresh(&ground, GROUP, Sharing::OneInstance).await {
        Ok(store) => store,
        Err(declared) => return declared,
    };
    let broker = ground.connect().await;
    let group = ground.group(GROUP);
    // Published beforehand, so that there is enough for a batch.
    ground.prepare(&*broker, GROUP).await;
    let well: Vec<Envelope> = (0..KEYS * EVENTS_OF_KEY)
        .map(|number| event(&format!("k{}", number % KEYS), number))
        .collect();
    let (dead, behind) = (event(KEY, 0), event(KEY, 1));
    publish(&*broker, std::slice::from_ref(&dead)).await;
    publish(&*broker, &well).await;
    publish(&*broker, std::slice::from_ref(&behind)).await;
    let witness = Witness::new();
    let mixed = Arc::new(AtomicUsize::new(0));

    let consumer = start(&ground, || {
        let batches = Batches {
            patterns: [pattern("order.*")],
            witness: Arc::clone(&witness),
            mixed: Arc::clone(&mixed),
        };
        let builder = without_handler(&ground, &broker, GROUP).batch_handler(Arc::new(batches));
        kept_in(&store, &LATER, builder)
    })
    .await;

    witness.until_handled(well.len()).await;
    let letter = store.until_letter(&group, "open", |_| true).await;
    store.until_parked(&group, KEY, 2).await;
    for key in 0..KEYS {
        store.until_parked(&group, &format!("k{key}"), 0).await;
    }
    tokio::time::sleep(ground.traits.quiet).await;
    assert!(
        mixed.load(Ordering::Acquire) > 0,
        "no batch had both what succeeds and what fails"
    );
    assert_eq!(letter.envelope, dead, "the event of the letter");
    assert_eq!(letter.status, LetterStatus::Open);
    {
        let seen = witness.seen();
        assert_eq!(seen.handled(), well.len(), "the key of the letter is held");
        assert_eq!(
            seen.attempts_at(&dead).len(),
            1,
            "attempts at what is given up"
        );
        for event in &well {
            let expected = if recovers(event) { FAILURES + 1 } else { 1 };
            let attempts = seen.attempts_at(event).into_iter().map(|it| it.attempt);
            let attempts: Vec<u32> = attempts.collect();
            let expected: Vec<u32> = (1..=expected).collect();
            assert_eq!(attempts, expected, "attempts at {}", event.event_id());
        }
    }
    // Without order an event of a key may come ahead of one that was published before it.
    let in_order = match broker.capabilities().key_order {
        KeyOrder::None => &well[..1],
        _ => &well[..],
    };
    assert_kept(&*broker, &witness, in_order, &[]);
    drain(consumer).await;
    Verdict::Pass
}

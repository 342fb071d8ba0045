//! Scenarios: what they claim, how they wait, and what they say when a claim is wrong.

use serde::{Deserialize, Serialize};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_core::extract::{Draft, Emit, HandlerError, HandlerResultExt as _, Metadata, State};
use tidings_core::{Envelope, EventType};
use tidings_macros::Event;
use tidings_testkit::{Outcome, Scenario};

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", key = "order_id", crate = "tidings_core")]
struct OrderPlaced {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "payment.succeeded", key = "order_id", crate = "tidings_core")]
struct PaymentSucceeded {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shipment.created", key = "order_id", crate = "tidings_core")]
struct ShipmentCreated {
    order_id: String,
}

async fn pay(order: OrderPlaced, emit: Emit) -> Result<(), HandlerError> {
    emit.event(&PaymentSucceeded {
        order_id: order.order_id,
    })
}

async fn ship(payment: PaymentSucceeded, emit: Emit) -> Result<(), HandlerError> {
    emit.event(&ShipmentCreated {
        order_id: payment.order_id,
    })
}

fn order(id: &str) -> OrderPlaced {
    OrderPlaced {
        order_id: id.to_owned(),
    }
}

fn shop() -> Scenario {
    Scenario::new()
        .consumer("payment", |consumer| consumer.on(pay))
        .consumer("shipping", |consumer| consumer.on(ship))
}

/// What a wrong claim says.
fn failure(claim: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(claim)).unwrap_err();
    let text = panic.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap()).to_owned())
}

#[tokio::test]
async fn a_flow_over_several_consumers_is_followed_to_its_end() {
    shop()
        .when(order("o-1"))
        .await
        .then_emitted(|payment: &PaymentSucceeded| assert_eq!(payment.order_id, "o-1"))
        .then_emitted::<ShipmentCreated>(|shipment| assert_eq!(shipment.order_id, "o-1"))
        .then_nothing_else();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_used_inside_a_runtime_of_several_threads() {
    Scenario::new().when(order("o-1")).await.then_nothing();
}

#[tokio::test]
async fn what_was_given_has_been_dealt_with_and_is_not_asked_for() {
    let seen = Arc::new(AtomicU32::new(0));
    async fn count(_: OrderPlaced, State(seen): State<Arc<AtomicU32>>) {
        seen.fetch_add(1, Ordering::SeqCst);
    }
    let shared = Arc::clone(&seen);

    let outcome = shop()
        .consumer("counter", |consumer| consumer.state(shared).on(count))
        .given(order("o-1"))
        .given(order("o-2"))
        .when(order("o-3"))
        .await;

    assert_eq!(outcome.emitted().count(), 2);
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn retries_of_hours_take_no_time() {
    async fn ship(order: OrderPlaced, event: Metadata, emit: Emit) -> Result<(), HandlerError> {
        if event.attempt < 5 {
            let frozen: Result<(), std::io::Error> = Err(std::io::Error::other("frozen"));
            frozen.retry_after(Duration::from_secs(3_000))?;
        }
        emit.event(&ShipmentCreated {
            order_id: order.order_id,
        })
    }

    let outcome = Scenario::new()
        .consumer("shipping", |consumer| consumer.on(ship))
        .when(order("o-1"))
        .await
        .then_emitted(|_: &ShipmentCreated| {});

    let shipped = outcome
        .emitted()
        .next()
        .unwrap()
        .timestamp()
        .unwrap()
        .instant();
    assert_eq!(shipped.to_string(), "2024-01-15T13:50:00Z");
    outcome.then_nothing_else();
}

#[tokio::test]
async fn what_is_given_up_is_seen_with_its_reason() {
    async fn refuse(_: OrderPlaced) -> Result<(), HandlerError> {
        Err(HandlerError::transient_message("not today"))
    }

    Scenario::new()
        .consumer("payment", |consumer| {
            consumer.configure(|config| config.attempts = 2).on(refuse)
        })
        .when(order("o-1"))
        .await
        .then_dead_letter(|letter| {
            assert_eq!(letter.record.reason, "not today");
            assert_eq!(letter.record.attempts, 2);
        })
        .then_nothing_else();
}

#[tokio::test]
async fn a_handler_that_waits_for_the_world_outside_is_not_cut_off() {
    async fn ask(order: OrderPlaced, emit: Emit) -> Result<(), HandlerError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            std::thread::yield_now();
            let _ = sender.send(());
        });
        receiver.await?;
        emit.event(&PaymentSucceeded {
            order_id: order.order_id,
        })
    }

    Scenario::new()
        .consumer("payment", |consumer| consumer.on(ask))
        .when(order("o-1"))
        .await
        .then_emitted(|_: &PaymentSucceeded| {})
        .then_nothing_else();
}

#[tokio::test]
async fn events_without_a_rust_type_are_given_and_asked_for_by_name() {
    async fn copy(envelope: Envelope, emit: Emit) -> Result<(), HandlerError> {
        let mut draft = Draft::of(&order("copy"))?;
        draft.event_type = EventType::declared("copy.made")?;
        draft.aggregate_id = envelope.aggregate_id().map(str::to_owned);
        emit.draft(draft)
    }
    let when = vec![
        Draft::of(&order("o-1")).unwrap(),
        Draft::of(&order("o-2")).unwrap(),
    ];

    Scenario::new()
        .consumer("copier", |consumer| {
            consumer.on_raw("order.*".parse().unwrap(), copy)
        })
        .when_all(when)
        .await
        .then_emitted_envelope("copy.made", |copy| assert!(copy.causation_id().is_some()))
        .then_emitted_envelope("copy.made", |_| {})
        .then_nothing_else();
}

#[tokio::test]
async fn the_same_scenario_gives_the_same_events() {
    async fn run() -> Vec<String> {
        let outcome: Outcome = shop().when(order("o-1")).await;
        outcome.emitted().map(Envelope::to_json).collect()
    }

    assert_eq!(run().await, run().await);
}

#[tokio::test]
async fn a_wrong_claim_says_what_happened_instead() {
    let outcome = shop().when(order("o-1")).await;

    let missing = failure(|| {
        let _ = outcome.clone().then_emitted(|_: &OrderPlaced| {});
    });
    assert_eq!(
        missing,
        "expected order.placed to be emitted, but what followed is:\n  emitted payment.succeeded {\"order_id\":\"o-1\"}\n  emitted shipment.created {\"order_id\":\"o-1\"}"
    );
    let twice = failure(|| {
        let _ = outcome
            .clone()
            .then_emitted(|_: &PaymentSucceeded| {})
            .then_emitted(|_: &PaymentSucceeded| {});
    });
    assert!(
        twice.contains("payment.succeeded {\"order_id\":\"o-1\"} (asked for before)"),
        "{twice}"
    );
    let letter = failure(|| {
        let _ = outcome.clone().then_dead_letter(|_| {});
    });
    assert!(
        letter.starts_with("expected a dead letter, but"),
        "{letter}"
    );
    let nothing = failure(|| outcome.clone().then_nothing());
    assert!(
        nothing.starts_with("expected nothing to follow, but"),
        "{nothing}"
    );
    let more = failure(|| {
        outcome
            .clone()
            .then_emitted(|_: &PaymentSucceeded| {})
            .then_nothing_else()
    });
    assert!(
        more.starts_with("expected nothing else to follow, but"),
        "{more}"
    );
}

/// What a scenario that cannot be played says.
async fn trouble(scenario: Scenario) -> String {
    let played = tokio::task::LocalSet::new()
        .run_until(async move {
            tokio::task::spawn_local(
                async move { scenario.when(order("o-1")).await.then_nothing() },
            )
            .await
        })
        .await;
    let panic = played.unwrap_err().into_panic();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[tokio::test]
async fn a_flow_that_feeds_itself_is_found_out() {
    async fn again(_: OrderPlaced, emit: Emit) -> Result<(), HandlerError> {
        emit.event(&order("again"))
    }

    let message = trouble(Scenario::new().consumer("loop", |consumer| consumer.on(again))).await;

    assert!(
        message.contains("does not come to rest within 20000 events"),
        "{message}"
    );
    assert!(message.contains("loop: "), "{message}");
}

#[tokio::test]
async fn a_consumer_that_cannot_start_says_why() {
    async fn needs(_: OrderPlaced, _: State<Mutex2>) {}
    #[derive(Clone)]
    struct Mutex2(#[expect(dead_code, reason = "only its type matters")] Arc<Mutex<u8>>);

    let message = trouble(Scenario::new().consumer("needy", |consumer| consumer.on(needs))).await;

    assert!(
        message.contains("\"needy\" does not start") && message.contains("add .state(value)"),
        "{message}"
    );
}

//! Handlers as the runtime calls them.

use super::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::extract::{Emit, HandlerErrorKind, HandlerShared, Metadata, Shutdown, State};
use tidings_core::store::WorkSlot;
use tidings_core::{Envelope, EnvelopeParts, Event, Payload};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: String,
}

impl Event for OrderPlaced {
    const TYPE: &'static str = "order.placed";
}

#[derive(Debug, thiserror::Error)]
#[error("no stock")]
struct NoStock;

fn envelope(payload: &str) -> Envelope {
    let mut parts = EnvelopeParts::new("evt-1", "order.placed.v2");
    parts.payload = Some(Payload::json(payload.to_owned()).unwrap());
    Envelope::new(parts).unwrap()
}

fn context(envelope: Envelope) -> HandlerContext {
    let mut states = States::default();
    states.insert(String::from("shelf 4"));
    HandlerContext {
        envelope,
        position: None,
        append_time: None,
        attempt: 3,
        emit: Emit::default(),
        work: WorkSlot::default(),
        shared: Arc::new(HandlerShared {
            group: "inventory".parse().unwrap(),
            states,
            shutdown: Shutdown::default(),
            time_limit: Duration::from_secs(30),
        }),
    }
}

fn order(id: &str) -> HandlerContext {
    context(envelope(&format!(r#"{{"order_id":"{id}"}}"#)))
}

#[tokio::test]
async fn a_function_gets_its_event_and_what_it_asks_for() {
    async fn reserve(
        order: OrderPlaced,
        State(shelf): State<String>,
        metadata: Metadata,
        emit: Emit,
    ) -> Result<(), HandlerError> {
        assert_eq!(order.order_id, "o-1");
        assert_eq!((shelf.as_str(), metadata.attempt), ("shelf 4", 3));
        emit.event(&order)
    }
    let handler = TypedHandler::new(reserve);
    let context = order("o-1");
    let emit = context.emit.clone();

    handler.handle(context).await.unwrap();

    assert_eq!(handler.name(), "order.placed");
    assert!(handler.patterns()[0].matches(envelope("{}").event_type()));
    assert_eq!(emit.take().len(), 1);
}

#[tokio::test]
async fn nothing_a_result_and_any_error_are_answers() {
    async fn nothing(_: OrderPlaced) {}
    async fn failing(_: OrderPlaced) -> Result<(), NoStock> {
        Err(NoStock)
    }

    assert!(TypedHandler::new(nothing).handle(order("a")).await.is_ok());
    let error = TypedHandler::new(failing)
        .handle(order("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Transient);
    assert_eq!(error.chain(), ["no stock"]);
}

#[tokio::test]
async fn a_closure_is_a_handler_too() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let handler = TypedHandler::new(move |order: OrderPlaced| {
        let sink = Arc::clone(&sink);
        async move { sink.lock().unwrap().push(order.order_id) }
    });

    handler.handle(order("o-9")).await.unwrap();

    assert_eq!(*seen.lock().unwrap(), ["o-9"]);
}

#[tokio::test]
async fn what_does_not_decode_fails_for_good_and_says_where() {
    async fn reserve(_: OrderPlaced) {}
    let handler = TypedHandler::new(reserve);

    let error = handler
        .handle(context(envelope(r#"{"order":"o-1"}"#)))
        .await
        .unwrap_err();

    assert_eq!(error.kind(), HandlerErrorKind::Permanent);
    assert_eq!(
        error.chain(),
        [
            "order.placed in version 2 does not decode as version 1 of this handler: missing field `order_id` at line 1 column 15"
        ]
    );
}

#[tokio::test]
async fn a_payload_that_is_no_json_or_missing_fails_for_good() {
    async fn reserve(_: OrderPlaced) {}
    let handler = TypedHandler::new(reserve);
    let mut parts = EnvelopeParts::new("evt-1", "order.placed");

    let missing = context(Envelope::new(parts.clone()).unwrap());
    let error = handler.handle(missing).await.unwrap_err();
    assert!(error.chain()[0].ends_with("it has no payload"), "{error:?}");

    parts.content_type = Some("application/x-protobuf".into());
    parts.payload = Some(Payload::binary(&b"\x0a"[..]));
    let binary = context(Envelope::new(parts.clone()).unwrap());
    let error = handler.handle(binary).await.unwrap_err();
    assert!(
        error.chain()[0].contains("application/x-protobuf") && error.chain()[0].contains("on_raw")
    );

    parts.content_type = Some("application/vnd.shop+json; charset=utf-8".into());
    parts.payload = Some(Payload::binary(&b"{\"order_id\":\"o-1\"}"[..]));
    assert!(
        handler
            .handle(context(Envelope::new(parts).unwrap()))
            .await
            .is_ok()
    );
}

#[test]
fn missing_state_is_told_before_anything_is_handled() {
    async fn reserve(_: OrderPlaced, _: State<u8>) {}

    let message = TypedHandler::new(reserve)
        .check(&States::default())
        .unwrap_err();

    assert!(
        message.contains("State<u8>") && message.contains(".state(value)"),
        "{message}"
    );
}

#[test]
fn a_name_can_be_kept_when_the_event_type_says_too_little() {
    async fn reserve(_: OrderPlaced) {}

    assert_eq!(
        TypedHandler::new(reserve.named("reserve-stock")).name(),
        "reserve-stock"
    );
}

#[tokio::test]
async fn a_raw_handler_gets_the_envelope_as_it_is() {
    async fn audit(envelope: Envelope, metadata: Metadata) {
        assert_eq!(envelope.event_type().as_str(), "order.placed.v2");
        assert_eq!(metadata.group.as_str(), "inventory");
    }
    let handler = RawHandler::new("order.*".parse().unwrap(), audit);

    handler.handle(context(envelope("[1.10]"))).await.unwrap();

    assert_eq!(handler.name(), "order.*");
}

#[tokio::test]
async fn a_batch_is_answered_one_by_one_and_what_does_not_decode_is_left_out() {
    async fn reserve(
        items: Vec<BatchItem<OrderPlaced>>,
        State(shelf): State<String>,
    ) -> Vec<HandlerResult> {
        assert_eq!(shelf, "shelf 4");
        items
            .into_iter()
            .map(|item| {
                if item.event.order_id == "bad" {
                    Err(NoStock.into())
                } else {
                    Ok(())
                }
            })
            .collect()
    }
    let handler = TypedBatchHandler::new(reserve).of_at_most(0);

    let answers = handler
        .handle(vec![
            order("a"),
            context(envelope("{}")),
            order("bad"),
            order("b"),
        ])
        .await;

    assert_eq!(handler.events_max(), 1);
    let kinds: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().err().map(HandlerError::kind))
        .collect();
    assert_eq!(
        kinds,
        [
            None,
            Some(HandlerErrorKind::Permanent),
            Some(HandlerErrorKind::Transient),
            None
        ]
    );
}

#[tokio::test]
async fn a_batch_answer_of_another_length_is_believed_for_no_event() {
    async fn short(_: Vec<BatchItem<OrderPlaced>>) -> Vec<HandlerResult> {
        vec![Ok(())]
    }

    let answers = TypedBatchHandler::new(short)
        .handle(vec![order("a"), order("b")])
        .await;

    assert_eq!(answers.len(), 2);
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), HandlerErrorKind::Permanent);
        assert!(
            error.chain()[0].contains("1 results for 2 events"),
            "{error:?}"
        );
    }
}

//! What is wrong with a consumer is said when it starts, with the way out.

use crate::shop::{OrderPlaced, Seen, Shop, see};
use tidings::prelude::*;
use tidings::{ConsumerBuilder, ErrorClass};

async fn refusal(build: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder) -> (String, String) {
    let shop = Shop::new();
    let tidings = shop.open().await;
    let error = build(tidings.consumer("inventory"))
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Permanent);
    tidings.drain().await.unwrap();
    (error.code().to_string(), error.to_string())
}

#[tokio::test]
async fn a_wrong_consumer_does_not_start() {
    async fn audit(_: Envelope) {}
    async fn again(_: OrderPlaced) {}
    let cases = [
        (
            refusal(|consumer| consumer).await,
            "TD0033",
            "has no handler",
        ),
        (
            refusal(|consumer| consumer.on(see)).await,
            "TD0033",
            "add .state(value)",
        ),
        (
            refusal(|consumer| consumer.on(see).on(again).state(Seen::default())).await,
            "TD0033",
            "order.placed",
        ),
        (
            refusal(|consumer| {
                consumer
                    .on(see)
                    .on(again.named("again"))
                    .state(Seen::default())
            })
            .await,
            "TD0033",
            "both handle order.placed",
        ),
        (
            refusal(|consumer| consumer.on_raw("order.**.x", audit)).await,
            "TD0016",
            "**",
        ),
        (
            refusal(|consumer| consumer.on_raw("**", audit).attempts(0)).await,
            "TD0012",
            "attempts 0",
        ),
    ];
    for ((code, message), expected_code, part) in cases {
        assert_eq!(code, expected_code, "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn a_group_has_a_name_that_any_broker_can_carry() {
    let shop = Shop::new();
    let tidings = shop.open().await;

    let error = tidings
        .consumer("a/b")
        .state(Seen::default())
        .on(see)
        .start()
        .await
        .unwrap_err();

    assert_eq!(error.code().as_str(), "TD0017");
    tidings.drain().await.unwrap();
}

#[tokio::test]
async fn an_error_that_main_returns_prints_a_sentence_and_its_code() {
    let shop = Shop::new();
    let tidings = shop.open().await;

    let error = tidings.lag("nobody").await.unwrap_err();

    let printed = format!("{error:?}");
    assert!(
        printed.contains("there is no consumer group \"nobody\"") && printed.ends_with("(TD0031)"),
        "{printed}"
    );
    tidings.drain().await.unwrap();
}

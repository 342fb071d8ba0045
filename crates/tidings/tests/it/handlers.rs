//! Every shape of function that is a handler: this file compiles, and each of them is called.

use crate::shop::{OrderPlaced, Seen, Shop, order};
use tidings::prelude::*;

#[derive(Debug)]
struct NoStock;

impl std::fmt::Display for NoStock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no stock")
    }
}

impl std::error::Error for NoStock {}

async fn event_alone(_: OrderPlaced) {}

async fn error_of_its_own(order: OrderPlaced, State(seen): State<Seen>) -> Result<(), NoStock> {
    if order.quantity == 0 {
        return Err(NoStock);
    }
    seen.note("error of its own");
    Ok(())
}

async fn every_extractor(
    order: OrderPlaced,
    State(seen): State<Seen>,
    metadata: Metadata,
    _: Emit,
    _: Shutdown,
) -> Result<(), HandlerError> {
    seen.note(format!(
        "{} at attempt {}",
        order.order_id, metadata.attempt
    ));
    std::fs::read("/nowhere").permanent()?;
    Ok(())
}

async fn raw(envelope: Envelope, State(seen): State<Seen>, _: Metadata) {
    seen.note(format!("raw {}", envelope.event_type()));
}

async fn batch(
    items: Vec<BatchItem<OrderPlaced>>,
    State(seen): State<Seen>,
) -> Vec<Result<(), HandlerError>> {
    items
        .into_iter()
        .map(|item| {
            seen.note(format!("batch with {}", item.event.order_id));
            Ok(())
        })
        .collect()
}

#[tokio::test]
async fn functions_and_closures_of_every_shape_are_handlers() {
    let shop = Shop::new();
    let seen = Seen::default();
    let tidings = shop.open().await;
    let closed_over = seen.clone();
    let consumers = [
        tidings.consumer("event-alone").on(event_alone),
        tidings.consumer("error-of-its-own").on(error_of_its_own),
        tidings
            .consumer("every-extractor")
            .on(every_extractor.named("every extractor")),
        tidings.consumer("raw").on_raw("order.*", raw),
        tidings.consumer("batch").on_batch(batch),
        tidings.consumer("closure").on(move |_: OrderPlaced| {
            let seen = closed_over.clone();
            async move { seen.note("closure") }
        }),
        tidings
            .consumer("async-closure")
            .on(async |_: OrderPlaced, State(seen): State<Seen>| {
                seen.note("async closure");
                Ok::<(), NoStock>(())
            }),
    ];
    for consumer in consumers {
        consumer.state(seen.clone()).start().await.unwrap();
    }

    tidings.publish(order("o-1")).await.unwrap();
    tidings.drain().await.unwrap();

    assert_eq!(
        seen.sorted(),
        [
            "async closure",
            "batch with o-1",
            "closure",
            "error of its own",
            "o-1 at attempt 1",
            "raw order.placed",
        ]
    );
}

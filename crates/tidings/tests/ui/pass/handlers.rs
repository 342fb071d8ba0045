//! Everything that is a handler.

use tidings::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
struct OrderPlaced {
    order_id: String,
}

#[derive(Clone)]
struct Shelf;

#[derive(Debug)]
struct NoStock;

impl std::fmt::Display for NoStock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no stock")
    }
}

impl std::error::Error for NoStock {}

async fn nothing(_: OrderPlaced) {}

async fn with_error(_: OrderPlaced, State(_): State<Shelf>) -> Result<(), NoStock> {
    Err(NoStock)
}

async fn with_everything(
    order: OrderPlaced,
    _: State<Shelf>,
    _: Metadata,
    emit: Emit,
    _: Shutdown,
) -> Result<(), HandlerError> {
    std::fs::read("/nowhere").permanent()?;
    emit.event(&order)
}

async fn raw(_: Envelope, _: Metadata) {}

async fn batch(items: Vec<BatchItem<OrderPlaced>>, _: State<Shelf>) -> Vec<Result<(), HandlerError>> {
    items.into_iter().map(|item| item.emit.event(&item.event)).collect()
}

#[allow(dead_code)]
fn build(tidings: &Tidings) {
    let _ = tidings.consumer("a").on(nothing).on(with_error).on(with_everything.named("all"));
    let _ = tidings.consumer("b").on_raw("order.*", raw).on_batch(batch).state(Shelf);
    let _ = tidings.consumer("c").on(|_: OrderPlaced| async {});
    let _ = tidings.consumer("d").on(async |_: OrderPlaced, _: Emit| Ok::<(), NoStock>(()));
}

fn main() {}

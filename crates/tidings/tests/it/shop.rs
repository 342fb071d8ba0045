//! The events of a small shop, a folder for it, and a list that handlers write to.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tidings::prelude::*;

#[derive(Debug, Clone, PartialEq, Event, Serialize, Deserialize)]
#[event(
    type = "order.placed",
    version = 1,
    key = "order_id",
    source = "order-service"
)]
pub(crate) struct OrderPlaced {
    pub(crate) order_id: String,
    pub(crate) quantity: u32,
}

#[derive(Debug, Clone, PartialEq, Event, Serialize, Deserialize)]
#[event(type = "order.cancelled", version = 1, key = "order_id")]
pub(crate) struct OrderCancelled {
    pub(crate) order_id: String,
}

#[derive(Debug, Clone, PartialEq, Event, Serialize, Deserialize)]
#[event(type = "stock.reserved", version = 1, key = "order_id")]
pub(crate) struct StockReserved {
    pub(crate) order_id: String,
}

#[derive(Debug, Clone, PartialEq, Event, Serialize, Deserialize)]
#[event(type = "shipment.created", version = 1, key = "order_id")]
pub(crate) struct ShipmentCreated {
    pub(crate) order_id: String,
}

pub(crate) fn order(id: &str) -> OrderPlaced {
    OrderPlaced {
        order_id: id.to_owned(),
        quantity: 1,
    }
}

pub(crate) fn cancelled(id: &str) -> OrderCancelled {
    OrderCancelled {
        order_id: id.to_owned(),
    }
}

/// A data folder that is gone after the test.
pub(crate) struct Shop {
    folder: TempDir,
}

impl Shop {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("shop")
    }

    pub(crate) async fn open(&self) -> Tidings {
        Tidings::open(self.path()).await.unwrap()
    }
}

/// What handlers saw, in the order in which they saw it.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn sorted(&self) -> Vec<String> {
        let mut all = self.all();
        all.sort();
        all
    }
}

/// A handler that notes the orders it sees.
pub(crate) async fn see(order: OrderPlaced, State(seen): State<Seen>) {
    seen.note(order.order_id);
}

/// Waits for an answer that comes about by itself.
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) async fn until<T>(mut answer: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(answer) = answer() {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting)
        .await
        .expect("it comes about within a minute")
}

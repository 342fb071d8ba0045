//! The events of the benchmark: orders, as a type, and as a program without tidings would write their rows.

use crate::stage::Stage;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use tidings_core::seam::Clock as _;
use tidings_core::{Event, event_id};

/// Rows that a relay reads at once, and the bare loops too.
pub(crate) const BATCH_ROWS: usize = 500;

/// About 300 bytes of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OrderPlaced {
    order_id: String,
    customer: String,
    address: String,
    items: Vec<String>,
    total: f64,
    note: String,
}

impl Event for OrderPlaced {
    const TYPE: &'static str = "order.placed";
    const SOURCE: Option<&'static str> = Some("shop");

    fn key(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.order_id))
    }
}

/// An order by its number.
pub(crate) fn order(number: usize) -> OrderPlaced {
    OrderPlaced {
        order_id: format!("order-{number}"),
        customer: "customer-4711".to_owned(),
        address: "Hauptstraße 1, 10115 Berlin".to_owned(),
        items: vec!["sku-100 × 2".to_owned(), "sku-200 × 1".to_owned()],
        total: 59.98,
        note: "please leave the parcel with the neighbours on the second floor, they are at home all day long and know about it; thank you".to_owned(),
    }
}

/// The payload of an order, for statements that make many rows.
pub(crate) fn payload(number: usize) -> String {
    serde_json::to_string(&order(number)).unwrap_or_default()
}

/// The further attributes of an event as our rows have them.
pub(crate) fn headers(event_id: &str) -> String {
    format!(
        r#"{{"timestamp":"2026-01-15T10:30:00.123456Z","version":1,"source":"shop","correlation_id":"{event_id}"}}"#
    )
}

/// The columns of a row, made by hand.
pub(crate) struct HandWritten {
    pub(crate) event_id: String,
    pub(crate) event_type: &'static str,
    pub(crate) key: String,
    pub(crate) payload: String,
    pub(crate) headers: String,
}

impl HandWritten {
    /// What a careful program writes: an id that sorts, the time, the payload as JSON.
    pub(crate) fn new(stage: &Stage, order: &OrderPlaced) -> Result<Self, serde_json::Error> {
        let event_id = event_id::fresh(&stage.clock, &stage.chance);
        let headers = format!(
            r#"{{"timestamp":"{}","version":1,"source":"shop","correlation_id":"{event_id}"}}"#,
            stage.clock.now()
        );
        Ok(Self {
            event_id,
            event_type: OrderPlaced::TYPE,
            key: order.order_id.clone(),
            payload: serde_json::to_string(order)?,
            headers,
        })
    }
}

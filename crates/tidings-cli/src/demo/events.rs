//! The facts of the order flow.

use serde::{Deserialize, Serialize};
use tidings::Event;

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) sku: String,
    pub(super) qty: u32,
    pub(super) price: f64,
}

/// A customer placed an order.
#[derive(Debug, Clone, PartialEq, Event, Serialize, Deserialize)]
#[event(
    type = "order.placed",
    version = 1,
    key = "order_id",
    source = "order-service"
)]
pub(super) struct OrderPlaced {
    pub(super) order_id: String,
    pub(super) user_id: String,
    pub(super) items: Vec<Item>,
    pub(super) total: f64,
}

/// The customer's card was charged.
#[derive(Debug, Clone, PartialEq, Event, Serialize, Deserialize)]
#[event(
    type = "payment.succeeded",
    version = 1,
    key = "order_id",
    source = "payment-service"
)]
pub(super) struct PaymentSucceeded {
    pub(super) order_id: String,
    pub(super) amount: f64,
}

/// The customer's card was declined.
#[derive(Debug, Clone, PartialEq, Event, Serialize, Deserialize)]
#[event(
    type = "payment.failed",
    version = 1,
    key = "order_id",
    source = "payment-service"
)]
pub(super) struct PaymentFailed {
    pub(super) order_id: String,
    pub(super) reason: String,
}

/// The goods of an order were set aside.
#[derive(Debug, Clone, PartialEq, Event, Serialize, Deserialize)]
#[event(
    type = "stock.reserved",
    version = 1,
    key = "order_id",
    source = "inventory-service"
)]
pub(super) struct StockReserved {
    pub(super) order_id: String,
    pub(super) pieces: u32,
}

/// A parcel is on its way.
#[derive(Debug, Clone, PartialEq, Event, Serialize, Deserialize)]
#[event(
    type = "shipment.created",
    version = 1,
    key = "order_id",
    source = "shipping-service"
)]
pub(super) struct ShipmentCreated {
    pub(super) order_id: String,
    pub(super) parcel: String,
}

/// The order with a number: the same whenever it is asked for, so that an interrupted demo goes on where it was.
///
/// Order 2 is poisonous: nobody can pay its negative total.
pub(super) fn order(number: u64) -> OrderPlaced {
    let cents = 1_000 + (number * 137) % 9_000;
    let price = if number == POISONOUS_ORDER {
        -59.98
    } else {
        cents as f64 / 100.0
    };
    let qty = u32::try_from(1 + number % 3).unwrap_or(1);
    OrderPlaced {
        order_id: format!("order-{number}"),
        user_id: format!("user-{}", 400 + number % 97),
        items: vec![Item {
            sku: format!("PROD-{:03}", 1 + number % SKUS),
            qty,
            price,
        }],
        total: price * f64::from(qty),
    }
}

/// The order that ends in the dead letters.
pub(super) const POISONOUS_ORDER: u64 = 2;
/// The order whose goods are found at the second look only.
pub(super) const BUSY_ORDER: u64 = 3;
/// Kinds of goods.
const SKUS: u64 = 20;

/// Whether the card of this order's customer is declined.
pub(super) fn is_declined(order_id: &str) -> bool {
    order_id.ends_with('5')
}

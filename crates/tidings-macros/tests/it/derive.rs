//! What a derived event answers.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use tidings_core::Event as _;
use tidings_macros::Event;

#[derive(Event, Serialize, Deserialize)]
#[event(
    type = "order.placed",
    version = 2,
    key = "order_id",
    source = "order-service"
)]
#[event(crate = "tidings_core")]
struct OrderPlaced {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "stock.counted", key = "shelf", crate = "tidings_core")]
struct StockCounted {
    shelf: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Carrier(u64);

impl std::fmt::Display for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "carrier-{}", self.0)
    }
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "parcel.delivered", key = "carrier", crate = "tidings_core")]
struct ParcelDelivered {
    carrier: Option<Carrier>,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "night.fallen", crate = "::tidings_core")]
struct NightFallen {}

#[test]
fn everything_that_is_stated_is_answered() {
    let event = OrderPlaced {
        order_id: "order-7".into(),
    };

    assert_eq!(OrderPlaced::TYPE, "order.placed");
    assert_eq!(OrderPlaced::VERSION, 2);
    assert_eq!(OrderPlaced::SOURCE, Some("order-service"));
    assert!(matches!(event.key(), Some(Cow::Borrowed("order-7"))));
}

#[test]
fn what_is_left_out_has_a_default() {
    assert_eq!(NightFallen::VERSION, 1);
    assert_eq!(NightFallen::SOURCE, None);
    assert_eq!(NightFallen {}.key(), None);
}

#[test]
fn a_key_of_another_type_is_printed_and_an_absent_one_means_unordered() {
    let counted = |shelf| StockCounted { shelf };

    assert_eq!(counted(Some(12)).key().as_deref(), Some("12"));
    assert_eq!(counted(None).key(), None);
    let delivered = ParcelDelivered {
        carrier: Some(Carrier(7)),
    };
    assert_eq!(delivered.key().as_deref(), Some("carrier-7"));
}

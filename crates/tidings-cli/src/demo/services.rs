//! Four services that react to each other's facts and never call each other, each with state of its own.

use super::events::{
    BUSY_ORDER, Item, OrderPlaced, PaymentFailed, PaymentSucceeded, SKUS, ShipmentCreated,
    StockReserved, is_declined,
};
use super::screen::Screen;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidings::broker::Recorded;
use tidings::extract::{Emit, HandlerError, Metadata, State};
use tidings::{ConsumerHandle, Error, Tidings};

/// The state of a service, shared by its handlers.
#[derive(Debug, Default)]
pub(super) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    /// The state; held for a look or a change only.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the payment service knows: which orders were charged, and how much.
#[derive(Debug, Default)]
pub(super) struct Payments {
    pub(super) charged: HashMap<String, f64>,
}

/// What the inventory service knows: the lines of orders, what was set aside, what is left.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    lines: HashMap<String, Vec<Item>>,
    reserved: HashMap<String, u32>,
    taken: HashMap<String, u32>,
}

/// What the shipping service knows: the parcel of each order.
#[derive(Debug, Default)]
pub(super) struct Shipments {
    parcels: HashMap<String, String>,
}

/// What the notification service knows: who was written to.
#[derive(Debug, Default)]
pub(super) struct Mails {
    pub(super) written: HashMap<String, String>,
}

/// All states; each service sees its own only.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) payments: Shared<Payments>,
    pub(super) inventory: Shared<Inventory>,
    pub(super) shipments: Shared<Shipments>,
    pub(super) mails: Shared<Mails>,
}

impl Services {
    /// A service that starts again knows what it stated before: its state is rebuilt from the log.
    pub(super) fn recall(&self, recorded: &Recorded) {
        let payload = recorded.envelope.payload_bytes();
        match recorded.envelope.event_type().name() {
            "order.placed" => {
                if let Ok(order) = serde_json::from_slice::<OrderPlaced>(payload) {
                    self.inventory
                        .lock()
                        .lines
                        .insert(order.order_id, order.items);
                }
            }
            "payment.succeeded" => {
                if let Ok(payment) = serde_json::from_slice::<PaymentSucceeded>(payload) {
                    self.payments
                        .lock()
                        .charged
                        .insert(payment.order_id, payment.amount);
                }
            }
            "stock.reserved" => {
                if let Ok(stock) = serde_json::from_slice::<StockReserved>(payload) {
                    self.inventory.lock().set_aside(&stock.order_id);
                }
            }
            "shipment.created" => {
                if let Ok(shipment) = serde_json::from_slice::<ShipmentCreated>(payload) {
                    self.shipments
                        .lock()
                        .parcels
                        .insert(shipment.order_id, shipment.parcel);
                }
            }
            _ => {}
        }
    }

    /// Starts the consumers. Who listens to what stands here and nowhere in the producers.
    pub(super) async fn start(
        &self,
        tidings: &Tidings,
        screen: &Screen,
    ) -> Result<Vec<ConsumerHandle>, Error> {
        let observer = || Arc::new(screen.clone());
        let payment = tidings
            .consumer("payment")
            .observer(observer())
            .state(self.payments.clone())
            .state(screen.clone())
            .on(charge);
        let inventory = tidings
            .consumer("inventory")
            .observer(observer())
            .state(self.inventory.clone())
            .state(screen.clone())
            .on(remember)
            .on(reserve);
        let shipping = tidings
            .consumer("shipping")
            .observer(observer())
            .state(self.shipments.clone())
            .state(screen.clone())
            .on(ship);
        let notification = tidings
            .consumer("notification")
            .observer(observer())
            .state(self.mails.clone())
            .state(screen.clone())
            .on(write);
        Ok(vec![
            payment.start().await?,
            inventory.start().await?,
            shipping.start().await?,
            notification.start().await?,
        ])
    }
}

impl Inventory {
    /// Sets the goods of an order aside, once, and tells how many pieces they are; `None` if the order is unknown or a shelf is empty.
    fn set_aside(&mut self, order_id: &str) -> Option<u32> {
        if let Some(pieces) = self.reserved.get(order_id) {
            return Some(*pieces);
        }
        let items = self.lines.get(order_id)?;
        let mut pieces = 0;
        for item in items {
            *self.taken.entry(item.sku.clone()).or_default() += item.qty;
            pieces += item.qty;
        }
        self.reserved.insert(order_id.to_owned(), pieces);
        Some(pieces)
    }

    /// Pieces taken from the shelves, over all kinds of goods.
    pub(super) fn pieces_taken(&self) -> u32 {
        debug_assert!(
            self.taken.len() as u64 <= SKUS,
            "only known goods are taken"
        );
        self.taken.values().sum()
    }
}

/// Payment reacts to an order: the card is charged or declined.
async fn charge(
    order: OrderPlaced,
    State(payments): State<Shared<Payments>>,
    State(screen): State<Screen>,
    metadata: Metadata,
    emit: Emit,
) -> Result<(), HandlerError> {
    screen.handled(&metadata);
    if order.total <= 0.0 {
        let message = format!(
            "{} has a total of {:.2}, which nobody can pay",
            order.order_id, order.total
        );
        return Err(HandlerError::permanent_message(message));
    }
    if is_declined(&order.order_id) {
        screen.tell(
            &order.order_id,
            "payment",
            "declines the card → payment.failed",
        );
        return emit.event(&PaymentFailed {
            order_id: order.order_id,
            reason: "card declined".to_owned(),
        });
    }
    payments
        .lock()
        .charged
        .insert(order.order_id.clone(), order.total);
    screen.tell(
        &order.order_id,
        "payment",
        &format!("charges {:.2} → payment.succeeded", order.total),
    );
    emit.event(&PaymentSucceeded {
        order_id: order.order_id,
        amount: order.total,
    })
}

/// Inventory remembers what an order holds.
async fn remember(
    order: OrderPlaced,
    State(inventory): State<Shared<Inventory>>,
    State(screen): State<Screen>,
    metadata: Metadata,
) {
    screen.handled(&metadata);
    inventory.lock().lines.insert(order.order_id, order.items);
}

/// Inventory reacts to a payment: the goods are set aside. One order meets a warehouse that answers at the second try.
async fn reserve(
    payment: PaymentSucceeded,
    State(inventory): State<Shared<Inventory>>,
    State(screen): State<Screen>,
    metadata: Metadata,
    emit: Emit,
) -> Result<(), HandlerError> {
    screen.handled(&metadata);
    if payment.order_id == format!("order-{BUSY_ORDER}") && metadata.attempt == 1 {
        return Err(HandlerError::transient_message("the warehouse is busy"));
    }
    let Some(pieces) = inventory.lock().set_aside(&payment.order_id) else {
        return Err(HandlerError::transient_message(format!(
            "{} is not known yet",
            payment.order_id
        )));
    };
    screen.tell(
        &payment.order_id,
        "inventory",
        &format!("sets {pieces} pieces aside → stock.reserved"),
    );
    emit.event(&StockReserved {
        order_id: payment.order_id,
        pieces,
    })
}

/// Shipping reacts to reserved stock: a parcel is made.
async fn ship(
    stock: StockReserved,
    State(shipments): State<Shared<Shipments>>,
    State(screen): State<Screen>,
    metadata: Metadata,
    emit: Emit,
) -> Result<(), HandlerError> {
    screen.handled(&metadata);
    let parcel = format!("parcel-{}", stock.order_id.trim_start_matches("order-"));
    shipments
        .lock()
        .parcels
        .insert(stock.order_id.clone(), parcel.clone());
    screen.tell(
        &stock.order_id,
        "shipping",
        "makes a parcel → shipment.created",
    );
    emit.event(&ShipmentCreated {
        order_id: stock.order_id,
        parcel,
    })
}

/// Notification reacts to an order on its own: a mail is written, nobody waits for it.
async fn write(
    order: OrderPlaced,
    State(mails): State<Shared<Mails>>,
    State(screen): State<Screen>,
    metadata: Metadata,
) {
    screen.handled(&metadata);
    screen.tell(
        &order.order_id,
        "notification",
        &format!("writes to {}", order.user_id),
    );
    mails.lock().written.insert(order.order_id, order.user_id);
}

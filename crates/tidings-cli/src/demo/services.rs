//! Four services that react to each other's facts and never call each other, each with state of its own: one in the database, three in memory, rebuilt from the log.

use super::events::{
    BUSY_ORDER, OrderPlaced, PaymentFailed, PaymentSucceeded, ShipmentCreated, StockReserved,
    is_declined,
};
use super::orders;
use super::screen::Screen;
use crate::failure::Failure;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidings::broker::StartAt;
use tidings::extract::{Emit, HandlerError, Metadata, State};
use tidings::prelude::{Sqlite, Tx};
use tidings::sql::{Inbox, sqlx};
use tidings::{ConsumerBuilder, ConsumerHandle, Envelope, OnFailure, Tidings};

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

/// The tables of the inventory service: the lines of orders, and what was set aside. Orders go by their flow, because a broker may have those of another demo, whose numbers
/// are the same.
const INVENTORY_TABLES: &str = "CREATE TABLE IF NOT EXISTS demo_line (flow TEXT NOT NULL, sku TEXT NOT NULL, qty INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS demo_line_of_flow ON demo_line (flow);
CREATE TABLE IF NOT EXISTS demo_reserved (flow TEXT PRIMARY KEY, pieces INTEGER NOT NULL)";

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

/// What the services have to declare, and where they begin.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    pub(super) unordered: bool,
    pub(super) single_instance: bool,
    /// Other demos with folders of their own may work for the same groups: none of them could hold a key for all.
    pub(super) goes_on: bool,
    /// What a broker had before is not the demo's.
    pub(super) from_latest: bool,
}

impl Terms {
    /// A consumer under these terms.
    pub(super) fn consumer(self, tidings: &Tidings, group: &str) -> ConsumerBuilder {
        let mut consumer = tidings.consumer(group);
        if self.unordered {
            consumer = consumer.unordered();
        }
        if self.single_instance {
            consumer = consumer.single_instance();
        }
        if self.goes_on {
            consumer = consumer.on_failure(OnFailure::Continue);
        }
        if self.from_latest {
            consumer = consumer.start_at(StartAt::Latest);
        }
        consumer
    }
}

/// All states; each service sees its own only.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) payments: Shared<Payments>,
    pub(super) shipments: Shared<Shipments>,
    pub(super) mails: Shared<Mails>,
}

impl Services {
    /// A service without a database that starts again knows what it stated before: its state is rebuilt from the facts.
    pub(super) fn recall(&self, envelope: &Envelope) {
        let payload = envelope.payload_bytes();
        match envelope.event_type().name() {
            "payment.succeeded" => {
                if let Ok(payment) = serde_json::from_slice::<PaymentSucceeded>(payload) {
                    self.payments
                        .lock()
                        .charged
                        .insert(payment.order_id, payment.amount);
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
        terms: Terms,
    ) -> Result<Vec<ConsumerHandle>, Failure> {
        let pool = orders::pool(&tidings.database().await?)?;
        sqlx::raw_sql(INVENTORY_TABLES)
            .execute(&pool)
            .await
            .map_err(orders::failed)?;
        let inbox = Inbox::open(&tidings.database().await?).await?;
        let observer = || Arc::new(screen.clone());
        let payment = terms
            .consumer(tidings, "payment")
            .observer(observer())
            .state(self.payments.clone())
            .state(screen.clone())
            .on(charge);
        let inventory = terms
            .consumer(tidings, "inventory")
            .observer(observer())
            .inbox(inbox.with_outbox(tidings.outbox()?))
            .state(screen.clone())
            .on(remember)
            .on(reserve);
        let shipping = terms
            .consumer(tidings, "shipping")
            .observer(observer())
            .state(self.shipments.clone())
            .state(screen.clone())
            .on(ship);
        let notification = terms
            .consumer(tidings, "notification")
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

/// Inventory remembers what an order holds: in the transaction in which the event is noted as handled.
async fn remember(
    order: OrderPlaced,
    mut tx: Tx<Sqlite>,
    State(screen): State<Screen>,
    metadata: Metadata,
) -> Result<(), HandlerError> {
    screen.handled(&metadata);
    for item in order.items {
        sqlx::query("INSERT INTO demo_line (flow, sku, qty) VALUES (?, ?, ?)")
            .bind(metadata.envelope.correlation_id())
            .bind(&item.sku)
            .bind(item.qty)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Inventory reacts to a payment: the goods are set aside, once. One order meets a warehouse that answers at the second try.
async fn reserve(
    payment: PaymentSucceeded,
    mut tx: Tx<Sqlite>,
    State(screen): State<Screen>,
    metadata: Metadata,
) -> Result<(), HandlerError> {
    screen.handled(&metadata);
    if payment.order_id == format!("order-{BUSY_ORDER}") && metadata.attempt == 1 {
        return Err(HandlerError::transient_message("the warehouse is busy"));
    }
    let lines: Option<u32> = sqlx::query_scalar("SELECT SUM(qty) FROM demo_line WHERE flow = ?")
        .bind(metadata.envelope.correlation_id())
        .fetch_one(&mut *tx)
        .await?;
    let Some(pieces) = lines else {
        return Err(HandlerError::transient_message(format!(
            "{} is not known yet",
            payment.order_id
        )));
    };
    sqlx::query("INSERT INTO demo_reserved (flow, pieces) VALUES (?, ?)")
        .bind(metadata.envelope.correlation_id())
        .bind(pieces)
        .execute(&mut *tx)
        .await?;
    screen.tell(
        &payment.order_id,
        "inventory",
        &format!("sets {pieces} pieces aside → stock.reserved"),
    );
    tx.publish(&StockReserved {
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

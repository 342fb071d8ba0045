//! Facts that come true later: a payment is missed unless it comes before, and a week ends again and again.
//!
//! ```sh
//! cargo run --manifest-path examples/13_scheduled_events/Cargo.toml
//! ```
//!
//! It prints what `expected.txt` shows.

use std::time::Duration;
use tidings::prelude::*;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

#[derive(Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "order_id")]
struct OrderPlaced {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "payment.received", version = 1, key = "order_id")]
struct PaymentReceived {
    order_id: String,
}

/// It happens because time passes.
#[derive(Event, Serialize, Deserialize)]
#[event(type = "payment.missed", version = 1, key = "order_id")]
struct PaymentMissed {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "week.ended", version = 1)]
struct WeekEnded {
    of: String,
}

/// How long a customer has to pay; two weeks elsewhere.
const TIME_TO_PAY: Duration = Duration::from_secs(2);

/// Where handlers say what came, for those who wait for it.
type Lines = UnboundedSender<String>;

async fn remind(payment: PaymentMissed, State(lines): State<Lines>) {
    let _ = lines.send(format!("{} was not paid in time", payment.order_id));
}

async fn report(week: WeekEnded, State(lines): State<Lines>) {
    let _ = lines.send(format!("a week of {} ended", week.of));
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let tidings = Tidings::open(folder.path()).await?;
    let schedule = tidings.schedule().await?;
    let (lines, mut came) = unbounded_channel::<String>();
    tidings
        .consumer("reminder")
        .state(lines.clone())
        .on(remind)
        .start()
        .await?;
    tidings
        .consumer("reports")
        .state(lines)
        .on(report)
        .start()
        .await?;

    for order_id in ["order-1", "order-2"] {
        let order_id = order_id.to_owned();
        tidings
            .publish(OrderPlaced {
                order_id: order_id.clone(),
            })
            .await?;
        let missed = PaymentMissed { order_id };
        let name = schedule.after(TIME_TO_PAY, &missed).await?;
        if missed.order_id == "order-1" {
            // Paid: what is cancelled never happens.
            let order_id = missed.order_id.clone();
            tidings.publish(PaymentReceived { order_id }).await?;
            println!(
                "{} is paid: {}",
                missed.order_id,
                schedule.cancel(&name).await?
            );
        }
    }
    println!(
        "{}",
        came.recv().await.expect("the handlers hold the sender")
    );

    // Every second here; `0 9 * * MON` in Europe/Berlin elsewhere. Said again at the next start it changes nothing.
    let of = "sales".to_owned();
    let weekly = WeekEnded { of };
    for start in ["first", "second"] {
        let new = schedule
            .every("weeks of sales", "* * * * * *", "UTC", &weekly)
            .await?;
        println!("the {start} start schedules the weeks: {new}");
    }
    for _ in 0..2 {
        println!(
            "{}",
            came.recv().await.expect("the handlers hold the sender")
        );
    }
    schedule.cancel("weeks of sales").await?;
    tidings.drain().await?;
    Ok(())
}

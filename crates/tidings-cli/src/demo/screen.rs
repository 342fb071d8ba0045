//! What a person sees while the demo runs, and the latencies that it measures.

use crate::when::now;
use hdrhistogram::Histogram;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use tidings::extract::Metadata;
use tidings::flow::consumer::{Notice, Observer};

/// Orders whose whole way is told; of the others only what goes wrong.
const ORDERS_TOLD: u64 = 3;
/// Latencies are recorded up to a minute, in microseconds.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// Tells what happens, and measures.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    shown: bool,
    /// Guards the latencies; held for one record.
    latencies: Arc<Mutex<Histogram<u64>>>,
}

impl Screen {
    /// A screen that shows what happens, or only measures.
    pub(super) fn new(shown: bool) -> Self {
        let latencies =
            Histogram::new_with_max(LATENCY_MICROS_MAX, 3).expect("the bounds are valid");
        Self {
            shown,
            latencies: Arc::new(Mutex::new(latencies)),
        }
    }

    /// Notes that a handler got an event.
    pub(super) fn handled(&self, metadata: &Metadata) {
        if let Some(appended) = metadata.append_time.filter(|_| metadata.attempt == 1) {
            let micros = u64::try_from(now().since(appended).as_micros()).unwrap_or(u64::MAX);
            self.latencies
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .saturating_record(micros);
        }
    }

    /// Tells what a service did, for the first orders.
    pub(super) fn tell(&self, order_id: &str, service: &str, what: &str) {
        let number = order_id
            .trim_start_matches("order-")
            .parse()
            .unwrap_or(u64::MAX);
        if number <= ORDERS_TOLD || number % 100 == 5 {
            self.line(order_id, service, what);
        }
    }

    /// Tells anything.
    pub(super) fn say(&self, text: &str) {
        if self.shown {
            // A reader that went away is told of by the report at the end.
            let _closed = writeln!(std::io::stdout().lock(), "{text}");
        }
    }

    fn line(&self, order_id: &str, service: &str, what: &str) {
        self.say(&format!("  {order_id:<10}  {service:<13} {what}"));
    }

    /// The latency in milliseconds that a share of the handlings kept, if any were measured.
    pub(super) fn latency_ms(&self, quantile: f64) -> Option<f64> {
        let latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (!latencies.is_empty()).then(|| latencies.value_at_quantile(quantile) as f64 / 1_000.0)
    }
}

/// What goes wrong is told of every order.
impl Observer for Screen {
    fn notice(&self, notice: Notice<'_>) {
        match notice {
            Notice::RetryScheduled {
                envelope,
                reason,
                delay,
                ..
            } => {
                self.line(
                    envelope.aggregate_id().unwrap_or("-"),
                    "",
                    &format!("{reason}; again in {} ms", delay.as_millis()),
                );
            }
            Notice::DeadLettered {
                envelope, reason, ..
            } => {
                self.line(
                    envelope.aggregate_id().unwrap_or("-"),
                    "",
                    &format!("{reason} → dead letter"),
                );
            }
            Notice::CircuitOpened { reason, .. } => {
                self.say(&format!("  everything fails, waiting: {reason}"));
            }
            Notice::Paused { reason } => self.say(&format!("  paused: {reason}")),
            Notice::Resumed | Notice::CircuitClosed { .. } => self.say("  going on"),
            _ => {}
        }
    }
}

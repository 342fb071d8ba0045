//! What the demo shows at its end: totals of the orders, one order as a tree, the dead letter, where to look next.

use super::events::{OrderPlaced, PaymentSucceeded, StockReserved};
use super::screen::Screen;
use super::services::Services;
use crate::arguments::{Filter, Global};
use crate::commands::dead_letter::next;
use crate::failure::Failure;
use crate::output::{json, object};
use crate::rows::Selection;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;
use tidings::broker::{Reader, Recorded};
use tidings::dead_letter::{DeadLetter, DeadLetterRecord};
use tidings::{Envelope, Event as _, Location};

/// The order whose way is drawn.
const ORDER_DRAWN: &str = "order-1";

/// What happened to the orders.
#[derive(Debug, Default)]
pub(super) struct Facts {
    events: BTreeMap<String, u64>,
    pieces: u32,
    charged: f64,
    drawn: Vec<Envelope>,
    dead: Vec<DeadLetterRecord>,
}

impl Facts {
    /// Reads a folder.
    pub(super) async fn of_folder(reader: &dyn Reader) -> Result<Self, Failure> {
        let mut facts = Self::default();
        let take = |recorded: Recorded| {
            facts.take(recorded.envelope);
            Ok(ControlFlow::Continue(()))
        };
        let filter = Filter::default();
        Selection::new(&filter, reader)
            .await?
            .each(reader, take)
            .await?;
        let mut letters = tidings::dead_letter::list(reader);
        while let Some(letter) = next(&mut letters).await? {
            facts.died(letter.record);
        }
        Ok(facts)
    }

    /// Of what was written down, dead letters among it.
    pub(super) fn of_journal(written: Vec<Envelope>) -> Self {
        let mut facts = Self::default();
        for envelope in written {
            match DeadLetter::from_envelope(&envelope) {
                Ok(letter) => facts.died(letter.record),
                Err(_) => facts.take(envelope),
            }
        }
        facts
    }

    /// One dead letter for each event and group, however often it dies: who is killed before the broker has the settlement may give it up again.
    fn died(&mut self, record: DeadLetterRecord) {
        let is_other = |known: &DeadLetterRecord| {
            (&known.event_id, &known.consumer) != (&record.event_id, &record.consumer)
        };
        self.dead.retain(is_other);
        self.dead.push(record);
    }

    fn take(&mut self, envelope: Envelope) {
        let event_type = envelope.event_type().name().to_owned();
        let payload = envelope.payload_bytes();
        if event_type == StockReserved::TYPE {
            let reserved = serde_json::from_slice(payload);
            self.pieces += reserved.map_or(0, |stock: StockReserved| stock.pieces);
        } else if event_type == PaymentSucceeded::TYPE {
            let succeeded = serde_json::from_slice(payload);
            self.charged += succeeded.map_or(0.0, |payment: PaymentSucceeded| payment.amount);
        }
        *self.events.entry(event_type).or_default() += 1;
        if envelope.aggregate_id() == Some(ORDER_DRAWN) {
            self.drawn.push(envelope);
        }
    }
}

/// Where the events and the state are.
#[derive(Debug)]
pub(super) struct Whereabouts<'a> {
    pub(super) folder: &'a Path,
    /// The broker, where it is not the folder's own log.
    pub(super) broker: Option<&'a Location>,
    /// Whether what was published can be read again there.
    pub(super) has_history: bool,
}

/// Totals of the orders, and the figures of this run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    orders: u64,
    events: BTreeMap<String, u64>,
    dead_letters: usize,
    elapsed_seconds: f64,
    events_per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip)]
    has_history: bool,
    #[serde(skip)]
    pieces: u32,
    #[serde(skip)]
    charged: f64,
    #[serde(skip)]
    drawn: Vec<Envelope>,
    #[serde(skip)]
    dead: Vec<DeadLetterRecord>,
}

impl Report {
    /// Sums up.
    pub(super) fn of(
        facts: Facts,
        whereabouts: &Whereabouts<'_>,
        elapsed: Duration,
        screen: &Screen,
    ) -> Self {
        let events = facts.events;
        let total: u64 = events.values().sum();
        let folder = whereabouts.folder;
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self {
            orders: events.get(OrderPlaced::TYPE).copied().unwrap_or(0),
            dead_letters: facts.dead.len(),
            elapsed_seconds: elapsed.as_secs_f64(),
            events_per_second: total as f64 / elapsed.as_secs_f64().max(f64::EPSILON),
            p50_ms: screen.latency_ms(0.5),
            p99_ms: screen.latency_ms(0.99),
            data: folder.display().to_string(),
            url: whereabouts.broker.map(Location::to_string),
            has_history: whereabouts.has_history,
            events,
            pieces: facts.pieces,
            charged: facts.charged,
            drawn: facts.drawn,
            dead: facts.dead,
        }
    }

    /// Prints it for a person, or as one object.
    pub(super) fn print(
        &self,
        global: &Global,
        services: &Services,
        screen: &Screen,
    ) -> Result<(), Failure> {
        screen.say("");
        object(global.format(), &json(self), || self.text(services))
    }

    fn text(&self, services: &Services) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _written = self.write(&mut text, services);
        text
    }

    fn write(&self, text: &mut String, services: &Services) -> std::fmt::Result {
        let place = if self.url.is_some() {
            "of these orders"
        } else {
            "in the folder"
        };
        writeln!(text, "Events {place}")?;
        for (event_type, count) in &self.events {
            writeln!(text, "  {count:>7}  {event_type}")?;
        }
        writeln!(text, "\nWhat the services know")?;
        writeln!(
            text,
            "  payment charged {:.2}; inventory set {} pieces aside; notification wrote {} mails",
            self.charged,
            self.pieces,
            services.mails.lock().written.len()
        )?;
        writeln!(text, "\nThe way of {ORDER_DRAWN}, by cause")?;
        for root in self
            .drawn
            .iter()
            .filter(|envelope| envelope.causation_id().is_none())
        {
            self.branch(text, root, "  ", "  ")?;
        }
        writeln!(text, "\nDead letters")?;
        for dead in &self.dead {
            writeln!(
                text,
                "  {}  {}  given up by {} after {} attempt(s): {}",
                dead.event_type,
                dead.aggregate_id.as_deref().unwrap_or("-"),
                dead.consumer,
                dead.attempts,
                dead.reason
            )?;
        }
        if self.dead.is_empty() {
            writeln!(text, "  none")?;
        }
        writeln!(
            text,
            "\n{:.2} s, {:.0} events/s; from appended to handled: p50 {} ms, p99 {} ms; every event was {} before it was acknowledged",
            self.elapsed_seconds,
            self.events_per_second,
            figure(self.p50_ms),
            figure(self.p99_ms),
            if self.url.is_some() {
                "accepted by the broker"
            } else {
                "on the disk"
            }
        )?;
        self.next_commands(text)
    }

    fn next_commands(&self, text: &mut String) -> std::fmt::Result {
        let Some(url) = &self.url else {
            writeln!(text, "\nThe data lies in {}. Look at it with", self.data)?;
            for command in [
                "event ls --key order-5",
                "dlq ls",
                "consumer lag",
                "tail --since earliest --until-end",
            ] {
                writeln!(text, "  tidings {command} --data {}", self.data)?;
            }
            return Ok(());
        };
        writeln!(
            text,
            "\nThe events are on {url}, the services' own state in {}. Look at them with",
            self.data
        )?;
        // By its name, which every broker answers; not each of them can list groups.
        writeln!(text, "  tidings consumer lag shipping --url '{url}'")?;
        if self.has_history {
            writeln!(text, "  tidings event export --key order-5 --url '{url}'")?;
        }
        Ok(())
    }

    /// One event and below it those that its handling emitted.
    fn branch(
        &self,
        text: &mut String,
        envelope: &Envelope,
        here: &str,
        below: &str,
    ) -> std::fmt::Result {
        writeln!(
            text,
            "{here}{}  by {}",
            envelope.event_type(),
            envelope.source().unwrap_or("-")
        )?;
        let effects: Vec<&Envelope> = self
            .drawn
            .iter()
            .filter(|other| other.causation_id() == Some(envelope.event_id()))
            .collect();
        for (index, effect) in effects.iter().enumerate() {
            let last = index + 1 == effects.len();
            let (branch, bar) = if last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            self.branch(
                text,
                effect,
                &format!("{below}{branch}"),
                &format!("{below}{bar}"),
            )?;
        }
        Ok(())
    }
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

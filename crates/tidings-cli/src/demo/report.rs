//! What the demo shows at its end: totals of the folder, one order as a tree, the dead letter, where to look next.

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
use tidings::Envelope;
use tidings::broker::{Reader, Recorded};
use tidings::dead_letter::DeadLetterRecord;

/// The order whose way is drawn.
const ORDER_DRAWN: &str = "order-1";

/// Totals of the folder, and the figures of this run.
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
    #[serde(skip)]
    drawn: Vec<Envelope>,
    #[serde(skip)]
    dead: Vec<DeadLetterRecord>,
}

impl Report {
    /// Reads the folder.
    pub(super) async fn of(
        reader: &dyn Reader,
        folder: &Path,
        elapsed: Duration,
        screen: &Screen,
    ) -> Result<Self, Failure> {
        let mut events: BTreeMap<String, u64> = BTreeMap::new();
        let mut drawn = Vec::new();
        let take = |recorded: Recorded| {
            *events
                .entry(recorded.envelope.event_type().name().to_owned())
                .or_default() += 1;
            if recorded.envelope.aggregate_id() == Some(ORDER_DRAWN) {
                drawn.push(recorded.envelope);
            }
            Ok(ControlFlow::Continue(()))
        };
        let filter = Filter::default();
        Selection::new(&filter, reader)
            .await?
            .each(reader, take)
            .await?;
        let mut letters = tidings::dead_letter::list(reader);
        let mut dead = Vec::new();
        while let Some(letter) = next(&mut letters).await? {
            dead.push(letter.record);
        }
        let total: u64 = events.values().sum();
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Ok(Self {
            orders: events.get("order.placed").copied().unwrap_or(0),
            dead_letters: dead.len(),
            elapsed_seconds: elapsed.as_secs_f64(),
            events_per_second: total as f64 / elapsed.as_secs_f64().max(f64::EPSILON),
            p50_ms: screen.latency_ms(0.5),
            p99_ms: screen.latency_ms(0.99),
            data: folder.display().to_string(),
            events,
            drawn,
            dead,
        })
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
        writeln!(text, "Events in the folder")?;
        for (event_type, count) in &self.events {
            writeln!(text, "  {count:>7}  {event_type}")?;
        }
        writeln!(text, "\nWhat the services know")?;
        let charged: f64 = services.payments.lock().charged.values().sum();
        writeln!(
            text,
            "  payment charged {charged:.2}; inventory set {} pieces aside; notification wrote {} mails",
            services.inventory.lock().pieces_taken(),
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
            "\n{:.2} s, {:.0} events/s; from appended to handled: p50 {} ms, p99 {} ms; every event was on the disk before it was acknowledged",
            self.elapsed_seconds,
            self.events_per_second,
            figure(self.p50_ms),
            figure(self.p99_ms)
        )?;
        self.next_commands(text)
    }

    fn next_commands(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "\nThe data lies in {}. Look at it with", self.data)?;
        for command in [
            "event ls --key order-5",
            "dlq ls",
            "consumer lag",
            "tail --since earliest --until-end",
        ] {
            writeln!(text, "  tidings {command} --data {}", self.data)?;
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

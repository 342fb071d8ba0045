//! The figures of a relay.

use super::notice::{RelayNotice, RelayPhase, RetryClass};
use crate::metrics::{Distribution, MetricFamily, MetricKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::store::{OutboxStatus, Shard};

/// Destinations that are counted apart; what is sent to further ones counts as sent to `other`.
const DESTINATIONS_MAX: usize = 100;

/// What a relay has done since it started, and how its outbox stands.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RelayMetrics {
    /// The outbox.
    pub outbox: String,
    /// The shard.
    pub shard: Shard,
    /// What the relay is at.
    pub phase: RelayPhase,
    /// How the outbox stood when it was last asked, rows that no relay owns included. The age of what waited grows on while the database does not answer.
    pub status: Option<OutboxStatus>,
    /// When the database told the status, and until when it is believed without a newer one.
    told: (Duration, Duration),
    /// Events accepted, by destination.
    pub published: BTreeMap<Arc<str>, u64>,
    /// From handing a batch over until its outcomes were there.
    pub publish_time: Distribution,
    /// From the time of a row, which is a little before its commit, until its event was accepted; by the clock of the database.
    pub commit_to_ack: Distribution,
    /// Rows of the newest batch.
    pub batch_rows: usize,
    /// Rows on their way.
    pub in_flight_rows: usize,
    /// Times that something was or will be published again, by reason.
    pub retries: BTreeMap<RetryClass, u64>,
    /// Keys, and events without a key, that wait for a later attempt or to be given up.
    pub blocked_keys: usize,
    /// Events given up.
    pub dead: u64,
    /// Destinations that are in trouble.
    pub breakers_open: BTreeSet<Arc<str>>,
    /// The epoch of the lease, while it is held.
    pub lease_epoch: Option<u64>,
    /// Times that the lease was lost.
    pub lease_lost: u64,
    /// Rows that appeared below the id from which on the relay reads.
    pub late_rows: u64,
    /// Events sent after one of the same key with a larger id.
    pub order_races: u64,
    /// Events published again after an unknown outcome.
    pub duplicates_suspected: u64,
    /// Times that the database did not do what was asked.
    pub store_failures: u64,
}

impl RelayMetrics {
    pub(super) fn new(outbox: &str, shard: Shard) -> Self {
        Self {
            outbox: outbox.to_owned(),
            shard,
            phase: RelayPhase::Waiting,
            status: None,
            told: (Duration::ZERO, Duration::MAX),
            published: BTreeMap::new(),
            publish_time: Distribution::new(),
            commit_to_ack: Distribution::new(),
            batch_rows: 0,
            in_flight_rows: 0,
            retries: BTreeMap::new(),
            blocked_keys: 0,
            dead: 0,
            breakers_open: BTreeSet::new(),
            lease_epoch: None,
            lease_lost: 0,
            late_rows: 0,
            order_races: 0,
            duplicates_suspected: 0,
            store_failures: 0,
        }
    }

    /// Events accepted, wherever they went.
    pub fn relayed(&self) -> u64 {
        self.published.values().sum()
    }

    /// Takes how the outbox stands.
    pub(super) fn stands(&mut self, status: OutboxStatus, now: Duration, believed: Duration) {
        self.status = Some(status);
        self.told = (now, believed);
    }

    /// What waited when the database answered last waits still, as far as anybody knows once it should have answered again: an age that stood still would hide it.
    pub(super) fn grow_older(&mut self, now: Duration) {
        let (told, believed) = self.told;
        if let Some(status) = &mut self.status
            && status.pending > 0
            && now > believed
        {
            status.oldest_unsent_age += now.saturating_sub(told);
        }
    }

    pub(super) fn count_published(&mut self, destination: &Arc<str>, events: u64) {
        let known = self.published.contains_key(destination);
        let name = if known || self.published.len() < DESTINATIONS_MAX {
            Arc::clone(destination)
        } else {
            Arc::from("other")
        };
        *self.published.entry(name).or_default() += events;
    }

    pub(super) fn count(&mut self, notice: &RelayNotice) {
        match notice {
            RelayNotice::LeaseLost => self.lease_lost += 1,
            RelayNotice::Retry(class) => *self.retries.entry(*class).or_default() += 1,
            RelayNotice::Dead { .. } => self.dead += 1,
            RelayNotice::StoreFailed { .. } => self.store_failures += 1,
            RelayNotice::LateRows(rows) => self.late_rows += *rows as u64,
            RelayNotice::OrderRace => self.order_races += 1,
            RelayNotice::SuspectedDuplicate => self.duplicates_suspected += 1,
            RelayNotice::Acquired { .. }
            | RelayNotice::HeldByOther { .. }
            | RelayNotice::DestinationDown { .. }
            | RelayNotice::DestinationUp { .. }
            | RelayNotice::StoreHealed { .. } => {}
        }
    }

    /// The figures under their names, for [`render`](crate::metrics::render).
    pub fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.outbox_families();
        families.extend(self.relay_families());
        families
    }

    /// How the outbox stands, whoever relays it.
    fn outbox_families(&self) -> Vec<MetricFamily> {
        let outbox = [("outbox", self.outbox.as_str())];
        let Some(status) = &self.status else {
            return Vec::new();
        };
        let gauge = |name, help, number| {
            MetricFamily::new(name, MetricKind::Gauge, help).with(&outbox, number)
        };
        let mut families = vec![
            gauge(
                "tidings_outbox_pending_rows",
                "Events that wait to be sent, those without a relay included.",
                status.pending as f64,
            ),
            gauge(
                "tidings_outbox_oldest_pending_age_seconds",
                "How long the oldest event waits that is to be sent; 0 without any.",
                status.oldest_unsent_age.as_secs_f64(),
            ),
            gauge(
                "tidings_outbox_dead_rows",
                "Events that were given up and wait for a person.",
                status.dead as f64,
            ),
            gauge(
                "tidings_outbox_rows_retained",
                "Sent events whose rows are still there.",
                status.retained as f64,
            ),
        ];
        if let Some(dead) = &status.dead_tuples {
            let holder = dead.oldest_snapshot.as_ref();
            families.push(gauge(
                "tidings_outbox_dead_tuples",
                "Rows that are gone and that PostgreSQL has not cleaned up, by its own estimate.",
                dead.count as f64,
            ));
            families.push(gauge(
                "tidings_outbox_oldest_snapshot_seconds",
                "How long the transaction is open that keeps PostgreSQL from cleaning up; 0 without any.",
                holder.map_or(0.0, |holder| holder.age.as_secs_f64()),
            ));
        }
        families
    }

    fn relay_families(&self) -> Vec<MetricFamily> {
        let mut families = self.labelled_families();
        families.extend(self.durations());
        families.extend(self.gauges());
        families.extend(self.counters());
        families
    }

    fn durations(&self) -> Vec<MetricFamily> {
        let family = |name, help, durations| {
            let family = MetricFamily::new(name, MetricKind::Histogram, help);
            self.labels(|labels| family.with_durations(labels, durations))
        };
        vec![
            family(
                "tidings_outbox_publish_seconds",
                "From handing a batch over until its outcomes were there.",
                &self.publish_time,
            ),
            family(
                "tidings_outbox_commit_to_ack_seconds",
                "From the time of a row until its event was accepted.",
                &self.commit_to_ack,
            ),
        ]
    }

    fn gauges(&self) -> Vec<MetricFamily> {
        let family = |name, help, number: f64| {
            let family = MetricFamily::new(name, MetricKind::Gauge, help);
            self.labels(|labels| family.with(labels, number))
        };
        vec![
            family(
                "tidings_outbox_batch_rows",
                "Events of the newest batch.",
                self.batch_rows as f64,
            ),
            family(
                "tidings_outbox_in_flight_rows",
                "Events on their way.",
                self.in_flight_rows as f64,
            ),
            family(
                "tidings_outbox_blocked_keys",
                "Keys, and events without a key, that wait for a later attempt.",
                self.blocked_keys as f64,
            ),
            family(
                "tidings_outbox_lease_epoch",
                "The epoch of the lease, 0 without it; it grows with every change of owner.",
                self.lease_epoch.unwrap_or(0) as f64,
            ),
        ]
    }

    fn counters(&self) -> Vec<MetricFamily> {
        let family = |name, help, number: u64| {
            let family = MetricFamily::new(name, MetricKind::Counter, help);
            self.labels(|labels| family.with(labels, number as f64))
        };
        vec![
            family(
                "tidings_outbox_relayed_total",
                "Events that were accepted, wherever they went.",
                self.relayed(),
            ),
            family("tidings_outbox_dead_total", "Events given up.", self.dead),
            family(
                "tidings_outbox_lease_lost_total",
                "Times that the lease was lost.",
                self.lease_lost,
            ),
            family(
                "tidings_outbox_late_rows_total",
                "Rows that appeared below the id from which on the relay reads, revived ones included.",
                self.late_rows,
            ),
            family(
                "tidings_outbox_order_races_total",
                "Events sent after one of the same key with a larger id: their writers were not serialised.",
                self.order_races,
            ),
            family(
                "tidings_outbox_duplicates_suspected_total",
                "Events published again after an unknown outcome.",
                self.duplicates_suspected,
            ),
            family(
                "tidings_outbox_store_failures_total",
                "Times that the database did not do what was asked.",
                self.store_failures,
            ),
        ]
    }

    /// Figures that are told apart by one more label.
    fn labelled_families(&self) -> Vec<MetricFamily> {
        let mut phases = MetricFamily::new(
            "tidings_outbox_relay_phase",
            MetricKind::Gauge,
            "1 for what the relay is at.",
        );
        for phase in RelayPhase::ALL {
            let number = f64::from(u8::from(phase == self.phase));
            phases = self.labelled(phases, "phase", phase.as_str(), number);
        }
        let mut published = MetricFamily::new(
            "tidings_outbox_published_total",
            MetricKind::Counter,
            "Events that their destination has accepted.",
        );
        for (destination, events) in &self.published {
            published = self.labelled(published, "destination", destination, *events as f64);
        }
        let mut retries = MetricFamily::new(
            "tidings_outbox_retries_total",
            MetricKind::Counter,
            "Times that something was or will be published again: the event was refused for now, its outcome was unclear, or the destination was down.",
        );
        for class in [RetryClass::Event, RetryClass::Unclear, RetryClass::Down] {
            let number = self.retries.get(&class).copied().unwrap_or(0);
            retries = self.labelled(retries, "class", class.as_str(), number as f64);
        }
        let mut breakers = MetricFamily::new(
            "tidings_outbox_breaker_open",
            MetricKind::Gauge,
            "1 for each destination that is in trouble.",
        );
        for destination in &self.breakers_open {
            breakers = self.labelled(breakers, "destination", destination, 1.0);
        }
        vec![phases, published, retries, breakers]
    }

    fn labelled(
        &self,
        family: MetricFamily,
        name: &'static str,
        value: &str,
        number: f64,
    ) -> MetricFamily {
        self.labels(|labels| {
            let mut labels = labels.to_vec();
            labels.push((name, value));
            family.with(&labels, number)
        })
    }

    /// Gives the labels of every figure of this relay to a function.
    fn labels<T>(&self, with: impl FnOnce(&[(&'static str, &str)]) -> T) -> T {
        let shard = self.shard.index.to_string();
        with(&[("outbox", self.outbox.as_str()), ("shard", shard.as_str())])
    }
}

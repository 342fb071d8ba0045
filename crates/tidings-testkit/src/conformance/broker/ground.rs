//! Where one property is looked at: a fresh place, connections to it, events to publish, and the counts of this run.

use super::fixture::{Fixture, Traits, Unavailable};
use super::report::Verdict;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{
    Broker, GroupName, PublishError, StartAt, SubscribeRequest, Subscription,
};
use tidings_core::seam::Clock;
use tidings_core::{Envelope, EnvelopeParts, Pattern, Payload, Timestamp};
use tidings_flow::runtime::SystemClock;

/// What happens counts as missing when nothing has happened for so long; a property may take much longer in all.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long closing, draining and failing may take.
pub(super) const END_MAX: Duration = Duration::from_secs(20);
/// Events published at once.
const BATCH_EVENTS: usize = 500;

/// One property's place on the broker.
pub(super) struct Ground {
    pub(super) fixture: Arc<dyn Fixture>,
    pub(super) address: String,
    pub(super) traits: Traits,
    full: bool,
    clock: SystemClock,
}

impl Ground {
    pub(super) fn new(fixture: Arc<dyn Fixture>, address: String, full: bool) -> Self {
        let traits = fixture.traits();
        Self {
            full: full && !traits.slow,
            fixture,
            address,
            traits,
            clock: SystemClock::new(),
        }
    }

    /// Time since the property began.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Another place of the same broker.
    pub(super) async fn elsewhere(&self, property: &str) -> Self {
        let address = self.fixture.fresh(property).await;
        Self::new(Arc::clone(&self.fixture), address, self.full)
    }

    /// The count of a full run, or of a short one.
    pub(super) fn count(&self, full: usize, short: usize) -> usize {
        if self.full { full } else { short }
    }

    /// A connection of its own.
    pub(super) async fn connect(&self) -> Arc<dyn Broker> {
        connect(&*self.fixture, &self.address).await
    }

    /// A group that no other property has: groups of some brokers belong to no topic.
    pub(super) fn group(&self, name: &str) -> GroupName {
        let mut hasher = DefaultHasher::new();
        self.address.hash(&mut hasher);
        format!("{name}-{:016x}", hasher.finish())
            .parse()
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn request(&self, group: &str) -> SubscribeRequest {
        SubscribeRequest {
            group: self.group(group),
            patterns: vec![pattern("order.*")],
            start: StartAt::Earliest,
            single_instance: false,
        }
    }

    /// Joins a group for `order.*` from the oldest event on.
    pub(super) async fn subscribe(&self, broker: &dyn Broker, group: &str) -> Subscription {
        let request = self.request(group);
        let joining = self.subscribe_patiently(broker, &request);
        let joined = tokio::time::timeout(self.patience() + END_MAX, joining);
        joined
            .await
            .unwrap_or_else(|_| panic!("joining the group does not end"))
    }

    /// How long trouble that passes is waited out: a holder that vanished still has the lease, a server that was started elects who answers.
    pub(super) fn patience(&self) -> Duration {
        END_MAX.max(self.traits.takeover_max)
    }

    /// Joins, and tries again while the trouble may pass.
    async fn subscribe_patiently(
        &self,
        broker: &dyn Broker,
        request: &SubscribeRequest,
    ) -> Subscription {
        let began = self.elapsed();
        loop {
            match broker.subscribe(request).await {
                Ok(subscription) => return subscription,
                Err(error)
                    if error.class().is_transient() && self.elapsed() - began < self.patience() =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("cannot join the group: {error}"),
            }
        }
    }

    /// Makes a group that will see what is published from now on, also on a broker without history.
    pub(super) async fn prepare(&self, broker: &dyn Broker, group: &str) {
        let subscription = self.subscribe(broker, group).await;
        subscription
            .settle
            .leave()
            .await
            .unwrap_or_else(|error| panic!("cannot leave the group: {error}"));
    }
}

/// A connection to a place.
pub(super) async fn connect(fixture: &dyn Fixture, address: &str) -> Arc<dyn Broker> {
    fixture
        .connect(address)
        .await
        .unwrap_or_else(|error| panic!("cannot connect: {error}"))
}

pub(super) fn pattern(text: &str) -> Pattern {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// The event `number` of a key.
pub(super) fn event(key: &str, number: usize) -> Envelope {
    typed_event("order.placed", key, number)
}

pub(super) fn typed_event(event_type: &str, key: &str, number: usize) -> Envelope {
    let mut parts = EnvelopeParts::new(format!("{event_type}-{key}-{number}"), event_type);
    parts.aggregate_id = Some(key.to_owned());
    parts.source = Some("conformance".to_owned());
    let micros = 1_700_000_000_000_000 + i64::try_from(number).unwrap_or_default();
    parts.timestamp = Some(Timestamp::from_micros(micros).into());
    parts.payload = Some(Payload::json(format!("{{\"number\":{number}}}")).unwrap());
    Envelope::new(parts).unwrap()
}

/// Which event of its key it is.
pub(super) fn number_of(envelope: &Envelope) -> usize {
    let id = envelope.event_id();
    let number = id.rsplit('-').next().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("the event {id} is none of the suite's"))
}

/// So many events, in turn over so many keys.
pub(super) fn spread(count: usize, keys: usize) -> Vec<Envelope> {
    (0..count)
        .map(|number| event(&format!("k{}", number % keys), number))
        .collect()
}

/// Publishes in order; each event must be accepted. What the broker did not come to in the time that it gives to one call is published again, as producers do.
pub(super) async fn publish(broker: &dyn Broker, events: &[Envelope]) {
    for batch in events.chunks(BATCH_EVENTS) {
        let mut waiting = batch.to_vec();
        while !waiting.is_empty() {
            let outcomes = broker.publish(&waiting).await;
            assert_eq!(outcomes.len(), waiting.len(), "one outcome for each event");
            let mut left = Vec::new();
            for (envelope, outcome) in waiting.iter().zip(outcomes) {
                match outcome {
                    Ok(_) => {}
                    Err(PublishError::NotAttempted) => left.push(envelope.clone()),
                    Err(error) => {
                        panic!(
                            "the event {} was not accepted: {error}",
                            envelope.event_id()
                        )
                    }
                }
            }
            assert!(
                left.len() < waiting.len(),
                "none of {} events was attempted",
                waiting.len()
            );
            waiting = left;
        }
    }
}

/// How often each event was seen.
pub(super) fn counts<'a>(seen: impl IntoIterator<Item = &'a Envelope>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for envelope in seen {
        *counts.entry(envelope.event_id()).or_default() += 1;
    }
    counts
}

/// Each event was seen, as it was published, exactly so many times, and nothing else was.
pub(super) fn assert_seen(published: &[Envelope], seen: &[Envelope], times: usize) {
    assert_none_missing(published, seen);
    let more: Vec<_> = counts(seen)
        .into_iter()
        .filter(|(_, count)| *count != times)
        .collect();
    assert!(
        more.is_empty(),
        "{} of {} events were not delivered {times} times but: {:?}",
        more.len(),
        published.len(),
        &more[..more.len().min(5)]
    );
}

/// Each event was seen as it was published, and nothing else was.
pub(super) fn assert_none_missing(published: &[Envelope], seen: &[Envelope]) {
    let known: BTreeMap<&str, &Envelope> = published
        .iter()
        .map(|envelope| (envelope.event_id(), envelope))
        .collect();
    for envelope in seen {
        match known.get(envelope.event_id()) {
            Some(original) => assert_eq!(envelope, *original, "an event changed on its way"),
            None => panic!("nobody published {envelope:?}"),
        }
    }
    let counts = counts(seen);
    let missing: Vec<_> = known
        .keys()
        .filter(|id| !counts.contains_key(*id))
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {} events are missing: {:?}",
        missing.len(),
        published.len(),
        &missing[..missing.len().min(5)]
    );
}

/// What a hook gave; a hook that is not there makes the property a declared one.
pub(super) fn declared(unavailable: &Unavailable) -> Verdict {
    Verdict::Declared(unavailable.0.clone())
}

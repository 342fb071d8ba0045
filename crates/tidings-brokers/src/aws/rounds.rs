//! Which events of a batch may be sent next: where order is kept, of one key never more than one, so that nothing overtakes; nothing of a key is sent once one of it failed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use tidings_core::Envelope;
use tidings_core::broker::{KeyOrder, PublishError, PublishOutcome, Receipt};
use tidings_core::limits::{AWS_BATCH_BYTES_MAX, AWS_BATCH_ENTRIES_MAX};

/// The events of one call of publish, and what became of them.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// By place: bytes that count against the limit of a request.
    bytes: Vec<usize>,
    /// By place: the number of the key, where there is one.
    keys: Vec<Option<usize>>,
    /// By number of a key: what waits behind the event of that key that is ready or on its way. Where there is no order nothing waits.
    waiting: Vec<VecDeque<usize>>,
    ready: BTreeSet<usize>,
    outcomes: Vec<Option<PublishOutcome>>,
}

impl Rounds {
    /// `prepared` has for each event its size, or why it cannot be sent at all; `order` is what the service keeps.
    pub(crate) fn new(
        batch: &[Envelope],
        prepared: Vec<Result<usize, PublishError>>,
        order: KeyOrder,
    ) -> Self {
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let mut rounds = Self {
            bytes: Vec::with_capacity(batch.len()),
            keys: Vec::with_capacity(batch.len()),
            waiting: Vec::new(),
            ready: BTreeSet::new(),
            outcomes: Vec::with_capacity(batch.len()),
        };
        // By number of a key: whether one of its events cannot be sent.
        let mut broken: Vec<bool> = Vec::new();
        for (place, (envelope, size)) in batch.iter().zip(prepared).enumerate() {
            let key = envelope.key().map(|key| {
                let next = numbers.len();
                *numbers.entry(key.into_owned()).or_insert(next)
            });
            let is_first = key == Some(broken.len());
            if is_first {
                broken.push(false);
                rounds.waiting.push(VecDeque::new());
            }
            let follows = key.filter(|_| !is_first && order != KeyOrder::None);
            let is_broken = key
                .and_then(|key| broken.get(key).copied())
                .unwrap_or(false);
            let (bytes, outcome) = match size {
                _ if is_broken => (0, Some(Err(PublishError::NotAttempted))),
                Ok(bytes) => (bytes, None),
                Err(error) => (0, Some(Err(error))),
            };
            if outcome.is_some()
                && let Some(flag) = key.and_then(|key| broken.get_mut(key))
            {
                *flag = true;
            }
            if outcome.is_none() {
                match follows.and_then(|key| rounds.waiting.get_mut(key)) {
                    Some(line) => line.push_back(place),
                    None => {
                        rounds.ready.insert(place);
                    }
                }
            }
            rounds.bytes.push(bytes);
            rounds.keys.push(key);
            rounds.outcomes.push(outcome);
        }
        rounds
    }

    /// The places of the next request; none while nothing is ready.
    pub(crate) fn next_request(&mut self) -> Option<Vec<usize>> {
        let mut places = Vec::new();
        let mut sum = 0;
        while let Some(place) = self.ready.first().copied() {
            let bytes = self.bytes.get(place).copied().unwrap_or(0);
            let fits = places.len() < AWS_BATCH_ENTRIES_MAX && sum + bytes <= AWS_BATCH_BYTES_MAX;
            if !places.is_empty() && !fits {
                break;
            }
            self.ready.remove(&place);
            sum += bytes;
            places.push(place);
        }
        (!places.is_empty()).then_some(places)
    }

    /// Takes the outcome of an event that was sent.
    pub(crate) fn settle(&mut self, place: usize, outcome: Result<(), PublishError>) {
        let key = self.keys.get(place).copied().flatten();
        let line = key.and_then(|key| self.waiting.get_mut(key));
        if let Some(line) = line {
            if outcome.is_ok() {
                self.ready.extend(line.pop_front());
            } else {
                // They stay without an outcome, which is "not attempted" in the end.
                line.clear();
                let keys = &self.keys;
                self.ready
                    .retain(|ready| *ready < place || keys.get(*ready) != keys.get(place));
            }
        }
        if let Some(slot) = self.outcomes.get_mut(place) {
            *slot = Some(outcome.map(|()| Receipt { position: None }));
        }
    }

    /// Sends nothing further.
    pub(crate) fn stop(&mut self) {
        self.ready.clear();
        self.waiting.iter_mut().for_each(VecDeque::clear);
    }

    /// One outcome for each event.
    pub(crate) fn finish(self) -> Vec<PublishOutcome> {
        let outcomes = self.outcomes.into_iter();
        outcomes
            .map(|outcome| outcome.unwrap_or(Err(PublishError::NotAttempted)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::EnvelopeParts;

    fn event(id: &str, key: Option<&str>) -> Envelope {
        let mut parts = EnvelopeParts::new(id, "order.placed");
        parts.aggregate_id = key.map(str::to_owned);
        Envelope::new(parts).unwrap()
    }

    #[test]
    fn of_one_key_one_event_is_on_its_way_and_nothing_follows_a_failure() {
        let batch = [
            event("1", Some("a")),
            event("2", Some("a")),
            event("3", None),
            event("4", Some("b")),
            event("5", Some("a")),
            event("6", None),
        ];
        let sizes = (0..6).map(|_| Ok(10)).collect();
        let mut rounds = Rounds::new(&batch, sizes, KeyOrder::AcrossInstances);

        assert_eq!(rounds.next_request(), Some(vec![0, 2, 3, 5]));
        assert_eq!(rounds.next_request(), None);
        for place in [0, 2, 3, 5] {
            rounds.settle(place, Ok(()));
        }
        assert_eq!(rounds.next_request(), Some(vec![1]));
        let reason = "cut".to_owned();
        rounds.settle(1, Err(PublishError::Ambiguous { reason }));
        assert_eq!(rounds.next_request(), None);

        let outcomes = rounds.finish();
        assert!(outcomes[0].is_ok() && outcomes[5].is_ok());
        assert!(matches!(outcomes[1], Err(PublishError::Ambiguous { .. })));
        assert!(matches!(outcomes[4], Err(PublishError::NotAttempted)));
    }

    #[test]
    fn without_an_order_events_of_a_key_go_together_until_one_fails() {
        let batch: Vec<_> = (0..25)
            .map(|id| event(&id.to_string(), Some(if id == 24 { "b" } else { "a" })))
            .collect();
        let sizes = (0..25).map(|_| Ok(1)).collect();
        let mut rounds = Rounds::new(&batch, sizes, KeyOrder::None);

        let first = rounds.next_request().unwrap();
        let second = rounds.next_request().unwrap();
        assert_eq!(
            (first, second),
            ((0..10).collect(), (10..20).collect::<Vec<_>>())
        );
        for place in 0..10 {
            let outcome = match place {
                3 => Err(PublishError::Ambiguous {
                    reason: "cut".to_owned(),
                }),
                _ => Ok(()),
            };
            rounds.settle(place, outcome);
        }
        (10..20).for_each(|place| rounds.settle(place, Ok(())));
        assert_eq!(rounds.next_request(), Some(vec![24]));
        rounds.settle(24, Ok(()));
        assert_eq!(rounds.next_request(), None);

        let outcomes = rounds.finish();
        assert!(matches!(outcomes[3], Err(PublishError::Ambiguous { .. })));
        assert!(outcomes[4].is_ok() && outcomes[19].is_ok());
        for outcome in &outcomes[20..24] {
            assert!(matches!(outcome, Err(PublishError::NotAttempted)));
        }
    }

    #[test]
    fn a_request_has_at_most_ten_events_and_its_bytes() {
        let batch: Vec<_> = (0..12).map(|id| event(&id.to_string(), None)).collect();
        let sizes = (0..12).map(|_| Ok(1)).collect();
        let mut rounds = Rounds::new(&batch, sizes, KeyOrder::AcrossInstances);
        assert_eq!(rounds.next_request().unwrap().len(), 10);
        assert_eq!(rounds.next_request().unwrap().len(), 2);

        let half = AWS_BATCH_BYTES_MAX / 2;
        let sizes = (0..3).map(|_| Ok(half)).collect();
        let mut rounds = Rounds::new(&batch[..3], sizes, KeyOrder::None);
        assert_eq!(rounds.next_request().unwrap(), [0, 1]);
        assert_eq!(rounds.next_request().unwrap(), [2]);
    }

    #[test]
    fn what_cannot_be_sent_holds_back_the_rest_of_its_key() {
        for order in [KeyOrder::AcrossInstances, KeyOrder::None] {
            let batch = [
                event("1", Some("a")),
                event("2", Some("a")),
                event("3", Some("b")),
            ];
            let refused = PublishError::Ambiguous {
                reason: "x".to_owned(),
            };
            let mut rounds = Rounds::new(&batch, vec![Err(refused), Ok(1), Ok(1)], order);

            assert_eq!(rounds.next_request(), Some(vec![2]));
            rounds.settle(2, Ok(()));

            let outcomes = rounds.finish();
            assert!(matches!(outcomes[1], Err(PublishError::NotAttempted)));
            assert!(outcomes[2].is_ok());
        }
    }
}

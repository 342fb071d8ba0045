//! What a group has received and not settled, for brokers whose deliveries are settled one by one. Pure.
//!
//! A delivery that is released stays here and is handed out again ahead of what was not handed out yet: the broker is not told, so nothing that it holds can
//! overtake. Only when the scope is given up do deliveries go back to the broker, in their order.

use std::collections::{BTreeMap, BTreeSet};
use tidings_core::Timestamp;
use tidings_core::broker::{Delivery, SettleError, Token};

/// Bits of a token that hold the place; the rest holds the generation of the scope.
const PLACE_BITS: u32 = 48;

/// The unsettled deliveries of one scope, each with the broker's own handle to settle it.
#[derive(Debug)]
pub(crate) struct Unsettled<H> {
    generation: u64,
    open: BTreeMap<u64, Entry<H>>,
    /// Places that may be handed out, in order.
    ready: BTreeSet<u64>,
    bytes: usize,
    /// The first place behind everything that was ever taken in.
    end: u64,
}

#[derive(Debug)]
struct Entry<H> {
    delivery: Delivery,
    handle: H,
    handed_out: bool,
    /// The broker may have its settlement already.
    #[cfg(feature = "nats")]
    settling: bool,
}

impl<H: Clone> Unsettled<H> {
    /// Nothing yet, in the first generation.
    pub(crate) fn new() -> Self {
        Self {
            generation: 1,
            open: BTreeMap::new(),
            ready: BTreeSet::new(),
            bytes: 0,
            end: 0,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The token of a place in this generation.
    pub(crate) fn token(&self, place: u64) -> Token {
        Token((self.generation << PLACE_BITS) | place)
    }

    /// Takes in a delivery. One that is here already keeps its state and gets the newer handle: it is still being worked on.
    pub(crate) fn insert(&mut self, place: u64, delivery: Delivery, handle: H) {
        if let Some(known) = self.open.get_mut(&place) {
            known.handle = handle;
            return;
        }
        self.bytes += delivery.envelope.payload_bytes().len();
        self.end = self.end.max(place + 1);
        self.ready.insert(place);
        let entry = Entry {
            delivery,
            handle,
            handed_out: false,
            #[cfg(feature = "nats")]
            settling: false,
        };
        self.open.insert(place, entry);
    }

    /// Hands out what is ready at places below `end`.
    pub(crate) fn hand_out(&mut self, events_max: usize, end: u64) -> Vec<Delivery> {
        let mut handed_out = Vec::new();
        while handed_out.len() < events_max {
            let Some(&place) = self.ready.first().filter(|&&place| place < end) else {
                break;
            };
            self.ready.remove(&place);
            if let Some(entry) = self.open.get_mut(&place) {
                entry.handed_out = true;
                handed_out.push(entry.delivery.clone());
            }
        }
        handed_out
    }

    /// The place and handle of a delivery that was handed out.
    pub(crate) fn find(&self, token: Token) -> Result<(u64, H), SettleError> {
        if token.0 >> PLACE_BITS != self.generation {
            return Err(SettleError::Stale);
        }
        let place = token.0 & ((1 << PLACE_BITS) - 1);
        match self.open.get(&place).filter(|entry| entry.handed_out) {
            Some(entry) => Ok((place, entry.handle.clone())),
            None => Err(SettleError::Unknown),
        }
    }

    /// Notes that the settlement of a delivery is on its way to the broker.
    #[cfg(feature = "nats")]
    pub(crate) fn settling(&mut self, place: u64) {
        if let Some(entry) = self.open.get_mut(&place) {
            entry.settling = true;
        }
    }

    /// Deliveries here that the broker has not settled for sure. One whose settlement is on its way may be open here and not there, and would stand for one that is missing here.
    #[cfg(feature = "nats")]
    pub(crate) fn surely_unsettled(&self) -> usize {
        let open = self.open.values();
        open.filter(|entry| !entry.settling).count()
    }

    /// Forgets a delivery that the broker has settled.
    pub(crate) fn settled(&mut self, place: u64) {
        self.ready.remove(&place);
        if let Some(entry) = self.open.remove(&place) {
            self.bytes -= entry.delivery.envelope.payload_bytes().len();
        }
    }

    /// Makes a delivery ready to be handed out again.
    pub(crate) fn release(&mut self, place: u64) {
        if let Some(entry) = self.open.get_mut(&place) {
            entry.handed_out = false;
            self.ready.insert(place);
        }
    }

    /// Forgets everything and makes its tokens stale.
    pub(crate) fn lose(&mut self) {
        self.generation += 1;
        self.open.clear();
        self.ready.clear();
        self.bytes = 0;
    }

    /// The last place of the run of those settled that begins at the first open one, if it begins there.
    #[cfg(feature = "rabbitmq")]
    pub(crate) fn run_end(&self, settled: &std::collections::HashSet<u64>) -> Option<u64> {
        let run = self.open.keys().take_while(|place| settled.contains(place));
        run.last().copied()
    }

    /// Handles of all deliveries, in order.
    #[cfg(feature = "nats")]
    pub(crate) fn handles(&self) -> Vec<H> {
        self.open
            .values()
            .map(|entry| entry.handle.clone())
            .collect()
    }

    /// The first place behind everything that was ever taken in.
    #[cfg(feature = "nats")]
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Bytes of the payloads.
    #[cfg(feature = "nats")]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_anything_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the broker took the first delivery that is not handed out.
    pub(crate) fn oldest_ready(&self) -> Option<Timestamp> {
        let entry = self.open.get(self.ready.first()?)?;
        entry.delivery.append_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::{Envelope, EnvelopeParts};

    fn insert(table: &mut Unsettled<u64>, place: u64, handle: u64) {
        let delivery = Delivery {
            token: table.token(place),
            position: None,
            append_time: None,
            envelope: Envelope::new(EnvelopeParts::new(place.to_string(), "a.b")).unwrap(),
            problem: None,
            redelivered: false,
        };
        table.insert(place, delivery, handle);
    }

    fn hand_out(table: &mut Unsettled<u64>, events_max: usize) -> Vec<String> {
        let taken = table.hand_out(events_max, u64::MAX);
        let ids = taken.iter().map(|delivery| delivery.envelope.event_id());
        ids.map(str::to_owned).collect()
    }

    #[test]
    fn what_is_released_comes_again_ahead_of_what_was_not_handed_out() {
        let mut table = Unsettled::new();
        for place in 1..=4 {
            insert(&mut table, place, place);
        }
        assert_eq!(hand_out(&mut table, 3), ["1", "2", "3"]);
        table.settled(1);
        table.release(3);
        table.release(2);
        assert_eq!(hand_out(&mut table, 9), ["2", "3", "4"]);
        assert_eq!(table.len(), 3);
    }

    #[cfg(feature = "nats")]
    #[test]
    fn what_is_being_settled_stands_for_nothing_that_is_missing() {
        let mut table = Unsettled::new();
        for place in 1..=3 {
            insert(&mut table, place, place);
        }
        table.settling(1);
        assert_eq!((table.len(), table.surely_unsettled()), (3, 2));
        table.settled(1);
        assert_eq!((table.len(), table.surely_unsettled()), (2, 2));
    }

    #[test]
    fn a_second_copy_is_not_handed_out_twice_and_brings_the_newer_handle() {
        let mut table = Unsettled::new();
        insert(&mut table, 7, 1);
        assert_eq!(hand_out(&mut table, 9), ["7"]);
        insert(&mut table, 7, 2);
        assert!(hand_out(&mut table, 9).is_empty());
        assert_eq!(table.find(table.token(7)).unwrap(), (7, 2));
    }

    #[test]
    fn tokens_of_a_lost_generation_are_stale_and_others_unknown() {
        let mut table = Unsettled::new();
        insert(&mut table, 7, 1);
        let token = table.token(7);
        assert!(matches!(table.find(token), Err(SettleError::Unknown)));
        table.hand_out(1, u64::MAX);
        assert!(table.find(token).is_ok());
        table.lose();
        assert!(matches!(table.find(token), Err(SettleError::Stale)));
        assert!(matches!(
            table.find(table.token(7)),
            Err(SettleError::Unknown)
        ));
    }
}

//! The messages of a queue that are ours at the moment: received and waiting, or handed out and not settled. No I/O, so that every turn can be tested.

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::broker::{Received, Scope, Token};
use tidings_core::limits::SQS_HELD_MAX;

/// A message that is ours until its time runs out.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) message: Arc<Message>,
    pub(crate) receipt: String,
    /// When SQS gives it to somebody else, by the running clock.
    until: Duration,
    /// When it was received.
    since: Duration,
    /// A request that ends it is under way: it is not extended behind that, and whether it was lost will be its answer.
    ending: bool,
}

/// What may be done with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is open, by this receipt.
    Open(String),
    /// Its scope is lost, or its time has run out.
    Stale,
    /// It was settled before, or never given.
    Unknown,
}

/// All messages of a subscription.
#[derive(Debug)]
pub(crate) struct Open {
    name: Arc<str>,
    generation: u64,
    held: BTreeMap<u64, Held>,
    /// Those that wait to be handed out, in the order in which they were received.
    ready: BTreeSet<u64>,
    handed: HashMap<Token, u64>,
    next: u64,
    next_token: u64,
    /// Tokens below it belong to an earlier generation.
    first_token: u64,
    told: VecDeque<Received>,
}

impl Open {
    pub(crate) fn new(name: &str) -> Self {
        let mut open = Self {
            name: name.into(),
            generation: 1,
            held: BTreeMap::new(),
            ready: BTreeSet::new(),
            handed: HashMap::new(),
            next: 0,
            next_token: 1,
            first_token: 1,
            told: VecDeque::new(),
        };
        let scope = open.scope();
        open.told.push_back(Received::Assigned(scope));
        open
    }

    pub(crate) fn scope(&self) -> Scope {
        Scope {
            name: self.name.clone(),
            generation: self.generation,
        }
    }

    /// What is to be told before any event.
    pub(crate) fn news(&mut self) -> Option<Received> {
        self.told.pop_front()
    }

    /// Takes what was received when the clock stood at `asked`; it is ours for `visibility` from then on at least.
    pub(crate) fn add(&mut self, messages: Vec<Message>, asked: Duration, visibility: Duration) {
        for message in messages {
            let Some(receipt) = message.receipt_handle().map(str::to_owned) else {
                continue;
            };
            self.held.insert(
                self.next,
                Held {
                    message: Arc::new(message),
                    receipt,
                    until: asked + visibility,
                    since: asked,
                    ending: false,
                },
            );
            self.ready.insert(self.next);
            self.next += 1;
        }
    }

    /// Messages that wait to be handed out.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Messages that are ours at all.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Messages that are handed out and not settled.
    pub(crate) fn handed_out(&self) -> usize {
        self.handed.len()
    }

    /// When the oldest message that waits was sent.
    pub(crate) fn oldest_waiting(&self) -> Option<Timestamp> {
        let waiting = self.ready.iter().filter_map(|place| self.held.get(place));
        waiting.filter_map(|held| sent_at(&held.message)).min()
    }

    /// Hands out messages.
    pub(crate) fn hand_out(&mut self, messages_max: usize) -> Vec<(Token, Arc<Message>)> {
        let mut given = Vec::new();
        while given.len() < messages_max {
            let Some(place) = self.ready.pop_first() else {
                break;
            };
            let token = Token(self.next_token);
            if let Some(held) = self.held.get(&place) {
                self.next_token += 1;
                self.handed.insert(token, place);
                given.push((token, held.message.clone()));
            }
        }
        given
    }

    /// Whether a token may be settled.
    pub(crate) fn standing(&self, token: Token, now: Duration) -> Standing {
        if token.0 < self.first_token {
            return Standing::Stale;
        }
        let held = self
            .handed
            .get(&token)
            .and_then(|place| self.held.get(place));
        match held {
            None => Standing::Unknown,
            Some(held) if held.until <= now => Standing::Stale,
            Some(held) => Standing::Open(held.receipt.clone()),
        }
    }

    /// A request that settles the delivery for good begins or has ended; what it ended is forgotten by then.
    pub(crate) fn is_ending(&mut self, token: Token, ending: bool) {
        let place = self.handed.get(&token);
        if let Some(held) = place.and_then(|place| self.held.get_mut(place)) {
            held.ending = ending;
        }
    }

    /// Forgets a delivery that was settled.
    pub(crate) fn forget(&mut self, token: Token) {
        if let Some(place) = self.handed.remove(&token) {
            self.held.remove(&place);
        }
    }

    /// Puts a delivery back where it stood among those that wait.
    pub(crate) fn put_back(&mut self, token: Token) {
        if let Some(place) = self.handed.remove(&token) {
            self.ready.insert(place);
        }
    }

    /// The message at a place is ours until then, said an answer that came now. One that came after its time had run out says nothing of the time in between, in which somebody else may have had what is
    /// behind it.
    pub(crate) fn extended(&mut self, place: u64, now: Duration, until: Duration) {
        if let Some(held) = self.held.get_mut(&place)
            && held.until > now
        {
            held.until = until;
        }
    }

    /// Whether there is still a message at a place, and nothing under way that ends it.
    pub(crate) fn holds(&self, place: u64) -> bool {
        self.held.get(&place).is_some_and(|held| !held.ending)
    }

    /// The place of a delivery.
    pub(crate) fn place(&self, token: Token) -> Option<u64> {
        self.handed.get(&token).copied()
    }

    /// Places and receipts of messages whose time runs out before `before`, unless they were held for as long as SQS lets anybody.
    pub(crate) fn running_out(&self, now: Duration, before: Duration) -> Vec<(u64, String)> {
        let due = self.held.iter().filter(|(_, held)| {
            let may_be_kept = now.saturating_sub(held.since) < SQS_HELD_MAX;
            held.until < before && held.until > now && may_be_kept && !held.ending
        });
        due.map(|(place, held)| (*place, held.receipt.clone()))
            .collect()
    }

    /// Whether the time of a message has run out: somebody else may have it.
    pub(crate) fn has_run_out(&self, now: Duration) -> bool {
        let mut held = self.held.values();
        held.any(|held| held.until <= now && !held.ending)
    }

    /// Gives up everything, and answers the receipts that can be given back to the queue.
    pub(crate) fn lose(&mut self, now: Duration) -> Vec<String> {
        let lost = self.scope();
        let receipts = self.let_go(now);
        self.told.push_back(Received::Lost(lost));
        let scope = self.scope();
        self.told.push_back(Received::Assigned(scope));
        receipts
    }

    /// As [`lose`](Self::lose), and tells nobody.
    pub(crate) fn let_go(&mut self, now: Duration) -> Vec<String> {
        self.generation += 1;
        self.first_token = self.next_token;
        self.ready.clear();
        self.handed.clear();
        let held = std::mem::take(&mut self.held).into_values();
        held.filter(|held| held.until > now && !held.ending)
            .map(|held| held.receipt)
            .collect()
    }
}

/// When a message was sent, as SQS tells.
pub(crate) fn sent_at(message: &Message) -> Option<Timestamp> {
    let text = message
        .attributes()?
        .get(&MessageSystemAttributeName::SentTimestamp)?;
    let millis: i64 = text.parse().ok()?;
    Some(Timestamp::from_micros(millis.checked_mul(1_000)?))
}

/// Whether SQS handed a message out before.
pub(crate) fn was_received(message: &Message) -> bool {
    let attributes = message.attributes();
    let times =
        attributes.and_then(|it| it.get(&MessageSystemAttributeName::ApproximateReceiveCount));
    times.is_some_and(|times| times != "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISIBILITY: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn message(receipt: &str) -> Message {
        Message::builder().receipt_handle(receipt).build()
    }

    fn open(receipts: &[&str]) -> Open {
        let mut open = Open::new("q");
        assert!(matches!(open.news(), Some(Received::Assigned(_))));
        let messages = receipts.iter().map(|receipt| message(receipt));
        open.add(messages.collect(), at(0), VISIBILITY);
        open
    }

    #[test]
    fn what_is_put_back_comes_first_and_in_its_order() {
        let mut open = open(&["a", "b", "c"]);
        let given = open.hand_out(2);

        open.put_back(given[1].0);
        open.put_back(given[0].0);
        let again = open.hand_out(9);

        let receipts: Vec<_> = again.iter().map(|(_, m)| m.receipt_handle()).collect();
        assert_eq!(receipts, [Some("a"), Some("b"), Some("c")]);
        assert_eq!(open.standing(given[0].0, at(1)), Standing::Unknown);
        assert_eq!(open.standing(again[0].0, at(1)), Standing::Open("a".into()));
    }

    #[test]
    fn a_delivery_whose_time_ran_out_is_stale_and_its_scope_lost() {
        let mut open = open(&["a", "b"]);
        let given = open.hand_out(1);
        let due = open.running_out(at(9), at(31));
        assert_eq!(due, [(0, "a".to_owned()), (1, "b".to_owned())]);
        open.extended(0, at(29), at(60));
        open.extended(1, at(30), at(60));
        assert!(!open.has_run_out(at(29)));
        assert!(open.has_run_out(at(30)), "the answer came too late");
        assert_eq!(open.standing(given[0].0, at(60)), Standing::Stale);

        let receipts = open.lose(at(30));

        assert_eq!(receipts, ["a"], "the other one may be somebody else's");
        assert_eq!(open.standing(given[0].0, at(31)), Standing::Stale);
        assert!(matches!(open.news(), Some(Received::Lost(scope)) if scope.generation == 1));
        assert!(matches!(open.news(), Some(Received::Assigned(scope)) if scope.generation == 2));
        assert_eq!((open.waiting(), open.handed_out()), (0, 0));
    }

    /// An extension that came behind a release hid the message for its whole time, and one that was refused behind an acknowledgement gave everything up.
    #[test]
    fn what_is_being_settled_is_neither_extended_nor_lost() {
        let mut open = open(&["a", "b"]);
        let given = open.hand_out(2);
        open.is_ending(given[0].0, true);

        let due = open.running_out(at(9), at(31));
        assert_eq!(due, [(1, "b".to_owned())]);
        assert!(!open.holds(0) && open.holds(1));
        open.extended(1, at(20), at(60));
        assert!(!open.has_run_out(at(40)), "its answer will tell");

        open.is_ending(given[0].0, false);
        assert!(open.has_run_out(at(40)), "it was not settled");
    }

    #[test]
    fn nothing_is_held_longer_than_sqs_lets_anybody() {
        let open = open(&["a"]);
        assert_eq!(open.running_out(at(1), at(31)).len(), 1);
        assert!(
            open.running_out(SQS_HELD_MAX, at(31) + SQS_HELD_MAX)
                .is_empty()
        );
    }
}

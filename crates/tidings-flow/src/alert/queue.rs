//! The messages of one channel: in their order, one on its way at a time, each until it is accepted or given up.

use super::channel::Outgoing;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;
use tidings_core::limits::{
    ALERT_MESSAGES_WAITING_MAX, ALERT_RETRY_ASKED_MAX, ALERT_RETRY_FIRST, ALERT_RETRY_FOR,
    ALERT_RETRY_MAX,
};
use tidings_core::store::{Kept, KeptKind};
use tidings_core::{Timestamp, seam::Chance};

/// A message that waits, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// The identity of its channel.
    pub(super) channel: String,
    pub(super) id: String,
    pub(super) body: String,
    pub(super) line: String,
    pub(super) attempts: u32,
    /// When it was made, in microseconds since 1970.
    pub(super) made_us: i64,
    /// Its place among those that were made at the same time.
    pub(super) place: u64,
}

impl Waiting {
    /// The name under which it is kept.
    pub(super) fn name(&self) -> String {
        super::subject::hex(&format!("{} {}", self.channel, self.id))
    }

    pub(super) fn kept(&self) -> Kept {
        Kept {
            kind: KeptKind::Message,
            name: self.name(),
            body: serde_json::to_string(self).expect("texts and numbers are JSON"),
        }
    }

    pub(super) fn outgoing(&self) -> Outgoing {
        Outgoing {
            id: self.id.clone(),
            body: self.body.clone(),
            line: self.line.clone(),
        }
    }

    fn is_too_old(&self, now: Timestamp) -> bool {
        now.since(Timestamp::from_micros(self.made_us)) >= ALERT_RETRY_FOR
    }
}

/// What becomes of the message in front after a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is sent again after so long; it counts its attempts.
    Again(Box<Waiting>, Duration),
    /// It is given up.
    GivenUp(Box<Waiting>),
}

/// The messages of one channel.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// When the one in front may be sent, by the clock that only goes forward.
    due: Duration,
    is_sending: bool,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a message behind the others; answers those that are given up for want of room. The one on its way is never among them.
    pub(super) fn push(&mut self, message: Waiting) -> Vec<Waiting> {
        self.waiting.push_back(message);
        let mut given_up = Vec::new();
        while self.waiting.len() > ALERT_MESSAGES_WAITING_MAX {
            let oldest = usize::from(self.is_sending);
            given_up.extend(self.waiting.remove(oldest));
        }
        given_up
    }

    /// Puts those that an earlier process left into their order.
    pub(super) fn sort(&mut self) {
        let order = |message: &Waiting| (message.made_us, message.place);
        self.waiting
            .make_contiguous()
            .sort_by_key(|message| order(message));
    }

    /// The message to send now, if there is one.
    pub(super) fn take_due(&mut self, elapsed: Duration) -> Option<Outgoing> {
        if self.is_sending || elapsed < self.due {
            return None;
        }
        let front = self.waiting.front()?;
        self.is_sending = true;
        Some(front.outgoing())
    }

    /// How long until a message is to be sent; `None` if none waits for a time.
    pub(super) fn next_in(&self, elapsed: Duration) -> Option<Duration> {
        if self.is_sending || self.waiting.is_empty() {
            return None;
        }
        Some(self.due.saturating_sub(elapsed))
    }

    /// The message in front was accepted.
    pub(super) fn accepted(&mut self) -> Option<Waiting> {
        self.is_sending = false;
        self.due = Duration::ZERO;
        self.waiting.pop_front()
    }

    /// The message in front was not accepted.
    pub(super) fn failed(
        &mut self,
        retry_after: Option<Duration>,
        elapsed: Duration,
        now: Timestamp,
        chance: &dyn Chance,
    ) -> Option<Next> {
        self.is_sending = false;
        let front = self.waiting.front_mut()?;
        front.attempts = front.attempts.saturating_add(1);
        let asked = retry_after.map(|asked| asked.min(ALERT_RETRY_ASKED_MAX));
        let delay = backoff(front.attempts, chance).max(asked.unwrap_or_default());
        if front.is_too_old(now) {
            self.due = Duration::ZERO;
            let given_up = self.waiting.pop_front()?;
            return Some(Next::GivenUp(Box::new(given_up)));
        }
        self.due = elapsed.saturating_add(delay);
        Some(Next::Again(Box::new(front.clone()), delay))
    }

    /// The channel wants no message any more.
    pub(super) fn close(&mut self) -> Vec<Waiting> {
        self.is_sending = false;
        self.waiting.drain(..).collect()
    }
}

/// The wait before the next attempt: it doubles, and a random part of up to a half is taken off, so that watchers do not knock together.
fn backoff(attempts: u32, chance: &dyn Chance) -> Duration {
    let doubled = 1_u32 << attempts.saturating_sub(1).min(16);
    let longest = ALERT_RETRY_FIRST
        .saturating_mul(doubled)
        .min(ALERT_RETRY_MAX);
    let off = (chance.next_u64() % 1_000) as u32;
    longest - longest / 2_000 * off
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);

    impl Chance for Fixed {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    fn message(id: &str) -> Waiting {
        Waiting {
            channel: "c".to_owned(),
            id: id.to_owned(),
            body: "{}".to_owned(),
            line: String::new(),
            attempts: 0,
            made_us: 0,
            place: 0,
        }
    }

    #[test]
    fn one_is_on_its_way_at_a_time_and_their_order_stays() {
        let mut queue = Queue::default();
        queue.push(message("1"));
        queue.push(message("2"));

        assert_eq!(queue.take_due(Duration::ZERO).unwrap().id, "1");
        assert_eq!(queue.take_due(Duration::ZERO), None);
        let now = Timestamp::from_micros(1);
        let next = queue.failed(None, Duration::ZERO, now, &Fixed(0));
        assert_eq!(
            next,
            Some(Next::Again(
                Box::new(Waiting {
                    attempts: 1,
                    ..message("1")
                }),
                ALERT_RETRY_FIRST
            ))
        );
        assert_eq!(queue.take_due(ALERT_RETRY_FIRST / 2), None);
        assert_eq!(
            queue.next_in(ALERT_RETRY_FIRST / 2),
            Some(ALERT_RETRY_FIRST / 2)
        );
        assert_eq!(queue.take_due(ALERT_RETRY_FIRST).unwrap().id, "1");
        assert_eq!(queue.accepted().unwrap().id, "1");
        assert_eq!(queue.take_due(ALERT_RETRY_FIRST).unwrap().id, "2");
    }

    #[test]
    fn waits_double_with_jitter_and_a_channel_may_ask_for_longer_ones() {
        let wait = |attempts| backoff(attempts, &Fixed(0));
        assert_eq!(wait(1), ALERT_RETRY_FIRST);
        assert_eq!(wait(3), ALERT_RETRY_FIRST * 4);
        assert_eq!(wait(99), ALERT_RETRY_MAX);
        let jittered = backoff(3, &Fixed(999));
        assert!(
            jittered < wait(3) && jittered >= wait(3) / 2,
            "{jittered:?}"
        );

        let mut queue = Queue::default();
        queue.push(message("1"));
        queue.take_due(Duration::ZERO).unwrap();
        let asked = Some(Duration::from_secs(90));
        let now = Timestamp::from_micros(1);
        queue.failed(asked, Duration::from_secs(10), now, &Fixed(0));
        assert_eq!(queue.next_in(Duration::from_secs(10)), asked);
        queue.take_due(Duration::from_secs(100)).unwrap();
        queue.failed(
            Some(Duration::MAX),
            Duration::from_secs(100),
            now,
            &Fixed(0),
        );
        assert_eq!(
            queue.next_in(Duration::from_secs(100)),
            Some(ALERT_RETRY_ASKED_MAX)
        );
    }

    #[test]
    fn a_message_that_nobody_took_for_days_is_given_up() {
        let mut queue = Queue::default();
        queue.push(message("1"));
        queue.take_due(Duration::ZERO).unwrap();

        let now = Timestamp::from_micros(0).plus(ALERT_RETRY_FOR);
        let next = queue.failed(None, Duration::ZERO, now, &Fixed(0));

        assert!(matches!(next, Some(Next::GivenUp(_))), "{next:?}");
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn beyond_the_bound_the_oldest_that_is_not_on_its_way_is_given_up() {
        let mut queue = Queue::default();
        for id in 0..ALERT_MESSAGES_WAITING_MAX {
            assert!(queue.push(message(&id.to_string())).is_empty());
        }
        queue.take_due(Duration::ZERO).unwrap();

        let given_up = queue.push(message("new"));

        assert_eq!(given_up.len(), 1);
        assert_eq!(given_up[0].id, "1");
        assert_eq!(queue.accepted().unwrap().id, "0");
    }
}

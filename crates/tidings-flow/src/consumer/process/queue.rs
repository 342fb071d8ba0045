//! Which event goes into the process next, and who is to blame when it dies. No I/O and no clock.
//!
//! Events that were unanswered when a process died are *suspects*. They go first, one at a time and with nothing else in the process, so that
//! the one that kills it is found and the others are not held responsible.

use super::protocol::Outcome;
use std::collections::{BTreeMap, HashMap, VecDeque};
use tidings_core::Envelope;
use tidings_core::broker::Position;
use tidings_core::limits::PARALLEL_MAX;
use tokio::sync::oneshot;

/// One event to be handled.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) envelope: Envelope,
    pub(super) position: Option<Position>,
    /// Takes the outcome; closed if nobody waits for it any more.
    pub(super) reply: oneshot::Sender<Outcome>,
}

impl Request {
    /// Tells the one who waits; it may have gone, then the outcome interests nobody.
    pub(super) fn answer(self, outcome: Outcome) {
        let _ = self.reply.send(outcome);
    }

    fn identity(&self) -> Identity {
        Identity {
            event_id: self.envelope.event_id().to_owned(),
            source: self.envelope.source().map(str::to_owned),
            position: self.position,
        }
    }
}

/// What makes an event the same one when it is handed in again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    event_id: String,
    source: Option<String>,
    position: Option<Position>,
}

/// Events on their way into the process and in it.
#[derive(Debug)]
pub(super) struct Queue {
    parallel: usize,
    waiting: VecDeque<Request>,
    waiting_suspects: VecDeque<Request>,
    /// In the order of sending.
    in_process: BTreeMap<u64, Sent>,
    by_event_id: HashMap<String, u64>,
    sent_next: u64,
    /// Suspects that were not answered yet, also while the runtime waits before their next attempt. One that was given up is never answered,
    /// so that the oldest are forgotten beyond a bound.
    suspects: VecDeque<Identity>,
}

#[derive(Debug)]
struct Sent {
    request: Request,
    is_suspect: bool,
    was_alone: bool,
}

/// An answered request.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) request: Request,
    /// Whether no event in the process had waited longer.
    pub(super) was_oldest: bool,
}

/// Who may have ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// The event that was being handled.
    Event,
    /// That, or something from outside.
    EventOrOutside,
}

impl Queue {
    /// An empty queue for a process that handles `parallel` events at the same time.
    pub(super) fn new(parallel: usize) -> Self {
        Self {
            parallel,
            waiting: VecDeque::new(),
            waiting_suspects: VecDeque::new(),
            in_process: BTreeMap::new(),
            by_event_id: HashMap::new(),
            sent_next: 0,
            suspects: VecDeque::new(),
        }
    }

    /// Takes an event in. The caller bounds how many it has under way.
    pub(super) fn submit(&mut self, request: Request) {
        if self.waiting.len() >= PARALLEL_MAX {
            self.waiting.retain(|request| !request.reply.is_closed());
        }
        if !self.suspects.is_empty() && self.suspects.contains(&request.identity()) {
            self.waiting_suspects.push_back(request);
        } else {
            self.waiting.push_back(request);
        }
    }

    /// Whether an event waits for the process that someone still waits for.
    pub(super) fn has_waiting(&mut self) -> bool {
        forget_cancelled(&mut self.waiting_suspects);
        forget_cancelled(&mut self.waiting);
        !self.waiting_suspects.is_empty() || !self.waiting.is_empty()
    }

    /// Whether no event is in the process.
    pub(super) fn is_process_idle(&self) -> bool {
        self.in_process.is_empty()
    }

    /// The next event to send, which is in the process from now on; `None` if none may be sent now.
    pub(super) fn send_next(&mut self) -> Option<Envelope> {
        forget_cancelled(&mut self.waiting_suspects);
        if !self.waiting_suspects.is_empty() {
            if !self.in_process.is_empty() {
                return None;
            }
            let request = self.waiting_suspects.pop_front()?;
            return Some(self.put_in(request, true));
        }
        // A suspect is always the only one in the process.
        let first = self.in_process.values().next();
        let holds_suspect = first.is_some_and(|sent| sent.is_suspect);
        if holds_suspect || self.in_process.len() >= self.parallel {
            return None;
        }
        loop {
            // Answers name an event by its id alone, so that events which share one take turns.
            let index = self
                .waiting
                .iter()
                .position(|request| !self.by_event_id.contains_key(request.envelope.event_id()))?;
            let request = self.waiting.remove(index)?;
            if !request.reply.is_closed() {
                return Some(self.put_in(request, false));
            }
        }
    }

    fn put_in(&mut self, request: Request, is_suspect: bool) -> Envelope {
        let envelope = request.envelope.clone();
        let mut others = self.in_process.values_mut();
        let first = others.next();
        let was_alone = first.is_none();
        // Of several only the one that was there first can have been alone until now.
        if let Some(first) = first {
            first.was_alone = false;
        }
        let number = self.sent_next;
        self.sent_next += 1;
        self.by_event_id
            .insert(envelope.event_id().to_owned(), number);
        let sent = Sent {
            request,
            is_suspect,
            was_alone,
        };
        self.in_process.insert(number, sent);
        envelope
    }

    /// Takes the event with this id out of the process.
    pub(super) fn take_answered(&mut self, event_id: &str) -> Option<Answered> {
        let number = self.by_event_id.remove(event_id)?;
        let was_oldest = self.in_process.keys().next() == Some(&number);
        let sent = self.in_process.remove(&number)?;
        if !self.suspects.is_empty() {
            let identity = sent.request.identity();
            self.suspects.retain(|suspect| *suspect != identity);
        }
        Some(Answered {
            request: sent.request,
            was_oldest,
        })
    }

    /// The process died. What was in it becomes suspect and waits to be sent again, except for one that is to blame, which is returned.
    ///
    /// Only an event that had the process for itself all the time can be blamed; where something from outside may have ended the process,
    /// only if that happened to it before.
    pub(super) fn take_blamed(&mut self, suspicion: Suspicion) -> Option<Request> {
        self.by_event_id.clear();
        let unanswered: Vec<Sent> = std::mem::take(&mut self.in_process).into_values().collect();
        for sent in &unanswered {
            self.remember(sent.request.identity());
        }
        let mut blamed = None;
        let is_single = unanswered.len() == 1;
        for sent in unanswered.into_iter().rev() {
            let is_sure = sent.is_suspect || suspicion == Suspicion::Event;
            if is_single && sent.was_alone && is_sure {
                blamed = Some(sent.request);
            } else if !sent.request.reply.is_closed() {
                self.waiting_suspects.push_front(sent.request);
            }
        }
        blamed
    }

    fn remember(&mut self, identity: Identity) {
        if self.suspects.contains(&identity) {
            return;
        }
        if self.suspects.len() >= PARALLEL_MAX {
            self.suspects.pop_front();
        }
        self.suspects.push_back(identity);
    }

    /// Takes the event that would be sent next, to tell it that there is no process.
    pub(super) fn take_first(&mut self) -> Option<Request> {
        self.has_waiting().then_some(())?;
        self.waiting_suspects
            .pop_front()
            .or_else(|| self.waiting.pop_front())
    }

    /// Takes everything that waits or is in the process.
    pub(super) fn take_all(&mut self) -> Vec<Request> {
        self.by_event_id.clear();
        let in_process = std::mem::take(&mut self.in_process).into_values();
        in_process
            .map(|sent| sent.request)
            .chain(self.waiting_suspects.drain(..))
            .chain(self.waiting.drain(..))
            .collect()
    }
}

fn forget_cancelled(requests: &mut VecDeque<Request>) {
    while requests
        .front()
        .is_some_and(|request| request.reply.is_closed())
    {
        requests.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::EnvelopeParts;

    type Waiter = oneshot::Receiver<Outcome>;

    fn request(event_id: &str, position: u64) -> (Request, Waiter) {
        let (reply, waiter) = oneshot::channel();
        let parts = EnvelopeParts::new(event_id, "order.placed");
        let request = Request {
            envelope: Envelope::new(parts).unwrap(),
            position: Some(Position(position)),
            reply,
        };
        (request, waiter)
    }

    /// A queue with these events waiting; the waiters keep them wanted.
    fn queue(parallel: usize, event_ids: &[&str]) -> (Queue, Vec<Waiter>) {
        let mut queue = Queue::new(parallel);
        let mut waiters = Vec::new();
        for (position, event_id) in (0..).zip(event_ids) {
            let (request, waiter) = request(event_id, position);
            queue.submit(request);
            waiters.push(waiter);
        }
        (queue, waiters)
    }

    fn send_all(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.send_next())
            .map(|envelope| envelope.event_id().to_owned())
            .collect()
    }

    #[test]
    fn as_many_as_allowed_are_in_the_process_in_the_order_given() {
        let (mut queue, _waiters) = queue(2, &["a", "b", "c"]);

        assert_eq!(send_all(&mut queue), ["a", "b"]);
        assert!(!queue.take_answered("b").unwrap().was_oldest);
        assert_eq!(send_all(&mut queue), ["c"]);
        assert!(queue.take_answered("a").unwrap().was_oldest);
        assert!(queue.take_answered("a").is_none());
        assert!(queue.take_answered("x").is_none());
    }

    #[test]
    fn events_that_share_an_id_take_turns_and_others_pass() {
        let (mut queue, _waiters) = queue(8, &["a", "a", "b"]);

        assert_eq!(send_all(&mut queue), ["a", "b"]);
        let first = queue.take_answered("a").unwrap().request;
        assert_eq!(first.position, Some(Position(0)));
        assert_eq!(send_all(&mut queue), ["a"]);
        let second = queue.take_answered("a").unwrap().request;
        assert_eq!(second.position, Some(Position(1)));
    }

    #[test]
    fn after_a_death_with_several_each_goes_alone_and_nobody_is_blamed() {
        let (mut queue, _waiters) = queue(8, &["a", "b", "c"]);
        send_all(&mut queue);

        assert!(queue.take_blamed(Suspicion::Event).is_none());

        let (late, _waiter) = request("late", 9);
        queue.submit(late);
        for expected in ["a", "b", "c"] {
            assert_eq!(send_all(&mut queue), [expected]);
            queue.take_answered(expected).unwrap();
        }
        assert_eq!(send_all(&mut queue), ["late"]);
        assert!(queue.suspects.is_empty());
    }

    #[test]
    fn a_suspect_that_kills_alone_is_blamed_and_stays_a_suspect_until_answered() {
        let (mut queue, _waiters) = queue(8, &["bad", "good"]);
        send_all(&mut queue);
        assert!(queue.take_blamed(Suspicion::EventOrOutside).is_none());
        assert_eq!(send_all(&mut queue), ["bad"]);

        let blamed = queue.take_blamed(Suspicion::EventOrOutside).unwrap();

        assert_eq!(blamed.envelope.event_id(), "bad");
        assert_eq!(send_all(&mut queue), ["good"]);
        let (again, _waiter) = request("bad", 0);
        queue.submit(again);
        assert_eq!(send_all(&mut queue), Vec::<String>::new());
        queue.take_answered("good").unwrap();
        assert_eq!(send_all(&mut queue), ["bad"]);
        queue.take_answered("bad").unwrap();
        assert!(queue.suspects.is_empty());
    }

    #[test]
    fn a_kill_from_outside_is_free_once_and_a_crash_alone_is_not() {
        let (mut crashed, _waiters) = queue(8, &["a"]);
        send_all(&mut crashed);
        assert!(crashed.take_blamed(Suspicion::Event).is_some());

        let (mut killed, _waiters) = queue(8, &["a"]);
        send_all(&mut killed);
        assert!(killed.take_blamed(Suspicion::EventOrOutside).is_none());
        assert_eq!(send_all(&mut killed), ["a"]);
        assert!(killed.take_blamed(Suspicion::EventOrOutside).is_some());
    }

    #[test]
    fn one_that_had_company_is_not_blamed_for_being_the_last() {
        let (mut queue, _waiters) = queue(8, &["a", "b"]);
        send_all(&mut queue);
        queue.take_answered("a").unwrap();

        assert!(queue.take_blamed(Suspicion::Event).is_none());
        assert_eq!(send_all(&mut queue), ["b"]);
    }

    #[test]
    fn cancelled_events_are_not_sent_but_keep_their_place_once_sent() {
        let (mut queue, mut waiters) = queue(1, &["a", "b", "c"]);
        assert_eq!(send_all(&mut queue), ["a"]);

        waiters.drain(..2).for_each(drop);

        assert_eq!(send_all(&mut queue), Vec::<String>::new());
        queue.take_answered("a").unwrap();
        assert_eq!(send_all(&mut queue), ["c"]);
        queue.take_answered("c").unwrap();
        assert!(!queue.has_waiting() && queue.is_process_idle());
    }

    #[test]
    fn suspects_that_are_never_answered_are_forgotten_beyond_a_bound() {
        let mut queue = Queue::new(1);
        for position in 0..PARALLEL_MAX as u64 + 10 {
            let (request, _waiter) = request("a", position);
            queue.submit(request);
            queue.send_next().unwrap();
            assert!(queue.take_blamed(Suspicion::Event).is_some());
        }
        assert_eq!(queue.suspects.len(), PARALLEL_MAX);
    }
}

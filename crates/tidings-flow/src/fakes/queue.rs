//! A queue in memory as a FIFO queue of SQS is one: what is behind an event that somebody holds goes to nobody else, and then to whoever asks first. It tells nobody that keys have moved.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, Delivery, KeyOrder, PublishOutcome, Reader, Receipt,
    Receive, Received, Scope, Settle, SettleAction, SettleError, SubscribeRequest, Subscription,
    Token,
};
use tidings_core::limits::PAYLOAD_BYTES_MAX;
use tidings_core::{BoxFuture, Envelope, Timestamp};
use tokio::sync::watch;

/// So many events one answer has at most.
const ANSWER_EVENTS_MAX: usize = 10;

struct Message {
    number: u64,
    envelope: Envelope,
    /// Who holds it.
    holder: Option<u64>,
}

#[derive(Default)]
struct State {
    /// Those that nobody has settled, in their order.
    messages: Vec<Message>,
    published: u64,
    holders: u64,
}

/// The queue of one group; its clones are the same queue.
#[derive(Clone)]
pub(crate) struct FifoQueue {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<()>,
}

impl FifoQueue {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
            changes: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn append(&self, envelopes: impl IntoIterator<Item = Envelope>) {
        let mut state = self.lock();
        for envelope in envelopes {
            let number = state.published;
            state.published += 1;
            state.messages.push(Message {
                number,
                envelope,
                holder: None,
            });
        }
        drop(state);
        self.changes.send_replace(());
    }

    /// Whether everything is settled.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }
}

impl State {
    fn receive(&mut self, holder: u64, events_max: usize) -> Vec<u64> {
        let held = self.messages.iter().filter(|it| it.holder.is_some());
        let locked: HashSet<String> = held.filter_map(|it| key_of(&it.envelope)).collect();
        let free = self.messages.iter_mut().filter(|it| it.holder.is_none());
        let free = free.filter(|it| key_of(&it.envelope).is_none_or(|key| !locked.contains(&key)));
        let taken = free.take(events_max.min(ANSWER_EVENTS_MAX)).map(|message| {
            message.holder = Some(holder);
            message.number
        });
        taken.collect()
    }

    fn is_held(&self, number: u64, holder: u64) -> bool {
        let mut messages = self.messages.iter();
        messages.any(|it| it.number == number && it.holder == Some(holder))
    }

    fn let_go(&mut self, holder: u64) {
        for message in &mut self.messages {
            if message.holder == Some(holder) {
                message.holder = None;
            }
        }
    }
}

fn key_of(envelope: &Envelope) -> Option<String> {
    envelope.key().map(|key| key.into_owned())
}

impl Broker for FifoQueue {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "the fake queue",
            key_order: KeyOrder::AcrossInstances,
            group_leased: false,
            tells_assignment: false,
            replay: false,
            old_events_for_late_groups: false,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            synced: true,
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            self.append(batch.iter().cloned());
            let receipt = || Ok(Receipt { position: None });
            batch.iter().map(|_| receipt()).collect()
        })
    }

    fn subscribe<'a>(
        &'a self,
        _request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async move {
            let holder = {
                let mut state = self.lock();
                state.holders += 1;
                state.holders
            };
            let held = Arc::new(Held {
                queue: self.clone(),
                holder,
                ready: Mutex::default(),
            });
            Ok(Subscription {
                receive: Box::new(Receiving {
                    held: Arc::clone(&held),
                    changes: self.changes.subscribe(),
                }),
                settle: held,
                resumed: None,
            })
        })
    }

    fn reader(&self) -> Option<&dyn Reader> {
        None
    }

    fn admin(&self) -> Option<&dyn Admin> {
        None
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async { Ok(()) })
    }
}

/// What one subscription holds.
struct Held {
    queue: FifoQueue,
    holder: u64,
    /// Held and not handed out, or released and to be handed out again.
    ready: Mutex<BTreeSet<u64>>,
}

impl Drop for Held {
    /// As if its time had run out.
    fn drop(&mut self) {
        self.queue.lock().let_go(self.holder);
        self.queue.changes.send_replace(());
    }
}

struct Receiving {
    held: Arc<Held>,
    changes: watch::Receiver<()>,
}

impl Receive for Receiving {
    fn receive(&mut self, events_max: usize) -> BoxFuture<'_, Result<Received, BrokerError>> {
        Box::pin(async move {
            loop {
                self.changes.borrow_and_update();
                let deliveries = self.held.hand_out(events_max);
                if !deliveries.is_empty() {
                    let scope = Scope {
                        name: "all".into(),
                        generation: 1,
                    };
                    return Ok(Received::Deliveries { scope, deliveries });
                }
                // The queue outlives its subscriptions.
                let _changed = self.changes.changed().await;
            }
        })
    }

    fn is_caught_up(&self) -> bool {
        self.held.queue.is_empty()
    }

    fn behind(&self, _now: Timestamp) -> Option<Duration> {
        None
    }
}

impl Held {
    fn hand_out(&self, events_max: usize) -> Vec<Delivery> {
        let mut ready = self.ready.lock().unwrap();
        let mut state = self.queue.lock();
        ready.extend(state.receive(self.holder, events_max));
        let mut deliveries = Vec::new();
        while deliveries.len() < events_max
            && let Some(number) = ready.pop_first()
        {
            let message = state.messages.iter().find(|it| it.number == number);
            deliveries.extend(message.map(|message| Delivery {
                token: Token(number),
                position: None,
                append_time: None,
                envelope: message.envelope.clone(),
                problem: None,
                redelivered: false,
            }));
        }
        deliveries
    }
}

impl Settle for Held {
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let settled = |&(token, action): &(Token, SettleAction)| {
                let mut state = self.queue.lock();
                if !state.is_held(token.0, self.holder) {
                    return Err(SettleError::Unknown);
                }
                match action {
                    SettleAction::Ack => state.messages.retain(|it| it.number != token.0),
                    SettleAction::Release => {
                        self.ready.lock().unwrap().insert(token.0);
                    }
                    SettleAction::Extend(_) => {}
                }
                Ok(())
            };
            let answers = outcomes.iter().map(settled).collect();
            self.queue.changes.send_replace(());
            answers
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async { Ok(()) })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            self.queue.lock().let_go(self.holder);
            self.queue.changes.send_replace(());
            Ok(())
        })
    }
}

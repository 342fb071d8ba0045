//! What the tests of this crate own: brokers and stores in memory, a clock that is moved by hand, chance that repeats.

pub(crate) mod database;
pub(crate) mod failures;
pub(crate) mod queue;
mod seams;

pub(crate) use seams::{CountingChance, ManualClock};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, Delivery, GroupLag, GroupName, GroupStatus, KeyOrder,
    LowWatermark, Page, Position, PublishError, PublishOutcome, ReadRequest, Reader, Receipt,
    Receive, Received, Recorded, Resumed, Scope, Settle, SettleAction, SettleError, StartAt,
    SubscribeRequest, Subscription, Token,
};
use tidings_core::limits::PAYLOAD_BYTES_MAX;
use tidings_core::{
    BoxFuture, Envelope, EnvelopeParts, ErrorClass, Pattern, Payload, Timestamp, codes,
};
use tokio::sync::watch;

/// An event of a type about a key, with the number as its id and payload.
pub(crate) fn event(event_type: &str, key: Option<&str>, number: usize) -> Envelope {
    let mut parts = EnvelopeParts::new(format!("evt-{number}"), event_type);
    parts.aggregate_id = key.map(str::to_owned);
    parts.source = Some("test".to_owned());
    parts.timestamp = Some(Timestamp::from_micros(1_700_000_000_000_000).into());
    parts.payload = Payload::json(number.to_string()).ok();
    Envelope::new(parts).unwrap()
}

/// The extension by which the fake broker is told that an event stands for a message that is none.
const PROBLEM: &str = "fakeproblem";

/// A message that is no event.
pub(crate) fn garbage(event_type: &str, key: Option<&str>, number: usize) -> Envelope {
    let mut parts = event(event_type, key, number).into_parts();
    parts.extensions = vec![(PROBLEM.to_owned(), "\"not JSON\"".to_owned())];
    parts.payload = Some(Payload::binary(&b"\xff\x00"[..]));
    Envelope::new(parts).unwrap()
}

/// What a publish meets instead of success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The disk is full.
    Full,
    /// The outcome is unknown, and it was written.
    LostAnswer,
    /// The outcome is unknown, and it was not written.
    LostBatch,
    /// The event is refused for what it is.
    Refused,
    /// Neither written nor answered, ever.
    Hangs,
}

#[derive(Default)]
struct Group {
    /// Where it goes on after a crash.
    durable: u64,
    /// Everything below may have been handed out.
    handed_out_before: u64,
    owned: bool,
}

#[derive(Default)]
pub(crate) struct FakeState {
    pub(crate) log: Vec<Recorded>,
    groups: HashMap<String, Group>,
    faults: VecDeque<Fault>,
    fault_always: Option<Fault>,
    pub(crate) receive_errors: VecDeque<BrokerError>,
    /// Told by the receive half once everything on the log was handed out.
    pub(crate) lost: bool,
    pub(crate) settle_failures: usize,
    pub(crate) publishes: usize,
    pub(crate) flushes: usize,
    pub(crate) leaves: usize,
    pub(crate) released: Vec<u64>,
    /// Settled tokens of the present run, in the order in which they were told.
    pub(crate) acked: Vec<u64>,
}

impl FakeState {
    /// Where a group would go on after a crash.
    pub(crate) fn durable_of(&self, group: &str) -> u64 {
        self.groups.get(group).map_or(0, |group| group.durable)
    }
}

/// A broker in memory whose groups survive a crash of their consumer as those of the log do.
pub(crate) struct FakeBroker {
    state: Mutex<FakeState>,
    end: watch::Sender<u64>,
    pub(crate) key_order: KeyOrder,
    pub(crate) group_leased: bool,
    /// Yields inside of publish and settle, so that a consumer can be dropped in between.
    pub(crate) yields: bool,
    /// Makes the cursor durable with every settle; otherwise only with a flush.
    pub(crate) eager_cursor: bool,
}

impl FakeBroker {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            end: watch::Sender::new(0),
            key_order: KeyOrder::AcrossInstances,
            group_leased: true,
            yields: false,
            eager_cursor: true,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap()
    }

    /// The next publishes meet these faults, one each.
    pub(crate) fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Every publish meets this fault until it is taken away.
    pub(crate) fn fail_always(&self, fault: Option<Fault>) {
        self.lock().fault_always = fault;
    }

    pub(crate) fn append(&self, envelopes: impl IntoIterator<Item = Envelope>) {
        let mut state = self.lock();
        for envelope in envelopes {
            let position = Position(state.log.len() as u64);
            let append_time = Timestamp::from_micros(position.0 as i64);
            state.log.push(Recorded {
                position,
                append_time,
                envelope,
            });
        }
        let end = state.log.len() as u64;
        drop(state);
        self.end.send_replace(end);
    }

    /// Takes the one scope away from its consumer.
    pub(crate) fn lose_scope(&self) {
        self.lock().lost = true;
        self.end.send_modify(|_| {});
    }

    /// Everything of a type, in order.
    pub(crate) fn events_of(&self, event_type: &str) -> Vec<Envelope> {
        self.lock()
            .log
            .iter()
            .filter(|recorded| recorded.envelope.event_type().name() == event_type)
            .map(|recorded| recorded.envelope.clone())
            .collect()
    }

    /// Ids that stand on the log more than once.
    pub(crate) fn doubles(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let state = self.lock();
        let ids = state
            .log
            .iter()
            .map(|recorded| recorded.envelope.event_id());
        ids.filter(|id| !seen.insert(id.to_owned()))
            .map(str::to_owned)
            .collect()
    }

    async fn pause(&self) {
        if self.yields {
            tokio::task::yield_now().await;
        }
    }

    async fn publish_one(&self, envelope: &Envelope, fault: Option<Fault>) -> PublishOutcome {
        let refused = |class, code| {
            Err(PublishError::Refused {
                reason: "as the test wants it".to_owned(),
                class,
                code,
            })
        };
        let ambiguous = || {
            Err(PublishError::Ambiguous {
                reason: "as the test wants it".to_owned(),
            })
        };
        match fault {
            Some(Fault::Full) => refused(ErrorClass::Transient, codes::DISK_FULL),
            Some(Fault::Refused) => refused(ErrorClass::Permanent, codes::PUBLISH_REFUSED),
            Some(Fault::LostBatch) => ambiguous(),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::LostAnswer) => {
                self.append([envelope.clone()]);
                ambiguous()
            }
            None => {
                self.append([envelope.clone()]);
                let position = Some(Position(*self.end.borrow() - 1));
                Ok(Receipt { position })
            }
        }
    }
}

/// The broker as consumers see it: subscriptions share it.
pub(crate) struct SharedBroker(pub(crate) Arc<FakeBroker>);

impl Broker for SharedBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "the fake broker",
            key_order: self.0.key_order,
            group_leased: self.0.group_leased,
            tells_assignment: self.0.group_leased,
            replay: true,
            old_events_for_late_groups: true,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            synced: true,
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            let fault = {
                let mut state = self.0.lock();
                state.publishes += 1;
                state.faults.pop_front().or(state.fault_always)
            };
            let mut outcomes = Vec::new();
            for envelope in batch {
                self.0.pause().await;
                outcomes.push(self.0.publish_one(envelope, fault).await);
            }
            self.0.pause().await;
            outcomes
        })
    }

    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async move {
            let name = request.group.as_str();
            let mut state = self.0.lock();
            let end = state.log.len() as u64;
            let start = match request.start {
                StartAt::Earliest | StartAt::Time(_) => 0,
                StartAt::Latest => end,
                StartAt::Position(position) => position.0,
            };
            let group = state.groups.entry(name.to_owned()).or_insert(Group {
                durable: start,
                handed_out_before: start,
                owned: false,
            });
            if group.owned {
                return Err(BrokerError::GroupLeased {
                    group: name.to_owned(),
                    owner: "another test".to_owned(),
                });
            }
            group.owned = true;
            let from = group.durable;
            let resumed = Resumed {
                from: Position(from),
                handed_out_before: Position(group.handed_out_before.max(from)),
            };
            state.acked.clear();
            let shared = Arc::new(FakeSubscription {
                broker: Arc::clone(&self.0),
                group: name.to_owned(),
                watermark: Mutex::new(LowWatermark::new(from)),
                left: AtomicBool::new(false),
            });
            Ok(Subscription {
                receive: Box::new(FakeReceive {
                    shared: Arc::clone(&shared),
                    end: self.0.end.subscribe(),
                    patterns: request.patterns.clone(),
                    next: from,
                }),
                settle: shared,
                resumed: Some(resumed),
            })
        })
    }

    fn reader(&self) -> Option<&dyn Reader> {
        Some(&*self.0)
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(&*self.0)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async { Ok(()) })
    }
}

struct FakeSubscription {
    broker: Arc<FakeBroker>,
    group: String,
    watermark: Mutex<LowWatermark>,
    left: AtomicBool,
}

impl FakeSubscription {
    fn save(&self) {
        let position = self.watermark.lock().unwrap().position();
        if let Some(group) = self.broker.lock().groups.get_mut(&self.group) {
            group.durable = position;
        }
    }
}

impl Drop for FakeSubscription {
    fn drop(&mut self) {
        if self.left.load(Ordering::Acquire) {
            return;
        }
        if let Some(group) = self.broker.lock().groups.get_mut(&self.group) {
            group.owned = false;
        }
    }
}

struct FakeReceive {
    shared: Arc<FakeSubscription>,
    end: watch::Receiver<u64>,
    patterns: Vec<Pattern>,
    next: u64,
}

fn scope() -> Scope {
    Scope {
        name: "all".into(),
        generation: 1,
    }
}

impl Receive for FakeReceive {
    fn receive(&mut self, events_max: usize) -> BoxFuture<'_, Result<Received, BrokerError>> {
        Box::pin(async move {
            let next = self.next;
            let _end = self
                .end
                .wait_for(|end| *end > next || self.shared.broker.lock().lost)
                .await;
            let mut state = self.shared.broker.lock();
            if std::mem::take(&mut state.lost) {
                return Ok(Received::Lost(scope()));
            }
            if let Some(error) = state.receive_errors.pop_front() {
                return Err(error);
            }
            let mut watermark = self.shared.watermark.lock().unwrap();
            let mut deliveries = Vec::new();
            for recorded in state.log.iter().skip(self.next as usize) {
                if deliveries.len() >= events_max {
                    break;
                }
                let position = recorded.position.0;
                self.next = position + 1;
                let event_type = recorded.envelope.event_type();
                // Over-selects on purpose: the second pattern of a group is not looked at.
                let wanted = self
                    .patterns
                    .first()
                    .is_some_and(|pattern| pattern.matches(event_type) || self.patterns.len() > 1);
                if wanted {
                    watermark.hand_out(position);
                    deliveries.push(Delivery {
                        token: Token(position),
                        position: Some(recorded.position),
                        append_time: Some(recorded.append_time),
                        envelope: recorded.envelope.clone(),
                        problem: recorded.envelope.extension_text(PROBLEM).map(Into::into),
                        redelivered: false,
                    });
                } else {
                    watermark.scan_to(self.next);
                }
            }
            if let Some(group) = state.groups.get_mut(&self.shared.group) {
                group.handed_out_before = group.handed_out_before.max(self.next + 3);
            }
            Ok(Received::Deliveries {
                scope: scope(),
                deliveries,
            })
        })
    }

    fn is_caught_up(&self) -> bool {
        self.next >= *self.end.borrow()
    }

    fn behind(&self, _now: Timestamp) -> Option<Duration> {
        None
    }
}

impl Settle for FakeSubscription {
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            self.broker.pause().await;
            let mut answers = Vec::new();
            for (token, action) in outcomes {
                let mut state = self.broker.lock();
                if state.settle_failures > 0 {
                    state.settle_failures -= 1;
                    answers.push(Err(SettleError::Broker(BrokerError::DiskFull {
                        path: "fake".into(),
                    })));
                    continue;
                }
                match action {
                    SettleAction::Ack => {
                        state.acked.push(token.0);
                        drop(state);
                        let known = self.watermark.lock().unwrap().settle(token.0);
                        answers.push(known.then_some(()).ok_or(SettleError::Unknown));
                    }
                    _ => {
                        state.released.push(token.0);
                        answers.push(Ok(()));
                    }
                }
            }
            if self.broker.eager_cursor {
                self.save();
            }
            self.broker.pause().await;
            answers
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            self.save();
            self.broker.lock().flushes += 1;
            Ok(())
        })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            let mut state = self.broker.lock();
            state.leaves += 1;
            // Nothing is suspected of a group that left without gaps.
            let watermark = self.watermark.lock().unwrap();
            let position = watermark.position();
            let no_gaps = watermark.open_count() == 0;
            if let Some(group) = state.groups.get_mut(&self.group) {
                if no_gaps {
                    group.handed_out_before = position;
                }
                group.owned = false;
            }
            self.left.store(true, Ordering::Release);
            Ok(())
        })
    }
}

impl Reader for FakeBroker {
    fn read<'a>(&'a self, request: ReadRequest<'a>) -> BoxFuture<'a, Result<Page, BrokerError>> {
        Box::pin(async move {
            let state = self.lock();
            let mut page = Page {
                events: Vec::new(),
                next: request.from,
                at_end: true,
            };
            for recorded in state.log.iter().skip(request.from.0 as usize) {
                if page.events.len() >= request.events_max {
                    page.at_end = false;
                    break;
                }
                page.next = recorded.position.next();
                let event_type = recorded.envelope.event_type();
                if request.patterns.iter().any(|one| one.matches(event_type)) {
                    page.events.push(recorded.clone());
                }
            }
            Ok(page)
        })
    }

    fn earliest(&self) -> BoxFuture<'_, Result<Position, BrokerError>> {
        Box::pin(async { Ok(Position(0)) })
    }

    fn end(&self) -> BoxFuture<'_, Result<Position, BrokerError>> {
        Box::pin(async { Ok(Position(*self.end.borrow())) })
    }

    fn position_at(&self, _time: Timestamp) -> BoxFuture<'_, Result<Position, BrokerError>> {
        Box::pin(async { Ok(Position(0)) })
    }

    fn wait_beyond(&self, position: Position) -> BoxFuture<'_, Result<(), BrokerError>> {
        let mut end = self.end.subscribe();
        Box::pin(async move {
            let _end = end.wait_for(|end| *end > position.0).await;
            Ok(())
        })
    }
}

impl Admin for FakeBroker {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupStatus>, BrokerError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn lag<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<GroupLag, BrokerError>> {
        Box::pin(async move {
            let state = self.lock();
            let durable = state
                .groups
                .get(group.as_str())
                .map_or(0, |one| one.durable);
            Ok(GroupLag {
                events: state.log.len() as u64 - durable,
                ..GroupLag::default()
            })
        })
    }

    fn seek<'a>(
        &'a self,
        _group: &'a GroupName,
        _start: StartAt,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        Box::pin(async { Ok(Some(Position(0))) })
    }

    fn remove<'a>(&'a self, _group: &'a GroupName) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async { Ok(()) })
    }
}

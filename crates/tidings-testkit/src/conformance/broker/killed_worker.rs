//! A worker that is killed on the way of a failure, at each point where handler, store and broker know different things: E1.

use super::child::{Child, Part, tell};
use super::consumer::{keeping, start};
use super::fixture::Sharing;
use super::ground::{END_MAX, Ground, event, number_of, publish};
use super::groups::lag_of;
use super::parking::KEY;
use super::report::Verdict;
use super::stores::Store;
use super::witness::{Act, Witness};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidings_core::broker::{GroupName, KeyOrder};
use tidings_core::extract::{HandlerContext, HandlerError};
use tidings_core::store::{
    Due, FailureChange, FailureState, FailureStore, LaneId, LetterStatus, ParkedDelivery,
    StoreError,
};
use tidings_core::{BoxFuture, DedupeKey, Envelope};
use tokio::task::JoinSet;

/// The group of the workers.
const GROUP: &str = "e1";
/// Keys whose every second event fails for a while.
pub(super) const KEYS: [&str; 3] = ["a", "b", "c"];
pub(super) const EVENTS_OF_KEY: usize = 4;
/// So many attempts at an event that recovers fail.
const FAILURES: u32 = 3;
/// Waits before later attempts: more of them than attempts that fail and attempts with which a process ends.
const LATER: [Duration; 10] = [Duration::from_millis(20); 10];

/// Where a worker stands still, to be killed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// The handler has begun.
    Handling,
    /// The store is about to be told.
    BeforeKeeping,
    /// The store knows it, and the broker does not.
    AfterKeeping,
}

impl Point {
    const ALL: [Self; 3] = [Self::Handling, Self::BeforeKeeping, Self::AfterKeeping];

    fn name(self) -> &'static str {
        match self {
            Self::Handling => "handling",
            Self::BeforeKeeping => "before_keeping",
            Self::AfterKeeping => "after_keeping",
        }
    }
}

/// Stands still when a point is come to for the time that was asked for.
struct Halt {
    /// Nothing for a worker that is to come to the end.
    at: Option<(Point, usize)>,
    come: AtomicUsize,
}

impl Halt {
    async fn at(&self, point: Point) {
        let Some((wanted, time)) = self.at else {
            return;
        };
        if wanted == point && self.come.fetch_add(1, Ordering::AcqRel) + 1 == time {
            tell("halted");
            std::future::pending::<()>().await;
        }
    }
}

/// E1: whether it is killed in a handler, before it has told the store of a failure or afterwards: nothing is lost, no attempt is counted twice or forgotten,
/// and the order of each key is kept.
pub(super) async fn at_each_point(ground: Arc<Ground>) -> Verdict {
    if let Some(why) = ground.traits.in_process {
        return Verdict::Declared(why.to_owned());
    }
    let mut walks = JoinSet::new();
    for point in Point::ALL {
        let here = ground.elsewhere("e1").await;
        walks.spawn(async move {
            let verdict = walk(&here, point).await;
            here.fixture.remove(&here.address).await;
            verdict
        });
    }
    let mut verdict = Verdict::Pass;
    while let Some(walked) = walks.join_next().await {
        match walked {
            Ok(Verdict::Pass) => {}
            Ok(declared) => verdict = declared,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    verdict
}

/// Kills one worker after the other at a point, each a little later, and lets the last one come to the end.
async fn walk(ground: &Ground, point: Point) -> Verdict {
    let store = match Store::fresh(ground, "e1", Sharing::OneInstance).await {
        Ok(store) => store,
        Err(declared) => return declared,
    };
    let is_ordered = publish_for(ground, GROUP).await;
    let mut book = Book::new(point, is_ordered);
    for kill in 0..ground.count(3, 2) {
        let detail = format!("{} {} {}", store.address, point.name(), 2 * kill + 1);
        let mut worker = Child::start_with(ground, Part::Fail, &detail);
        while !book.is_complete() {
            let line = worker
                .tells()
                .await
                .expect("the worker lives until it is killed");
            if line == "halted" {
                break;
            }
            book.note(&line);
        }
        worker.kill();
        while let Some(line) = worker.tells().await {
            book.note(&line);
        }
        book.worker += 1;
    }
    let detail = format!("{} none 0", store.address);
    let mut worker = Child::start_with(ground, Part::Fail, &detail);
    while !book.is_complete() {
        let line = worker.tells().await;
        book.note(&line.expect("the last worker lives"));
    }
    let settled = until_settled(ground);
    tokio::pin!(settled);
    loop {
        tokio::select! {
            () = &mut settled => break,
            line = worker.tells() => book.note(&line.expect("the last worker lives")),
        }
    }
    assert_at_the_end(&store, &ground.group(GROUP), point).await;
    worker.kill();
    while let Some(line) = worker.tells().await {
        book.note(&line);
    }
    Verdict::Pass
}

/// Makes a group and publishes to it; answers whether its broker keeps the order of a key. Whoever works for the group is the only one there afterwards.
pub(super) async fn publish_for(ground: &Ground, group: &str) -> bool {
    let before = ground.connect().await;
    ground.prepare(&*before, group).await;
    publish(&*before, &published()).await;
    let is_ordered = before.capabilities().key_order != KeyOrder::None;
    before.close().await.expect("closing works");
    is_ordered
}

/// Waits until the broker has nothing left for the group: what killed workers could not settle has come again by then.
async fn until_settled(ground: &Ground) {
    if ground.traits.is_embedded {
        // The worker is the broker; it has nothing in flight that it does not know of.
        return;
    }
    let broker = ground.connect().await;
    let Some(admin) = broker.admin() else {
        return;
    };
    let group = ground.group(GROUP);
    let began = ground.elapsed();
    loop {
        // Without an answer there is nothing to wait for.
        let left = lag_of(admin, &group).await.unwrap_or(0);
        if left == 0 {
            return;
        }
        assert!(
            ground.elapsed() - began < ground.traits.takeover_max + END_MAX,
            "{left} events of {group} are not settled"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One event is given up and holds its key; nothing else is left in the store.
async fn assert_at_the_end(store: &Store, group: &GroupName, point: Point) {
    let letter = store.until_letter(group, "open", |_| true).await;
    assert_eq!(letter.envelope, event(KEY, 0), "killed at {point:?}");
    assert_eq!(letter.status, LetterStatus::Open);
    assert_eq!(letter.deaths, 1, "it died once, killed at {point:?}");
    store.until_parked(group, KEY, 2).await;
    for key in KEYS {
        store.until_parked(group, key, 0).await;
    }
}

/// What is handled after all, in turn over the keys, and a key whose first event is given up.
fn published() -> Vec<Envelope> {
    let mut events = vec![event(KEY, 0), event(KEY, 1)];
    events.extend(
        (0..EVENTS_OF_KEY).flat_map(|number| KEYS.iter().map(move |key| event(key, number))),
    );
    events
}

/// What workers told, and what must be true of it at each line.
struct Book {
    point: Point,
    is_ordered: bool,
    /// Which worker tells.
    worker: usize,
    /// The newest attempt at each event.
    attempts: BTreeMap<String, u32>,
    /// Events that were handled with success, each with the worker that did it first.
    done: BTreeMap<String, usize>,
}

impl Book {
    fn new(point: Point, is_ordered: bool) -> Self {
        Self {
            point,
            is_ordered,
            worker: 0,
            attempts: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    fn is_complete(&self) -> bool {
        let mut wanted = published().into_iter().skip(2);
        wanted.all(|it| self.done.contains_key(it.event_id()))
    }

    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begun", key, number, attempt] => {
                let event = event(key, number.parse().unwrap());
                self.begun(&event, attempt.parse().unwrap());
            }
            ["done", key, number] => {
                let event = event(key, number.parse().unwrap());
                let id = event.event_id().to_owned();
                self.done.entry(id).or_insert(self.worker);
            }
            _ => panic!("a worker told {line:?}"),
        }
    }

    fn begun(&mut self, event: &Envelope, attempt: u32) {
        let Self { point, worker, .. } = *self;
        let id = event.event_id();
        if let Some(done_by) = self.done.get(id) {
            assert!(
                *done_by < worker,
                "{id} was handled again by the worker that had handled it; killed at {point:?}"
            );
            return;
        }
        let newest = self.attempts.entry(id.to_owned()).or_default();
        assert!(
            attempt >= *newest,
            "attempt {attempt} at {id} follows {newest}; killed at {point:?}"
        );
        *newest = attempt;
        let key = event.key().unwrap_or_default().into_owned();
        if !self.is_ordered {
            return;
        }
        let before = (0..number_of(event)).map(|number| super::ground::event(&key, number));
        for earlier in before {
            assert!(
                self.done.contains_key(earlier.event_id()),
                "{id} was begun before {} had succeeded; killed at {point:?}",
                earlier.event_id()
            );
        }
    }
}

/// What a worker does in its process.
pub(super) async fn work(ground: &Ground, detail: &str) {
    let words: Vec<&str> = detail.split(' ').collect();
    let [address, point, time] = words[..] else {
        panic!("store, point and time, not {detail:?}");
    };
    let point = Point::ALL.into_iter().find(|it| it.name() == point);
    let halt = Arc::new(Halt {
        at: point.map(|point| (point, time.parse().unwrap())),
        come: AtomicUsize::new(0),
    });
    let mut store = Store::open(ground, address).await;
    store.stores.failures = Arc::new(Halting {
        inner: Arc::clone(&store.stores.failures),
        halt: Arc::clone(&halt),
    });
    let broker = ground.connect().await;
    let witness = Witness::new();
    let _consumer = start(ground, || {
        let halt = Arc::clone(&halt);
        let act: Act = Arc::new(move |context| Box::pin(handle(context, Arc::clone(&halt))));
        keeping(ground, (&broker, &store), GROUP, &LATER, (&witness, act))
    })
    .await;
    std::future::pending::<()>().await;
}

/// Tells how it begins and that it succeeds.
async fn handle(context: HandlerContext, halt: Arc<Halt>) -> Result<(), HandlerError> {
    let key = context.envelope.key().unwrap_or_default();
    let number = number_of(&context.envelope);
    tell(&format!("begun {key} {number} {}", context.attempt));
    halt.at(Point::Handling).await;
    if key == KEY {
        return Err(HandlerError::permanent_message("never"));
    }
    if number.is_multiple_of(2) && context.attempt <= FAILURES {
        return Err(HandlerError::transient_message("not yet"));
    }
    tell(&format!("done {key} {number}"));
    Ok(())
}

/// A store that stands still before or after a change.
struct Halting {
    inner: Arc<dyn FailureStore>,
    halt: Arc<Halt>,
}

impl FailureStore for Halting {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn state<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<FailureState, StoreError>> {
        self.inner.state(group)
    }

    fn apply<'a>(
        &'a self,
        group: &'a str,
        changes: &'a [FailureChange],
    ) -> BoxFuture<'a, Result<Vec<usize>, StoreError>> {
        Box::pin(async move {
            self.halt.at(Point::BeforeKeeping).await;
            let nothing = self.inner.apply(group, changes).await?;
            self.halt.at(Point::AfterKeeping).await;
            Ok(nothing)
        })
    }

    fn due<'a>(&'a self, group: &'a str, limit: u32) -> BoxFuture<'a, Result<Due, StoreError>> {
        self.inner.due(group, limit)
    }

    fn rows<'a>(
        &'a self,
        group: &'a str,
        lane: LaneId,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<ParkedDelivery>, StoreError>> {
        self.inner.rows(group, lane, limit)
    }

    fn lead<'a>(
        &'a self,
        group: &'a str,
        owner: &'a str,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        self.inner.lead(group, owner, lease)
    }

    fn deaths<'a>(
        &'a self,
        group: &'a str,
        events: &'a [DedupeKey],
    ) -> BoxFuture<'a, Result<Vec<u32>, StoreError>> {
        self.inner.deaths(group, events)
    }
}

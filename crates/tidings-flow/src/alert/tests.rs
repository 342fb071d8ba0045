//! The watcher with a store and channels in memory, on a clock that is moved by hand.

use super::channel::{Channel, Handover, Outgoing};
use super::fact::DeathSeen;
use super::look::{Seen, Sight};
use super::message::{Alert, Sample};
use super::options::AlertOptions;
use super::running::RunningWatch;
use super::watch::Watch;
use crate::fakes::{CountingChance, ManualClock, event};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_core::limits::{ALERT_RETRY_FIRST, ALERT_RETRY_MAX};
use tidings_core::store::{AlertStore, Backlog, Kept, KeptChange, KeptKind, StoreError};
use tidings_core::{BoxFuture, DedupeKey};

const WATCHER: &str = "tidings-alert";

/// What a store kept, in the order of names, and how often it fails before it works.
#[derive(Default)]
struct FakeStore {
    rows: Mutex<BTreeMap<(KeptKind, String), String>>,
    failures: Mutex<u32>,
}

impl FakeStore {
    fn count(&self, kind: KeptKind) -> usize {
        let rows = self.rows.lock().unwrap();
        rows.keys().filter(|(of, _)| *of == kind).count()
    }
}

impl AlertStore for FakeStore {
    fn name(&self) -> &str {
        "memory"
    }

    fn kept<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Kept>, StoreError>> {
        Box::pin(async move {
            let rows = self.rows.lock().unwrap();
            let kept = rows.iter().map(|((kind, name), body)| Kept {
                kind: *kind,
                name: name.clone(),
                body: body.clone(),
            });
            Ok(kept.collect())
        })
    }

    fn keep<'a>(
        &'a self,
        _: &'a str,
        changes: &'a [KeptChange],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(StoreError::Unavailable {
                    database: "memory".to_owned(),
                    reason: "down".to_owned(),
                });
            }
            let mut rows = self.rows.lock().unwrap();
            for change in changes {
                match change {
                    KeptChange::Put(kept) => {
                        rows.insert((kept.kind, kept.name.clone()), kept.body.clone());
                    }
                    KeptChange::Forget { kind, name } => {
                        rows.remove(&(*kind, name.clone()));
                    }
                }
            }
            Ok(())
        })
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        Box::pin(async { Ok(Backlog::default()) })
    }
}

/// A channel that answers what it was told to, and then accepts.
struct FakeChannel {
    name: &'static str,
    answers: Mutex<VecDeque<Option<Handover>>>,
    got: Mutex<Vec<Outgoing>>,
}

impl FakeChannel {
    /// `None` is an answer that never comes.
    fn new(name: &'static str, answers: impl IntoIterator<Item = Option<Handover>>) -> Arc<Self> {
        Arc::new(Self {
            name,
            answers: Mutex::new(answers.into_iter().collect()),
            got: Mutex::default(),
        })
    }

    fn ids(&self) -> Vec<String> {
        let got = self.got.lock().unwrap();
        got.iter().map(|message| message.id.clone()).collect()
    }

    fn alerts(&self) -> Vec<Alert> {
        let got = self.got.lock().unwrap();
        got.iter()
            .map(|message| {
                let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
                serde_json::from_value(body["data"].clone()).unwrap()
            })
            .collect()
    }
}

impl Channel for FakeChannel {
    fn name(&self) -> &str {
        self.name
    }

    fn identity(&self) -> String {
        self.name.to_owned()
    }

    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Handover> {
        self.got.lock().unwrap().push(message.clone());
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move {
            match answer {
                None => Handover::Accepted {
                    answer: "yes".to_owned(),
                },
                Some(Some(answer)) => answer,
                Some(None) => std::future::pending().await,
            }
        })
    }
}

/// Sees nothing wrong.
struct Blind;

impl Sight for Blind {
    fn look(&self) -> BoxFuture<'_, Seen> {
        Box::pin(async { Seen::default() })
    }
}

fn failed(retry_after: Option<Duration>) -> Option<Handover> {
    Some(Handover::Failed {
        reason: "not now".to_owned(),
        retry_after,
    })
}

fn death(number: usize, cluster: &str) -> DeathSeen {
    DeathSeen {
        fact: DedupeKey::of(&event("order.placed", None, number)),
        at: None,
        group: "payment".to_owned(),
        cluster: cluster.to_owned(),
        sample: Sample {
            event_id: format!("evt-{number}"),
            event_type: "order.placed".to_owned(),
            aggregate_id: None,
            reason: "no".to_owned(),
            attempts: 1,
        },
    }
}

struct Stand {
    clock: Arc<ManualClock>,
    store: Arc<FakeStore>,
}

impl Stand {
    fn new() -> Self {
        Self {
            clock: ManualClock::new(),
            store: Arc::default(),
        }
    }

    async fn start(&self, channels: &[&Arc<FakeChannel>]) -> RunningWatch {
        let clock: Arc<ManualClock> = Arc::clone(&self.clock);
        let store: Arc<FakeStore> = Arc::clone(&self.store);
        let chance = Arc::<CountingChance>::default();
        let options = AlertOptions::new(WATCHER);
        let mut watch = Watch::new(store, Arc::new(Blind), clock, chance, options);
        for channel in channels {
            watch = watch.channel(Arc::clone(channel) as Arc<dyn Channel>);
        }
        watch.start().await.unwrap()
    }

    /// Moves the clock on until something is so.
    async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let work = async {
            while !is_so() {
                self.clock.advance(Duration::from_millis(100));
                tokio::task::yield_now().await;
            }
        };
        within(what, work).await;
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    let Ok(done) = tokio::time::timeout(Duration::from_secs(60), work).await else {
        panic!("not in time: {what}");
    };
    done
}

#[tokio::test]
async fn a_fact_is_settled_once_it_is_kept_and_every_channel_is_told() {
    let stand = Stand::new();
    let (one, other) = (FakeChannel::new("one", []), FakeChannel::new("other", []));
    let watch = stand.start(&[&one, &other]).await;

    let counted = watch.handler.count(death(1, "dlq-1"));
    within("counting", counted).await.unwrap();

    assert_eq!(stand.store.count(KeptKind::Fact), 1);
    assert_eq!(stand.store.count(KeptKind::Alert), 1);
    stand
        .until("both are told", || one.ids().len() + other.ids().len() == 2)
        .await;
    assert_eq!(one.ids(), other.ids(), "one message, one id");
    stand
        .until("nothing waits", || {
            stand.store.count(KeptKind::Message) == 0
        })
        .await;
    assert_eq!(one.alerts()[0].cluster.as_deref(), Some("dlq-1"));
    assert_eq!(watch.stats().firing, 1);
}

#[tokio::test]
async fn a_watcher_that_was_killed_sends_the_same_message_again_and_counts_no_fact_twice() {
    let stand = Stand::new();
    let channel = FakeChannel::new("one", [None]);
    let watch = stand.start(&[&channel]).await;
    let counted = watch.handler.count(death(1, "dlq-1"));
    within("counting", counted).await.unwrap();
    stand
        .until("it is on its way", || channel.ids().len() == 1)
        .await;

    drop(watch);
    let watch = stand.start(&[&channel]).await;
    let counted = watch.handler.count(death(1, "dlq-1"));
    within("counting again", counted).await.unwrap();
    stand
        .until("it is accepted", || {
            stand.store.count(KeptKind::Message) == 0
        })
        .await;

    let ids = channel.ids();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
    assert_eq!(watch.stats().dead_letters, 0, "it was counted before");
    drop(watch);
    let watch = stand.start(&[&channel]).await;
    within("settled", settled(&stand, &watch)).await;
    assert_eq!(channel.ids().len(), 2, "nothing is left to send");
}

/// Waits for the watcher while the clock goes on.
async fn settled(stand: &Stand, watch: &RunningWatch) {
    tokio::select! {
        () = watch.settled() => {}
        () = async {
            loop {
                stand.clock.advance(Duration::from_millis(100));
                tokio::task::yield_now().await;
            }
        } => {}
    }
}

#[tokio::test]
async fn a_store_that_is_down_delays_counting_and_loses_nothing() {
    let stand = Stand::new();
    let channel = FakeChannel::new("one", []);
    let watch = stand.start(&[&channel]).await;
    *stand.store.failures.lock().unwrap() = 3;

    let counted = watch.handler.count(death(1, "dlq-1"));
    let mut counted = std::pin::pin!(counted);
    let mut troubles = Vec::new();
    let work = async {
        loop {
            troubles.extend(watch.stats().trouble);
            tokio::select! {
                biased;
                done = &mut counted => return done,
                () = tokio::task::yield_now() => stand.clock.advance(Duration::from_millis(100)),
            }
        }
    };
    within("counting", work).await.unwrap();

    stand.until("it is told", || channel.ids().len() == 1).await;
    assert!(
        troubles.iter().any(|trouble| trouble.contains("down")),
        "{troubles:?}"
    );
}

#[tokio::test]
async fn what_is_not_accepted_is_sent_again_later_and_as_late_as_the_channel_asks() {
    let stand = Stand::new();
    let asked = Duration::from_secs(1_000);
    let channel = FakeChannel::new("one", [failed(None), failed(Some(asked)), failed(None)]);
    let watch = stand.start(&[&channel]).await;
    let counted = watch.handler.count(death(1, "dlq-1"));
    within("counting", counted).await.unwrap();

    let mut sent = Vec::new();
    for attempts in 1..=4 {
        stand
            .until("an attempt", || channel.ids().len() == attempts)
            .await;
        sent.push(tidings_core::seam::Clock::elapsed(&*stand.clock));
    }

    assert!(sent[1] - sent[0] >= ALERT_RETRY_FIRST / 2, "{sent:?}");
    assert!(sent[2] - sent[1] >= asked, "{sent:?}");
    assert!(sent[3] - sent[2] < ALERT_RETRY_MAX, "{sent:?}");
    let ids = channel.ids();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    stand
        .until("its figures", || {
            watch.stats().channels["one"].accepted == 1
        })
        .await;
    assert_eq!(watch.stats().channels["one"].failed, 3);
}

#[tokio::test]
async fn a_channel_that_closed_gets_nothing_until_it_is_opened_again() {
    let stand = Stand::new();
    let gone = Some(Handover::Closed {
        reason: "gone".to_owned(),
    });
    let (closing, other) = (
        FakeChannel::new("closing", [gone]),
        FakeChannel::new("other", []),
    );
    let watch = stand.start(&[&closing, &other]).await;
    for (number, cluster) in ["dlq-1", "dlq-2"].into_iter().enumerate() {
        let counted = watch.handler.count(death(number, cluster));
        within("counting", counted).await.unwrap();
        stand
            .until("the other is told", || other.ids().len() == number + 1)
            .await;
        stand
            .until("it has closed", || watch.stats().channels["closing"].closed)
            .await;
    }
    assert_eq!(closing.ids().len(), 1);

    drop(watch);
    let watch = stand.start(&[&closing, &other]).await;
    let counted = watch.handler.count(death(3, "dlq-3"));
    within("counting", counted).await.unwrap();
    stand
        .until("the other is told", || other.ids().len() == 3)
        .await;
    assert_eq!(closing.ids().len(), 1, "it stays closed");
    drop(watch);

    Watch::reopen(&*stand.store, WATCHER, &*closing)
        .await
        .unwrap();
    let watch = stand.start(&[&closing, &other]).await;
    let counted = watch.handler.count(death(4, "dlq-4"));
    within("counting", counted).await.unwrap();
    stand
        .until("it is told again", || closing.ids().len() == 2)
        .await;
}

#[tokio::test]
async fn stopping_waits_for_the_answer_that_is_on_its_way() {
    let stand = Stand::new();
    let channel = FakeChannel::new("one", []);
    let watch = stand.start(&[&channel]).await;
    let counted = watch.handler.count(death(1, "dlq-1"));
    within("counting", counted).await.unwrap();
    stand
        .until("it is on its way", || channel.ids().len() == 1)
        .await;

    within("stopping", watch.stop(Duration::from_secs(5))).await;

    assert_eq!(stand.store.count(KeptKind::Message), 0);
}

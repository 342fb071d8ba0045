//! The suite of brokers finds bugs of stores, too: each is planted before a store in SQLite, and the property that must see it fails.

use crate::sql_stores::{self, Files};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{Broker, BrokerError};
use tidings_core::store::{
    Due, DueEvents, FailureChange, FailureState, FailureStore, Firing, LaneId, ParkedDelivery,
    ScheduleStore, ScheduledEvent, StoreError,
};
use tidings_core::{BoxFuture, DedupeKey, Timestamp};
use tidings_flow::runtime::SystemClock;
use tidings_testkit::MemoryBroker;
use tidings_testkit::conformance::broker::{
    Ending, Fixture, Sharing, Stores, Traits, Unavailable, run_some,
};
use tidings_testkit::conformance::store::stories::{Open, Opened, failure_stories};

/// What is wrong with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// What is put off is due at once.
    Hastens,
    /// Of what is parked behind another it keeps nothing.
    DropsBehind,
    /// A dead letter lets its key go on.
    LetsGo,
    /// A row that was handled stays, and is handled again.
    KeepsHandled,
    /// The attempts at what is parked are counted from nothing, as a broker counts that delivers it anew.
    CountsAnew,
    /// What was parked last of a key comes first.
    Overtakes,
    /// What died before is told as if it had not.
    ForgetsDeaths,
    /// Events fire before they are due.
    FiresEarly,
    /// Says that an event is cancelled, and fires it.
    CancelsNothing,
    /// An event that has fired is scheduled again.
    FiresTwice,
}

/// A store of failures with a bug.
struct BuggyFailures {
    inner: Arc<dyn FailureStore>,
    bug: Bug,
}

impl BuggyFailures {
    fn changed(&self, change: &FailureChange) -> Option<FailureChange> {
        let mut change = change.clone();
        match (self.bug, &mut change) {
            (
                Bug::Hastens,
                FailureChange::Park {
                    due_in: Some(due_in),
                    ..
                }
                | FailureChange::Postpone { due_in, .. },
            ) => *due_in = Duration::ZERO,
            (Bug::DropsBehind, FailureChange::Park { due_in: None, .. })
            | (Bug::KeepsHandled, FailureChange::Finish { .. }) => return None,
            (Bug::LetsGo, FailureChange::Bury(record)) => record.holds = false,
            _ => {}
        }
        Some(change)
    }
}

impl FailureStore for BuggyFailures {
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
            let changed = changes.iter().filter_map(|change| self.changed(change));
            let changed: Vec<FailureChange> = changed.collect();
            self.inner.apply(group, &changed).await
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
        Box::pin(async move {
            let mut rows = self.inner.rows(group, lane, limit).await?;
            match self.bug {
                Bug::CountsAnew => rows.iter_mut().for_each(|row| row.attempts = 0),
                Bug::ForgetsDeaths => rows.iter_mut().for_each(|row| row.deaths = 0),
                Bug::Overtakes => rows.reverse(),
                _ => {}
            }
            Ok(rows)
        })
    }

    fn deaths<'a>(
        &'a self,
        group: &'a str,
        events: &'a [DedupeKey],
    ) -> BoxFuture<'a, Result<Vec<u32>, StoreError>> {
        if self.bug == Bug::ForgetsDeaths {
            return Box::pin(async { Ok(vec![0; events.len()]) });
        }
        self.inner.deaths(group, events)
    }
}

/// A store of scheduled events with a bug.
struct BuggySchedules {
    inner: Arc<dyn ScheduleStore>,
    bug: Bug,
}

impl ScheduleStore for BuggySchedules {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn add<'a>(&'a self, scheduled: &'a ScheduledEvent) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.inner.add(scheduled)
    }

    fn cancel<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        if self.bug == Bug::CancelsNothing {
            return Box::pin(async { Ok(true) });
        }
        self.inner.cancel(id)
    }

    fn reschedule<'a>(
        &'a self,
        id: &'a str,
        due: Timestamp,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.inner.reschedule(id, due)
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<ScheduledEvent>, StoreError>> {
        self.inner.list(after, limit)
    }

    fn due(&self, limit: u32) -> BoxFuture<'_, Result<DueEvents, StoreError>> {
        Box::pin(async move {
            let mut due = self.inner.due(limit).await?;
            if self.bug == Bug::FiresEarly && limit > 0 {
                due.events = self.inner.list(None, limit).await?;
            }
            Ok(due)
        })
    }

    fn fire<'a>(&'a self, firing: &'a Firing<'a>) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let fired = self.inner.fire(firing).await?;
            if fired && self.bug == Bug::FiresTwice {
                let mut again = firing.scheduled.clone();
                again.id.push_str("-again");
                if !firing.scheduled.id.ends_with("-again") {
                    let mut parts = again.event.parts();
                    parts.event_id.push_str("-again");
                    again.event = tidings_core::Envelope::trusted(parts);
                    self.inner.add(&again).await?;
                }
            }
            Ok(fired)
        })
    }
}

/// A broker in memory, and a store with a bug.
struct Planted {
    bug: Bug,
    events: MemoryBroker,
    files: Files,
}

impl Fixture for Planted {
    fn name(&self) -> &'static str {
        "planted"
    }

    fn version(&self) -> BoxFuture<'_, String> {
        Box::pin(async move { format!("{:?}", self.bug) })
    }

    fn traits(&self) -> Traits {
        Traits {
            one_instance: Some("as in memory"),
            in_process: Some("as in memory"),
            idle_max: Duration::from_secs(1),
            ..Traits::default()
        }
    }

    fn test(&self) -> &'static str {
        "planted_stores::the_suite_finds_planted_bugs_of_stores"
    }

    fn fresh<'a>(&'a self, property: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move { property.to_owned() })
    }

    fn connect<'a>(
        &'a self,
        _address: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Broker>, BrokerError>> {
        Box::pin(async move { Ok(Arc::new(self.events.another()) as Arc<dyn Broker>) })
    }

    fn fresh_stores<'a>(
        &'a self,
        property: &'a str,
        _sharing: Sharing,
    ) -> BoxFuture<'a, Result<String, Unavailable>> {
        Box::pin(async move { Ok(self.files.fresh(property).await) })
    }

    fn open_stores<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Stores> {
        Box::pin(async move {
            let mut stores = sql_stores::open(address).await;
            let bug = self.bug;
            stores.failures = Arc::new(BuggyFailures {
                inner: Arc::clone(&stores.failures),
                bug,
            });
            stores.schedules = Arc::new(BuggySchedules {
                inner: Arc::clone(&stores.schedules),
                bug,
            });
            stores
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_finds_planted_bugs_of_stores() {
    for (bug, property) in [
        (Bug::Hastens, "E2"),
        (Bug::DropsBehind, "E2"),
        (Bug::DropsBehind, "E10"),
        (Bug::LetsGo, "E3"),
        (Bug::LetsGo, "E5"),
        (Bug::LetsGo, "E9"),
        (Bug::KeepsHandled, "E6"),
        (Bug::CountsAnew, "E2"),
        (Bug::Overtakes, "E2"),
        (Bug::Overtakes, "E5"),
        (Bug::Overtakes, "E10"),
        (Bug::ForgetsDeaths, "E7"),
        (Bug::FiresEarly, "G1"),
        (Bug::CancelsNothing, "G2"),
        (Bug::FiresTwice, "G3"),
    ] {
        let planted = Planted {
            bug,
            events: MemoryBroker::new(Arc::new(SystemClock::new())),
            files: Files::default(),
        };
        let report = run_some(Arc::new(planted), &[property]).await;

        let ending = report.results[0].result;
        assert_eq!(ending, Ending::Fail, "{property} does not see {bug:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stories_find_planted_bugs_of_stores() {
    let cases: [(Bug, &[&str]); 4] = [
        (Bug::DropsBehind, &["events are lost"]),
        (Bug::LetsGo, &["beside what was published"]),
        // What came last of a key is not due, and nothing before it is seen; what a person discarded meanwhile may be handled after all.
        (
            Bug::Overtakes,
            &[
                "events are lost",
                "beside what was published",
                "the letter of",
            ],
        ),
        (Bug::CountsAnew, &["was at attempt"]),
    ];
    for (bug, words) in cases {
        let files = Files::default();
        let url = files.fresh("stories").await;
        let open: Open = Arc::new(move || {
            let url = url.clone();
            Box::pin(async move {
                let stores = sql_stores::open(&url).await;
                Opened {
                    failures: Arc::new(BuggyFailures {
                        inner: stores.failures,
                        bug,
                    }),
                    letters: stores.letters,
                }
            })
        });

        let mut telling = tokio::task::JoinSet::new();
        telling.spawn(failure_stories(open, 0..8));
        let told = telling.join_next().await.unwrap();

        let failure = told.expect_err("no story sees it").into_panic();
        let said = failure.downcast_ref::<String>().map_or("", String::as_str);
        let is_found = words.iter().any(|words| said.contains(words));
        assert!(is_found, "{bug:?} was found by: {said}");
    }
}

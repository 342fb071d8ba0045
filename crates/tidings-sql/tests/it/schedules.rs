//! Scheduled events on each database, fired by real schedulers.

use crate::place::{KINDS, Place};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::seam::Clock;
use tidings_core::store::{
    Firing, OutboxStore, Recurrence, ScheduleStore, ScheduledEvent, Shard, UnsentQuery,
};
use tidings_core::{Envelope, Timestamp};
use tidings_flow::runtime::{SystemChance, SystemClock};
use tidings_flow::schedule::{SCHEDULED_TIME, Scheduler};
use tidings_sql::schema::{self, Part};
use tidings_sql::{Kind, OutboxOptions, Pool, Schedules, SqlOutbox};

async fn fresh(kind: Kind, test: &str) -> Option<(Place, Schedules)> {
    let place = Place::fresh(kind, test).await?;
    schema::migrate(&place.database, &Part::ALL).await.unwrap();
    let schedules = Schedules::open(&place.database).await.unwrap();
    Some((place, schedules))
}

pub(crate) fn scheduled(id: &str, due: Timestamp, cron: Option<&str>) -> ScheduledEvent {
    let line = format!(
        r#"{{"event_id":"evt-{id}","event_type":"payment.fell_due","aggregate_id":"{id}","correlation_id":"flow-{id}","payload":{{"n": 1.50}}}}"#
    );
    ScheduledEvent {
        id: id.to_owned(),
        due,
        recurrence: cron.map(|cron| Recurrence {
            cron: cron.to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
        }),
        event: Envelope::from_json(line).unwrap(),
        fired: 0,
        fired_last: None,
    }
}

async fn published(place: &Place) -> Vec<Envelope> {
    let clock = Arc::new(SystemClock::new());
    let outbox = SqlOutbox::open(
        place.database.clone(),
        OutboxOptions::default(),
        clock,
        &SystemChance,
    );
    let query = UnsentQuery {
        shard: Shard::WHOLE,
        floor: None,
        blocked_keys: Vec::new(),
        excluded_rows: Vec::new(),
        excluded_destinations: Vec::new(),
        hold_behind_dead: false,
        limit: 1_000,
    };
    let rows = outbox.await.unwrap().unsent(&query).await.unwrap().rows;
    rows.into_iter().map(|row| row.content.unwrap()).collect()
}

#[tokio::test]
async fn an_event_fires_once_however_many_schedulers_look_and_never_early() {
    for kind in KINDS {
        let Some((place, schedules)) = fresh(kind, "schedule_once").await else {
            continue;
        };
        let now = schedules.due(1).await.unwrap().now;
        let due = now.plus(Duration::from_millis(1_500));
        for index in 0..20 {
            let event = scheduled(&format!("s-{index:02}"), due, None);
            assert!(schedules.add(&event).await.unwrap(), "{kind:?}");
        }
        assert!(
            !schedules.add(&scheduled("s-00", now, None)).await.unwrap(),
            "{kind:?}: a second one of the same name is not taken"
        );
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store: Arc<dyn ScheduleStore> = Arc::new(schedules.clone());
        let schedulers: Vec<Scheduler> = (0..3)
            .map(|_| Scheduler::start(Arc::clone(&store), Arc::clone(&clock)))
            .collect();

        let fired = wait_for(&place, 20).await;
        let counted = all_fired(&schedulers, 20).await;
        drop(schedulers);

        assert_eq!((fired.len(), counted), (20, 20), "{kind:?}");
        for event in &fired {
            let text = event.extension_text(SCHEDULED_TIME).unwrap();
            assert_eq!(text, due.to_string(), "{kind:?}");
            assert!(
                event.timestamp().unwrap().instant() >= due,
                "{kind:?}: early"
            );
        }
        assert!(
            schedules.list(None, 10).await.unwrap().is_empty(),
            "{kind:?}"
        );
    }
}

/// What the schedulers have counted, once it is so much: they count what their store has told them that it has done.
async fn all_fired(schedulers: &[Scheduler], count: u64) -> u64 {
    let counted = || schedulers.iter().map(|one| one.stats().fired).sum::<u64>();
    let reached = async {
        while counted() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _late = tokio::time::timeout(Duration::from_secs(60), reached).await;
    counted()
}

async fn wait_for(place: &Place, count: usize) -> Vec<Envelope> {
    let deadline = Duration::from_secs(60);
    let reached = async {
        loop {
            let events = published(place).await;
            if events.len() >= count {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(deadline, reached).await.unwrap()
}

#[tokio::test]
async fn what_is_cancelled_or_moved_does_not_fire_as_it_was_read() {
    for kind in KINDS {
        let Some((place, schedules)) = fresh(kind, "schedule_cancel").await else {
            continue;
        };
        let now = schedules.due(1).await.unwrap().now;
        for id in ["cancelled", "moved", "kept"] {
            schedules.add(&scheduled(id, now, None)).await.unwrap();
        }
        let due = schedules.due(10).await.unwrap();
        assert_eq!(due.events.len(), 3, "{kind:?}");

        assert!(schedules.cancel("cancelled").await.unwrap());
        assert!(!schedules.cancel("cancelled").await.unwrap());
        let later = now.plus(Duration::from_secs(3_600));
        assert!(schedules.reschedule("moved", later).await.unwrap());
        assert!(!schedules.reschedule("unknown", later).await.unwrap());
        let mut fired = Vec::new();
        for scheduled in &due.events {
            let firing = Firing {
                scheduled,
                event: &scheduled.event,
                next: None,
            };
            if schedules.fire(&firing).await.unwrap() {
                fired.push(scheduled.id.clone());
            }
            assert!(!schedules.fire(&firing).await.unwrap(), "{kind:?}: twice");
        }

        assert_eq!(fired, ["kept"], "{kind:?}");
        assert_eq!(published(&place).await.len(), 1, "{kind:?}");
        let left = schedules.list(None, 10).await.unwrap();
        assert_eq!((left.len(), left[0].due), (1, later), "{kind:?}");
    }
}

#[tokio::test]
async fn a_recurring_event_comes_again_with_an_id_of_its_own() {
    for kind in KINDS {
        let Some((place, schedules)) = fresh(kind, "schedule_recurring").await else {
            continue;
        };
        let now = schedules.due(1).await.unwrap().now;
        let every_second = scheduled("tick", now, Some("* * * * * *"));
        schedules.add(&every_second).await.unwrap();
        let store: Arc<dyn ScheduleStore> = Arc::new(schedules.clone());
        let scheduler = Scheduler::start(store, Arc::new(SystemClock::new()));

        let events = wait_for(&place, 3).await;
        drop(scheduler);

        let mut ids: Vec<&str> = events.iter().map(Envelope::event_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), events.len(), "{kind:?}");
        let left = schedules.list(None, 10).await.unwrap();
        assert_eq!(left[0].recurrence, every_second.recurrence, "{kind:?}");
        assert!(left[0].fired >= 3 && left[0].due > now, "{kind:?}");
    }
}

#[tokio::test]
async fn an_event_scheduled_in_a_transaction_that_is_rolled_back_never_was() {
    let (place, schedules) = fresh(Kind::Sqlite, "schedule_tx").await.unwrap();
    let Pool::Sqlite(pool) = place.database.pool() else {
        panic!("it is a SQLite file");
    };
    let now = schedules.due(1).await.unwrap().now;
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    assert!(
        schedules
            .add_in(&mut tx, &scheduled("a", now, None))
            .await
            .unwrap()
    );
    tx.rollback().await.unwrap();
    assert!(schedules.list(None, 10).await.unwrap().is_empty());

    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    schedules
        .add_in(&mut tx, &scheduled("a", now, None))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(schedules.list(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn each_time_of_a_recurring_event_fires_once_however_often_it_was_read() {
    for kind in KINDS {
        let Some((place, schedules)) = fresh(kind, "schedule_read_twice").await else {
            continue;
        };
        let now = schedules.due(1).await.unwrap().now;
        let every_hour = scheduled("tick", now, Some("0 * * * *"));
        schedules.add(&every_hour).await.unwrap();
        let read = schedules.due(10).await.unwrap().events;
        let read_beside = schedules.due(10).await.unwrap().events;
        let next = Some(now.plus(Duration::from_secs(3_600)));
        let mut fired = Vec::new();

        for scheduled in read.iter().chain(&read_beside) {
            let firing = Firing {
                scheduled,
                event: &scheduled.event,
                next,
            };
            fired.push(schedules.fire(&firing).await.unwrap());
        }

        assert_eq!(fired, [true, false], "{kind:?}");
        assert_eq!(published(&place).await.len(), 1, "{kind:?}");
        let left = schedules.list(None, 10).await.unwrap();
        assert_eq!((left[0].fired, Some(left[0].due)), (1, next), "{kind:?}");
    }
}

#[tokio::test]
async fn a_firing_that_fails_half_way_leaves_the_schedule_due_and_publishes_nothing() {
    let (place, schedules) = fresh(Kind::Sqlite, "schedule_half").await.unwrap();
    let now = schedules.due(1).await.unwrap().now;
    schedules.add(&scheduled("once", now, None)).await.unwrap();
    let due = schedules.due(10).await.unwrap().events;
    let firing = Firing {
        scheduled: &due[0],
        event: &due[0].event,
        next: None,
    };
    let halves = [
        ("INSERT ON outbox", "outbox"),
        ("DELETE ON tidings_schedule", "tidings_schedule"),
    ];

    for (refused, table) in halves {
        let raise = "BEGIN SELECT RAISE(ABORT, 'refused by the test'); END";
        place
            .run(&format!("CREATE TRIGGER refuses BEFORE {refused} {raise}"))
            .await;
        assert!(schedules.fire(&firing).await.is_err(), "{table}");
        place.run("DROP TRIGGER refuses").await;

        assert!(published(&place).await.is_empty(), "{table}");
        let left = schedules.due(10).await.unwrap().events;
        assert_eq!(left.len(), 1, "{table}: it is due still");
    }
    assert!(schedules.fire(&firing).await.unwrap());
    assert_eq!(published(&place).await.len(), 1);
}

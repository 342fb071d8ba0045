//! Parked deliveries and dead letters on each database.

use crate::place::{KINDS, Place};
use std::time::Duration;
use tidings_core::store::{
    DeadLetterStore as _, DeathCause, DeathRecord, FailedAttempt, FailureChange, FailureStore,
    LaneId, Operator, OperatorAction, ParkedDelivery, ParkedId,
};
use tidings_core::{DedupeKey, Envelope, Timestamp};
use tidings_sql::schema::{self, Part};
use tidings_sql::{ActionRecord, Failures, Kind, Pool, Schedules};

/// Often enough that some of them meet.
const GIVEN_UP_AT_ONCE: usize = 60;
/// In which a change gets as far as it can. Too short, a test sees less, and does not fail.
const BEHIND_UNDER_WAY: Duration = Duration::from_millis(500);

pub(crate) async fn fresh(kind: Kind, test: &str) -> Option<(Place, Failures)> {
    let place = Place::fresh(kind, test).await?;
    schema::migrate(&place.database, &Part::ALL).await.unwrap();
    let failures = Failures::open(&place.database).await.unwrap();
    Some((place, failures))
}

fn event(id: &str, key: &str) -> Envelope {
    let line = format!(
        r#"{{"event_id":"{id}","event_type":"order.placed","aggregate_id":"{key}","payload":{{"n": 1.50}}}}"#
    );
    Envelope::from_json(line).unwrap()
}

pub(crate) fn delivery(id: &str, key: &str) -> ParkedDelivery {
    let envelope = event(id, key);
    ParkedDelivery {
        id: ParkedId(0),
        lead: 0,
        lane: LaneId::of(&envelope),
        envelope,
        problem: None,
        position: Some(17),
        attempts: 3,
        rounds: 1,
        deaths: 0,
        history: vec![FailedAttempt {
            attempt: 3,
            at: Timestamp::from_micros(1_700_000_000_000_001),
            error: "no\0room".to_owned(),
        }],
        due: None,
        letter: None,
    }
}

pub(crate) fn death(delivery: ParkedDelivery, holds: bool) -> FailureChange {
    let fact = event(&format!("fact-{}", delivery.envelope.event_id()), "k");
    FailureChange::Bury(Box::new(DeathRecord {
        id: format!("dead-{}", delivery.envelope.event_id()),
        delivery,
        handler: "charge".to_owned(),
        reasons: vec!["refused\0".to_owned(), "card 17".to_owned()],
        fingerprint: "dlq-0001".to_owned(),
        cause: DeathCause::Attempts,
        holds,
        code_version: String::new(),
        fact,
    }))
}

pub(crate) fn park(deliveries: Vec<ParkedDelivery>, due_in: Option<u64>) -> FailureChange {
    FailureChange::Park {
        deliveries,
        due_in: due_in.map(Duration::from_millis),
    }
}

#[tokio::test]
async fn a_lane_is_due_in_its_order_and_never_early() {
    for kind in KINDS {
        let Some((_place, failures)) = fresh(kind, "failures_order").await else {
            continue;
        };
        let lane = LaneId::of_key("k");
        let parked = vec![delivery("a", "k"), delivery("b", "k")];
        failures
            .apply("g", &[park(parked.clone(), Some(60_000))])
            .await
            .unwrap();
        // The broker delivers again what was parked before it was settled.
        failures
            .apply(
                "g",
                &[park(parked, Some(0)), park(vec![delivery("c", "k")], None)],
            )
            .await
            .unwrap();

        let due = failures.due("g", 10).await.unwrap();
        assert!(due.lanes.is_empty(), "{kind:?}: {due:?}");
        let next = due.next_in.unwrap();
        assert!(next > Duration::from_secs(30) && next <= Duration::from_secs(60));
        let rows = failures.rows("g", lane, 10).await.unwrap();
        let ids: Vec<&str> = rows.iter().map(|row| row.envelope.event_id()).collect();
        assert_eq!(ids, ["a", "b", "c"], "{kind:?}");
        assert_eq!(rows[0].history, delivery("a", "k").history, "{kind:?}");
        assert_eq!(rows[0].envelope, event("a", "k"), "{kind:?}");
        assert_eq!((rows[0].position, rows[0].attempts), (Some(17), 3));

        let first = rows[0].row();
        let postponed = FailureChange::Postpone {
            row: first,
            attempts: 4,
            rounds: 2,
            history: Vec::new(),
            due_in: Duration::ZERO,
        };
        failures.apply("g", &[postponed]).await.unwrap();
        let due = failures.due("g", 10).await.unwrap();
        assert_eq!(due.lanes[0].rows, 3, "{kind:?}");
        let finish = FailureChange::Finish { row: first };
        failures
            .apply("g", std::slice::from_ref(&finish))
            .await
            .unwrap();
        failures.apply("g", &[finish]).await.unwrap();
        let rows = failures.rows("g", lane, 10).await.unwrap();
        assert_eq!(rows[0].envelope.event_id(), "b");
        assert!(rows[0].due.is_some() && rows[1].due.is_none(), "{kind:?}");
        assert!(failures.due("other", 10).await.unwrap().lanes.is_empty());
    }
}

/// An event may be with two instances: one of them finds no dead letter and is too late to write the first one.
#[tokio::test]
async fn two_that_give_up_one_event_at_once_may_do_it_again() {
    for kind in [Kind::Postgres, Kind::MySql] {
        let Some((_place, failures)) = fresh(kind, "failures_at_once").await else {
            continue;
        };
        let beside = failures.clone();

        for number in 0..GIVEN_UP_AT_ONCE {
            let key = format!("k{number}");
            let given_up = [death(delivery(&format!("e{number}"), &key), false)];
            let (one, other) =
                tokio::join!(failures.apply("g", &given_up), beside.apply("g", &given_up));
            for outcome in [one, other] {
                if let Err(error) = outcome {
                    assert!(error.class().is_transient(), "{kind:?}: {error}");
                    failures.apply("g", &given_up).await.unwrap();
                }
            }
        }
    }
}

/// Takes an event away in a transaction that is open while something else is done, as far as that gets.
async fn take_away_during<T>(place: &Place, event: &str, done: impl Future<Output = T>) -> T {
    let delete = format!("DELETE FROM tidings_parked WHERE event_id = '{event}'");
    let delete = sqlx::raw_sql(sqlx::AssertSqlSafe(delete));
    match place.database.pool() {
        Pool::Postgres(pool) => {
            let mut taking = pool.begin().await.unwrap();
            delete.execute(&mut *taking).await.unwrap();
            beside(done, taking.commit()).await
        }
        Pool::MySql(pool) => {
            let mut taking = pool.begin().await.unwrap();
            delete.execute(&mut *taking).await.unwrap();
            beside(done, taking.commit()).await
        }
        _ => unreachable!("a file has one writer"),
    }
}

async fn beside<T>(
    done: impl Future<Output = T>,
    commit: impl Future<Output = Result<(), sqlx::Error>>,
) -> T {
    let late = async {
        tokio::time::sleep(BEHIND_UNDER_WAY).await;
        commit.await.unwrap();
    };
    tokio::join!(done, late).0
}

/// Whoever takes the head away does not see what is put behind it meanwhile, and whoever puts it there sees a head: neither would make it due.
#[tokio::test]
async fn what_is_parked_behind_a_head_that_is_being_taken_away_is_due() {
    for kind in [Kind::Postgres, Kind::MySql] {
        let Some((place, failures)) = fresh(kind, "failures_behind").await else {
            continue;
        };
        let head = [park(vec![delivery("a", "k")], Some(0))];
        failures.apply("g", &head).await.unwrap();
        let behind = [park(vec![delivery("b", "k")], None)];

        let parking = failures.apply("g", &behind);
        take_away_during(&place, "a", parking).await.unwrap();

        let due = failures.due("g", 10).await.unwrap();
        assert_eq!(due.lanes.len(), 1, "{kind:?}: {due:?}");
        assert_eq!(due.lanes[0].rows, 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_death_that_holds_keeps_its_lane_and_one_that_does_not_lets_it_go() {
    for kind in KINDS {
        let Some((_place, failures)) = fresh(kind, "failures_hold").await else {
            continue;
        };
        let changes = [
            death(delivery("a", "held"), true),
            park(vec![delivery("b", "held")], None),
            death(delivery("c", "free"), false),
        ];
        failures.apply("g", &changes).await.unwrap();

        let state = failures.state("g").await.unwrap();
        assert_eq!(state.lanes.len(), 1, "{kind:?}");
        assert_eq!(state.lanes[0].rows, 2);
        let due = failures.due("g", 10).await.unwrap();
        assert!(
            due.lanes.is_empty() && due.next_in.is_none(),
            "{kind:?}: {due:?}"
        );
        let rows = failures
            .rows("g", LaneId::of_key("held"), 10)
            .await
            .unwrap();
        assert_eq!(rows[0].letter.as_deref(), Some("dead-a"));
        let key = DedupeKey::of(&event("a", "held"));
        assert_eq!(failures.deaths("g", &[key]).await.unwrap(), [1]);

        // A parked one that dies without holding lets the next be due.
        let parked = park(
            vec![delivery("d", "later"), delivery("e", "later")],
            Some(0),
        );
        failures.apply("g", &[parked]).await.unwrap();
        let lane = LaneId::of_key("later");
        let rows = failures.rows("g", lane, 1).await.unwrap();
        failures
            .apply("g", &[death(rows[0].clone(), false)])
            .await
            .unwrap();
        let due = failures.due("g", 10).await.unwrap();
        assert_eq!(due.lanes[0].lane, lane, "{kind:?}");
        assert_eq!(due.lanes[0].rows, 1);
    }
}

#[tokio::test]
async fn attempts_are_kept_until_the_event_is_done_with_and_never_go_back() {
    for kind in KINDS {
        let Some((_place, failures)) = fresh(kind, "failures_attempts").await else {
            continue;
        };
        let [a, b] = ["a", "b"].map(|id| DedupeKey::of(&event(id, "k")));
        let noted = |event, attempts| FailureChange::Attempted { event, attempts };
        failures
            .apply("g", &[noted(a, 2), noted(b, 1), noted(a, 1)])
            .await
            .unwrap();
        let state = failures.state("g").await.unwrap();
        assert_eq!(state.attempts[&a], 2, "{kind:?}");

        failures
            .apply("g", &[FailureChange::Succeeded { event: a }])
            .await
            .unwrap();
        let state = failures.state("g").await.unwrap();
        assert_eq!(state.attempts.len(), 1, "{kind:?}");
        assert_eq!(state.attempts[&b], 1);
    }
}

#[tokio::test]
async fn one_instance_at_a_time_leads_and_the_next_one_follows_when_its_lease_is_over() {
    for kind in KINDS {
        let Some((_place, failures)) = fresh(kind, "failures_lead").await else {
            continue;
        };
        let lead = |owner: &'static str, lease| {
            let failures = failures.clone();
            async move { failures.lead("g", owner, lease).await.unwrap() }
        };
        let long = Duration::from_secs(3_600);

        assert_eq!(lead("one", long).await, Some(1), "{kind:?}");
        assert_eq!(lead("two", long).await, None, "{kind:?}");
        assert_eq!(lead("one", Duration::ZERO).await, Some(1), "{kind:?}");
        let mut waited = 0;
        while lead("two", long).await.is_none() {
            waited += 1;
            assert!(waited < 1_000, "{kind:?}");
        }
        assert_eq!(lead("two", Duration::ZERO).await, Some(2), "{kind:?}");
        while lead("one", long).await.is_none() {
            waited += 1;
            assert!(waited < 2_000, "{kind:?}");
        }
        assert_eq!(lead("one", long).await, Some(3), "{kind:?}");
        assert_eq!(lead("two", long).await, None, "{kind:?}");
        let other = failures.lead("other", "one", long).await.unwrap();
        assert_eq!(other, Some(1));
    }
}

/// Who led stood still beyond its lease, and tells what came of rows that somebody else is done with.
#[tokio::test]
async fn what_a_former_leader_puts_off_or_gives_up_stays_as_the_next_one_left_it() {
    for kind in KINDS {
        let Some((place, failures)) = fresh(kind, "failures_former").await else {
            continue;
        };
        let parked = park(vec![delivery("a", "k"), delivery("b", "k")], Some(0));
        failures.apply("g", &[parked]).await.unwrap();
        let lead = |owner: &'static str, lease| {
            let failures = failures.clone();
            async move { failures.lead("g", owner, lease).await.unwrap() }
        };
        let first = lead("one", Duration::ZERO).await.unwrap();
        let lane = failures.due("g", 1).await.unwrap().lanes[0].lane;
        let fetched = |lead| {
            let failures = failures.clone();
            async move {
                let mut rows = failures.rows("g", lane, 10).await.unwrap();
                rows.iter_mut().for_each(|row| row.lead = lead);
                rows
            }
        };
        let late = fetched(first).await;
        let mut second = lead("two", Duration::from_secs(3_600)).await;
        while second.is_none() {
            second = lead("two", Duration::from_secs(3_600)).await;
        }
        let held = fetched(second.unwrap()).await.remove(0);
        failures.apply("g", &[death(held, true)]).await.unwrap();

        let postponed = FailureChange::Postpone {
            row: late[0].row(),
            attempts: 1,
            rounds: 0,
            history: Vec::new(),
            due_in: Duration::ZERO,
        };
        failures.apply("g", &[postponed]).await.unwrap();

        assert!(failures.due("g", 1).await.unwrap().lanes.is_empty());
        let rows = fetched(0).await;
        assert_eq!((rows[0].attempts, rows[0].rounds), (3, 1), "{kind:?}");
        assert!(rows[0].letter.is_some(), "{kind:?}");
        let rest = park(vec![delivery("c", "other")], Some(0));
        let changes = [death(late[1].clone(), false), rest];
        failures.apply("g", &changes).await.unwrap();
        let letters = place
            .number("SELECT COUNT(*) FROM tidings_dead_letter")
            .await;
        assert_eq!(letters, 1, "{kind:?}: the next leader decides about b");
        let lanes = failures.due("g", 9).await.unwrap().lanes;
        assert_eq!(lanes.len(), 1, "{kind:?}: what is no row is taken");
        let finish = FailureChange::Finish { row: late[1].row() };
        failures.apply("g", &[finish]).await.unwrap();
        assert_eq!(fetched(0).await.len(), 1, "{kind:?}: b was handled");
    }
}

#[tokio::test]
async fn what_is_parked_behind_nothing_is_due_at_once() {
    for kind in KINDS {
        let Some((_place, failures)) = fresh(kind, "failures_behind_nothing").await else {
            continue;
        };
        let parked = park(vec![delivery("a", "k"), delivery("b", "k")], None);
        failures.apply("g", &[parked]).await.unwrap();

        let due = failures.due("g", 10).await.unwrap();
        assert_eq!(due.lanes.len(), 1, "{kind:?}");
        assert_eq!(due.lanes[0].rows, 2, "{kind:?}");
        let rows = failures.rows("g", due.lanes[0].lane, 10).await.unwrap();
        assert!(rows[0].due.is_some() && rows[1].due.is_none(), "{kind:?}");
    }
}

#[tokio::test]
async fn what_persons_ask_about_attempts_and_actions_is_kept_on_each_database() {
    for kind in KINDS {
        let Some((place, failures)) = fresh(kind, "failures_asked").await else {
            continue;
        };
        assert_eq!(failures.attempts_max("g").await.unwrap(), None);
        for attempts in [5, 7] {
            failures.tell_attempts_max("g", attempts).await.unwrap();
        }
        assert_eq!(failures.attempts_max("g").await.unwrap(), Some(7));
        failures.tell_attempts_max("other", 0).await.unwrap();
        let depends = failures.attempts_max("other").await.unwrap();
        assert_eq!(depends, None, "it depends on the error");
        let key = DedupeKey::of(&event("a", "k"));
        assert_eq!(failures.noted_attempts("g", key).await.unwrap(), None);
        let attempted = FailureChange::Attempted {
            event: key,
            attempts: 3,
        };
        failures.apply("g", &[attempted]).await.unwrap();
        let noted = failures.noted_attempts("g", key).await.unwrap();
        assert_eq!(noted.map(|(attempts, _)| attempts), Some(3), "{kind:?}");

        let operator = Operator {
            actor: "ann".to_owned(),
            reason: "INC-4711".to_owned(),
        };
        let reset = ActionRecord {
            action: "reset",
            group: Some("g"),
            target: "g",
            operator: &operator,
            detail: "{}",
        };
        failures.record_action(&reset).await.unwrap();
        failures.set_paused("h", true, &operator).await.unwrap();
        let schedules = Schedules::open(&place.database).await.unwrap();
        assert!(!schedules.cancel_by("nothing", &operator).await.unwrap());
        let told = |actions: Vec<OperatorAction>| -> Vec<String> {
            let actions = actions.into_iter();
            let words = actions.map(|it| format!("{} {} {}", it.action, it.target, it.actor));
            words.collect()
        };
        let all = failures.newest_actions(None, 10).await.unwrap();
        assert_eq!(told(all), ["reset g ann", "pause h ann"], "{kind:?}");
        let newest = failures.newest_actions(None, 1).await.unwrap();
        assert_eq!(told(newest), ["pause h ann"], "{kind:?}");
        let of_g = failures.newest_actions(Some("g"), 10).await.unwrap();
        assert_eq!(told(of_g), ["reset g ann"], "{kind:?}");
    }
}

//! Runs that hand dead letters back: what is left alone, and when a run stops itself.

use crate::place::{Counting, KINDS, Place};
use std::time::Duration;
use tidings_core::seam::Clock;
use tidings_core::store::{
    DeadLetterStore, DeathCause, DeathRecord, FailedAttempt, FailureChange, FailureStore, LaneId,
    LetterFilter, Operator, ParkedDelivery, ParkedId,
};
use tidings_core::{DedupeKey, Envelope, Timestamp};
use tidings_flow::dead_letter::{self, RedriveOptions, RedrivePlan, RedriveReport};
use tidings_flow::runtime::SystemClock;
use tidings_sql::schema::{self, Part};
use tidings_sql::{Failures, Kind};
use tidings_testkit::ManualClock;

async fn fresh() -> (Place, Failures) {
    let place = Place::fresh(Kind::Sqlite, "redrives").await.unwrap();
    schema::migrate(&place.database, &Part::ALL).await.unwrap();
    let failures = Failures::open(&place.database).await.unwrap();
    (place, failures)
}

fn death(delivery: ParkedDelivery) -> FailureChange {
    let (id, deaths) = (delivery.envelope.event_id(), delivery.deaths);
    let fact = format!(
        r#"{{"event_id":"fact-{id}-{deaths}","event_type":"tidings.dead_letter.recorded","payload":{{}}}}"#
    );
    FailureChange::Bury(Box::new(DeathRecord {
        id: format!("dead-{id}"),
        delivery,
        handler: "ship".to_owned(),
        reasons: vec!["refused".to_owned()],
        fingerprint: "dlq-0001".to_owned(),
        cause: DeathCause::Attempts,
        holds: false,
        code_version: String::new(),
        fact: Envelope::from_json(fact).unwrap(),
    }))
}

fn delivery(number: u64) -> ParkedDelivery {
    let line = format!(
        r#"{{"event_id":"evt-{number}","event_type":"order.placed","aggregate_id":"order-{number}","payload":{{}}}}"#
    );
    let envelope = Envelope::from_json(line).unwrap();
    ParkedDelivery {
        id: ParkedId(0),
        lead: 0,
        lane: LaneId::of(&envelope),
        envelope,
        problem: None,
        position: None,
        attempts: 3,
        rounds: 0,
        deaths: 0,
        history: Vec::new(),
        due: None,
        letter: None,
    }
}

async fn bury(failures: &Failures, count: u64) {
    bury_from(failures, 0, count).await;
}

async fn bury_from(failures: &Failures, from: u64, to: u64) {
    let deaths: Vec<_> = (from..to).map(|number| death(delivery(number))).collect();
    failures.apply("shipping", &deaths).await.unwrap();
}

async fn redrive(failures: &Failures, options: &RedriveOptions) -> RedriveReport {
    redrive_by(failures, options, &SystemClock::new()).await
}

async fn redrive_by(
    failures: &Failures,
    options: &RedriveOptions,
    clock: &dyn Clock,
) -> RedriveReport {
    let operator = Operator {
        actor: "anna".to_owned(),
        reason: "INC-1".to_owned(),
    };
    let chance = Counting::new();
    let filter = LetterFilter::default();
    let seams = (clock, &*chance as _);
    let mut progress = |_| {};
    dead_letter::redrive(failures, &filter, options, &operator, seams, &mut progress)
        .await
        .unwrap()
}

/// Handles what is due as a consumer does; every `failing`th event dies again. Answers how many it had.
async fn handle(failures: &Failures, failing: u64) -> u64 {
    let mut had = 0;
    for lane in failures.due("shipping", 1_000).await.unwrap().lanes {
        let rows = failures.rows("shipping", lane.lane, 1).await.unwrap();
        for row in rows {
            had += 1;
            let change = if had % failing == 0 {
                death(row)
            } else {
                FailureChange::Finish { row: row.row() }
            };
            failures.apply("shipping", &[change]).await.unwrap();
        }
    }
    had
}

/// Is a consumer without an end.
async fn consume(failures: &Failures, failing: u64) {
    loop {
        if handle(failures, failing).await == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A redrive while a consumer works, to which one of so many events fails.
async fn redrive_beside(
    failures: &Failures,
    options: &RedriveOptions,
    failing: u64,
) -> RedriveReport {
    tokio::select! {
        report = redrive(failures, options) => report,
        () = consume(failures, failing) => unreachable!("it never ends"),
    }
}

/// A redrive by a clock of its own, which moves on whenever the run waits; the report, and how long it took.
async fn redrive_in_no_time(
    failures: &Failures,
    options: &RedriveOptions,
) -> (RedriveReport, Duration) {
    let clock = ManualClock::at(Timestamp::from_micros(0));
    let turn = async {
        loop {
            if clock.sleepers() > 0 {
                clock.advance(Duration::from_millis(10));
            }
            tokio::task::yield_now().await;
        }
    };
    let report = tokio::select! {
        report = redrive_by(failures, options, &clock) => report,
        () = turn => unreachable!("it never ends"),
    };
    (report, clock.elapsed())
}

async fn plan(failures: &Failures, options: &RedriveOptions) -> RedrivePlan {
    let filter = LetterFilter::default();
    dead_letter::plan(failures, &filter, options).await.unwrap()
}

#[tokio::test]
async fn what_dies_again_and_again_is_left_alone_unless_that_is_forced() {
    let (_place, failures) = fresh().await;
    bury(&failures, 2).await;
    let options = RedriveOptions {
        redrives_max: 3,
        ..RedriveOptions::default()
    };
    for _ in 0..3 {
        assert_eq!(redrive(&failures, &options).await.redriven, 2);
        assert_eq!(handle(&failures, 1).await, 2);
    }

    let plan = plan(&failures, &options).await;
    let report = redrive(&failures, &options).await;

    assert_eq!((plan.selected, plan.would_redrive), (2, 0));
    assert_eq!((report.selected, report.redriven), (2, 0));
    assert_eq!(plan.skipped, report.skipped);
    let reason = report.skipped.keys().next().unwrap();
    assert!(reason.contains("redriven 3 times"), "{reason}");
    let forced = RedriveOptions {
        force: true,
        ..options
    };
    assert_eq!(redrive(&failures, &forced).await.redriven, 2);
}

#[tokio::test]
async fn a_run_stops_when_too_many_fail_again_and_goes_on_when_they_do_not() {
    let (_place, failures) = fresh().await;
    bury(&failures, 400).await;
    let options = RedriveOptions {
        max_failure_ratio: Some(0.2),
        ..RedriveOptions::default()
    };

    let report = redrive_beside(&failures, &options, 2).await;

    let why = report.aborted.expect("half of them fail");
    assert!(why.contains("0.2"), "{why}");
    assert!(report.redriven < 400, "{}", report.redriven);
    let stopped = report.redriven;
    let report = redrive_beside(&failures, &options, 10).await;
    assert_eq!(report.aborted, None);
    assert!(
        report.redriven >= 400 - stopped,
        "the rest, and what failed"
    );
}

#[tokio::test]
async fn a_second_death_tells_the_attempts_of_the_first_one_too() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "second_death").await else {
            continue;
        };
        schema::migrate(&place.database, &Part::ALL).await.unwrap();
        let failures = Failures::open(&place.database).await.unwrap();
        let failed = |attempt: u32, at: i64, error: &str| FailedAttempt {
            attempt,
            at: Timestamp::from_micros(at),
            error: error.to_owned(),
        };
        let first = vec![failed(1, 10, "no stock"), failed(2, 20, "no stock")];
        let mut delivered = delivery(0);
        delivered.history.clone_from(&first);
        let dies = [death(delivered)];
        failures.apply("shipping", &dies).await.unwrap();
        assert_eq!(
            redrive(&failures, &RedriveOptions::default())
                .await
                .redriven,
            1
        );

        let lane = failures.due("shipping", 1).await.unwrap().lanes[0].lane;
        let mut again = failures.rows("shipping", lane, 1).await.unwrap().remove(0);
        assert_eq!(again.history, [], "it begins anew where it is tried");
        again.history = vec![failed(1, 30, "no carrier")];
        // The answer is lost, and the death is recorded once more.
        let dies = [death(again)];
        failures.apply("shipping", &dies).await.unwrap();
        failures.apply("shipping", &dies).await.unwrap();

        let filter = LetterFilter::default();
        let letter = failures.letters(&filter, 0, 1).await.unwrap().remove(0);
        let expected = [&first[..], &[failed(1, 30, "no carrier")]].concat();
        assert_eq!(letter.history, expected, "{kind:?}");
        assert_eq!(letter.first_failed, Some(Timestamp::from_micros(10)));
    }
}

/// A page of letters is 500: the run used to count the pages that it looked at, and the plan all letters.
#[tokio::test]
async fn plan_and_run_say_the_same_of_letters_beyond_the_limit() {
    let (_place, failures) = fresh().await;
    for page in 0..4 {
        bury_from(&failures, 500 * page, 500 * (page + 1)).await;
    }
    let only = |limit| RedriveOptions {
        limit: Some(limit),
        ..RedriveOptions::default()
    };
    // Three are handed back already.
    assert_eq!(redrive(&failures, &only(3)).await.redriven, 3);
    let everything = LetterFilter::default();
    let letters = failures
        .letters(&everything, i64::MIN, 2_000)
        .await
        .unwrap();

    for (limit, newest) in [(7, 9), (600, 602)] {
        let planned = plan(&failures, &only(limit)).await;

        assert_eq!((planned.selected, planned.would_redrive), (2_000, limit));
        assert_eq!(planned.groups.get("shipping"), Some(&limit));
        assert_eq!(planned.oldest, Some(letters[3].died));
        assert_eq!(planned.newest, Some(letters[newest].died));
        assert!(planned.newest < Some(letters[1_999].died));
        let beyond = planned.skipped.get("beyond the limit").copied();
        assert_eq!(beyond, Some(2_000 - 3 - limit));
    }
    let options = only(600);
    let planned = plan(&failures, &options).await;
    let report = redrive(&failures, &options).await;
    assert_eq!((report.selected, report.redriven), (2_000, 600));
    assert_eq!(report.skipped, planned.skipped);
    let rest = plan(&failures, &RedriveOptions::default()).await;
    assert_eq!((rest.selected, rest.would_redrive), (2_000, 1_397));
}

/// With fewer letters than may be under way nothing was ever judged.
#[tokio::test]
async fn the_last_ones_are_waited_for_and_judged_as_well() {
    let (_place, failures) = fresh().await;
    bury(&failures, 40).await;
    let options = RedriveOptions {
        max_failure_ratio: Some(0.2),
        ..RedriveOptions::default()
    };

    let report = redrive_beside(&failures, &options, 2).await;

    assert_eq!(report.redriven, 40);
    let why = report.aborted.expect("half of them fail");
    assert!(why.contains("0.2"), "{why}");
    while handle(&failures, u64::MAX).await > 0 {}
    let lenient = RedriveOptions {
        max_failure_ratio: Some(0.9),
        ..options
    };
    let report = redrive_beside(&failures, &lenient, u64::MAX).await;
    assert_eq!(report.aborted, None);
    assert!(report.redriven > 0, "what failed again");
    let outcome = report.outcome;
    assert_eq!((outcome.waiting, outcome.resolved), (0, report.redriven));
}

#[tokio::test]
async fn a_run_that_waits_for_a_consumer_that_does_not_run_ends_and_says_so() {
    let (_place, failures) = fresh().await;
    bury(&failures, 3).await;
    let options = RedriveOptions {
        max_failure_ratio: Some(0.5),
        ..RedriveOptions::default()
    };

    let (report, took) = redrive_in_no_time(&failures, &options).await;

    let why = report.aborted.expect("nobody handles them");
    assert!(why.contains("is the consumer running?"), "{why}");
    assert!((60..65).contains(&took.as_secs()), "{took:?}");
    assert_eq!((report.redriven, report.outcome.waiting), (3, 3));
    // Who does not ask for a share waits for nobody.
    bury_from(&failures, 3, 6).await;
    let (report, took) = redrive_in_no_time(&failures, &RedriveOptions::default()).await;
    assert_eq!((report.redriven, report.aborted), (3, None));
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test]
async fn a_rate_spreads_the_letters_over_the_time() {
    let (_place, failures) = fresh().await;
    bury(&failures, 41).await;
    let options = RedriveOptions {
        rate: Some(20.0),
        ..RedriveOptions::default()
    };

    let (report, took) = redrive_in_no_time(&failures, &options).await;

    assert_eq!(report.redriven, 41);
    // The first one at once, then one each 50 ms.
    assert!((2_000..2_500).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn when_an_event_failed_first_is_known_although_its_process_ended() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "first_failure").await else {
            continue;
        };
        schema::migrate(&place.database, &Part::ALL).await.unwrap();
        let failures = Failures::open(&place.database).await.unwrap();
        let key = DedupeKey::of(&delivery(0).envelope);
        let attempted = |attempts| FailureChange::Attempted {
            event: key,
            attempts,
        };
        failures.apply("shipping", &[attempted(1)]).await.unwrap();
        let noted = failures.noted_attempts("shipping", key).await.unwrap();
        let (_, first) = noted.unwrap();
        failures.apply("shipping", &[attempted(2)]).await.unwrap();
        let noted = failures.noted_attempts("shipping", key).await.unwrap();
        assert_eq!(noted, Some((2, first)), "{kind:?}");

        // The next process goes on with the third attempt, and knows of no other.
        let third = FailedAttempt {
            attempt: 3,
            at: Timestamp::from_micros(first.as_micros() + 60_000_000),
            error: "no stock".to_owned(),
        };
        let mut delivered = delivery(0);
        delivered.history = vec![third.clone()];
        let parked = FailureChange::Park {
            deliveries: vec![delivered],
            due_in: Some(Duration::ZERO),
        };
        failures.apply("shipping", &[parked]).await.unwrap();

        let lane = failures.due("shipping", 1).await.unwrap().lanes[0].lane;
        let row = failures.rows("shipping", lane, 1).await.unwrap().remove(0);
        assert_eq!(row.history.len(), 2, "{kind:?}: {:?}", row.history);
        assert_eq!((row.history[0].attempt, row.history[0].at), (1, first));
        assert_eq!(row.history[1], third, "{kind:?}");
        failures.apply("shipping", &[death(row)]).await.unwrap();
        let filter = LetterFilter::default();
        let letter = failures.letters(&filter, 0, 1).await.unwrap().remove(0);
        assert_eq!(letter.first_failed, Some(first), "{kind:?}");
        assert_eq!(letter.history.len(), 2, "{kind:?}: {:?}", letter.history);
    }
}

#[tokio::test]
async fn a_death_without_a_wait_tells_when_the_event_failed_first_too() {
    let (_place, failures) = fresh().await;
    let mut delivered = delivery(0);
    let attempted = FailureChange::Attempted {
        event: DedupeKey::of(&delivered.envelope),
        attempts: 2,
    };
    failures.apply("shipping", &[attempted]).await.unwrap();
    delivered.history = vec![FailedAttempt {
        attempt: 3,
        at: Timestamp::from_micros(i64::MAX / 2),
        error: "no stock".to_owned(),
    }];

    let dies = [death(delivered)];
    failures.apply("shipping", &dies).await.unwrap();

    let filter = LetterFilter::default();
    let letter = failures.letters(&filter, 0, 1).await.unwrap().remove(0);
    let attempts: Vec<u32> = letter.history.iter().map(|it| it.attempt).collect();
    assert_eq!(attempts, [1, 3]);
    assert_eq!(letter.first_failed, Some(letter.history[0].at));
    assert!(letter.first_failed.unwrap() < letter.history[1].at);
}

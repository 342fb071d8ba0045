//! The suite of [`FailureStore`] and [`DeadLetterStore`]: what a consumer and what a person may rely on, each guarantee a check that panics with what was broken.

mod deciding;
mod lanes;
mod looking;
mod together;

use std::sync::Arc;
use std::time::Duration;
use tidings_core::store::{
    DeadLetterStore, DeathCause, DeathRecord, FailedAttempt, FailureChange, FailureStore, LaneId,
    Letter, LetterFilter, LetterStatus, Operator, ParkedDelivery, ParkedId, Verdict,
};
use tidings_core::{BoxFuture, Envelope, Timestamp};

/// Types and ids of the facts in the outbox of the store, in their order.
pub type Facts = Arc<dyn Fn() -> BoxFuture<'static, Vec<(String, String)>> + Send + Sync>;

/// A fresh store under test.
pub struct Place {
    /// The store as a consumer has it.
    pub failures: Arc<dyn FailureStore>,
    /// The same store as a person has it.
    pub letters: Arc<dyn DeadLetterStore>,
    /// The same store, as another process opens it.
    pub beside: Arc<dyn DeadLetterStore>,
    /// What was stated.
    pub facts: Facts,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place")
            .field("name", &self.letters.name())
            .finish_non_exhaustive()
    }
}

/// Makes a fresh store for the check of that name.
pub type Fresh<'a> = &'a (dyn Fn(&'static str) -> BoxFuture<'a, Place> + Sync);

type Check = (&'static str, fn(Place) -> BoxFuture<'static, ()>);

const CHECKS: &[Check] = &[
    ("a_lane_is_handled_in_its_order", |place| {
        Box::pin(lanes::order(place))
    }),
    ("a_delivery_is_parked_once", |place| {
        Box::pin(lanes::once(place))
    }),
    ("nothing_is_due_early", |place| {
        Box::pin(lanes::never_early(place))
    }),
    ("what_is_finished_twice_is_finished_once", |place| {
        Box::pin(lanes::finished_twice(place))
    }),
    ("a_death_that_holds_keeps_its_lane", |place| {
        Box::pin(lanes::held(place))
    }),
    ("a_death_that_does_not_hold_lets_its_lane_go", |place| {
        Box::pin(lanes::let_go(place))
    }),
    ("attempts_never_go_back", |place| {
        Box::pin(lanes::attempts(place))
    }),
    (
        "changes_of_one_call_come_to_the_same_as_one_by_one",
        |place| Box::pin(together::same(place)),
    ),
    (
        "what_a_group_finds_tells_held_lanes_and_their_age",
        |place| Box::pin(lanes::found(place)),
    ),
    ("changes_are_made_all_or_none", |place| {
        Box::pin(lanes::atomic(place))
    }),
    ("a_redriven_head_is_due_and_its_lane_follows", |place| {
        Box::pin(deciding::head_first(place))
    }),
    ("a_redrive_that_is_issued_twice_happens_once", |place| {
        Box::pin(deciding::twice(place))
    }),
    ("of_redrives_at_the_same_time_one_happens", |place| {
        Box::pin(deciding::at_once(place))
    }),
    (
        "a_redrive_goes_to_the_group_that_gave_it_up_only",
        |place| Box::pin(deciding::one_group(place)),
    ),
    (
        "a_redriven_event_of_a_lane_that_waits_comes_behind_it",
        |place| Box::pin(deciding::behind(place)),
    ),
    (
        "an_event_that_dies_again_is_open_again_with_one_death_more",
        |place| Box::pin(deciding::died_again(place)),
    ),
    ("a_discarded_event_lets_its_lane_go", |place| {
        Box::pin(deciding::discarded(place))
    }),
    ("what_is_decided_while_it_is_tried_stays_decided", |place| {
        Box::pin(deciding::decided_meanwhile(place))
    }),
    ("an_edited_copy_takes_the_place_of_its_event", |place| {
        Box::pin(deciding::edited(place))
    }),
    ("a_letter_from_elsewhere_is_taken_over_once", |place| {
        Box::pin(looking::taken_over(place))
    }),
    ("letters_are_found_by_what_is_known_of_them", |place| {
        Box::pin(looking::filters(place))
    }),
    ("clusters_and_tallies_count_exactly", |place| {
        Box::pin(looking::counts(place))
    }),
    ("each_decision_is_kept_with_who_and_why", |place| {
        Box::pin(looking::history(place))
    }),
    ("what_waits_for_a_time_can_be_made_due", |place| {
        Box::pin(looking::retried_now(place))
    }),
    ("a_group_is_paused_until_it_is_resumed", |place| {
        Box::pin(looking::paused(place))
    }),
    ("a_circuit_is_told_to_others_until_it_is_closed", |place| {
        Box::pin(looking::circuit(place))
    }),
];

/// Runs every check of the suite, each on a fresh store.
///
/// # Panics
/// With the name of the check and what it found.
pub async fn failure_store(fresh: Fresh<'_>) {
    for (name, check) in CHECKS {
        eprintln!("failure store: {name}");
        check(fresh(name).await).await;
    }
}

/// The group of most checks.
const GROUP: &str = "shipping";

fn event(id: &str, key: &str) -> Envelope {
    let line = format!(
        r#"{{"event_id":"{id}","event_type":"order.placed.v2","aggregate_id":"{key}","correlation_id":"flow-{id}","X":{{"a":1.0}},"payload":{{"n": 1.50}}}}"#
    );
    Envelope::from_json(line).unwrap()
}

fn delivery(id: &str, key: &str) -> ParkedDelivery {
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

fn letter_id(group: &str, delivery: &ParkedDelivery) -> String {
    format!("dead-{group}-{}", delivery.envelope.event_id())
}

fn death_in(group: &str, delivery: ParkedDelivery, holds: bool) -> FailureChange {
    let fact = format!(
        r#"{{"event_id":"fact-{group}-{}-{}","event_type":"tidings.dead_letter.recorded","payload":{{}}}}"#,
        delivery.envelope.event_id(),
        delivery.deaths
    );
    FailureChange::Bury(Box::new(DeathRecord {
        id: letter_id(group, &delivery),
        delivery,
        handler: "ship".to_owned(),
        reasons: vec!["refused\0".to_owned(), "card 17".to_owned()],
        fingerprint: "dlq-0001".to_owned(),
        cause: DeathCause::Attempts,
        holds,
        code_version: "1.2.3".to_owned(),
        fact: Envelope::from_json(fact).unwrap(),
    }))
}

fn death(delivery: ParkedDelivery, holds: bool) -> FailureChange {
    death_in(GROUP, delivery, holds)
}

fn park(deliveries: Vec<ParkedDelivery>, due_in: Option<Duration>) -> FailureChange {
    FailureChange::Park { deliveries, due_in }
}

fn operator() -> Operator {
    Operator {
        actor: "anna@desk".to_owned(),
        reason: "INC-4711".to_owned(),
    }
}

/// The verdict on a letter as it was found.
fn verdict(letter: &Letter) -> Verdict {
    let fact = format!(
        r#"{{"event_id":"verdict-{}-{}","event_type":"tidings.dead_letter.redriven","payload":{{}}}}"#,
        letter.id, letter.redrives
    );
    Verdict {
        letter: letter.id.clone(),
        status: letter.status,
        redrives: letter.redrives,
        fact: Envelope::from_json(fact).unwrap(),
    }
}

impl Place {
    async fn apply(&self, changes: &[FailureChange]) {
        self.failures.apply(GROUP, changes).await.unwrap();
    }

    /// The ids of the events of a lane, in its order.
    async fn lane(&self, key: &str) -> Vec<ParkedDelivery> {
        let lane = LaneId::of_key(key);
        self.failures.rows(GROUP, lane, 100).await.unwrap()
    }

    /// The events of the lanes that are due, the first of each.
    async fn due(&self, group: &str) -> Vec<String> {
        let due = self.failures.due(group, 100).await.unwrap();
        let mut events = Vec::new();
        for lane in due.lanes {
            let rows = self.failures.rows(group, lane.lane, 1).await.unwrap();
            assert!(rows[0].due.is_some(), "of a lane that is due its head is");
            events.push(rows[0].envelope.event_id().to_owned());
        }
        events
    }

    async fn letters(&self) -> Vec<Letter> {
        let filter = LetterFilter::default();
        self.letters.letters(&filter, i64::MIN, 100).await.unwrap()
    }

    async fn letter(&self, event: &str) -> Letter {
        let filter = LetterFilter {
            ids: vec![event.to_owned()],
            ..LetterFilter::default()
        };
        let mut found = self.letters.letters(&filter, i64::MIN, 100).await.unwrap();
        assert_eq!(found.len(), 1, "{event}");
        found.remove(0)
    }

    async fn redrive(&self, event: &str) -> Vec<String> {
        let verdicts = [verdict(&self.letter(event).await)];
        let run = "rd-1";
        let done = self.letters.redrive(&verdicts, run, &operator()).await;
        done.unwrap()
    }

    async fn status(&self, event: &str) -> LetterStatus {
        self.letter(event).await.status
    }

    /// Finishes the head of a lane.
    async fn finish(&self, key: &str) {
        let head = self.lane(key).await.remove(0);
        self.apply(&[FailureChange::Finish { row: head.row() }])
            .await;
    }
}

fn ids(rows: &[ParkedDelivery]) -> Vec<&str> {
    rows.iter().map(|row| row.envelope.event_id()).collect()
}

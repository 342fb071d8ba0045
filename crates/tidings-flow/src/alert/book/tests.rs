//! The machine alone: facts, looks and times in, messages out.

use super::*;
use crate::alert::look::OutboxSeen;
use crate::alert::message::{Rule, Sample};
use proptest::prelude::*;
use tidings_core::DedupeKey;
use tidings_core::store::{LetterBacklog, ParkedBacklog};

const WINDOW: Duration = Duration::from_secs(600);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000).plus(Duration::from_secs(seconds))
}

fn book() -> Book {
    Book::new(AlertOptions::new("tidings-alert"), BTreeMap::new())
}

fn death(group: &str, cluster: &str) -> DeathSeen {
    DeathSeen {
        fact: DedupeKey::from_id("fact", None),
        at: None,
        group: group.to_owned(),
        cluster: cluster.to_owned(),
        sample: Sample {
            event_id: "evt-1".to_owned(),
            event_type: "order.placed".to_owned(),
            aggregate_id: None,
            reason: "card declined".to_owned(),
            attempts: 5,
        },
    }
}

/// The stages and counts that follow from a dead letter.
fn dead(book: &mut Book, cluster: &str, now: Timestamp) -> Vec<(Rule, Stage, u64)> {
    let mut effects = Effects::default();
    book.dead(&death("payment", cluster), now, &mut effects);
    short_of(&effects)
}

fn tick(book: &mut Book, now: Timestamp) -> Vec<(Rule, Stage, u64)> {
    let mut effects = Effects::default();
    book.tick(now, &mut effects);
    short_of(&effects)
}

fn look(book: &mut Book, seen: &Seen, now: Timestamp) -> Vec<(Rule, Stage, u64)> {
    let mut effects = Effects::default();
    book.look(seen, now, now, &mut effects);
    short_of(&effects)
}

fn short_of(effects: &Effects) -> Vec<(Rule, Stage, u64)> {
    let alerts = effects.alerts.iter();
    alerts
        .map(|alert| (alert.rule, alert.stage, alert.count))
        .collect()
}

fn letters(cluster: &str, open: u64, total: u64) -> Seen {
    Seen {
        backlog: Some(Backlog {
            letters: vec![LetterBacklog {
                group: "payment".to_owned(),
                cluster: cluster.to_owned(),
                open,
                total,
                oldest_age: Duration::ZERO,
            }],
            parked: Vec::new(),
        }),
        ..Seen::default()
    }
}

fn group(lag: u64, age: u64, mark: Option<u64>) -> Seen {
    Seen {
        groups: Some(vec![GroupSeen {
            group: "mailer".to_owned(),
            lag,
            age: Duration::from_secs(age),
            mark,
            moved_at: None,
            is_owned: Some(false),
        }]),
        ..Seen::default()
    }
}

#[test]
fn the_first_dead_letter_is_told_at_once_and_the_others_of_its_window_together() {
    let mut book = book();

    let first = dead(&mut book, "dlq-1", at(0));
    assert_eq!(first, [(Rule::DeadLetter, Stage::Fired, 1)]);
    for second in 1..=5 {
        assert_eq!(dead(&mut book, "dlq-1", at(second)), []);
    }
    assert_eq!(book.next_tick(at(5)), Some(WINDOW - Duration::from_secs(5)));
    assert_eq!(tick(&mut book, at(599)), []);
    assert_eq!(
        tick(&mut book, at(600)),
        [(Rule::DeadLetter, Stage::Repeated, 5)]
    );
    assert_eq!(book.next_tick(at(600)), None);
    assert_eq!(tick(&mut book, at(2_000)), [], "nothing new, nothing told");
    assert_eq!(
        dead(&mut book, "dlq-1", at(2_000)),
        [(Rule::DeadLetter, Stage::Repeated, 1)],
        "its window was over"
    );
}

#[test]
fn the_message_names_group_failure_event_and_command() {
    let mut book = book();
    let mut effects = Effects::default();
    let mut seen = death("payment", "dlq-1");
    seen.sample.event_id = "evt 1; reboot".to_owned();

    book.dead(&seen, at(0), &mut effects);

    let alert = &effects.alerts[0];
    assert_eq!(
        alert.text,
        "payment gave 1 event up (dlq-1, order.placed): card declined"
    );
    assert_eq!(
        alert.next,
        "tidings dlq show 'evt 1; reboot' --consumer payment"
    );
    assert_eq!(alert.subject, "dead_letter payment dlq-1");
    assert_eq!(alert.since, at(0).to_string());
}

#[test]
fn failures_beyond_the_number_of_messages_are_told_in_one() {
    let mut book = book();
    let most = book.options.messages_per_window;
    for number in 0..most {
        let told = dead(&mut book, &format!("dlq-{number}"), at(0));
        assert_eq!(told, [(Rule::DeadLetter, Stage::Fired, 1)]);
    }

    let first = dead(&mut book, "dlq-a", at(1));
    assert_eq!(first, [(Rule::ManyDeadLetters, Stage::Fired, 1)]);
    for number in 0..50 {
        assert_eq!(dead(&mut book, &format!("more-{number}"), at(2)), []);
    }
    assert_eq!(
        tick(&mut book, at(601)),
        [(Rule::ManyDeadLetters, Stage::Repeated, 50)]
    );
    let again = dead(&mut book, "more-7", at(700));
    assert_eq!(
        again,
        [(Rule::DeadLetter, Stage::Fired, 1)],
        "there is room again"
    );
}

#[test]
fn an_alert_is_over_once_the_store_knows_no_open_letter() {
    let mut book = book();
    dead(&mut book, "dlq-1", at(10));

    assert_eq!(look(&mut book, &letters("dlq-1", 1, 1), at(20)), []);
    let mut effects = Effects::default();
    book.look(&letters("dlq-1", 0, 1), at(10), at(20), &mut effects);
    assert_eq!(short_of(&effects), [], "the look began with the letter");
    assert_eq!(look(&mut book, &letters("dlq-2", 0, 1), at(20)), []);
    assert_eq!(
        look(&mut book, &letters("dlq-1", 0, 1), at(30)),
        [(Rule::DeadLetter, Stage::Resolved, 0)]
    );
    assert_eq!(look(&mut book, &letters("dlq-1", 0, 1), at(40)), []);
    assert_eq!(
        dead(&mut book, "dlq-1", at(50)),
        [(Rule::DeadLetter, Stage::Fired, 1)],
        "it fires anew"
    );
}

#[test]
fn open_letters_of_which_no_fact_came_are_told_by_the_store_and_not_counted_again() {
    let mut book = book();
    let found = |age| {
        let mut seen = letters("dlq-1", 3, 5);
        seen.backlog.as_mut().unwrap().letters[0].oldest_age = Duration::from_secs(age);
        seen
    };

    assert_eq!(
        look(&mut book, &found(29), at(0)),
        [],
        "its fact is on its way"
    );
    let mut effects = Effects::default();
    book.look(&found(30), at(1), at(1), &mut effects);
    assert_eq!(short_of(&effects), [(Rule::DeadLetter, Stage::Fired, 3)]);
    assert_eq!(
        effects.alerts[0].text,
        "payment has 3 open dead letters of dlq-1"
    );
    assert_eq!(look(&mut book, &found(40), at(11)), []);

    let late = |seconds| DeathSeen {
        at: Some(at(seconds)),
        ..death("payment", "dlq-1")
    };
    let mut effects = Effects::default();
    book.dead(&late(0), at(12), &mut effects);
    book.dead(&late(5), at(13), &mut effects);
    assert_eq!(short_of(&effects), []);
    assert_eq!(
        tick(&mut book, at(601)),
        [(Rule::DeadLetter, Stage::Repeated, 1)],
        "one died after the look"
    );
    assert_eq!(
        look(&mut book, &letters("dlq-1", 0, 5), at(700)),
        [(Rule::DeadLetter, Stage::Resolved, 0)]
    );
}

#[test]
fn an_alert_that_no_store_knows_is_over_after_a_day_of_silence() {
    let mut book = book();
    dead(&mut book, "dlq-1", at(0));

    assert_eq!(look(&mut book, &Seen::default(), at(86_399)), []);
    assert_eq!(
        look(&mut book, &Seen::default(), at(86_400)),
        [(Rule::DeadLetter, Stage::Resolved, 0)]
    );
}

#[test]
fn a_group_that_is_behind_and_does_not_move_is_told_and_so_is_its_moving() {
    let mut book = book();

    assert_eq!(look(&mut book, &group(7, 400, Some(3)), at(0)), []);
    assert_eq!(look(&mut book, &group(8, 699, Some(3)), at(299)), []);
    assert_eq!(
        look(&mut book, &group(9, 700, Some(3)), at(300)),
        [(Rule::Stalled, Stage::Fired, 9)]
    );
    assert_eq!(look(&mut book, &group(9, 760, Some(3)), at(360)), []);
    assert_eq!(
        look(&mut book, &group(8, 770, Some(4)), at(370)),
        [(Rule::Stalled, Stage::Resolved, 9)]
    );
}

#[test]
fn a_group_that_is_slow_or_was_just_given_something_is_not_stalled() {
    let mut book = book();
    for minute in 0..60 {
        let seen = group(1_000, 4_000, Some(minute));
        assert_eq!(look(&mut book, &seen, at(minute * 60)), [], "it moves");
    }
    let done = group(0, 0, Some(60));
    assert_eq!(look(&mut book, &done, at(3_600)), []);
    assert_eq!(look(&mut book, &done, at(9_000)), []);
    let fresh = group(5, 3, Some(60));
    assert_eq!(look(&mut book, &fresh, at(9_010)), []);

    // A broker without positions: what shrinks tells.
    let mut book = self::book();
    for minute in 0..60 {
        let seen = group(1_000 - minute, 0, None);
        assert_eq!(look(&mut book, &seen, at(minute * 60)), []);
    }
    assert_eq!(look(&mut book, &group(990, 0, None), at(3_800)), []);
    assert_eq!(
        look(&mut book, &group(991, 0, None), at(3_900)),
        [(Rule::Stalled, Stage::Fired, 991)]
    );
}

#[test]
fn the_watcher_does_not_watch_itself() {
    let mut book = book();
    let mut seen = group(7, 4_000, Some(3));
    seen.groups.as_mut().unwrap()[0].group = "tidings-alert".to_owned();

    assert_eq!(look(&mut book, &seen, at(0)), []);
    assert_eq!(look(&mut book, &seen, at(4_000)), []);
}

#[test]
fn late_outboxes_and_parked_keys_are_told_reminded_of_and_over() {
    let outbox = |age| Seen {
        outboxes: Some(vec![OutboxSeen {
            outbox: "shop: outbox".to_owned(),
            pending: 4,
            oldest_age: Duration::from_secs(age),
        }]),
        ..Seen::default()
    };
    let parked = |held_age| Seen {
        backlog: Some(Backlog {
            parked: vec![ParkedBacklog {
                group: "payment".to_owned(),
                deliveries: 12,
                keys: 3,
                oldest_age: Duration::from_secs(60),
                held: 1,
                held_age: Duration::from_secs(held_age),
            }],
            letters: Vec::new(),
        }),
        ..Seen::default()
    };
    for (rule, bad, good, count) in [
        (Rule::Outbox, outbox(121), outbox(120), 4),
        (Rule::Parked, parked(901), parked(900), 12),
    ] {
        let mut book = book();
        assert_eq!(look(&mut book, &good, at(0)), []);
        assert_eq!(look(&mut book, &bad, at(1)), [(rule, Stage::Fired, count)]);
        assert_eq!(look(&mut book, &bad, at(14_400)), []);
        assert_eq!(
            look(&mut book, &bad, at(14_401)),
            [(rule, Stage::Repeated, count)]
        );
        assert_eq!(
            look(&mut book, &Seen::default(), at(14_500)),
            [],
            "nothing is concluded from what could not be asked"
        );
        assert_eq!(
            look(&mut book, &good, at(14_600)),
            [(rule, Stage::Resolved, count)]
        );
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_silence_an_alert() {
    let mut book = book();
    dead(&mut book, "dlq-1", at(1_000_000));

    let told = dead(&mut book, "dlq-1", at(0));

    assert_eq!(told, [(Rule::DeadLetter, Stage::Repeated, 1)]);
}

#[test]
fn live_alerts_survive_being_kept() {
    let mut book = book();
    dead(&mut book, "dlq-1", at(0));
    dead(&mut book, "dlq-1", at(1));
    let (subject, live) = book.alerts.iter().next().unwrap();

    let kept = crate::alert::subject::kept(subject, live);
    let read = crate::alert::subject::read(&kept.body).unwrap();

    assert_eq!((&read.0, &read.1), (subject, live));
    assert_eq!(kept.name.len(), 32);
    let mut again = Book::new(book.options.clone(), BTreeMap::from([read]));
    assert_eq!(
        tick(&mut again, at(600)),
        [(Rule::DeadLetter, Stage::Repeated, 1)]
    );
}

#[test]
fn a_fact_counts_once_and_the_oldest_are_forgotten() {
    let mut counted = Counted::default();
    let fact = |id: &str| DedupeKey::from_id(id, None);

    assert_eq!(counted.note(fact("1"), 2), Some(Vec::new()));
    assert_eq!(counted.note(fact("1"), 2), None);
    assert_eq!(counted.note(fact("2"), 2), Some(Vec::new()));
    assert_eq!(counted.note(fact("3"), 2), Some(vec![fact("1")]));
    assert_eq!(counted.note(fact("2"), 2), None);
}

/// A step of a random run.
#[derive(Debug, Clone)]
enum Step {
    Dead(u8),
    Settled(u8),
    Wait(u16),
}

proptest! {
    #[test]
    fn every_letter_is_told_and_no_failure_more_often_than_once_a_window(
        steps in prop::collection::vec(
            prop_oneof![
                6 => (0..40_u8).prop_map(Step::Dead),
                1 => (0..40_u8).prop_map(Step::Settled),
                2 => (1..400_u16).prop_map(Step::Wait),
            ],
            1..200,
        )
    ) {
        let mut book = book();
        let mut now = at(0);
        let (mut recorded, mut told_letters, mut dropped, mut settled) = (0_u64, 0_u64, 0_u64, 0);
        let mut sent: HashMap<String, Vec<(Stage, Timestamp)>> = HashMap::new();
        for step in steps.into_iter().chain([Step::Wait(700), Step::Wait(700)]) {
            let mut effects = Effects::default();
            match step {
                Step::Dead(cluster) => {
                    recorded += 1;
                    book.dead(&death("payment", &format!("dlq-{cluster}")), now, &mut effects);
                }
                Step::Settled(cluster) => {
                    settled += 1;
                    let cluster = format!("dlq-{cluster}");
                    let subject = Subject::DeadLetter { group: "payment".to_owned(), cluster: cluster.clone() };
                    now = now.plus(Duration::from_micros(1));
                    // What was not told yet of a failure that is over is not told any more.
                    dropped += book.get(&subject).map_or(0, |live| live.count);
                    book.look(&letters(&cluster, 0, 1), now, now, &mut effects);
                    book.tick(now, &mut effects);
                }
                Step::Wait(seconds) => {
                    now = now.plus(Duration::from_secs(seconds.into()));
                    book.tick(now, &mut effects);
                }
            }
            for alert in effects.alerts {
                if alert.stage != Stage::Resolved {
                    told_letters += alert.count;
                }
                sent.entry(alert.subject).or_default().push((alert.stage, now));
            }
            let in_window = sent
                .iter()
                .filter(|(subject, _)| subject.starts_with("dead_letter"))
                .flat_map(|(_, messages)| messages)
                .filter(|(stage, when)| *stage != Stage::Resolved && now.since(*when) < WINDOW)
                .count();
            // A failure that is over makes room for another one within its window.
            prop_assert!(in_window <= 20 + settled, "{in_window}");
        }
        let waiting: u64 = book.alerts.values().map(|live| live.count).sum();
        prop_assert_eq!(recorded, told_letters + waiting + dropped);
        for (subject, messages) in sent {
            for pair in messages.windows(2) {
                let ((first, before), (second, after)) = (pair[0], pair[1]);
                match (first, second) {
                    (Stage::Resolved, Stage::Fired) => {}
                    (Stage::Fired | Stage::Repeated, Stage::Resolved) => {}
                    (Stage::Fired | Stage::Repeated, Stage::Repeated) => {
                        prop_assert!(after.since(before) >= WINDOW, "{subject}");
                    }
                    other => prop_assert!(false, "{subject}: {other:?}"),
                }
            }
        }
    }
}

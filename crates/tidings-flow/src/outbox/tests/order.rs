//! Order of keys under failures, against an oracle: the rows themselves.

use super::*;
use crate::fakes::Fault;
use crate::outbox::RelayPhase;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tidings_core::codes;

/// How often an event stands before an earlier one of its key, first occurrences only.
fn inversions(shop: &Shop, log: &[String]) -> usize {
    let tables = shop.store.lock();
    let mut newest: BTreeMap<String, u128> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut count = 0;
    for event in log {
        if !seen.insert(event) {
            continue;
        }
        let row = tables.rows.values().find(|row| {
            let content = row.row.content.as_ref();
            content.is_ok_and(|envelope| envelope.event_id() == event)
        });
        let row = &row.unwrap().row;
        let Some(key) = &row.key else { continue };
        let lane = format!("{} {key}", row.destination);
        let newest = newest.entry(lane).or_default();
        count += usize::from(row.id.0 < *newest);
        *newest = row.id.0.max(*newest);
    }
    count
}

#[tokio::test]
async fn two_relays_keep_the_order_of_twenty_keys_in_three_thousand_events() {
    let shop = Shop::new();
    for number in 0..3_000 {
        shop.store
            .insert(Some(&format!("key-{}", number * 7 % 20)), "");
    }
    let options = || RelayOptions {
        batch_rows: 50,
        ..RelayOptions::default()
    };
    let faults = [Fault::Full, Fault::LostAnswer, Fault::LostBatch];

    let mut first = Some(shop.relay(options()).start());
    let second = shop.relay(options()).start();
    let (mut step, mut failed_at) = (0, 0);
    while !shop.store.is_settled() {
        step += 1;
        let publishes = shop.broker.lock().publishes;
        if publishes >= failed_at + 6 {
            failed_at = publishes;
            shop.broker.fail_next([faults[publishes / 6 % 3]]);
        }
        if step == 20 {
            // Killed in the middle; the second takes over once the lease is over.
            first.take();
        }
        shop.pass(Duration::from_millis(5)).await;
        assert!(step < 20_000, "it comes to an end");
    }

    let log = shop.log();
    assert_eq!(second.phase(), RelayPhase::Relaying);
    assert!(log.len() >= 3_000);
    assert_eq!(inversions(&shop, &log), 0);
}

#[derive(Debug, Clone)]
enum Act {
    Insert(u8, u8),
    Pass(u16),
    Fault(u8),
    Poison(u8),
    Heal,
    Kill,
    DatabaseDown(bool),
    SettleLost,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_u8..4, 0_u8..2).prop_map(|(key, destination)| Act::Insert(key, destination)),
        4 => (1_u16..2_000).prop_map(Act::Pass),
        2 => (0_u8..4).prop_map(Act::Fault),
        1 => (0_u8..4).prop_map(Act::Poison),
        1 => Just(Act::Heal),
        1 => Just(Act::Kill),
        1 => any::<bool>().prop_map(Act::DatabaseDown),
        1 => Just(Act::SettleLost),
    ]
}

/// What the scripted destination does with events of each key.
#[derive(Default)]
struct Mood {
    poisoned: Option<String>,
    faults: Vec<u8>,
}

async fn play(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let shop = Shop::new();
    let mood: Arc<Mutex<Mood>> = Arc::default();
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let (answers, written) = (Arc::clone(&mood), Arc::clone(&log));
    let destination = Scripted::new(move |envelope| {
        let mut mood = answers.lock().unwrap();
        if mood.poisoned.as_deref() == envelope.aggregate_id() {
            return refused(ErrorClass::Permanent, codes::PUBLISH_REFUSED);
        }
        let write = || written.lock().unwrap().push(envelope.event_id().to_owned());
        let unclear = || {
            Err(PublishError::Ambiguous {
                reason: "x".to_owned(),
            })
        };
        match mood.faults.pop() {
            None => {
                write();
                accepted()
            }
            Some(0) => refused(ErrorClass::Transient, codes::DISK_FULL),
            Some(1) => refused(ErrorClass::Transient, codes::PUBLISH_REFUSED),
            Some(2) => unclear(),
            Some(_) => {
                write();
                unclear()
            }
        }
    });
    let start = || {
        shop.relay_to(
            destination.clone(),
            RelayOptions {
                batch_rows: 3,
                ..RelayOptions::default()
            },
        )
        .start()
    };
    let mut relay = start();
    for act in acts {
        match act {
            Act::Insert(key, destination) => {
                let key = (key > 0).then(|| format!("key-{key}"));
                shop.store
                    .insert(key.as_deref(), ["", "mails"][usize::from(destination)]);
            }
            Act::Pass(millis) => shop.pass(Duration::from_millis(u64::from(millis))).await,
            Act::Fault(fault) => mood.lock().unwrap().faults.push(fault),
            Act::Poison(key) => mood.lock().unwrap().poisoned = Some(format!("key-{key}")),
            Act::Heal => mood.lock().unwrap().poisoned = None,
            Act::Kill => relay = start(),
            Act::DatabaseDown(down) => shop.store.lock().down = down,
            Act::SettleLost => shop
                .store
                .lock()
                .settle_faults
                .push_back(store::StoreFault::AnswerLost),
        }
    }
    shop.store.lock().down = false;
    *mood.lock().unwrap() = Mood::default();
    // What stands behind a row that was given up waits for a person.
    let open = || {
        let tables = shop.store.lock();
        let dead: Vec<_> = tables
            .rows
            .values()
            .filter(|row| row.dead.is_some())
            .map(|row| (row.row.destination.clone(), row.row.key.clone()))
            .collect();
        tables
            .rows
            .values()
            .filter(|row| !row.sent && row.dead.is_none())
            .any(|row| {
                row.row.key.is_none()
                    || !dead.contains(&(row.row.destination.clone(), row.row.key.clone()))
            })
    };
    shop.until("everything that may be sent is sent", || !open())
        .await;
    drop(relay);
    let log = log.lock().unwrap().clone();
    prop_assert_eq!(inversions(&shop, &log), 0);
    let tables = shop.store.lock();
    for row in tables.rows.values() {
        let sent = row
            .row
            .content
            .as_ref()
            .is_ok_and(|envelope| log.iter().any(|id| id == envelope.event_id()));
        prop_assert!(
            !row.sent || sent,
            "{} is settled and was never accepted",
            row.row.id
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn nothing_is_lost_and_no_key_is_out_of_order_whatever_happens(acts in proptest::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(acts))?;
    }
}

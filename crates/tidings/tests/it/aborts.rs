//! A handler ends the process, as a library that aborts does: in real processes, started again and again until one lives.
//!
//! What another process finds in between shows that each attempt was noted before it was risked.

use crate::shop::{OrderPlaced, Shop};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tidings::core::DedupeKey;
use tidings::core::store::{DeadLetterStore as _, FailureStore as _, LetterFilter, LetterStatus};
use tidings::core::store::{Letter, Operator};
use tidings::flow::runtime::SystemClock;
use tidings::prelude::*;
use tidings::sql::Failures;

const GROUP: &str = "billing";
const KEYS: usize = 6;
const ORDERS_OF_A_KEY: u32 = 5;
/// The order that ends the process.
const POISON: (&str, u32) = ("order-3", 3);
const ATTEMPTS: u32 = 3;
/// Names the folder to the process that aborts.
const FOLDER: &str = "TIDINGS_TEST_ABORTING_CONSUMER";
const SIGABRT: i32 = 6;
/// A process that takes longer hangs, and says so by how it ends.
const LIFE_MAX: Duration = Duration::from_secs(60);

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is how this process learns that it is the one that aborts"
)]
fn folder_of_the_aborting() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// One line, in one write: what was written is there when the process aborts in the next moment.
fn write_line(file: &Path, line: &str) {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

async fn bill(order: OrderPlaced, event: Metadata, State(folder): State<PathBuf>) {
    let (id, number) = (order.order_id.as_str(), order.quantity);
    if (id, number) == POISON {
        write_line(&folder.join("risked"), &event.attempt.to_string());
        std::process::abort();
    }
    write_line(&folder.join("handled"), &format!("{id} {number}"));
}

/// What the process does that aborts: it consumes until nothing is left that can be handled.
async fn consume(folder: &Path) {
    let consuming = async {
        let tidings = Tidings::open(folder).await.unwrap();
        let consumer = tidings.consumer(GROUP).parallel(4).attempts(ATTEMPTS);
        let consumer = consumer.state(folder.to_owned()).on(bill);
        consumer.start().await.unwrap().wait_idle().await.unwrap();
        tidings.drain().await.unwrap();
    };
    tokio::time::timeout(LIFE_MAX, consuming).await.unwrap();
}

fn run_process(folder: &Path) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "aborts::an_event_that_aborts_the_process_is_given_up_and_costs_no_other_event_anything",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

/// What handlers did, each order as often as it was handled.
fn handled(folder: &Path) -> BTreeMap<String, Vec<u32>> {
    let mut of_keys = BTreeMap::<String, Vec<u32>>::new();
    for line in fs::read_to_string(folder.join("handled")).unwrap().lines() {
        let (id, number) = line.split_once(' ').unwrap();
        let of_key = of_keys.entry(id.to_owned()).or_default();
        of_key.push(number.parse().unwrap());
    }
    of_keys
}

/// The numbers in the order in which each was handled first. A process that ended before it could settle handles again what it had handled, from there on in order.
fn in_order(of_key: &[u32]) -> Vec<u32> {
    let mut first_times: Vec<u32> = Vec::new();
    for number in of_key {
        if !first_times.contains(number) {
            first_times.push(*number);
        }
    }
    first_times
}

async fn publish(shop: &Shop) -> DedupeKey {
    let tidings = shop.open().await;
    let mut poison = None;
    for quantity in 1..=ORDERS_OF_A_KEY {
        for key in 1..=KEYS {
            let order_id = format!("order-{key}");
            let is_poison = (order_id.as_str(), quantity) == POISON;
            let order = OrderPlaced { order_id, quantity };
            let published = tidings.publish(order).await.unwrap();
            if is_poison {
                poison = Some(published.event_id);
            }
        }
    }
    let poison = tidings.find(&poison.unwrap()).await.unwrap().unwrap();
    tidings.shutdown().await.unwrap();
    DedupeKey::of(&poison.envelope)
}

async fn failures(shop: &Shop) -> Failures {
    let database = tidings::state_database(shop.path()).await.unwrap();
    Failures::open(&database).await.unwrap()
}

async fn letters(failures: &Failures) -> Vec<Letter> {
    let all = LetterFilter {
        statuses: LetterStatus::ALL.to_vec(),
        ..LetterFilter::default()
    };
    failures.letters(&all, i64::MIN, 10).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_aborts_the_process_is_given_up_and_costs_no_other_event_anything() {
    if let Some(folder) = folder_of_the_aborting() {
        return consume(&folder).await;
    }
    let shop = Shop::new();
    let poison = publish(&shop).await;
    let (_, poison_number) = POISON;
    let whole: Vec<u32> = (1..=ORDERS_OF_A_KEY).collect();

    // The first process that aborts suspects nothing; each of the others has noted its attempt before.
    for aborted in 0..=ATTEMPTS {
        let ended = run_process(&shop.path());
        assert_eq!(ended.signal(), Some(SIGABRT), "{ended} after {aborted}");
        let failures = failures(&shop).await;
        let noted = failures.state(GROUP).await.unwrap().attempts;
        assert_eq!(noted.get(&poison).copied().unwrap_or(0), aborted);
        assert!(letters(&failures).await.is_empty(), "it has attempts left");
    }
    let ended = run_process(&shop.path());

    assert!(ended.success(), "{ended}");
    let risked = fs::read_to_string(shop.path().join("risked")).unwrap();
    assert_eq!(risked.lines().collect::<Vec<_>>(), ["1", "1", "2", "3"]);
    let failures = failures(&shop).await;
    let given_up = letters(&failures).await;
    let told = given_up.iter().map(|letter| {
        let event = DedupeKey::of(&letter.envelope);
        (event, letter.cause.as_str(), letter.attempts, letter.holds)
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(poison, "crash", ATTEMPTS, true)]
    );
    let state = failures.state(GROUP).await.unwrap();
    assert!(state.attempts.is_empty(), "{:?}", state.attempts);
    for (key, numbers) in handled(&shop.path()) {
        let before_the_poison = &whole[..poison_number as usize - 1];
        let expected = if key == POISON.0 {
            before_the_poison
        } else {
            &whole
        };
        assert_eq!(in_order(&numbers), expected, "{key}: {numbers:?}");
    }

    // What waits behind it goes on once a person has decided.
    let operator = Operator {
        actor: "test".to_owned(),
        reason: "it ends the process".to_owned(),
    };
    let all = LetterFilter::default();
    tidings::dead_letter::discard(&failures, &all, false, &operator, &SystemClock::new())
        .await
        .unwrap();
    let ended = run_process(&shop.path());

    assert!(ended.success(), "{ended}");
    let mut but_the_poison = whole.clone();
    but_the_poison.retain(|number| *number != poison_number);
    let all_handled = handled(&shop.path());
    assert_eq!(all_handled.len(), KEYS);
    for (key, numbers) in all_handled {
        let is_poisoned = key == POISON.0;
        let expected = if is_poisoned { &but_the_poison } else { &whole };
        assert_eq!(&in_order(&numbers), expected, "{key}: {numbers:?}");
    }
}

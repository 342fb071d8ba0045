//! An event that ends the process that handles it: E13.

use super::child::{Child, Part, tell};
use super::consumer::{keeping, start};
use super::fixture::Sharing;
use super::ground::{END_MAX, Ground, event, number_of};
use super::killed_worker::{EVENTS_OF_KEY, KEYS, publish_for};
use super::parking::KEY;
use super::report::Verdict;
use super::stores::Store;
use super::witness::{Act, Witness};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::limits::CRASHES_MAX;
use tidings_core::store::{DeathCause, LetterStatus};

/// The group of the workers.
const GROUP: &str = "e13";
/// Processes that may end with it: one that suspects nothing, one that suspects everything that comes again, and those that are counted.
const ENDS_MAX: u32 = CRASHES_MAX + 2;
/// How often the store is looked at while nothing is told.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// E13: each process that handles it ends, and after a few it is a dead letter that holds its key; whatever else is there is handled, each key in its order.
pub(super) async fn given_up(ground: Arc<Ground>) -> Verdict {
    if let Some(why) = ground.traits.in_process {
        return Verdict::Declared(why.to_owned());
    }
    let here = ground.elsewhere("e13").await;
    let verdict = walk(&here).await;
    here.fixture.remove(&here.address).await;
    verdict
}

async fn walk(ground: &Ground) -> Verdict {
    let store = match Store::fresh(ground, "e13", Sharing::OneInstance).await {
        Ok(store) => store,
        Err(declared) => return declared,
    };
    let is_ordered = publish_for(ground, GROUP).await;
    let group = ground.group(GROUP);
    let (mut done, mut ends) = (BTreeSet::new(), 0);
    loop {
        let mut worker = Child::start_with(ground, Part::Abort, &store.address);
        let began = ground.elapsed();
        let has_ended = loop {
            tokio::select! {
                line = worker.tells() => match line {
                    Some(line) => note(&mut done, &line, is_ordered),
                    None => break true,
                },
                () = tokio::time::sleep(LOOK_INTERVAL) => {
                    if done.len() == KEYS.len() * EVENTS_OF_KEY
                        && !store.letters(&group).await.is_empty()
                    {
                        break false;
                    }
                }
            }
            assert!(
                ground.elapsed() - began < ground.traits.takeover_max + END_MAX,
                "a worker that follows {ends} others is idle, and handled so far were {done:?}"
            );
        };
        if !has_ended {
            break;
        }
        ends += 1;
        assert!(
            ends <= ENDS_MAX,
            "{ends} processes ended with the same event, and it is not given up"
        );
    }
    assert!(
        ends >= CRASHES_MAX,
        "it was given up after {ends} processes"
    );
    let letter = store.until_letter(&group, "open", |_| true).await;
    assert_eq!(letter.envelope, event(KEY, 0));
    assert_eq!(letter.status, LetterStatus::Open);
    assert_eq!(letter.cause, DeathCause::Crash.as_str());
    store.until_parked(&group, KEY, 2).await;
    Verdict::Pass
}

/// Takes down what a worker has handled.
fn note(done: &mut BTreeSet<String>, line: &str, is_ordered: bool) {
    let (key, number) = line.split_once(' ').expect("a key and a number");
    let number: usize = number.parse().expect("a number");
    for earlier in 0..number {
        assert!(
            !is_ordered || done.contains(&format!("{key} {earlier}")),
            "{line} was handled before {earlier}"
        );
    }
    done.insert(line.to_owned());
}

/// What a worker does in its process.
pub(super) async fn work(ground: &Ground, address: &str) {
    let store = Store::open(ground, address).await;
    let broker = ground.connect().await;
    let witness = Witness::new();
    let _consumer = start(ground, || {
        let act: Act = Arc::new(|context| {
            Box::pin(async move {
                let key = context.envelope.key().unwrap_or_default();
                if key == KEY {
                    std::process::abort();
                }
                tell(&format!("{key} {}", number_of(&context.envelope)));
                Ok(())
            })
        });
        keeping(ground, (&broker, &store), GROUP, &[], (&witness, act))
    })
    .await;
    std::future::pending::<()>().await;
}

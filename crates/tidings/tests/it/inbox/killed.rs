//! A consumer process is killed with SIGKILL again and again, in the middle of its work; what it left is counted by another process.
//!
//! Some kills come between a commit and the moment when the broker is told: then the event comes again, and its inbox row is there.

use super::ledger::{Behaviour, Ledger};
use super::{ids, orders, publish, start};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tidings::Tidings;
use tidings::flow::consumer::{Notice, Observer};

const ORDERS: usize = 999;
const KILLS: u64 = 12;
/// Names the folder to the process that is killed.
const FOLDER: &str = "TIDINGS_TEST_KILLED_CONSUMER";

/// Says each event whose transaction is committed, so that the kill falls into the work.
struct Teller;

impl Observer for Teller {
    fn notice(&self, notice: Notice<'_>) {
        if let Notice::Handled { .. } = notice {
            println!("\nhandled");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is how this process learns that it is the one that is killed"
)]
fn folder_of_the_killed() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

fn consumer_process(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "inbox::killed::a_consumer_killed_at_any_moment_makes_every_effect_once",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the process does that is killed: it consumes until nothing is left.
async fn consume(folder: &Path) {
    let ledger = Ledger::shared(folder).await;
    let tidings = Tidings::open(folder.join("events")).await.unwrap();
    let consumer = tidings
        .consumer("billing")
        .parallel(4)
        .observer(Arc::new(Teller));
    let consumer = ledger.bill(consumer, Behaviour::default());
    consumer.start().await.unwrap().wait_idle().await.unwrap();
    tidings.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_killed_at_any_moment_makes_every_effect_once() {
    if let Some(folder) = folder_of_the_killed() {
        return consume(&folder).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ledger = Ledger::shared(path).await;
    let tidings = Tidings::open(path.join("events")).await.unwrap();
    publish(&tidings, &orders(ORDERS)).await;
    tidings.shutdown().await.unwrap();

    for kill in 0..KILLS {
        let mut child = consumer_process(path);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Another number of events each time, small ones as well.
        let events = 1 + (kill * 7 % 40) as usize;
        let handled = lines.map_while(Result::ok).filter(|line| line == "handled");
        assert_eq!(handled.take(events).count(), events, "kill {kill}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let before = ledger.effects().await.len();
    assert!(before > KILLS as usize && before < ORDERS, "{before}");

    let tidings = Tidings::open(path.join("events")).await.unwrap();
    let consumer = start(&ledger, &tidings, Behaviour::default()).await;
    consumer.wait_idle().await.unwrap();

    assert_eq!(ledger.effects().await, ids(ORDERS));
    assert_eq!(ledger.outbox().await, ids(ORDERS));
    let stats = consumer.stats();
    assert_eq!(stats.handled as usize, ORDERS - before, "{stats:?}");
    assert_eq!(stats.dead_lettered, 0);
    tidings.drain().await.unwrap();
}

//! A writer is killed with SIGKILL at random moments, a quarter of them right after its start; a journal of acknowledgements outside is compared.
//!
//! What was acknowledged is there once, where its receipt says, in the order of its key; what was not may be there or not, but never twice.

use crate::command::{DEADLINE, Place, is_quick, tidings};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Keys of the events.
const KEYS: u64 = 7;
/// Kills of a full run, unless `TIDINGS_TEST_KILLS` says otherwise.
const KILLS: u64 = 100;

/// A small generator, so that a failure can be run again from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What one life of the writer acknowledged: event id and position, in the order of the receipts.
fn live(folder: &Path, round: u64, random: &mut Random) -> Vec<(String, u64)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command
        .args(["event", "import", "-", "-o", "jsonl", "--data"])
        .arg(folder);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let chunk = 1 + random.below(60);
    let feeding = std::thread::spawn(move || {
        for first in (0..200_000).step_by(chunk as usize) {
            let lines: String = (first..first + chunk)
                .map(|number| line(round, number))
                .collect();
            if stdin.write_all(lines.as_bytes()).is_err() {
                return;
            }
        }
    });
    let (sender, receipts) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let reading = std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            // A kill may cut the last receipt: it was not seen whole, so that it does not count.
            if let Ok(receipt) = serde_json::from_str::<Value>(&line) {
                sender
                    .send((
                        receipt["event_id"].as_str().unwrap().to_owned(),
                        receipt["position"].as_u64().unwrap(),
                    ))
                    .unwrap();
            }
        }
    });
    let mut seen = Vec::new();
    if random.below(4) == 0 {
        // Right after its start, in the middle of recovery.
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
    } else {
        // In the middle of its work, however long the machine takes to get it there.
        seen.extend(receipts.recv_timeout(DEADLINE));
        std::thread::sleep(Duration::from_micros(random.below(100_000)));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    feeding.join().unwrap();
    reading.join().unwrap();
    seen.extend(receipts);
    seen
}

fn line(round: u64, number: u64) -> String {
    format!(
        "{{\"event_id\":\"r{round}-{number}\",\"event_type\":\"order.placed\",\"aggregate_id\":\"key-{}\",\"payload\":{{\"n\":{number}}}}}\n",
        number % KEYS
    )
}

#[test]
fn kills_at_random_moments_lose_and_double_nothing_acknowledged() {
    let kills = std::env::var("TIDINGS_TEST_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(if is_quick() { 10 } else { KILLS });
    let seed = std::env::var("TIDINGS_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0x7464_6701);
    let mut random = Random(seed);
    let mut place = Place::new();
    let mut journal: HashMap<String, u64> = HashMap::new();
    let mut acknowledged = 0;

    for round in 0..kills {
        journal.extend(live(&place.data(), round, &mut random));
        if round % 50 == 49 || round + 1 == kills {
            check(&place.data(), &journal, seed);
            // A new folder now and then keeps long runs from filling the disk.
            acknowledged += journal.len();
            journal.clear();
            place = Place::new();
        }
    }
    println!(
        "{kills} kills (seed {seed}): {acknowledged} acknowledged, 0 lost, 0 doubled, 0 reordered"
    );
    assert!(
        acknowledged > 0,
        "no event was acknowledged: nothing is shown"
    );
}

fn check(folder: &Path, journal: &HashMap<String, u64>, seed: u64) {
    let answer = tidings(["event", "ls", "-o", "jsonl"]).data(folder).ok();
    let mut seen = HashSet::new();
    let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut found = 0;
    for row in answer.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let id = row["event_id"].as_str().unwrap();
        assert!(
            seen.insert(id.to_owned()),
            "seed {seed}: {id} is there twice"
        );
        if let Some(position) = journal.get(id) {
            assert_eq!(
                row["position"].as_u64(),
                Some(*position),
                "seed {seed}: {id} moved"
            );
            found += 1;
        }
        let (round, number) = id[1..].split_once('-').unwrap();
        let place = (round.parse().unwrap(), number.parse().unwrap());
        if let Some(before) = last.insert(row["aggregate_id"].as_str().unwrap().to_owned(), place) {
            assert!(before < place, "seed {seed}: {id} comes after {before:?}");
        }
    }
    assert_eq!(
        found,
        journal.len(),
        "seed {seed}: acknowledged events are lost"
    );
    // The folder takes further events without a hand.
    tidings(["emit", "order.checked"]).data(folder).ok();
}

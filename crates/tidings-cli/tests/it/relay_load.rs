//! A relay that is killed with SIGKILL again and again while pgbench writes plain SQL beside it. What pgbench committed is in a ledger of its own, written in the same transactions, which the log has to match.

use crate::command::{Place, Running, is_quick, tidings, until};
use crate::table::{Kind, Table};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Transactions a second: enough that every kill meets a relay at work.
const RATE: &str = "400";
/// Rows that a relay has to send before it is killed.
const SENT_BETWEEN_KILLS: i64 = 150;

/// One order and its event: the counter's row puts the writers of a key in order, one in ten transactions is taken back.
const SCRIPT: &str = r"\set key random(1, 30)
\set fate random(1, 10)
BEGIN;
UPDATE counter SET n = n + 1 WHERE key = :key RETURNING n \gset
INSERT INTO placed (key, n) VALUES (:key, :n);
INSERT INTO outbox (event_type, payload, created_at, sent, aggregate_id) VALUES ('order.placed', json_build_object('n', :n, 'fate', :fate), now(), false, 'order-' || :key);
\if :fate = 1
ROLLBACK;
\else
COMMIT;
\endif
";

/// A program beside the server's others, or on the path.
pub(crate) fn postgres_program(name: &str) -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin").join(name))
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions.extend(std::env::split_paths(&path).map(|folder| folder.join(name)));
    versions.into_iter().find(|program| program.is_file())
}

/// Writes until it is told to stop.
struct Load(Child);

impl Load {
    fn start(table: &Table, program: &Path, script: &Path) -> Self {
        let child = Command::new(program)
            .args([
                "--no-vacuum",
                "--client=4",
                "--time=600",
                "--rate",
                RATE,
                "--file",
            ])
            .arg(script)
            .arg(table.url())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn relay(table: &Table, place: &Place) -> Running {
    let command = table.command(["relay", "run", "--batch", "20", "--to"]);
    command.argument(place.data()).start()
}

#[test]
fn a_relay_killed_again_and_again_while_pgbench_writes_loses_and_invents_nothing() {
    if !cfg!(feature = "postgres") {
        return;
    }
    let Some(table) = Table::seed(Kind::Postgres, "pgbench") else {
        return;
    };
    let program = postgres_program("pgbench")
        .expect("pgbench comes with PostgreSQL: apt-get install postgresql");
    let place = Place::new();
    let script = place.write("order.sql", SCRIPT);
    table.run("CREATE TABLE counter (key INT PRIMARY KEY, n BIGINT NOT NULL); CREATE TABLE placed (key INT NOT NULL, n BIGINT NOT NULL)");
    table.run("INSERT INTO counter SELECT key, 0 FROM generate_series(1, 30) key");
    let load = Load::start(&table, &program, &script);

    let kills = if is_quick() { 2 } else { 5 };
    for _ in 0..kills {
        let running = relay(&table, &place);
        let before = table.sent();
        until("the relay works", || {
            table.sent() >= before + SENT_BETWEEN_KILLS
        });
        running.kill();
    }
    load.stop();
    table
        .command(["relay", "run", "--until-empty", "--to"])
        .argument(place.data())
        .ok();

    let committed = table.texts("SELECT 'order-' || key || ' ' || n FROM placed");
    let committed: HashSet<String> = committed.into_iter().collect();
    assert!(committed.len() as i64 > kills * SENT_BETWEEN_KILLS);
    let (arrived, doubles) = arrived(&place);
    let lost: Vec<&String> = committed
        .iter()
        .filter(|one| !arrived.contains(*one))
        .collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let invented: Vec<&String> = arrived
        .iter()
        .filter(|one| !committed.contains(*one))
        .collect();
    assert!(invented.is_empty(), "invented: {invented:?}");
    assert_eq!(table.sent(), committed.len() as i64);
    eprintln!(
        "{} orders committed, {kills} kills, {doubles} doubles",
        committed.len()
    );
}

/// What is in the log: orders in the order of their keys, and how many came twice, under the id of the first.
fn arrived(place: &Place) -> (HashSet<String>, u64) {
    let exported = tidings(["event", "export"]).data(&place.data()).ok();
    let mut ids: HashMap<String, String> = HashMap::new();
    let mut orders = HashSet::new();
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut doubles = 0;
    for line in exported.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let key = event["aggregate_id"].as_str().unwrap().to_owned();
        let id = event["event_id"].as_str().unwrap().to_owned();
        let n = event["payload"]["n"].as_u64().unwrap();
        assert_ne!(
            event["payload"]["fate"], 1,
            "of a transaction that was taken back: {line}"
        );
        let order = format!("{key} {n}");
        if !orders.insert(order.clone()) {
            assert_eq!(
                ids.get(&order),
                Some(&id),
                "a double under another id: {line}"
            );
            doubles += 1;
            continue;
        }
        ids.insert(order, id);
        let before = last.insert(key, n).unwrap_or_default();
        assert_eq!(n, before + 1, "out of order: {line}");
    }
    (orders, doubles)
}

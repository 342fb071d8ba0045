//! What happens around a relay: it is stopped for longer than its lease and goes on, its database server dies under it, its connections are forgotten by whatever lies between.

use crate::command::{Place, Running, tidings, until};
use crate::own_server::OwnServer;
use crate::table::{Kind, Table, kinds};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidings_testkit::proxy::FaultProxy;

/// How long a stopped process is listened to, for what it had said before.
const QUIET: Duration = Duration::from_millis(300);
/// Of the servers that are killed here.
const PORT_SHIFT: u16 = 30;

/// Servers with several clients; a stopped process that holds the lock of a SQLite file stops everybody.
fn servers() -> impl Iterator<Item = Kind> {
    kinds().into_iter().filter(|kind| *kind != Kind::Sqlite)
}

/// Everything that arrived, in the order in which it did.
#[derive(Clone, Default)]
pub(crate) struct Arrived(Arc<Mutex<Vec<(String, String, u64)>>>);

impl Arrived {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Events that arrived once or more often.
    fn different(&self) -> usize {
        let arrived = self.0.lock().unwrap();
        let ids: HashSet<&str> = arrived.iter().map(|(_, id, _)| id.as_str()).collect();
        ids.len()
    }

    fn add(&self, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        let n = event["payload"]["n"].as_u64().unwrap();
        let arrived = (text("aggregate_id"), text("event_id"), n);
        self.0.lock().unwrap().push(arrived);
    }

    /// Hears a relay to its end.
    fn hear(&self, stdout: std::process::ChildStdout) {
        let arrived = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // A line that a kill cut off is not one.
                if let Ok(event) = serde_json::from_str::<Value>(&line) {
                    arrived.add(&event);
                }
            }
        });
    }

    pub(crate) fn of_folder(place: &Place) -> Self {
        let arrived = Self::default();
        let exported = tidings(["event", "export"]).data(&place.data()).ok();
        for line in exported.lines() {
            arrived.add(&serde_json::from_str(line).unwrap());
        }
        arrived
    }

    /// Each event of each key is there, first in the order of its key, doubles under the first id; answers how many came twice.
    pub(crate) fn assert_whole(&self, keys: usize, each: u64) -> usize {
        let arrived = self.0.lock().unwrap();
        let mut ids = HashMap::new();
        let mut last: HashMap<&str, u64> = HashMap::new();
        for (key, id, n) in arrived.iter() {
            if let Some(first) = ids.insert((key.as_str(), *n), id) {
                assert_eq!(first, id, "a double of {key} {n} has another id");
                continue;
            }
            let expected = last.get(key.as_str()).map_or(0, |last| last + 1);
            assert_eq!(*n, expected, "{key} is out of order");
            last.insert(key, *n);
        }
        assert_eq!(last.len(), keys);
        assert!(
            last.values().all(|last| last + 1 == each),
            "events are lost: {last:?}"
        );
        arrived.len() - ids.len()
    }
}

fn to_stdout(table: &Table, arrived: &Arrived) -> Running {
    let command = table.command(["relay", "run", "--batch", "20", "--to", "-"]);
    let mut running = command.start();
    arrived.hear(running.take_stdout());
    running
}

fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_raw(running.id() as i32).unwrap(), signal).unwrap();
}

/// Stops a process, and waits until nothing that it said before is under way any more.
fn stop(running: &Running, arrived: &Arrived) {
    signal(running, Signal::STOP);
    let (mut heard, mut since) = (arrived.count(), Instant::now());
    until("it is silent", || {
        if arrived.count() != heard {
            (heard, since) = (arrived.count(), Instant::now());
        }
        since.elapsed() > QUIET
    });
}

#[test]
fn a_relay_that_was_stopped_beyond_its_lease_sends_nothing_out_of_order_when_it_goes_on() {
    const KEYS: u64 = 10;
    for kind in servers() {
        let Some(table) = Table::seed(kind, "stopped") else {
            continue;
        };
        let arrived = Arrived::default();
        // Both are there before there is work: a process takes its time to start, and a lease ends.
        let first = to_stdout(&table, &arrived);
        first.heard("relay ready");
        let second = to_stdout(&table, &arrived);
        second.heard("relays this shard");
        table.place_orders(KEYS, 400);
        until("the first works", || arrived.count() > 100);
        stop(&first, &arrived);
        let (before, marked) = (arrived.count(), table.sent());
        assert!(before < 4_000, "it was stopped in the middle");

        until("the second works", || arrived.count() > before + 200);
        signal(&first, Signal::CONT);
        first.heard("lease was lost");
        until("all are marked", || table.sent() == 4_000);
        // What was said is heard a little later.
        until("all are heard", || arrived.different() == 4_000);

        let doubles = arrived.assert_whole(KEYS as usize, 400);
        // What the first had sent and could not mark, and no more.
        assert!(
            doubles <= before - marked as usize + 20,
            "{doubles} came twice"
        );
    }
}

#[test]
fn connections_that_were_forgotten_without_a_word_are_given_up_and_the_relay_goes_on() {
    // At the same time, because each waits for answers that do not come.
    std::thread::scope(|scope| {
        for kind in servers() {
            scope.spawn(move || goes_on_without_its_connections(kind));
        }
    });
}

fn goes_on_without_its_connections(kind: Kind) {
    let Some(table) = Table::seed(kind, "forgotten") else {
        return;
    };
    let network = FaultProxy::start(table.address()).unwrap();
    let arrived = Arrived::default();
    table.place_orders(5, 100);
    let mut running = table
        .command(["relay", "run", "--batch", "20", "--to", "-"])
        .variable("TIDINGS_RELAY_FROM", network.in_place_of(table.url()))
        .start();
    arrived.hear(running.take_stdout());
    until("it works", || arrived.count() > 50);

    network.strand();
    until("all are marked", || table.sent() == 500);

    arrived.assert_whole(5, 100);
}

#[test]
fn a_database_server_that_is_killed_and_comes_back_is_relayed_on_by_the_same_process() {
    for kind in servers() {
        if crate::table::is_left_out(kind) {
            continue;
        }
        let name = match kind {
            Kind::Postgres => "postgres",
            Kind::MariaDb => "mariadb",
            Kind::Sqlite => unreachable!("a file has no server"),
        };
        let server = OwnServer::start(name, PORT_SHIFT);
        let table = Table::seed_at(kind, server.url());
        let place = Place::new();
        table.place_orders(10, 200);
        let running = table
            .command(["relay", "run", "--batch", "5", "--to"])
            .argument(place.data())
            .start();
        until("it works", || table.sent() > 100);

        server.kill();
        running.heard("warning:");
        server.up();
        until("all are marked", || table.sent_if_known() == Some(2_000));

        drop(running);
        Arrived::of_folder(&place).assert_whole(10, 200);
    }
}

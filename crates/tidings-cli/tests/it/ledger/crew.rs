//! The processes of the ledger and what happens to them: killed with SIGKILL, cut off, held up; by chance, and by the seed again.

use super::books::{Progress, assert_no_violation};
use super::roles::{Bug, Orders, Role};
use crate::command::{Running, until};
use crate::table::{Kind, Table};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tidings_testkit::proxy::{Direction, FaultProxy};

const PRODUCERS: u64 = 3;
const RELAYS: usize = 2;
const CONSUMERS: usize = 2;
/// How long nothing may move; a lease is over in five seconds, a machine is busy.
const STALL: Duration = Duration::from_secs(120);
/// How long a fault of the network lasts, at most.
const FAULT: Duration = Duration::from_millis(150);

/// The producers, relays and consumers of one ledger.
pub(super) struct Crew<'a> {
    table: &'a Table,
    folder: PathBuf,
    rng: Rng,
    /// The name of the test, which the processes are started by.
    test: &'static str,
    transfers: u64,
    bug: Option<Bug>,
    /// Between the database and producers, relays and consumers; none for a file.
    networks: Vec<FaultProxy>,
    producers: Vec<Option<Child>>,
    relays: Vec<Running>,
    consumers: Vec<Child>,
    pub(super) done: BTreeMap<&'static str, u64>,
}

impl<'a> Crew<'a> {
    pub(super) fn start(
        table: &'a Table,
        folder: &Path,
        test: &'static str,
        transfers: u64,
        seed: u64,
        bug: Option<Bug>,
    ) -> Self {
        let networks = match table.kind {
            Kind::Sqlite => Vec::new(),
            Kind::Postgres | Kind::MariaDb => {
                let network = || FaultProxy::start(table.address()).unwrap();
                vec![network(), network(), network()]
            }
        };
        let mut crew = Self {
            table,
            folder: folder.to_owned(),
            rng: Rng::with_seed(seed),
            test,
            transfers,
            bug,
            networks,
            producers: Vec::new(),
            relays: Vec::new(),
            consumers: Vec::new(),
            done: BTreeMap::new(),
        };
        for number in 0..PRODUCERS {
            let producer = crew.producer(number);
            crew.producers.push(Some(producer));
        }
        for _ in 0..RELAYS {
            let relay = crew.relay();
            crew.relays.push(relay);
        }
        for _ in 0..CONSUMERS {
            let consumer = crew.role(Role::Consumer);
            crew.consumers.push(consumer);
        }
        crew
    }

    fn url(&self, network: usize) -> String {
        let url = self.table.url();
        let through = |network: &FaultProxy| network.in_place_of(url);
        self.networks.get(network).map_or(url.to_owned(), through)
    }

    fn producer(&mut self, number: u64) -> Child {
        self.role(Role::Producer(number))
    }

    fn role(&mut self, role: Role) -> Child {
        let network = match role {
            Role::Producer(_) => 0,
            Role::Consumer | Role::LastConsumer => 2,
        };
        let share = |number| (self.transfers + PRODUCERS - 1 - number) / PRODUCERS;
        let orders = Orders {
            role,
            url: self.url(network),
            folder: self.folder.clone(),
            seed: self.rng.u64(..),
            count: match role {
                Role::Producer(number) => share(number),
                Role::Consumer | Role::LastConsumer => 0,
            },
            bug: self.bug,
        };
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", self.test, "--nocapture"])
            .envs(orders.variables())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log(role))
            .spawn()
            .unwrap()
    }

    /// What the processes say is kept beside the folder, for who looks into a failure.
    fn log(&self, role: Role) -> std::fs::File {
        let path = self.folder.with_file_name(format!("{role:?}.log"));
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path);
        file.unwrap()
    }

    fn relay(&mut self) -> Running {
        self.table
            .command(["relay", "run", "--to"])
            .argument(&self.folder)
            .variable("TIDINGS_RELAY_FROM", self.url(1))
            .start()
    }

    /// Lets the crew work, with so many faults on the way, until every transfer has gone all the way.
    pub(super) fn work(&mut self, faults: u64, deadline: Duration) {
        let end = Instant::now() + deadline;
        // Half of them while producers work, half while the rest catches up: producers are fast.
        let (mut early, mut late) = (0, 0);
        let (transfers, half) = (self.transfers, faults / 2);
        let due = |done: u64, of: u64| match done {
            all if all == of => u64::MAX,
            done => transfers * (done + 1) / (of + 1),
        };
        while early + late < faults {
            let (next_early, next_late) = (due(early, half), due(late, faults - half));
            let reached = self.work_until(end, |progress| {
                progress.committed >= next_early || progress.audited >= next_late
            });
            if reached.committed >= next_early {
                early += 1;
            } else {
                late += 1;
            }
            self.trouble(early + late);
        }
        self.heal();
        self.work_until(end, |progress| progress.audited >= transfers);
        assert!(self.producers.iter().all(Option::is_none), "producers end");
    }

    /// Waits for a step of the work; whoever ended by itself meanwhile is started again, as a supervisor does.
    fn work_until(&mut self, end: Instant, reached: impl Fn(Progress) -> bool) -> Progress {
        let (mut before, mut since) = (Progress::of(self.table), Instant::now());
        loop {
            let progress = Progress::of(self.table);
            self.look_after();
            assert_no_violation(self.table);
            if reached(progress) {
                return progress;
            }
            let now = Instant::now();
            if progress != before {
                (before, since) = (progress, now);
            }
            let (transfers, done) = (self.transfers, &self.done);
            assert!(
                now < since + STALL,
                "nothing moves: {progress:?} of {transfers}, {done:?}"
            );
            assert!(
                now < end,
                "not in time: {progress:?} of {transfers}, {done:?}"
            );
            std::thread::sleep(Duration::from_millis(40));
        }
    }

    fn look_after(&mut self) {
        for number in 0..self.producers.len() {
            let Some(child) = &mut self.producers[number] else {
                continue;
            };
            match child.try_wait().unwrap() {
                None => {}
                Some(status) if status.success() => self.producers[number] = None,
                Some(_) => {
                    self.count("producers that failed");
                    self.producers[number] = Some(self.producer(number as u64));
                }
            }
        }
        for at in 0..self.relays.len() {
            if self.relays[at].has_ended() {
                self.count("relays that failed");
                self.relays[at] = self.relay();
            }
        }
        for at in 0..self.consumers.len() {
            if self.consumers[at].try_wait().unwrap().is_some() {
                self.count("consumers that failed");
                self.consumers[at] = self.role(Role::Consumer);
            }
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    /// One fault. A relay is killed seldom, because a lease has to run out each time.
    fn trouble(&mut self, number: u64) {
        match self.rng.u8(0..10) {
            _ if number % 13 == 5 => self.kill_relay(),
            0..3 => self.kill_producer(),
            3..5 => self.kill_consumer(),
            _ if !self.networks.is_empty() => self.disturb(),
            5..8 => self.kill_producer(),
            _ => self.kill_consumer(),
        }
    }

    fn kill_producer(&mut self) {
        let number = self.rng.u64(0..PRODUCERS);
        if let Some(mut child) = self.producers[number as usize].take() {
            end(&mut child);
            self.producers[number as usize] = Some(self.producer(number));
            self.count("producers killed");
        }
    }

    fn kill_consumer(&mut self) {
        let at = self.rng.usize(0..CONSUMERS);
        end(&mut self.consumers[at]);
        self.consumers[at] = self.role(Role::Consumer);
        self.count("consumers killed");
    }

    fn kill_relay(&mut self) {
        let at = self.rng.usize(0..RELAYS);
        let next = self.relay();
        std::mem::replace(&mut self.relays[at], next).kill();
        self.count("relays killed");
    }

    fn disturb(&mut self) {
        let kind = self.rng.u8(0..6);
        let network = &self.networks[self.rng.usize(0..3)];
        let before = network.figures();
        let mut lasts = true;
        let what = match kind {
            0 => {
                network.cut();
                lasts = false;
                "connections cut"
            }
            1 => {
                network.half_open();
                "half open"
            }
            2 => {
                network.swallow(Direction::ToClient);
                "answers lost"
            }
            3 => {
                network.freeze();
                "frozen"
            }
            4 => {
                network.down();
                "down"
            }
            _ => {
                network.delay(Direction::ToServer, Duration::from_millis(10));
                network.limit(Direction::ToClient, NonZeroU64::new(20_000).unwrap());
                "slow"
            }
        };
        let end = Instant::now() + FAULT;
        // Long enough to meet somebody, where somebody works.
        while lasts && Instant::now() < end {
            let now = network.figures();
            if now.bytes_swallowed > before.bytes_swallowed + 1_000 {
                break;
            }
            std::thread::yield_now();
            std::thread::sleep(Duration::from_millis(1));
        }
        network.heal();
        self.count(what);
    }

    fn heal(&self) {
        for network in &self.networks {
            network.heal();
        }
    }

    /// Ends everybody, and lets a relay and a consumer without faults find out whether anything is left. Answers what the consumer said.
    pub(super) fn finish(mut self) -> BTreeMap<&'static str, u64> {
        let table = self.table;
        until("the outbox is empty", || {
            self.look_after();
            table.number("SELECT COUNT(*) FROM outbox") == 0
        });
        for relay in self.relays.drain(..) {
            relay.kill();
        }
        for child in &mut self.consumers {
            end(child);
        }
        self.consumers.clear();
        for network in &self.networks {
            let figures = network.figures();
            *self.done.entry("connections that were cut").or_default() += figures.cut;
            *self.done.entry("bytes that were lost").or_default() += figures.bytes_swallowed;
        }
        let mut last = self.role(Role::LastConsumer);
        assert!(
            last.wait().unwrap().success(),
            "the last consumer finds nothing wrong"
        );
        table
            .command(["relay", "run", "--until-empty", "--to"])
            .argument(&self.folder)
            .ok();
        std::mem::take(&mut self.done)
    }
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        for child in self
            .producers
            .iter_mut()
            .flatten()
            .chain(&mut self.consumers)
        {
            // They may have ended already.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

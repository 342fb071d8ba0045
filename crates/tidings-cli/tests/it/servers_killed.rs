//! Events fail, are tried later, given up and handed back, while the server of the store, the server of the broker and the instances of the group are killed by chance. `TIDINGS_TEST_SEED` repeats what a failure
//! printed, `TIDINGS_TEST_QUICK` lowers the number of faults.

use crate::command::{Running, is_quick, tidings, until};
use crate::effects::{self, Application, GROUP, Publisher, Way};
use crate::own_server::OwnServer;
use crate::table::{Kind, Table, is_left_out};
use fastrand::Rng;
use std::cell::Cell;
use std::collections::BTreeMap;

const LANES: usize = 8;
/// So many more effects are seen between two faults.
const EFFECTS_BETWEEN_FAULTS: u64 = 2 * LANES as u64;
/// Looks at the books between two redrives.
const LOOKS_BETWEEN_REDRIVES: u32 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Store,
    Broker,
    /// Both servers are gone at the same time.
    StoreAndBroker,
    Instance,
    /// An instance ends while it cannot tell the store.
    StoreAndInstance,
}

impl Fault {
    /// Each kind, some several times, in an order of chance.
    fn plan(rng: &mut Rng) -> Vec<Self> {
        let times = if is_quick() { 1 } else { 2 };
        let kinds = [
            (Self::Store, times),
            (Self::Broker, 1),
            (Self::StoreAndBroker, 1),
            (Self::Instance, 2 * times),
            (Self::StoreAndInstance, times),
        ];
        let mut plan: Vec<Self> = kinds
            .into_iter()
            .flat_map(|(kind, times)| std::iter::repeat_n(kind, times))
            .collect();
        rng.shuffle(&mut plan);
        plan
    }
}

/// How the broker's server is brought down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fall {
    Killed,
    /// A quorum queue of a single node that was killed may stay without a leader until the server is restarted.
    InGoodOrder,
}

struct Stage {
    store: OwnServer,
    broker: OwnServer,
    fall: Fall,
    books: Table,
    application: Application,
    publisher: Publisher,
    instances: Vec<Running>,
    started: usize,
    rng: Rng,
    done: BTreeMap<Fault, u32>,
    looks: Cell<u32>,
}

impl Stage {
    fn new(
        test: &'static str,
        name: &'static str,
        shift: u16,
        parameters: &str,
        fall: Fall,
    ) -> Self {
        let given = std::env::var("TIDINGS_TEST_SEED").ok();
        let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
        eprintln!("{test}: TIDINGS_TEST_SEED={seed}");
        let store = OwnServer::start("postgres", shift);
        let broker = OwnServer::start(name, shift);
        let books = Table::at(Kind::Postgres, store.url());
        effects::open(&books, LANES);
        let url = format!("{}?{parameters}", broker.url());
        let mut stage = Self {
            application: Application {
                test,
                broker: url.clone(),
                way: Way::Failing,
                bug: None,
                single_instance: name == "nats",
            },
            publisher: Publisher::start(&url, LANES),
            store,
            broker,
            fall,
            books,
            instances: Vec::new(),
            started: 0,
            rng: Rng::with_seed(seed),
            done: BTreeMap::new(),
            looks: Cell::new(0),
        };
        stage.start();
        while stage.instances[0].line().expect("it gets ready") != "ready" {}
        if !stage.application.single_instance {
            stage.start();
        }
        stage
    }

    fn start(&mut self) {
        self.started += 1;
        let name = format!("w{}", self.started);
        self.instances
            .push(self.application.start(&self.books, &name));
    }

    /// Hands everything back that was given up, now and then.
    fn redrive(&self) {
        self.looks.set(self.looks.get() + 1);
        if !self.looks.get().is_multiple_of(LOOKS_BETWEEN_REDRIVES) {
            return;
        }
        let redrive = ["dlq", "redrive", "--all", "--force", "--yes", "--store"];
        let answer = tidings(redrive).argument(self.books.url()).run();
        // There may be none.
        assert!(matches!(answer.code, Some(0 | 3)), "{}", answer.stderr);
    }

    /// Waits until there are so many more effects, while more is published, and nobody found anything wrong.
    fn go_on(&self, more: u64) {
        let wanted = effects::effects(&self.books) + more;
        until(&format!("there are {more} more effects"), || {
            effects::feed(&self.books, &self.publisher);
            self.has_effects(wanted)
        });
    }

    fn has_effects(&self, wanted: u64) -> bool {
        self.redrive();
        assert_eq!(effects::violations(&self.books), Vec::<String>::new());
        effects::effects(&self.books) >= wanted
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Store => self.store.kill(),
            Fault::Broker => self.bring_down_broker(),
            Fault::StoreAndBroker => {
                self.store.kill();
                self.bring_down_broker();
            }
            Fault::Instance => self.kill_instance(),
            Fault::StoreAndInstance => {
                self.store.kill();
                self.kill_instance();
            }
        }
        self.store.up();
        self.broker.up();
        *self.done.entry(fault).or_default() += 1;
    }

    fn bring_down_broker(&self) {
        match self.fall {
            Fall::Killed => self.broker.kill(),
            Fall::InGoodOrder => self.broker.restart(),
        }
    }

    fn kill_instance(&mut self) {
        let at = self.rng.usize(..self.instances.len());
        self.instances.remove(at).kill();
        self.start();
    }

    /// Nobody ends for what happens to servers.
    fn assert_alive(&mut self) {
        for instance in &mut self.instances {
            assert!(!instance.has_ended(), "it ended: {}", instance.said());
        }
    }

    fn run(&mut self) {
        let mut rng = self.rng.fork();
        for fault in Fault::plan(&mut rng) {
            let more = rng.u64(1..=EFFECTS_BETWEEN_FAULTS);
            self.go_on(more);
            self.fault(fault);
        }
        self.go_on(EFFECTS_BETWEEN_FAULTS);
        self.publisher.silence();
        let wanted = self.publisher.accepted() * LANES as u64;
        until("everything has its effect", || self.has_effects(wanted));
        self.assert_alive();
    }

    fn assert_exact(&self) {
        let parked = "SELECT COUNT(*) FROM tidings_parked";
        let undecided = "SELECT COUNT(*) FROM tidings_dead_letter WHERE status <> 'resolved'";
        until("nothing waits any more", || {
            self.redrive();
            self.books.number(parked) == 0 && self.books.number(undecided) == 0
        });
        let accepted = self.publisher.accepted();
        effects::assert_exact(&self.books, &[accepted; LANES]);
        let twice =
            "SELECT event_id FROM tidings_dead_letter GROUP BY event_id HAVING COUNT(*) > 1";
        assert_eq!(
            self.books.texts(twice),
            Vec::<String>::new(),
            "one row for each"
        );
        effects::assert_poison_was_given_up(&self.books, accepted, LANES);
        effects::assert_attempts_grow(&self.books);
        let letters = self
            .books
            .number("SELECT COUNT(*) FROM tidings_dead_letter");
        let attempts = self.books.number("SELECT COUNT(*) FROM attempt");
        let (group, started) = (GROUP, self.started);
        eprintln!(
            "{group}: {accepted} events of each key, {attempts} attempts, {letters} dead letters, {started} instances, {:?}",
            self.done
        );
    }
}

fn failing_on(test: &'static str, name: &'static str, shift: u16, parameters: &str, fall: Fall) {
    if effects::is_played() {
        return;
    }
    let without = std::env::var("TIDINGS_TEST_WITHOUT").unwrap_or_default();
    if is_left_out(Kind::Postgres) || without.split(',').any(|one| one.trim() == name) {
        eprintln!(
            "SKIPPED: {test} needs postgres and {name}, one of which TIDINGS_TEST_WITHOUT leaves out"
        );
        return;
    }
    let _one = effects::one_at_a_time();
    let mut stage = Stage::new(test, name, shift, parameters, fall);
    stage.run();
    stage.assert_exact();
}

#[test]
fn failures_are_exact_on_kafka_whoever_is_killed() {
    let test = "servers_killed::failures_are_exact_on_kafka_whoever_is_killed";
    failing_on(test, "kafka", 40, "session_timeout=6", Fall::Killed);
}

#[test]
fn failures_are_exact_on_rabbitmq_whoever_is_killed() {
    let test = "servers_killed::failures_are_exact_on_rabbitmq_whoever_is_killed";
    failing_on(test, "rabbitmq", 50, "exchange=events", Fall::InGoodOrder);
}

#[test]
fn failures_are_exact_on_nats_whoever_is_killed() {
    let test = "servers_killed::failures_are_exact_on_nats_whoever_is_killed";
    failing_on(test, "nats", 60, "ack_wait=2", Fall::Killed);
}

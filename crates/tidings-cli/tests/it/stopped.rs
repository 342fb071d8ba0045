//! An instance of a group that is stopped in the middle of handlings for longer than its session, while events flow: another takes over, also what the first had begun, and the first has no late effect when it
//! goes on. `TIDINGS_TEST_QUICK` lowers the number of rounds.

use crate::brokers::{self, Broker};
use crate::command::{Running, is_quick, until};
use crate::effects::{self, Application, Bug, Publisher, Way};
use crate::table::{Kind, Table};
use rustix::process::{Pid, Signal, kill_process};
use std::panic::{AssertUnwindSafe, catch_unwind};

const LANES: usize = 8;
/// Rounds of events that are published and handled beyond what was there, before it is said that things go on.
const ON: u64 = 3;

fn rounds() -> usize {
    if is_quick() { 2 } else { 3 }
}

/// Two instances, who publishes to them, and the books that they share.
struct Stage {
    books: Table,
    application: Application,
    publisher: Publisher,
    instances: Vec<Instance>,
    started: usize,
}

struct Instance {
    name: String,
    running: Running,
}

impl Instance {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.running.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// How often it was said that it goes on.
    fn resumptions(&self) -> usize {
        self.running.said().matches("goes on").count()
    }
}

impl Stage {
    fn new(broker: &Broker, books: Table, test: &'static str, bug: Option<Bug>) -> Self {
        effects::open(&books, LANES);
        let mut stage = Self {
            application: Application {
                test,
                broker: broker.url.clone(),
                way: Way::Plain,
                bug,
                single_instance: broker.declare.contains(&"--single-instance"),
            },
            // Where there is no history the group is there before the first event.
            publisher: Publisher::start(&broker.url, LANES),
            books,
            instances: Vec::new(),
            started: 0,
        };
        stage.start();
        if !stage.application.single_instance {
            stage.start();
        }
        stage
    }

    fn start(&mut self) {
        self.started += 1;
        let name = format!("w{}", self.started);
        let mut running = self.application.start(&self.books, &name);
        while running.line().expect("the instance gets ready") != "ready" {}
        self.instances.push(Instance { name, running });
    }

    /// Waits until every key is further than everything that is accepted now.
    fn go_on(&self, what: &str) {
        let wanted = self.publisher.accepted() + ON;
        until(what, || {
            effects::feed(&self.books, &self.publisher) >= wanted
        });
    }

    /// Sessions of an instance for which that holds.
    fn sessions(&self, instance: &Instance, such: &str) -> i64 {
        let name = &instance.name;
        self.books.number(&format!(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = '{name}' AND {such}"
        ))
    }

    /// Stops an instance that works while it is inside a transaction with an event at work.
    fn stop(&self, preferred: usize) -> usize {
        let mut stopped = None;
        until("an instance is stopped in the middle of a handling", || {
            effects::feed(&self.books, &self.publisher);
            let newest = "SELECT worker FROM effect ORDER BY at DESC LIMIT 40";
            let working = self.books.texts(newest);
            let at = [preferred, 1 - preferred].into_iter().find(|at| {
                let instance = self.instances.get(*at);
                instance.is_some_and(|it| working.contains(&it.name))
            });
            let Some(at) = at else { return false };
            let instance = &self.instances[at];
            instance.signal(Signal::STOP);
            let middle = "state = 'idle in transaction' AND query NOT LIKE 'BEGIN%' AND query NOT LIKE '%progress%'";
            if self.sessions(instance, middle) == 0 {
                instance.signal(Signal::CONT);
                return false;
            }
            stopped = Some(at);
            true
        });
        stopped.expect("it was stopped")
    }

    /// One instance is stopped, another does everything, and the first goes on.
    fn round(&mut self, preferred: usize) {
        let at = self.stop(preferred);
        if self.application.single_instance {
            self.start();
        }
        self.go_on("another instance has taken over every key");
        if self.application.single_instance {
            // Beside its successor it may handle what it has, and get nothing new.
            self.publisher.silence();
        }
        let instance = &self.instances[at];
        let before = instance.resumptions();
        instance.signal(Signal::CONT);
        until("it goes on", || instance.resumptions() > before);
        until("what it had begun has come to an end", || {
            self.sessions(
                instance,
                "xact_start < clock_timestamp() - interval '3 seconds'",
            ) == 0
        });
        if self.application.single_instance {
            self.until_complete();
            self.instances.remove(at).running.kill();
        }
        self.go_on("all goes on");
    }

    fn until_complete(&self) {
        let wanted = self.publisher.accepted() * LANES as u64;
        until("everything has its effect", || {
            effects::effects(&self.books) >= wanted || !effects::violations(&self.books).is_empty()
        });
        assert_eq!(effects::violations(&self.books), Vec::<String>::new());
    }

    fn finish(&self) {
        self.publisher.silence();
        self.until_complete();
        let published = [self.publisher.accepted(); LANES];
        effects::assert_exact(&self.books, &published);
        let letters = "SELECT event_id || ': ' || reason FROM tidings_dead_letter";
        assert_eq!(self.books.texts(letters), Vec::<String>::new());
        let workers = "SELECT DISTINCT worker FROM effect ORDER BY worker";
        let workers = self.books.texts(workers);
        eprintln!("{published:?} of each key by {workers:?}");
    }
}

/// What a failure is looked into with.
impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let looks = [
            "SELECT lane || ' is at ' || n FROM progress ORDER BY lane",
            "SELECT worker || ' made ' || COUNT(*) FROM effect GROUP BY worker ORDER BY worker",
            "SELECT event_id || ': ' || reason FROM tidings_dead_letter",
            "SELECT application_name || ', ' || state || ' since ' || (clock_timestamp() - state_change) || ': ' || LEFT(query, 60) FROM pg_stat_activity WHERE datname = current_database()",
        ];
        for look in looks {
            eprintln!("{}", self.books.texts(look).join("\n"));
        }
        eprintln!("{} rounds were accepted", self.publisher.accepted());
        for Instance { name, running } in &self.instances {
            eprintln!("{name} said: {}", running.said());
        }
    }
}

fn stopped_on(broker: Option<Broker>, parameters: &str, test: &'static str) {
    if effects::is_played() {
        return;
    }
    let _one = effects::one_at_a_time();
    if let Some(stage) = stage(broker, parameters, test, None) {
        run(stage, rounds());
    }
}

fn stage(
    broker: Option<Broker>,
    parameters: &str,
    test: &'static str,
    bug: Option<Bug>,
) -> Option<Stage> {
    let (Some(mut broker), Some(books)) = (broker, Table::fresh(Kind::Postgres, test)) else {
        return None;
    };
    broker.url.push_str(parameters);
    Some(Stage::new(&broker, books, test, bug))
}

fn run(mut stage: Stage, rounds: usize) {
    stage.go_on("the group works");
    for round in 0..rounds {
        stage.round(round % 2);
    }
    stage.finish();
}

/// Groups belong to the whole cluster there.
fn kafka() -> Option<Broker> {
    let mut broker = brokers::kafka()?;
    let topic = broker.url.rsplit('=').next().unwrap_or_default().to_owned();
    broker.url.push_str(&format!("&group_prefix={topic}."));
    Some(broker)
}

#[test]
fn an_instance_stopped_beyond_its_session_has_no_late_effect_on_kafka() {
    let test = "stopped::an_instance_stopped_beyond_its_session_has_no_late_effect_on_kafka";
    stopped_on(kafka(), "&session_timeout=6", test);
}

#[test]
fn an_instance_stopped_beyond_its_heartbeats_has_no_late_effect_on_rabbitmq() {
    let test = "stopped::an_instance_stopped_beyond_its_heartbeats_has_no_late_effect_on_rabbitmq";
    stopped_on(brokers::rabbitmq(), "", test);
}

#[test]
fn an_instance_stopped_until_it_is_replaced_has_no_late_effect_on_nats() {
    let test = "stopped::an_instance_stopped_until_it_is_replaced_has_no_late_effect_on_nats";
    stopped_on(brokers::nats(), "&ack_wait=2", test);
}

#[test]
fn a_late_effect_without_an_inbox_row_is_found() {
    if effects::is_played() {
        return;
    }
    let test = "stopped::a_late_effect_without_an_inbox_row_is_found";
    let bug = Some(Bug::WithoutInbox);
    let _one = effects::one_at_a_time();
    let Some(stage) = stage(kafka(), "&session_timeout=6", test, bug) else {
        return;
    };
    let ended = catch_unwind(AssertUnwindSafe(|| run(stage, 1)));
    let said = ended.expect_err("the planted bug was not found");
    let said = said.downcast_ref::<String>().map_or("", String::as_str);
    assert!(
        said.contains("is not the next of"),
        "found something else: {said}"
    );
}

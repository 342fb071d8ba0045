//! The same commands on real brokers: only the URL is another.

use crate::command::{Place, tidings, until};
use crate::table::{Kind, Table};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use tidings_testkit::loan_data;

/// A broker with names of its own for one test.
pub(crate) struct Broker {
    pub(crate) url: String,
    /// What a consumer has to declare here.
    pub(crate) declare: &'static [&'static str],
}

/// The broker at the URL in the environment. One that is missing fails the test unless it is left out by name.
fn broker(
    name: &str,
    variable: &str,
    parameter: &str,
    declare: &'static [&'static str],
) -> Option<Broker> {
    let without = std::env::var("TIDINGS_TEST_WITHOUT").unwrap_or_default();
    if without.split(',').any(|left_out| left_out.trim() == name) {
        eprintln!("SKIPPED: this run is without {name}");
        return None;
    }
    let server = std::env::var(variable).unwrap_or_else(|_| {
        panic!("this test needs {name}: cargo xtask services up {name}, and its URL in {variable}")
    });
    let number = RandomState::new().hash_one(name) as u32;
    let joint = if server.contains('?') { '&' } else { '?' };
    Some(Broker {
        url: format!("{server}{joint}{parameter}=cli-{number:08x}"),
        declare,
    })
}

pub(crate) fn nats() -> Option<Broker> {
    let declare = &["--single-instance"];
    broker("nats", "TIDINGS_TEST_NATS_URL", "stream", declare)
}

pub(crate) fn kafka() -> Option<Broker> {
    broker("kafka", "TIDINGS_TEST_KAFKA_URL", "topic", &[])
}

/// The listener of Kafka with TLS and logins, and the file of the authority to trust.
pub(crate) fn kafka_with_logins() -> Option<(String, String)> {
    let variable = "TIDINGS_TEST_KAFKA_TLS_URL";
    let listener = broker("kafka-tls", variable, "topic", &[])?;
    let authority = std::env::var("TIDINGS_TEST_KAFKA_TLS_CA").unwrap();
    let (url, _) = listener.url.split_once('?').unwrap();
    Some((url.to_owned(), authority))
}

pub(crate) fn rabbitmq() -> Option<Broker> {
    broker("rabbitmq", "TIDINGS_TEST_RABBITMQ_URL", "exchange", &[])
}

/// A broker of AWS on the server that speaks like it; `name` is the parameter that names the topic or the bus.
#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
fn aws(scheme: &str, name: &str, more: &str, declare: &'static [&'static str]) -> Option<Broker> {
    let broker = broker("moto", "TIDINGS_TEST_AWS_URL", name, declare)?;
    let (_, server) = broker.url.split_once("://").unwrap();
    let (host, named) = server.split_once('?').unwrap();
    let host = host.trim_end_matches('/');
    // Polls that wait for nothing, so that a command ends as soon as there is nothing left.
    let url = format!("{scheme}://test:test@{host}?region=us-east-1&wait=0&{named}{more}");
    Some(Broker { url, declare })
}

#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
pub(crate) fn sns_sqs() -> Option<Broker> {
    aws("sns+sqs", "topic", "", &["--unordered"])
}

/// What an instance that is killed held comes to the next one after three seconds.
#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
pub(crate) fn sns_sqs_fifo() -> Option<Broker> {
    aws("sns+sqs", "topic", "&fifo=true&visibility=3", &[])
}

#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
pub(crate) fn eventbridge() -> Option<Broker> {
    aws("eventbridge", "bus", "", &["--unordered"])
}

impl Broker {
    pub(crate) fn export(&self) -> Vec<String> {
        let answer = tidings(["event", "export", "--url", &self.url]).ok();
        answer.stdout.lines().map(str::to_owned).collect()
    }

    /// Holds what came back against what went in.
    pub(crate) fn assert_same(came: &[String], went: &[String]) {
        let (mut all_came, mut all_went) = (came.to_vec(), went.to_vec());
        all_came.sort();
        all_went.sort();
        assert!(
            all_came == all_went,
            "{} came, {} went",
            came.len(),
            went.len()
        );
        assert!(
            by_key(came) == by_key(went),
            "the order of a key has changed"
        );
    }
}

/// The lines of each key, in their order.
pub(crate) fn by_key(lines: &[String]) -> HashMap<String, Vec<&str>> {
    let mut keys: HashMap<String, Vec<&str>> = HashMap::new();
    for line in lines {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let key = event["aggregate_id"].as_str().unwrap_or_default();
        keys.entry(key.to_owned()).or_default().push(line);
    }
    keys
}

fn one_program_runs_on(broker: &Broker) {
    let lines: Vec<String> = loan_data::lines(5).collect();
    let place = Place::new();
    place.import(&(lines.join("\n") + "\n"));
    let from = format!("file://{}", place.data().display());

    let bridged = tidings(["bridge", "--from", &from, "--to", &broker.url])
        .arguments(["--until-end", "-o", "json"])
        .ok();
    assert_eq!(bridged.json()["copied"], lines.len());
    Broker::assert_same(&broker.export(), &lines);

    let emitted = tidings(["emit", "order.placed", "--key", "order-1", "--url"])
        .argument(&broker.url)
        .ok();
    assert!(
        emitted.stdout.contains("order.placed"),
        "{}",
        emitted.stdout
    );
    let tailed = tidings(["tail", "order.*", "--from-start", "-n", "1", "-o", "json"])
        .arguments(["--url", &broker.url])
        .ok();
    assert_eq!(tailed.json()["aggregate_id"], "order-1");
    assert!(tailed.json()["place"].is_string());

    let handled = tidings(["consumer", "run", "mailer", "--type", "**"])
        .arguments(["--exec", "sh -c 'cat > /dev/null'"])
        .arguments(["--url", &broker.url, "--until-end", "-o", "json"])
        .arguments(broker.declare)
        .ok();
    assert_eq!(handled.json()["handled"], lines.len() + 1);
    let lag = tidings(["consumer", "lag", "mailer", "--max", "0", "-o", "json"])
        .arguments(["--url", &broker.url])
        .ok();
    assert_eq!(lag.json()[0]["lag_events"], 0);
    let groups = tidings(["consumer", "ls", "-o", "json", "--url", &broker.url]).ok();
    assert!(groups.stdout.contains("mailer"), "{}", groups.stdout);

    let back = Place::new();
    let to = format!("file://{}", back.data().display());
    tidings(["bridge", "--from", &broker.url, "--to", &to, "--until-end"]).ok();
    let came: Vec<String> = tidings(["event", "export"])
        .data(&back.data())
        .ok()
        .stdout
        .lines()
        .take(lines.len())
        .map(str::to_owned)
        .collect();
    Broker::assert_same(&came, &lines);
}

fn a_relay_carries_to(broker: &Broker) {
    let table = Table::fresh(Kind::Sqlite, "broker").unwrap();
    table.command(["outbox", "migrate"]).ok();
    table.place_orders(5, 4);
    table
        .command(["relay", "run", "--until-empty", "--to", &broker.url])
        .ok();
    let came = broker.export();
    assert_eq!(came.len(), 20);
    assert!(by_key(&came).values().all(|events| events.len() == 4));

    let checked = table
        .command(["relay", "check", "--to", &broker.url, "-o", "json"])
        .ok();
    assert_eq!(checked.json()[1]["ok"], true, "{}", checked.stdout);
    let topology = tidings(["broker", "check", "--url", &broker.url, "-o", "json"]).ok();
    assert_eq!(topology.json()[0]["state"], "present");
}

/// A group of such a broker gets what is published once it is there; nothing can be read again, so what its handler saw is what is compared.
fn one_program_runs_without_history_on(broker: &Broker) {
    let lines: Vec<String> = loan_data::lines(3).collect();
    let (imported, bridged) = lines.split_at(lines.len() / 2);
    let place = Place::new();
    let seen = place.file("seen.jsonl");

    a_tail_shows_what_comes(broker);
    let group = ["--group", "mailer", "--type", "**", "-o", "json"];
    let made = tidings(["broker", "ensure", "--url", &broker.url]).arguments(group);
    assert_eq!(made.ok().json()[1]["state"], "created");

    tidings(["event", "import", "-", "--url", &broker.url])
        .input(imported.join("\n") + "\n")
        .ok();
    place.import(&(bridged.join("\n") + "\n"));
    let from = format!("file://{}", place.data().display());
    let copied = tidings(["bridge", "--from", &from, "--to", &broker.url])
        .arguments(["--until-end", "-o", "json"])
        .ok();
    assert_eq!(copied.json()["copied"], bridged.len());
    let table = Table::fresh(Kind::Sqlite, "broker").unwrap();
    table.command(["outbox", "migrate"]).ok();
    table.place_orders(2, 3);
    table
        .command(["relay", "run", "--until-empty", "--to", &broker.url])
        .ok();
    tidings(["emit", "shop.opened", "--key", "shop-1", "--url"])
        .argument(&broker.url)
        .ok();

    let lag = || {
        let answer = tidings(["consumer", "lag", "mailer", "-o", "json"])
            .arguments(["--url", &broker.url])
            .ok();
        answer.json()[0]["lag_events"].as_u64().unwrap()
    };
    let total = lines.len() as u64 + 6 + 1;
    until("all of it waits for the group", || lag() == total);
    let handler = format!("sh -c 'cat >> {0}; echo >> {0}'", seen.display());
    let handled = tidings(["consumer", "run", "mailer", "--type", "**"])
        .arguments(["--exec", &handler, "--parallel", "1"])
        .arguments(["--url", &broker.url, "--until-end", "-o", "json"])
        .arguments(broker.declare)
        .ok();
    assert_eq!(handled.json()["handled"], total);
    until("nothing waits for the group", || lag() == 0);

    let came = std::fs::read_to_string(&seen).unwrap();
    let came = came.lines().filter(|line| !line.is_empty());
    let (mut loans, others): (Vec<String>, Vec<String>) = came
        .map(str::to_owned)
        .partition(|line| line.contains("loan-"));
    let mut went = lines.clone();
    if broker.declare.contains(&"--unordered") {
        loans.sort();
        went.sort();
    }
    Broker::assert_same(&loans, &went);
    for (key, count) in [("order-0", 3), ("order-1", 3), ("shop-1", 1)] {
        assert_eq!(by_key(&others)[key].len(), count, "{key}");
    }
}

/// From now on, which is all that there is; what is published before it listens it does not see, so that is done again.
fn a_tail_shows_what_comes(broker: &Broker) {
    let mut tail = tidings(["tail", "shop.*", "-n", "1", "-o", "json", "--url"])
        .argument(&broker.url)
        .start();
    until("the tail shows an event", || {
        tidings(["emit", "shop.painted", "--key", "shop-0", "--url"])
            .argument(&broker.url)
            .ok();
        tail.has_ended()
    });
    let shown: serde_json::Value = serde_json::from_str(&tail.line().unwrap()).unwrap();
    assert_eq!(shown["aggregate_id"], "shop-0");
}

#[test]
fn one_program_runs_on_nats() {
    if let Some(broker) = nats() {
        one_program_runs_on(&broker);
    }
}

#[test]
fn a_relay_carries_to_nats() {
    if let Some(broker) = nats() {
        a_relay_carries_to(&broker);
    }
}

#[test]
fn one_program_runs_on_kafka() {
    if let Some(broker) = kafka() {
        one_program_runs_on(&broker);
    }
}

#[test]
fn a_relay_carries_to_kafka() {
    if let Some(broker) = kafka() {
        a_relay_carries_to(&broker);
    }
}

#[test]
fn one_program_runs_on_rabbitmq() {
    if let Some(broker) = rabbitmq() {
        one_program_runs_without_history_on(&broker);
    }
}

#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
#[test]
fn one_program_runs_on_sns_with_sqs() {
    if let Some(broker) = sns_sqs() {
        one_program_runs_without_history_on(&broker);
    }
}

#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
#[test]
fn one_program_runs_on_an_ordered_topic_of_sns() {
    // Nobody vanishes here, and a busy machine may keep an event for longer than three seconds.
    if let Some(broker) = aws("sns+sqs", "topic", "&fifo=true", &[]) {
        one_program_runs_without_history_on(&broker);
    }
}

#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
#[test]
fn one_program_runs_on_eventbridge() {
    if let Some(broker) = eventbridge() {
        one_program_runs_without_history_on(&broker);
    }
}

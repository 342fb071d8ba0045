//! `tidings event explain` on real brokers: what the store of a group tells, and plainly what nobody does.

use crate::brokers::{self, Broker};
use crate::command::{Answer, Place, shell, tidings, until};
use crate::table::{Kind, Table};
use serde_json::Value;

/// A broker with a group that gives one event up, parks what is behind it, and puts another one off.
struct Shop {
    broker: Broker,
    table: Table,
}

impl Shop {
    fn new(broker: Option<Broker>, test: &str) -> Option<Self> {
        let (broker, table) = (broker?, Table::fresh(Kind::Postgres, test)?);
        table.migrate();
        let shop = Self { broker, table };
        let bad = r#"sh -c 'test "$TIDINGS_AGGREGATE_ID" = other'"#;
        // Both groups are there before the first event, for brokers that keep no history.
        shop.run("bad", bad, &[]).ok();
        shop.run("good", "true", &[]).ok();
        let lines = [
            r#"{"event_id":"first","event_type":"order.placed","aggregate_id":"k","source":"shop"}"#,
            r#"{"event_id":"second","event_type":"order.placed","aggregate_id":"k","source":"shop"}"#,
            r#"{"event_id":"fine","event_type":"order.placed","aggregate_id":"other","source":"shop"}"#,
        ];
        tidings(["event", "import", "-", "--url", &shop.broker.url])
            .input(lines.join("\n"))
            .ok();
        shop.run("bad", bad, &["--attempts", "1"]).ok();
        shop.run("good", "true", &[]).ok();
        Some(shop)
    }

    fn run(&self, group: &str, command: &str, more: &[&str]) -> crate::command::Tidings {
        tidings(["consumer", "run", group, "--type", "order.*", "--until-end"])
            .arguments(["--exec", command, "--url", &self.broker.url])
            .arguments(["--store", self.table.url()])
            .arguments(self.broker.declare)
            .arguments(more)
    }

    fn explain(&self, arguments: &[&str]) -> Answer {
        tidings(["event", "explain", "-o", "json"])
            .arguments(arguments)
            .arguments(["--url", &self.broker.url, "--store", self.table.url()])
            .run()
    }

    fn row(&self, event_id: &str, group: &str) -> Value {
        let answer = self.explain(&[event_id, "--group", group]);
        let rows = answer.json();
        assert_eq!(rows.as_array().unwrap().len(), 1, "{answer:?}");
        rows[0].clone()
    }
}

#[test]
fn a_broker_without_history_leaves_it_to_the_store_and_says_so() {
    let test = "a_broker_without_history_leaves_it_to_the_store_and_says_so";
    let Some(shop) = Shop::new(brokers::rabbitmq(), test) else {
        return;
    };

    let answer = shop.explain(&["first"]);
    assert_eq!(answer.json()[0]["group"], "bad", "{answer:?}");
    assert_eq!(answer.json()[0]["state"], "dead_lettered", "{answer:?}");
    assert!(answer.json()[0]["position"].is_null(), "{answer:?}");
    assert!(answer.stderr.contains("keeps no history"), "{answer:?}");
    assert_eq!(shop.row("second", "bad")["state"], "parked");
    let good = shop.row("first", "good");
    assert_eq!(good["state"], "unknown", "{good}");
    let explanation = good["explanation"].as_str().unwrap();
    assert!(
        explanation.contains("nothing is left for the group"),
        "{good}"
    );
    let of_key = shop.explain(&["--key", "k", "--group", "bad"]).json();
    assert_eq!(of_key.as_array().unwrap().len(), 2, "{of_key}");
    let unknown = shop.explain(&["fine"]);
    assert_ne!(unknown.code, Some(0));
    assert!(unknown.stderr.contains("its store knows"), "{unknown:?}");
}

#[test]
fn a_broker_with_history_finds_what_the_store_does_not_know() {
    let test = "a_broker_with_history_finds_what_the_store_does_not_know";
    let Some(shop) = Shop::new(brokers::nats(), test) else {
        return;
    };

    assert_eq!(shop.row("first", "bad")["state"], "dead_lettered");
    assert_eq!(shop.row("second", "bad")["state"], "parked");
    // What is to be run next asks the same store and the same broker.
    for (event_id, said) in [("first", "order.placed"), ("second", "was given up")] {
        let row = shop.row(event_id, "bad");
        let next = row["next"].as_str().unwrap();
        let answer = shell(next).ok();
        assert!(answer.stdout.contains(said), "{next}: {answer:?}");
    }
    until("the broker tells that it is settled", || {
        shop.row("fine", "good")["state"] == "handled"
    });
    let deaf = shop.row("fine", "deaf");
    assert_eq!(deaf["state"], "unknown", "{deaf}");
    let of_key = shop.explain(&["--key", "k", "--group", "bad"]).json();
    assert_eq!(of_key.as_array().unwrap().len(), 2, "{of_key}");
    let nobody = shop.explain(&["nobody"]);
    assert_ne!(nobody.code, Some(0));
    assert!(!nobody.stderr.contains("keeps no history"), "{nobody:?}");
}

#[test]
fn beside_a_broker_the_command_to_run_next_finds_what_failed_in_the_data_folder() {
    let Some(broker) = brokers::nats() else {
        return;
    };
    let place = Place::new();
    tidings(["emit", "order.placed", "--key", "k", "--url", &broker.url]).ok();
    tidings(["consumer", "run", "bad", "--type", "order.*", "--until-end"])
        .arguments(["--exec", "false", "--attempts", "1", "--url", &broker.url])
        .arguments(broker.declare)
        .data(&place.data())
        .ok();

    let explain = ["event", "explain", "--key", "k", "--group", "bad"];
    let rows = tidings(explain)
        .arguments(["--url", &broker.url, "-o", "json"])
        .data(&place.data())
        .ok()
        .json();

    assert_eq!(rows[0]["state"], "dead_lettered", "{rows}");
    let next = rows[0]["next"].as_str().unwrap();
    let shown = shell(next).ok().stdout;
    assert!(shown.contains("order.placed"), "{next}: {shown}");
}

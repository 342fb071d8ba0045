//! Groups of a broker as an operator sees them: how far they are behind, moved and forgotten, or why that cannot be.

use crate::brokers::{self, Broker};
use crate::brokers_bad_input::refused;
use crate::command::{Answer, Place, Tidings, tidings, until};
use crate::table::{Table, kinds};
use serde_json::Value;

/// A command about groups of this broker.
fn of(broker: &Broker, arguments: &[&str]) -> Tidings {
    tidings(["consumer"])
        .arguments(arguments)
        .arguments(["--url", &broker.url])
}

fn lag(broker: &Broker) -> u64 {
    let answer = of(broker, &["lag", "billing", "-o", "json"]).ok();
    answer.json()[0]["lag_events"].as_u64().unwrap()
}

fn emit(broker: &Broker) {
    tidings(["emit", "order.placed", "--key", "order-1", "--url"])
        .argument(&broker.url)
        .ok();
}

/// Handles everything that is there.
fn handle(broker: &Broker) -> Answer {
    of(broker, &["run", "billing", "--type", "**", "--until-end"])
        .arguments(["--exec", "sh -c 'cat > /dev/null'", "-o", "json"])
        .arguments(broker.declare)
        .ok()
}

#[test]
fn a_group_that_is_named_has_its_lag_where_none_can_be_listed() {
    let Some(broker) = brokers::rabbitmq() else {
        return;
    };
    tidings(["broker", "ensure", "--group", "billing", "--type", "**"])
        .arguments(["--url", &broker.url])
        .ok();
    emit(&broker);
    until("the event waits for the group", || lag(&broker) == 1);

    let behind = of(&broker, &["lag", "billing", "--max", "0", "-o", "json"]).run();
    assert_eq!(behind.code, Some(4), "{}", behind.stderr);
    assert_eq!(behind.json()[0]["consumer"], "billing");
    assert_eq!(behind.json()[0]["status"], "unknown");
    let unknown = of(&broker, &["lag", "mailer"]).run();
    refused(&unknown, 3, "TD0031", "mailer");
    for listing in [&["ls"], &["lag"]] {
        let answer = of(&broker, listing).run();
        refused(&answer, 1, "TD0032", "tidings consumer lag GROUP");
    }
}

fn a_group_is_moved_and_forgotten(broker: &Broker) {
    for _ in 0..3 {
        emit(broker);
    }
    assert_eq!(handle(broker).json()["handled"], 3);
    assert_eq!(lag(broker), 0);

    let reset = ["reset", "billing", "--to", "earliest", "-o", "json"];
    let would = of(broker, &reset).argument("--dry-run").ok().json();
    assert_eq!(would["dry_run"], true, "{would}");
    assert_eq!(lag(broker), 0);
    refused(&of(broker, &reset).run(), 2, "TD0062", "--yes");
    assert_eq!(lag(broker), 0);
    let moved = of(broker, &reset).argument("--yes").ok().json();
    assert_eq!(moved["consumer"], "billing", "{moved}");
    assert_eq!(lag(broker), 3);
    assert_eq!(handle(broker).json()["handled"], 3);

    of(broker, &["reset", "billing", "--to", "earliest", "--yes"]).ok();
    of(broker, &["reset", "billing", "--to", "latest", "--yes"]).ok();
    assert_eq!(lag(broker), 0);

    of(broker, &["rm", "billing", "--yes"]).ok();
    for gone in [
        of(broker, &["lag", "billing"]),
        of(broker, &["reset", "billing", "--to", "latest", "--yes"]),
        of(broker, &["rm", "billing", "--yes"]),
    ] {
        refused(&gone.run(), 3, "TD0031", "billing");
    }
}

#[test]
fn a_group_is_moved_and_forgotten_on_nats() {
    if let Some(broker) = brokers::nats() {
        a_group_is_moved_and_forgotten(&broker);
    }
}

#[test]
fn a_group_is_moved_and_forgotten_on_kafka() {
    let Some(mut broker) = brokers::kafka() else {
        return;
    };
    // Groups belong to the whole cluster there.
    let topic = broker.url.rsplit('=').next().unwrap_or_default().to_owned();
    broker.url.push_str(&format!("&group_prefix={topic}."));

    a_group_is_moved_and_forgotten(&broker);

    handle(&broker);
    let nowhere = of(&broker, &["reset", "billing", "--to", "@1", "--dry-run"]).run();
    refused(&nowhere, 1, "TD0032", "in each partition");
}

fn a_group_is_not_moved_and_is_forgotten(broker: &Broker) {
    tidings(["broker", "ensure", "--group", "billing", "--type", "**"])
        .arguments(["--url", &broker.url])
        .ok();

    for more in ["--yes", "--dry-run"] {
        let answer = of(broker, &["reset", "billing", "--to", "latest", more]).run();
        refused(&answer, 1, "TD0032", "keeps no history");
    }
    of(broker, &["rm", "billing", "--yes"]).ok();
    refused(
        &of(broker, &["lag", "billing"]).run(),
        3,
        "TD0031",
        "billing",
    );
}

#[test]
fn a_group_is_not_moved_on_rabbitmq_which_keeps_no_history() {
    if let Some(broker) = brokers::rabbitmq() {
        a_group_is_not_moved_and_is_forgotten(&broker);
    }
}

#[cfg(all(feature = "sns_sqs", feature = "eventbridge"))]
#[test]
fn a_group_is_not_moved_on_aws_which_keeps_no_history() {
    for broker in [brokers::sns_sqs(), brokers::eventbridge()] {
        let Some(broker) = broker else { continue };
        a_group_is_not_moved_and_is_forgotten(&broker);
    }
}

/// Who cannot list groups is told which to look at; who has no positions tells what waits.
#[test]
fn a_group_that_does_not_move_is_told_on_brokers() {
    let of_brokers = [
        (brokers::nats(), "has not moved", true),
        (brokers::kafka(), "has not moved", true),
        (brokers::rabbitmq(), "has not caught up", false),
    ];
    for (broker, how, tells_owner) in of_brokers {
        let Some(broker) = broker else {
            continue;
        };
        let place = Place::new();
        let emit = || {
            let order = ["emit", "order.placed", "--key", "order-1"];
            tidings(order).arguments(["--url", &broker.url]).ok();
        };
        let group = || {
            let run = [
                "consumer", "run", "mailer", "--type", "order.*", "--exec", "true",
            ];
            tidings(run)
                .arguments(["--url", &broker.url])
                .arguments(broker.declare)
        };
        emit();
        group().argument("--until-end").ok();
        emit();
        emit();

        let watcher = tidings(["alert", "run", "--stalled-after", "1s", "--every", "100ms"])
            .arguments(["--url", &broker.url, "--consumer", "mailer"])
            .data(&place.data())
            .start();
        let line = watcher.heard("alert fired");
        assert!(line.contains("mailer is 2 events behind"), "{line}");
        assert!(line.contains(how), "{line}");
        assert_eq!(
            line.contains("no consumer works for it"),
            tells_owner,
            "{line}"
        );
        group().argument("--until-end").ok();
        watcher.heard("alert resolved");
    }
}

#[test]
fn who_moved_and_who_forgot_a_group_of_a_broker_is_recorded_in_a_shared_store() {
    let Some(broker) = brokers::nats() else {
        return;
    };
    emit(&broker);
    for kind in kinds() {
        let test = "who_moved_and_who_forgot_a_group_of_a_broker_is_recorded_in_a_shared_store";
        let Some(table) = Table::fresh(kind, test) else {
            continue;
        };
        handle(&broker);
        let left = lag(&broker);
        let decide = |arguments: &[&str]| {
            of(&broker, arguments)
                .arguments(["--yes", "--reason", "INC-4711", "--actor", "ann"])
                .arguments(["--store", table.url()])
        };
        let reset = ["reset", "billing", "--to", "earliest"];
        // What cannot be recorded there is told before anything is done.
        refused(&decide(&reset).run(), 3, "TD0073", "tidings dlq migrate");
        refused(
            &decide(&["rm", "billing"]).run(),
            3,
            "TD0073",
            "tidings dlq migrate",
        );
        assert_eq!(lag(&broker), left, "{kind:?}");
        table.migrate();

        for decision in [&reset[..], &["rm", "billing"]] {
            let decided = decide(decision).ok();
            assert!(!decided.stderr.contains("not recorded"), "{decided:?}");
        }

        let actions = ["dlq", "actions", "-o", "json", "--store", table.url()];
        let actions = tidings(actions).ok().json();
        let told = |action: &Value| {
            let words = ["action", "consumer", "actor", "reason"];
            words.map(|name| action[name].as_str().unwrap().to_owned())
        };
        let told: Vec<_> = actions.as_array().unwrap().iter().map(told).collect();
        let expected = ["reset", "rm"].map(|what| [what, "billing", "ann", "INC-4711"]);
        assert_eq!(told, expected, "{kind:?}");
    }
    handle(&broker);
    let untold = of(&broker, &["rm", "billing", "--yes"]).ok();
    assert!(
        untold.stderr.contains("neither --store URL nor"),
        "{untold:?}"
    );
}

//! Groups of a broker as an operator sees them: how far they are behind.

use crate::brokers::{self, Broker};
use crate::brokers_bad_input::refused;
use crate::command::{Tidings, tidings, until};

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

//! Dead letters of other products, taken over and handed back as the person on call does it.

use crate::command::{Place, tidings};
use serde_json::Value;

/// What Spring for Kafka puts into a dead-letter topic, its body plain JSON, as `kcat -J` prints it.
const OF_SPRING: &str = r#"{"topic":"orders.DLT","partition":0,"offset":7,"tstype":"create","ts":1700000100000,"broker":1,"headers":["kafka_dlt-original-topic","orders","kafka_dlt-original-consumer-group","shipping","kafka_dlt-exception-fqcn","java.lang.IllegalStateException","kafka_dlt-exception-message","no stock of PROD-001"],"key":"order-123","payload":"{\"order_id\":\"order-123\",\"total\":59.980}"}
"#;

fn import(place: &Place) -> Value {
    place.import("");
    let imported = tidings(["dlq", "import", "-", "-o", "json"]).data(&place.data());
    imported.input(OF_SPRING).ok().json()
}

fn dlq(place: &Place, arguments: &[&str]) -> Value {
    let arguments = [&["dlq"], arguments, &["-o", "json"]].concat();
    tidings(arguments).data(&place.data()).ok().json()
}

/// Runs the group `shipping` on `order.*` to its end, and answers what it handled.
fn shipping(place: &Place) -> Vec<String> {
    let done = place.file("done");
    let command = format!("sh -c 'echo $TIDINGS_EVENT_TYPE >> {}'", done.display());
    let arguments = [
        "consumer",
        "run",
        "shipping",
        "--type",
        "order.*",
        "--exec",
        &command,
        "--until-end",
    ];
    tidings(arguments).data(&place.data()).ok();
    let handled = std::fs::read_to_string(done).unwrap_or_default();
    handled.lines().map(str::to_owned).collect()
}

/// Its body says no type, so that it is `foreign.received`, which a group on `order.*` does not want: it was taken for handled, and gone.
#[test]
fn a_letter_that_no_handler_wants_stays_a_dead_letter_and_says_so() {
    let place = Place::new();
    assert_eq!(import(&place)["imported"], 1);

    assert_eq!(dlq(&place, &["redrive", "--all"])["redriven"], 1);
    assert_eq!(shipping(&place), [""; 0]);

    let listed = dlq(&place, &["ls"]);
    let letter = &listed[0];
    assert_eq!(letter["status"], "open", "{listed}");
    assert_eq!(letter["event_type"], "foreign.received");
    let reason = "no handler of the group wants foreign.received";
    assert_eq!(letter["reason"], reason);
    let event = letter["event_id"].as_str().unwrap();
    assert_eq!(dlq(&place, &["show", event])["cause"], "unwanted");
    // The way out: a copy with a type that the group wants.
    let edit = ["edit", event, "--event-type", "order.placed", "--reason"];
    dlq(&place, &[&edit[..], &["it is an order"]].concat());
    assert_eq!(shipping(&place), ["order.placed"]);
}

#[test]
fn an_edited_copy_that_no_handler_wants_becomes_a_dead_letter() {
    let place = Place::new();
    import(&place);
    let event = dlq(&place, &["ls"])[0]["event_id"].clone();
    let event = event.as_str().unwrap();

    let edit = ["edit", event, "--event-type", "parcel.sent", "--reason"];
    let edited = dlq(&place, &[&edit[..], &["a slip of the hand"]].concat());
    assert_eq!(shipping(&place), [""; 0]);

    let listed = dlq(&place, &["ls"]);
    assert_eq!(listed[0]["event_id"], edited["copy"], "{listed}");
    assert_eq!(listed[0]["status"], "open");
}

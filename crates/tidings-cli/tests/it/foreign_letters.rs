//! Dead letters of other products, taken over and handed back as the person on call does it.

use crate::command::{Answer, Place, tidings};
use serde_json::{Value, json};

/// What Spring for Kafka puts into a dead-letter topic, its body plain JSON, as `kcat -J` prints it: numbers are eight or four bytes, which it escapes below a space and
/// prints as they are above.
fn of_spring() -> Vec<u8> {
    let before = br#"{"topic":"orders.DLT","partition":0,"offset":7,"tstype":"create","ts":1700000100000,"broker":1,"headers":["kafka_dlt-original-topic","orders","kafka_dlt-original-partition","\u0000\u0000\u0000\u0003","kafka_dlt-original-offset","\u0000\u0000\u0000\u0000\u0000\u0000\u0004\u0012","kafka_dlt-original-timestamp","\u0000\u0000\u0001"#;
    let after = br#"h\u0000","kafka_dlt-original-timestamp-type","CreateTime","kafka_dlt-original-consumer-group","shipping","kafka_dlt-exception-fqcn","org.springframework.kafka.listener.ListenerExecutionFailedException","kafka_dlt-exception-cause-fqcn","java.lang.IllegalStateException","kafka_dlt-exception-message","no stock of PROD-001"],"key":"order-123","payload":"{\"order_id\":\"order-123\",\"total\":59.980}"}"#;
    [&before[..], &[0x8b, 0xcf, 0xe5], after, b"\n"].concat()
}

/// What Kafka Connect puts there with `errors.deadletterqueue.context.headers.enable`, as `kcat -J` prints it.
const OF_CONNECT: &str = r#"{"topic":"dlq-jdbc-sink","partition":0,"offset":3,"tstype":"create","ts":1700000100000,"broker":1,"headers":["__connect.errors.topic","payments","__connect.errors.partition","1","__connect.errors.offset","88","__connect.errors.connector.name","jdbc-sink","__connect.errors.task.id","0","__connect.errors.stage","VALUE_CONVERTER","__connect.errors.class.name","io.confluent.connect.avro.AvroConverter","__connect.errors.exception.class.name","org.apache.kafka.connect.errors.DataException","__connect.errors.exception.message","Unknown magic byte!","__connect.errors.exception.stacktrace","org.apache.kafka\n\tat x"],"key":null,"payload":"{\"id\":7}"}
"#;

/// What RabbitMQ puts into the queue of a dead-letter exchange, as `rabbitmqadmin get queue=orders.dead count=2 -f raw_json` prints it.
const OF_RABBITMQ: &str = r#"[{"payload_bytes":24,"redelivered":false,"exchange":"dead","routing_key":"order.placed","message_count":1,"properties":{"delivery_mode":2,"headers":{"x-death":[{"count":1,"exchange":"events","queue":"shipping","reason":"rejected","routing-keys":["order.placed"],"time":1700000000}],"x-first-death-exchange":"events","x-first-death-queue":"shipping","x-first-death-reason":"rejected"},"content_type":"application/json"},"payload":"{\"order_id\":\"order-123\"}","payload_encoding":"string"},{"payload_bytes":24,"redelivered":false,"exchange":"dead","routing_key":"order.placed","message_count":0,"properties":{"message_id":"m-2","headers":{"x-death":[{"count":2,"exchange":"events","queue":"shipping","reason":"expired","routing-keys":["order.placed"],"time":1700000001}]}},"payload":"eyJvcmRlcl9pZCI6Im9yZGVyLTEyNCJ9","payload_encoding":"base64"}]
"#;

fn import(place: &Place, lines: impl Into<Vec<u8>>, more: &[&str]) -> Value {
    place.import("");
    let arguments = [&["dlq", "import", "-", "-o", "json"], more].concat();
    let imported = tidings(arguments).data(&place.data()).input(lines);
    imported.ok().json()
}

fn refused(place: &Place, lines: impl Into<Vec<u8>>, more: &[&str]) -> Answer {
    let arguments = [&["dlq", "import"], more].concat();
    let answer = tidings(arguments).data(&place.data()).input(lines).run();
    assert_ne!(answer.code, Some(0), "{}", answer.stdout);
    answer
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
    assert_eq!(import(&place, of_spring(), &[])["imported"], 1);

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
    import(&place, of_spring(), &["--event-type", "order.placed"]);
    let event = dlq(&place, &["ls"])[0]["event_id"].clone();
    let event = event.as_str().unwrap();

    let edit = ["edit", event, "--event-type", "parcel.sent", "--reason"];
    let edited = dlq(&place, &[&edit[..], &["a slip of the hand"]].concat());
    assert_eq!(shipping(&place), [""; 0]);

    let listed = dlq(&place, &["ls"]);
    assert_eq!(listed[0]["event_id"], edited["copy"], "{listed}");
    assert_eq!(listed[0]["status"], "open");
}

#[test]
fn a_letter_that_says_no_type_gets_the_one_that_is_told() {
    let place = Place::new();

    import(&place, of_spring(), &["--event-type", "order.placed"]);
    dlq(&place, &["redrive", "--all"]);

    assert_eq!(shipping(&place), ["order.placed"]);
    assert_eq!(dlq(&place, &["ls"]), json!([]));
}

#[test]
fn what_spring_writes_is_read_as_kcat_prints_it() {
    let place = Place::new();

    let imported = import(&place, of_spring(), &[]);

    assert_eq!(
        (&imported["imported"], &imported["rejected"]),
        (&json!(1), &json!(0))
    );
    let letter = &dlq(&place, &["show", "orders/3/1042"]);
    assert_eq!(letter["consumer"], "shipping");
    assert_eq!(letter["aggregate_id"], "order-123");
    assert_eq!(letter["reasons"][1], "java.lang.IllegalStateException");
    assert_eq!(letter["history"][0]["at"], "2023-11-14T22:13:20Z");
    assert_eq!(letter["actions"][0]["action"], "take_over");
    let again = import(&place, of_spring(), &[]);
    assert_eq!(
        (&again["imported"], &again["known"]),
        (&json!(0), &json!(1))
    );
}

#[test]
fn what_kafka_connect_writes_is_read_as_kcat_prints_it() {
    let place = Place::new();

    import(&place, OF_CONNECT, &["--consumer", "payment-sink"]);

    let letter = &dlq(&place, &["show", "payments/1/88"]);
    assert_eq!(letter["consumer"], "payment-sink", "not the connector");
    let reasons = letter["reasons"].to_string();
    assert!(reasons.contains("Unknown magic byte!"), "{reasons}");
    assert!(reasons.contains("VALUE_CONVERTER"), "{reasons}");
}

#[test]
fn what_rabbitmq_dead_letters_is_read_as_rabbitmqadmin_prints_it() {
    let place = Place::new();

    let imported = import(&place, OF_RABBITMQ, &[]);

    assert_eq!(
        (&imported["read"], &imported["imported"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(imported["consumers"], json!(["shipping"]));
    let again = import(&place, OF_RABBITMQ, &[]);
    assert_eq!(again["known"], 2, "{again}");
    let letters = dlq(&place, &["ls"]);
    let causes = [0, 1].map(|index| {
        let event = letters[index]["event_id"].as_str().unwrap();
        dlq(&place, &["show", event])["cause"].clone()
    });
    assert_eq!(causes, ["permanent", "age"]);
    assert_eq!(letters[1]["event_id"], "dead/m-2");
    assert_eq!(dlq(&place, &["redrive", "--all"])["redriven"], 2);
    assert_eq!(shipping(&place), ["order.placed", "order.placed"]);
}

fn poisoned(number: u64, group: &str) -> String {
    let message = json!({
        "topic": "orders.poison", "partition": 0, "offset": number,
        "headers": {"reason_poisoned": "no", "handler_poisoned": group},
        "payload": {"number": number},
    });
    message.to_string() + "\n"
}

/// More than one transaction takes: the first ones used to be stored by then.
#[test]
fn messages_of_several_groups_are_refused_before_one_is_stored() {
    let place = Place::new();
    place.import("");
    let mut lines: String = (0..600).map(|number| poisoned(number, "one")).collect();
    lines += &poisoned(600, "two");
    let file = place.write("dead.jsonl", &lines);

    for source in ["-", file.to_str().unwrap()] {
        let answer = refused(&place, lines.as_str(), &[source]);

        assert_eq!(answer.code, Some(2), "{}", answer.stderr);
        assert!(answer.stderr.contains("one, two"), "{}", answer.stderr);
        assert_eq!(dlq(&place, &["ls", "--all"]), json!([]), "{source}");
    }
    let imported = import(&place, lines, &["--consumer", "one"]);
    assert_eq!(imported["imported"], 601);
}

#[test]
fn lines_that_are_no_dead_letters_are_told_and_the_others_taken_over() {
    let place = Place::new();
    place.import("");
    let lines =
        poisoned(1, "one") + "no json\n\n{\"headers\":{\"other\":\"x\"}}\n" + &poisoned(2, "one");

    let answer = refused(&place, lines, &["-", "-o", "json"]);

    let told = answer.json();
    assert_eq!(
        (&told["read"], &told["imported"], &told["rejected"]),
        (&json!(4), &json!(2), &json!(2))
    );
    assert!(answer.stderr.contains("line 2"), "{}", answer.stderr);
    assert!(answer.stderr.contains("line 4"), "{}", answer.stderr);
    assert!(answer.stderr.contains("TD0134"), "{}", answer.stderr);
    assert_eq!(dlq(&place, &["ls"]).as_array().unwrap().len(), 2);
}

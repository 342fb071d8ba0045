//! `tidings event explain`: where an event is in each group, and what to do next.

use crate::command::{Answer, Place, shell, tidings, until};
use serde_json::Value;
use std::path::Path;

fn run(place: &Place, group: &str, types: &str, command: &str) {
    tidings([
        "consumer",
        "run",
        group,
        "--type",
        types,
        "--exec",
        command,
        "--attempts",
        "1",
        "--until-end",
    ])
    .data(&place.data())
    .ok();
}

/// What is said of an event in a group.
fn explained(place: &Place, event_id: &str, group: &str) -> Value {
    let rows = tidings(["event", "explain", event_id, "-o", "json"])
        .data(&place.data())
        .ok()
        .json();
    let rows = rows.as_array().unwrap();
    rows.iter()
        .find(|row| row["group"] == group)
        .unwrap_or_else(|| panic!("{group} is not among {rows:?}"))
        .clone()
}

#[test]
fn each_group_says_where_an_event_is_and_what_comes_next() {
    let place = Place::new();
    place.import(concat!(
        r#"{"event_id":"first","event_type":"order.placed","aggregate_id":"k"}"#,
        "\n",
        r#"{"event_id":"second","event_type":"order.placed","aggregate_id":"k"}"#,
        "\n",
        r#"{"event_id":"other","event_type":"order.placed","aggregate_id":"other"}"#,
        "\n",
    ));
    run(&place, "good", "order.*", "true");
    run(&place, "deaf", "payment.*", "true");
    let handler = r#"sh -c 'test "$TIDINGS_AGGREGATE_ID" = other'"#;
    run(&place, "bad", "order.*", handler);

    assert_eq!(explained(&place, "first", "good")["state"], "handled");
    assert_eq!(
        explained(&place, "first", "deaf")["state"],
        "not_subscribed"
    );
    let dead = explained(&place, "first", "bad");
    assert_eq!(dead["state"], "dead_lettered", "{dead}");
    assert_eq!(dead["stuck"], true);
    let data = place.data();
    let here = |command: &str| format!("{command} --data {}", data.display());
    let show = here("tidings dlq show first --consumer bad");
    assert_eq!(dead["next"], show);
    let behind = explained(&place, "second", "bad");
    assert_eq!(behind["state"], "parked", "{behind}");
    let explain = here("tidings event explain first --group bad");
    assert_eq!(behind["next"], explain);
    assert_eq!(explained(&place, "other", "bad")["state"], "handled");

    place.import(r#"{"event_id":"third","event_type":"order.placed","aggregate_id":"other"}"#);
    let waits = explained(&place, "third", "bad");
    assert_eq!(waits["state"], "waiting", "{waits}");
    assert_eq!(waits["stuck"], true, "nobody works for the group: {waits}");

    tidings([
        "dlq",
        "discard",
        "first",
        "--consumer",
        "bad",
        "--reason",
        "INC-1",
        "--yes",
    ])
    .data(&place.data())
    .ok();
    let decided = explained(&place, "first", "bad");
    assert_eq!(decided["state"], "decided", "{decided}");
    assert!(decided["explanation"].as_str().unwrap().contains("INC-1"));
    assert_eq!(explained(&place, "second", "bad")["state"], "retrying");

    let unknown = tidings(["event", "explain", "nobody"])
        .data(&place.data())
        .run();
    assert!(
        unknown.stderr.contains("--key nobody"),
        "{}",
        unknown.stderr
    );
    assert_ne!(unknown.code, Some(0));
}

/// What is said to be run next of an event in the group bad, in a folder of any name.
fn next_in(data: &Path, event_id: &str, state: &str) -> String {
    let explain = ["event", "explain", event_id, "--group", "bad", "-o", "json"];
    let row = tidings(explain).data(data).ok().json()[0].clone();
    assert_eq!(row["state"], state, "{row}");
    row["next"].as_str().unwrap().to_owned()
}

#[test]
fn the_command_to_run_next_works_where_it_is_pasted_as_it_is_printed() {
    let place = Place::new();
    let data = place.file("anna's shop; data");
    let import = |event_id: &str, key: &str| {
        let line = format!(
            r#"{{"event_id":"{event_id}","event_type":"order.placed","aggregate_id":"{key}"}}"#
        );
        let import = tidings(["event", "import", "-"]).data(&data);
        import.input(line).ok();
    };
    import("the first; of all", "k");
    import("second", "k");
    let run = ["consumer", "run", "bad", "--type", "order.*"];
    let fails = ["--exec", "false", "--attempts", "1", "--until-end"];
    tidings([run, fails].concat()).data(&data).ok();
    import("third", "other");

    let pasted = |event_id: &str, state: &str, said: &str| -> Answer {
        let next = next_in(&data, event_id, state);
        let answer = shell(&next).ok();
        assert!(answer.stdout.contains(said), "{next}: {answer:?}");
        answer
    };
    let dead = pasted("the first; of all", "dead_lettered", "the first; of all");
    assert!(dead.stdout.contains("order.placed"), "{dead:?}");
    pasted("second", "parked", "was given up");
    pasted("third", "waiting", "bad");
    tidings(["consumer", "pause", "bad"]).data(&data).ok();
    pasted("third", "paused", "bad goes on");
    let discard = ["dlq", "discard", "--all", "--yes", "--reason", "a test"];
    tidings(discard).data(&data).ok();
    pasted("second", "retrying", "");

    // What the environment says holds for the next command as well.
    let explain = ["event", "explain", "third", "-o", "json"];
    let row = tidings(explain).variable("TIDINGS_DATA", &data).ok().json();
    assert_eq!(row[0]["next"], "tidings consumer ls", "{row}");
    // A folder may be named by its URL, which commands about failures do not take.
    let url = format!("file://{}", data.display());
    let explain = ["event", "explain", "the first; of all", "--url", &url];
    let row = tidings(explain).arguments(["-o", "json"]).ok().json();
    assert!(row[0]["next"].is_null(), "it is decided: {row}");
    tidings(["consumer", "pause", "bad"]).data(&data).ok();
    let explain = ["event", "explain", "third", "--url", &url, "-o", "json"];
    let row = tidings(explain).ok().json();
    let next = row[0]["next"].as_str().unwrap();
    assert!(shell(next).ok().stdout.contains("bad goes on"), "{next}");
}

/// What is said of a key.
fn of_key(place: &Place, arguments: &[&str]) -> Vec<Value> {
    let explain = ["event", "explain", "-o", "json", "--key"];
    let rows = tidings(explain).arguments(arguments).data(&place.data());
    rows.ok().json().as_array().unwrap().clone()
}

#[test]
fn what_is_open_of_a_key_is_told_without_knowing_an_event() {
    let place = Place::new();
    place.import(concat!(
        r#"{"event_id":"first","event_type":"order.placed","aggregate_id":"order-123"}"#,
        "\n",
        r#"{"event_id":"second","event_type":"order.placed","aggregate_id":"order-123"}"#,
        "\n",
        r#"{"event_id":"other","event_type":"order.placed","aggregate_id":"order-124"}"#,
        "\n",
    ));
    run(&place, "good", "order.*", "true");
    assert_eq!(of_key(&place, &["order-123"]), [] as [Value; 0]);
    run(
        &place,
        "bad",
        "order.*",
        r#"sh -c 'test "$TIDINGS_AGGREGATE_ID" = order-124'"#,
    );

    let open = of_key(&place, &["order-123"]);
    let told = |row: &Value| (row["event_id"].clone(), row["state"].clone());
    let open: Vec<_> = open.iter().map(told).collect();
    let expected = [("first", "dead_lettered"), ("second", "parked")];
    assert_eq!(open, expected.map(|(id, state)| (id.into(), state.into())));
    assert_eq!(of_key(&place, &["order-123", "--all"]).len(), 4);
    assert_eq!(of_key(&place, &["order-123", "--group", "good"]).len(), 0);

    let explain = ["event", "explain", "--key"];
    let table = tidings(explain).argument("order-123").data(&place.data());
    let table = table.ok().stdout;
    assert!(
        table.contains("tidings dlq show first --consumer bad"),
        "{table}"
    );
    let done = tidings(explain).argument("order-124").data(&place.data());
    let done = done.ok().stderr;
    assert!(done.contains("nothing of \"order-124\" is open"), "{done}");
    let nobody = tidings(explain).argument("order-125").data(&place.data());
    let nobody = nobody.ok().stderr;
    assert!(nobody.contains("has the key \"order-125\""), "{nobody}");
}

#[test]
fn a_handling_with_an_effect_says_how_long_it_took_at_most() {
    let place = Place::new();
    place.import(r#"{"event_id":"first","event_type":"order.placed","aggregate_id":"k"}"#);
    run(&place, "silent", "order.*", "true");
    let emits = r#"echo '{"event_type":"mail.sent","aggregate_id":"k"}'"#;
    run(&place, "mailer", "order.*", emits);

    let silent = explained(&place, "first", "silent");
    let mailer = explained(&place, "first", "mailer");

    assert_eq!(silent["state"], "handled", "{silent}");
    assert!(
        silent["within_seconds"].is_null(),
        "nothing tells: {silent}"
    );
    assert_eq!(mailer["state"], "handled", "{mailer}");
    assert_eq!(mailer["caused"].as_array().unwrap().len(), 1, "{mailer}");
    let within = mailer["within_seconds"].as_f64().unwrap();
    assert!(within > 0.0, "a process was started in between: {mailer}");
    let explanation = mailer["explanation"].as_str().unwrap();
    assert!(explanation.contains(", within "), "{explanation}");
}

#[test]
fn an_event_or_a_key_is_asked_for() {
    let place = Place::new();
    place.import(r#"{"event_id":"first","event_type":"order.placed","aggregate_id":"k"}"#);
    for wrong in [
        &[] as &[&str],
        &["first", "--key", "k"],
        &["first", "--all"],
    ] {
        let answer = tidings(["event", "explain"]).arguments(wrong);
        assert_eq!(answer.data(&place.data()).run().code, Some(2), "{wrong:?}");
    }
}

/// The whole rows that are said of an event in a group.
fn rows_of(place: &Place, event_id: &str, group: &str) -> Vec<Value> {
    let rows = tidings(["event", "explain", event_id, "--group", group])
        .arguments(["-o", "json"])
        .data(&place.data())
        .ok()
        .json();
    rows.as_array().unwrap().clone()
}

#[test]
fn what_is_tried_again_says_which_attempt_of_how_many_comes_next() {
    let place = Place::new();
    place.import(r#"{"event_id":"first","event_type":"order.placed","aggregate_id":"k"}"#);
    let run = |more: &[&str]| {
        let run = ["consumer", "run", "bad", "--type", "order.*"];
        let busy = ["--exec", "sh -c 'exit 75'"];
        tidings([&run[..], &busy, more].concat()).data(&place.data())
    };

    // It fails in place for as long as it is looked at.
    let running = run(&["--attempts", "1000"]).start();
    let mut row = Value::Null;
    until("an attempt is noted", || {
        let rows = rows_of(&place, "first", "bad");
        row = rows.first().cloned().unwrap_or_default();
        row["state"] == "retrying"
    });
    running.kill();
    let explanation = row["explanation"].as_str().unwrap();
    assert!(explanation.contains("again in place"), "{row}");
    assert!(explanation.contains(" of 1000;"), "{row}");
    assert!(row["attempt"].as_u64().unwrap() > 1, "{row}");
    assert_eq!(row["attempts_max"], 1_000, "{row}");
    let idle = rows_of(&place, "first", "bad").remove(0);
    assert_eq!(idle["state"], "waiting", "nobody tries it: {idle}");

    // Then later: one attempt in place is over, and two more are to come.
    place.import(r#"{"event_id":"second","event_type":"order.placed","aggregate_id":"other"}"#);
    let running = run(&["--attempts", "1", "--later", "1h,1h"]).start();
    running.heard("later  second");
    running.kill();
    let later = rows_of(&place, "second", "bad").remove(0);
    assert_eq!(later["state"], "retrying", "{later}");
    assert_eq!(later["attempts_max"], 3, "{later}");
    let explanation = later["explanation"].as_str().unwrap();
    assert!(explanation.contains("is tried again at "), "{later}");
}

/// An order whose effect is there once.
#[derive(tidings::Event, serde::Serialize, serde::Deserialize)]
#[event(type = "order.placed", key = "order_id")]
struct OrderPlaced {
    order_id: String,
}

async fn bill(
    _: OrderPlaced,
    _: tidings::sql::Tx<sqlx::Sqlite>,
) -> Result<(), tidings::extract::HandlerError> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_the_inbox_knows_is_told_as_one() {
    let place = Place::new();
    let line = r#"{"event_id":"first","event_type":"order.placed","aggregate_id":"k","source":"shop","payload":{"order_id":"k"}}"#;
    place.import(&format!("{line}\n{line}\n"));
    let tidings = tidings::Tidings::open(place.data()).await.unwrap();
    let database = tidings.database().await.unwrap();
    let inbox = tidings::sql::Inbox::open(&database).await.unwrap();
    let consumer = tidings.consumer("billing").inbox(inbox).on(bill);
    consumer.start().await.unwrap();
    tidings.drain().await.unwrap();

    let rows = rows_of(&place, "first", "billing");

    let states: Vec<&Value> = rows.iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["handled", "deduplicated"], "{rows:?}");
    let position = rows[0]["position"].as_u64().unwrap();
    assert_eq!(rows[1]["position"], position + 1, "{rows:?}");
    let explanation = rows[1]["explanation"].as_str().unwrap();
    assert!(
        explanation.contains(&format!("position {position} is dropped")),
        "{explanation}"
    );
    assert!(rows[1]["next"].is_null(), "{rows:?}");
}

//! `tidings relay verify`: what a relay carried is compared with what stands in its table, and what cannot be known is said.

use crate::command::{Answer, Halted, Place, Tidings, tidings, until};
use crate::table::{Kind, Table, kinds};
use serde_json::Value;

fn run(table: &Table, to: &Place) -> Tidings {
    table
        .command(["relay", "run", "--until-empty"])
        .argument("--to")
        .argument(to.data())
}

fn verify(table: &Table, to: &Place) -> Tidings {
    table
        .command(["relay", "verify"])
        .argument("--to")
        .argument(to.data())
}

/// As [`verify`], of the table's events alone.
fn orders(table: &Table, to: &Place) -> Tidings {
    verify(table, to).arguments(["--type", "order.placed"])
}

fn report(command: Tidings) -> (Option<i32>, Value) {
    let answer = command.argument("-o").argument("json").run();
    (answer.code, answer.json())
}

fn unknowns(report: &Value) -> Vec<&str> {
    let unknowns = report["cannot_know"].as_array().unwrap().iter();
    unknowns.map(|one| one["what"].as_str().unwrap()).collect()
}

#[test]
fn what_a_killed_relay_and_the_next_carried_is_complete_and_in_order() {
    for kind in kinds() {
        let Some(table) = Table::seed(kind, "verify_killed") else {
            continue;
        };
        let place = Place::new();
        table.place_orders(10, 60);
        let running = table
            .command(["relay", "run", "--batch", "5", "--to"])
            .argument(place.data())
            .start();
        until("some rows are sent", || table.sent() > 0);
        running.kill();
        let (code, half) = report(verify(&table, &place));
        assert_eq!(code, Some(0), "{kind:?}: {half}");
        assert_eq!(half["missing"], 0, "{half}");

        run(&table, &place).ok();

        let (code, whole) = report(verify(&table, &place));
        assert_eq!((code, &whole["holds"]), (Some(0), &Value::Bool(true)));
        assert_eq!((&whole["rows"], &whole["unsent"]), (&600.into(), &0.into()));
        let events = whole["events"].as_u64().unwrap();
        assert_eq!(events - whole["duplicates"].as_u64().unwrap(), 600);
        assert_eq!(whole["clean_up"], "mark");
        assert_eq!(unknowns(&whole), ["no_sequence", "retention"]);
    }
}

#[test]
fn a_row_that_was_marked_and_never_sent_is_missing_by_its_key() {
    for kind in kinds() {
        let Some(table) = Table::seed(kind, "verify_missing") else {
            continue;
        };
        let place = Place::new();
        table.place_orders(3, 4);
        // Whoever marks by hand, or a relay that marks before it is answered.
        table.run("UPDATE outbox SET sent = true WHERE aggregate_id = 'order-1'");
        run(&table, &place).ok();

        let (code, report) = report(verify(&table, &place));

        assert_eq!((code, &report["missing"]), (Some(4), &4.into()), "{kind:?}");
        assert_eq!(report["keys_affected"], 1);
        assert_eq!(report["keys"][0]["key"], "order-1");
        assert_eq!(report["findings"][0]["finding"], "missing");
        let told = verify(&table, &place).run();
        assert!(
            told.stdout.contains("order-1: 4 missing"),
            "{}",
            told.stdout
        );
        assert!(
            told.stdout.contains("does not hold: 4 lost"),
            "{}",
            told.stdout
        );
    }
}

fn ours(kind: Kind, test: &str) -> Option<Table> {
    let table = Table::fresh(kind, test)?;
    table.command(["outbox", "migrate"]).ok();
    Some(table)
}

fn insert(table: &Table, n: u64) {
    table.run(&format!(
        "INSERT INTO outbox (event_type, aggregate_id, payload) VALUES ('order.placed', 'order-1', '{{\"n\": {n}}}')"
    ));
}

#[test]
fn where_rows_are_deleted_a_number_within_the_key_shows_the_gap() {
    for kind in kinds() {
        let Some(table) = ours(kind, "verify_deleted") else {
            continue;
        };
        let place = Place::new();
        for n in [7, 8, 10, 11] {
            insert(&table, n);
        }
        run(&table, &place).ok();

        let (code, blind) = report(verify(&table, &place));
        assert_eq!(code, Some(0), "{blind}");
        assert_eq!(
            unknowns(&blind),
            ["rows_deleted", "no_sequence", "retention", "strangers"]
        );
        let (code, seen) = report(verify(&table, &place).argument("--sequence").argument("/n"));
        assert_eq!(
            (code, &seen["gaps"]),
            (Some(4), &1.into()),
            "{kind:?}: {seen}"
        );
        assert!(unknowns(&seen).contains(&"outside_of_sequence"), "{seen}");
    }
}

#[test]
fn duplicates_are_within_the_promise_unless_a_limit_is_given() {
    let table = Table::seed(Kind::Sqlite, "verify_duplicates").unwrap();
    let place = Place::new();
    table.place_orders(2, 2);
    run(&table, &place).ok();
    // As after a crash between the answer of the destination and the mark.
    table.run("UPDATE outbox SET sent = false WHERE aggregate_id = 'order-0'");
    run(&table, &place).ok();

    let (code, seen) = report(verify(&table, &place));
    let limited = verify(&table, &place)
        .argument("--max-duplicates")
        .argument("1");

    assert_eq!((code, &seen["duplicates"]), (Some(0), &2.into()), "{seen}");
    assert_eq!(seen["keys"][0]["duplicates"], 2);
    assert_eq!(report(limited).0, Some(4));
}

#[test]
fn a_destination_without_history_is_told_and_not_compared() {
    let table = Table::seed(Kind::Sqlite, "verify_stdout").unwrap();

    let answer = table.command(["relay", "verify", "--to", "-"]).run();

    assert_eq!(answer.code, Some(2), "{}", answer.stderr);
    assert!(answer.stderr.contains("TD0092"), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("cannot be asked"),
        "{}",
        answer.stderr
    );
}

#[test]
fn what_waits_beside_the_owner_of_the_folder_is_not_missed() {
    let table = Table::seed(Kind::Sqlite, "verify_beside").unwrap();
    let place = Place::new();
    let owner = Halted::at(&place);
    table.place_orders(2, 10);
    run(&table, &place).ok();
    let counted = tidings(["event", "count"]).data(&place.data()).ok();
    assert_eq!(counted.stdout, "1\n", "none of them is in the log yet");

    let (code, waiting) = report(orders(&table, &place));
    owner.go_on();

    assert_eq!(
        (code, &waiting["events"]),
        (Some(0), &20.into()),
        "{waiting}"
    );
    until("the owner has carried them", || {
        let counted: Answer = tidings(["event", "count"]).data(&place.data()).ok();
        counted.stdout == "21\n"
    });
    let (code, carried) = report(orders(&table, &place));
    assert_eq!((code, &carried["duplicates"]), (Some(0), &0.into()));
}

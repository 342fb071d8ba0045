//! Checks for monitoring: exit codes, the line, the figures.

use crate::alert::{given_up, orders};
use crate::command::{Answer, Place, tidings};
use crate::table::{Kind, Table};

fn check(place: &Place, arguments: &[&str]) -> Answer {
    tidings(["check"])
        .arguments(arguments)
        .data(&place.data())
        .run()
}

#[test]
fn lag_is_ok_a_warning_or_critical_by_its_limits() {
    let place = Place::new();
    orders(&place, 0, 1);
    let group = [
        "consumer", "run", "mailer", "--type", "order.*", "--exec", "true",
    ];
    tidings(group)
        .argument("--until-end")
        .data(&place.data())
        .ok();
    let answer = check(&place, &["lag"]);
    assert_eq!(answer.code, Some(0), "{}", answer.stdout);
    assert!(answer.stdout.starts_with("TIDINGS LAG OK - 1 groups, 0 of them behind | 'mailer lag_events'=0;;;0 'mailer lag_seconds'=0s;300;1800;0"), "{}", answer.stdout);
    assert_eq!(answer.lines().len(), 1);

    orders(&place, 1, 4);
    for (limits, code, word) in [
        (["--warn", "3", "--crit", "5"], 0, "OK"),
        (["--warn", "2", "--crit", "5"], 1, "WARNING"),
        (["--warn", "1", "--crit", "2"], 2, "CRITICAL"),
        (["--warn-age", "1h", "--crit-age", "2h"], 0, "OK"),
        (["--warn-age", "0s", "--crit-age", "2h"], 1, "WARNING"),
    ] {
        let answer = check(&place, &[&["lag", "mailer"], &limits[..]].concat());
        assert_eq!(answer.code, Some(code), "{limits:?}: {}", answer.stdout);
        let begin = format!("TIDINGS LAG {word} - ");
        assert!(answer.stdout.starts_with(&begin), "{}", answer.stdout);
    }
    let answer = check(&place, &["lag", "--crit", "2", "--format", "prometheus"]);
    assert_eq!(answer.code, Some(2));
    let text = &answer.stdout;
    assert!(
        text.contains("tidings_check_state{check=\"lag\"} 2\n"),
        "{text}"
    );
    assert!(
        text.contains("tidings_check_lag_events{subject=\"mailer\"} 3\n"),
        "{text}"
    );
    let answer = check(&place, &["lag", "--warn", "2", "--format", "json"]);
    let object = answer.json();
    assert_eq!(answer.code, Some(1));
    assert_eq!(object["state"], "warning");
    assert_eq!(object["exit_code"], 1);
    assert_eq!(object["measures"][0]["value"], 3.0);
}

#[test]
fn what_cannot_be_learnt_and_what_is_misused_is_unknown() {
    let place = Place::new();
    for arguments in [
        &["lag"][..],
        &["dlq"],
        &["outbox"],
        &["lag", "--warn", "many"],
        &["lag", "--no-such-flag"],
        &["nothing"],
    ] {
        let answer = check(&place, arguments);
        assert_eq!(answer.code, Some(3), "{arguments:?}: {}", answer.stdout);
    }
    let answer = check(&place, &["dlq"]);
    assert!(
        answer.stdout.starts_with("TIDINGS DLQ UNKNOWN - TD0010"),
        "{}",
        answer.stdout
    );
    orders(&place, 0, 1);
    let answer = check(&place, &["lag", "nobody"]);
    assert_eq!(answer.code, Some(3));
    assert!(answer.stdout.contains("TD0031"), "{}", answer.stdout);
    assert_eq!(tidings(["check", "--help"]).run().code, Some(0));
}

#[test]
fn an_outbox_is_judged_by_its_age_and_its_number() {
    let table = Table::seed(Kind::Sqlite, "check").unwrap();
    table
        .command(["relay", "run", "--to", "-", "--until-empty"])
        .ok();
    let check = |further: &[&str]| {
        tidings(["check", "outbox", "--from", table.url()])
            .arguments(further)
            .run()
    };
    let answer = check(&[]);
    assert_eq!(answer.code, Some(0), "{}", answer.stdout);
    assert!(
        answer
            .stdout
            .starts_with("TIDINGS OUTBOX OK - 0 events wait"),
        "{}",
        answer.stdout
    );

    table.place_orders(1, 3);
    assert_eq!(check(&["--warn", "2"]).code, Some(1));
    assert_eq!(check(&["--crit", "2"]).code, Some(2));
    assert_eq!(check(&["--warn", "3", "--crit", "3"]).code, Some(0));
    assert_eq!(check(&["--crit-age", "0s"]).code, Some(2));
}

#[test]
fn a_folder_without_dead_letters_is_well() {
    let place = Place::new();
    orders(&place, 0, 1);

    let answer = check(&place, &["dlq"]);

    assert_eq!(answer.code, Some(0), "{}", answer.stdout);
    assert!(
        answer
            .stdout
            .starts_with("TIDINGS DLQ OK - 0 dead letters are open"),
        "{}",
        answer.stdout
    );
}

#[test]
fn dead_letters_that_wait_for_a_person_warn_at_the_first() {
    let place = Place::new();
    orders(&place, 0, 3);
    let _consumer = given_up(&place, "payment", 3);

    let answer = check(&place, &["dlq"]);
    assert_eq!(answer.code, Some(1), "{}", answer.stdout);
    let begin = "TIDINGS DLQ WARNING - payment dead_letters 3; 3 dead letters are open";
    assert!(answer.stdout.starts_with(begin), "{}", answer.stdout);
    assert_eq!(check(&place, &["dlq", "--warn", "3"]).code, Some(0));
    assert_eq!(check(&place, &["dlq", "--crit", "2"]).code, Some(2));
    assert_eq!(
        check(&place, &["dlq", "--consumer", "mailer"]).code,
        Some(0)
    );
}

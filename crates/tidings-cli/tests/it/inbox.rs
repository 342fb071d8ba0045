//! `tidings inbox`: what is remembered of each group, whether that is enough, and what is forgotten.

use crate::command::{Place, tidings};
use crate::table::{Kind, Table, kinds};
use serde_json::Value;

/// An inbox with events that groups handled so many days ago.
fn remembering(kind: Kind, test: &str, groups: &[(&str, &[u32])]) -> Option<Table> {
    let table = Table::fresh(kind, test)?;
    table
        .command(["inbox", "migrate", "--from"])
        .argument(table.url())
        .ok();
    for (group, days) in groups {
        for (number, days) in days.iter().enumerate() {
            let key = format!("{number:032x}");
            let (key, time) = match kind {
                Kind::Sqlite => (
                    format!("x'{key}'"),
                    format!(
                        "CAST((unixepoch('now', 'subsec') - {days} * 86400) * 1000000 AS INTEGER)"
                    ),
                ),
                Kind::Postgres => (
                    format!("'{key}'"),
                    format!("now() - interval '{days} days'"),
                ),
                Kind::MariaDb => (format!("x'{key}'"), format!("NOW(6) - INTERVAL {days} DAY")),
            };
            table.run(&format!(
                "INSERT INTO inbox (consumer, event_key, event_id, processed_at) VALUES ('{group}', {key}, 'evt-{number}', {time})"
            ));
        }
    }
    Some(table)
}

fn status(table: &Table, arguments: &[&str]) -> Value {
    table
        .command(["inbox", "status", "-o", "json", "--from", table.url()])
        .arguments(arguments)
        .ok()
        .json()
}

fn prune(table: &Table, arguments: &[&str]) -> Value {
    table
        .command([
            "inbox",
            "prune",
            "--yes",
            "-o",
            "json",
            "--from",
            table.url(),
        ])
        .arguments(arguments)
        .ok()
        .json()
}

#[test]
fn each_group_is_counted_and_what_is_too_short_is_warned_of() {
    for kind in kinds() {
        let groups: [(&str, &[u32]); 2] = [("billing", &[20, 3, 0]), ("mail", &[1])];
        let Some(table) = remembering(kind, "inbox_status", &groups) else {
            continue;
        };

        let enough = status(&table, &[]);
        let short = status(&table, &["--keep", "2d"]);
        let small = status(
            &table,
            &[
                "--rows-max",
                "2",
                "--redelivered-within",
                "30d",
                "--keep",
                "60d",
            ],
        );

        let billing = &enough["groups"][0];
        assert_eq!(billing["group"], "billing", "{kind:?}: {enough}");
        assert_eq!(billing["rows"], 3);
        let days = billing["remembers_seconds"].as_u64().unwrap() / 86_400;
        assert!((19..=20).contains(&days), "{billing}");
        assert_eq!(enough["groups"][1]["rows"], 1);
        assert_eq!(enough["warnings"], Value::Array(Vec::new()));
        assert_eq!(billing["warning"], Value::Null);
        assert_eq!(enough["keep_seconds"], 14 * 86_400);
        let warning = short["groups"][1]["warning"].as_str().unwrap();
        assert!(warning.contains("can be delivered again"), "{warning}");
        assert!(
            small["groups"][0]["warning"]
                .as_str()
                .unwrap()
                .contains("its limit is 2")
        );
        assert_eq!(small["groups"][1]["warning"], Value::Null);
        let told = table
            .command(["inbox", "status", "--keep", "2d", "--from", table.url()])
            .ok();
        assert!(told.stdout.contains("billing"), "{}", told.stdout);
        assert!(
            told.stderr.contains("warning: the inbox"),
            "{}",
            told.stderr
        );
    }
}

#[test]
fn what_can_be_delivered_again_is_kept_unless_one_insists() {
    for kind in kinds() {
        let groups: [(&str, &[u32]); 2] = [("billing", &[20, 10, 5, 1, 0]), ("mail", &[30, 0])];
        let Some(table) = remembering(kind, "inbox_prune", &groups) else {
            continue;
        };

        let billing = prune(&table, &["--group", "billing", "--keep", "2d"]);
        assert_eq!(
            (
                &billing["forgotten"],
                billing["warnings"].as_array().unwrap().len()
            ),
            (&2.into(), 1),
            "{kind:?}: {billing}"
        );
        let early = prune(&table, &["--keep", "2d", "--forget-early"]);

        assert_eq!(early["groups"][0]["forgotten"], 1, "{early}");
        assert_eq!(early["groups"][1]["forgotten"], 1, "{early}");
        let left = status(&table, &[]);
        assert_eq!(
            (&left["groups"][0]["rows"], &left["groups"][1]["rows"]),
            (&2.into(), &1.into())
        );
        assert_eq!(prune(&table, &[])["forgotten"], 0);
    }
}

/// Neither their keys nor their place in the table tell how old rows are.
#[test]
fn of_more_rows_than_allowed_the_oldest_go_and_none_that_can_be_delivered_again() {
    for kind in kinds() {
        let groups: [(&str, &[u32]); 3] = [
            ("billing", &[1, 20, 0, 10, 5]),
            ("mail", &[30, 25]),
            ("stock", &[3, 12, 9]),
        ];
        let Some(table) = remembering(kind, "inbox_rows_max", &groups) else {
            continue;
        };
        let rows_max = |rows: &str, arguments: &[&str]| {
            let few = ["--group", "billing", "--keep", "60d", "--rows-max", rows];
            prune(&table, &[&few[..], arguments].concat())
        };
        let left = |group: &str| {
            table.texts(&format!(
                "SELECT event_id FROM inbox WHERE consumer = '{group}' ORDER BY event_id"
            ))
        };

        let enough = rows_max("5", &[]);
        let kept = rows_max("2", &[]);
        let billing = left("billing");
        let early = rows_max("2", &["--forget-early"]);

        assert_eq!(enough["forgotten"], 0, "{kind:?}: {enough}");
        assert_eq!(kept["forgotten"], 2, "{kind:?}: {kept}");
        assert_eq!(kept["groups"][0]["rows"], 3, "{kind:?}: {kept}");
        assert!(
            kept["warnings"][0]
                .as_str()
                .unwrap()
                .contains("it keeps them all the same"),
            "{kind:?}: {kept}"
        );
        assert_eq!(billing, ["evt-0", "evt-2", "evt-4"], "{kind:?}");
        assert_eq!(early["forgotten"], 1, "{kind:?}: {early}");
        assert_eq!(left("billing"), ["evt-0", "evt-2"], "{kind:?}");
        assert_eq!(left("mail").len() + left("stock").len(), 5, "{kind:?}");
    }
}

#[test]
fn nothing_is_forgotten_without_a_yes_and_a_group_must_be_there() {
    let table = remembering(Kind::Sqlite, "inbox_ask", &[("billing", &[90, 0])]).unwrap();
    let prune = |arguments: &[&str]| {
        table
            .command(["inbox", "prune", "--from", table.url()])
            .arguments(arguments)
            .run()
    };

    let asked = prune(&[]);
    let unknown = prune(&["--group", "biling", "--yes"]);

    assert_eq!(asked.code, Some(2), "{}", asked.stderr);
    assert_eq!(unknown.code, Some(3), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("biling"), "{}", unknown.stderr);
    assert_eq!(status(&table, &[])["groups"][0]["rows"], 2);
}

#[test]
fn a_database_without_an_inbox_says_how_to_make_one() {
    for kind in kinds() {
        let Some(table) = Table::fresh(kind, "inbox_missing") else {
            continue;
        };

        let missing = table
            .command(["inbox", "status", "--from", table.url()])
            .run();

        assert_eq!(missing.code, Some(3), "{}", missing.stderr);
        assert!(
            missing.stderr.contains("tidings inbox migrate"),
            "{}",
            missing.stderr
        );
        let ddl = tidings(["inbox", "ddl", "--dialect", table.dialect()]).ok();
        table.run(&ddl.stdout);
        assert_eq!(
            status(&table, &[])["groups"],
            Value::Array(Vec::new()),
            "{kind:?}"
        );
    }
}

#[test]
fn the_inbox_of_a_data_folder_is_in_its_database() {
    let place = Place::new();
    let none = tidings(["inbox", "status"]).data(&place.data()).run();
    assert_eq!(none.code, Some(3), "{}", none.stderr);
    tidings(["demo", "--orders", "20"]).data(&place.data()).ok();

    let status = tidings(["inbox", "status", "-o", "json"])
        .data(&place.data())
        .ok()
        .json();

    assert_eq!(status["groups"][0]["group"], "inventory", "{status}");
    assert!(
        status["groups"][0]["rows"].as_u64().unwrap() >= 20,
        "{status}"
    );
}

#[test]
fn a_group_that_goes_back_behind_what_its_inbox_remembers_is_warned_of() {
    let place = Place::new();
    place.import("{\"event_id\":\"evt-1\",\"event_type\":\"order.placed\",\"source\":\"shop\",\"payload\":{}}\n");
    let command = |arguments: &str| tidings(arguments.split(' ')).data(&place.data());
    command("consumer run g --type order.* --exec true --until-end").ok();
    command("inbox migrate").ok();
    let inbox = Table::at(
        Kind::Sqlite,
        format!("sqlite://{}/state.db", place.data().display()),
    );
    let reset = |place: &str| command(&format!("consumer reset g --to {place} --dry-run")).ok();

    let without_inbox = reset("earliest");
    inbox.run("INSERT INTO inbox (consumer, event_key, event_id) VALUES ('g', x'00000000000000000000000000000007', 'evt-7')");
    let forgotten = reset("earliest");
    let ahead = reset("latest");
    // The key of an event by its id and source, as a handler's transaction writes it.
    let key = uuid_of("shop", "evt-1");
    inbox.run(&format!(
        "INSERT INTO inbox (consumer, event_key, event_id) VALUES ('g', x'{key}', 'evt-1')"
    ));
    let remembered = reset("earliest");

    assert!(
        forgotten.stderr.contains("a second time"),
        "{}",
        forgotten.stderr
    );
    for answer in [without_inbox, ahead, remembered] {
        assert!(!answer.stderr.contains("warning"), "{}", answer.stderr);
    }
}

fn uuid_of(source: &str, event_id: &str) -> String {
    let mut parts = tidings::core::EnvelopeParts::new(event_id, "order.placed");
    parts.source = Some(source.to_owned());
    let event = tidings::Envelope::new(parts).unwrap();
    let key = tidings::core::DedupeKey::of(&event);
    key.as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

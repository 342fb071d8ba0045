//! A database is dumped and restored in a fresh cluster, where transaction numbers begin anew: a relay goes on from where it was.

use crate::command::{Place, until};
use crate::own_server::OwnServer;
use crate::relay_load::postgres_program;
use crate::relay_trouble::Arrived;
use crate::table::{Kind, Table, is_left_out, kinds};
use std::path::Path;
use std::process::Command;

const KEYS: u64 = 5;

/// Orders of each key from one number up to another.
fn place_orders(table: &Table, numbers: std::ops::Range<u64>) {
    for n in numbers {
        for key in 0..KEYS {
            table.place_order(&format!("order-{key}"), n);
        }
    }
}

fn relay(table: &Table, place: &Place) {
    let command = table.command(["relay", "run", "--until-empty", "--to"]);
    command.argument(place.data()).ok();
}

fn run(program: &str, arguments: &[&str], file: &Path) {
    let program = postgres_program(program).expect("it comes with PostgreSQL");
    let output = Command::new(program)
        .args(arguments)
        .arg("--file")
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// Each block of it that writes is a transaction number.
fn use_up_transaction_numbers(table: &Table) {
    table.run("CREATE TABLE used (n int)");
    table.run("DO $$ BEGIN FOR n IN 1..20000 LOOP BEGIN INSERT INTO used VALUES (n); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$");
    table.run("DROP TABLE used");
}

const OLDEST_TRANSACTION: &str =
    "SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)";
/// A reader that remembers transaction numbers, as others have it: `seen` is how far it came.
const READ_BY_NUMBER: &str = "SELECT COUNT(*) FROM numbered, seen WHERE CAST(CAST(numbered.txid AS text) AS bigint) > seen.txid AND numbered.txid < pg_snapshot_xmin(pg_current_snapshot())";

#[test]
fn a_dump_that_is_restored_in_a_fresh_cluster_is_relayed_from_where_it_was() {
    if !kinds().contains(&Kind::Postgres) || is_left_out(Kind::Postgres) {
        return;
    }
    let Some(table) = Table::seed(Kind::Postgres, "dumped") else {
        return;
    };
    let place = Place::new();
    use_up_transaction_numbers(&table);
    table.run("CREATE TABLE numbered (txid xid8 NOT NULL DEFAULT pg_current_xact_id())");
    table.run("CREATE TABLE seen (txid bigint NOT NULL)");
    table.run(&format!("INSERT INTO seen {OLDEST_TRANSACTION}"));
    table.run("INSERT INTO numbered DEFAULT VALUES");
    until("what was written is old enough", || {
        table.number(READ_BY_NUMBER) == 1
    });
    place_orders(&table, 0..20);
    relay(&table, &place);
    place_orders(&table, 20..30);
    let dump = tempfile::NamedTempFile::new().unwrap();
    run(
        "pg_dump",
        &["--no-owner", "--dbname", table.url()],
        dump.path(),
    );

    let server = OwnServer::start("postgres", 70);
    let url = server.url();
    run(
        "psql",
        &[
            "--quiet",
            "--no-psqlrc",
            "--set=ON_ERROR_STOP=1",
            "--dbname",
            &url,
        ],
        dump.path(),
    );
    let restored = Table::at(Kind::Postgres, url);
    assert!(
        restored.number(OLDEST_TRANSACTION) < table.number(OLDEST_TRANSACTION) - 10_000,
        "transaction numbers began anew"
    );
    restored.run("INSERT INTO numbered DEFAULT VALUES");
    assert_eq!(
        restored.number(READ_BY_NUMBER),
        0,
        "a reader that remembers transaction numbers finds neither the old nor the new row"
    );
    place_orders(&restored, 30..31);
    relay(&restored, &place);

    let doubles = Arrived::of_folder(&place).assert_whole(KEYS as usize, 31);
    assert_eq!(
        doubles, 0,
        "what was sent before the dump is not sent again"
    );
    assert_eq!(restored.sent(), 31 * KEYS as i64);
}

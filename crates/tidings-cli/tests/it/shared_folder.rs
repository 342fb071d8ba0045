//! An application, a Python handler and a relay work on one folder, and each is killed again and again: what was stated is there, in the order of its key, under one id, and has its
//! effect once. A copy that was made meanwhile is sound and goes on.

use crate::command::{DEADLINE, Place, Running, is_quick, itself, tidings, until};
use crate::table::{Kind, Table};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidings::broker::BrokerError;
use tidings::prelude::*;
use tidings::sql::{Database, DatabaseOptions, Inbox, Pool, sqlx};

const TEST: &str = "shared_folder::three_that_are_killed_in_turn_lose_and_double_nothing";
/// Names the folder to the process that is the application.
const APPLICATION: &str = "TIDINGS_TEST_APPLICATION";
/// Names the file that says how many orders may be placed; without it the application places all and ends.
const ALLOWED: &str = "TIDINGS_TEST_APPLICATION_ALLOWED";
const KEYS: u64 = 5;
/// Orders that are new in each round, one half before the application is killed and one after it.
const NEW_ORDERS: u64 = 120;
/// Payments of each key that are new in each half of a round.
const NEW_PAYMENTS: u64 = 20;

fn rounds() -> u64 {
    if is_quick() { 1 } else { 4 }
}

fn all_orders() -> u64 {
    rounds() * NEW_ORDERS
}

/// Writes down each event that it handles, and states that stock was reserved for it.
const HANDLER: &str = r#"
import json, sys
out = open(sys.argv[1], "a", buffering=1)
for line in sys.stdin:
    event = json.loads(line)
    out.write(str(event["payload"]["n"]) + "\n")
    fact = {"event_type": "stock.reserved", "aggregate_id": event["aggregate_id"], "payload": {"n": event["payload"]["n"]}}
    print(json.dumps({"event_id": event["event_id"], "outcome": "ack", "emit": [fact]}), flush=True)
"#;

#[derive(Debug, Event, Serialize, Deserialize)]
#[event(type = "order.placed", version = 1, key = "key")]
struct OrderPlaced {
    key: String,
    n: u64,
}

#[derive(Debug, Event, Serialize, Deserialize)]
#[event(type = "order.billed", version = 1, key = "key")]
struct OrderBilled {
    key: String,
    n: u64,
}

/// The effect, which nothing but the inbox keeps from being there twice.
async fn bill(placed: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    let insert = sqlx::query("INSERT INTO shop_bill (n) VALUES (?)").bind(placed.n as i64);
    insert.execute(&mut *tx).await?;
    tx.publish(&OrderBilled {
        key: placed.key,
        n: placed.n,
    })
}

/// The application: the owner of the folder, whose orders are in its database.
#[tokio::main]
async fn application(folder: &Path, allowed: Option<&Path>) {
    let tidings = own(folder).await;
    let database = tidings.database().await.unwrap();
    let Pool::Sqlite(pool) = database.pool() else {
        unreachable!("state.db is a SQLite database");
    };
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS shop_order (n INTEGER PRIMARY KEY); CREATE TABLE IF NOT EXISTS shop_bill (n INTEGER NOT NULL)")
        .execute(pool)
        .await
        .unwrap();
    let inbox = Inbox::open(&database).await.unwrap();
    let billing = tidings.consumer("billing").inbox(inbox).on(bill);
    let billing = billing.start().await.unwrap();
    let outbox = tidings.outbox().unwrap();
    println!("\nready");

    let placed = sqlx::query_scalar("SELECT COUNT(*) FROM shop_order");
    let placed: i64 = placed.fetch_one(pool).await.unwrap();
    for n in placed as u64..all_orders() {
        until_allowed(allowed, n).await;
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let insert = sqlx::query("INSERT INTO shop_order (n) VALUES (?)").bind(n as i64);
        insert.execute(&mut *tx).await.unwrap();
        let key = format!("order-{}", n % KEYS);
        outbox
            .publish(&mut tx, &OrderPlaced { key, n })
            .await
            .unwrap();
        outbox.commit(tx).await.unwrap();
        println!("\nplaced");
    }
    if allowed.is_none() {
        return tidings.drain_within(DEADLINE).await.unwrap();
    }
    // It goes on handling until it is killed.
    let _handling = billing;
    std::future::pending().await
}

async fn until_allowed(allowed: Option<&Path>, n: u64) {
    let count = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.parse().unwrap_or(0)
    };
    while allowed.is_some_and(|path| n >= count(path)) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whoever was killed has let go of the folder by the time its successor is there, or soon after.
async fn own(folder: &Path) -> Tidings {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match Tidings::builder().program("shop").open(folder).await {
            Ok(tidings) => return tidings,
            Err(tidings::Error::Broker {
                source: source @ BrokerError::FolderOwned { .. },
            }) => {
                assert!(Instant::now() < deadline, "{source}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Where everything is, and who works.
struct Flow {
    place: Place,
    payments: Table,
    handler: String,
}

impl Flow {
    fn new() -> Self {
        let place = Place::new();
        let script = place.write("handler.py", HANDLER);
        let handled = place.file("handled");
        Self {
            handler: format!("python3 {} {}", script.display(), handled.display()),
            place,
            payments: Table::seed(Kind::Sqlite, "shared_folder").unwrap(),
        }
    }

    fn application(&self) -> Running {
        let mut running = itself(TEST)
            .variable(APPLICATION, self.place.data())
            .variable(ALLOWED, self.place.file("allowed"))
            .start();
        while running.line().expect("the application gets ready") != "ready" {}
        running
    }

    fn reserving(&self) -> Running {
        let arguments = [
            "consumer",
            "run",
            "stock",
            "--type",
            "order.placed",
            "--pipe",
        ];
        tidings(arguments)
            .argument(&self.handler)
            .data(&self.place.data())
            .start()
    }

    fn relay(&self) -> Running {
        let relay = self
            .payments
            .command(["relay", "run", "--batch", "3", "--to"]);
        relay.argument(self.place.data()).start()
    }

    /// Lets the application place this many orders in all.
    fn allow(&self, orders: u64) {
        self.place.write("allowed", orders.to_string());
    }

    /// What another service, in another language, has written into its outbox.
    fn receive_payments(&self, half: u64) {
        for n in half * NEW_PAYMENTS..(half + 1) * NEW_PAYMENTS {
            let row = |key| {
                format!(
                    "('payment.received', '{{\"n\": {n}}}', CURRENT_TIMESTAMP, false, 'account-{key}')"
                )
            };
            let rows: Vec<String> = (0..KEYS).map(row).collect();
            self.payments.run(&format!(
                "INSERT INTO outbox (event_type, payload, created_at, sent, aggregate_id) VALUES {}",
                rows.join(", ")
            ));
        }
    }

    /// Whether an order with this number or a later one was handled.
    fn has_handled(&self, order: u64) -> bool {
        let handled = std::fs::read_to_string(self.place.file("handled")).unwrap_or_default();
        let mut lines = handled.lines();
        lines.any(|line| line.parse().is_ok_and(|n: u64| n >= order))
    }
}

/// The orders that were billed, once for each time.
fn billed(folder: &Path) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let file = folder.join("state.db");
        let database = Database::open_file(&file, &DatabaseOptions::default())
            .await
            .unwrap();
        let Pool::Sqlite(pool) = database.pool() else {
            unreachable!("state.db is a SQLite database");
        };
        let billed = sqlx::query_scalar("SELECT n FROM shop_bill ORDER BY n");
        let billed: Vec<i64> = billed.fetch_all(pool).await.unwrap();
        database.close().await;
        billed.into_iter().map(|n| n as u64).collect()
    })
}

fn events(folder: &Path) -> Vec<Value> {
    let exported = tidings(["event", "export"]).data(folder).ok();
    let lines = exported.lines().into_iter();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Each fact of a type has one id, and the facts of a key come first in the order of their numbers; answers how many there are, and how often one stands there again.
fn facts(events: &[Value], event_type: &str) -> (u64, u64) {
    let mut ids: HashMap<(&str, u64), &str> = HashMap::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut again = 0;
    for event in events
        .iter()
        .filter(|event| event["event_type"] == event_type)
    {
        let key = event["aggregate_id"].as_str().unwrap();
        let n = event["payload"]["n"].as_u64().unwrap();
        let id = event["event_id"].as_str().unwrap();
        if let Some(first) = ids.insert((key, n), id) {
            assert_eq!(first, id, "{event_type} of {key} {n} was stated twice");
            again += 1;
        } else if let Some(before) = last.insert(key, n) {
            assert!(
                before < n,
                "{event_type} of {key}: {n} comes after {before}"
            );
        }
    }
    (ids.len() as u64, again)
}

fn assert_orders_are_complete(folder: &Path) {
    let events = events(folder);
    let orders = all_orders();
    let each: Vec<u64> = (0..orders).collect();
    assert_eq!(billed(folder), each, "every order is billed once");
    // What leaves the folder's own outbox is in the log once, too.
    assert_eq!(facts(&events, "order.placed"), (orders, 0));
    assert_eq!(facts(&events, "order.billed"), (orders, 0));
    // What a handler states that is killed before it is settled may stand there again, under its id.
    assert_eq!(facts(&events, "stock.reserved").0, orders);
}

/// The folder of the application, if this process is to be it, and the file that paces it.
fn role() -> Option<(PathBuf, Option<PathBuf>)> {
    let folder = std::env::var_os(APPLICATION)?;
    Some((folder.into(), std::env::var_os(ALLOWED).map(Into::into)))
}

#[test]
fn three_that_are_killed_in_turn_lose_and_double_nothing() {
    if let Some((folder, allowed)) = role() {
        return application(&folder, allowed.as_deref());
    }
    let flow = Flow::new();
    let data = flow.place.data();
    let copy = flow.place.file("copy");
    let mut application = flow.application();
    let mut reserving = flow.reserving();
    let mut relay = flow.relay();
    let payments = 2 * rounds() * NEW_PAYMENTS * KEYS;

    for round in 0..rounds() {
        // Both are seen at work beside the application before it is killed: the first to come while it is gone would own the folder.
        let (placed, sent) = (round * NEW_ORDERS, flow.payments.sent());
        flow.allow(placed + NEW_ORDERS / 2);
        flow.receive_payments(2 * round);
        for _ in 0..20 {
            assert!(
                application.line().is_some(),
                "the application places orders"
            );
        }
        until("the handler works", || flow.has_handled(placed));
        until("the relay works", || flow.payments.sent() > sent);
        application.kill();
        application = flow.application();

        let (placed, sent) = (placed + NEW_ORDERS / 2, flow.payments.sent());
        flow.allow(placed + NEW_ORDERS / 2);
        flow.receive_payments(2 * round + 1);
        until("the handler goes on", || flow.has_handled(placed));
        reserving.kill();
        reserving = flow.reserving();
        until("the relay goes on", || flow.payments.sent() > sent);
        relay.kill();
        relay = flow.relay();
        if round == rounds() / 2 {
            tidings(["backup"]).argument(&data).argument(&copy).ok();
        }
    }
    until("every payment is sent", || {
        flow.payments.sent() as u64 == payments
    });
    until("everything is in the log", || {
        let events = events(&data);
        let count = |event_type| facts(&events, event_type).0;
        // A payment may be accepted beside the application, and sent, before the application has carried it into the log.
        count("order.billed") == all_orders()
            && count("stock.reserved") == all_orders()
            && count("payment.received") == payments
    });
    application.kill();
    reserving.kill();
    relay.kill();

    assert_orders_are_complete(&data);
    let verified = flow
        .payments
        .command(["relay", "verify", "-o", "json", "--to"]);
    let types = ["--type", "payment.*"];
    let verified = verified.argument(&data).arguments(types).ok().json();
    assert_eq!(verified["rows"], payments, "{verified}");
    assert_eq!(facts(&events(&data), "payment.received").0, payments);
    tidings(["verify"]).data(&data).ok();

    let copied = facts(&events(&copy), "order.placed").0;
    assert!(copied > 0, "the copy was made in the middle");
    tidings(["verify"]).data(&copy).ok();
    itself(TEST).variable(APPLICATION, &copy).ok();
    let arguments = [
        "consumer",
        "run",
        "stock",
        "--type",
        "order.placed",
        "--until-end",
        "--pipe",
    ];
    tidings(arguments).argument(&flow.handler).data(&copy).ok();
    assert_orders_are_complete(&copy);
}

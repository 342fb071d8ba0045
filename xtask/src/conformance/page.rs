//! The page: one table of all properties and brokers, and the reasons below.

use std::collections::BTreeMap;

use super::results::{Results, property_order};

const HEAD: &str = "\
# Brokers: what each one shows

Made by `cargo xtask conformance` from results of the [suite](../../crates/tidings-testkit/src/conformance/broker/mod.rs), which every adapter passes; `cargo xtask
test` compares it with what its own run finds. Each is looked at on a real server of its own, apart from *memory* and *embedded*, which live in the process of their
client, and from *sns_sqs*, *sns_sqs_fifo* and *eventbridge*, for which moto stands: it is not AWS. *pass*: the property was seen to hold. *declared*: it does not
apply, or cannot be judged there, and why stands [below](#reasons); where a reason says that something is refused, the refusal was seen. What is missing here is looked at
[elsewhere](#not-on-this-page). An adapter of your own is held to the same by one line of test.

";

/// Claims about brokers that the suite does not look at, why, and where else they are looked at.
const ELSEWHERE: &str = "
## Not on this page

- The embedded log under torn writes and flushes that are lost, because its disk must be a fake for that: the [crashes](../../crates/tidings-log/tests/it/crash.rs) of the
  log, and `cargo xtask powercut` on a real file system.
- A batch that is taken as a whole or not at all, because no broker here declares that: each event of a batch has an outcome of its own. What a crash may leave of a batch is looked at
  with the crashes of the log; of servers nothing is claimed.
- Clocks that jump or differ between instances, because an event is due, and a lease ends, by the clock of the store: clocks that jump are looked at where the log reads one, for its
  [order](../../crates/tidings-log/tests/it/trouble.rs) and for its [retention](../../crates/tidings-log/tests/it/retention/mod.rs).
- Tenants that see nothing of each other, because there are none: an attribute with such a name is one among others.
- A database that is restarted under outbox and inbox, because no broker takes part: [the relay](../../crates/tidings-cli/tests/it/relay_trouble.rs) goes on behind a server that was killed,
  and [the ledger](../../crates/tidings-cli/tests/it/ledger/mod.rs) is exact whatever is killed or cut off.
- One effect of an event that comes twice, because that is the inbox's: [a storm of duplicates](../../crates/tidings/tests/it/inbox/mod.rs), and the ledger.
- The age of the oldest event that an outbox has not sent, because it is the relay's: [told by an alert](../../crates/tidings-cli/tests/it/alert.rs) and [by a
  check](../../crates/tidings-cli/tests/it/check.rs).
";

/// What each family of properties is about.
const FAMILIES: &[(&str, &str)] = &[
    ("A", "Publishing, receiving, closing"),
    ("B", "Fidelity"),
    ("C", "Order"),
    ("D", "Durability"),
    ("E", "Failures"),
    ("F", "Flow"),
    ("G", "Time"),
    ("H", "Groups and history"),
    ("I", "Chaos"),
    ("J", "Lag and health"),
];

pub(super) fn text(results: &Results) -> String {
    let brokers = results.brokers();
    let mut page = HEAD.to_owned();
    page.push_str("| broker | looked at on |\n|---|---|\n");
    for broker in &brokers {
        let version = results.rows.iter().find(|row| row.broker == *broker);
        let version = version.map_or("", |row| &row.version);
        page.push_str(&format!("| {broker} | {version} |\n"));
    }
    let mut titles: BTreeMap<(String, usize), (&str, &str)> = BTreeMap::new();
    for row in &results.rows {
        titles.insert(property_order(&row.property), (&row.property, &row.title));
    }
    for (letter, family) in FAMILIES {
        let of_family: Vec<_> = titles
            .iter()
            .filter(|((letters, _), _)| letters == letter)
            .map(|(_, named)| *named)
            .collect();
        if !of_family.is_empty() {
            page.push_str(&format!("\n## {family}\n\n"));
            table(&mut page, results, &brokers, &of_family);
        }
    }
    reasons(&mut page, results, &brokers);
    page.push_str(ELSEWHERE);
    page
}

fn table(page: &mut String, results: &Results, brokers: &[&str], properties: &[(&str, &str)]) {
    page.push_str(&format!("| | | {} |\n", brokers.join(" | ")));
    page.push_str(&format!("|---|---|{}\n", "---|".repeat(brokers.len())));
    for (property, title) in properties {
        let cells = brokers.iter().map(|broker| {
            let row = results.find(broker, property);
            row.map_or("not run", |row| row.result.as_str())
        });
        let cells: Vec<_> = cells.collect();
        page.push_str(&format!(
            "| {property} | {title} | {} |\n",
            cells.join(" | ")
        ));
    }
}

/// Why something is declared or has failed; one line for all properties of a broker with one reason.
fn reasons(page: &mut String, results: &Results, brokers: &[&str]) {
    page.push_str("\n## Reasons\n");
    for broker in brokers {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for row in results
            .rows
            .iter()
            .filter(|row| row.broker == *broker && !row.reason.is_empty())
        {
            match reasons.iter_mut().find(|(reason, _)| *reason == row.reason) {
                Some((_, properties)) => properties.push(&row.property),
                None => reasons.push((&row.reason, vec![&row.property])),
            }
        }
        if reasons.is_empty() {
            continue;
        }
        page.push_str(&format!("\n**{broker}**\n\n"));
        for (reason, properties) in reasons {
            page.push_str(&format!("- {}: {reason}\n", properties.join(", ")));
        }
    }
}
